"""Rearranging elements in registers by shuffles: square transposes, every n-th element, rows
interleaved.

Nothing here knows memory. All counts of lanes and vectors are powers of two, if not said otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence

from brim.targets.builder import Builder, Value, lanes_of, scalar_of, vector_of


def columns(b: Builder, rows: Sequence[Value], group: int) -> list[Value]:
    """The n columns of rows of n elements each: n vectors with a lane for each row (at least n).

    group: elements in 16 bytes, within which processors shuffle fastest.
    """
    count = lanes_of(rows[0].type)
    wide = []
    for first in range(count):
        parts = list(rows[first::count])
        while len(parts) > 1:
            size = 2 * lanes_of(parts[0].type)
            parts = [b.shuffle(x, y, range(size)) for x, y in zip(parts[::2], parts[1::2])]
        wide += parts
    return _squares(b, wide, group)


def rows(b: Builder, columns: Sequence[Value], group: int) -> list[Value]:
    """What `columns` was made of: for each lane a vector of the columns' elements there."""
    count, lanes = len(columns), lanes_of(columns[0].type)
    wide = _squares(b, columns, group)
    if count == lanes:
        return wide
    starts = range(0, lanes, count)
    return [b.shuffle(v, v, range(s, s + count)) for s in starts for v in wide]


def _squares(b: Builder, vectors: Sequence[Value], group: int) -> list[Value]:
    """n vectors of n x n squares side by side, each transposed, in log2(n) rounds of shuffles."""
    count, lanes = len(vectors), lanes_of(vectors[0].type)
    small = min(group, count)
    found = list(vectors)
    # squares of `small` elements: as often as their size has bits, the rows' halves are merged
    half, blocks = small // 2, range(0, lanes, small)
    low = [s + i + side for s in blocks for i in range(half) for side in (0, lanes)]
    high = [lane + half for lane in low]
    for _ in range(small.bit_length() - 1):
        merged = []
        for start in range(0, count, small):
            for x, y in zip(found[start : start + half], found[start + half : start + small]):
                merged += [b.shuffle(x, y, low), b.shuffle(x, y, high)]
        found = merged
    # then the squares change places
    distance = small
    while distance < count:
        near = [i if not i & distance else lanes + i - distance for i in range(lanes)]
        far = [lane + distance for lane in near]
        for i in range(count):
            if not i & distance:
                x, y = found[i], found[i + distance]
                found[i], found[i + distance] = b.shuffle(x, y, near), b.shuffle(x, y, far)
        distance *= 2
    return found


def starts(lanes: int, step: int) -> list[int]:
    """Where the vectors begin that hold every `step`-th of (lanes - 1) * step + 1 elements."""
    return [*range(0, (step - 1) * lanes, lanes), (step - 1) * (lanes - 1)]


def every(b: Builder, vectors: Sequence[Value], step: int) -> Value:
    """Every `step`-th element of `step` vectors that begin at `starts`; of any number of lanes."""
    lanes = lanes_of(vectors[0].type)
    places: dict[int, tuple[int, int]] = {}
    for number, start in reversed(list(enumerate(starts(lanes, step)))):
        places |= {start + i: (number, i) for i in range(lanes)}
    result = vectors[0]
    for number in range(1, step):
        mask = []
        for lane in range(lanes):
            vector, place = places[lane * step]
            kept = lane * step if number == 1 else lane  # the first vector is still as loaded
            mask.append(lanes + place if vector == number else kept % lanes)
        result = b.shuffle(result, vectors[number], mask)
    return result


def interleaved(b: Builder, rows: Sequence[Value], parts: int) -> list[Value]:
    """1, 2 or 4 rows of short integers as one, in as many parts: lane by lane their elements side
    by side, as wider integers (i8 of four rows: i32).

    Within 16 bytes all processors interleave the lower or upper halves in one instruction. So the
    bytes of four rows are put where these halves will be: one instruction a row.
    """
    lanes, bits = lanes_of(rows[0].type), int(scalar_of(rows[0].type)[1:])
    each, count = lanes // parts, len(rows)
    blocks = each // 4
    if count < 4 or blocks < 1 or bits != 8:
        found = list(rows)
        pieces = [
            [b.shuffle(x, x, range(s, s + each)) for x in found] for s in range(0, lanes, each)
        ]
        return [_natural(b, piece) for piece in pieces]
    # block i of part k becomes the k-th quarter of the i-th 16 bytes
    places = [
        4 * (k * blocks + i) + j if k < parts else -1
        for i in range(blocks)
        for k in range(4)
        for j in range(4)
    ]
    x = [b.shuffle(row, b.poison(row.type), places) for row in rows]
    first, second = (_halves(b, *pair) for pair in (x[:2], x[2:]))
    whole = [half for pair in zip(first, second) for half in _halves(b, *pair)]
    return whole[:parts]


def _natural(b: Builder, rows: list[Value]) -> Value:
    while len(rows) > 1:
        lanes = lanes_of(rows[0].type)
        order = [place for lane in range(lanes) for place in (lane, lanes + lane)]
        rows = [_paired(b, x, y, order) for x, y in zip(rows[::2], rows[1::2])]
    return rows[0]


def _halves(b: Builder, x: Value, y: Value) -> tuple[Value, Value]:
    """Two vectors interleaved within each 16 bytes: their lower halves, their upper halves."""
    lanes, group = lanes_of(x.type), 128 // int(scalar_of(x.type)[1:])
    low = [
        place
        for block in range(0, lanes, group)
        for lane in range(block, block + group // 2)
        for place in (lane, lanes + lane)
    ]
    return _paired(b, x, y, low), _paired(b, x, y, [place + group // 2 for place in low])


def _paired(b: Builder, x: Value, y: Value, order: Sequence[int]) -> Value:
    """A shuffle whose elements are taken in pairs."""
    bits = int(scalar_of(x.type)[1:])
    return b.bitcast(b.shuffle(x, y, order), vector_of(f"i{2 * bits}", len(order) // 2))
