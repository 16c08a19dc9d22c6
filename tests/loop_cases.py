"""Loops of known length, in which values meet in every way that a memory plan could get wrong."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import brim.ops.primitive as p
from brim.graph import Graph, Value, const, placeholder
from brim.ops.control import loop, results_of
from brim.types import BOOL, F32, I32, I64, Type
from tests.networks import normal

ROW = Type((2, 5), F32)  # no whole number of cache lines


def repeated(
    body: Callable[..., list[Value]], start: list[Value], captured: list[Value], trips: int
) -> list[Value]:
    """The results of a loop: body(iteration, *carried, *captured) -> [*carried, *rows]."""
    index, alive = placeholder(Type((), I64)), placeholder(Type((), BOOL))
    inner = [placeholder(value.type) for value in (*start, *captured)]
    results = body(index, *inner)
    inputs = {f"i{number}": value for number, value in enumerate((index, alive, *inner))}
    outputs = {f"o{number}": value for number, value in enumerate(results)}
    return results_of(
        loop(
            const(np.int64(trips)),
            const(np.bool_(True)),
            *start,
            *captured,
            body=Graph(inputs, {"again": const(np.bool_(True)), **outputs}, "body"),
            carried=len(start),
            length=trips,
        )
    )


def _running(i: Value, a: Value, xs: Value) -> list[Value]:
    total = p.add(a, p.gather(xs, i, axis=0))
    return [total, total]


def _both(i: Value, a: Value, xs: Value) -> list[Value]:
    total = p.add(p.mul(a, 0.5), p.gather(xs, i, axis=0))
    return [total, p.mul(total, 2.0), total, total]


def _swapped(i: Value, a: Value, b: Value, xs: Value) -> list[Value]:
    return [b, a, p.sub(a, b)]


def _same(i: Value, a: Value, b: Value, xs: Value) -> list[Value]:
    new = p.add(p.mul(a, b), p.gather(xs, i, axis=0))
    return [new, new, new]


def _kept(i: Value, a: Value, xs: Value) -> list[Value]:
    return [a, p.add(a, p.cast(i, to=F32))]


def _product(i: Value, a: Value, xs: Value) -> list[Value]:
    mixed = p.tanh(p.contract(a, const(normal(5, 5)), spec="mk,nk->mn"))
    deep = p.contract(p.add(mixed, a), const(normal(5, 5)), spec="mk,nk->mn")
    return [p.add(p.tanh(deep), p.gather(xs, i, axis=0)), p.reduce(deep, op="max", axes=(1,))]


def _from_the_end(i: Value, a: Value, xs: Value) -> list[Value]:
    last = const(np.int64(xs.shape[0] - 1))
    new = p.add(a, p.gather(xs, p.sub(last, i), axis=0))
    return [new, new]


def _narrow(i: Value, a: Value, xs: Value) -> list[Value]:
    total = p.add(a, p.gather(xs, p.cast(i, to=I32), axis=0))
    return [total, total]


CASES: dict[str, tuple[Callable[..., list[Value]], int]] = {  # the body, and how much it carries
    "a running sum, which is carried and stacked": (_running, 1),
    "stacked twice, and something else": (_both, 1),
    "two values that change places": (_swapped, 2),
    "one value carried twice and stacked": (_same, 2),
    "a value that stays, and the number of the iteration": (_kept, 1),
    "products, whose temporaries share memory": (_product, 1),
    "rows from the end": (_from_the_end, 1),
    "rows by the iteration as i32": (_narrow, 1),
}


def case(name: str, trips: int) -> tuple[Graph, dict[str, np.ndarray]]:
    """A graph around the loop of a case, and inputs: what a loop reads and gives is also used
    outside, before and after it."""
    body, carried = CASES[name]
    x = placeholder(ROW, "x")
    xs = placeholder(Type((7, 2, 5), F32), "xs")
    start = [p.mul(x, 2.0), x][:carried]
    found = repeated(body, start, [p.add(xs, 1.0)], trips)
    outputs = {f"y{number}": value for number, value in enumerate(found)}
    outputs["sum"] = p.add(found[0], p.mul(start[0], 3.0))
    outputs["turned"] = p.reduce(found[-1], op="add", axes=(0,))
    return Graph({"x": x, "xs": xs}, outputs, "loops"), {"x": normal(2, 5), "xs": normal(7, 2, 5)}
