"""The nodes of a graph of brim's, sub-graphs too: constants become weights of what reads them."""

from __future__ import annotations

from collections.abc import Mapping

from brim.graph import Graph, Value
from brim.view.draft import Draft, Scope, Shared, constant_name, name_of, shown
from brim.view.kinds import by, heaviest, hint_of, kind_of


def graph_drafts(graph: Graph, shared: Shared) -> list[Draft]:
    """The nodes of a graph, ports included, arguments before users."""
    drafts: list[Draft] = []
    _draw(graph, shared, (), drafts)
    return drafts


def _draw(graph: Graph, shared: Shared, scope: Scope, drafts: list[Draft]) -> None:
    at: dict[int, tuple[int, int]] = {}  # id(value) -> node and port
    names = {id(value): name for name, value in graph.inputs.items()}
    times: dict[str, int] = {}
    for value in graph.values():
        if value.is_const:
            continue
        if value.op is not None and value.op.name == "item" and not value.args[0].is_const:
            at[id(value)] = (at[id(value.args[0])][0], value.attrs["index"])
            continue
        at[id(value)] = (len(drafts), 0)
        types = value.type if isinstance(value.type, tuple) else (value.type,)
        outputs = tuple(map(str, types))
        if value.op is None:
            name = names.get(id(value), value.where)
            drafts.append(
                Draft("input", "input", name, "input", name, outputs=outputs, scope=scope)
            )
            continue
        kind = kind_of(value.op)
        draft = Draft(
            value.op.name,
            kind,
            value.where,
            "product" if kind == "product" else value.op.name,
            hint_of(value),
            size_of(value),
            outputs=outputs,
            attrs=shown(value.attrs),
            scope=scope,
        )
        for position, arg in enumerate(value.args):
            if arg.data is None:
                draft.inputs.append(at[id(arg)])
            else:
                name = constant_name(arg.where, position, value.where)
                draft.weights.append((position, shared.weights.number(arg.data, name)))
        drafts.append(draft)
        if graphs := sub_graphs(value):
            times[value.where] = number_of_owner = times.get(value.where, 0) + 1
            for i, (name, inner) in enumerate(graphs):
                inside = (*scope, (value.where, number_of_owner, i))
                draft.bodies.append((inside, f"{name} of {name_of(value.where)}"))
                _draw(inner, shared, inside, drafts)
    for name, value in graph.outputs.items():
        if value.is_const:
            assert value.data is not None
            weights = [(0, shared.weights.number(value.data, value.where or name))]
            drafts.append(
                Draft("output", "output", name, "output", name, weights=weights, scope=scope)
            )
        else:
            read = [at[id(value)]]
            drafts.append(Draft("output", "output", name, "output", name, "", read, scope=scope))


def sub_graphs(value: Value) -> list[tuple[str, Graph]]:
    """The graphs among a value's attributes, by name."""
    found = []
    for name, attr in sorted(value.attrs.items()):
        parts = attr if isinstance(attr, tuple) else (attr,)
        found += [(name, part) for part in parts if isinstance(part, Graph)]
    return found


def size_of(value: Value) -> str:
    """The resolution of what a convolution or a pool gives, "" of others: only these tell which
    axes are in space."""
    windowed = value.op is not None and ("conv" in value.op.name or "pool" in value.op.name)
    return by(value.type.dims[1:-1]) if windowed and value.type.is_static else ""


def layers_of(graph: Graph) -> Mapping[str, list[Value]]:
    """Where-string -> the operators that came of that node of the file, in order; of sub-graphs
    too."""
    found: dict[str, list[Value]] = {}
    rest = [graph]
    while rest:
        for value in rest.pop().values():
            if value.op is not None:
                found.setdefault(value.where, []).append(value)
                rest += [inner for _, inner in sub_graphs(value)]
    return found


def main_value(values: list[Value]) -> Value:
    """The operator that a layer is known by: the heaviest, the first of equals."""
    kind = heaviest(kind_of(value.op) for value in values if value.op)
    return next(value for value in values if value.op and kind_of(value.op) == kind)
