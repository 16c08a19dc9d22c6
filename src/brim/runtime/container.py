"""The container of an artifact: a zip of 64-byte aligned members, the large ones stored: mappable.

Written by hand and read by hand: a general zip reader accepts members that overlap, repeat, climb
out of a folder or unpack to any size, and this one must not. Every byte of an accepted file belongs
to exactly one header or member. What the members mean is not known here.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterable
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
_VERSION, _UTF8, _DATE = 20, 0x800, 0x21  # 1980-01-01: equal content, equal files
_STORED, _DEFLATED = 0, 8
_UNPACKED = 1 << 26  # bytes that a deflated member may have: it takes memory, which no file decides
_PART = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True)
class Member:
    """One member. raw: its bytes in the file, as they are or deflated; size: how many they are
    unpacked; crc: the CRC-32 that the file claims for them then."""

    raw: memoryview
    size: int
    crc: int
    is_deflated: bool

    def read(self) -> memoryview:
        """What the member holds: a view of the file, or unpacked. Raises ValueError for deflated
        bytes that are damaged."""
        if not self.is_deflated:
            return self.raw
        unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            found = unpacker.decompress(self.raw, self.size + 1)
        except zlib.error as error:
            raise ValueError(str(error)) from None
        if len(found) != self.size or not unpacker.eof or unpacker.unused_data:
            raise ValueError(f"it does not unpack to {self.size} bytes")
        return memoryview(found)

    @property
    def is_intact(self) -> bool:
        try:
            return zlib.crc32(self.read()) == self.crc
        except ValueError:
            return False


Members = Iterable[tuple[str, bytes | memoryview]]


def write_container(
    file: BinaryIO, members: Members, deflated: Callable[[str], bool] = lambda name: False
) -> None:
    """Writes members in order. deflated: which of them are, if that makes them smaller.

    Raises UnsupportedError for more than 4 GiB or too many members."""
    file.writelines(container_parts(members, deflated))


def container_parts(
    members: Members, deflated: Callable[[str], bool] = lambda name: False
) -> list[bytes | memoryview]:
    """What `write_container` writes, piece by piece; stored members are not copied."""
    parts: list[bytes | memoryview] = []
    directory: list[bytes] = []
    at = 0
    for name, data in members:
        label = name.encode("ascii")
        raw = _deflated(data) if deflated(name) and len(data) <= _UNPACKED else data
        raw, method = (raw, _DEFLATED) if len(raw) < len(data) else (data, _STORED)
        start = at + _LOCAL.size + len(label)
        extra = -start % ALIGN
        extra += ALIGN if extra < _PADDING.size else 0
        if start + extra + len(raw) > LARGEST or len(directory) >= MEMBERS:
            raise UnsupportedError(
                "the artifact would be too large",
                f"it is limited to {MEMBERS} members and {LARGEST} bytes",
                name,
                "save fewer shapes",
            )
        sizes = (zlib.crc32(data), len(raw), len(data), len(label))
        common = (_VERSION, _UTF8, method, 0, _DATE, *sizes)
        padding = _PADDING.pack(_PADDING_ID, extra - 4, ALIGN).ljust(extra, b"\0")
        parts += [_LOCAL.pack(MAGIC, *common, extra) + label + padding, raw]
        entry = _CENTRAL.pack(_CENTRAL_MAGIC, _VERSION, *common, 0, 0, 0, 0, 0, at)
        directory.append(entry + label)
        at = start + extra + len(raw)
    table = b"".join(directory)
    if at + len(table) > LARGEST:
        raise UnsupportedError("the artifact would be too large", hint="save fewer shapes")
    count = len(directory)
    end = _END.pack(_END_MAGIC, 0, 0, count, count, len(table), at, 0)
    return [*parts, table + end]


def _deflated(data: bytes | memoryview) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


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
    if method == _DEFLATED and size > _UNPACKED:
        _damaged(f"member {shown} would unpack to {size} bytes", where)
    if method not in (_STORED, _DEFLATED) or (method == _STORED and packed != size):
        _damaged(f"member {shown} is compressed in a way that brim does not write", where)
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
    if start % ALIGN or start + packed > limit:
        _damaged(f"member {shown} is not aligned or lies outside the file", where)
    raw = content[start : start + packed]
    return name, after, start + packed, Member(raw, size, crc, method == _DEFLATED)


def _damaged(why: str, where: str) -> NoReturn:
    raise ModelError("not an intact .brim file", why, where, "save the model again")
