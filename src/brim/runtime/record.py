"""Reading JSON that nobody vouches for: bounded in size and depth, every field's type checked.

A `Record` is a JSON object whose fields are asked for by type and range; whatever is missing, of
another type or out of range is a ModelError that names the field.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from brim.errors import BrimError, ModelError
from brim.types import Type, parse_type

BYTES = 64 << 20
ITEMS = 2_000_000  # commas and brackets: what parsing may cost in memory
ELEMENTS = 1 << 40  # of one tensor, as in graph texts
BIG = 1 << 62
DEPTH = 64


def parse_json(data: bytes | memoryview, where: str) -> Record:
    """A JSON object as a Record. Raises ModelError."""
    data = bytes(data[: BYTES + 1])
    items = sum(data.count(mark) for mark in (b",", b"[", b"{"))
    if len(data) > BYTES or items > ITEMS:
        raise ModelError("a record is absurdly large", f"{len(data)} bytes, {items} items", where)
    if _depth(data) > DEPTH:
        raise ModelError(f"a record is nested deeper than {DEPTH}", where=where)
    try:
        found = json.loads(data, object_pairs_hook=_object, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ModelError("a record is not valid JSON", str(error)[:200], where) from None
    return Record(found, where) if isinstance(found, dict) else _expected("object", found, where)


def _depth(data: bytes) -> int:
    """How deep lists and objects nest, without a parser, which would nest as deep."""
    plain = np.frombuffer(data.replace(b"\\\\", b"").replace(b'\\"', b""), np.uint8)
    outside = np.cumsum(plain == ord('"'), dtype=np.uint8) & 1 == 0  # of strings
    folded = plain | 0x20  # makes braces of brackets
    opened, closed = outside & (folded == ord("{")), outside & (folded == ord("}"))
    steps = opened.view(np.int8) - closed.view(np.int8)
    return int(np.cumsum(steps, dtype=np.int32).max(initial=0))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def _expected(what: str, found: Any, where: str) -> NoReturn:
    raise ModelError(f"{what} expected", f"found {repr(found)[:80]}", where)


@dataclass(frozen=True)
class Record:
    """A JSON object, and where it stands."""

    fields: dict[str, Any]
    where: str

    def __contains__(self, key: str) -> bool:
        return key in self.fields

    def get(self, key: str) -> Any:
        """A field of any type; it must exist."""
        if key not in self.fields:
            raise ModelError(f"the field {key!r} is missing", where=self.where)
        return self.fields[key]

    def text(self, key: str) -> str:
        return as_text(self.get(key), f"{self.where}.{key}")

    def integer(self, key: str, low: int = 0, high: int = BIG) -> int:
        return as_integer(self.get(key), f"{self.where}.{key}", low, high)

    def real(self, key: str) -> float:
        return as_real(self.get(key), f"{self.where}.{key}")

    def list(self, key: str, length: int | None = None) -> list[Any]:
        return as_list(self.get(key), f"{self.where}.{key}", length)

    def record(self, key: str) -> Record:
        return as_record(self.get(key), f"{self.where}.{key}")

    def records(self, key: str) -> Sequence[Record]:
        """A list of objects."""
        where = f"{self.where}.{key}"
        return [as_record(item, f"{where}[{i}]") for i, item in enumerate(self.list(key))]

    def items(self) -> Iterator[tuple[str, Any]]:
        return iter(self.fields.items())

    def texts(self) -> dict[str, str]:
        """The whole object, all of whose fields are texts."""
        return {key: as_text(value, f"{self.where}.{key}") for key, value in self.items()}


def as_text(found: Any, where: str) -> str:
    return found if isinstance(found, str) else _expected("text", found, where)


def as_integer(found: Any, where: str, low: int = 0, high: int = BIG) -> int:
    if not isinstance(found, int) or isinstance(found, bool):
        _expected("integer", found, where)
    if not low <= found <= high:
        raise ModelError(f"{str(found)[:40]} is out of range", f"{low} to {high}", where)
    return found


def as_real(found: Any, where: str) -> float:
    """A finite number that is not negative."""
    fits = isinstance(found, (int, float)) and not isinstance(found, bool) and 0 <= found < 1e300
    return float(found) if fits and math.isfinite(found) else _expected("number", found, where)


def as_list(found: Any, where: str, length: int | None = None) -> list[Any]:
    if not isinstance(found, list) or (length is not None and len(found) != length):
        _expected("list" if length is None else f"list of {length}", found, where)
    return found


def as_record(found: Any, where: str) -> Record:
    return Record(found, where) if isinstance(found, dict) else _expected("object", found, where)


def as_type(found: Any, where: str, static: bool = True) -> Type:
    """A type of bounded size. `static`: its shape must be known."""
    text = as_text(found, where)
    try:
        type = parse_type(text[:2000])
    except (BrimError, ValueError) as error:
        raise ModelError(f"not a type: {text[:80]!r}", str(error)[:200], where) from None
    if (static and not type.is_static) or (type.is_static and type.size > ELEMENTS):
        raise ModelError(f"{text[:80]!r} is not possible here", where=where)
    if type.shape is not None and len(type.shape) > 64:
        raise ModelError(f"a tensor of {len(type.shape)} axes", where=where)
    return type
