"""The card of a TFLite model, the FlatBuffer TFLITE_METADATA: who made it, what its ports mean.

Of the public schema (metadata_schema.fbs of tflite-support) the fields that callers need: names,
descriptions, how pictures are normalised, which of the packed files hold labels.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

CARD = "TFLITE_METADATA"  # name of its entry
IDENTIFIER = b"M001"
MOST = 1000  # items of a list
NORMALIZATION = 1  # of the union ProcessUnitOptions
FIELDS = {0: "name", 1: "description", 2: "version", 4: "author", 5: "license"}
LABELS = {2: "labels", 3: "value labels"}  # of the enumeration AssociatedFileType


def read_card(
    raw: bytes, graph: int, inputs: Sequence[str], outputs: Sequence[str]
) -> dict[str, str]:
    """Texts by name; those of a port begin with its kind and name, such as "input x mean".

    graph: number of the sub-graph whose ports, in order, have these names. A damaged card tells
    nothing, since models run without it.
    """
    if raw[4:8] != IDENTIFIER:
        return {}
    try:
        return {key: text for key, text in _card(raw, graph, inputs, outputs) if text}
    except (struct.error, IndexError):
        return {}


def _card(
    raw: bytes, graph: int, inputs: Sequence[str], outputs: Sequence[str]
) -> Iterator[tuple[str, str]]:
    card = _Table(raw, struct.unpack_from("<I", raw)[0])
    for field, key in FIELDS.items():
        yield key, card.text(field)
    for part in card.tables(3)[graph : graph + 1]:
        for field, kind, names in ((2, "input", inputs), (3, "output", outputs)):
            for name, tensor in zip(names, part.tables(field)):
                for key, text in _tensor(tensor):
                    yield f"{kind} {name} {key}", text


def _tensor(tensor: _Table) -> Iterator[tuple[str, str]]:
    yield "name", tensor.text(0)
    yield "description", tensor.text(1)
    for unit in tensor.tables(4):
        if unit.byte(0) == NORMALIZATION:
            for options in unit.table(1):
                yield "mean", options.numbers(0)
                yield "std", options.numbers(1)
    for stats in tensor.table(5):
        yield "max", stats.numbers(0)
        yield "min", stats.numbers(1)
    for file in tensor.tables(6):
        if (kind := LABELS.get(file.byte(2))) is not None:
            yield kind, file.text(0)


class _Table:
    """A table of a FlatBuffer; its fields by their numbers in the schema.

    Reading outside the bytes raises struct.error or IndexError.
    """

    def __init__(self, raw: bytes, position: int) -> None:
        self.raw, self.position = raw, position
        self.fields = position - self._number("<i", position)
        self.size = self._number("<H", self.fields)

    def _number(self, format: str, position: int) -> int:
        if position < 0:
            raise IndexError(position)
        return int(struct.unpack_from(format, self.raw, position)[0])

    def _field(self, field: int) -> int:
        """Where a field lies; 0 if it is left out."""
        entry = 4 + 2 * field
        offset = self._number("<H", self.fields + entry) if entry < self.size else 0
        return self.position + offset if offset else 0

    def _vector(self, field: int) -> tuple[int, int]:
        """Where the items of a list begin, and how many there are."""
        at = self._field(field)
        if not at:
            return 0, 0
        at += self._number("<I", at)
        return at + 4, min(self._number("<I", at), MOST)

    def byte(self, field: int) -> int:
        at = self._field(field)
        return self.raw[at] if at else 0

    def text(self, field: int) -> str:
        start, _ = self._vector(field)
        length = self._number("<I", start - 4) if start else 0
        return self.raw[start : start + length].decode("utf-8", "replace")

    def numbers(self, field: int) -> str:
        """A list of f32, with spaces between."""
        start, count = self._vector(field)
        return " ".join(f"{x:.7g}" for x in struct.unpack_from(f"<{count}f", self.raw, start))

    def table(self, field: int) -> list[_Table]:
        """The table in a field, or none."""
        at = self._field(field)
        return [_Table(self.raw, at + self._number("<I", at))] if at else []

    def tables(self, field: int) -> list[_Table]:
        start, count = self._vector(field)
        places = range(start, start + 4 * count, 4)
        return [_Table(self.raw, at + self._number("<I", at)) for at in places]
