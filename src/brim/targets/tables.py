"""Bytes looked up in a table of 256 of them, in LLVM IR: the whole table lies in registers.

What functions of a byte become such tables is decided in `brim.passes.tables`; on which processors
short functions do, because a lookup takes few instructions, in `Target.looks_up_bytes`. The others
look at 16 bytes of the table at a time, which is still several times as fast as single loads.
"""

from __future__ import annotations

from collections.abc import Callable

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
            found = _finder(target) is not None
            return whole and found and dtype_of_expr(index, kernel) == U8
    return False


def _finder(target: Target) -> tuple[int, Callable[[Builder, Value, Value], Value]] | None:
    """How many bytes a target looks up at once, and how; None: it cannot."""
    match target.architecture:
        case "x86_64" if target.looks_up_bytes:
            return 64, _permuted
        case "x86_64":
            return min(target.vector_bytes, 32), _shuffled
        case "aarch64":
            return 16, _aarch64
        case "wasm32":
            return 16, _swizzled
    return None


def look_up(b: Builder, target: Target, table: Value, index: Value) -> Value:
    """The byte of a table (a ptr) at each index (a vector of i8)."""
    finder = _finder(target)
    assert finder is not None
    count, find = finder
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


def _permuted(b: Builder, table: Value, index: Value) -> Value:
    """Of AVX512-VBMI: an instruction for each half of the table, which looks at 7 bits."""
    first, second, third, fourth = _pieces(b, table, 64)
    name = "x86.avx512.vpermi2var.qi"
    low = b.intrinsic(name, first, index, second, overload="512")
    high = b.intrinsic(name, third, index, fourth, overload="512")
    return b.select(b.icmp("slt", index, b.zero(index.type)), high, low)


def _shuffled(b: Builder, table: Value, index: Value) -> Value:
    """Of SSSE3 and AVX2: an instruction that gives 0 where the index's highest bit is set.

    The index is made smaller by 16 from one piece of the table to the next. So an index below 128
    meets the pieces up to its own, and one of n above meets those after n - 8, of which the last
    half do not let it wrap around again: what all of them give together, by exclusive or, has to be
    the byte that is looked for. (XNNPACK's x8-lut kernels do the same.)
    """
    pieces, lanes = _pieces(b, table, 16), lanes_of(index.type)
    parts = pieces[:1]
    for number in range(1, 16):
        part = b.xor(pieces[number], pieces[number - 1])
        if number == 8:
            part = b.xor(b.xor(pieces[8], pieces[0]), pieces[7])
        elif number > 8:
            part = b.xor(part, b.xor(pieces[number - 8], pieces[number - 9]))
        parts.append(part)
    name, overload = ("x86.ssse3.pshuf.b", "128") if lanes == 16 else ("x86.avx2.pshuf", "b")
    step, found = b.const(index.type, 16), None
    for number, part in enumerate(parts):
        whole = b.shuffle(part, part, [*range(16)] * (lanes // 16))
        here = b.intrinsic(name, whole, index, overload=overload)
        found = here if found is None else b.xor(found, here)
        if number < 8:
            index = b.sub(index, step)
        else:
            index = b.intrinsic("ssub.sat", index, step)
    assert found is not None
    return found


def _swizzled(b: Builder, table: Value, index: Value) -> Value:
    """Of WebAssembly: an instruction that gives 0 where the index is beyond its 16 bytes."""
    step, found = b.const(index.type, 16), None
    for piece in _pieces(b, table, 16):
        here = b.intrinsic("wasm", piece, index, overload="swizzle")
        found = here if found is None else b.or_(found, here)
        index = b.sub(index, step)
    assert found is not None
    return found


def _aarch64(b: Builder, table: Value, index: Value) -> Value:
    """An instruction for each quarter of the table; an index beyond it keeps what was found."""
    pieces = _pieces(b, table, 16)
    found = b.intrinsic("aarch64.neon.tbl4", *pieces[:4], index)
    for start in (4, 8, 12):
        index = b.sub(index, b.const(index.type, 64))
        found = b.intrinsic("aarch64.neon.tbx4", found, *pieces[start : start + 4], index)
    return found
