"""Conversions from and to the storage types (bf16, f8e4m3fn, i4, ...), as bit arithmetic.

Their bodies use only primitives on the carrier's integers and on f32, so the numpy reference and
the code for every target follow. Nothing else computes with storage types; moving them is in
`brim.ops.movement`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from brim.errors import OpError
from brim.graph import Value, const
from brim.ops.primitive import (
    absolute,
    add,
    bit_and,
    bit_or,
    bitcast,
    cast,
    eq,
    gt,
    lt,
    minimum,
    ne,
    select,
    shift_left,
    shift_right,
    sub,
)
from brim.ops.registry import composite
from brim.types import (
    BF16,
    BOOL,
    F4E2M1,
    F8E4M3FN,
    F8E4M3FNUZ,
    F8E5M2,
    F8E5M2FNUZ,
    F8E8M0,
    F32,
    F64,
    I32,
    U32,
    DType,
)

ROUNDINGS = ("up", "down", "nearest")
_SIGN, _SIZE = 1 << 31, (1 << 31) - 1  # of the bits of an f32
_INFINITY, _NAN = 0x7F800000, 0x7FC00000


@dataclass(frozen=True)
class Format:
    """A float of at most 8 bits: sign, exponent, mantissa. Codes are those of magnitudes.

    mantissa: its bits. bias: of the exponent. largest: code of the largest number. infinity: its
    code, None if there is none. nan: its code (the only one, on top of the sign, that is written);
    0x80 where the code of -0 is the one NaN; None if there is none.
    """

    mantissa: int
    bias: int
    largest: int
    infinity: int | None
    nan: int | None


FORMATS = {  # https://onnx.ai/onnx/technical/float8.html, and float4.html
    F8E4M3FN: Format(3, 7, 0x7E, None, 0x7F),
    F8E4M3FNUZ: Format(3, 8, 0x7F, None, 0x80),
    F8E5M2: Format(2, 15, 0x7B, 0x7C, 0x7E),
    F8E5M2FNUZ: Format(2, 16, 0x7F, None, 0x80),
    F4E2M1: Format(1, 1, 0x7, None, None),
}


# the largest distance of two neighbours, relative to the greater one's power of two
STEPS = {BF16: 2.0**-7, F8E8M0: 1.0, **{t: 2.0**-form.mantissa for t, form in FORMATS.items()}}


def convert(x: Value, to: DType, saturate: bool = True, rounding: str = "up") -> Value:
    """x as element type `to`, from and to any type but text: ONNX's Cast.

    saturate, rounding: as for `encode`. Between plain types it is the primitive `cast`, but every
    number except 0 is True.
    """
    if x.dtype == to:
        return x
    if x.dtype.kind == "n":
        number = decode(x, to=I32 if x.dtype.is_whole else F32)
        return number if number.dtype == to else convert(number, to, saturate, rounding)
    if to.kind == "n":
        return encode(x, to=to, saturate=saturate, rounding=rounding)
    return ne(x, 0) if to == BOOL else cast(x, to=to)


def computable(x: Value) -> Value:
    """x in a type that can be computed with: a storage type as f32, which has all its numbers."""
    return decode(x, to=F32) if x.dtype.kind == "n" else x


# ------------------------------------------------------------------ from storage types


def _decode_grad(g: Value, y: Value, x: Value, *, to: DType) -> list:
    return [convert(g, F32)]


@composite(grad=_decode_grad)
def decode(x, *, to):
    """The numbers of a storage type as `to`; exact where `to` has them (f32 has all)."""
    code = bitcast(x, to=x.dtype.carrier)
    number = _whole(code, x.dtype) if x.dtype.is_whole else _real(code, x.dtype)
    return number if number.dtype == to else cast(number, to=to)


def _whole(code: Value, dtype: DType) -> Value:
    """The integer in the low bits of i8 or u8; the other bits may be anything."""
    if code.dtype.kind == "u":
        return bit_and(code, (1 << dtype.bits) - 1)
    unused = code.dtype.bits - dtype.bits
    return shift_right(shift_left(code, unused), unused)


def _real(code: Value, dtype: DType) -> Value:
    wide = cast(code, to=U32)
    if dtype == BF16:  # the upper half of an f32
        return bitcast(shift_left(wide, 16), to=F32)
    if dtype == F8E8M0:  # the exponent of an f32; 0 is 2**-127, which f32 has as a subnormal
        power = select(eq(wide, 0), _bits(1 << 22), shift_left(wide, 23))
        return bitcast(select(eq(wide, 0xFF), _bits(_NAN), power), to=F32)
    form, top = FORMATS[dtype], 1 << (dtype.bits - 1)
    size, sign = bit_and(wide, top - 1), shift_left(bit_and(wide, top), 32 - dtype.bits)
    mantissa = shift_left(size, 23 - form.mantissa)
    # Subnormals become fractions of the smallest normal number plus one, which is taken off again:
    # no f32 subnormal occurs, on which machines are slow or give 0.
    smallest = (128 - form.bias) << 23
    fraction = sub(bitcast(add(mantissa, smallest), to=F32), 2.0 ** (1 - form.bias))
    is_small = lt(size, 1 << form.mantissa)
    number = select(is_small, bitcast(fraction, to=U32), add(mantissa, (127 - form.bias) << 23))
    if form.infinity is not None:
        number = select(gt(size, form.largest), _bits(_INFINITY), number)
        number = select(gt(size, form.infinity), _bits(_NAN), number)
    elif form.nan == 0x80:
        number = select(eq(wide, form.nan), _bits(_NAN), number)
    elif form.nan is not None:
        number = select(eq(size, form.nan), _bits(_NAN), number)
    return bitcast(bit_or(number, sign), to=F32)


def _bits(number: int) -> Value:
    return const(U32.numpy.type(number))


# ------------------------------------------------------------------ to storage types


def _encode_grad(g: Value, y: Value, x: Value, *, to: DType, saturate: bool, rounding: str) -> list:
    """As if nothing were rounded, as in torch; a storage type's cotangents are f32."""
    return [convert(g, x.dtype)]


@composite(grad=_encode_grad)
def encode(x, *, to, saturate, rounding):
    """Numbers as the storage type `to`: ONNX's Cast. Floats round to nearest, halves to even, once.

    saturate: what is too large becomes the largest float8 instead of infinity or NaN. rounding, for
    f8e8m0 only: up, down or nearest (of two equally near the upper). 4- and 2-bit integers keep the
    low bits of the truncated number.
    """
    if to.kind != "n" or x.dtype.kind in "ns":
        raise OpError(f"{x.dtype} is not encoded as {to}", hint="from numbers to a storage type")
    if rounding not in ROUNDINGS:
        raise OpError(f"rounding {rounding!r} is not one of {', '.join(ROUNDINGS)}")
    if to.is_whole:
        number = cast(x, to=I32) if x.dtype.is_float else x
        code = cast(number, to=to.carrier)
        return bitcast(bit_and(code, (1 << to.bits) - 1), to=to)
    bits = bitcast(_ready(x), to=U32)
    if to == BF16:
        code = _bfloat(bits)
    elif to == F8E8M0:
        code = _power(bits, saturate, rounding)
    else:
        code = _float(bits, to, saturate)
    return bitcast(cast(code, to=to.carrier), to=to)


def _ready(x: Value) -> Value:
    """x as an f32 that rounds to any shorter type as x itself does.

    An f32 that is not x becomes one of its two neighbours with an odd last bit: never halfway
    between two shorter numbers, nor one of them. (Boldo and Melquiond, "When double rounding is
    odd", 2005.)
    """
    if x.dtype.is_integer and x.dtype.bits == 64:
        x = _odd_long(x)
    if x.dtype.is_integer and x.dtype.bits >= 32:
        x = cast(x, to=F64)
    if x.dtype != F64:
        return x if x.dtype == F32 else cast(x, to=F32)
    near = cast(x, to=F32)
    back = cast(near, to=F64)
    beyond = cast(gt(absolute(back), absolute(x)), to=U32)
    below = sub(bitcast(near, to=U32), beyond)
    return bitcast(bit_or(below, cast(ne(back, x), to=U32)), to=F32)


def _odd_long(x: Value) -> Value:
    """A 64-bit integer that f64 has: one that needs more than 53 bits is cut to them, to odd."""
    rest, last = 0x7FF, 0x800
    upper = bit_and(x, const(np.int64(~rest).astype(x.dtype.numpy)))
    cut = select(eq(bit_and(x, rest), 0), x, bit_or(upper, last))
    return select(lt(absolute(shift_right(x, 1)), 1 << 52), x, cut)


def _bfloat(bits: Value) -> Value:
    high = shift_right(bits, 16)
    odd = bit_and(high, 1)
    near = shift_right(add(bits, add(odd, 0x7FFF)), 16)
    is_nan = gt(bit_and(bits, _SIZE), _INFINITY)
    return select(is_nan, bit_or(bit_and(high, 0x8000), 0x7FC0), near)


def _float(bits: Value, to: DType, saturate: bool) -> Value:
    form = FORMATS[to]
    size = bit_and(bits, _SIZE)
    drop = 23 - form.mantissa
    odd = bit_and(shift_right(size, drop), 1)
    shift = ((1 << (drop - 1)) - 1 - ((127 - form.bias) << 23)) % (1 << 32)
    normal = shift_right(add(size, add(odd, shift)), drop)
    # beside this number an f32 has no bits below the step of the format's subnormals: the addition
    # rounds to it
    step = (127 + 24 - form.bias - form.mantissa) << 23
    beside = add(bitcast(size, to=F32), bitcast(_bits(step), to=F32))
    small = sub(bitcast(beside, to=U32), step)
    code = select(lt(size, (128 - form.bias) << 23), small, normal)
    if saturate or form.nan is None:
        code = minimum(code, form.largest)
    else:
        beyond = form.nan if form.infinity is None else form.infinity
        code = select(gt(code, form.largest), _bits(beyond), code)
    is_nan = gt(size, _INFINITY)
    if form.nan is None:  # nothing stands for NaN: it becomes -0, as in ml_dtypes
        code = select(is_nan, _bits(0), code)
        bits = select(is_nan, _bits(_SIGN), bits)
    else:
        code = select(is_nan, _bits(form.nan), code)
    sign = shift_right(bit_and(bits, _SIGN), 32 - to.bits)
    if form.nan == 0x80:  # 0 has no sign
        sign = select(eq(code, 0), _bits(0), sign)
    return bit_or(code, sign)


def _power(bits: Value, saturate: bool, rounding: str) -> Value:
    """The exponent of an f32, rounded; the sign is ignored."""
    size = bit_and(bits, _SIZE)
    # from 2**-127 on f32 is subnormal: its leading bit is taken for the exponent's last one
    low = sub(shift_left(size, 1), 1 << 23)
    size_or_low = select(lt(size, 1 << 23), low, size)
    extra = {"up": (1 << 23) - 1, "nearest": 1 << 22, "down": 0}[rounding]
    code = shift_right(add(size_or_low, extra), 23)
    if saturate:
        code = minimum(code, 0xFE)
    code = select(lt(size, 1 << 22), _bits(0 if saturate else 0xFF), code)
    return select(gt(size, _INFINITY), _bits(0xFF), code)
