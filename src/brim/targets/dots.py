"""Dot instructions in LLVM IR: operands loaded by groups of points, and what the sums start from.

Which reductions they compute, and what the instructions mean, is `brim.kernels.dots`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from brim.kernels.dots import DOTS, Dot, Product, load_of
from brim.kernels.ir import At, Expr, Guard, Index, Num, dtype_of_expr
from brim.targets import shuffles
from brim.targets.access import Cell, Condition, State
from brim.targets.builder import Builder, Value, lanes_of, scalar_of, vector_of, with_scalar
from brim.targets.instructions import memory_type
from brim.types import U8, DType

if TYPE_CHECKING:
    from brim.targets.llvm import Emitter


def is_packed(product: Product) -> bool:
    """Whether the points of a group lie side by side in the operand of each lane's own."""
    terms = product.own.index.terms
    return any(t.axis == product.axis and t.block == product.dot.group for t in terms)


def place(product: Product, state: State, cell: Cell, vector: str | None) -> int:
    """Where a group's elements lie, apart from the lanes: the same for those that it shares with
    another cell's."""
    at = load_of(product.shared)
    return sum(
        term.stride * (state.env[term.axis].constant + cell.offset(term.axis))
        for term in at.index.terms
        if term.axis != vector
    )


def start(emitter: Emitter, product: Product, state: State, cell: Cell) -> Value:
    """What a cell's sums start from: packing has put it before each block of columns."""
    assert product.shift
    outer = tuple(t for t in product.own.index.terms if t.axis in emitter.kernel.outer)
    at, kind = At(product.own.buf, Index(outer)), vector_of("i32", cell.lanes)
    pointer = emitter.access.pointer(at, state.env, cell, None, [], 4 * cell.lanes)
    return emitter.b.load(pointer, kind, 4, invariant=True)


def multiply_add(
    emitter: Emitter, product: Product, state: State, cell: Cell, total: Value
) -> Value:
    """A cell's sums plus the products of one group of points."""
    b, dot, point = emitter.b, product.dot, state.env[product.axis]
    left = dot.group
    if point.variable is None:
        left = min(left, emitter.kernel.sizes[product.axis] - point.constant)
    if product.by_lane:
        shared = _interleaved(emitter, product, state, cell, left)
    else:
        points = _shared(emitter, product.shared, state, cell, left, dot)
        # a narrower cell takes the lowest lanes of what the others need: else registers run out
        lanes = max(other.lanes for other in state.cells)
        shared = _as_words(emitter, product, points, lanes)
        if cell.lanes < lanes:
            shared = _first(b, shared, cell.lanes)
    own = emitter.access.load_group(product.own, state.env, cell, dot.group)
    dtype = emitter.kernel.buffers[product.own.buf].dtype
    if dot.parts == 1 and dtype != dot.own:
        widen = "sext" if dtype.kind == "i" else "zext"
        own = b.cast(widen, own, vector_of("i16", lanes_of(own.type)))
    for part in range(dot.parts if left > 1 else 1):
        pair = shared, own
        if dot.parts > 1:
            pair = _alternate(b, shared, part, U8), _alternate(b, own, part, dtype)
        total = _instruction(b, dot, total, *pair)
    return total


def _alternate(b: Builder, octets: Value, part: int, dtype: DType) -> Value:
    """Every second byte, from the first (part 0) or the second on, as 16-bit integers.

    By shifts: processors that widen bytes by shuffling them have fewer units for it.
    """
    size = lanes_of(octets.type) * (4 if scalar_of(octets.type) == "i32" else 1)
    kind = vector_of("i16", size // 2)
    words, eight = b.bitcast(octets, kind), b.const(kind, 8)
    if dtype.kind == "u":
        return b.lshr(words, eight) if part else b.and_(words, b.const(kind, 255))
    return b.ashr(words if part else b.shl(words, eight), eight)


def _shared(
    emitter: Emitter,
    expr: Expr,
    state: State,
    cell: Cell,
    left: int,
    dot: Dot,
    condition: Condition | None = None,
) -> Value:
    """A group's shared elements, of which `left` are read, the others zero.

    condition: where it does not hold, every element is its fill.
    """
    b, access = emitter.b, emitter.access
    kind = vector_of(memory_type(dtype_of_expr(expr, emitter.kernel)), dot.group)
    match expr:
        case Guard(bounds, value, Num(value=other)):
            held = access.bounds_hold(bounds, state.env, cell, state.known)
            if held is True:
                return _shared(emitter, value, state, cell, left, dot, condition)
            number = b.const(kind, other)
            if held is False:
                if condition is None or other == condition.fill:
                    return number
                return b.select(condition.value, number, b.const(kind, condition.fill))
            assert isinstance(held, Condition)
            held = replace(held, fill=other)
            if condition is not None and other != condition.fill:
                found = _shared(emitter, value, state, cell, left, dot, held)
                return b.select(condition.value, found, b.const(kind, condition.fill))
            both = access.both(condition, held)
            return _shared(emitter, value, state, cell, left, dot, both)
    assert isinstance(expr, At)
    return access.load_points(expr, state.env, cell, dot.group, left, condition)


def _interleaved(emitter: Emitter, product: Product, state: State, cell: Cell, left: int) -> Value:
    """A group's elements of each lane, in its 32 bits; of `left` rows of lanes, the others any.

    Rows are read for several cells at once. The builder makes what those share only once.
    """
    b, axis, group = emitter.b, product.axis, product.dot.group
    dtype = dtype_of_expr(product.shared, emitter.kernel)
    run, place = _run(emitter, state, cell, group if cell.lanes > 1 else 1)
    wide = replace(run[0], lanes=len(run) * cell.lanes, active=sum(c.active for c in run))
    kind, point = vector_of(memory_type(dtype), max(2, wide.lanes)), state.env[axis]
    rows = []
    for j in range(left):
        there = state.at(axis, replace(point, constant=point.constant + j))
        found = emitter.evaluate(product.shared, there, wide)
        rows.append(b.splat(found, lanes_of(kind)))
    rows += rows[-1:] * (left == 3)
    words = shuffles.interleaved(b, rows, len(run))[place]
    signed, count = dtype.kind == "i", lanes_of(words.type)
    if dtype.bits < product.dot.shared.bits:
        short = b.bitcast(words, vector_of("i8", len(rows) * count))
        words = b.cast("sext" if signed else "zext", short, with_scalar(short.type, "i16"))
        words = b.bitcast(words, vector_of(f"i{16 * len(rows)}", count))
    if scalar_of(words.type) != "i32":
        words = b.cast("zext", words, vector_of("i32", count))
    if product.shift:
        words = b.xor(words, b.const(words.type, 0x80808080 - (1 << 32)))
    return words if count == cell.lanes else b.extract(words, 0)


def _run(emitter: Emitter, state: State, cell: Cell, most: int) -> tuple[list[Cell], int]:
    """The cells, 2**k up to `most`, that lie side by side with one, and which of them it is."""
    vector = emitter.schedule.vector
    assert vector is not None
    apart = [pair for pair in cell.offsets if pair[0] != vector]
    row = [
        other
        for other in state.cells
        if other.lanes == cell.lanes and [p for p in other.offsets if p[0] != vector] == apart
    ]
    first, place = 0, row.index(cell)
    while True:
        count = min(most, 1 << ((len(row) - first).bit_length() - 1))
        if place < first + count:
            return row[first : first + count], place - first
        first += count


def _as_words(emitter: Emitter, product: Product, points: Value, lanes: int) -> Value:
    """A group's elements as the instruction takes them, in the 32 bits of every lane."""
    b, dot = emitter.b, product.dot
    dtype = dtype_of_expr(product.shared, emitter.kernel)
    words = b.splat(b.bitcast(points, f"i{dot.group * dtype.bits}"), lanes)
    if dtype.bits < dot.shared.bits:  # in all lanes, which takes fewer instructions than before
        widen = "sext" if dtype.kind == "i" else "zext"
        short = b.bitcast(words, vector_of("i8", dot.group * lanes))
        wide = b.cast(widen, short, vector_of("i16", dot.group * lanes))
        return b.bitcast(wide, vector_of("i32", lanes))
    return b.xor(words, b.const(words.type, 0x80808080 - (1 << 32))) if product.shift else words


def _instruction(b: Builder, dot: Dot, total: Value, shared: Value, own: Value) -> Value:
    """total + shared . own in each lane; of few lanes, the lowest of a whole vector."""
    lanes, least = lanes_of(total.type), min(dot.intrinsics) // 4
    if lanes < least:
        wide = [_first(b, x, least * lanes_of(x.type) // lanes) for x in (total, shared, own)]
        return _first(b, _instruction(b, dot, *wide), lanes)
    name, _, overload = dot.intrinsics[4 * lanes].rpartition(".")
    shared = b.bitcast(shared, own.type)
    if dot.adds:
        return b.intrinsic(name, total, shared, own, overload=overload)
    words = vector_of("i16", 2 * lanes)
    if dot.paired:
        pairs = b.intrinsic(name, shared, own, result=words, overload=overload)
        return _instruction(b, DOTS["pmaddwd"], total, pairs, b.const(words, 1))
    return b.add(total, b.intrinsic(name, shared, own, result=total.type, overload=overload))


def _first(b: Builder, x: Value, count: int) -> Value:
    """The first `count` lanes of a value, or it and any others."""
    if x.type[0] != "<":
        return b.splat(x, count)
    if count == 1:
        return b.extract(x, 0)
    return b.shuffle(x, b.poison(x.type), [i % lanes_of(x.type) for i in range(count)])
