"""Makes a failing model small, as `brim reduce` does; its inputs stay what they were.

Every step keeps what the caller's test says of the model. No engine but the interpreter is known.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import numpy as np
import onnx

from brim.reduce import ONNX, reduced
from tests.extra.fuzz_models.compose import Sample
from tests.extra.fuzz_models.engines import Refused
from tests.extra.fuzz_models.models import all_values


def shrink(sample: Sample, fails: Callable[[Sample], bool]) -> Sample:
    """The smallest model found on which `fails` still holds.

    Values that become inputs are what the interpreter computes of them, cut to their new shapes.
    """
    known = dict(sample.feeds)
    with contextlib.suppress(Refused):  # then no value becomes an input
        known |= all_values(sample.model, sample.feeds)

    def fed(model: onnx.ModelProto) -> Sample | None:
        ports = {port.name: port.type.tensor_type.shape.dim for port in model.graph.input}
        if not known.keys() >= ports.keys():
            return None
        return Sample(model, {name: _cut(known[name], dims) for name, dims in ports.items()})

    def still(model: onnx.ModelProto) -> bool:
        part = fed(model)
        return part is not None and fails(part)

    found = fed(reduced(sample.model, ONNX, still))
    assert found is not None
    return found


def _cut(array: np.ndarray, dims: list[onnx.TensorShapeProto.Dimension]) -> np.ndarray:
    parts = tuple(slice(dim.dim_value if dim.HasField("dim_value") else None) for dim in dims)
    return np.asarray(array[parts], order="C")
