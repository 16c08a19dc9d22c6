"""Element types, dimensions and types: what they print, parse, and refuse."""

from __future__ import annotations

import numpy as np
import pytest

from brim.errors import ModelError
from brim.types import BOOL, DTYPES, F16, F32, STR, U8, Dim, Type, dtype_of, parse_type, type_of


@pytest.mark.parametrize("name", sorted(DTYPES))
def test_dtypes_match_numpy(name: str) -> None:
    dtype = DTYPES[name]
    assert str(dtype) == name
    if dtype != STR:
        assert dtype_of(np.zeros(1, dtype.numpy)) == dtype
        assert dtype.bytes == dtype.numpy.itemsize


@pytest.mark.parametrize("text", ["f32[]", "i64[0]", "f32[1,224,224,3]", "bool[2]", "u8[?]"])
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
