"""What brim's own operators are, one by one, from their declarations."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules

import brim.ops
from brim.errors import InputError
from brim.graph import Op
from brim.ops import OPS, VARIANTS


@dataclass(frozen=True)
class Operator:
    """One operator. signature: as it is called on Values; doc: all of its docstring; gradient: "its
    own", "that of its body" or ""; variants: other bodies of the same meaning; module: its file."""

    name: str
    signature: str
    kind: str
    doc: str
    gradient: str
    variants: tuple[str, ...]
    module: str


def operator(name: str) -> Operator:
    """The operator of that name. Raises InputError."""
    if name not in OPS:
        raise InputError(f"there is no operator {name!r}", hint=f"brim ops --search {name}")
    op = OPS[name]
    variants = tuple(variant.name for _, variant in VARIANTS.get(name, []))
    signature, module = _declared(op)
    gradient = "its own" if op.grad else "that of its body" if op.body else ""
    doc = inspect.cleandoc(op.doc)
    return Operator(name, f"{name}{signature}", op.kind, doc, gradient, variants, module)


def _declared(op: Op) -> tuple[str, str]:
    """The signature of an operator's declaration, and the module that it stands in."""
    for found in iter_modules(brim.ops.__path__):
        module = import_module(f"brim.ops.{found.name}")
        function = vars(module).get(op.name)
        if getattr(function, "__module__", "") == module.__name__:
            text = str(inspect.signature(function)).split(" ->")[0]  # type: ignore[arg-type]
            return text.replace(": 'Value'", "").replace(": Value", ""), module.__name__
    return "(...)", ""
