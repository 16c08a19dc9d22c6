"""Which operators of ONNX brim converts: what `brim ops --format onnx` and docs/onnx.md show.

The table of the front end says what there is; the standard's own schemas, where the `onnx` package
is installed, say in which operator sets an operator changed, which element types it has, and what
is missing. Nothing is converted here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from brim.frontends.onnx.rows import TABLE, Row, find
from brim.frontends.onnx.tensors import ELEMENTS
from brim.tools.row_functions import HOST, runs

NO_ROW = "there is no row yet"
_CONTENTS = {"array", "int_inputs"}  # methods of Call that ask what an input holds
_GROUPS = {
    "f16-f64": ("f16", "f32", "f64"),
    "i8-i64": ("i8", "i16", "i32", "i64"),
    "u8-u64": ("u8", "u16", "u32", "u64"),
    "f8": ("f8e4m3fn", "f8e4m3fnuz", "f8e5m2", "f8e5m2fnuz"),
    "i2-u4": ("i2", "i4", "u2", "u4"),
}


@dataclass(frozen=True)
class Operator:
    """An operator of ONNX. sets: those handled, each from the number given to the next one.

    types: element types that the standard gives its first input; unknown without its schema.
    runs: how; "" for one that brim has not, and `missing` says why.
    """

    name: str
    domain: str
    sets: tuple[int, ...]
    types: tuple[str, ...]
    runs: str
    missing: str = ""

    @property
    def full_name(self) -> str:
        """With its domain, where that is not the default one."""
        return f"{self.domain}.{self.name}" if self.domain else self.name


def onnx_operators() -> list[Operator]:
    """All operators that brim converts or that the standard has, by domain and name."""
    schemas = _schemas()
    return [
        _operator(domain, name, schemas.get((domain, name), []))
        for domain, name in sorted(set(TABLE) | set(schemas))
    ]


def _schemas() -> dict[tuple[str, str], list[Any]]:
    """Every version of every operator of the standard; none without the `onnx` package."""
    try:
        import onnx
    except ImportError:
        return {}
    found: dict[tuple[str, str], list[Any]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        found.setdefault((schema.domain, schema.name), []).append(schema)
    return {key: sorted(all_, key=lambda s: s.since_version) for key, all_ in found.items()}


def _operator(domain: str, name: str, schemas: list[Any]) -> Operator:
    rows = TABLE.get((domain, name), [])
    row = max(rows, key=lambda row: (row.until, row.since), default=None)
    types = _types(schemas[-1]) if schemas else ()
    sets = [schema.since_version for schema in schemas if not schema.deprecated]
    if row is None or row.refused:
        return Operator(name, domain, tuple(sets), types, "", row.refused if row else NO_ROW)
    handled = [number for number in sets if find(name, domain, number) is not None]
    return Operator(name, domain, tuple(handled or (r.since for r in rows)), types, _runs(row))


def _types(schema: Any) -> tuple[str, ...]:
    """The element types of an operator's first input (or output, if it has none), in brim's words.

    In the order in which brim lists types; of a sequence those of its tensors.
    """
    from onnx import TensorProto

    ports = schema.inputs or schema.outputs
    if not ports:
        return ()
    allowed = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
    names = allowed.get(ports[0].type_str, [ports[0].type_str])
    words = {word for text in names for word in re.findall(r"tensor\((\w+)\)", text)}
    known = [(TensorProto.DataType.Name(number).lower(), ELEMENTS[number]) for number in ELEMENTS]
    return tuple(dtype.name for name, dtype in known if name in words)


def short_types(types: tuple[str, ...]) -> tuple[str, ...]:
    """The same types with families in one word, for tables: f16-f64 are f16, f32 and f64."""
    whole = {name: family for name, family in _GROUPS.items() if set(family) <= set(types)}
    grouped = {dtype for family in whole.values() for dtype in family}
    return (*whole, *(dtype for dtype in types if dtype not in grouped))


def _runs(row: Row) -> str:
    return HOST if row.on_host else runs(row.function, _CONTENTS)
