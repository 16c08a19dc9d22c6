"""How an operator is declared: `@primitive`, `@composite`, `@variant`, and the table OPS.

A decorated function becomes a function on Values. For a composite its body *is* the definition:
type rule, numpy reference, gradient and lowering all follow from it. This file holds no operators.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from inspect import CO_VARARGS
from types import CodeType
from typing import Any

import numpy as np

from brim.errors import BrimError, OpError
from brim.graph import Attrs, Op, Value, apply_numpy, const, evaluate_values, placeholder
from brim.origins import note
from brim.types import Type, type_of

OPS: dict[str, Op] = {}
VARIANTS: dict[str, list[tuple[Callable[..., bool], Op]]] = {}

_where: contextvars.ContextVar[str] = contextvars.ContextVar("brim_where", default="")
# Constants are folded where they arise; a huge broadcast of a constant is better left as an op.
FOLD_LIMIT = 1 << 24


@contextlib.contextmanager
def at(where: str) -> Iterator[None]:
    """Values made inside carry `where` (file and node) for messages."""
    token = _where.set(where)
    try:
        yield
    finally:
        _where.reset(token)


def as_value(x: Any, like: Value | None = None) -> Value:
    """A Value as it is; numbers and arrays become constants (plain numbers: of `like`'s dtype)."""
    if isinstance(x, Value):
        return x
    if isinstance(x, (int, float, bool, np.number)) and like and not like.type.dtype.is_object:
        return const(np.asarray(x, like.type.dtype.numpy))
    return const(np.asarray(x))


def infer_type(op: Op, types: tuple[Any, ...], attrs: Attrs) -> Type | tuple[Type, ...]:
    """The type of `op` applied to values of `types`. Raises OpError, and nothing else."""
    try:
        if op.kind not in ("host", "control") and not all(
            t.is_static for t in types if isinstance(t, Type)
        ):
            raise OpError("a type is not static")
        return op.infer(*types, **attrs)
    except Exception as error:  # a type rule may stumble over attributes in any way
        if not isinstance(error, BrimError):
            error = OpError(f"{type(error).__name__}: {error}")
        signature = f"{op.name}({', '.join(map(str, types))})"
        where = error.where or _where.get()
        raise OpError(f"{signature}: {error.what}", error.why, where, error.hint) from None


def emit(op: Op, /, *args: Any, **attrs: Any) -> Value:
    """Applies `op`: converts arguments, infers the type, folds constants. Raises OpError."""
    like = next((a for a in args if isinstance(a, Value)), None)
    values = tuple(as_value(a, like) for a in args)
    found = infer_type(op, tuple(v.type for v in values), attrs)
    value = Value(op, values, attrs, found, None, _where.get())  # type: ignore[arg-type]
    if isinstance(found, Type) and folds(value):
        made = const(apply_numpy(value, [v.data for v in values]), _where.get())  # type: ignore[misc]
        note(value, made.data)  # type: ignore[arg-type]
        return made
    return value


def folds(value: Value) -> bool:
    """Whether a value is computed from constants before the graph runs; its type is one Type."""
    op = value.op
    if op is None or not value.args or op.kind == "control" or op.name == "hold":
        return False
    return all(arg.is_const for arg in value.args) and may_be_const(value.type)


def may_be_const(found: Type) -> bool:
    """Whether a result is worth keeping as a constant; there are no constants of containers."""
    return found.dtype.kind != "o" and (found.shape is None or found.size <= FOLD_LIMIT)


def apply(name: str, *args: Any, **attrs: Any) -> Value:
    """Any operator by name: for tables, parsers, and rules that name operators declared later."""
    return emit(OPS[name], *args, **attrs)


def _register(op: Op, declared: Callable) -> Callable[..., Value]:
    assert op.name not in OPS, f"op {op.name} is declared twice"
    OPS[op.name] = op

    @functools.wraps(declared)  # name, doc, and the signature that `help` and docs/ops.md show
    def apply(*args: Any, **attrs: Any) -> Value:
        return emit(op, *args, **attrs)

    return apply


def primitive(
    kind: str,
    infer: Callable[..., Any],
    numpy: Callable[..., Any],
    grad: Callable[..., list] | None = None,
) -> Callable[[Callable], Callable[..., Value]]:
    """Declares a primitive; the decorated function gives the name, the doc, the argument count."""

    def declare(function: Callable) -> Callable[..., Value]:
        assert function.__doc__, f"{function.__name__} needs a docstring"
        rule = _counted(infer, function.__code__)
        op = Op(function.__name__, kind, rule, numpy, function.__doc__, grad)
        return _register(op, function)

    return declare


def _counted(infer: Callable[..., Any], code: CodeType) -> Callable[..., Any]:
    """A type rule that refuses another number of arguments than the declaration has."""
    if code.co_flags & CO_VARARGS:
        return infer

    def counted(*types: Any, **attrs: Any) -> Any:
        if len(types) != code.co_argcount:
            raise OpError(f"takes {code.co_argcount} arguments, not {len(types)}")
        return infer(*types, **attrs)

    return counted


def _from_body(function: Callable, grad: Callable[..., list] | None, name: str) -> Op:
    def infer(*types: Type, **attrs: Any) -> Type:
        return function(*(placeholder(t) for t in types), **attrs).type

    def numpy(*arrays: np.ndarray, **attrs: Any) -> Any:
        stand_ins = [placeholder(type_of(np.asarray(a))) for a in arrays]
        body = function(*stand_ins, **attrs)
        return evaluate_values([body], {id(s): a for s, a in zip(stand_ins, arrays)})[0]

    assert function.__doc__, f"{name} needs a docstring"
    return Op(name, "composite", infer, numpy, function.__doc__, grad, function)


def composite(
    grad: Callable[..., list] | None = None,
) -> Callable[[Callable], Callable[..., Value]]:
    """Declares an operator by its Python body over other operators. `grad` is an optimisation."""

    def declare(function: Callable) -> Callable[..., Value]:
        return _register(_from_body(function, grad, function.__name__), function)

    return declare


def variant(
    of: Callable[..., Value], when: Callable[..., bool], proof: Callable[..., bool] | None = None
) -> Callable[[Callable], Op]:
    """Another body of the same meaning as `of`, valid where `when(*types, **attrs)` holds, and
    `proof(*values)` of the constants among its arguments."""

    def declare(function: Callable) -> Op:
        made = _from_body(function, None, f"{of.__name__}.{function.__name__}")
        op = replace(made, proof=proof)
        VARIANTS.setdefault(of.__name__, []).append((when, op))
        return op

    return declare
