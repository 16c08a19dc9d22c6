"""Automatic differentiation: a reverse walk that asks each operator for its cotangents.

    %1: f32[3] = mul(%0, %0)
    %2: f32[1] = reduce(%1) op="add" axes=(0,)
--> gradient(%2, [%0]):
    %3: f32[3] = broadcast(1.0) shape=(3,)
    %4: f32[3] = mul(%3, %0)
    %5: f32[3] = add(%4, %4)

The gradient is made of ordinary values: it can be simplified, expanded, compiled and differentiated
again. Composites without a gradient of their own are differentiated through their bodies. Training
loops and optimisers are not here.
"""

from __future__ import annotations

import numpy as np

from brim.errors import OpError, UnsupportedError
from brim.graph import Value, const, placeholder, substitute, topo
from brim.ops import primitive as ops
from brim.ops.registry import at
from brim.types import Type


def gradient(loss: Value, wrt: list[Value]) -> list[Value]:
    """d(sum of loss) / d(value) for each value of `wrt`, of that value's type.

    Zeros for what the loss does not depend on. Raises OpError if the loss is not a float, and
    UnsupportedError that names every operator without gradient on the way from `wrt` to the loss.
    """
    for value in (loss, *wrt):
        if not _flows(value):
            raise OpError(f"{value!r} cannot be differentiated", "its type is not a static float")
    missing = sorted(_missing([loss], wrt))
    if missing:
        raise UnsupportedError(f"no gradient for {', '.join(missing)}", where=loss.where)
    seed = const(np.ones(loss.shape, loss.dtype.numpy))
    found = _backward(loss, seed, wrt)
    return [
        const(np.zeros(value.shape, value.dtype.numpy)) if part is None else part
        for value, part in zip(wrt, found)
    ]


def _flows(value: Value) -> bool:
    """Whether a cotangent can pass through the value."""
    return isinstance(value.type, Type) and value.type.is_static and value.dtype.is_float


def _reached(order: list[Value], wrt: list[Value]) -> set[int]:
    """ids of the values that depend on `wrt` through floats."""
    reached = {id(value) for value in wrt}
    for value in order:
        if _flows(value) and any(id(arg) in reached for arg in value.args):
            reached.add(id(value))
    return reached


def _body(value: Value) -> tuple[Value, list[Value]]:
    """The body of a composite over stand-ins for its arguments; constants stand for themselves."""
    assert value.op is not None
    assert value.op.body is not None
    inner = [arg if arg.is_const else placeholder(arg.type) for arg in value.args]
    return value.op.body(*inner, **value.attrs), inner


def _missing(outputs: list[Value], wrt: list[Value]) -> set[str]:
    """Names of the operators without gradient between `wrt` and the outputs, within bodies too."""
    order = topo(outputs)
    reached = _reached(order, wrt)
    names: set[str] = set()
    for value in order:
        if id(value) not in reached or value.op is None or value.op.grad is not None:
            continue
        sources = [i for i, arg in enumerate(value.args) if id(arg) in reached]
        if not sources:
            continue
        if value.op.body is None:
            names.add(value.op.name)
        else:
            body, inner = _body(value)
            names |= _missing([body], [inner[i] for i in sources])
    return names


def _backward(output: Value, seed: Value, wrt: list[Value]) -> list[Value | None]:
    """The cotangents of `wrt`, given that of the output; None where nothing depends on them."""
    order = topo([output])
    reached = _reached(order, wrt)
    cotangents = {id(output): seed}
    for value in reversed(order):
        g = cotangents.get(id(value))
        if g is None or value.op is None or id(value) not in reached:
            continue
        if not any(id(arg) in reached for arg in value.args):
            continue
        with at(value.where):
            for i, part in enumerate(_cotangents_of_args(value, g, reached)):
                arg = value.args[i]
                if id(arg) not in reached or not _flows(arg):
                    continue
                if part is None:
                    raise UnsupportedError(
                        f"no gradient for {value.op.name} with {dict(value.attrs)}",
                        f"argument {i} of {value!r} has none",
                        value.where,
                    )
                known = cotangents.get(id(arg))
                cotangents[id(arg)] = part if known is None else ops.add(known, part)
    return [cotangents.get(id(value)) for value in wrt]


def _cotangents_of_args(value: Value, g: Value, reached: set[int]) -> list[Value | None]:
    op = value.op
    assert op is not None
    if op.grad is not None:
        return op.grad(g, value, *value.args, **value.attrs)
    body, inner = _body(value)
    seed = placeholder(g.type)
    wanted = [i for i, arg in enumerate(value.args) if id(arg) in reached]
    found = _backward(body, seed, [inner[i] for i in wanted])
    outer = {id(stand_in): arg for stand_in, arg in zip((*inner, seed), (*value.args, g))}
    parts: list[Value | None] = [None] * len(value.args)
    for i, part in zip(wanted, found):
        if part is None:  # the body does not depend on this argument
            part = const(np.zeros(value.args[i].shape, value.args[i].dtype.numpy))
        parts[i] = substitute([part], outer)[0]
    return parts
