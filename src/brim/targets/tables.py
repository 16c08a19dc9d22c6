"""Bytes looked up in a table of 256 of them, in LLVM IR: the whole table lies in registers.

What functions of a byte become such tables is decided in `brim.passes.tables`, which processors can
do it in `Target.looks_up_bytes`.
"""

from __future__ import annotations

from brim.kernels.ir import At, Gather, Kernel, dtype_of_expr
from brim.targets.builder import Builder, Value, lanes_of, vector_of
from brim.targets.target import Target
from brim.types import U8


def is_table(at: At, kernel: Kernel, target: Target) -> bool:
    """Whether a load is one of bytes from a constant table of 256, at an index of 8 bits."""
    arg = kernel.buffers[at.buf]
    match at.gathers:
        case (Gather(index, 1, 256),) if arg.role == "const" and arg.dtype.bits == 8:
            whole = arg.size == 256 and not at.index.terms and not at.index.offset
            return whole and target.looks_up_bytes and dtype_of_expr(index, kernel) == U8
    return False


def look_up(b: Builder, target: Target, table: Value, index: Value) -> Value:
    """The byte of a table (a ptr) at each index (a vector of i8)."""
    count, find = (64, _x86) if target.architecture == "x86_64" else (16, _aarch64)
    lanes = lanes_of(index.type)
    parts = []
    for start in range(0, lanes, count):
        lane = [(start + i) % lanes for i in range(count)]
        part = index if lanes == count else b.shuffle(index, b.poison(index.type), lane)
        parts.append(find(b, table, part))
    while len(parts) > 1:
        parts = [b.shuffle(x, y, range(2 * lanes_of(x.type))) for x, y in zip(*[iter(parts)] * 2)]
    whole = parts[0]
    return whole if lanes >= count else b.shuffle(whole, b.poison(whole.type), range(lanes))


def _pieces(b: Builder, table: Value, size: int) -> list[Value]:
    kind = vector_of("i8", size)
    places = (b.gep(table, start, "i8") for start in range(0, 256, size))
    return [b.load(place, kind, 1, invariant=True) for place in places]


def _x86(b: Builder, table: Value, index: Value) -> Value:
    """Of AVX512-VBMI: an instruction for each half of the table, which looks at 7 bits."""
    first, second, third, fourth = _pieces(b, table, 64)
    name = "x86.avx512.vpermi2var.qi"
    low = b.intrinsic(name, first, index, second, overload="512")
    high = b.intrinsic(name, third, index, fourth, overload="512")
    return b.select(b.icmp("slt", index, b.zero(index.type)), high, low)


def _aarch64(b: Builder, table: Value, index: Value) -> Value:
    """An instruction for each quarter of the table; an index beyond it keeps what was found."""
    pieces = _pieces(b, table, 16)
    found = b.intrinsic("aarch64.neon.tbl4", *pieces[:4], index)
    for start in (4, 8, 12):
        index = b.sub(index, b.const(index.type, 64))
        found = b.intrinsic("aarch64.neon.tbx4", found, *pieces[start : start + 4], index)
    return found
