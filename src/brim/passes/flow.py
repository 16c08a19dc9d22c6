"""Through which values of a graph a slope can pass: floats that depend on given ones.

A value with several results is followed result by result, and graphs within control operators are
followed as the values they are. What the slopes are is `brim.passes.autodiff`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from brim.graph import Graph, Value, placeholder, topo
from brim.ops.elementwise import flat
from brim.ops.host import chooses
from brim.types import F32, Type

Key = tuple[int, int]  # id of a value, number of its result


def types_of(value: Value) -> tuple[Type, ...]:
    """The types of a value's results."""
    return value.type if isinstance(value.type, tuple) else (value.type,)


def flows(type: Type) -> bool:
    """Whether values of a type have slopes: floats, storage types of floats, containers of them."""
    dtype = type.dtype
    while dtype.kind == "o":
        dtype = dtype.of
    return dtype.is_float or (dtype.kind == "n" and not dtype.is_whole)


def slope_type(type: Type) -> Type:
    """The type of a value's cotangent: its own, f32 for those that are not computed with."""
    return type if type.dtype.is_float else Type(type.shape, F32)


def key_of(value: Value) -> Key:
    """The key of a value with one result; that of an `item` is the result itself."""
    if value.op is not None and value.op.name == "item":
        return id(value.args[0]), value.attrs["index"]
    return id(value), 0


def body_of(value: Value) -> tuple[Value, list[Value]]:
    """The body of a composite over stand-ins for its arguments; constants stand for themselves."""
    assert value.op is not None
    assert value.op.body is not None
    inner = [arg if arg.is_const else placeholder(arg.type) for arg in value.args]
    return value.op.body(*inner, **value.attrs), inner


def reach(order: Iterable[Value], wrt: Iterable[Value]) -> set[Key]:
    """The results among values, arguments first, that depend on `wrt` through floats."""
    reached = {key_of(value) for value in wrt}
    for value in order:
        if value.op is None or value.op.grad is flat or value.op.name == "item":
            continue
        sources = [i for i, arg in enumerate(value.args) if key_of(arg) in reached]
        if sources:
            types = types_of(value)
            numbers = results_reached(value, sources)
            reached.update((id(value), n) for n in numbers if flows(types[n]))
    return reached


def results_reached(value: Value, sources: Collection[int]) -> Collection[int]:
    """Numbers of a value's results that depend on its arguments of numbers `sources`."""
    assert value.op is not None
    match value.op.name:
        case "cond":
            found: set[int] = set()
            for branch in (value.attrs["then"], value.attrs["orelse"]):
                found |= outputs_reached(branch, [i - 1 for i in sources if i > 0])
            return found
        case "loop":
            carried = value.attrs["carried"]
            inputs = inputs_reached(value, sources)
            rows = outputs_reached(value.attrs["body"], inputs)
            return {i - 2 for i in inputs if i - 2 < carried} | {i - 1 for i in rows if i > carried}
    return range(len(types_of(value)))


def outputs_reached(graph: Graph, inputs: Collection[int]) -> set[int]:
    """Numbers of a graph's outputs that depend on its inputs of numbers `inputs`."""
    given = list(graph.inputs.values())
    reached = reach(topo(graph.outputs.values()), [given[i] for i in inputs])
    return {i for i, value in enumerate(graph.outputs.values()) if key_of(value) in reached}


def inputs_reached(loop: Value, sources: Collection[int]) -> set[int]:
    """Numbers of the inputs of a loop's body that depend on the loop's arguments `sources`, in some
    iteration."""
    inputs = {i for i in sources if i > 1}
    while True:
        rows = outputs_reached(loop.attrs["body"], inputs)
        more = {i + 1 for i in rows if 0 < i <= loop.attrs["carried"]} - inputs
        if not more:
            return inputs
        inputs |= more


def missing(outputs: Sequence[Value], wrt: Sequence[Value]) -> dict[str, str]:
    """Operators without gradient between `wrt` and the outputs, within bodies and graphs too: what
    they are called, and where each is found first."""
    order = topo(outputs)
    reached = reach(order, wrt)
    wanted = {key_of(value) for value in outputs} & reached
    found: dict[str, str] = {}
    for value in reversed(order):
        results = [n for n in range(len(types_of(value))) if (id(value), n) in wanted]
        sources = [i for i, arg in enumerate(value.args) if key_of(arg) in reached]
        if value.op is None or value.op.grad is flat or not results or not sources:
            continue
        wanted.update(key_of(value.args[i]) for i in sources)
        for name, where in _missing_in(value, results, sources).items():
            found.setdefault(name, where or value.where)
    return found


def _missing_in(value: Value, results: list[int], sources: list[int]) -> dict[str, str]:
    op = value.op
    assert op is not None
    types = [*(types_of(value)[n] for n in results), *(value.args[i].type for i in sources)]
    if not all(type.is_static for type in types):
        return {f"{_name(value)}, whose shape is known at run time only": value.where}
    if op.name == "cond":
        inner = [
            _missing_in_graph(branch, results, [i - 1 for i in sources if i > 0])
            for branch in (value.attrs["then"], value.attrs["orelse"])
        ]
        return {**inner[1], **inner[0]}
    if op.name == "loop":
        inputs = sorted(inputs_reached(value, sources))
        carried = range(value.attrs["carried"])
        wanted = [n + 1 for n in sorted({*results, *carried})]
        return _missing_in_graph(value.attrs["body"], wanted, inputs)
    if op.grad is not None and (op.name != "foreign" or chooses(value)):
        return {}
    if op.body is None:
        return {_name(value): value.where}
    body, inner_args = body_of(value)
    return missing([body], [inner_args[i] for i in sources])


def _missing_in_graph(graph: Graph, outputs: list[int], inputs: list[int]) -> dict[str, str]:
    results, given = list(graph.outputs.values()), list(graph.inputs.values())
    return missing([results[n] for n in outputs], [given[i] for i in inputs])


def _name(value: Value) -> str:
    """What people call the operator of a value: that of a foreign one is an attribute."""
    assert value.op is not None
    return value.attrs["op"] if value.op.name == "foreign" else value.op.name
