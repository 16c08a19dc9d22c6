"""Rearranging elements in registers: square transposes and every n-th element, by shuffles.

Nothing here knows memory. All counts of lanes and vectors are powers of two, if not said otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence

from brim.targets.builder import Builder, Value, lanes_of


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
