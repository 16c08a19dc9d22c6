"""Control flow: a choice between two graphs, and a loop over one graph.

Sub-graphs see nothing from outside: what they capture is passed as arguments. How front ends decide
between unrolling, choosing at import and these operators is not here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from brim.containers import box
from brim.errors import OpError
from brim.graph import Graph, Value, evaluate
from brim.ops.primitive import item
from brim.ops.registry import primitive
from brim.types import BOOL, I32, I64, Type


def _results(types: list[Type]) -> Type | tuple[Type, ...]:
    return types[0] if len(types) == 1 else tuple(types)


def _arrays(found: list[np.ndarray]) -> Any:
    return found[0] if len(found) == 1 else tuple(found)


def merge_types(a: Type, b: Type) -> Type:
    """The type of a value that has type a or type b. Raises OpError if the dtypes differ."""
    if a.dtype != b.dtype:
        raise OpError(f"a value cannot be {a} in one case and {b} in another")
    return a if a == b else Type(None, a.dtype)


def _check_inputs(graph: Graph, types: tuple[Type, ...]) -> None:
    wanted = [value.type for value in graph.inputs.values()]
    fits = len(wanted) == len(types) and all(
        w == t or (w.shape is None and w.dtype == t.dtype) for w, t in zip(wanted, types)
    )
    if not fits:
        listed = (", ".join(map(str, side)) for side in (wanted, types))
        raise OpError("graph {!r} takes {}, not {}".format(graph.name, *listed))


Run = Callable[[Graph, dict[str, np.ndarray]], dict[str, np.ndarray]]


def _run(run: Run, graph: Graph, arrays: tuple[np.ndarray, ...]) -> list[np.ndarray]:
    found = run(graph, dict(zip(graph.inputs, arrays))).values()
    outputs = graph.outputs.values()
    return [box(x) if v.type.dtype.kind == "o" else x for x, v in zip(found, outputs)]


def _cond(predicate: Type, *captured: Type, then: Graph, orelse: Graph) -> Any:
    if predicate.dtype.name != "bool" or (predicate.shape is not None and predicate.size != 1):
        raise OpError(f"the condition is {predicate}, not one bool")
    if len(then.outputs) != len(orelse.outputs) or not then.outputs:
        raise OpError(f"branches give {len(then.outputs)} and {len(orelse.outputs)} results")
    _check_inputs(then, captured)
    _check_inputs(orelse, captured)
    pairs = zip(then.outputs.values(), orelse.outputs.values())
    return _results([merge_types(a.type, b.type) for a, b in pairs])


def _cond_numpy(
    predicate: np.ndarray,
    *captured: np.ndarray,
    then: Graph,
    orelse: Graph,
    run: Run = evaluate,
) -> Any:
    return _arrays(_run(run, then if np.asarray(predicate).reshape(-1)[0] else orelse, captured))


@primitive("control", _cond, _cond_numpy)
def cond(predicate, *captured, then, orelse):
    """The results of graph `then` if the predicate holds, else of graph `orelse`, on `captured`.

    A result whose shape differs between the branches has type f32[?].
    """


def _loop(
    trips: Type,
    start: Type,
    *values: Type,
    body: Graph,
    carried: int,
    length: int | None,
    empty: tuple[tuple[int, ...], ...] = (),
) -> Any:
    inputs, outputs = list(body.inputs.values()), list(body.outputs.values())
    if len(inputs) != 2 + len(values) or not 0 <= carried <= min(len(values), len(outputs) - 1):
        raise OpError(f"the body takes {len(inputs)} values and gives {len(outputs)}")
    if trips.dtype.name != "i64" or start.dtype.name != "bool":
        raise OpError(f"trip count {trips} and condition {start} must be i64[] and bool[]")
    _check_inputs(body, (Type((), I64), Type((), BOOL), *values))
    for given, result in zip(values[:carried], outputs[1:]):
        if merge_types(given, result.type) != given:
            raise OpError(f"a carried value is {given} before and {result.type} after an iteration")
    rows = outputs[1 + carried :]
    if any(row.dtype.kind == "o" for row in rows):
        raise OpError("a loop stacks tensors only; containers are carried")
    if empty and len(empty) != len(rows):
        raise OpError(f"{len(empty)} shapes for {len(rows)} rows")
    stacked = [
        Type((length, *o.type.dims), o.type.dtype)
        if length is not None and o.type.is_static
        else Type(None, o.type.dtype)
        for o in rows
    ]
    results = [*values[:carried], *stacked]
    if not results:
        raise OpError("a loop without results")
    return _results(results)


def _loop_numpy(
    trips: np.ndarray,
    start: np.ndarray,
    *values: np.ndarray,
    body: Graph,
    carried: int,
    length: int | None,
    empty: tuple[tuple[int, ...], ...] = (),
    run: Run = evaluate,
) -> Any:
    state, captured = list(values[:carried]), values[carried:]
    rows: list[list[np.ndarray]] = [[] for _ in range(len(body.outputs) - 1 - carried)]
    alive, count, limit = (
        bool(np.asarray(start).reshape(-1)[0]),
        0,
        int(np.asarray(trips).reshape(-1)[0]),
    )
    while alive and count < limit:
        index = np.asarray(count, np.int64)
        results = _run(run, body, (index, np.asarray(alive), *state, *captured))
        alive = bool(np.asarray(results[0]).reshape(-1)[0])
        state = results[1 : 1 + carried]
        for row, part in zip(rows, results[1 + carried :]):
            row.append(part)
        count += 1
    stacked = []
    for i, output in enumerate(list(body.outputs.values())[1 + carried :]):
        shape = output.type.dims if output.type.is_static else empty[i] if empty else ()
        none = np.zeros((0, *shape), output.type.dtype.numpy)
        stacked.append(np.stack(rows[i]) if rows[i] else none)
    return _arrays([*state, *stacked])


@primitive("control", _loop, _loop_numpy)
def loop(trips, start, *values, body, carried, length, empty=()):
    """Runs graph `body` up to `trips` times while its condition holds.

    values: `carried` values that change, then captured ones that do not. The body takes (iteration
    i64[], condition bool[], carried..., captured...) and gives (condition, carried..., rows...).
    Results: the last carried values, then the rows of all iterations stacked on a new first axis,
    `length` of them (None: known only at run time, so their type is f32[?]). empty: the shape of a
    row for each result whose rows have no known shape, where there is no iteration.
    """


def row_number(index: Value, iteration: Value) -> tuple[int, int] | None:
    """(a, b) of an index in a loop's body that is a + b * iteration, b 1 or -1; None for others.

    An index of i32 counts too: it holds the numbers of all rows that memory holds.
    """
    if index is iteration:
        return 0, 1
    if index.op is None or index.type.size != 1:
        return None
    if index.op.name == "reshape" or (index.op.name == "cast" and index.dtype in (I32, I64)):
        return row_number(index.args[0], iteration)
    if index.op.name not in ("add", "sub"):
        return None
    parts = [_whole(arg) or row_number(arg, iteration) for arg in index.args]
    (a, b), (c, d) = (part or (0, 2) for part in parts)
    sign = 1 if index.op.name == "add" else -1
    found = a + sign * c, b + sign * d
    return found if abs(found[1]) == 1 else None


def _whole(value: Value) -> tuple[int, int] | None:
    return None if value.data is None else (int(value.data.reshape(-1)[0]), 0)


def results_of(value: Any) -> list:
    """The results of a value with one or several, as a list of values."""
    if not isinstance(value.type, tuple):
        return [value]
    return [item(value, index=i) for i in range(len(value.type))]
