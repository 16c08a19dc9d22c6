"""Graphs as the search takes them apart: values are numbered as `Graph.values` lists them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from math import prod
from typing import Any, TypeAlias

import numpy as np

from brim.errors import OpError
from brim.graph import Attrs, Graph, Value, const, placeholder
from brim.ops.registry import infer_type
from brim.passes.subgraphs import inside
from brim.reduce.extents import smaller_extents, swapped
from brim.reduce.search import Edits, Form, Net, resolved
from brim.text import print_graph
from brim.types import BOOL, F16, F32, F64, I32, I64, U8, DType, Type, type_of

Edit: TypeAlias = Callable[[Graph], Graph | None]
EXTENTS = ("shape", "size", "sizes", "groups", "depth")  # attributes that hold numbers of elements
PLAINER = ((F64, F32), (F16, F32), (I64, I32), (U8, I32), (BOOL, F32))


def _nodes(graph: Graph) -> int:
    values = [value for value in graph.values() if value.op is not None]
    return len(values) + sum(_nodes(sub) for v in values for sub in _graphs(v.attrs))


def _graphs(attrs: Attrs) -> list[Graph]:
    return [attr for attr in attrs.values() if isinstance(attr, Graph)]


def _key(graph: Graph) -> bytes:
    text, data = print_graph(graph)
    digest = hashlib.sha256(text.encode())
    for array in data.values():
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.digest()


# ------------------------------------------------------------------ structure


def _net(graph: Graph) -> Net[Graph]:
    values = graph.values()
    number = {id(value): i for i, value in enumerate(values)}
    computed = [i for i, value in enumerate(values) if value.op is not None]
    return Net(
        [i for i, value in enumerate(values) if value.op is None and not value.is_const],
        computed,
        {i: [number[id(arg)] for arg in values[i].args] for i in computed},
        {i: _port(value) for i, value in enumerate(values)},
        {i for i in computed if _port(values[i])},
        tuple(dict.fromkeys(number[id(value)] for value in graph.outputs.values())),
        partial(_arranged, graph, values),
    )


def _port(value: Value) -> Type | None:
    """The type of a value that may be an input or an output."""
    found: Any = value.type
    return found if isinstance(found, Type) and found.is_static and _is_numeric(found) else None


def _is_numeric(found: Type) -> bool:
    return not found.dtype.is_object


def _arranged(graph: Graph, values: list[Value], edits: Edits) -> Graph:
    """The graph with edits, and with no inputs, outputs and state but those that are left."""
    new: dict[int, Value] = {}
    inputs = {id(value): name for name, value in graph.inputs.items()}
    number = {id(value): i for i, value in enumerate(values)}
    made: dict[str, Value] = {}
    for i in _needed(values, number, edits):
        value = values[i]
        if i in edits.cut:
            name = _unused("x", (*graph.inputs, *made))
            new[i] = made[name] = placeholder(value.type, value.where)
        elif i in edits.fixed:
            new[i] = const(_plain(value.type), value.where)
        elif value.op is None:
            new[i] = value
            if id(value) in inputs:
                made[inputs[id(value)]] = value
        else:
            args = tuple(new[j] for j in (_read(edits, number, arg) for arg in value.args))
            same = all(a is b for a, b in zip(args, value.args))
            new[i] = value if same else _with_args(value, args)
    known = {number[id(value)]: name for name, value in graph.outputs.items()}
    outputs: dict[str, Value] = {}
    for name in edits.outputs:
        label = known.get(name) or _unused("y", (*graph.outputs, *outputs))
        outputs[label] = new[resolved(edits, name)]
    inputs_left = {name: made[name] for name in (*graph.inputs, *made) if name in made}
    state = {
        name: first
        for name, first in graph.state.items()
        if name in inputs_left and name in outputs and outputs[name].type == type_of(first)
    }
    return Graph(inputs_left, outputs, graph.name, state)


def _read(edits: Edits, number: Mapping[int, int], arg: Value) -> int:
    return resolved(edits, number[id(arg)])


def _needed(values: list[Value], number: Mapping[int, int], edits: Edits) -> list[int]:
    """The numbers of values that the outputs need after the edits, arguments first."""
    wanted = {resolved(edits, name) for name in edits.outputs}
    for i in reversed(range(len(values))):
        if i in wanted and i not in edits.cut and i not in edits.fixed:
            wanted |= {_read(edits, number, arg) for arg in values[i].args}
    return [i for i in range(len(values)) if i in wanted]


def _with_args(value: Value, args: tuple[Value, ...]) -> Value:
    return Value(value.op, args, value.attrs, value.type, value.data, value.where)


def _unused(letter: str, names: tuple[str, ...]) -> str:
    return next(name for i in range(len(names) + 1) if (name := f"{letter}{i}") not in names)


def _plain(found: Type) -> np.ndarray:
    """Ones, or for whole numbers, which may be indices, zeros."""
    fill = np.zeros if found.dtype.is_whole else np.ones
    return fill(found.dims, np.float32).astype(found.dtype.numpy)


# ------------------------------------------------------------------ graphs inside


def _lifted(graph: Graph) -> Iterator[Graph]:
    for value in graph.values():
        for sub in _graphs(value.attrs):
            if all(_port(port) for port in (*sub.inputs.values(), *sub.outputs.values())):
                yield _visited(sub)


def _visited(sub: Graph) -> Graph:
    """A graph inside as one of its own: without the inputs that it does not read."""
    read = {id(arg) for value in sub.values() for arg in value.args}
    read |= {id(value) for value in sub.outputs.values()}
    inputs = {name: value for name, value in sub.inputs.items() if id(value) in read}
    return Graph(inputs, sub.outputs, sub.name)


def _inner(graph: Graph) -> Iterator[tuple[Graph, Callable[[Graph, Graph], Graph | None]]]:
    found = [sub for value in graph.values() for sub in _graphs(value.attrs)]
    for place, sub in enumerate(found):
        yield sub, partial(_put, place)


def _put(place: int, graph: Graph, small: Graph) -> Graph:
    """`graph` with another graph inside, counted as `_inner` does."""
    wanted = [sub for value in graph.values() for sub in _graphs(value.attrs)][place]
    # what is closed keeps its inputs, read or not
    whole = Graph(wanted.inputs, small.outputs, small.name)
    return inside(graph, lambda sub: whole if sub is wanted else sub)


# ------------------------------------------------------------------ simpler values


def _simpler(graph: Graph) -> Iterator[Sequence[Edit]]:
    values = graph.values()
    for old, new in PLAINER:
        yield [partial(_retyped, old, new)]
    extents = {n for value in values if (found := _port(value)) for n in found.dims if n > 1}
    for smaller in smaller_extents(extents):
        yield [partial(_resized, each) for each in smaller]
    for i, value in enumerate(values):
        for key, attr in value.attrs.items():
            yield [partial(_without_attribute, i, key)]
            for changes in _plainer(attr):
                yield [partial(_with_attribute, i, key, change) for change in changes]
        if value.data is not None and value.data.size and not value.dtype.is_object:
            yield [partial(_with_constant, i, array) for array in _simpler_arrays(value)]


def _plainer(attr: Any) -> Iterator[Sequence[Callable[[Any], Any]]]:
    """Changes to simpler attributes of the same kind, the simplest first; what each gives is asked
    of the attribute that is there by then."""
    if isinstance(attr, (int, float)):
        yield [partial(_lower, new) for new in (0, 1)]
    if isinstance(attr, tuple) and all(type(part) is int for part in attr):
        yield [partial(_lower_all, new) for new in (0, 1)]
        yield from (
            [partial(_lower_part, place, new) for new in (0, 1)] for place in range(len(attr))
        )


def _lower(new: int, attr: Any) -> Any:
    """A number nearer to 0, of the same type; others as they are."""
    return type(attr)(new) if abs(attr) > new else attr


def _lower_all(new: int, attr: Any) -> Any:
    return tuple(new for _ in attr) if any(abs(part) > new for part in attr) else attr


def _lower_part(place: int, new: int, attr: Any) -> Any:
    return (*attr[:place], _lower(new, attr[place]), *attr[place + 1 :])


def _simpler_arrays(value: Value) -> Iterator[np.ndarray]:
    assert value.data is not None
    plain = _plain(value.type)
    first = np.full_like(plain, value.data.reshape(-1)[0])
    for other in (plain, np.zeros_like(plain), first):
        if other.tobytes() == value.data.tobytes():
            return  # as simple as that
        yield other
    if value.dtype.is_float:
        yield np.round(value.data)


def _with_constant(place: int, array: np.ndarray, graph: Graph) -> Graph | None:
    old = graph.values()[place]
    if old.type != type_of(array):
        return None
    return rebuilt(graph, lambda v: const(array, v.where) if v is old else v)


def _without_attribute(place: int, key: str, graph: Graph) -> Graph | None:
    """Without one attribute, where its operator has a default."""
    old = graph.values()[place]

    def attributes(value: Value) -> Attrs:
        return {n: attr for n, attr in value.attrs.items() if value is not old or n != key}

    return rebuilt(graph, lambda value: value, attributes)


def _with_attribute(
    place: int, key: str, change: Callable[[Any], Any], graph: Graph
) -> Graph | None:
    old = graph.values()[place]

    def attributes(value: Value) -> Attrs:
        if value is not old or key not in value.attrs:
            return value.attrs
        return {n: change(attr) if n == key else attr for n, attr in value.attrs.items()}

    return rebuilt(graph, lambda value: value, attributes)


def _retyped(old: DType, new: DType, graph: Graph) -> Graph | None:
    """Another element type in inputs, constants and attributes."""

    def leaf(value: Value) -> Value:
        if not isinstance(value.type, Type) or value.dtype != old:
            return value
        if value.data is not None:
            return const(value.data.astype(new.numpy), value.where)
        return placeholder(Type(value.type.shape, new), value.where)

    def attributes(value: Value) -> Attrs:
        return {k: new if attr == old else attr for k, attr in value.attrs.items()}

    return rebuilt(graph, leaf, attributes)


def _resized(smaller: Mapping[int, int], graph: Graph) -> Graph | None:
    """Smaller extents wherever one is a key: in inputs, constants and attributes."""

    def leaf(value: Value) -> Value:
        found = _port(value)
        if found is None or smaller.keys().isdisjoint(found.dims):
            return value
        dims = swapped(found.dims, smaller)
        if value.data is not None:
            return const(value.data[tuple(map(slice, dims))], value.where)
        return placeholder(Type(dims, found.dtype), value.where)

    def attributes(value: Value) -> Attrs:
        return {
            key: swapped(attr, smaller) if key in EXTENTS else attr
            for key, attr in value.attrs.items()
        }

    return rebuilt(graph, leaf, attributes)


def rebuilt(
    graph: Graph,
    leaf: Callable[[Value], Value],
    attributes: Callable[[Value], Attrs] = lambda value: value.attrs,
) -> Graph | None:
    """The graph over other inputs and constants, with other attributes; every type is inferred
    again. None where an operator refuses, or where nothing changes."""
    new: dict[int, Value] = {}
    for value in graph.values():
        if value.op is None:
            new[id(value)] = leaf(value)
            continue
        args = tuple(new[id(arg)] for arg in value.args)
        attrs = {}
        for key, attr in attributes(value).items():
            inner = rebuilt(attr, leaf, attributes) or attr if isinstance(attr, Graph) else attr
            attrs[key] = inner
        if attrs == dict(value.attrs) and all(a is b for a, b in zip(args, value.args)):
            new[id(value)] = value
            continue
        made = _applied(value, args, attrs)
        if made is None:
            return None
        new[id(value)] = made
    inputs = {name: new[id(value)] for name, value in graph.inputs.items()}
    outputs = {name: new[id(value)] for name, value in graph.outputs.items()}
    if all(new[id(value)] is value for value in graph.outputs.values()):
        return None
    state = {name: leaf(const(first)).data for name, first in graph.state.items()}
    if any(type_of(first) != outputs[name].type for name, first in state.items()):  # type: ignore[arg-type]
        return None
    return Graph(inputs, outputs, graph.name, state)  # type: ignore[arg-type]


def _applied(value: Value, args: tuple[Value, ...], attrs: Attrs) -> Value | None:
    assert value.op is not None
    types = tuple(arg.type for arg in args)
    for tried in (attrs, *_refitted(value, args, attrs)):
        try:
            found: Any = infer_type(value.op, types, tried)
        except OpError:
            continue
        return Value(value.op, args, tried, found, None, value.where)
    return None


def _refitted(value: Value, args: tuple[Value, ...], attrs: Attrs) -> Iterator[Attrs]:
    """Shapes of a reshape that hold as many elements as there are now: one axis takes the rest."""
    if value.op is None or value.op.name != "reshape" or not args[0].type.is_static:
        return
    shape = attrs.get("shape", ())
    for axis in range(len(shape)):
        others = prod(shape[:axis]) * prod(shape[axis + 1 :])
        if others and args[0].type.size % others == 0:
            rest = args[0].type.size // others
            yield {**attrs, "shape": (*shape[:axis], rest, *shape[axis + 1 :])}


GRAPHS: Form[Graph] = Form(_nodes, _key, _net, _simpler, _lifted, _inner)
