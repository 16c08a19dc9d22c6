"""A proof that the samples of a batch do not see each other, and where each value has them.

The axis of the samples is followed from the inputs to the outputs: through axes that are permuted,
split and merged, into the bodies of composites. What sums over it, cuts it or sets it beside
something else is found, and where it lies in the model told.
"""

from __future__ import annotations

from collections.abc import Collection
from math import prod

from brim.errors import InputError
from brim.graph import Graph, Value, placeholder, topo
from brim.ops.primitive import parse_spec
from brim.types import Shape, Type

Axes = dict[int, int | None]  # id of a value -> its axis of samples; None: the same for all


class _Mixed(Exception):
    """An operator by which a sample sees others, or that is not known to keep them apart."""


def check_samples(graph: Graph, names: Collection[str]) -> None:
    """Raises InputError if an output's sample does not follow from the inputs' sample alone.

    names: of the inputs whose first axis holds samples, as many in all.
    """
    axes: Axes = {id(v): 0 if name in names else None for name, v in graph.inputs.items()}
    (batch,) = {graph.inputs[name].shape[0] for name in names}
    for value in graph.values():
        if id(value) in axes:
            continue
        try:
            axes[id(value)] = _axis(value, [axes[id(arg)] for arg in value.args], batch)
        except _Mixed:
            assert value.op is not None
            raise InputError(
                f"the samples of a batch of {batch} are mixed by {value.op.name}: {value.type}",
                why="the model was made for a batch of one, and counts on it",
                where=value.where,
                hint="export it with an open batch",
            ) from None
    for name, value in graph.outputs.items():
        if axes[id(value)] != 0:
            raise InputError(
                f"output {name!r} of type {value.type} has no first axis of samples",
                where=graph.name,
                hint="train with the batch that the model has",
            )


def _axis(value: Value, given: list[int | None], batch: int) -> int | None:
    """The axis of samples of a value, given those of its arguments. Raises _Mixed."""
    op, attrs = value.op, value.attrs
    if op is None or all(axis is None for axis in given):
        return None
    if not isinstance(value.type, Type) or not value.type.is_static:
        raise _Mixed
    if op.body is not None:
        return _of_body(value, given, batch)
    if op.kind == "elementwise" or op.name == "broadcast":
        return _aligned(value, given)
    if op.name == "contract":
        return _of_products(attrs["spec"], given)
    if op.name == "concat":
        return _apart(given[0], (attrs["axis"],)) if len(set(given)) == 1 else _refuse()
    if op.name == "gather":
        return _gathered(given, attrs["axis"], value.args[1].type.rank)
    axis, shape = given[0], value.args[0].shape
    if axis is None:
        return _refuse()
    match op.name:
        case "transpose":
            return attrs["perm"].index(axis)
        case "reshape":
            return _reshaped(shape, value.shape, axis, batch)
        case "hold":
            return axis
        case "reduce" | "window":
            return _apart(axis, attrs["axes"])
        case "argreduce" | "cumulate":
            return _apart(axis, (attrs["axis"],))
        case "pad":
            return axis if attrs["low"][axis] == attrs["high"][axis] == 0 else _refuse()
        case "slice":
            whole = attrs["sizes"][axis] == shape[axis] and attrs["steps"][axis] == 1
            return axis if whole else _refuse()
    return _refuse()


def _refuse() -> int:
    raise _Mixed


def _of_body(value: Value, given: list[int | None], batch: int) -> int | None:
    op = value.op
    assert op is not None
    assert op.body is not None
    inner = [arg if arg.is_const else placeholder(arg.type) for arg in value.args]
    body = op.body(*inner, **value.attrs)
    axes = {id(stand_in): axis for stand_in, axis in zip(inner, given)}
    for part in topo([body]):
        if id(part) not in axes:
            axes[id(part)] = _axis(part, [axes[id(arg)] for arg in part.args], batch)
    return axes[id(body)]


def _apart(axis: int | None, touched: tuple[int, ...]) -> int | None:
    return _refuse() if axis in touched else axis


def _aligned(value: Value, given: list[int | None]) -> int:
    """Of what is broadcast: arguments' axes end together, and have one axis of samples."""
    rank = value.type.rank
    places = {
        axis + rank - arg.type.rank for arg, axis in zip(value.args, given) if axis is not None
    }
    if len(places) != 1:
        return _refuse()
    (place,) = places
    for arg, axis in zip(value.args, given):
        own = place - rank + arg.type.rank
        if axis is None and own >= 0 and arg.shape[own] != 1:
            return _refuse()
    return place


def _reshaped(old: Shape, new: Shape, axis: int, batch: int) -> int:
    """The new axis before which there is as much as before the old one, whose samples are outer."""
    before = prod(old[:axis])
    for place, size in enumerate(new):
        if prod(new[:place]) == before and size % batch == 0:
            return place
    return _refuse()


def _of_products(spec: str, given: list[int | None]) -> int:
    """The samples' letter stays, and is not in what has none."""
    *sides, out = parse_spec(spec)
    letters = {side[axis] for side, axis in zip(sides, given) if axis is not None}
    plain = "".join(side for side, axis in zip(sides, given) if axis is None)
    if len(letters) != 1 or not letters <= set(out) or letters & set(plain):
        return _refuse()
    return out.index(letters.pop())


def _gathered(given: list[int | None], axis: int, extra: int) -> int:
    """Of a table that all samples read, or of samples of which each is read at the same places."""
    x, index = given
    if x is None and index is not None:
        return axis + index
    if x is None or index is not None or x == axis:
        return _refuse()
    return x if x < axis else x + extra - 1
