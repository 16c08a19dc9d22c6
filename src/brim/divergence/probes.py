"""Values inside a graph made visible: as further outputs, or one by one as it is interpreted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from brim.divergence.arrange import arranged
from brim.divergence.first import First, first
from brim.divergence.layers import may_agree, pairs, results
from brim.graph import Graph, Value, environment, evaluated
from brim.where import layer_of

Run = Callable[[Graph], Mapping[str, Any]]


def probed(graph: Graph, values: Sequence[Value]) -> tuple[Graph, list[str]]:
    """The graph with these values as further outputs, and the names that they have there."""
    names = [f"probe {number}" for number in range(len(values))]
    outputs = {**graph.outputs, **dict(zip(names, values))}
    return Graph(graph.inputs, outputs, graph.name, graph.state), names


def interpreted(
    graph: Graph, values: Sequence[Value], feeds: Mapping[str, Any]
) -> Iterator[tuple[int, Any]]:
    """Number in `values` -> what it is, as the interpreter comes by: no more is kept than it needs.

    Raises InputError as `evaluate` does.
    """
    numbers: dict[int, list[int]] = {}
    for number, value in enumerate(values):
        numbers.setdefault(id(value), []).append(number)
    env = environment(graph, feeds)
    for value in graph.inputs.values():
        yield from ((number, env[id(value)]) for number in numbers.get(id(value), ()))
    for value, array in evaluated(values, env):
        yield from ((number, array) for number in numbers.get(id(value), ()))


def broken_by_change(
    before: Graph,
    after: Graph,
    wrong: Iterable[str],
    run: Run,
    same: Callable[[Any, Any], bool],
) -> First | None:
    """The layer that is wrong first where a change of a graph made these outputs wrong.

    run: what a graph gives, with its inputs. A value that is in both graphs cannot be wrong.
    """
    there = {id(value) for value in after.values()}
    known = {id(value): True for value in before.values() if value.op and id(value) in there}
    found = [
        (mine, other)
        for _, mine, other in pairs(results(before), results(after), may_agree)
        if id(mine) not in known
    ]
    wants = _read(before, [mine for mine, _ in found], run)
    gots = _read(after, [other for _, other in found], run)
    for (mine, _), want, got in zip(found, wants, gots):
        form = arranged(got, want)
        if form is not None:
            known[id(mine)] = same(form[0], form[1])
    return first(before, wrong, known, _name)


def broken_by_running(
    graph: Graph,
    values: Sequence[Value],
    wrong: Iterable[str],
    run: Run,
    rerun: Run,
    same: Callable[[Any, Any], bool],
) -> First | None:
    """The layer that is wrong first where `rerun` gives other outputs of a graph than `run` does;
    values: those that both may be asked for."""
    gots, wants = _read(graph, values, rerun), _read(graph, values, run)
    known = {id(v): same(got, want) for v, got, want in zip(values, gots, wants)}
    return first(graph, wrong, known, _name)


def _read(graph: Graph, values: Sequence[Value], run: Run) -> list[Any]:
    watched, names = probed(graph, values)
    outputs = run(watched)
    return [outputs[name] for name in names]


def _name(value: Value) -> str:
    """The layer; of graphs that come from no file, the operator and its type."""
    if value.where or value.op is None:
        return layer_of(value.where)
    return f"{value.op.name}: {value.type}"
