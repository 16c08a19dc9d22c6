"""Bytes made of f32 numbers, a whole tile at a time, by instructions that narrow and saturate.

    cast(add(cast(rint(minimum(maximum(x, low - zero), high - zero))):i32, zero)):u8

is how `brim.ops.quantized.nearest` ends a kernel. Packing two vectors of i32 to i16 and two of
these to bytes limits numbers to what they can hold: so neither the clamp nor the test for NaN is
left where what is known of constants shows that x is a number below 2**31, and zero is added to
four vectors in two instructions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from brim.kernels.ir import At, Do, Expr, Num, Stage, dtype_of_expr
from brim.kernels.ranges import clamped, magnitude
from brim.targets.access import Cell, State
from brim.targets.builder import Builder, Value, lanes_of, vector_of
from brim.targets.instructions import fits, whole
from brim.types import F32, I8, I32, U8, DType

if TYPE_CHECKING:
    from brim.targets.llvm import Emitter

# By architecture and bytes of a vector: i32 to i16, i16 to u8, i16 to i8, two vectors at once.
_PACKS: dict[tuple[str, int], tuple[str, str, str]] = {
    ("x86_64", 16): ("x86.sse2.packssdw.128", "x86.sse2.packuswb.128", "x86.sse2.packsswb.128"),
    ("x86_64", 32): ("x86.avx2.packssdw", "x86.avx2.packuswb", "x86.avx2.packsswb"),
    ("x86_64", 64): (
        "x86.avx512.packssdw.512", "x86.avx512.packuswb.512", "x86.avx512.packsswb.512",
    ),
    ("wasm32", 16): (
        "wasm.narrow.signed.v8i16.v4i32",
        "wasm.narrow.unsigned.v16i8.v8i16",
        "wasm.narrow.signed.v16i8.v8i16",
    ),
}  # fmt: skip

_TOGETHER = 4  # vectors of i32 that make one of bytes


@dataclass(frozen=True)
class Narrowing:
    """round(x) + zero, halves to even, limited to [low, high] of a type of bytes; NaN gives zero.

    out: where they are stored. limited: x between low - zero and high - zero. bounded: x is a
    number below 2**31.
    """

    out: At
    x: Expr
    limited: Expr
    bounded: bool
    zero: int
    low: int
    high: int
    to: DType


def narrowing(emitter: Emitter, stage: Stage) -> Narrowing | None:
    """What a stage stores along the vectors, if it is such bytes."""
    out = stage.out
    if stage.reduce or stage.keep or out is None or out.gathers:
        return None
    if emitter.access.lane_stride(out.index) != 1:
        return None
    match stage.value:
        case Do("cast", (Do("add", (number, Num(zero))),), to) if to in (I8, U8):
            pass
        case Do("cast", (number,), to) if to in (I8, U8):
            zero = 0
        case _:
            return None
    match number:
        case Do("cast", (Do("rint", (limited,)),), dtype) if dtype in (I32, to):
            bounds = clamped(limited)
        case Do("rint", (limited,)) if not zero:
            bounds = clamped(limited)
        case _:
            return None
    if bounds is None or dtype_of_expr(limited, emitter.kernel) != F32:
        return None
    low, high = (bound + zero for bound in bounds)
    whole_numbers = all(float(n).is_integer() and abs(n) < 1 << 15 for n in bounds)
    if not (whole_numbers and fits((low, high), to)):
        return None
    assert isinstance(limited, Do) and isinstance(limited.args[0], Do)
    x = limited.args[0].args[0]
    size = magnitude(x, emitter.kernel)
    bounded = size is not None and size < 2.0**31
    if not bounded and not low <= zero <= high:
        return None  # NaN gives zero, beyond the limits
    return Narrowing(out, x, limited, bounded, int(zero), int(low), int(high), to)


def store_bytes(emitter: Emitter, made: Narrowing, state: State) -> tuple[Cell, ...]:
    """Stores the bytes of all cells that fill vectors which the target packs; gives the others.

    What lies side by side is stored at once.
    """
    by_lanes: dict[int, list[Cell]] = {}
    for cell in state.cells:
        if (emitter.target.architecture, 4 * cell.lanes) in _PACKS:
            by_lanes.setdefault(cell.lanes, []).append(cell)
    for cells in by_lanes.values():
        _store(emitter, made, state, cells)
    return tuple(cell for cell in state.cells if cell.lanes not in by_lanes)


def _store(emitter: Emitter, made: Narrowing, state: State, wide: list[Cell]) -> None:
    for first in range(0, len(wide), _TOGETHER):
        cells = wide[first : first + _TOGETHER]
        found = _packed(emitter, made, [_whole(emitter, made, state, cell) for cell in cells])
        done = 0
        while done < len(cells):
            count = _adjacent(emitter, cells[done:])
            lanes = cells[done].lanes
            bytes_ = emitter.b.shuffle(found, found, range(done * lanes, (done + count) * lanes))
            cell = replace(
                cells[done], lanes=count * lanes, active=sum(c.active for c in cells[done:][:count])
            )
            emitter.put(made.out, bytes_, state, cell)
            done += count


def _adjacent(emitter: Emitter, cells: Sequence[Cell]) -> int:
    """How many of some cells, from the first on, lie side by side; 2**k, and all of them whole."""
    vector, first = emitter.schedule.vector, cells[0]
    rest = [pair for pair in first.offsets if pair[0] != vector]
    count = 0
    for number, cell in enumerate(cells):
        beside = cell.offset(vector or "") == first.offset(vector or "") + number * first.lanes
        same = [pair for pair in cell.offsets if pair[0] != vector] == rest
        if not (beside and same and cell.active == cell.lanes == first.lanes):
            break
        count += 1
    return 1 << max(count.bit_length() - 1, 0)


def _whole(emitter: Emitter, made: Narrowing, state: State, cell: Cell) -> Value:
    """A cell's numbers, rounded to i32, before zero is added."""
    b = emitter.b
    if made.bounded:
        x = b.splat(emitter.evaluate(made.x, state, cell), cell.lanes)
        wide = vector_of("i32", cell.lanes)
        if "nearest" not in b.lacks:
            overload = f"v{cell.lanes}i32.v{cell.lanes}f32"
            return b.intrinsic("lrint", x, result=wide, overload=overload)
    return whole(b, b.splat(emitter.evaluate(made.limited, state, cell), cell.lanes), I32, True)


def _packed(emitter: Emitter, made: Narrowing, numbers: list[Value]) -> Value:
    """Bytes of up to four vectors of i32, one after the other."""
    b, lanes = emitter.b, lanes_of(numbers[0].type)
    to_short, to_u8, to_i8 = _PACKS[emitter.target.architecture, 4 * lanes]
    short, bytes_ = vector_of("i16", 2 * lanes), vector_of("i8", 4 * lanes)
    numbers = [*numbers, *numbers[-1:] * (_TOGETHER - len(numbers))]
    pairs = [_call(b, to_short, short, x, y) for x, y in zip(numbers[::2], numbers[1::2])]
    if made.zero:
        zero = b.const(short, made.zero)
        pairs = [b.intrinsic("sadd.sat", pair, zero) for pair in pairs]
    found = _call(b, to_u8 if made.to == U8 else to_i8, bytes_, *pairs)
    # each 16 bytes hold four bytes of every vector
    blocks = lanes // 4
    if blocks > 1:
        starts = (16 * block + 4 * k for k in range(_TOGETHER) for block in range(blocks))
        found = b.shuffle(found, found, [start + i for start in starts for i in range(4)])
    signed = made.to == I8
    if made.low > (-128 if signed else 0):
        found = b.intrinsic("smax" if signed else "umax", found, b.const(bytes_, made.low))
    if made.high < (127 if signed else 255):
        found = b.intrinsic("smin" if signed else "umin", found, b.const(bytes_, made.high))
    return found


def _call(b: Builder, name: str, result: str, x: Value, y: Value) -> Value:
    """An intrinsic of one processor, whose name says its types."""
    name, _, overload = name.rpartition(".")
    return b.intrinsic(name, x, y, result=result, overload=overload)
