"""exp, log, tanh, erf, sin, cos, atan, atan2, power and quotients by constants, in LLVM IR.

No libm, no table, no branch: every lane and every device computes the same polynomials. Each
function takes the builder and float or double values of any width and gives a value of the same
type; f16 is widened by the caller. Errors in units in the last place, as
`tests/host/test_functions.py` measures them, stand in the docstrings. Coefficients are minimax fits
of the relative error, rounded one after another while the rest was fitted again. Results below the
smallest normal number may become 0. Targets without a fused multiply-add get up to half a unit
more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from brim.targets.builder import Builder, Value, scalar_of, with_scalar

_INF, _NAN = float("inf"), float("nan")


@dataclass(frozen=True)
class _Format:
    """What differs between float and double.

    whole: adding it leaves the nearest whole number in the low bits of the sum.
    ln2, pi4, pi2, pi: sums of two numbers; the first of ln2 is short, so that multiples are exact.
    """

    integer: str
    mantissa: int
    bias: int
    whole: float
    smallest: float
    half_root: int
    ln2: tuple[float, float]
    pi4: tuple[float, float]
    pi2: tuple[float, float]
    pi: tuple[float, float]
    exp_range: tuple[float, float]
    exp: tuple[float, ...]
    log: tuple[float, ...]
    sin: tuple[float, ...]
    cos: tuple[float, ...]
    atan: tuple[float, ...]


# fmt: off
_FORMATS = {
    "float": _Format(
        "i32", 23, 127, 1.5 * 2**23, 2.0**-126, 0x3F3504F3,
        (0.693145751953125, 1.428606765330187e-06),
        (0.7853981852531433, -2.1855694143368964e-08),
        (1.5707963705062866, -4.371138828673793e-08),
        (3.1415927410125732, -8.742277657347586e-08),
        (-87.5, 89.0),
        (0.4999999403953552, 0.16666516661643982, 0.04166810214519501, 0.00836916547268629,
         0.0013838002923876047),
        (0.3333333134651184, -0.250008225440979, 0.20001260936260223, -0.1662333458662033,
         0.14200946688652039, -0.13159507513046265, 0.12766559422016144, -0.0764213353395462),
        (-0.16666655242443085, 0.008332187309861183, -0.00019517897453624755),
        (0.04166664555668831, -0.0013887309469282627, 2.4432327336398885e-05),
        (-0.33333316445350647, 0.19998525083065033, -0.1424429714679718, 0.10598265379667282,
         -0.0608733706176281),
    ),
    "double": _Format(
        "i64", 52, 1023, 1.5 * 2**52, 2.0**-1022, 0x3FE6A09E667F3BCD,
        (0.6931471806019545, -4.2009150726810846e-11),
        (0.7853981633974483, 3.061616997868383e-17),
        (1.5707963267948966, 6.123233995736766e-17),
        (3.141592653589793, 1.2246467991473532e-16),
        (-708.6, 710.0),
        (0.5000000000000011, 0.16666666666666435, 0.04166666666652579, 0.008333333333475825,
         0.0013888888944851609, 0.00019841269554655725, 2.4801491747832567e-05,
         2.7557529571745175e-06, 2.763077182170492e-07, 2.5024316115416148e-08),
        (0.6666666666666666, 0.4000000000000227, 0.2857142857009123, 0.22222222521478238,
         0.18181784225711, 0.15386764073237286, 0.13256655799398873, 0.1319787487133076),
        (-0.1666666666666663, 0.00833333333332184, -0.00019841269829358525,
         2.7557313539061087e-06, -2.505073464972459e-08, 1.5895462318200627e-10),
        (0.041666666666666595, -0.0013888888888873307, 2.4801587288965227e-05,
         -2.755731420307781e-07, 2.087570313929583e-09, -1.135861699112367e-11),
        (-0.3333333333333319, 0.19999999999952184, -0.14285714280054132, 0.11111110776303224,
         -0.09090897551095178, 0.07692056525309882, -0.06663061943740246, 0.05847581640730463,
         -0.05037912254122204, 0.03802902112506894, -0.01786810962657519),
    ),
}

# f32: erf(x) / x - 1 as a polynomial of x^2 up to 0.95, then log(erfc(x)) / x as one of x
_ERF_SMALL_F32 = (
    0.12837916612625122, -0.3761262893676758, 0.11283625662326813, -0.026855740696191788,
    0.005192460957914591, -0.0008050818578340113, 8.002884715097025e-05,
)
_ERF_LARGE_F32 = (
    -1.1285037994384766, -0.6357536911964417, -0.10521562397480011, 0.02286054566502571,
    -0.0032058386132121086, 0.0002128847991116345,
)
# f64: erf(x) / x as a polynomial of x^2 up to x = 1, then erfc(x) * exp(x^2) = P(x) / Q(x) up to 6
_ERF_SMALL_F64 = (
    1.1283791670955126, -0.37612638903183343, 0.1128379167093695, -0.026866170641959137,
    0.005223977596735819, -0.000854832548499245, 0.00012055280496207385, -1.4924465627053187e-05,
    1.6444150306267652e-06, -1.6183987969499308e-07, 1.3616678587868138e-08, -7.607757490391712e-10,
)
_ERF_LARGE_F64 = (
    (0.9999999922335588, 1.8454623167784872, 1.6794967667044434, 0.9464263711097121,
     0.35328646046582635, 0.08738844842874756, 0.01339197245639743, 0.001009260832145732),
    (1.0, 2.9738413991888, 4.035117892336231, 3.277979214846818, 1.7540561610521836,
     0.6380517028940575, 0.15578645677175107, 0.023736652108049167, 0.0017888682653382298),
)
# pi / 2 in parts whose multiples by 20 bits are exact
_PI2_PARTS = (1.5707963267341256, 6.077100506303966e-11, 2.0222662487959506e-21)
_PI2_SHORT = (1.5707963267341256, 6.077100506506192e-11)
# fmt: on

_LOG2_E = 1.4426950408889634
_TAN_PI8 = 0.41421356237309503


def _format(x: Value) -> _Format:
    return _FORMATS[scalar_of(x.type)]


def _polynomial(b: Builder, x: Value, coefficients: Sequence[float]) -> Value:
    """c0 + c1 x + c2 x^2 + ..., by Horner's rule."""
    total = b.const(x.type, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = b.fma(total, x, b.const(x.type, coefficient))
    return total


def _clamp(b: Builder, x: Value, low: float, high: float) -> Value:
    """x limited to [low, high]; NaN stays."""
    bottom = b.const(x.type, low)
    if scalar_of(x.type) in b.nan_extremes:
        return _at_most(b, b.intrinsic("maximum", x, bottom), high)
    # with the operands in this order it is one x86 instruction
    return _at_most(b, b.select(b.fcmp("ogt", bottom, x), bottom, x), high)


def _at_most(b: Builder, x: Value, high: float) -> Value:
    top = b.const(x.type, high)
    if scalar_of(x.type) in b.nan_extremes:
        return b.intrinsic("minimum", x, top)
    return b.select(b.fcmp("olt", top, x), top, x)


def _nearest(b: Builder, x: Value) -> Value:
    """The nearest whole number of x in [0, 2 / epsilon); larger ones are whole already."""
    limit = b.const(x.type, 2.0 ** _format(x).mantissa)
    moved = b.fsub(b.fadd(x, limit), limit)
    return b.select(b.fcmp("olt", x, limit), moved, x)


# ------------------------------------------------------------------ quotients by constants


def divided_by(b: Builder, x: Value, divisor: float) -> Value:
    """x / divisor by two multiplications, as the division rounds it.

    The reciprocal is a sum of two numbers, good to twice the digits of x, so the quotient is the
    right one, unless the exact one is next to halfway between two numbers: within 2**-22 (f32) or
    2**-51 (f64) of their distance, or nearly subnormal. Quotients that need no rounding are always
    right. Targets without a fused multiply-add divide.

    Source: N. Brisebarre, J.-M. Muller, S. K. Raina, Accelerating correctly rounded floating-point
    division when the divisor is known in advance, 2004.
    """
    kind = np.dtype(np.float64 if scalar_of(x.type) == "double" else np.float32).type
    far = -0.75 * np.finfo(kind).minexp  # so both parts of the reciprocal are normal numbers
    if not b.fused or not 2.0**-far < abs(divisor) < 2.0**far:
        return b.fdiv(x, b.const(x.type, divisor))
    exact = 1 / Fraction(divisor)
    high = kind(float(exact))
    if abs(Fraction(float(high))) > abs(exact):  # cut, not rounded: then both parts have one sign,
        high = np.nextafter(high, kind(0))  # and so do their products with zeros and infinities
    low = kind(float(exact - Fraction(float(high))))
    if not low:
        return b.fmul(x, b.const(x.type, float(high)))
    return b.fma(x, b.const(x.type, float(high)), b.fmul(x, b.const(x.type, float(low))))


# ------------------------------------------------------------------ exp, log


def exp(b: Builder, x: Value) -> Value:
    """e ** x within 1 ulp; 0 where the result is below 1.7e-38 (f32) or 1.6e-308 (f64)."""
    return _exp_within(b, _clamp(b, x, *_format(x).exp_range))


def _exp_within(b: Builder, x: Value, tail: Value | None = None) -> Value:
    """e ** (x + tail) for x within `exp_range`, and a tiny tail."""
    f = _format(x)
    # the exponent of 2 ** (n-1) is always finite, and 0 where the result would not be normal
    scale, rest = _reduce(b, x, f.bias - 1)
    if tail is not None:
        rest = b.fadd(rest, tail)
    return b.fmul(_polynomial(b, rest, (2.0, 2.0, *(2 * c for c in f.exp))), scale)


def _reduce(b: Builder, x: Value, bias: int) -> tuple[Value, Value]:
    """x = n ln2 + r with |r| <= ln2 / 2: the float whose exponent field is n + bias, and r."""
    f = _format(x)
    whole = b.const(x.type, f.whole + bias)
    shifted = b.fma(x, b.const(x.type, _LOG2_E), whole)
    n = b.fsub(shifted, whole)
    rest = b.fma(n, b.const(x.type, -f.ln2[0]), x)
    rest = b.fma(n, b.const(x.type, -f.ln2[1]), rest)
    integer = with_scalar(x.type, f.integer)
    scale = b.shl(b.bitcast(shifted, integer), b.const(integer, f.mantissa))
    return b.bitcast(scale, x.type), rest


def log(b: Builder, x: Value) -> Value:
    """Natural logarithm within 1 ulp; -inf at 0, NaN below; denormal arguments count."""
    f = _format(x)
    m, k = _split(b, x)
    rest = b.fsub(m, b.const(x.type, 1))
    low = b.fmul(k, b.const(x.type, f.ln2[1]))
    square = b.fmul(rest, rest)
    half = b.const(x.type, -0.5)
    if f.mantissa < 50:
        low = b.fma(b.fmul(rest, square), _polynomial(b, rest, f.log), low)
        low = b.fma(square, half, low)
    else:  # a series of s = rest / (2 + rest) needs half the terms, but a division
        s = b.fdiv(rest, b.fadd(rest, b.const(x.type, 2)))
        z = b.fmul(s, s)
        series = b.fmul(z, _polynomial(b, z, f.log))
        halved = b.fmul(square, half)
        low = b.fadd(b.fma(s, b.fsub(series, halved), low), halved)
    value = b.fma(k, b.const(x.type, f.ln2[0]), b.fadd(rest, low))
    infinite = b.const(x.type, _INF)
    value = b.select(b.fcmp("oeq", x, infinite), infinite, value)
    zero = b.zero(x.type)
    below = b.select(b.fcmp("oeq", x, zero), b.const(x.type, -_INF), b.const(x.type, _NAN))
    return b.select(b.fcmp("ogt", x, zero), value, below)


def _split(b: Builder, x: Value) -> tuple[Value, Value]:
    """x = m * 2 ** k for positive finite x: m between the roots of 1/2 and 2, and k as a float."""
    f = _format(x)
    integer = with_scalar(x.type, f.integer)
    tiny = b.fcmp("olt", x, b.const(x.type, f.smallest))
    x = b.select(tiny, b.fmul(x, b.const(x.type, 2.0**f.mantissa)), x)
    bits = b.bitcast(x, integer)
    k = b.ashr(b.sub(bits, b.const(integer, f.half_root)), b.const(integer, f.mantissa))
    m = b.bitcast(b.sub(bits, b.shl(k, b.const(integer, f.mantissa))), x.type)
    # an integer in the low bits of a large float: few machines convert 64-bit vectors
    whole = b.const(x.type, f.whole)
    shifted = b.add(k, b.bitcast(whole, integer))
    power = b.fsub(b.bitcast(shifted, x.type), whole)
    offset = b.select(tiny, b.const(x.type, -f.mantissa), b.zero(x.type))
    return m, b.fadd(power, offset)


# ------------------------------------------------------------------ tanh, erf


def tanh(b: Builder, x: Value) -> Value:
    """Hyperbolic tangent within 2.5 ulp, relative also near 0."""
    f = _format(x)
    # expm1(2|x|) / (expm1(2|x|) + 2), with expm1 = 2^n (e^r - 1) + (2^n - 1)
    size = _at_most(b, b.intrinsic("fabs", x), 20.0)
    twice = b.fadd(size, size)
    scale, rest = _reduce(b, twice, f.bias)
    less = b.fma(b.fmul(rest, rest), _polynomial(b, rest, f.exp), rest)
    grown = b.fma(scale, less, b.fsub(scale, b.const(x.type, 1)))
    return b.intrinsic("copysign", b.fdiv(grown, b.fadd(grown, b.const(x.type, 2))), x)


def erf(b: Builder, x: Value) -> Value:
    """Gauss error function within 2 ulp, relative also near 0."""
    square, size, one = b.fmul(x, x), b.intrinsic("fabs", x), b.const(x.type, 1)
    if _format(x).mantissa < 50:
        limit = 0.95
        small = b.fma(_polynomial(b, square, _ERF_SMALL_F32), x, x)
        size = _at_most(b, size, 3.93)
        rest = _exp_within(b, b.fmul(size, _polynomial(b, size, _ERF_LARGE_F32)))
    else:
        limit = 1.0
        small = b.fmul(x, _polynomial(b, square, _ERF_SMALL_F64))
        size = _at_most(b, size, 6.0)
        numerator, denominator = (_polynomial(b, size, c) for c in _ERF_LARGE_F64)
        rest = b.fmul(b.fdiv(numerator, denominator), _exp_within(b, b.fneg(b.fmul(size, size))))
    near = b.fcmp("olt", size, b.const(x.type, limit))
    return b.select(near, small, b.intrinsic("copysign", b.fsub(one, rest), x))


# ------------------------------------------------------------------ sin, cos, atan


def sin(b: Builder, x: Value) -> Value:
    """Sine of radians, within 2.4 ulp where |x| < 1e6; beyond 1e9 (f64: 1e6) only in [-1, 1]."""
    return _sine(b, x, 0)


def cos(b: Builder, x: Value) -> Value:
    """Cosine of radians, as exact as `sin`."""
    return _sine(b, x, 1)


def _sine(b: Builder, x: Value, quarter: int) -> Value:
    """sin(x + quarter * pi / 2)."""
    f = _format(x)
    quadrant, rest = _quadrant(b, x)
    integer = quadrant.type
    if quarter:
        quadrant = b.add(quadrant, b.const(integer, quarter))
    one = b.const(integer, 1)
    z = b.fmul(rest, rest)
    odd = b.fma(b.fmul(rest, z), _polynomial(b, z, f.sin), rest)
    odd = b.intrinsic("copysign", odd, rest)  # of a zero
    even = b.fma(z, b.const(x.type, -0.5), b.const(x.type, 1))
    even = b.fma(b.fmul(z, z), _polynomial(b, z, f.cos), even)
    swapped = b.icmp("ne", b.and_(quadrant, one), b.zero(integer))
    value = b.bitcast(b.select(swapped, even, odd), integer)
    sign = b.shl(b.lshr(quadrant, one), b.const(integer, int(f.integer[1:]) - 1))
    return b.bitcast(b.xor(value, sign), x.type)


def _quadrant(b: Builder, x: Value) -> tuple[Value, Value]:
    """x = n * pi / 2 + r: the low bits of n, and r in [-pi/4, pi/4].

    f32 is reduced in double: as exact as Payne and Hanek's method up to 1e9 and much shorter.
    """
    f = _format(x)
    wide = b.cast("fpext", x, with_scalar(x.type, "double"))
    whole = b.const(wide.type, _FORMATS["double"].whole)
    shifted = b.fma(wide, b.const(wide.type, 2 / 3.141592653589793), whole)
    n = b.fsub(shifted, whole)
    rest = wide
    for part in _PI2_SHORT if f.mantissa < 50 else _PI2_PARTS:
        rest = b.fma(n, b.const(wide.type, -part), rest)
    rest = _clamp(b, rest, -0.786, 0.786)  # what is left of enormous arguments is noise, but finite
    bits = b.bitcast(shifted, with_scalar(x.type, "i64"))
    if f.mantissa < 50:
        return b.cast("trunc", bits, with_scalar(x.type, "i32")), b.cast("fptrunc", rest, x.type)
    return bits, rest


def atan(b: Builder, x: Value) -> Value:
    """Arc tangent within 2.4 ulp, in radians."""
    angle = _angle(b, b.intrinsic("fabs", x), b.const(x.type, 1))
    return b.intrinsic("copysign", angle, x)


def atan2(b: Builder, y: Value, x: Value) -> Value:
    """The angle of the point (x, y) within 3 ulp; zeros and infinities as in IEEE 754."""
    f = _format(x)
    integer = with_scalar(x.type, f.integer)
    angle = _angle(b, b.intrinsic("fabs", y), b.intrinsic("fabs", x))
    left = b.icmp("slt", b.bitcast(x, integer), b.zero(integer))
    high, low = (b.const(x.type, c) for c in f.pi)
    angle = b.select(left, b.fadd(b.fsub(high, angle), low), angle)
    return b.intrinsic("copysign", angle, y)


def _angle(b: Builder, y: Value, x: Value) -> Value:
    """atan(y / x) for y, x >= 0, where 0/0 is 0 and inf/inf is 1."""
    f = _format(x)
    zero, one = b.zero(x.type), b.const(x.type, 1)
    steep = b.fcmp("ogt", y, x)
    less, more = b.select(steep, x, y), b.select(steep, y, x)
    ratio = b.fdiv(less, more)
    same = b.fcmp("oeq", less, more)
    ratio = b.select(same, b.select(b.fcmp("oeq", more, zero), zero, one), ratio)
    # atan(t) = pi/4 + atan((t - 1) / (t + 1)) halves the range once more
    far = b.fcmp("ogt", ratio, b.const(x.type, _TAN_PI8))
    rest = b.select(far, b.fdiv(b.fsub(ratio, one), b.fadd(ratio, one)), ratio)
    z = b.fmul(rest, rest)
    angle = b.fma(b.fmul(rest, z), _polynomial(b, z, f.atan), rest)
    angle = b.select(steep, b.fneg(angle), angle)
    base = [
        b.select(far, b.const(x.type, f.pi4[i]), b.select(steep, b.const(x.type, f.pi2[i]), zero))
        for i in (0, 1)
    ]
    return b.fadd(base[0], b.fadd(base[1], angle))


# ------------------------------------------------------------------ power


def power(b: Builder, x: Value, y: Value) -> Value:
    """x ** y within 1 ulp (f32) and 4 ulp (f64), with all special cases of C's pow."""
    if scalar_of(x.type) == "float":  # in double, log and exp leave f32 results nearly exact
        wide = with_scalar(x.type, "double")
        size = b.cast("fpext", b.intrinsic("fabs", x), wide)
        exponent = _clamp(b, b.fmul(b.cast("fpext", y, wide), log(b, size)), -150.0, 150.0)
        result = b.cast("fptrunc", _exp_within(b, exponent), x.type)
    else:
        result = _power_size(b, b.intrinsic("fabs", x), y)
    return _power_signs(b, x, y, result)


def _power_signs(b: Builder, x: Value, y: Value, result: Value) -> Value:
    """What |x| ** y becomes for negative x, and where x or y alone decides."""
    zero, one, infinite = b.zero(x.type), b.const(x.type, 1), b.const(x.type, _INF)
    integer = with_scalar(x.type, _format(x).integer)
    large, base = b.intrinsic("fabs", y), b.intrinsic("fabs", x)
    whole = b.fcmp("oeq", _nearest(b, large), large)
    half = b.fmul(large, b.const(x.type, 0.5))
    odd = b.and_(whole, b.fcmp("une", _nearest(b, half), half))
    negative = b.icmp("slt", b.bitcast(x, integer), b.zero(integer))
    result = b.select(b.and_(negative, odd), b.fneg(result), result)
    fraction = b.and_(b.fcmp("olt", x, zero), b.fcmp("une", base, infinite))
    fraction = b.and_(fraction, b.not_(whole))
    result = b.select(fraction, b.const(x.type, _NAN), result)
    unit = b.and_(b.fcmp("oeq", base, one), b.fcmp("oeq", large, infinite))
    unit = b.or_(unit, b.or_(b.fcmp("oeq", x, one), b.fcmp("oeq", y, zero)))
    return b.select(unit, one, result)


def _power_size(b: Builder, x: Value, y: Value) -> Value:
    """x ** y in double for x >= 0: log and product carried in two numbers each."""
    y_limited = _clamp(b, y, -(2.0**70), 2.0**70)  # beyond, exact products would overflow
    high, low = _log_pair(b, x)
    product, error = _product(b, y_limited, high)
    error = b.fma(y_limited, low, error)
    inside = b.intrinsic("fabs", product)
    error = b.select(b.fcmp("olt", inside, b.const(x.type, 750.0)), error, b.zero(x.type))
    # results that are not normal: e ** (p + 64) * e ** -64, where p + 64 is exact
    tiny = b.fcmp("olt", product, b.const(x.type, -700.0))
    raised = b.select(tiny, b.fadd(product, b.const(x.type, 64.0)), product)
    result = _exp_within(b, _clamp(b, raised, *_format(x).exp_range), error)
    lowered = b.fmul(result, b.const(x.type, math.exp(-64.0)))
    result = b.select(tiny, lowered, result)
    zero, infinite = b.zero(x.type), b.const(x.type, _INF)
    extreme = b.or_(b.fcmp("oeq", x, zero), b.fcmp("oeq", x, infinite))
    grows = b.xor(b.fcmp("oeq", x, zero), b.fcmp("ogt", y, zero))
    limit = b.select(b.fcmp("uno", y, y), y, b.select(grows, infinite, zero))
    return b.select(extreme, limit, b.select(b.fcmp("uno", x, x), x, result))


def _log_pair(b: Builder, x: Value) -> tuple[Value, Value]:
    """log(x) in double as a sum of two numbers, to about 2 ** -65 of it; x positive and finite."""
    f = _format(x)
    m, k = _split(b, x)
    rest, two = b.fsub(m, b.const(x.type, 1)), b.const(x.type, 2)
    # s = rest / (2 + rest) in two parts
    bottom = b.fadd(two, rest)
    lost = b.fadd(b.fsub(two, bottom), rest)
    s = b.fdiv(rest, bottom)
    part, part_error = _product(b, s, bottom)
    left = b.fsub(b.fsub(b.fsub(rest, part), part_error), b.fmul(s, lost))
    s_low = b.fdiv(left, bottom)
    # log(m) = 2 s + s^3 (2/3 + z P(z)), its first terms in two parts as well
    z, z_low = _product(b, s, s)
    z_low = b.fma(b.fmul(two, s), s_low, z_low)
    tail = b.fmul(z, _polynomial(b, z, f.log[1:]))
    c, c_low = _sum(b, b.const(x.type, f.log[0]), tail)
    c_low = b.fadd(c_low, b.const(x.type, 3.700743415417188e-17))
    cube, cube_low = _product(b, z, s)
    cube_low = b.fadd(cube_low, b.fma(z, s_low, b.fmul(z_low, s)))
    more, more_low = _product(b, cube, c)
    more_low = b.fadd(more_low, b.fma(cube, c_low, b.fmul(cube_low, c)))
    twice, twice_low = b.fmul(two, s), b.fmul(two, s_low)
    total, total_low = _sum(b, twice, more)
    total_low = b.fadd(total_low, b.fadd(more_low, twice_low))
    whole = b.fmul(k, b.const(x.type, f.ln2[0]))
    high, high_low = _sum(b, whole, total)
    high_low = b.fadd(high_low, b.fma(k, b.const(x.type, f.ln2[1]), total_low))
    return _sum(b, high, high_low)


def _sum(b: Builder, x: Value, y: Value) -> tuple[Value, Value]:
    """x + y and its rounding error, exactly, where |x| >= |y| or x is 0."""
    total = b.fadd(x, y)
    return total, b.fsub(y, b.fsub(total, x))


def _product(b: Builder, x: Value, y: Value) -> tuple[Value, Value]:
    """x * y and its rounding error, exactly (Dekker's splitting where nothing is fused)."""
    product = b.fmul(x, y)
    if b.fused:
        return product, b.fma(x, y, b.fneg(product))
    (a, a_low), (c, c_low) = _halves(b, x), _halves(b, y)
    error = b.fsub(b.fmul(a, c), product)
    error = b.fadd(b.fadd(error, b.fmul(a, c_low)), b.fmul(a_low, c))
    return product, b.fadd(error, b.fmul(a_low, c_low))


def _halves(b: Builder, x: Value) -> tuple[Value, Value]:
    """A double as the sum of two of 26 bits."""
    shifted = b.fmul(x, b.const(x.type, 2.0**27 + 1))
    high = b.fsub(shifted, b.fsub(shifted, x))
    return high, b.fsub(x, high)
