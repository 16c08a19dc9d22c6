"""FarmHash's 64-bit fingerprint of bytes, which LSH_PROJECTION hashes with (Pike and Alakuijala,
2014, github.com/google/farmhash)."""

from __future__ import annotations

_A, _B, _C = 0xC3A5C85C97CB3127, 0xB492B66FBE98F273, 0x9AE16A3B2F90404F
_MASK = (1 << 64) - 1


def _at(data: bytes, place: int, size: int = 8) -> int:
    return int.from_bytes(data[place : place + size], "little")


def _turn(x: int, bits: int) -> int:
    x &= _MASK
    return (x >> bits | x << 64 - bits) & _MASK


def _shifted(x: int) -> int:
    x &= _MASK
    return x ^ x >> 47


def _mixed(u: int, v: int, factor: int) -> int:
    """Two numbers as one."""
    u, v = u & _MASK, v & _MASK
    a = _shifted((u ^ v) * factor)
    return _shifted((v ^ a) * factor) * factor & _MASK


def fingerprint(data: bytes) -> int:
    """The fingerprint of any number of bytes, in [0, 2**64)."""
    n = len(data)
    factor = _C + 2 * n
    if n > 64:
        return _long(data)
    if n > 32:
        return _medium(data, factor)
    if n > 16:
        a, b = _at(data, 0) * _B, _at(data, 8)
        c, d = _at(data, n - 8) * factor, _at(data, n - 16) * _C
        return _mixed(_turn(a + b, 43) + _turn(c, 30) + d, a + _turn(b + _C, 18) + c, factor)
    if n >= 8:
        a, b = _at(data, 0) + _C, _at(data, n - 8)
        return _mixed(_turn(b, 37) * factor + a, (_turn(a, 25) + b) * factor, factor)
    if n >= 4:
        return _mixed(n + (_at(data, 0, 4) << 3), _at(data, n - 4, 4), factor)
    if n:
        y, z = data[0] + (data[n >> 1] << 8), n + (data[-1] << 2)
        return _shifted(y * _C ^ z * _A) * _C & _MASK
    return _C


def _medium(data: bytes, factor: int) -> int:
    n = len(data)
    a, b = _at(data, 0) * _C, _at(data, 8)
    c, d = _at(data, n - 8) * factor, _at(data, n - 16) * _C
    y = _turn(a + b, 43) + _turn(c, 30) + d
    z = _mixed(y, a + _turn(b + _C, 18) + c, factor)
    e, f = _at(data, 16) * factor, _at(data, 24)
    g, h = (y + _at(data, n - 32)) * factor, (z + _at(data, n - 24)) * factor
    return _mixed(_turn(e + f, 43) + _turn(g, 30) + h, e + _turn(f + a, 18) + g, factor)


def _weak(data: bytes, place: int, a: int, b: int) -> tuple[int, int]:
    """32 bytes and two numbers as two numbers."""
    w, x, y, z = (_at(data, place + i) for i in (0, 8, 16, 24))
    a += w
    b = _turn(b + a + z, 21)
    total = a + x + y
    return (total + z) & _MASK, (b + _turn(total, 44) + a) & _MASK


def _long(data: bytes) -> int:
    n, seed = len(data), 81
    y = seed * _B + 113 & _MASK
    z = _shifted(y * _C + 113) * _C & _MASK
    x = seed * _C + _at(data, 0) & _MASK
    v, w = (0, 0), (0, 0)
    last = (n - 1) // 64 * 64
    for place in range(0, last, 64):
        x, y, z, v, w = _round(data, place, (x, y, z), v, w, (_B, 1))
    factor = _B + ((z & 0xFF) << 1)
    w = (w[0] + ((n - 1) & 63), w[1])
    v = (v[0] + w[0], v[1])
    w = (w[0] + v[0], w[1])
    x, y, z, v, w = _round(data, n - 64, (x, y, z), v, w, (factor, 9))
    first = _mixed(v[0], w[0], factor) + _shifted(y) * _A + z
    return _mixed(first, _mixed(v[1], w[1], factor) + x, factor)


def _round(
    data: bytes,
    place: int,
    state: tuple[int, int, int],
    v: tuple[int, int],
    w: tuple[int, int],
    factors: tuple[int, int],
) -> tuple[int, int, int, tuple[int, int], tuple[int, int]]:
    """64 bytes more. factors: of the turned sums, and of what comes from the last round."""
    (x, y, z), (factor, weight) = state, factors
    x = _turn(x + y + v[0] + _at(data, place + 8), 37) * factor & _MASK
    y = _turn(y + v[1] + _at(data, place + 48), 42) * factor & _MASK
    x ^= w[1] * weight & _MASK
    y = y + v[0] * weight + _at(data, place + 40) & _MASK
    z = _turn(z + w[0], 33) * factor & _MASK
    v = _weak(data, place, v[1] * factor, x + w[0])
    w = _weak(data, place + 32, z + w[1], y + _at(data, place + 16))
    return z, y, x, v, w
