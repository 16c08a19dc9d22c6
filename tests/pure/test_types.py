"""Element types, dimensions and types: what they print, parse, and refuse."""

from __future__ import annotations

import numpy as np
import pytest

from brim.errors import ModelError
from brim.types import (
    BF16,
    BOOL,
    DTYPES,
    F8E5M2,
    F16,
    F32,
    I4,
    I8,
    STORAGE,
    STR,
    U8,
    U16,
    Dim,
    DType,
    Type,
    as_numbers,
    dtype_of,
    parse_type,
    strided,
    type_of,
)


@pytest.mark.parametrize("name", sorted(DTYPES))
def test_dtypes_match_numpy(name: str) -> None:
    dtype = DTYPES[name]
    assert str(dtype) == name
    if dtype != STR:
        assert dtype_of(np.zeros(1, dtype.numpy)) == dtype
        assert dtype.bytes == dtype.numpy.itemsize


@pytest.mark.parametrize("dtype", STORAGE, ids=str)
def test_storage_types_lie_in_their_carriers(dtype: DType) -> None:
    assert dtype.carrier.kind in "iu"
    assert dtype.carrier.bytes == dtype.bytes == -(-dtype.bits // 8)
    assert not (dtype.is_float or dtype.is_integer)
    assert dtype.is_whole == (dtype.name[0] in "iu")
    array = np.array([1, 1], dtype.numpy)
    assert as_numbers(array).tolist() == [1, 1]
    assert str(type_of(array)) == f"{dtype}[2]"
    assert parse_type(f"{dtype}[2]") == type_of(array)


def test_plain_types_are_their_own_carriers() -> None:
    plain = [dtype for dtype in DTYPES.values() if dtype not in STORAGE]
    assert all(dtype.carrier == dtype for dtype in plain)
    assert [dtype.name for dtype in plain if dtype.is_whole] == [
        dtype.name for dtype in plain if dtype.is_integer
    ]
    assert (BF16.carrier, I4.carrier) == (U16, I8)


@pytest.mark.parametrize("dtype", [F32, BF16, F8E5M2, I4, BOOL], ids=str)
def test_strided_views_of_all_types(dtype: DType) -> None:
    array = np.array([0, 1, 1, 0, 1, 0], np.int8).astype(dtype.numpy)
    view = strided(array, (2, 3), (array.itemsize, 2 * array.itemsize))
    assert view.dtype == dtype.numpy
    assert view.astype(np.float32).tolist() == [[0, 1, 1], [1, 0, 0]]


@pytest.mark.parametrize(
    "text", ["f32[]", "i64[0]", "f32[1,224,224,3]", "bool[2]", "u8[?]", "f8e4m3fn[2]", "i4[3,5]"]
)
def test_types_print_what_they_parse(text: str) -> None:
    assert str(parse_type(text)) == text


def test_dimensions_with_names() -> None:
    found = parse_type("f32[batch,3]")
    assert found.shape == (Dim("batch"), 3)
    assert not found.is_static
    assert str(found) == "f32[batch,3]"


def test_sizes() -> None:
    found = Type((2, 3, 4), F32)
    assert (found.rank, found.size, found.bytes) == (3, 24, 96)
    assert Type((3,), BOOL).bytes == 3
    assert Type((), F16).bytes == 2


@pytest.mark.parametrize("text", ["", "f32", "f33[1]", "f32[1", "f32[-1]", "f32[1.5]", "f32[a b]"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ModelError):
        parse_type(text)


def test_types_of_arrays() -> None:
    assert type_of(np.zeros((2, 3), np.uint8)) == Type((2, 3), U8)
    assert type_of(np.array(["a", "b"])) == Type((2,), STR)
    assert dtype_of(np.dtype(">f4")) == F32
    with pytest.raises(ModelError, match="complex"):
        dtype_of(np.zeros(1, complex))
