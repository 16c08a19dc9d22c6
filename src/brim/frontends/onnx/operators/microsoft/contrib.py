"""How a row for an operator of onnxruntime's own domain is declared, and what such rows share.

The onnx package has no schemas of that domain, so a row says itself which element types a node
gives when shapes depend on data and it becomes a host step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import brim.ops.primitive as p
from brim.frontends.onnx.table import MICROSOFT, Call, host, operator
from brim.graph import Value
from brim.types import F16, F32, DType, Type

Gives = tuple[int | DType, ...]  # for each output: the input that it has the type of, or a type


def _types(gives: Gives) -> Callable[[Call], Iterable[Type]]:
    def types(call: Call) -> Iterable[Type]:
        wanted = gives[: len(call.node.outputs)]
        return [Type(None, g if isinstance(g, DType) else call[g].dtype) for g in wanted]

    return types


def contrib(*names: str, gives: Gives = (0,), storage: bool = False) -> Callable:
    """Declares how operators of these names become values, like `operator`."""
    return operator(*names, domain=MICROSOFT, types=_types(gives), storage=storage)


def contrib_host(*names: str, gives: Gives) -> Callable:
    """Declares a numpy function (call, *arrays), like `host`."""
    return host(*names, domain=MICROSOFT, types=_types(gives))


def number(call: Call, index: int) -> Value:
    """Input `index`, a scale or the like, as one number, whatever its shape."""
    return p.reshape(call[index], shape=())


def widened(x: Value) -> Value:
    """x, but f32 instead of f16."""
    return p.cast(x, to=F32) if x.dtype == F16 else x
