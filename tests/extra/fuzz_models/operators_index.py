"""Cases whose inputs or results are positions: gather, scatter, order, selection."""

from __future__ import annotations

import math

import numpy as np

from tests.extra.fuzz_models.draft import LARGEST, Draft, Tensor, Unfit
from tests.extra.fuzz_models.table import case


def positions(d: Draft, name: str, shape: tuple[int, ...], n: int, port: int = 1) -> Tensor:
    """Valid positions on an axis of n elements, some counted from its end."""
    if n == 0 and math.prod(shape):
        raise Unfit("an empty axis has no positions")
    low = -n if d.opset >= 11 and d.chance(0.4) else 0
    kind = d.dtype(t for t in d.types(name, port) if t in ("int32", "int64"))
    return d.feed(d.rng.integers(low, max(n, low + 1), shape).astype(kind))


@case("Gather")
def gather(d: Draft, name: str) -> None:
    x = d.take(d.types(name), 1)
    axis = d.axis(x.rank) if d.opset >= 11 else d.integer(0, x.rank - 1)
    shape = d.shape(0, 3)
    if math.prod(shape) * math.prod(x.shape) > LARGEST * max(x.shape[axis], 1):
        raise Unfit("too large")
    given = axis if axis or d.chance() else None
    d.add(name, x, positions(d, name, shape, x.shape[axis]), axis=given)


@case("GatherElements")
def gather_elements(d: Draft, name: str) -> None:
    x = d.take(d.types(name), 1, zero=False)
    axis = d.axis(x.rank)
    shape = tuple(d.integer(1, n) for n in x.shape)
    shape = tuple(d.size() if i == axis % x.rank else n for i, n in enumerate(shape))
    d.add(name, x, positions(d, name, shape, x.shape[axis]), axis=axis)


def tuples(d: Draft, lead: tuple[int, ...], sizes: tuple[int, ...], unique: bool) -> Tensor:
    """Index tuples into axes of these sizes, of shape (*lead, len(sizes))."""
    count = math.prod(lead)
    if 0 in sizes and count:
        raise Unfit("an empty axis has no positions")
    total = math.prod(sizes)
    if unique and count > total:
        raise Unfit("too few places")
    flat = d.rng.permutation(total)[:count] if unique else d.rng.integers(0, max(total, 1), count)
    array = np.stack(np.unravel_index(flat, sizes), -1) if sizes else np.zeros((count, 0))
    if d.opset >= 11 and d.chance(0.3):
        array = np.where(d.rng.random(array.shape) < 0.5, array, array - np.array(sizes))
    return d.feed(array.reshape(*lead, len(sizes)).astype(np.int64))


@case("GatherND")
def gather_nd(d: Draft, name: str) -> None:
    x = d.take(d.types(name), 1, zero=False)
    batch = d.integer(0, min(2, x.rank - 1)) if d.opset >= 12 else 0
    depth = d.integer(1, x.rank - batch)
    lead = (*x.shape[:batch], *d.shape(0 if batch else 1, 2))
    index = tuples(d, lead, x.shape[batch : batch + depth], False)
    if math.prod(lead) * math.prod(x.shape[batch + depth :]) > LARGEST:
        raise Unfit("too large")
    d.add(name, x, index, batch_dims=batch or None)


def reduction(d: Draft, name: str, dtype: str) -> str | None:
    """A way to combine, where this opset has them and the type can."""
    if not d.has(name, "reduction"):
        return None
    options = [None, "none", "add", "mul"] + (["max", "min"] if d.opset >= 18 else [])
    return None if dtype in ("bool", "str") else d.choose(options)


@case("ScatterElements")
def scatter_elements(d: Draft, name: str) -> None:
    x = d.take(d.types(name), 1, zero=False)
    axis = d.axis(x.rank)
    way = reduction(d, name, x.dtype)
    shape = tuple(d.integer(1, n) for n in x.shape)
    n = x.shape[axis]
    index = positions(d, name, shape, n)
    if way in (None, "none"):  # which of several writes to one place wins is not defined
        full = [*shape]
        full[axis] = n
        order = np.argsort(d.rng.random(full), axis)
        kept = np.take(order, range(shape[axis]), axis)
        index = d.feed(kept.astype(index.array.dtype))
    d.add(name, x, index, d.tensor(shape, x.dtype), axis=axis, reduction=way)


@case("ScatterND")
def scatter_nd(d: Draft, name: str) -> None:
    x = d.take(d.types(name), 1, zero=False)
    depth = d.integer(1, x.rank)
    lead = d.shape(1, 2)
    way = reduction(d, name, x.dtype)
    index = tuples(d, lead, x.shape[:depth], way in (None, "none"))
    shape = (*lead, *x.shape[depth:])
    if math.prod(shape) > LARGEST:
        raise Unfit("too large")
    d.add(name, x, index, d.tensor(shape, x.dtype), reduction=way)


@case("OneHot")
def one_hot(d: Draft, name: str) -> None:
    kind = d.dtype(t for t in d.types(name) if t in ("int64", "int32", "float32"))
    depth = d.integer(1, 6)
    index = d.rng.integers(-depth - 1, depth + 2, d.shape(1, 3)).astype(kind)
    deep = d.scalar(depth, d.choose(["int64", "int32", "float32"]))
    if d.chance(0.3):
        deep = d.constant(np.array([depth], np.int64))
    values = d.tensor((2,), d.dtype(d.types(name, 2)))
    axis = d.integer(-index.ndim - 1, index.ndim) if d.chance() else None
    d.add(name, d.feed(index), deep, values, axis=axis)


@case("ArgMax", "ArgMin")
def argument(d: Draft, name: str) -> None:
    x = d.take(d.types(name), 1, zero=False)
    axis = d.axis(x.rank) if d.opset >= 11 else d.integer(0, x.rank - 1)
    if _has_nan(x):
        raise Unfit("where NaN stands in an order is not defined")
    last = d.choose([None, 0, 1]) if d.has(name, "select_last_index") else None
    d.add(
        name,
        x,
        axis=axis if d.chance(0.8) else None,
        keepdims=d.choose([None, 0, 1]),
        select_last_index=last,
    )


@case("TopK")
def top_k(d: Draft, name: str) -> None:
    x = d.take(d.types(name), 1, zero=False)
    axis = d.axis(x.rank) if d.opset >= 11 else d.integer(0, x.rank - 1)
    if _has_nan(x):
        raise Unfit("where NaN stands in an order is not defined")
    k = d.integer(0 if d.chance(0.05) else 1, x.shape[axis])
    if d.has(name, "k"):
        d.add(name, x, outputs=2, axis=axis, k=k)
        return
    more = {}
    if d.has(name, "largest"):
        more = {"largest": d.choose([None, 0, 1]), "sorted": d.choose([None, 1])}
    d.add(name, x, d.ints([k]), outputs=2, axis=axis, **more)


@case("Unique")
def unique(d: Draft, name: str) -> None:
    x = d.take(d.types(name), 1, zero=False)
    if _has_nan(x):
        raise Unfit("whether NaNs are one value is not defined")
    axis = d.axis(x.rank) if d.chance() else None
    d.add(name, x, outputs=d.integer(1, 4), axis=axis, sorted=d.choose([None, 0, 1]))


def _has_nan(x: Tensor) -> bool:
    return x.dtype[:5] == "float" and bool(np.isnan(x.array).any())


@case("NonZero")
def non_zero(d: Draft, name: str) -> None:
    d.add(name, d.take(d.types(name), 1))


@case("Compress")
def compress(d: Draft, name: str) -> None:
    x = d.take(d.types(name), 1)
    axis = None
    if d.chance():
        axis = d.axis(x.rank) if d.opset >= 11 else d.integer(0, x.rank - 1)
    n = math.prod(x.shape) if axis is None else x.shape[axis]
    condition = d.feed(d.array((d.integer(0, n),), "bool"))
    d.add(name, x, condition, axis=axis)


@case("NonMaxSuppression")
def non_max_suppression(d: Draft, name: str) -> None:
    batch, boxes, classes = d.integer(1, 2), d.integer(1, 8), d.integer(1, 3)
    corners = d.rng.uniform(0, 1, (batch, boxes, 4)).astype(np.float32)
    center = d.chance(0.4)
    scores = d.rng.permutation(batch * classes * boxes).reshape(batch, classes, boxes)
    values = [d.feed(corners), d.feed((scores / 10).astype(np.float32))]
    limits = [
        d.constant(np.array([d.integer(0, 4)], np.int64)),
        d.constant(np.array([d.choose([0.0, 0.3, 0.5, 0.9])], np.float32)),
        d.constant(np.array([d.choose([0.0, 0.5, 1.0])], np.float32)),
    ]
    kept = limits[: d.integer(0, 3)]
    d.add(name, *values, *kept, center_point_box=int(center) if d.chance(0.8) else None)


@case("CumSum", "CumProd")
def cumulate(d: Draft, name: str) -> None:
    x = d.take(d.types(name), 1)
    axis = d.scalar(d.axis(x.rank), d.choose(["int64", "int32"]))
    d.add(name, x, axis, exclusive=d.choose([None, 0, 1]), reverse=d.choose([None, 0, 1]))


@case("TensorScatter")
def tensor_scatter(d: Draft, name: str) -> None:
    x = d.take(d.types(name), 3, 4, zero=False)
    axis = d.choose([None, x.rank - 2, -2, 1])
    at = -2 if axis is None else axis
    n = x.shape[at]
    count = d.integer(1, n)
    shape = list(x.shape)
    shape[at] = count
    mode = d.choose([None, "linear", "circular"])
    last = n - 1 if mode == "circular" else n - count
    where = d.ints(d.integer(0, last) for _ in range(x.shape[0])) if d.chance(0.8) else None
    d.add(name, x, d.tensor(shape, x.dtype), where, axis=axis, mode=mode)
