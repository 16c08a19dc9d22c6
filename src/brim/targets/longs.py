"""64-bit integers in LLVM IR where dividing or converting them is no instruction (armv7).

LLVM would call a library. Every function works for scalars and vectors and gives the results of the
instructions it stands for.
"""

from __future__ import annotations

from brim.targets.builder import Builder, Value, lanes_of, scalar_of, with_scalar


def divide(b: Builder, x: Value, y: Value) -> tuple[Value, Value]:
    """Quotient and remainder of unsigned i64 by long division; y is not 0."""
    zero, one, top = b.zero(x.type), b.const(x.type, 1), b.const(x.type, 63)
    with b.loop(b.i64(0), b.i64(64), carried=[zero, zero, x], certain=True) as loop:
        quotient, rest, left = loop.carried
        beyond = b.icmp("slt", rest, zero)  # the bit that the shift drops
        rest = b.or_(b.shl(rest, one), b.lshr(left, top))
        fits = b.or_(beyond, b.icmp("uge", rest, y))
        rest = b.select(fits, b.sub(rest, y), rest)
        quotient = b.or_(b.shl(quotient, one), b.cast("zext", fits, x.type))
        loop.next = [quotient, rest, b.shl(left, one)]
    return loop.results[0], loop.results[1]


def divide_signed(b: Builder, x: Value, y: Value) -> tuple[Value, Value]:
    """Quotient truncated towards zero, and remainder with the sign of x; y is not 0."""
    zero = b.zero(x.type)

    def negate(value: Value, condition: Value) -> Value:
        return b.select(condition, b.sub(zero, value), value)

    below, under = b.icmp("slt", x, zero), b.icmp("slt", y, zero)
    quotient, rest = divide(b, negate(x, below), negate(y, under))
    return negate(quotient, b.xor(below, under)), negate(rest, below)


def to_float(b: Builder, x: Value, kind: str, signed: bool) -> Value:
    """The nearest float or double (`kind`, with x's lanes) of an i64."""
    wide = with_scalar(x.type, "double")
    if scalar_of(kind) == "float":
        # make it 53 bits long first, the last one sticky, so that only the last step rounds
        low = b.const(x.type, 2047)
        sticky = b.or_(b.add(b.and_(x, low), low), x)
        sticky = b.and_(sticky, b.const(x.type, -2048))
        margin = 2**53 if signed else 0
        apart = b.icmp("ugt", b.add(x, b.const(x.type, margin)), b.const(x.type, 2**53 + margin))
        x = b.select(apart, sticky, x)
    # both halves in the low bits of large doubles, whose sum rounds once
    if signed:
        x = b.xor(x, b.const(x.type, -(2**63)))
    high = b.or_(b.lshr(x, b.const(x.type, 32)), b.const(x.type, 0x45300000 << 32))
    low = b.or_(b.and_(x, b.const(x.type, 0xFFFFFFFF)), b.const(x.type, 0x43300000 << 32))
    base = b.const(wide, 2.0**84 + 2.0**52 + (2.0**63 if signed else 0))
    value = b.fadd(b.fsub(b.bitcast(high, wide), base), b.bitcast(low, wide))
    return b.cast("fptrunc", value, kind)


def from_float(b: Builder, x: Value, signed: bool) -> Value:
    """An i64 by truncation, saturated; NaN gives 0."""
    wide, short, kind = (with_scalar(x.type, s) for s in ("double", "i32", "i64"))
    x = b.cast("fpext", x, wide)
    size = b.intrinsic("fabs", x)
    lanes = f"v{lanes_of(x.type)}" if lanes_of(x.type) > 1 else ""
    overload = f"{lanes}i32.{lanes}f64"

    def whole(value: Value) -> Value:
        return b.intrinsic("fptoui.sat", value, result=short, overload=overload)

    high = whole(b.fmul(size, b.const(wide, 2.0**-32)))
    rest = b.fsub(size, b.fmul(b.cast("uitofp", high, wide), b.const(wide, 2.0**32)))
    result = b.shl(b.cast("zext", high, kind), b.const(kind, 32))
    result = b.or_(result, b.cast("zext", whole(rest), kind))
    zero = b.zero(kind)
    below = b.fcmp("olt", x, b.zero(wide))
    limit = 2.0**63 if signed else 2.0**64
    most = b.const(kind, 2**63 - 1 if signed else -1)
    result = b.select(b.fcmp("oge", size, b.const(wide, limit)), most, result)
    if not signed:
        return b.select(below, zero, result)
    lowest = b.fcmp("ole", x, b.const(wide, -limit))
    return b.select(lowest, b.const(kind, -(2**63)), b.select(below, b.sub(zero, result), result))
