"""Elementwise operations in LLVM IR: one function per operation, for scalars and vectors alike.

The meaning of every name is its primitive's docstring in `brim.ops.primitive`. Nothing here traps
and nothing calls a library: transcendental functions are the polynomials of
`brim.targets.functions`. Loops, addresses and memory are not here.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from functools import partial

from brim.targets import functions, longs
from brim.targets.builder import (
    I1,
    Builder,
    Value,
    lanes_of,
    scalar_of,
    suffix,
    vector_of,
    with_scalar,
)
from brim.types import BOOL, F16, F32, F64, DType

# f16 is a storage type: its bits travel as an integer, whatever the target knows about halves
_FLOAT_TYPES = {"f16": "i16", "f32": "float", "f64": "double"}


def constant(b: Builder, dtype: DType, value: float | int, lanes: int = 1) -> Value:
    """A number of a dtype, in every lane."""
    if dtype == F16:
        value = struct.unpack("<H", struct.pack("<e", value))[0]
    return b.const(vector_of(register_type(dtype), lanes), value)


def register_type(dtype: DType) -> str:
    """The scalar LLVM type that holds a dtype in a register."""
    if dtype.kind == "f":
        return _FLOAT_TYPES[dtype.name]
    return I1 if dtype.kind == "b" else f"i{dtype.bits}"


def memory_type(dtype: DType) -> str:
    """The scalar LLVM type of a dtype in a buffer: bool takes a byte."""
    return "i8" if dtype.kind == "b" else register_type(dtype)


def operate(b: Builder, op: str, args: list[Value], of: DType, to: DType) -> Value:
    """The value of an elementwise operation on arguments of dtype `of` with result dtype `to`.

    All arguments have the same number of lanes. For `select`, `of` is the dtype of its two values.
    """
    if op in ("cast", "bitcast"):
        return convert(b, args[0], of, to) if op == "cast" else _bits(b, args[0], of, to)
    if op == "select":
        return b.select(*args)
    if of == F16:
        result = operate(
            b, op, [convert(b, a, F16, F32) for a in args], F32, F32 if to == F16 else to
        )
        return convert(b, result, F32, F16) if to == F16 else result
    if op in _COMPARISONS:
        return _compare(b, op, args[0], args[1], of)
    table = _FLOAT if of.is_float else _BOOL if of == BOOL else _INTEGER
    found = table.get(op)
    if found is None:
        return getattr(functions, op)(b, *args)
    return found(b, *args) if of.kind != "i" or op not in _SIGNED else _SIGNED[op](b, *args)


# ------------------------------------------------------------------ comparisons and conversions

_COMPARISONS = {
    # name: (float, signed, unsigned) predicates; only `ne` holds for NaN
    "eq": ("oeq", "eq", "eq"),
    "ne": ("une", "ne", "ne"),
    "lt": ("olt", "slt", "ult"),
    "le": ("ole", "sle", "ule"),
    "gt": ("ogt", "sgt", "ugt"),
    "ge": ("oge", "sge", "uge"),
}


def _compare(b: Builder, op: str, x: Value, y: Value, of: DType) -> Value:
    ordered, signed, unsigned = _COMPARISONS[op]
    if of.is_float:
        return b.fcmp(ordered, x, y)
    return b.icmp(signed if of.kind == "i" else unsigned, x, y)


def convert(b: Builder, x: Value, of: DType, to: DType) -> Value:
    """`x` of dtype `of` as dtype `to`: the primitive `cast`."""
    if of == to:
        return x
    if F16 in (of, to) and F32 not in (of, to):  # machines convert f16 from and to f32 only
        x = _odd(b, x) if of == F64 else convert(b, x, of, F32)
        return convert(b, x, F32, to)
    if of == F16:
        return _widen(b, x)
    if to == F16:
        return _narrow(b, x)
    target = with_scalar(x.type, register_type(to))
    if "long" in b.lacks and 64 in (of.bits, to.bits) and of.is_float != to.is_float:
        if of.is_float and to.bits == 64 and to.is_integer:
            return longs.from_float(b, x, to.kind == "i")
        if to.is_float and of.bits == 64 and of.is_integer:
            return longs.to_float(b, x, target, of.kind == "i")
    match of.kind, to.kind:
        case "f", "f":
            return b.cast("fpext" if to.bits > of.bits else "fptrunc", x, target)
        case "f", "b":
            return b.fcmp("une", x, b.zero(x.type))
        case "f", _ if to.bits <= 16:
            return _saturate_short(b, x, target, to)
        case "f", _:
            return _saturate(b, x, target, "fptosi" if to.kind == "i" else "fptoui")
        case "i", "f":
            return b.cast("sitofp", x, target)
        case _, "f":
            return b.cast("uitofp", x, target)
        case _, "b":
            return b.icmp("ne", x, b.zero(x.type))
        case "b", _:
            return b.cast("zext", x, target)
    if to.bits == of.bits:
        return x
    widen = "sext" if of.kind == "i" else "zext"
    return b.cast("trunc" if to.bits < of.bits else widen, x, target)


def fits(bounds: tuple[float, float] | None, to: DType) -> bool:
    """Whether all whole numbers between two numbers are of an integer type of up to 32 bits."""
    if bounds is None:
        return False
    low = -(1 << (to.bits - 1)) if to.kind == "i" else 0
    high = (1 << (to.bits - (to.kind == "i"))) - 1
    return to.bits <= 32 and max(low, -(1 << 31)) <= bounds[0] and bounds[1] <= min(high, 1 << 30)


def whole(b: Builder, x: Value, to: DType, nearest: bool) -> Value:
    """An f32 whose bounds fit `to` (see `fits`), or NaN, as that integer type; NaN gives 0.

    nearest: rounded, halves to even, in the same instruction where there is one; else truncated.
    """
    wide = with_scalar(x.type, "i32")
    if nearest and "nearest" not in b.lacks:
        overload = f"{suffix(wide)}.{suffix(x.type)}"
        found = b.intrinsic("lrint", x, result=wide, overload=overload)
        found = b.select(b.fcmp("ord", x, x), found, b.zero(wide))
    else:
        number = b.select(b.fcmp("ord", x, x), x, b.zero(x.type))
        found = b.cast("fptosi", _rint(b, number) if nearest else number, wide)
    return found if to.bits == 32 else b.cast("trunc", found, with_scalar(x.type, f"i{to.bits}"))


def _odd(b: Builder, x: Value) -> Value:
    """The float that rounds to any f16 as the double x does.

    Digits that a float has not are cut off and remembered in its last bit, so that the number is
    never halfway between two of f16, nor one of them, unless x is.
    """
    integer = with_scalar(x.type, "i64")
    bits, rest = b.bitcast(x, integer), b.const(integer, (1 << 29) - 1)
    sticky = b.and_(b.add(b.and_(bits, rest), rest), b.const(integer, 1 << 29))
    odd = b.and_(b.or_(bits, sticky), b.const(integer, -(1 << 29)))
    return b.cast("fptrunc", b.bitcast(odd, x.type), with_scalar(x.type, "float"))


def _widen(b: Builder, x: Value) -> Value:
    """The f32 of the bits of an f16."""
    if "half" not in b.lacks:
        return b.cast(
            "fpext", b.bitcast(x, with_scalar(x.type, "half")), with_scalar(x.type, "float")
        )
    wide, real = with_scalar(x.type, "i32"), with_scalar(x.type, "float")
    bits = b.cast("zext", x, wide)
    sign = b.shl(b.and_(bits, b.const(wide, 0x8000)), b.const(wide, 16))
    size = b.shl(b.and_(bits, b.const(wide, 0x7FFF)), b.const(wide, 13))
    # read as an f32, the number is 2**112 too small; that is right for subnormals too
    number = b.bitcast(b.fmul(b.bitcast(size, real), b.const(real, 2.0**112)), wide)
    special = b.icmp("uge", size, b.const(wide, 0x7C00 << 13))
    size = b.select(special, b.or_(size, b.const(wide, 0x7F800000)), number)
    return b.bitcast(b.or_(size, sign), real)


def _narrow(b: Builder, x: Value) -> Value:
    """The bits of the f16 nearest to an f32; halves go to the even one."""
    short = with_scalar(x.type, "i16")
    if "half" not in b.lacks:
        return b.bitcast(b.cast("fptrunc", x, with_scalar(x.type, "half")), short)
    wide = with_scalar(x.type, "i32")
    bits = b.bitcast(x, wide)
    sign = b.lshr(b.and_(bits, b.const(wide, -(1 << 31))), b.const(wide, 16))
    size = b.and_(bits, b.const(wide, 0x7FFFFFFF))
    # below 2**-14 adding 0.5 lets the f32 adder round to multiples of 2**-24
    shifted = b.fadd(b.bitcast(size, x.type), b.const(x.type, 0.5))
    small = b.sub(b.bitcast(shifted, wide), b.const(wide, 126 << 23))
    odd = b.and_(b.lshr(size, b.const(wide, 13)), b.const(wide, 1))
    rounded = b.add(b.add(size, b.const(wide, ((15 - 127) << 23) + 0xFFF)), odd)
    result = b.lshr(rounded, b.const(wide, 13))
    result = b.select(b.icmp("ult", size, b.const(wide, 113 << 23)), small, result)
    infinite = b.icmp("uge", size, b.const(wide, 143 << 23))
    result = b.select(infinite, b.const(wide, 0x7C00), result)
    nan = b.icmp("ugt", size, b.const(wide, 0x7F800000))
    result = b.select(nan, b.const(wide, 0x7E00), result)
    return b.cast("trunc", b.or_(result, sign), short)


def _saturate_short(b: Builder, x: Value, target: str, to: DType) -> Value:
    """As `_saturate`, several times as fast: the bounds are whole floats, so floats are clamped."""
    low = -(1 << (to.bits - 1)) if to.kind == "i" else 0
    high = (1 << (to.bits - (to.kind == "i"))) - 1
    number = b.select(b.fcmp("ord", x, x), x, b.zero(x.type))
    inside = minimum(b, maximum(b, number, b.const(x.type, low)), b.const(x.type, high))
    return b.cast("trunc", b.cast("fptosi", inside, with_scalar(x.type, "i32")), target)


def _saturate(b: Builder, x: Value, target: str, op: str) -> Value:
    return b.intrinsic(f"{op}.sat", x, result=target, overload=f"{suffix(target)}.{suffix(x.type)}")


def _bits(b: Builder, x: Value, of: DType, to: DType) -> Value:
    if BOOL in (of, to):
        return convert(b, x, of, to)
    return b.bitcast(x, with_scalar(x.type, register_type(to)))


# ------------------------------------------------------------------ floats


def _is_literal_number(x: Value) -> bool:
    """A constant that is no NaN."""
    return x.text[0] not in "%@" and "0x7FF8" not in x.text and "0x7FFF" not in x.text


def maximum(b: Builder, x: Value, y: Value) -> Value:
    """The larger one; NaN if either is. One instruction when an operand is a constant."""
    return _extreme(b, "ogt", "maximum", x, y)


def minimum(b: Builder, x: Value, y: Value) -> Value:
    """The smaller one; NaN if either is. One instruction when an operand is a constant."""
    return _extreme(b, "olt", "minimum", x, y)


def _extreme(b: Builder, predicate: str, name: str, x: Value, y: Value) -> Value:
    if scalar_of(x.type) in b.nan_extremes:
        return b.intrinsic(name, x, y)
    if _is_literal_number(y):
        x, y = y, x
    # x86's own maximum: y unless x > y, so a NaN in y survives ...
    best = b.select(b.fcmp(predicate, x, y), x, y)
    if _is_literal_number(x):
        return best
    return b.select(b.fcmp("uno", x, x), x, best)  # ... and one in x needs help


def _rint(b: Builder, x: Value) -> Value:
    if "rounding" not in b.lacks:
        return b.intrinsic("rint", x)
    # so large a number leaves no room for a fraction beside it
    large = b.const(x.type, 2.0**23 if scalar_of(x.type) == "float" else 2.0**52)
    signed = b.intrinsic("copysign", large, x)
    whole = b.intrinsic("copysign", b.fsub(b.fadd(x, signed), signed), x)
    return b.select(b.fcmp("olt", b.intrinsic("fabs", x), large), whole, x)


def _floor(b: Builder, x: Value) -> Value:
    if "rounding" not in b.lacks:
        return b.intrinsic("floor", x)
    near = _rint(b, x)
    return b.select(b.fcmp("ogt", near, x), b.fsub(near, b.const(x.type, 1)), near)


def _ceil(b: Builder, x: Value) -> Value:
    if "rounding" not in b.lacks:
        return b.intrinsic("ceil", x)
    return b.fneg(_floor(b, b.fneg(x)))


def _trunc(b: Builder, x: Value) -> Value:
    if "rounding" not in b.lacks:
        return b.intrinsic("trunc", x)
    return b.intrinsic("copysign", _floor(b, b.intrinsic("fabs", x)), x)


def _sign(b: Builder, x: Value) -> Value:
    zero = b.zero(x.type)
    negative = b.select(b.fcmp("olt", x, zero), b.const(x.type, -1), x)
    return b.select(b.fcmp("ogt", x, zero), b.const(x.type, 1), negative)


def _is_inf(b: Builder, x: Value) -> Value:
    return b.fcmp("oeq", b.intrinsic("fabs", x), b.const(x.type, float("inf")))


def _fmod(b: Builder, x: Value, y: Value) -> Value:
    """x - trunc(x / y) * y, exact: long division, `bits` bits of the quotient in each round.

    A round takes count * part, part = |y| * 2**k, out of the remainder. What is left is at most
    half of part and a multiple of its last bit, so fma gives it exactly; without fma count is short
    enough for the products with both halves of part to be exact. float is done in double.
    """
    if scalar_of(x.type) == "float":
        wide = with_scalar(x.type, "double")
        rest = _fmod(b, b.cast("fpext", x, wide), b.cast("fpext", y, wide))
        return b.cast("fptrunc", rest, x.type)
    kind, integer = x.type, with_scalar(x.type, "i64")
    infinite, one = b.const(kind, float("inf")), b.const(kind, 1)
    size, top = b.intrinsic("fabs", y), b.intrinsic("fabs", x)
    valid = b.and_(b.fcmp("olt", top, infinite), b.fcmp("ogt", size, b.zero(kind)))
    plain = b.and_(valid, b.fcmp("oge", top, size))  # false: x is its own remainder, or it is NaN
    safe = b.select(plain, size, one)
    bits = 50 if b.fused else 23
    rounds = b.i64(2100 // bits)  # 2098 is the most bits a quotient can have
    start = b.select(plain, top, b.zero(kind))
    with b.loop(b.i64(0), rounds, carried=[start], certain=True) as loop:
        rest = loop.carried[0]
        # from the exponents, which unlike the quotient cannot overflow
        steps = b.sub(b.sub(_exponent(b, rest), _exponent(b, safe)), b.const(integer, bits))
        steps = b.intrinsic("smax", steps, b.zero(integer))
        half = b.ashr(steps, b.const(integer, 1))
        part = b.fmul(
            b.fmul(safe, _power_of_two(b, half, kind)), _power_of_two(b, b.sub(steps, half), kind)
        )
        count = _rint(b, b.fdiv(rest, part))
        if b.fused:
            left = b.fma(b.fneg(count), part, rest)
        else:
            high = b.bitcast(b.and_(b.bitcast(part, integer), b.const(integer, -1 << 27)), kind)
            left = b.fsub(b.fsub(rest, b.fmul(count, high)), b.fmul(count, b.fsub(part, high)))
        less = b.fcmp("olt", left, b.zero(kind))
        loop.next = [b.select(less, b.fadd(left, part), left)]
        done = b.fcmp("olt", loop.next[0], safe)
        loop.stop = done if done.type == I1 else b.intrinsic("vector.reduce.and", done, result=I1)
    rest = b.intrinsic("copysign", b.select(plain, loop.results[0], top), x)
    zero = b.zero(kind)
    nan = b.fadd(b.fdiv(zero, b.fsub(x, x)), b.fadd(x, y))
    return b.select(valid, rest, nan)


def _exponent(b: Builder, x: Value) -> Value:
    """The exponent of a positive double (as i64), of subnormal ones too."""
    integer = with_scalar(x.type, "i64")
    small = b.fcmp("olt", x, b.const(x.type, 2.0**-1022))
    normal = b.select(small, b.fmul(x, b.const(x.type, 2.0**54)), x)
    found = b.lshr(b.bitcast(normal, integer), b.const(integer, 52))
    return b.sub(found, b.select(small, b.const(integer, 54), b.zero(integer)))


def _power_of_two(b: Builder, exponent: Value, kind: str) -> Value:
    bias, shift = b.const(exponent.type, 1023), b.const(exponent.type, 52)
    return b.bitcast(b.shl(b.add(exponent, bias), shift), kind)


def _mod(b: Builder, x: Value, y: Value) -> Value:
    rest, zero = _fmod(b, x, y), b.zero(x.type)
    differs = b.xor(b.fcmp("olt", rest, zero), b.fcmp("olt", y, zero))
    moved = b.select(differs, b.fadd(rest, y), rest)
    return b.select(b.fcmp("oeq", rest, zero), b.intrinsic("copysign", zero, y), moved)


def _intrinsic(name: str) -> Callable[..., Value]:
    return lambda b, *args: b.intrinsic(name, *args)


def _binary(name: str) -> Callable[..., Value]:
    return lambda b, x, y: b.binary(name, x, y)


_FLOAT: dict[str, Callable[..., Value]] = {
    **{op: _binary(f"f{op}") for op in ("add", "sub", "mul", "div")},
    "sqrt": _intrinsic("sqrt"),
    "rint": _rint,
    "floor": _floor,
    "ceil": _ceil,
    "trunc": _trunc,
    "maximum": maximum,
    "minimum": minimum,
    "mod": _mod,
    "fmod": _fmod,
    "neg": lambda b, x: b.fneg(x),
    "absolute": _intrinsic("fabs"),
    "sign": _sign,
    "is_nan": lambda b, x: b.fcmp("uno", x, x),
    "is_inf": _is_inf,
}

# ------------------------------------------------------------------ integers


def _quotient(b: Builder, op: str, x: Value, y: Value) -> Value:
    """udiv sdiv urem srem, by a divisor that is not 0."""
    if "long" not in b.lacks or scalar_of(x.type) != "i64":
        return b.binary(op, x, y)
    quotient, rest = (longs.divide if op[0] == "u" else longs.divide_signed)(b, x, y)
    return rest if "rem" in op else quotient


def _divide(b: Builder, x: Value, y: Value) -> Value:
    zero = b.zero(y.type)
    empty = b.icmp("eq", y, zero)
    return b.select(empty, zero, _quotient(b, "udiv", x, b.select(empty, b.const(y.type, 1), y)))


def _divide_signed(b: Builder, x: Value, y: Value) -> Value:
    zero, minus = b.zero(y.type), b.const(y.type, -1)
    empty, flips = b.icmp("eq", y, zero), b.icmp("eq", y, minus)
    safe = b.select(b.or_(empty, flips), b.const(y.type, 1), y)  # lowest / -1 traps on x86
    quotient = b.select(flips, b.sub(zero, x), _quotient(b, "sdiv", x, safe))
    return b.select(empty, zero, quotient)


def _remainder(b: Builder, x: Value, y: Value, op: str, by_zero: bool) -> Value:
    """The remainder of truncating division; modulo 0 it is x if `by_zero`, else 0."""
    zero, one = b.zero(y.type), b.const(y.type, 1)
    empty = b.icmp("eq", y, zero)
    safe = empty if op == "urem" else b.or_(empty, b.icmp("eq", y, b.const(y.type, -1)))
    rest = _quotient(b, op, x, b.select(safe, one, y))
    return b.select(empty, x if by_zero else zero, rest)


def _mod_signed(b: Builder, x: Value, y: Value) -> Value:
    rest, zero = _remainder(b, x, y, "srem", False), b.zero(x.type)
    differs = b.icmp("slt", b.xor(rest, y), zero)
    return b.select(b.and_(differs, b.icmp("ne", rest, zero)), b.add(rest, y), rest)


def _shift(b: Builder, x: Value, y: Value, op: str) -> Value:
    constant = re.fullmatch(r"(?:splat \(i\d+ )?(\d+)\)?", y.text)
    if constant and int(constant[1]) < int(scalar_of(y.type)[1:]):
        return b.binary(op, x, y)  # LLVM would see it too late to shift all lanes at once
    inside = b.icmp("ult", y, b.const(y.type, int(scalar_of(y.type)[1:])))
    zero = b.zero(x.type)
    return b.select(inside, b.binary(op, x, b.select(inside, y, zero)), zero)


def _sign_integer(b: Builder, x: Value) -> Value:
    zero = b.zero(x.type)
    negative = b.cast("sext", b.icmp("slt", x, zero), x.type)
    return b.or_(negative, b.cast("zext", b.icmp("sgt", x, zero), x.type))


def _absolute_integer(b: Builder, x: Value) -> Value:
    zero = b.zero(x.type)
    return b.select(b.icmp("slt", x, zero), b.sub(zero, x), x)


_INTEGER: dict[str, Callable[..., Value]] = {
    **{op: _binary(op) for op in ("add", "sub", "mul")},
    "bit_and": _binary("and"),
    "bit_or": _binary("or"),
    "bit_xor": _binary("xor"),
    "bit_not": lambda b, x: b.not_(x),
    "maximum": _intrinsic("umax"),
    "minimum": _intrinsic("umin"),
    "div": _divide,
    "mod": partial(_remainder, op="urem", by_zero=False),
    "fmod": partial(_remainder, op="urem", by_zero=True),
    "shift_left": partial(_shift, op="shl"),
    "shift_right": partial(_shift, op="lshr"),
    "neg": lambda b, x: b.sub(b.zero(x.type), x),
    "absolute": lambda b, x: x,
    "sign": lambda b, x: b.cast("zext", b.icmp("ne", x, b.zero(x.type)), x.type),
}

_SIGNED: dict[str, Callable[..., Value]] = {
    "maximum": _intrinsic("smax"),
    "minimum": _intrinsic("smin"),
    "div": _divide_signed,
    "mod": _mod_signed,
    "fmod": partial(_remainder, op="srem", by_zero=True),
    "shift_right": partial(_shift, op="ashr"),
    "absolute": _absolute_integer,
    "sign": _sign_integer,
}

_BOOL: dict[str, Callable[..., Value]] = {
    "bit_and": _binary("and"),
    "bit_or": _binary("or"),
    "bit_xor": _binary("xor"),
    "bit_not": lambda b, x: b.not_(x),
    "maximum": _binary("or"),
    "minimum": _binary("and"),
    "mul": _binary("and"),
    "add": _binary("or"),
}

# ------------------------------------------------------------------ reductions


def combine(b: Builder, op: str, x: Value, y: Value, of: DType) -> Value:
    """One step of the reduction `op` (add mul max min and or)."""
    name = {"max": "maximum", "min": "minimum", "and": "bit_and", "or": "bit_or"}.get(op, op)
    return operate(b, name, [x, y], of, of)


def horizontal(b: Builder, op: str, x: Value, of: DType) -> Value:
    """All lanes of a vector reduced to a scalar, halves folded onto each other."""
    lanes = lanes_of(x.type)
    while lanes > 1:
        lanes //= 2
        high = b.shuffle(x, b.poison(x.type), range(lanes, 2 * lanes))
        low = b.shuffle(x, b.poison(x.type), range(lanes))
        x = combine(b, op, low, high, of) if lanes > 1 else combine(
            b, op, b.extract(x, 0), b.extract(x, 1), of
        )  # fmt: skip
    return x


def wins(
    b: Builder, op: str, new: tuple[Value, Value], old: tuple[Value, Value], of: DType
) -> Value:
    """Whether (value, index) `new` beats `old` in an arg reduction whose ties the index decides.

    As in numpy, a NaN beats every number and the first (or last) of several NaNs wins.
    """
    (x, i), (y, j) = new, old
    better, same = _compare(b, "gt" if "max" in op else "lt", x, y, of), _compare(b, "eq", x, y, of)
    if of.is_float:
        x_nan, y_nan = b.fcmp("uno", x, x), b.fcmp("uno", y, y)
        better = b.or_(better, b.and_(x_nan, b.not_(y_nan)))
        same = b.or_(same, b.and_(x_nan, y_nan))
    earlier = b.icmp("sgt" if op.endswith("last") else "slt", i, j)
    return b.or_(better, b.and_(same, earlier))
