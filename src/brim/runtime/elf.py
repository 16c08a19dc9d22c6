"""Reads relocatable ELF64 objects: every offset, size, count and index in them is checked here.

What comes out is safe to place and patch (`loader.py` does that, and still checks what relocations
compute). Only what brim's own objects contain is accepted; all else raises a typed error.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

from brim.errors import ModelError, UnsupportedError

X86_64, AARCH64 = 62, 183
MACHINES = {"x86_64": X86_64, "amd64": X86_64, "aarch64": AARCH64, "arm64": AARCH64}
_MACHINE_NAMES = {X86_64: "x86-64", AARCH64: "AArch64"}

# Far above any set of kernels; keeps a damaged size field from reserving the address space.
SIZE_LIMIT = 256 << 20

_HEADER = struct.Struct("<4sBBBB8xHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QQq")

_PROGBITS, _SYMTAB, _STRTAB, _RELA, _NOTE, NOBITS, _REL = 1, 2, 3, 4, 7, 8, 9
_UNWIND = 0x70000001  # SHT_X86_64_UNWIND: .eh_frame on x86-64
WRITE, ALLOC, EXEC, _TLS = 0x1, 0x2, 0x4, 0x400
LOADABLE = (0, 1, 2, 3)  # symbol types: untyped, data, code, section
UNDEFINED, ABSOLUTE, _FIRST_RESERVED = 0, 0xFFF1, 0xFF00


class Section(NamedTuple):
    name: int
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entry: int


class Symbol(NamedTuple):
    name: str
    kind: int
    binding: int
    section: int
    value: int


class Relocation(NamedTuple):
    section: int  # the section that is patched
    offset: int
    kind: int
    symbol: int
    addend: int


@dataclass(frozen=True)
class Object:
    """One object file: its bytes, and its tables with everything in range."""

    where: str
    blob: bytes
    sections: list[Section]
    symbols: list[Symbol]
    relocations: list[Relocation]


def malformed(where: str, why: str) -> ModelError:
    return ModelError("damaged object file", why, where, "compile the model again")


def parse(blob: bytes, machine: int, where: str) -> Object:
    """Read the tables of one object and check every offset, size, count and index in them."""
    sections = _read_sections(blob, machine, where)
    tables = [i for i, s in enumerate(sections) if s.kind == _SYMTAB]
    if len(tables) != 1:
        raise malformed(where, f"{len(tables)} symbol tables instead of one")
    symbols = _read_symbols(blob, sections, tables[0], where)
    relocations: list[Relocation] = []
    for number, section in enumerate(sections):
        if section.kind not in (_RELA, _REL):
            continue
        if section.info >= len(sections):
            raise malformed(where, f"relocations for section {section.info}, which is missing")
        if not sections[section.info].flags & ALLOC:
            continue  # debug information: it is not loaded
        if section.kind == _REL or section.link != tables[0] or section.entry != _RELOCATION.size:
            raise malformed(where, f"section {number} is not a RELA table of the symbol table")
        target = sections[section.info]
        for offset, info, addend in _RELOCATION.iter_unpack(_contents(blob, section)):
            symbol = info >> 32
            if symbol >= len(symbols) or target.kind == NOBITS:
                raise malformed(where, f"section {number} relocates what does not exist")
            relocations.append(Relocation(section.info, offset, info & 0xFFFFFFFF, symbol, addend))
    return Object(where, blob, sections, symbols, relocations)


def _read_sections(blob: bytes, machine: int, where: str) -> list[Section]:
    if len(blob) < _HEADER.size:
        raise malformed(where, f"{len(blob)} bytes are less than an ELF header")
    header = _HEADER.unpack_from(blob)
    magic, bits, order, version, _, kind, found = header[:7]
    start, entry, count, names = header[10], header[15], header[16], header[17]
    if (magic, bits, order, version) != (b"\x7fELF", 2, 1, 1):
        raise malformed(where, "not a little-endian ELF64 file")
    if kind != 1:
        raise malformed(where, f"ELF type {kind} is not a relocatable object (1)")
    if found != machine:
        raise UnsupportedError(
            "the object is for another machine",
            f"it is for {_MACHINE_NAMES.get(found, f'ELF machine {found}')}, "
            f"this is {_MACHINE_NAMES[machine]}",
            where,
            "compile for this target",
        )
    if entry != _SECTION.size or not count or start + count * entry > len(blob):
        raise malformed(where, f"{count} sections of {entry} bytes at {start} do not fit")
    table = memoryview(blob)[start : start + count * entry]
    sections = [Section._make(s) for s in _SECTION.iter_unpack(table)]
    for number, section in enumerate(sections):
        if problem := _problem(section, len(blob)):
            raise malformed(f"{where}, section {number}", problem)
    strings = _strings(blob, sections, names, where)
    for section in sections:
        if strings[section.name : section.name + 6] in (b".ctors", b".dtors"):
            raise malformed(where, "constructors and destructors would not be run")
    return sections


def _problem(section: Section, length: int) -> str:
    """Why this section of a file of `length` bytes cannot be loaded; empty when it can."""
    if section.kind not in (0, NOBITS) and section.offset + section.size > length:
        return f"{section.size} bytes at {section.offset} are not in the file"
    if not section.flags & ALLOC:
        return ""
    if section.kind not in (_PROGBITS, NOBITS, _NOTE, _UNWIND):
        return f"sections of type {section.kind:#x} cannot be loaded"
    if section.flags & _TLS:
        return "thread-local data cannot be loaded"
    if section.flags & WRITE and section.flags & EXEC:
        return "a section is both writable and executable"
    align = section.align or 1
    if align & (align - 1) or align > 4096:
        return f"alignment {align} is not a power of two up to 4096"
    if section.size > SIZE_LIMIT:
        return f"{section.size} bytes are more than {SIZE_LIMIT}"
    return ""


def _contents(blob: bytes, section: Section) -> memoryview:
    whole = section.size - section.size % (section.entry or 1)
    return memoryview(blob)[section.offset : section.offset + whole]


def _strings(blob: bytes, sections: list[Section], number: int, where: str) -> bytes:
    if number >= len(sections) or sections[number].kind != _STRTAB:
        raise malformed(where, f"section {number} should be a table of names")
    return bytes(_contents(blob, sections[number]))


def _read_symbols(blob: bytes, sections: list[Section], number: int, where: str) -> list[Symbol]:
    table = sections[number]
    if table.entry != _SYMBOL.size:
        raise malformed(where, f"symbols of {table.entry} bytes instead of {_SYMBOL.size}")
    names = _strings(blob, sections, table.link, where)
    symbols: list[Symbol] = []
    for name, info, _, section, value, _ in _SYMBOL.iter_unpack(_contents(blob, table)):
        end = names.find(b"\0", name)
        if end < 0:
            raise malformed(where, f"symbol {len(symbols)} has a name outside the string table")
        if UNDEFINED < section < _FIRST_RESERVED and (
            section >= len(sections)
            or (sections[section].flags & ALLOC and value > sections[section].size)
        ):
            raise malformed(where, f"symbol {len(symbols)} lies outside its section")
        text = names[name:end].decode("utf-8", "backslashreplace")
        symbols.append(Symbol(text, info & 15, info >> 4, section, value))
    return symbols
