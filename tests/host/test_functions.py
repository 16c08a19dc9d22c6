"""Our exp, log, tanh, ... against numpy in higher precision: dense samples, specials, widths."""

from __future__ import annotations

import ctypes
import math

import numpy as np
import pytest

from brim.targets import functions
from brim.targets.builder import Builder, Value, vector_of
from brim.targets.target import host

binding = pytest.importorskip("llvmlite.binding")

INF, NAN = math.inf, math.nan
SCALARS = {np.float32: "float", np.float64: "double"}
_keep: list = []
_compiled: dict = {}


def compiled(name: str, dtype: type, lanes: int, fused: bool):
    """A function of numpy arrays (sizes divisible by `lanes`) that runs our `name` in a loop."""
    key = (name, dtype, lanes, fused)
    if key in _compiled:
        return _compiled[key]
    arity = 2 if name in ("atan2", "power") else 1
    names = [f"%a{i}" for i in range(arity)]
    b = Builder("f", [*((n, "ptr") for n in names), ("%out", "ptr"), ("%n", "i64")], fma=fused)
    scalar = SCALARS[dtype]
    type = vector_of(scalar, lanes)
    with b.loop(b.i64(0), Value("%n", "i64"), step=lanes) as loop:
        args = [b.load(b.gep(Value(n, "ptr"), loop.index, scalar), type, 4) for n in names]
        result = getattr(functions, name)(b, *args)
        b.store(result, b.gep(Value("%out", "ptr"), loop.index, scalar), 4)
    target = host()
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    module = binding.parse_assembly(b.module(target.triple))
    module.verify()
    machine = binding.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.features, opt=2
    )
    engine = binding.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    _keep.append(engine)
    pointer = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * (arity + 1), ctypes.c_int64)
    entry = pointer(engine.get_function_address("f"))

    def run(*arrays: np.ndarray) -> np.ndarray:
        size = len(arrays[0])
        padded = [np.resize(a, -(-size // lanes) * lanes).astype(dtype) for a in arrays]
        out = np.zeros_like(padded[0])
        entry(*(a.ctypes.data for a in padded), out.ctypes.data, len(out))
        return out[:size]

    _compiled[key] = run
    return run


def ulps(got: np.ndarray, exact: np.ndarray) -> float:
    """The largest error in units in the last place of the rounded exact value."""
    with np.errstate(all="ignore"):
        rounded = exact.astype(got.dtype)
        usable = np.isfinite(rounded) & (np.abs(rounded) >= 4 * np.finfo(got.dtype).tiny)
        size = np.nextafter(np.abs(rounded), 0)  # finite also next to the largest number
        error = (np.abs(got.astype(np.longdouble) - exact) / np.spacing(size))[usable]
    assert not np.isnan(error).any()
    return float(error.max())


def reference(name: str, *arrays: np.ndarray) -> np.ndarray:
    """In double for f32, in long double for f64 (where that is longer: x86)."""
    wide = np.float64 if arrays[0].dtype == np.float32 else np.longdouble
    with np.errstate(all="ignore"):
        if name == "erf":
            return np.array([math.erf(v) for v in arrays[0].tolist()])
        same = {"atan": "arctan", "atan2": "arctan2"}
        return getattr(np, same.get(name, name))(*(a.astype(wide) for a in arrays))


def near_zero(dtype: type, top: float, count: int) -> np.ndarray:
    """Both signs, magnitudes spread evenly over the exponents up to `top`."""
    low = -30 if dtype == np.float32 else -80
    half = np.exp2(np.linspace(low, math.log2(top), count // 2))
    return np.concatenate([half, -half]).astype(dtype)


def samples(name: str, dtype: type) -> np.ndarray:
    rng = np.random.default_rng(1)
    n = 60_000 if name == "erf" else 300_000
    single = dtype == np.float32
    match name:
        case "exp":
            x = rng.uniform(-86.9 if single else -707, 88.8 if single else 709.9, n)
            return np.concatenate([x, near_zero(dtype, 1, n)]).astype(dtype)
        case "log":
            info = np.finfo(dtype)
            tiny = float(info.smallest_subnormal)
            x = np.exp2(rng.uniform(math.log2(tiny) + 1, math.log2(float(info.max)) - 1, n))
            return np.concatenate([x, 1 + near_zero(dtype, 0.7, n)]).astype(dtype)
        case "tanh":
            return np.concatenate([near_zero(dtype, 25, n), rng.uniform(-10, 10, n)]).astype(dtype)
        case "erf":
            return np.concatenate([near_zero(dtype, 8, n), rng.uniform(-6.5, 6.5, n)]).astype(dtype)
        case "atan":
            x = np.tan(rng.uniform(-math.pi / 2, math.pi / 2, n))
            return np.concatenate([near_zero(dtype, 1e30, n), x]).astype(dtype)
        case _:
            turns = np.arange(-63_000, 63_000) * (math.pi / 2)
            x = np.concatenate([rng.uniform(-1e5, 1e5, n), rng.uniform(-7, 7, n), turns])
            return np.concatenate([near_zero(dtype, 1e5, n), x]).astype(dtype)


LIMITS = {
    "exp": (1.2, 1.2),
    "log": (1.2, 1.2),
    "tanh": (2.5, 2.5),
    "erf": (1.2, 2.0),
    "sin": (1.6, 2.4),
    "cos": (1.6, 2.4),
    "atan": (2.4, 2.4),
}


@pytest.mark.parametrize("dtype", SCALARS)
@pytest.mark.parametrize("name", LIMITS)
def test_accuracy(name: str, dtype: type) -> None:
    x = samples(name, dtype)
    error = ulps(compiled(name, dtype, 8, True)(x), reference(name, x))
    assert error <= LIMITS[name][dtype == np.float64]
    # without a fused multiply-add: a little more
    error = ulps(compiled(name, dtype, 4, False)(x), reference(name, x))
    assert error <= LIMITS[name][dtype == np.float64] + 1.5


@pytest.mark.parametrize("dtype", SCALARS)
@pytest.mark.parametrize("name", [*LIMITS, "atan2", "power"])
def test_every_lane_agrees(name: str, dtype: type) -> None:
    rng = np.random.default_rng(2)
    x = (rng.normal(size=(2, 720)) * 3).astype(dtype)
    args = (x[0], x[1])[: 2 if name in ("atan2", "power") else 1]
    wanted = compiled(name, dtype, 1, True)(*args)
    for lanes in (2, 16):
        np.testing.assert_array_equal(compiled(name, dtype, lanes, True)(*args), wanted)


SPECIAL = {
    "exp": [(0, 1), (-0.0, 1), (INF, INF), (-INF, 0), (1e30, INF), (-1e30, 0)],
    "log": [(0, -INF), (-0.0, -INF), (1, 0), (INF, INF), (-1, NAN), (-INF, NAN)],
    "tanh": [(0, 0), (-0.0, -0.0), (INF, 1), (-INF, -1), (1e20, 1)],
    "erf": [(0, 0), (-0.0, -0.0), (INF, 1), (-INF, -1), (1e20, 1), (-5.99, -1)],
    "sin": [(0, 0), (-0.0, -0.0), (INF, NAN), (-INF, NAN)],
    "cos": [(0, 1), (-0.0, 1), (INF, NAN), (-INF, NAN)],
    "atan": [(0, 0), (-0.0, -0.0), (INF, math.pi / 2), (-INF, -math.pi / 2)],
}


@pytest.mark.parametrize("dtype", SCALARS)
@pytest.mark.parametrize("name", SPECIAL)
def test_special_values(name: str, dtype: type) -> None:
    pairs = [*SPECIAL[name], (NAN, NAN)]
    x, wanted = (np.array(column, dtype) for column in zip(*pairs))
    got = compiled(name, dtype, 8, True)(x)
    np.testing.assert_array_equal(got, wanted)
    np.testing.assert_array_equal(np.signbit(got[got == 0]), np.signbit(wanted[wanted == 0]))


@pytest.mark.parametrize("dtype", SCALARS)
def test_bounded_functions_stay_bounded(dtype: type) -> None:
    info = np.finfo(dtype)
    x = np.exp2(np.linspace(np.log2(info.tiny), np.log2(info.max) - 0.01, 50_000)).astype(dtype)
    for name in ("tanh", "erf", "sin", "cos"):
        got = compiled(name, dtype, 8, True)(np.concatenate([x, -x]))
        assert np.abs(got).max() <= 1


@pytest.mark.parametrize("dtype", SCALARS)
def test_denormals(dtype: type) -> None:
    info = np.finfo(dtype)
    x = (np.arange(1, 400) * info.smallest_subnormal).astype(dtype)
    for name in ("log", "atan", "sin"):
        got, exact = compiled(name, dtype, 8, True)(x), reference(name, x)
        np.testing.assert_allclose(got.astype(np.float64), exact.astype(np.float64), rtol=1e-6)
    # results that are denormal may be flushed, but nothing else
    for y in (np.log(float(info.tiny)) - np.linspace(0.5, 20, 500), np.full(8, -1e4)):
        got = compiled("exp", dtype, 8, True)(y.astype(dtype))
        assert (got >= 0).all() and (got <= info.tiny).all()


def corners(dtype: type) -> np.ndarray:
    info = np.finfo(dtype)
    tiny, small, big = info.smallest_subnormal, info.tiny, info.max
    odd = 2**23 - 1 if dtype == np.float32 else 2**52 - 1
    half = [NAN, 0, tiny, small, 0.25, 0.5, 1, 1.5, 2, 2.5, 3, 7, 10, 123, odd, odd + 2]
    half += [2 * odd + 2, big, INF, 1 - info.epsneg, 1 + info.eps, odd / 2, 1e10]
    return np.array([*half, *(-v for v in half)], dtype)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("dtype", SCALARS)
@pytest.mark.parametrize("name", ["power", "atan2"])
def test_two_arguments_at_corners(name: str, dtype: type, fused: bool) -> None:
    c = corners(dtype)
    x, y = (a.ravel() for a in np.meshgrid(c, c))
    got, exact = compiled(name, dtype, 8, fused)(x, y), reference(name, x, y)
    with np.errstate(over="ignore"):
        wanted = exact.astype(dtype)
    flushed = np.abs(wanted) < 2 * np.finfo(dtype).tiny
    unlike = (np.isnan(got) != np.isnan(wanted)) | (np.isinf(got) != np.isinf(wanted))
    unlike |= (np.signbit(got) != np.signbit(wanted)) & ~np.isnan(wanted)
    unlike |= flushed & (np.abs(got) > 4 * np.finfo(dtype).tiny)
    assert not unlike.any(), list(zip(x[unlike], y[unlike], got[unlike], wanted[unlike]))[:8]
    assert ulps(got, exact) <= 4


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("dtype", SCALARS)
def test_power(dtype: type, fused: bool) -> None:
    rng = np.random.default_rng(3)
    n = 200_000
    top = 85 if dtype == np.float32 else 700
    x = np.exp(np.concatenate([rng.normal(size=n), rng.normal(size=n) * 20])).astype(dtype)
    y = (rng.uniform(-top, top, 2 * n) / np.abs(np.log(x))).clip(-1e4, 1e4).astype(dtype)
    error = ulps(compiled("power", dtype, 8, fused)(x, y), reference("power", x, y))
    assert error <= (1.0 if dtype == np.float32 else 4.0)
    whole = rng.integers(-9, 10, n).astype(dtype)
    base = (rng.normal(size=n) * 4).astype(dtype)
    error = ulps(compiled("power", dtype, 8, fused)(base, whole), reference("power", base, whole))
    assert error <= (1.0 if dtype == np.float32 else 4.0)


@pytest.mark.parametrize("dtype", SCALARS)
def test_atan2(dtype: type) -> None:
    rng = np.random.default_rng(4)
    x, y = (rng.normal(size=(2, 300_000)) * np.exp(rng.normal(size=(2, 300_000)) * 4)).astype(dtype)
    assert ulps(compiled("atan2", dtype, 8, True)(y, x), reference("atan2", y, x)) <= 3


@pytest.mark.parametrize("dtype", SCALARS)
def test_powers_that_are_not_normal(dtype: type) -> None:
    """x ** y below the smallest normal number loses digits, not all of them."""
    tiny = float(np.finfo(dtype).smallest_normal)
    x = np.array([tiny, tiny, tiny**0.5, 2.0, 0.5], dtype)
    y = np.array([1.0, 1.01, 2.05, np.log2(tiny) - 5, 5 - np.log2(tiny)], dtype)
    got, wanted = compiled("power", dtype, 8, True)(x, y), np.power(x, y)
    assert (wanted > 0).all()
    np.testing.assert_allclose(got, wanted, rtol=1e-3 if dtype == np.float32 else 1e-9)
