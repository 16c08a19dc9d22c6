"""Element types, dimensions and tensor types: what a value is, not how it is computed or stored.

A `Type` prints and parses as `f32[1,56,56,64]`. A dimension is an int, or a `Dim` that is fixed
before compilation. A type whose shape is None (printed `f32[?]`) is only known when the value is
computed: such values are made by host steps.

Storage types (bf16, f8e4m3fn, i4, ...) can be moved and converted, never computed with; in memory
each element takes the bytes of its `carrier`. Containers (`seq.f32`, `opt.seq.f32`,
`map.i64.f32`) are single Python objects, which only host steps handle.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from brim.errors import ModelError, UnsupportedError


@dataclass(frozen=True)
class DType:
    """An element type.

    kind: f (float), i (signed), u (unsigned), b (bool), s (text), n (narrow: a storage type),
    o (object: a sequence, an optional or a map).
    """

    name: str
    kind: str
    bits: int

    @property
    def numpy(self) -> np.dtype:
        """numpy's type. Storage types: that of the ml_dtypes package; UnsupportedError without."""
        return _ml_dtype(self.name) if self.kind == "n" else _NUMPY.get(self.name, _OBJECT)

    @property
    def carrier(self) -> DType:
        """The type whose bytes an element takes in memory: the type itself, or 8 or 16 bits."""
        return _CARRIERS.get(self.name, self)

    @property
    def of(self) -> DType:
        """What a container holds: `seq.f32` holds f32, `map.i64.f32` (by i64) holds f32."""
        kind, _, rest = self.name.partition(".")
        return find_dtype(rest.partition(".")[2] if kind == "map" else rest)

    @property
    def bytes(self) -> int:
        """Bytes of one element in memory; 1 for those of fewer bits."""
        return max(self.bits // 8, 1)

    @property
    def is_float(self) -> bool:
        """Whether it is computed as a binary float: f16, f32 or f64."""
        return self.kind == "f"

    @property
    def is_integer(self) -> bool:
        """Whether it is a signed or unsigned integer of 8 bits or more."""
        return self.kind in "iu"

    @property
    def is_whole(self) -> bool:
        """Whether it holds whole numbers only: integers, i4, u4, i2 and u2, but not bool."""
        return self.kind in "iun" and self.name[0] in "iu"

    @property
    def is_object(self) -> bool:
        """Whether elements are Python objects, never memory of a plan: text and containers."""
        return self.kind in "so"

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return self.name


F16, F32, F64 = DType("f16", "f", 16), DType("f32", "f", 32), DType("f64", "f", 64)
I8, I16, I32, I64 = (DType(f"i{n}", "i", n) for n in (8, 16, 32, 64))
U8, U16, U32, U64 = (DType(f"u{n}", "u", n) for n in (8, 16, 32, 64))
BOOL = DType("bool", "b", 8)
STR = DType("str", "s", 64)

BF16 = DType("bf16", "n", 16)
F8E4M3FN, F8E4M3FNUZ = DType("f8e4m3fn", "n", 8), DType("f8e4m3fnuz", "n", 8)
F8E5M2, F8E5M2FNUZ = DType("f8e5m2", "n", 8), DType("f8e5m2fnuz", "n", 8)
F8E8M0, F4E2M1 = DType("f8e8m0", "n", 8), DType("f4e2m1", "n", 4)
I4, U4, I2, U2 = DType("i4", "n", 4), DType("u4", "n", 4), DType("i2", "n", 2), DType("u2", "n", 2)
STORAGE = (BF16, F8E4M3FN, F8E4M3FNUZ, F8E5M2, F8E5M2FNUZ, F8E8M0, F4E2M1, I4, U4, I2, U2)

COMPUTED = (F16, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64, BOOL)  # what kernels know
DTYPES: dict[str, DType] = {t.name: t for t in (*COMPUTED, STR, *STORAGE)}
_OBJECT = np.dtype(object)
_NUMPY: dict[str, np.dtype] = {
    "f16": np.dtype(np.float16),
    "f32": np.dtype(np.float32),
    "f64": np.dtype(np.float64),
    "bool": np.dtype(np.bool_),
    "str": _OBJECT,
    **{f"i{n}": np.dtype(f"int{n}") for n in (8, 16, 32, 64)},
    **{f"u{n}": np.dtype(f"uint{n}") for n in (8, 16, 32, 64)},
}
_BY_NUMPY = {v: DTYPES[k] for k, v in _NUMPY.items()}
_CARRIERS = {t.name: U16 if t is BF16 else I8 if t in (I4, I2) else U8 for t in STORAGE}
_ML_DTYPES = {  # brim's name -> that of numpy.dtype(ml_dtypes...).name
    "bf16": "bfloat16", "f8e4m3fn": "float8_e4m3fn", "f8e4m3fnuz": "float8_e4m3fnuz",
    "f8e5m2": "float8_e5m2", "f8e5m2fnuz": "float8_e5m2fnuz", "f8e8m0": "float8_e8m0fnu",
    "f4e2m1": "float4_e2m1fn", "i4": "int4", "u4": "uint4", "i2": "int2", "u2": "uint2",
}  # fmt: skip
_BY_NAME = {numpy: DTYPES[name] for name, numpy in _ML_DTYPES.items()}


def _ml_dtype(name: str) -> np.dtype:
    try:
        import ml_dtypes
    except ImportError as error:
        raise UnsupportedError(
            f"arrays of {name} need the ml_dtypes package",
            why=str(error),
            hint="pip install 'brim[onnx]'",
        ) from None
    return np.dtype(getattr(ml_dtypes, _ML_DTYPES[name]))


def find_dtype(name: str) -> DType:
    """The element type or container of a name. Raises ModelError."""
    kind, dot, inner = name.partition(".")
    if not dot and name in DTYPES:
        return DTYPES[name]
    if kind == "map" and dot:
        key, dot, inner = inner.partition(".")
        kind = "map" if key in ("i64", "str") else ""
    if kind not in ("seq", "opt", "map") or not dot or name.count(".") > 8:
        raise ModelError(f"there is no type {name[:80]!r}", hint=f"types: {', '.join(DTYPES)}")
    find_dtype(inner)
    return DType(name, "o", 64)


def dtype_of(array: np.ndarray | np.dtype | type) -> DType:
    """The DType of a numpy array or dtype. Raises ModelError for types that brim has not."""
    dt = array.dtype if isinstance(array, np.ndarray) else np.dtype(array)
    if dt.kind in "OUST":
        return STR
    found = _BY_NUMPY.get(dt.newbyteorder("=")) or _BY_NAME.get(dt.name)
    if found is None:
        raise ModelError(
            f"numpy type {dt} has no counterpart in brim", hint=f"use one of {list(DTYPES)}"
        )
    return found


def as_numbers(array: np.ndarray) -> np.ndarray:
    """An array of a storage type as one that numpy computes with (f32, i8 or u8); others as is."""
    dtype = dtype_of(array)
    if dtype.kind != "n":
        return array
    return array.astype(dtype.carrier.numpy if dtype.is_whole else np.float32)


def as_carrier(array: np.ndarray) -> np.ndarray:
    """An array of a storage type as the integers of its bits, for files; others as is."""
    dtype = dtype_of(array)
    return array.view(dtype.carrier.numpy) if dtype.kind == "n" else array


def strided(array: np.ndarray, shape: Sequence[int], strides: Sequence[int]) -> np.ndarray:
    """numpy's `as_strided`, for storage types as well (it does not know all of their dtypes)."""
    stored = dtype_of(array).kind == "n"
    bits = array.view(f"u{array.itemsize}") if stored else array
    view = np.lib.stride_tricks.as_strided(bits, shape, strides)
    return view.view(array.dtype) if stored else view


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
        """Whether all extents are known."""
        return self.shape is not None and all(isinstance(n, int) for n in self.shape)

    @property
    def dims(self) -> Shape:
        """The shape as ints; only for static types."""
        assert self.shape is not None and self.is_static, f"{self} is not static"
        return self.shape  # type: ignore[return-value]

    @property
    def example(self) -> Shape:
        """A shape that it may have: one sample, a picture, a sequence where extents are open."""
        dims = self.shape or ()
        open_ = 224 if len(dims) == 4 else 128
        return tuple(
            n if isinstance(n, int) else 1 if i == 0 else open_ for i, n in enumerate(dims)
        )

    @property
    def rank(self) -> int:
        """Number of axes, which must be known."""
        assert self.shape is not None, f"{self} has no known rank"
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.dims)

    @property
    def bytes(self) -> int:
        """Bytes of an array of this type, which must be static."""
        return self.size * self.dtype.bytes

    def __str__(self) -> str:
        shape = "?" if self.shape is None else ",".join(map(str, self.shape))
        return f"{self.dtype}[{shape}]"


_TYPE = re.compile(r"([a-z][a-z0-9.]*)\[([^\]]*)\]")


def parse_type(text: str) -> Type:
    """Reads what `str(type)` prints. Raises ModelError."""
    found = _TYPE.fullmatch(text.strip())
    if not found:
        raise ModelError(f"not a type: {text[:80]!r}", hint="types look like f32[1,3,224,224]")
    dtype = find_dtype(found[1])
    if found[2] == "?":
        return Type(None, dtype)
    dims: list[int | Dim] = []
    for part in filter(None, found[2].split(",")):
        if part.isdigit():
            dims.append(int(part))
        elif part.isidentifier():
            dims.append(Dim(part))
        else:
            raise ModelError(f"not a dimension: {part[:80]!r} in {text[:80]!r}")
    return Type(tuple(dims), dtype)


def type_of(array: np.ndarray) -> Type:
    """The type of a numpy array."""
    return Type(tuple(array.shape), dtype_of(array))
