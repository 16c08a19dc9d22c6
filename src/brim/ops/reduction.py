"""Reductions, running sums, and the contraction that every matmul and convolution is."""

from __future__ import annotations

import math

import numpy as np

from brim.errors import OpError
from brim.graph import Value, const
from brim.ops.elementwise import (
    cast,
    check_plain,
    div,
    eq,
    mul,
    same_dtype,
    select,
    where,
)
from brim.ops.movement import (
    COMBINE,
    broadcast,
    check_axes,
    inverse,
    reshape,
    transpose,
)
from brim.ops.registry import primitive
from brim.types import I32, I64, Type


def _reduce(x: Type, *, op: str, axes: tuple[int, ...]) -> Type:
    check_axes(x, axes)
    check_plain(x.dtype)
    if op not in COMBINE:
        raise OpError(f"reduction {op!r} is not one of {list(COMBINE)}")
    if op in ("max", "min") and any(x.dims[a] == 0 for a in axes):
        raise OpError(f"the {op} of no elements is not defined")
    return Type(tuple(1 if i in axes else n for i, n in enumerate(x.dims)), x.dtype)


def _reduce_numpy(x: np.ndarray, *, op: str, axes: tuple[int, ...]) -> np.ndarray:
    if not axes:
        return x
    if x.dtype == np.float16:  # accumulate in f32 and round once
        return COMBINE[op].reduce(x.astype(np.float32), axis=axes, keepdims=True).astype(x.dtype)
    return COMBINE[op].reduce(x, axis=axes, keepdims=True, dtype=x.dtype)


def _reduce_grad(g: Value, y: Value, x: Value, *, op: str, axes: tuple[int, ...]) -> list:
    match op:
        case "add":
            return [broadcast(g, shape=x.shape)]
        case "max" | "min":  # ties share the cotangent equally
            hit = eq(x, y)
            count = reduce(cast(hit, to=g.dtype), op="add", axes=axes)
            return [where(hit, broadcast(div(g, count), shape=x.shape))]
        case "mul":
            return [mul(g, _product_of_others(x, axes))]
    return [None]


def _product_of_others(x: Value, axes: tuple[int, ...]) -> Value:
    """For each element the product of the others over `axes`, also where some of them are 0."""
    kept = tuple(axis for axis in range(len(x.shape)) if axis not in axes)
    perm = (*kept, *axes)
    turned = transpose(x, perm=perm)
    shape = (*turned.shape[: len(kept)], math.prod(turned.shape[len(kept) :]))
    flat, last = reshape(turned, shape=shape), len(kept)
    sides = (
        cumulate(flat, op="mul", axis=last, exclusive=True, reverse=reverse)
        for reverse in (False, True)
    )
    return transpose(reshape(mul(*sides), shape=turned.shape), perm=inverse(perm))


@primitive("reduce", _reduce, _reduce_numpy, _reduce_grad)
def reduce(x, *, op, axes):
    """x combined by `op` (add mul max min and or) over `axes`, which stay with size 1."""


def _argreduce(x: Type, *, op: str, axis: int, last: bool) -> Type:
    check_axes(x, (axis,))
    check_plain(x.dtype)
    if x.dims[axis] == 0:
        raise OpError(f"arg{op} of no elements is not defined")
    return Type(tuple(1 if i == axis else n for i, n in enumerate(x.dims)), I64)


def _argreduce_numpy(x: np.ndarray, *, op: str, axis: int, last: bool) -> np.ndarray:
    find = np.argmax if op == "max" else np.argmin
    if last:
        return x.shape[axis] - 1 - find(np.flip(x, axis), axis=axis, keepdims=True)
    return find(x, axis=axis, keepdims=True)


@primitive("reduce", _argreduce, _argreduce_numpy)
def argreduce(x, *, op, axis, last):
    """Index (i64) of the max or min along `axis`, which stays with size 1: of equals the first, or
    the `last`."""


def _cumulate(x: Type, *, op: str, axis: int, exclusive: bool, reverse: bool) -> Type:
    check_axes(x, (axis,))
    check_plain(x.dtype)
    return x


def _cumulate_numpy(
    x: np.ndarray, *, op: str, axis: int, exclusive: bool, reverse: bool
) -> np.ndarray:
    y = np.flip(x, axis) if reverse else x
    y = COMBINE[op].accumulate(y, axis=axis, dtype=x.dtype)
    if exclusive and x.size:
        unit = np.full_like(np.take(y, [0], axis), {"add": 0, "mul": 1}[op])
        y = np.concatenate([unit, np.take(y, range(x.shape[axis] - 1), axis)], axis)
    return np.flip(y, axis) if reverse else y


def _cumulate_grad(
    g: Value, y: Value, x: Value, *, op: str, axis: int, exclusive: bool, reverse: bool
) -> list:
    if op == "add":
        return [cumulate(g, op="add", axis=axis, exclusive=exclusive, reverse=not reverse)]
    # product i has the slope, by element k, of what is before k times what is from k to i: a table
    # of n * n, which is right where elements are 0, too
    n, shape = x.shape[axis], x.shape
    by_k = tuple(n if i == axis else 1 for i in range(len(shape)))
    k, i = np.arange(n)[:, None], np.arange(n)
    after, upto = (
        (i < k, i < k if exclusive else i <= k)
        if reverse
        else (i > k, i > k if exclusive else i >= k)
    )
    table = (*shape[: axis + 1], *shape[axis:])

    def wide(x: Value) -> Value:
        return broadcast(reshape(x, shape=(*shape[:axis], 1, *shape[axis:])), shape=table)

    def mask(holds: np.ndarray) -> Value:
        return const(holds.reshape((n, *by_k[axis:])))

    factors = select(mask(after), wide(x), const(np.ones((), x.dtype.numpy)))
    products = cumulate(factors, op="mul", axis=axis + 1, exclusive=exclusive, reverse=reverse)
    parts = where(mask(upto), mul(wide(g), products))
    inner = reshape(reduce(parts, op="add", axes=(axis + 1,)), shape=shape)
    before = cumulate(x, op="mul", axis=axis, exclusive=True, reverse=reverse)
    return [mul(before, inner)]


@primitive("scan", _cumulate, _cumulate_numpy, _cumulate_grad)
def cumulate(x, *, op, axis, exclusive, reverse):
    """Running add or mul along `axis`; exclusive: without the element itself; reverse: from the
    end."""


def parse_spec(spec: str) -> tuple[str, str, str]:
    """'nk,ko->no' -> ('nk', 'ko', 'no'). Letters that the output lacks are summed over."""
    left, _, out = spec.partition("->")
    a, _, b = left.partition(",")
    return a, b, out


def _contract(a: Type, b: Type, *, spec: str) -> Type:
    la, lb, lo = parse_spec(spec)
    if len(la) != a.rank or len(lb) != b.rank or len(set(la)) != len(la) or len(set(lb)) != len(lb):
        raise OpError(f"spec {spec!r} does not fit ranks {a.rank} and {b.rank}")
    if not set(lo) <= set(la + lb) or len(set(lo)) != len(lo):
        raise OpError(f"spec {spec!r} has output letters that no input has")
    extent = dict(zip(la, a.dims))
    for letter, n in zip(lb, b.dims):
        if extent.setdefault(letter, n) != n:
            raise OpError(f"axis {letter!r} of {spec!r} has sizes {extent[letter]} and {n}")
    short = all(t.dtype.is_integer and t.dtype.bits <= 16 for t in (a, b))
    dtype = I32 if short else same_dtype(a, b)
    if dtype.kind not in "fiu":
        raise OpError(f"{dtype} cannot be multiplied and added")
    return Type(tuple(extent[letter] for letter in lo), dtype)


def _contract_numpy(a: np.ndarray, b: np.ndarray, *, spec: str) -> np.ndarray:
    if a.dtype.kind in "iu" and a.itemsize <= 2:
        a, b = a.astype(np.int32), b.astype(np.int32)
    if a.dtype == np.float16:
        wide = _contract_numpy(a.astype(np.float32), b.astype(np.float32), spec=spec)
        return wide.astype(a.dtype)
    return np.einsum(spec, a, b, optimize=a.size * b.size > 4096)


def _contract_grad(g: Value, y: Value, a: Value, b: Value, *, spec: str) -> list:
    la, lb, lo = parse_spec(spec)
    grads = []
    for mine, value, theirs, other in ((la, a, lb, b), (lb, b, la, a)):
        have = set(lo) | set(theirs)
        kept = "".join(c for c in mine if c in have)  # other letters were summed: broadcast back
        part = contract(g, other, spec=f"{lo},{theirs}->{kept}")
        shape = tuple(n if c in have else 1 for c, n in zip(mine, value.shape))
        grads.append(broadcast(reshape(part, shape=shape), shape=value.shape))
    return grads


@primitive("contract", _contract, _contract_numpy, _contract_grad)
def contract(a, b, *, spec):
    """Sum of products over the letters of `spec` that its output lacks: every matrix product and
    convolution. Integers of 8 and 16 bits, of which the operands may have different ones, give
    sums in i32."""
