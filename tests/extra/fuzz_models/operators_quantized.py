"""Cases with scales and zero points: QuantizeLinear and its kin."""

from __future__ import annotations

import numpy as np

from tests.extra.fuzz_models.draft import Draft, Tensor, Unfit, element_number
from tests.extra.fuzz_models.operators_nn import window
from tests.extra.fuzz_models.table import case

EIGHT = ("uint8", "int8")


def scale(d: Draft, shape: tuple[int, ...], dtype: str = "float32") -> Tensor:
    """Positive steps."""
    return d.feed(d.rng.choice([0.05, 0.1, 0.25, 0.5, 1.0, 0.02], shape).astype(dtype))


def per_axis(d: Draft, x: Tensor, name: str) -> tuple[tuple[int, ...], dict]:
    """The shape of scales for the whole tensor, an axis, or blocks, with its attributes."""
    if d.opset < 13 or x.rank == 0 or d.chance(0.4):
        return (), {}
    axis = d.axis(x.rank)
    if d.has(name, "block_size") and d.chance(0.3):
        block = d.choose([n for n in range(1, x.shape[axis] + 1) if x.shape[axis] % n == 0])
        shape = list(x.shape)
        shape[axis] //= block
        return tuple(shape), {"axis": axis, "block_size": block}
    return (x.shape[axis],), {"axis": axis}


@case("QuantizeLinear")
def quantize(d: Draft, name: str) -> None:
    kinds = ("float32", "float16", "int32") if d.opset >= 19 else ("float32", "int32")
    x = d.take([k for k in kinds if k in d.types(name)], zero=False)
    if x.dtype == "int32":
        x = d.feed(d.array(x.shape, "int32", plain=True))
    elif np.isnan(x.array).any():
        raise Unfit("NaN is no integer")
    shape, more = per_axis(d, x, name)
    steps = scale(d, shape, x.dtype if x.dtype != "int32" else "float32")
    narrow = EIGHT + (("int16", "uint16") if d.opset >= 21 else ())
    zero = d.tensor(shape, d.choose(narrow), plain=True) if d.chance(0.7) else None
    if zero is None and d.has(name, "output_dtype") and d.chance():
        more["output_dtype"] = element_number(d.choose(narrow))
    d.add(name, x, steps, zero, **more)


@case("DequantizeLinear")
def dequantize(d: Draft, name: str) -> None:
    kinds = [*EIGHT, "int32"] + (["int16", "uint16"] if d.opset >= 21 else [])
    x = d.take(kinds, zero=False)
    shape, more = per_axis(d, x, name)
    kind = "float16" if d.opset >= 19 and d.chance(0.2) else "float32"
    zero = None
    if d.chance(0.7):
        zero = d.feed(np.zeros(shape, np.int32)) if x.dtype == "int32" else d.tensor(shape, x.dtype)
    d.add(name, x, scale(d, shape, kind), zero, **more)


@case("DynamicQuantizeLinear")
def dynamic_quantize(d: Draft, name: str) -> None:
    x = d.take(("float32",), zero=False)
    if not np.isfinite(x.array).all():
        raise Unfit("NaN and infinity have no range")
    d.add(name, x, outputs=3)


def step(d: Draft, dtype: str) -> list[Tensor]:
    return [scale(d, ()), d.tensor((), dtype)]


@case("QLinearMatMul")
def qlinear_matmul(d: Draft, name: str) -> None:
    a = d.take(EIGHT, 2, 3, zero=False)
    b = d.tensor((a.shape[-1], d.integer(1, 5)), d.choose(EIGHT))
    out = d.choose(EIGHT)
    if d.opset >= 21 and d.chance(0.1):
        raise Unfit("float16 scales have no peer")
    d.add(name, a, *step(d, a.dtype), b, *step(d, b.dtype), *step(d, out))


@case("QLinearConv")
def qlinear_conv(d: Draft, name: str) -> None:
    w = window(d)
    groups, inner, outer = d.choose([1, 1, 2]), d.integer(1, 3), d.integer(1, 3)
    x = d.tensor((d.integer(1, 2), groups * inner, *w.image), d.choose(EIGHT))
    weights = d.tensor((groups * outer, inner, *w.kernel), d.choose([x.dtype, "int8"]))
    shape = (groups * outer,) if d.chance(0.3) else ()
    steps = scale(d, shape)
    zeros = d.feed(np.zeros(shape, weights.dtype)) if shape else d.tensor((), weights.dtype)
    bias = d.tensor((groups * outer,), "int32", plain=True) if d.chance() else None
    d.add(
        name,
        x,
        *step(d, x.dtype),
        weights,
        steps,
        zeros,
        *step(d, x.dtype),
        bias,
        group=groups,
        **w.attributes,
    )
