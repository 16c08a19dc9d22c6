"""Arrays as .npy bytes and back, without numpy's reader: no pickle, no evaluated header, no copies.

Text becomes fixed-width Unicode on the way out and objects on the way in, as brim holds it. Storage
types have no name in such files: they are written as their carriers.
"""

from __future__ import annotations

import io
import math
import re
from typing import NoReturn

import numpy as np

from brim.errors import BrimError, ModelError, UnsupportedError
from brim.types import as_carrier, dtype_of

_HEADER = re.compile(
    rb"\{'descr': '([<|][biufU][0-9]{1,9})', 'fortran_order': (False|True), "
    rb"'shape': \(((?:[0-9]{1,18},? ?)*)\), \} *\n"
)


def write_npy(array: np.ndarray) -> bytes:
    """The array as a .npy file, version 1. Raises UnsupportedError for objects but text."""
    if array.dtype == object:
        if not all(isinstance(x, str) and "\0" not in x for x in array.ravel()):
            raise UnsupportedError(
                "only numbers and text can be saved", f"found {array.ravel()[:3]}"
            )
        array = array.astype(np.str_)
    file = io.BytesIO()
    array = as_carrier(np.asarray(array))
    np.lib.format.write_array(file, array, version=(1, 0), allow_pickle=False)
    return file.getvalue()


def read_npy(data: memoryview, where: str) -> np.ndarray:
    """The array of a .npy file, a read-only view of `data` (a copy for text). Raises ModelError."""
    if bytes(data[:8]) != b"\x93NUMPY\x01\x00":
        _damaged("it does not start as version 1 does", where)
    start = 10 + int.from_bytes(data[8:10], "little")
    found = _HEADER.fullmatch(bytes(data[10:start]))
    if found is None:
        _damaged("its header is not one that numpy writes", where)
    try:
        dtype = np.dtype(found[1].decode())
    except TypeError as error:
        _damaged(str(error), where)
    shape = tuple(int(n) for n in found[3].replace(b",", b" ").split())
    count = math.prod(shape)
    if len(shape) > 64 or len(data) - start != count * dtype.itemsize:
        _damaged(f"its {len(data) - start} bytes do not make shape {shape[:8]} of {dtype}", where)
    if dtype.kind == "U" and (dtype.itemsize > 1 << 20 or not dtype.itemsize):
        _damaged(f"texts of {dtype.itemsize} bytes", where)
    flat = np.frombuffer(data, dtype, count, start)
    try:
        if dtype.kind == "U":
            flat = flat.astype(object)
        dtype_of(flat)
    except (BrimError, ValueError) as error:
        _damaged(str(error)[:200], where)
    return flat.reshape(shape, order="F" if found[2] == b"True" else "C")


def _damaged(why: str, where: str) -> NoReturn:
    raise ModelError("not an intact .npy file", why, where)
