"""The options of custom operators, where their bytes are a FlexBuffer: a map of plain values."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

MAP = 9  # FlexBuffers' number of a map, in the upper bits of the last byte but one


def custom_options(raw: bytes) -> Mapping[str, Any]:
    """Numbers, texts and vectors of numbers by name; empty where the bytes are something else.

    Other operators have structures of their own there, so what cannot be read is no error.
    """
    if len(raw) < 3 or raw[-1] not in (1, 2, 4, 8) or raw[-2] >> 2 != MAP:
        return MappingProxyType({})
    from flatbuffers import flexbuffers

    found: dict[str, Any] = {}
    try:
        root = flexbuffers.GetRoot(raw).AsMap
        keys, values = root.Keys, root.Values
        for i in range(min(len(keys), len(values), len(raw))):
            plain = _plain(values[i], len(raw))
            if plain is not None:
                found[keys[i].AsKey] = plain
    except Exception:  # the package raises anything for damaged bytes
        return MappingProxyType({})
    return MappingProxyType(found)


def _plain(value: Any, most: int) -> Any:
    """A value as int, float, str or a tuple of numbers; None for what is none of them."""
    if value.IsBool:
        return int(value.AsBool)
    if value.IsInt:
        return int(value.AsInt)
    if value.IsFloat:
        return float(value.AsFloat)
    if value.IsString:
        return str(value.AsString)
    if value.IsTypedVector or value.IsFixedTypedVector:
        vector = value.AsTypedVector if value.IsTypedVector else value.AsFixedTypedVector
    elif value.IsVector and not value.IsMap:
        vector = value.AsVector
    else:
        return None
    if len(vector) > most:
        return None
    found = [_plain(vector[i], 0) for i in range(len(vector))]
    return None if any(not isinstance(n, (int, float)) for n in found) else tuple(found)
