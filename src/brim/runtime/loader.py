"""Loads relocatable ELF64 objects (x86-64 and AArch64) into this process with mmap and ctypes only.

No LLVM, no linker, no file on disk: this is how a device without llvmlite runs an artifact, and the
only way in which brim runs native code anywhere. Objects are the self-contained ones that brim
emits: small code model, position independent, no constructors, no thread-local data. `elf.py` reads
and checks them; everything else is refused with a typed error. Nothing here judges whether code may
be *trusted*: an object that is well-formed is loaded, whoever made it.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from brim.errors import BrimError, ModelError, UnsupportedError
from brim.runtime.elf import (
    AARCH64,
    ABSOLUTE,
    ALLOC,
    EXEC,
    LOADABLE,
    MACHINES,
    NOBITS,
    SIZE_LIMIT,
    UNDEFINED,
    WRITE,
    X86_64,
    Object,
    malformed,
    parse,
)


@dataclass(frozen=True)
class LoadedObject:
    """One object in executable memory, which lives as long as this value or a function of it.

    symbols: name -> address of every global symbol that the object defines.
    address, size: the object's code, in bytes (for profilers and disassemblers).
    """

    symbols: Mapping[str, int]
    address: int
    size: int
    memory: Any = field(repr=False, compare=False)

    def function(self, name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
        """The symbol as a ctypes function (it releases the GIL); it keeps the memory alive."""
        if name not in self.symbols:
            raise BrimError(
                f"the object defines no symbol {name!r}", f"it defines {sorted(self.symbols)}"
            )
        function: Any = ctypes.CFUNCTYPE(result, *arguments)(self.symbols[name])
        function.memory = self.memory
        return function


def load_object(blob: bytes, *, externals: Mapping[str, int] | None = None) -> LoadedObject:
    """Load one object; see `load_objects`."""
    return load_objects((blob,), externals=externals)[0]


def load_objects(
    blobs: Sequence[bytes], *, externals: Mapping[str, int] | None = None
) -> tuple[LoadedObject, ...]:
    """Load objects side by side into one mapping: code R+X, constants R, data R+W, never W and X.

    Objects do not see each other's symbols; `externals` (name -> address) is all they may refer to.
    Raises ModelError for a malformed object, an undefined symbol or an unreachable address, and
    UnsupportedError for another machine's object, an unknown relocation, or a system that does
    not let a process make memory executable.
    """
    machine = host_machine()
    parsed = [parse(bytes(b), machine, f"object {i}") for i, b in enumerate(blobs)]
    layout = _lay_out(parsed, mmap.PAGESIZE)
    memory = _allocate(layout.size)
    view = memoryview(memory)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    tables = _Tables(view, base, layout, machine)
    symbols = [_link(p, i, tables, externals or {}) for i, p in enumerate(parsed)]
    view.release()
    _protect(base, layout, machine)
    return tuple(
        LoadedObject(names, base + begin, size, memory)
        for names, (begin, size) in zip(symbols, layout.code, strict=True)
    )


def host_machine() -> int:
    """This process's ELF machine number; raises UnsupportedError where nothing can be loaded."""
    if sys.platform == "win32" or (sys.platform == "darwin" and platform.machine() == "arm64"):
        raise UnsupportedError(
            "cannot load native code into memory on this system",
            "Apple silicon wants MAP_JIT and Windows VirtualAlloc; brim has neither yet",
            platform.platform(),
            "use the interpreter, or run on Linux",
        )
    machine = MACHINES.get(platform.machine().lower())
    if machine is None or sys.maxsize < 2**32:
        raise UnsupportedError(
            f"cannot load native code on {platform.machine()}",
            "the loader knows 64-bit x86-64 and AArch64",
        )
    return machine


# --- placing -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Layout:
    """Offsets within the mapping: code and jump stubs, then constants and pointers, then data."""

    placed: dict[tuple[int, int], int]  # (object, section) -> offset
    code: list[tuple[int, int]]  # per object: offset and size of its code
    stubs: int
    pointers: int
    constants: int  # where the read-only part begins; the code is everything before it
    data: int  # where the writable part begins
    size: int


def _aligned(offset: int, align: int) -> int:
    return -(-offset // align) * align


def _lay_out(parsed: list[Object], page: int) -> _Layout:
    placed: dict[tuple[int, int], int] = {}
    code: list[tuple[int, int]] = []
    offset = 0

    def place(number: int, wanted: int) -> None:
        nonlocal offset
        for index, section in enumerate(parsed[number].sections):
            if section.flags & ALLOC and section.flags & (WRITE | EXEC) == wanted:
                offset = _aligned(offset, section.align or 1)
                placed[number, index] = offset
                offset += section.size

    for number in range(len(parsed)):
        offset = begin = _aligned(offset, 64)
        place(number, EXEC)
        code.append((begin, offset - begin))
    # Every call may need a stub and every relocation a pointer: an upper bound, nearly always 0.
    far = sum(p.symbols[r.symbol].section == UNDEFINED for p in parsed for r in p.relocations)
    stubs = _aligned(offset, 16)
    constants = offset = _aligned(stubs + 16 * far, page)
    for number in range(len(parsed)):
        place(number, 0)
    pointers = _aligned(offset, 8)
    slots = sum(r.kind in _POINTER_RELOCATIONS for p in parsed for r in p.relocations)
    data = offset = _aligned(pointers + 8 * slots, page)
    for number in range(len(parsed)):
        place(number, WRITE)
    size = max(_aligned(offset, page), page)
    if size > SIZE_LIMIT:
        raise malformed("all objects", f"{size} bytes together are more than {SIZE_LIMIT}")
    return _Layout(placed, code, stubs, pointers, constants, data, size)


class _Tables:
    """The memory being filled, with the pointer slots and jump stubs that relocations asked for."""

    def __init__(self, view: memoryview, base: int, layout: _Layout, machine: int) -> None:
        self.view, self.base, self.layout, self.machine = view, base, layout, machine
        self._pointers: dict[int, int] = {}
        self._stubs: dict[int, int] = {}

    def pointer(self, address: int) -> int:
        """Address of a word that holds `address` (a global offset table entry)."""
        slot = self._pointers.get(address)
        if slot is None:
            slot = self._pointers[address] = self.layout.pointers + 8 * len(self._pointers)
            struct.pack_into("<Q", self.view, slot, address & (2**64 - 1))
        return self.base + slot

    def stub(self, address: int) -> int:
        """Address of code that jumps to `address`, wherever in memory that is."""
        slot = self._stubs.get(address)
        if slot is None:
            slot = self.layout.stubs + 16 * len(self._stubs)
            if slot + 16 > self.layout.constants:
                raise OverflowError("a call within the object is out of reach")
            self._stubs[address] = slot
            if self.machine == X86_64:  # jmp [rip + 2]
                struct.pack_into("<HIHQ", self.view, slot, 0x25FF, 2, 0x9090, address)
            else:  # ldr x16, #8; br x16
                struct.pack_into("<IIQ", self.view, slot, 0x58000050, 0xD61F0200, address)
        return self.base + slot


# --- linking -------------------------------------------------------------------------------------


def _link(
    parsed: Object, number: int, tables: _Tables, externals: Mapping[str, int]
) -> dict[str, int]:
    """Copy the object's sections, patch them, and return the addresses of its global symbols."""
    placed, base = tables.layout.placed, tables.base
    for index, section in enumerate(parsed.sections):
        if (number, index) in placed and section.kind != NOBITS:
            begin = placed[number, index]
            tables.view[begin : begin + section.size] = memoryview(parsed.blob)[
                section.offset : section.offset + section.size
            ]
    addresses: list[int | None] = []
    for symbol in parsed.symbols:
        if (number, symbol.section) in placed:
            addresses.append(base + placed[number, symbol.section] + symbol.value)
        elif symbol.section == ABSOLUTE:
            addresses.append(symbol.value)
        elif symbol.section == UNDEFINED and symbol.name:
            addresses.append(externals.get(symbol.name))  # None: undefined
        else:
            addresses.append(None)
    used = {r.symbol for r in parsed.relocations if r.kind != 0}
    missing = sorted(parsed.symbols[s].name for s in used if addresses[s] is None)
    if missing:
        raise ModelError(
            f"undefined symbols: {', '.join(missing)}",
            "kernels must be self-contained; nothing is linked in silently",
            parsed.where,
            "pass their addresses as externals, or compile with no-builtins",
        )
    _relocate(parsed, number, tables, addresses)
    return {
        symbol.name: address
        for symbol, address in zip(parsed.symbols, addresses, strict=True)
        if address is not None
        and symbol.binding in (1, 2)
        and (number, symbol.section) in placed
        and symbol.kind in LOADABLE
    }


def _relocate(parsed: Object, number: int, tables: _Tables, addresses: list[int | None]) -> None:
    patch = _patch_x86_64 if tables.machine == X86_64 else _patch_aarch64
    widths = _WIDTHS[tables.machine]
    for section, offset, kind, symbol, addend in parsed.relocations:
        if kind == 0:
            continue
        where = (parsed.where, section, offset)
        width = widths.get(kind)
        if width is None:
            raise UnsupportedError(
                f"unsupported relocation {kind}",
                "objects are position independent, in the small code model",
                _at(where),
                "compile with reloc='pic', codemodel='small'",
            )
        if parsed.symbols[symbol].kind not in LOADABLE:
            raise malformed(_at(where), f"symbol {symbol} is neither code nor data")
        if offset + width > parsed.sections[section].size:
            raise malformed(_at(where), "a relocation lies outside its section")
        target = addresses[symbol]
        assert target is not None  # _link refused undefined symbols
        try:
            patch(tables, tables.layout.placed[number, section] + offset, kind, target, addend)
        except OverflowError as error:
            raise malformed(_at(where), f"relocation {kind}: {error}") from None


def _at(where: tuple[str, int, int]) -> str:
    return "{}, section {}, offset {}".format(*where)


# Bytes that each known relocation patches (psABI x86-64; ELF for the Arm 64-bit Architecture).
_WIDTHS: dict[int, dict[int, int]] = {
    X86_64: {1: 8, 2: 4, 4: 4, 9: 4, 10: 4, 11: 4, 24: 8, 41: 4, 42: 4},
    AARCH64: {257: 8, 260: 8}
    | dict.fromkeys((258, 261, 273, 274, 275, 277, 278, 279, 280), 4)
    | dict.fromkeys((282, 283, 284, 285, 286, 299, 311, 312), 4),
}
_POINTER_RELOCATIONS = frozenset((9, 41, 42, 311, 312))
# Scale (log2 of bytes) of the low-12-bit relocations: ADD, then LDST8 to LDST128, then the pointer.
_LOW12 = {277: 0, 278: 0, 284: 1, 285: 2, 286: 3, 299: 4, 312: 3}


def _signed(value: int, bits: int) -> int:
    """`value` if it fits in `bits` signed bits."""
    if not -(1 << bits - 1) <= value < 1 << bits - 1:
        raise OverflowError(f"{value:#x} does not fit in {bits} bits")
    return value


def _unsigned(value: int, bits: int) -> int:
    """`value` if it fits in `bits` unsigned bits."""
    if not 0 <= value < 1 << bits:
        raise OverflowError(f"{value:#x} does not fit in {bits} unsigned bits")
    return value


def _patch_x86_64(tables: _Tables, offset: int, kind: int, target: int, addend: int) -> None:
    view, place = tables.view, tables.base + offset
    match kind:
        case 1:  # 64
            struct.pack_into("<Q", view, offset, (target + addend) & (2**64 - 1))
        case 24:  # PC64
            struct.pack_into("<Q", view, offset, (target + addend - place) & (2**64 - 1))
        case 2:  # PC32
            struct.pack_into("<i", view, offset, _signed(target + addend - place, 32))
        case 4:  # PLT32: a call, so a stub will do
            if abs(target + addend - place) >= 1 << 31:
                target = tables.stub(target)
            struct.pack_into("<i", view, offset, _signed(target + addend - place, 32))
        case 9 | 41 | 42:  # GOTPCREL, GOTPCRELX, REX_GOTPCRELX
            pointer = tables.pointer(target)
            struct.pack_into("<i", view, offset, _signed(pointer + addend - place, 32))
        case 10:  # 32, zero-extended
            struct.pack_into("<I", view, offset, _unsigned(target + addend, 32))
        case 11:  # 32S
            struct.pack_into("<i", view, offset, _signed(target + addend, 32))


def _patch_aarch64(tables: _Tables, offset: int, kind: int, target: int, addend: int) -> None:
    view, place = tables.view, tables.base + offset
    value = target + addend
    distance = value - place

    def instruction(bits: int, shift: int, immediate: int) -> None:
        mask = (1 << bits) - 1
        (word,) = struct.unpack_from("<I", view, offset)
        word = word & ~(mask << shift) | (immediate & mask) << shift
        struct.pack_into("<I", view, offset, word)

    def scaled(immediate: int, shift: int) -> int:
        if immediate & ((1 << shift) - 1):
            raise OverflowError(f"{immediate:#x} is not a multiple of {1 << shift}")
        return immediate >> shift

    def address(immediate: int) -> None:  # ADR and ADRP keep the two low bits apart
        instruction(2, 29, immediate & 3)
        instruction(19, 5, immediate >> 2)

    match kind:
        case 257:  # ABS64
            struct.pack_into("<Q", view, offset, value & (2**64 - 1))
        case 258:  # ABS32
            struct.pack_into("<I", view, offset, _unsigned(value, 32))
        case 260:  # PREL64
            struct.pack_into("<Q", view, offset, distance & (2**64 - 1))
        case 261:  # PREL32
            struct.pack_into("<i", view, offset, _signed(distance, 32))
        case 273 | 280:  # LD_PREL_LO19, CONDBR19
            instruction(19, 5, _signed(scaled(distance, 2), 19))
        case 274:  # ADR_PREL_LO21
            address(_signed(distance, 21))
        case 279:  # TSTBR14
            instruction(14, 5, _signed(scaled(distance, 2), 14))
        case 275:  # ADR_PREL_PG_HI21
            address(_signed((value >> 12) - (place >> 12), 21))
        case 311:  # ADR_GOT_PAGE
            pointer = tables.pointer(target) + addend
            address(_signed((pointer >> 12) - (place >> 12), 21))
        case 277 | 278 | 284 | 285 | 286 | 299:  # ADD or load/store, low 12 bits
            instruction(12, 10, scaled(value & 0xFFF, _LOW12[kind]))
        case 312:  # LD64_GOT_LO12_NC
            instruction(12, 10, scaled(tables.pointer(target) + addend & 0xFFF, _LOW12[kind]))
        case 282 | 283:  # JUMP26, CALL26: a stub will do
            if abs(distance) >= 1 << 27:
                distance = tables.stub(target) + addend - place
            instruction(26, 0, _signed(scaled(distance, 2), 26))


# --- memory --------------------------------------------------------------------------------------


def _allocate(size: int) -> mmap.mmap:
    try:
        return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, ValueError) as error:
        raise BrimError("out of memory for native code", f"{size} bytes: {error}") from None


def _protect(base: int, layout: _Layout, machine: int) -> None:
    """Make code executable and constants read-only; until here nothing was executable."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    spans = (
        (0, layout.constants, mmap.PROT_READ | mmap.PROT_EXEC),
        (layout.constants, layout.data, mmap.PROT_READ),
    )
    if machine == AARCH64:  # the instruction cache does not see stores until it is told
        _clear_cache(base, base + layout.constants)
    for begin, end, access in spans:
        if end > begin and libc.mprotect(base + begin, end - begin, access):
            raise UnsupportedError(
                "the system does not allow generated code",
                f"mprotect failed with errno {ctypes.get_errno()}",
                hint="allow executable memory (SELinux execmem, seccomp) for this process",
            )


def _clear_cache(begin: int, end: int) -> None:
    # Linux also does this when mprotect makes pages executable, so a missing libgcc_s is no error.
    for library in ("libgcc_s.so.1", None):
        try:
            clear = ctypes.CDLL(library).__clear_cache
        except (OSError, AttributeError):
            continue
        clear.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        clear.restype = None
        clear(begin, end)
        return
