"""The container of an artifact: a zip of stored, 64-byte aligned members, which can be mapped.

Written by hand and read by hand: a general zip reader accepts members that overlap, repeat, climb
out of a folder or unpack to any size, and this one must not. Every byte of an accepted file belongs
to exactly one header or member. What the members mean is not known here.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import BinaryIO, NoReturn

from brim.errors import ModelError, UnsupportedError

ALIGN = 64
MEMBERS = 4096
LARGEST = 2**32 - 1  # what a zip without the 64-bit extension can address
MAGIC = b"PK\x03\x04"

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_PADDING = struct.Struct("<3H")  # the extra field with which Android aligns: id, size, alignment
_PADDING_ID = 0xD935
_CENTRAL_MAGIC, _END_MAGIC = b"PK\x01\x02", b"PK\x05\x06"
_VERSION, _UTF8, _STORED, _DATE = 20, 0x800, 0, 0x21  # 1980-01-01: equal content, equal files
_PART = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True)
class Member:
    """One member: its bytes (a view of the file) and the CRC-32 that the file claims for them."""

    data: memoryview
    crc: int

    @property
    def is_intact(self) -> bool:
        return zlib.crc32(self.data) == self.crc


def write_container(file: BinaryIO, members: Iterable[tuple[str, bytes | memoryview]]) -> None:
    """Writes members in order. Raises UnsupportedError for more than 4 GiB or too many members."""
    file.writelines(container_parts(members))


def container_parts(
    members: Iterable[tuple[str, bytes | memoryview]],
) -> list[bytes | memoryview]:
    """What `write_container` writes, piece by piece; members are not copied."""
    parts: list[bytes | memoryview] = []
    directory: list[bytes] = []
    at = 0
    for name, data in members:
        label, size = name.encode("ascii"), len(data)
        start = at + _LOCAL.size + len(label)
        extra = -start % ALIGN
        extra += ALIGN if extra < _PADDING.size else 0
        if start + extra + size > LARGEST or len(directory) >= MEMBERS:
            raise UnsupportedError(
                "the artifact would be too large",
                f"it is limited to {MEMBERS} members and {LARGEST} bytes",
                name,
                "save fewer shapes",
            )
        crc = zlib.crc32(data)
        common = (_VERSION, _UTF8, _STORED, 0, _DATE, crc, size, size, len(label))
        padding = _PADDING.pack(_PADDING_ID, extra - 4, ALIGN).ljust(extra, b"\0")
        parts += [_LOCAL.pack(MAGIC, *common, extra) + label + padding, data]
        entry = _CENTRAL.pack(_CENTRAL_MAGIC, _VERSION, *common, 0, 0, 0, 0, 0, at)
        directory.append(entry + label)
        at = start + extra + size
    table = b"".join(directory)
    if at + len(table) > LARGEST:
        raise UnsupportedError("the artifact would be too large", hint="save fewer shapes")
    count = len(directory)
    end = _END.pack(_END_MAGIC, 0, 0, count, count, len(table), at, 0)
    return [*parts, table + end]


def read_container(content: memoryview, where: str) -> dict[str, Member]:
    """Name -> member of a whole file. Raises ModelError for anything but what brim writes."""
    if len(content) < _END.size:
        _damaged(f"{len(content)} bytes are less than an empty container", where)
    table = len(content) - _END.size
    magic, disk, first, here, count, size, start, comment = _END.unpack_from(content, table)
    if (magic, disk, first, comment) != (_END_MAGIC, 0, 0, 0) or here != count:
        _damaged("the end of the directory is not at the end of the file", where)
    if count > MEMBERS or start + size != table:
        _damaged(f"a directory of {count} members, {size} bytes at {start}, does not fit", where)
    members: dict[str, Member] = {}
    entry, end = start, 0
    for _ in range(count):
        if entry + _CENTRAL.size > table:
            _damaged("the directory is cut off", where)
        name, entry, end, member = _member(content, entry, end, table, start, where)
        if name in members:
            _damaged(f"two members are called {name!r}", where)
        members[name] = member
    if entry != table or end != start:
        _damaged("there are bytes that belong to no member", where)
    return members


def _member(
    content: memoryview, entry: int, begin: int, table: int, limit: int, where: str
) -> tuple[str, int, int, Member]:
    """(name, next directory entry, end of the data, member) of the directory entry at `entry`."""
    fields = _CENTRAL.unpack_from(content, entry)
    common, offset = fields[2:11], fields[16]
    flags, method, crc, packed, size, length = (*common[1:3], *common[5:9])
    after = entry + _CENTRAL.size + length
    if fields[0] != _CENTRAL_MAGIC or after > table:
        _damaged("a directory entry is not one", where)
    label = bytes(content[entry + _CENTRAL.size : after])
    name = label.decode("ascii", "replace")
    shown = repr(name[:80])
    if not all(map(_PART.fullmatch, name.split("/"))) or len(name) > 400:
        _damaged(f"{shown} is not a name for a member", where)
    if method != _STORED or packed != size:
        _damaged(f"member {shown} is compressed", where)
    if flags != _UTF8 or any(fields[11:16]):
        _damaged(f"member {shown} has features that brim does not write", where)
    if offset != begin:
        _damaged(f"member {shown} overlaps another one or leaves a gap", where)
    head = offset + _LOCAL.size
    if head + length > limit:
        _damaged(f"member {shown} lies outside the file", where)
    local = _LOCAL.unpack_from(content, offset)
    if local[:10] != (MAGIC, *common) or bytes(content[head : head + length]) != label:
        _damaged(f"member {shown} is described in two ways", where)
    start = head + length + local[10]
    if start % ALIGN or start + size > limit:
        _damaged(f"member {shown} is not aligned or lies outside the file", where)
    return name, after, start + size, Member(content[start : start + size], crc)


def _damaged(why: str, where: str) -> NoReturn:
    raise ModelError("not an intact .brim file", why, where, "save the model again")
