"""Pools: means, maxima and roots of mean squares over windows."""

from __future__ import annotations

from collections.abc import Iterator

from tests.extra.tflite_cases.case import Case, single, x
from tests.extra.tflite_cases.convolution import ACTIVATIONS, GEOMETRY, IN


def cases() -> Iterator[Case]:
    kinds = {
        "AVERAGE_POOL_2D": ("float32", "int8", "uint8", "int16"),
        "MAX_POOL_2D": ("float32", "int8", "uint8", "int16"),
        "L2_POOL_2D": ("float32",),
    }
    for kind, types in kinds.items():
        for dtype in types:
            q = IN.get(dtype)
            for name, how in GEOMETRY.items():
                for h, w in ((2, 2), (3, 5)):
                    inputs = [x(dtype, 2, 7, 8, 3, q=q)]
                    yield single(
                        kind,
                        f"{dtype} {h}x{w} {name}",
                        inputs,
                        filterHeight=h,
                        filterWidth=w,
                        **how,
                    )
            for activation in ACTIVATIONS:
                inputs = [x(dtype, 1, 5, 5, 3, q=q)]
                yield single(
                    kind,
                    f"{dtype} {activation}",
                    inputs,
                    filterHeight=2,
                    filterWidth=2,
                    fusedActivationFunction=activation,
                    **GEOMETRY["SAME"],
                )
        yield single(
            kind,
            "float32 the whole",
            [x("float32", 1, 7, 7, 20)],
            filterHeight=7,
            filterWidth=7,
            **GEOMETRY["VALID"],
        )


CASES = list(cases())
