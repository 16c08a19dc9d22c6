"""How far two engines' outputs lie apart, and what a model's own runtime computes.

The judge of `brim convert` and `brim bench`. Nothing is printed, written or decided here.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from brim.errors import InputError

Arrays = dict[str, np.ndarray]
TOLERANCE = 1e-4  # largest relative difference of two float32 engines that agree


def differences(
    outputs: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """Per output of `reference`: largest |difference| over largest |value|.

    Equal infinities and NaNs at equal places agree. Infinity where an output is missing, has
    another shape or dtype, or only one side is finite; text differs by 0 or infinity.
    """
    return {
        name: _difference(outputs[name], wanted) if name in outputs else math.inf
        for name, wanted in reference.items()
    }


def _difference(a: np.ndarray, b: np.ndarray) -> float:
    if a.shape != b.shape or (a.dtype != b.dtype and "O" not in (a.dtype.kind, b.dtype.kind)):
        return math.inf
    apart = a != b
    if b.dtype.kind == "f":
        apart &= ~(np.isnan(a) & np.isnan(b))
    if not apart.any():
        return 0.0
    if b.dtype.kind in "OUS":
        return math.inf
    x, y = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(invalid="ignore"):
        gap = float(np.abs(x - y)[apart].max())
    scale = float(np.abs(y[np.isfinite(y)]).max(initial=0.0))
    return gap / max(scale, 1e-30) if math.isfinite(gap) else math.inf


def has_onnxruntime() -> bool:
    """Whether onnxruntime is installed; it is not imported."""
    return importlib.util.find_spec("onnxruntime") is not None


def run_onnxruntime(model: Path, feeds: Mapping[str, np.ndarray]) -> Arrays:
    """Runs an ONNX file by onnxruntime on the CPU. Raises InputError with its message."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # its warnings about odd models are not ours to print
    try:
        session = onnxruntime.InferenceSession(
            str(model), options, providers=["CPUExecutionProvider"]
        )
        names = [output.name for output in session.get_outputs()]
        wanted = {value.name for value in session.get_inputs()}
        given = {name: array for name, array in feeds.items() if name in wanted}
        return dict(zip(names, map(np.asarray, session.run(None, given))))
    except Exception as error:  # onnxruntime's errors have no common base but this
        raise InputError(
            "onnxruntime cannot run the model on these inputs", why=str(error), where=str(model)
        ) from None
