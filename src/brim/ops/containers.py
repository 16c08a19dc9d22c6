"""Operators on sequences and optionals whose content is only known when a model runs: host steps.

Their values are boxes (see `brim.containers`); nothing is changed in place, every operator gives a
new list. Arrays taken out of a container have a shape that is only known then (f32[?]). Sequences
that are known while a model is imported need none of this: front ends keep tuples of values.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from brim.containers import box, unbox
from brim.errors import InputError, OpError
from brim.ops.registry import primitive
from brim.types import BOOL, I64, DType, Type, find_dtype

PARTS = 1 << 24  # in one sequence


def container(kind: str, of: DType) -> Type:
    """The type of a sequence ("seq") or optional ("opt") of `of`."""
    return Type((), find_dtype(f"{kind}.{of}"))


def content_type(dtype: DType) -> Type:
    """The type of what a sequence or an optional holds."""
    return Type((), dtype.of) if dtype.of.kind == "o" else Type(None, dtype.of)


def _is(type: Type, kind: str) -> bool:
    return type.dtype.name.startswith(f"{kind}.")


def _need(type: Type, kind: str) -> None:
    if not _is(type, kind):
        raise OpError(f"{type} is no {'sequence' if kind == 'seq' else 'optional'}")


def _position(index: tuple[Any, ...], count: int, behind: int = 0) -> int:
    """An index, negative ones from the end, or the last position where none is given."""
    if not index:
        return count - 1 + behind
    at = int(np.asarray(index[0]).reshape(-1)[0])
    if not -count <= at < count + behind:
        raise InputError(f"position {at} in a sequence of {count}")
    return at + count if at < 0 else at


def _check_index(index: tuple[Type, ...]) -> None:
    if len(index) > 1 or any(not t.dtype.is_integer for t in index):
        raise OpError(f"one integer as the position, not {', '.join(map(str, index))}")


# ------------------------------------------------------------------ sequences


def _sequence(*parts: Type, of: DType) -> Type:
    if any(part.dtype != of for part in parts):
        raise OpError(f"a sequence of {of} cannot hold {', '.join(map(str, parts))}")
    return container("seq", of)


@primitive("host", _sequence, lambda *parts, of: box([unbox(part) for part in parts]))
def sequence(*parts, of):
    """The sequence of these values, all of the element type or container `of`."""


def _sequence_at(s: Type, index: Type) -> Type:
    _need(s, "seq")
    _check_index((index,))
    return content_type(s.dtype)


def _take(s: np.ndarray, index: np.ndarray) -> Any:
    parts = s.item()
    return _boxed(parts[_position((index,), len(parts))])


def _boxed(content: Any) -> np.ndarray:
    return content if isinstance(content, np.ndarray) else box(content)


@primitive("host", _sequence_at, _take)
def sequence_at(s, index):
    """What stands at `index` of a sequence; -1 is the last."""


def _sequence_insert(s: Type, part: Type, *index: Type) -> Type:
    _need(s, "seq")
    _check_index(index)
    if part.dtype != s.dtype.of:
        raise OpError(f"{part} does not go into {s}")
    return s


def _insert(s: np.ndarray, part: np.ndarray, *index: np.ndarray) -> np.ndarray:
    parts = list(s.item())
    if len(parts) >= PARTS:
        raise InputError(f"a sequence of more than {PARTS} parts")
    parts.insert(_position(index, len(parts), behind=1), unbox(part))
    return box(parts)


@primitive("host", _sequence_insert, _insert)
def sequence_insert(s, part, *index):
    """The sequence with `part` before position `index`, or at its end where none is given."""


def _sequence_erase(s: Type, *index: Type) -> Type:
    _need(s, "seq")
    _check_index(index)
    return s


def _erase(s: np.ndarray, *index: np.ndarray) -> np.ndarray:
    parts = list(s.item())
    if not parts:
        raise InputError("nothing can be taken from an empty sequence")
    del parts[_position(index, len(parts))]
    return box(parts)


@primitive("host", _sequence_erase, _erase)
def sequence_erase(s, *index):
    """The sequence without what stands at `index`, or without its last part."""


def _sequence_length(s: Type) -> Type:
    _need(s, "seq")
    return Type((), I64)


@primitive("host", _sequence_length, lambda s: np.asarray(len(s.item()), np.int64))
def sequence_length(s):
    """How many parts a sequence has (i64[])."""


def _sequence_concat(s: Type, *, axis: int, stack: bool) -> Type:
    _need(s, "seq")
    if s.dtype.of.kind == "o":
        raise OpError(f"{s} holds no arrays")
    return Type(None, s.dtype.of)


def _concat(s: np.ndarray, axis: int, stack: bool) -> np.ndarray:
    parts = s.item()
    if not parts:
        raise InputError("nothing to join: the sequence is empty")
    return np.stack(parts, axis) if stack else np.concatenate(parts, axis)


@primitive("host", _sequence_concat, _concat)
def sequence_concat(s, *, axis, stack):
    """All arrays of a sequence joined along `axis`; `stack`: along a new axis."""


def _sequence_split(x: Type, *sizes: Type, axis: int, keep: bool) -> Type:
    if len(sizes) > 1 or any(not t.dtype.is_integer for t in sizes) or x.dtype.kind == "o":
        raise OpError(f"{x} cannot be split by {', '.join(map(str, sizes))}")
    return container("seq", x.dtype)


def _split(x: np.ndarray, *sizes: np.ndarray, axis: int, keep: bool) -> np.ndarray:
    n = x.shape[axis]
    if not sizes:
        parts = np.split(x, range(1, n), axis) if n else []
        return box(parts if keep else [part.squeeze(axis) for part in parts])
    if sizes[0].ndim == 0:
        if sizes[0] < 1:
            raise InputError(f"parts of {sizes[0]}")
        return box(np.split(x, range(int(sizes[0]), n, int(sizes[0])), axis) if n else [])
    if sizes[0].sum() != n or sizes[0].min(initial=0) < 0:
        raise InputError(f"parts of {sizes[0].tolist()[:8]} do not make up {n}")
    return box(np.split(x, np.cumsum(sizes[0])[:-1], axis) if len(sizes[0]) else [])


@primitive("host", _sequence_split, _split)
def sequence_split(x, *sizes, axis, keep):
    """x cut along `axis` into parts of the given sizes, of one size, or of 1.

    sizes: one integer for all parts (the last may be smaller), a list of them, or none. Without
    sizes and without `keep`, the parts lose the axis.
    """


# ------------------------------------------------------------------ optionals


def _optional(*content: Type, of: DType) -> Type:
    if len(content) > 1 or any(part.dtype != of for part in content):
        raise OpError(f"an optional of {of} cannot hold {', '.join(map(str, content))}")
    return container("opt", of)


@primitive("host", _optional, lambda *content, of: box(unbox(content[0]) if content else None))
def optional(*content, of):
    """An optional that holds this value, or is empty; `of`: its element type or container."""


def _has_element(o: Type) -> Type:
    _need(o, "opt")
    return Type((), BOOL)


@primitive("host", _has_element, lambda o: np.asarray(o.item() is not None))
def has_element(o):
    """Whether an optional holds something."""


def _get_element(o: Type) -> Type:
    _need(o, "opt")
    return content_type(o.dtype)


def _get(o: np.ndarray) -> Any:
    if o.item() is None:
        raise InputError("an empty optional has no element")
    return _boxed(o.item())


@primitive("host", _get_element, _get)
def get_element(o):
    """What an optional holds. Raises InputError, when it runs, if that is nothing."""
