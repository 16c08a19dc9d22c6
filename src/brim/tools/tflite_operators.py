"""Which operators of TFLite brim converts: what `brim ops --format tflite` and docs/tflite.md show.

The table of the front end says what there is, the schema, where the `tflite` package is installed,
what is missing. Nothing is converted here.
"""

from __future__ import annotations

from dataclasses import dataclass

from brim.frontends.tflite import operators  # noqa: F401  (declares the rows)
from brim.frontends.tflite.table import QUANTIZED, TABLE, Row
from brim.tools.row_functions import HOST, asks, functions_of, runs

NO_ROW = "there is no row yet"
INTEGERS, AS_IS, FLOATS = "in integers", "as they are", "in floats"
_CONTENTS = {"array", "integers", "integer"}  # methods of Call that ask what an input holds
_NEVER = "no file holds it, or LiteRT never had a kernel for it"
_WITHOUT_KERNEL = {
    "CALL": _NEVER,
    "CONCAT_EMBEDDINGS": _NEVER,
    "DELEGATE": _NEVER,
    "PLACEHOLDER_FOR_GREATER_OP_CODES": _NEVER,
}
_STABLEHLO = "LiteRT has no kernel for it: converters write TFLite's own operators instead"


@dataclass(frozen=True)
class Operator:
    """An operator of TFLite. quantized: how it computes where its numbers are quantized.

    runs: how; "" for one that brim has not, and `missing` says why.
    """

    name: str
    custom: bool
    quantized: str
    runs: str
    missing: str = ""


def tflite_operators() -> list[Operator]:
    """All operators that brim converts or that the schema has: builtin ones, then custom ones."""
    found = [_of_row(row) for row in TABLE.values()]
    found += [_missing(name) for name in _builtin_names() - set(TABLE)]
    return sorted(found, key=lambda operator: (operator.custom, operator.name))


def _builtin_names() -> set[str]:
    """The schema's; none without the `tflite` package."""
    try:
        from tflite import BuiltinOperator
    except ImportError:
        return set()
    return {n for n, i in vars(BuiltinOperator).items() if isinstance(i, int) and n != "CUSTOM"}


def _of_row(row: Row) -> Operator:
    integers = QUANTIZED.get(row.name)
    moves = row.moves or integers is row.function
    kind = AS_IS if moves else FLOATS if integers is None else INTEGERS
    on_host = any(asks(function, {"arrays"}) for function in functions_of(row.function))
    how = HOST if on_host else runs(row.function, _CONTENTS)
    return Operator(row.name, not row.name.isupper(), kind, how)


def _missing(name: str) -> Operator:
    reason = _STABLEHLO if name.startswith("STABLEHLO_") else NO_ROW
    return Operator(name, False, "", "", _WITHOUT_KERNEL.get(name, reason))
