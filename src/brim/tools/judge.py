"""How far two engines' outputs lie apart: the judge of `brim convert` and `brim bench`.

Nothing is printed, written or decided here. What lies between their layers: `brim.tools.compare`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from brim.runtime.artifact import difference
from brim.sources import format_of
from brim.types import as_numbers

TOLERANCE = 1e-4  # largest relative difference of two float32 engines that agree


def differences(
    outputs: Mapping[str, np.ndarray],
    reference: Mapping[str, np.ndarray],
    quantized: Collection[str] = (),
) -> dict[str, float]:
    """Per output of `reference`: largest |difference| over largest |value|.

    Infinity where an output is missing or has another shape or dtype, where only one side is
    finite, and for integers and text that are not equal. NaNs at equal places agree. quantized:
    outputs whose integers stand for real numbers: engines round them apart by one, which counts 0.
    """
    return {
        name: _quanta(outputs[name], wanted)
        if name in quantized and _alike(outputs.get(name), wanted)
        else difference(outputs[name], wanted)
        if name in outputs and outputs[name].dtype == wanted.dtype
        else math.inf
        for name, wanted in reference.items()
    }


def _alike(array: np.ndarray | None, wanted: np.ndarray) -> bool:
    return array is not None and (array.dtype, array.shape) == (wanted.dtype, wanted.shape)


def _quanta(got: np.ndarray, want: np.ndarray) -> float:
    apart = np.abs(as_numbers(got).astype(np.int64) - as_numbers(want).astype(np.int64))
    return 0.0 if apart.max(initial=0) <= 1 else math.inf


def quantized_outputs(model: Path) -> frozenset[str]:
    """Outputs of a TFLite file that are quantized integers; of other files none are known."""
    if format_of(model) != "tflite":
        return frozenset()
    from brim.frontends.tflite import read
    from brim.frontends.tflite.table import quantization_of

    found = read(model)
    ports = found.signature.outputs.items()
    return frozenset(name for name, i in ports if quantization_of(found.main.tensors[i]))


def has_quantized_activations(model: Path) -> bool:
    """Whether a TFLite file computes with quantized integers anywhere."""
    from brim.frontends.tflite import read
    from brim.frontends.tflite.table import quantization_of

    tensors = (tensor for graph in read(model).subgraphs for tensor in graph.tensors)
    return any(tensor.data is None and quantization_of(tensor) for tensor in tensors)


def is_amplified_rounding(
    outputs: Mapping[str, np.ndarray],
    reference: Mapping[str, np.ndarray],
    exact: Mapping[str, np.ndarray],
) -> bool:
    """Whether outputs and reference differ only as two correct f32 engines may (docs/why/007).

    exact: the same model computed in f64. Both must err against it, and by about as much: an
    engine that is right to rounding where the other is not computes something else.
    """
    wide = {name: array.astype(np.float64) for name, array in exact.items()}
    errors = (
        differences({n: a.astype(np.float64) for n, a in side.items()}, wide)
        for side in (outputs, reference)
    )
    return all(
        max(ours, theirs) <= TOLERANCE or theirs / 8 <= ours <= theirs * 2 < 1
        for ours, theirs in zip(*(e.values() for e in errors))
    )
