"""Element types, dimensions and tensor types: what a value is, not how it is computed or stored.

A `Type` prints and parses as `f32[1,56,56,64]`. A dimension is an int, or a `Dim` that is fixed
before compilation. A type whose shape is None (printed `f32[?]`) is only known when the value is
computed: such values are made by host steps.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod

import numpy as np

from brim.errors import ModelError


@dataclass(frozen=True)
class DType:
    """An element type. `kind` is one of f (float), i (signed), u (unsigned), b (bool), s (text)."""

    name: str
    kind: str
    bits: int

    @property
    def numpy(self) -> np.dtype:
        return _NUMPY[self.name]

    @property
    def bytes(self) -> int:
        return max(self.bits // 8, 1)

    @property
    def is_float(self) -> bool:
        return self.kind == "f"

    @property
    def is_integer(self) -> bool:
        return self.kind in "iu"

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return self.name


F16, F32, F64 = DType("f16", "f", 16), DType("f32", "f", 32), DType("f64", "f", 64)
I8, I16, I32, I64 = (DType(f"i{n}", "i", n) for n in (8, 16, 32, 64))
U8, U16, U32, U64 = (DType(f"u{n}", "u", n) for n in (8, 16, 32, 64))
BOOL = DType("bool", "b", 8)
STR = DType("str", "s", 64)

DTYPES: dict[str, DType] = {
    t.name: t for t in (F16, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64, BOOL, STR)
}
_NUMPY: dict[str, np.dtype] = {
    "f16": np.dtype(np.float16),
    "f32": np.dtype(np.float32),
    "f64": np.dtype(np.float64),
    "bool": np.dtype(np.bool_),
    "str": np.dtype(object),
    **{f"i{n}": np.dtype(f"int{n}") for n in (8, 16, 32, 64)},
    **{f"u{n}": np.dtype(f"uint{n}") for n in (8, 16, 32, 64)},
}
_BY_NUMPY = {v: DTYPES[k] for k, v in _NUMPY.items()}


def dtype_of(array: np.ndarray | np.dtype | type) -> DType:
    """The DType of a numpy array or dtype. Raises ModelError for types that brim has not."""
    dt = array.dtype if isinstance(array, np.ndarray) else np.dtype(array)
    if dt.kind in "OUST":
        return STR
    found = _BY_NUMPY.get(dt.newbyteorder("="))
    if found is None:
        raise ModelError(
            f"numpy type {dt} has no counterpart in brim", hint=f"use one of {list(DTYPES)}"
        )
    return found


@dataclass(frozen=True)
class Dim:
    """A dimension with a name, fixed before compilation."""

    name: str

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return self.name


Shape = tuple[int, ...]


@dataclass(frozen=True)
class Type:
    """Shape and element type of a tensor; `shape` None: known only when the value is computed."""

    shape: tuple[int | Dim, ...] | None
    dtype: DType

    @property
    def is_static(self) -> bool:
        return self.shape is not None and all(isinstance(n, int) for n in self.shape)

    @property
    def dims(self) -> Shape:
        """The shape as ints; only for static types."""
        assert self.shape is not None and self.is_static, f"{self} is not static"
        return self.shape  # type: ignore[return-value]

    @property
    def rank(self) -> int:
        assert self.shape is not None, f"{self} has no known rank"
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.dims)

    @property
    def bytes(self) -> int:
        return self.size * self.dtype.bytes

    def __str__(self) -> str:
        shape = "?" if self.shape is None else ",".join(map(str, self.shape))
        return f"{self.dtype}[{shape}]"


_TYPE = re.compile(r"([a-z]+[0-9]*)\[([^\]]*)\]")


def parse_type(text: str) -> Type:
    """Reads what `str(type)` prints. Raises ModelError."""
    found = _TYPE.fullmatch(text.strip())
    if not found or found[1] not in DTYPES:
        raise ModelError(f"not a type: {text[:80]!r}", hint="types look like f32[1,3,224,224]")
    if found[2] == "?":
        return Type(None, DTYPES[found[1]])
    dims: list[int | Dim] = []
    for part in filter(None, found[2].split(",")):
        if part.isdigit():
            dims.append(int(part))
        elif part.isidentifier():
            dims.append(Dim(part))
        else:
            raise ModelError(f"not a dimension: {part[:80]!r} in {text[:80]!r}")
    return Type(tuple(dims), DTYPES[found[1]])


def type_of(array: np.ndarray) -> Type:
    """The type of a numpy array."""
    return Type(tuple(array.shape), dtype_of(array))
