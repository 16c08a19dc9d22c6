"""How much of a difference is rounding: the graph evaluated again and again with noise.

Two correct engines round at different places, and a graph may amplify that without limit (a
cancellation, a floor, an argmax). So every inexact operation of the expanded graph is disturbed by
a few units in its last place, and the spread of the results is what rounding can do to each single
element (Monte Carlo arithmetic). Exact operations are not disturbed: small whole numbers stay.
Sub-graphs over tensors (an LSTM's step) are disturbed inside, each time they run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from brim.errors import BrimError
from brim.graph import Graph, Value, apply_numpy
from brim.passes.expand import expand
from tests.extra.fuzz_models.models import is_stored

SAMPLES = 5
UNITS = 4  # units in the last place: what a polynomial of another engine may be off
EXACT = {"neg", "absolute", "maximum", "minimum", "select", "floor", "ceil", "rint", "trunc"}
SUMS = {"reduce", "contract", "cumulate"}


def spread(graph: Graph, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Per output element: the largest distance between noisy results; inf where they jump.

    An output whose *shape* depends on rounding has a spread of inf in the shape ().
    """
    expanded = expand(graph)
    rng = np.random.default_rng(0)
    samples = [_evaluate(expanded, feeds, rng, noisy=False)]
    for _ in range(SAMPLES - 1):
        with contextlib.suppress(BrimError):  # noise that makes an index invalid says nothing
            samples.append(_evaluate(expanded, feeds, rng, noisy=True))
    return {name: _distance([sample[name] for sample in samples]) for name in graph.outputs}


def _distance(arrays: list[Any]) -> np.ndarray:
    first = np.asarray(arrays[0])
    if any(np.shape(array) != first.shape for array in arrays):
        return np.array(np.inf)
    if first.dtype == object:
        return np.zeros(first.shape)
    if first.dtype.kind != "f" or is_stored(first.dtype):
        same = np.all([array == first for array in arrays], axis=0)
        return np.where(same, 0.0, np.inf)
    wide = np.stack([np.asarray(array, np.float64) for array in arrays])
    with np.errstate(all="ignore"):
        size = wide.max(0) - wide.min(0)
        same = np.all((wide == wide[0]) | (np.isnan(wide) & np.isnan(wide[0])), axis=0)
    return np.where(same, 0.0, np.where(np.isfinite(wide).all(0), size, np.inf))


def _evaluate(
    graph: Graph, feeds: Mapping[str, np.ndarray], rng: np.random.Generator, noisy: bool
) -> dict[str, Any]:
    env: dict[int, Any] = {
        id(value): np.asarray(feeds[name], value.type.dtype.numpy)
        for name, value in graph.inputs.items()
    }
    for value in graph.values():
        if id(value) in env:
            continue
        if value.data is not None:
            env[id(value)] = value.data
            continue
        args = [env[id(arg)] for arg in value.args]
        if noisy and _has_bodies(value):
            assert value.op is not None
            result = value.op.numpy(
                *args, **value.attrs, run=lambda body, given: _evaluate(body, given, rng, noisy)
            )
        else:
            result = apply_numpy(value, args)
        env[id(value)] = _disturbed(value, args, result, rng) if noisy else result
    return {name: env[id(value)] for name, value in graph.outputs.items()}


def _has_bodies(value: Value) -> bool:
    """Whether a value runs sub-graphs, all of whose inputs and outputs are tensors."""
    bodies = [attr for attr in value.attrs.values() if isinstance(attr, Graph)]
    ports = [v for body in bodies for v in (*body.inputs.values(), *body.outputs.values())]
    return bool(bodies) and not any(v.dtype.is_object for v in ports)


def _disturbed(value: Value, args: list[Any], result: Any, rng: np.random.Generator) -> Any:
    op = value.op
    assert op is not None
    floats = isinstance(result, np.ndarray) and result.dtype.kind == "f"
    if floats and is_stored(result.dtype):
        return result
    if not floats or op.kind not in ("elementwise", "reduce", "contract") or op.name in EXACT:
        return result
    if op.name == "reduce" and value.attrs["op"] in ("max", "min"):
        return result
    wide = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in args]
    with np.errstate(all="ignore"):
        if op.name == "cast":
            exact = wide[0].astype(np.float64)
        else:
            exact = np.asarray(op.numpy(*wide, **value.attrs), np.float64)
        scale = np.abs(exact)
        inexact = result != exact
        overflows = np.zeros(result.shape, bool)
        if op.name in SUMS:  # terms may cancel: rounding goes with their size
            sizes = [np.abs(a).astype(np.longdouble) for a in args]
            sums = np.abs(op.numpy(*sizes, **value.attrs))
            overflows = np.isfinite(sums) & (sums > np.finfo(result.dtype).max)
            scale = np.maximum(scale, sums.astype(np.float64))
            inexact |= sums != sums.astype(result.dtype)  # a partial sum may be, in some order
        if result.dtype == np.float64:
            inexact = result != np.rint(result)
        if op.name in ("mul", "div") and any(map(_is_folded, value.args)):
            inexact = np.ones(result.shape, bool)
        step = UNITS * np.finfo(result.dtype).eps * scale * rng.uniform(-1, 1, result.shape)
        moved = (exact + step).astype(result.dtype)
        moved = np.where(inexact & np.isfinite(exact), moved, result)
        small = np.abs(moved) < 2 * np.finfo(result.dtype).smallest_normal
        moved = np.where(small & (rng.random(result.shape) < 0.5), 0, moved)  # some flush it to 0
        # another order of the terms overflows elsewhere: any result will do
        return np.where(overflows, rng.uniform(-1, 1), moved).astype(result.dtype)


def _is_folded(value: Value) -> bool:
    """Whether a scalar constant looks like a quotient: importing may have computed it."""
    if value.data is None or value.data.size != 1 or value.data.dtype.kind != "f":
        return False
    mantissa, _ = np.frexp(float(value.data.reshape(())))
    return bool(mantissa * 2**12 != np.rint(mantissa * 2**12))
