"""Takes a trained model, makes it small, and runs it fast on the device at hand.

    import brim
    model = brim.load("model.onnx")
    result = model.run({"input": array})

`brim.vision` holds ready algorithms for pictures, `brim.compress` makes models small, `brim.train`
teaches them, `brim.zoo` gets real ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brim.errors import (
    BrimError,
    CompileError,
    InputError,
    ModelError,
    OpError,
    TrustError,
    UnsupportedError,
)
from brim.types import Dim, DType, Type

if TYPE_CHECKING:
    from brim.compress import quantize
    from brim.graph import Graph, Value
    from brim.model import Model, Report, compile, load
    from brim.ops import OPS

__all__ = [
    "OPS",
    "BrimError",
    "CompileError",
    "DType",
    "Dim",
    "Graph",
    "InputError",
    "Model",
    "ModelError",
    "OpError",
    "Report",
    "TrustError",
    "Type",
    "UnsupportedError",
    "Value",
    "compile",
    "load",
    "quantize",
    "train",
    "vision",
    "zoo",
]
_LAZY = {
    "Graph": "brim.graph",
    "Value": "brim.graph",
    "OPS": "brim.ops",
    "Model": "brim.model",
    "Report": "brim.model",
    "compile": "brim.model",
    "load": "brim.model",
    "quantize": "brim.compress",
}
_ROOMS = ("train", "vision", "zoo")


def __getattr__(name: str) -> Any:
    """What is large is imported on first use, so that `import brim` stays quick."""
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("brim")
        except PackageNotFoundError:  # used from a source folder
            return "0+source"
    from importlib import import_module

    if name in _ROOMS:
        return import_module(f"brim.{name}")
    if name not in _LAZY:
        raise AttributeError(f"module 'brim' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
