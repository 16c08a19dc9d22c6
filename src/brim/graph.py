"""The graph: immutable values, operators, graphs, and the few loops over them that all else uses.

A `Value` is an expression: an operator applied to values, a constant, or a graph input. There are
no use-lists and no effects; a pass makes new values. How operators are declared lives in
`brim.ops`; how graphs print and parse lives in `brim.text`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np

from brim.containers import checked_box, unbox
from brim.errors import InputError, ModelError
from brim.types import DType, Shape, Type, type_of

T = TypeVar("T")
Attrs = Mapping[str, Any]
NO_ATTRS: Attrs = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class Op:
    """An operator, declared once.

    kind:  elementwise | move | reduce | contract | index | source | control | host | composite
    infer: (*types, **attrs) -> Type, or a tuple of Types for several results
    numpy: (*arrays, **attrs) -> array, or a tuple of arrays: the reference
    grad:  (g, y, *args, **attrs) -> one cotangent or None per arg; None: differentiate `body`;
           of several results g is a list, with None for 0
    body:  (*values, **attrs) -> Value: what a composite means; None for a primitive
    proof: (*values) -> bool: whether their constants allow a variant; None: all do
    """

    name: str
    kind: str
    infer: Callable[..., Type | tuple[Type, ...]]
    numpy: Callable[..., Any]
    doc: str
    grad: Callable[..., list] | None = None
    body: Callable[..., Any] | None = None
    proof: Callable[..., bool] | None = None

    def __repr__(self) -> str:
        return f"<op {self.name}>"


@dataclass(frozen=True, eq=False, repr=False)
class Value:
    """One tensor (or a tuple of tensors) in a graph; `op` None: an input, or a constant."""

    op: Op | None
    args: tuple[Value, ...]
    attrs: Attrs
    type: Type  # ops with several results hold a tuple here; only `item` reads those
    data: np.ndarray | None = None
    where: str = ""

    @property
    def shape(self) -> Shape:
        """The extents of its type."""
        return self.type.dims

    @property
    def dtype(self) -> DType:
        """The element type."""
        return self.type.dtype

    @property
    def is_const(self) -> bool:
        """Whether it holds an array."""
        return self.data is not None

    def __repr__(self) -> str:
        name = self.op.name if self.op else "const" if self.is_const else "input"
        return f"<{name}: {self.type}>"


@dataclass(frozen=True, eq=False)
class Graph:
    """Named inputs and outputs; what lies between follows from the values' arguments.

    state: what is remembered from run to run, with its first content: each name is an input and an
    output of one type, and what a run gives the next one is given.
    """

    inputs: dict[str, Value]
    outputs: dict[str, Value]
    name: str = "graph"
    state: Mapping[str, np.ndarray] = field(default_factory=dict)

    def values(self) -> list[Value]:
        """All values that the outputs need, arguments before users; inputs first, used or not."""
        return topo((*self.inputs.values(), *self.outputs.values()))

    def _repr_html_(self) -> str:
        """Ports, operators and structure, in a notebook."""
        from brim.tools.notebook import graph_html

        return graph_html(self)


def visible(ports: Mapping[str, T], state: Collection[str]) -> dict[str, T]:
    """The inputs or outputs that callers see: those that carry no state."""
    return {name: port for name, port in ports.items() if name not in state}


def const(array: np.ndarray | np.generic, where: str = "") -> Value:
    """A constant. The array is frozen (set read-only), not copied."""
    array = np.asarray(array)
    if array.dtype != object:
        array = np.ascontiguousarray(array).reshape(array.shape)
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
        array.flags.writeable = False
    return Value(None, (), NO_ATTRS, type_of(array), array, where)


def placeholder(type: Type, where: str = "") -> Value:
    """A graph input, or a stand-in while a composite's body is examined."""
    return Value(None, (), NO_ATTRS, type, None, where)


def topo(outputs: Iterable[Value], known: Iterable[int] = ()) -> list[Value]:
    """Values needed for `outputs`, once each, arguments first. Iterative: graphs are deep.

    known: ids of values that are there already; neither they nor what only they need are listed.
    """
    done: set[int] = set(known)
    order: list[Value] = []
    stack: list[tuple[Value, Iterator[Value]]] = []
    for root in outputs:
        if id(root) in done:
            continue
        done.add(id(root))
        stack.append((root, iter(root.args)))
        while stack:
            value, rest = stack[-1]
            for arg in rest:
                if id(arg) not in done:
                    done.add(id(arg))
                    stack.append((arg, iter(arg.args)))
                    break
            else:
                stack.pop()
                order.append(value)
    return order


def users(graph: Graph) -> dict[int, list[Value]]:
    """id(value) -> the values that take it as an argument (graph outputs are not users)."""
    found: dict[int, list[Value]] = {}
    for value in graph.values():
        for arg in value.args:
            found.setdefault(id(arg), []).append(value)
    return found


def rewrite(graph: Graph, rule: Callable[[Value], Value | None]) -> Graph:
    """Bottom-up, once per value: `rule(value with new args)` gives a replacement or None."""
    outputs = rewrite_values(graph.outputs.values(), rule, keep=graph.inputs.values())
    found = dict(zip(graph.outputs, outputs))
    return Graph(graph.inputs, found, graph.name, graph.state)


def rewrite_values(
    outputs: Iterable[Value],
    rule: Callable[[Value], Value | None],
    keep: Iterable[Value] = (),
    replace: Mapping[int, Value] | None = None,
) -> list[Value]:
    """`rewrite` for bare values; `replace` maps id(value) to what stands in its place."""
    outputs = list(outputs)
    new: dict[int, Value] = dict(replace or {})
    new.update((id(value), value) for value in keep)
    for value in topo(outputs, new):
        args = tuple(new[id(arg)] for arg in value.args)
        same = all(a is b for a, b in zip(args, value.args))
        moved = value
        if not same:
            moved = Value(value.op, args, value.attrs, value.type, value.data, value.where)
        new[id(value)] = rule(moved) or moved
    return [new[id(value)] for value in outputs]


def substitute(outputs: Iterable[Value], replace: Mapping[int, Value]) -> list[Value]:
    """The same expressions with some values (by id) replaced."""
    return rewrite_values(outputs, lambda value: None, replace=replace)


def evaluate(graph: Graph, feeds: Mapping[str, Any], expand: bool = False) -> dict[str, Any]:
    """Interprets a graph with numpy: the meaning that compiled code must equal.

    feeds: one array per input, of the input's type (a list, dict or None for a container), as the
    outputs are; state that is not given has its first content. `expand`: run composites by their
    bodies instead of whole (the result must be the same). Raises InputError for missing inputs.
    """
    found = evaluate_values(graph.outputs.values(), environment(graph, feeds), expand)
    return dict(zip(graph.outputs, map(unbox, found)))


def environment(graph: Graph, feeds: Mapping[str, Any]) -> dict[int, Any]:
    """id of each input -> what is fed to it, as `evaluate` takes it: where `evaluated` begins."""
    env: dict[int, Any] = {}
    feeds = {**graph.state, **feeds}
    for name, value in graph.inputs.items():
        if name not in feeds:
            raise InputError(
                f"input {name!r} is missing", hint=f"the graph takes {list(graph.inputs)}"
            )
        dtype, given = value.type.dtype, feeds[name]
        if dtype.kind == "o":
            env[id(value)] = checked_box(given, dtype, f"input {name!r}")
        else:
            env[id(value)] = np.asarray(given, dtype.numpy)
    return env


def evaluate_values(
    outputs: Iterable[Value], env: dict[int, Any], expand: bool = False
) -> list[Any]:
    """Interprets expressions; `env` maps id(value) to what is already known."""
    outputs = list(outputs)
    for _ in evaluated(outputs, env, expand):
        pass
    return [env[id(value)] for value in outputs]


def evaluated(
    outputs: Iterable[Value], env: dict[int, Any], expand: bool = False
) -> Iterator[tuple[Value, Any]]:
    """`evaluate_values` as it goes: each value with what it is, arguments before users."""
    outputs = list(outputs)
    order = topo(outputs)
    last_use: dict[int, int] = {}
    for position, value in enumerate(order):
        for arg in value.args:
            last_use[id(arg)] = position
    for value in outputs:
        last_use[id(value)] = len(order)
    for position, value in enumerate(order):
        if id(value) in env:
            continue
        if value.data is not None:
            env[id(value)] = value.data
            yield value, value.data
            continue
        if value.op is None:
            raise InputError(f"a placeholder of type {value.type} has no value", where=value.where)
        args = [env[id(arg)] for arg in value.args]
        env[id(value)] = apply_numpy(value, args, expand)
        for arg in value.args:  # free what is not needed again
            if last_use[id(arg)] == position and arg.op is not None:
                env.pop(id(arg), None)
        yield value, env[id(value)]


def apply_numpy(value: Value, args: list[np.ndarray], expand: bool = False) -> Any:
    """One operator by its reference, its result checked against the value's type."""
    op = value.op
    assert op is not None
    with np.errstate(all="ignore"):
        if expand and op.body is not None:
            stand_ins = [placeholder(type_of(np.asarray(a))) for a in args]
            body = op.body(*stand_ins, **value.attrs)
            env = {id(s): a for s, a in zip(stand_ins, args)}
            return evaluate_values([body], env, expand)[0]
        result = op.numpy(*args, **value.attrs)
    if isinstance(result, tuple):
        return tuple(np.asarray(part) for part in result)
    result = np.asarray(result)
    if value.type.is_static and result.shape != value.type.shape:
        raise ModelError(
            f"{op.name} gave shape {result.shape} where {value.type} was expected",
            where=value.where,
        )
    if value.type.shape is not None and result.dtype != value.type.dtype.numpy:
        result = result.astype(value.type.dtype.numpy)
    return result
