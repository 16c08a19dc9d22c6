"""Cases element by element: arithmetic, comparison, logic, activations, casts."""

from __future__ import annotations

import numpy as np

from tests.extra.fuzz_models.draft import ANY, STORED, Draft, Tensor, Unfit, element_number
from tests.extra.fuzz_models.table import case


@case(
    "Add", "Sub", "Mul", "And", "Or", "Xor", "BitwiseAnd", "BitwiseOr", "BitwiseXor",
    "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual",
)  # fmt: skip
def binary(d: Draft, name: str) -> None:
    a = d.take(d.types(name))
    pair = [a, d.broadcastable(a.shape, a.dtype)]
    d.add(name, *(reversed(pair) if d.chance() else pair))


@case("Div")
def div(d: Draft, name: str) -> None:
    a = d.take(d.types(name))
    b = d.broadcastable(a.shape, a.dtype)
    if a.dtype[0] in "ui":
        b = nonzero(d, b)
    d.add(name, a, b)


def nonzero(d: Draft, b: Tensor) -> Tensor:
    """Integers without zeros, and without the one quotient that overflows (min / -1)."""
    array = np.where(b.array == 0, 3, b.array)
    if b.array.dtype.kind == "i":
        array = np.where(array == -1, 2, array)
    return d.feed(array.astype(b.array.dtype))


@case("Mod")
def mod(d: Draft, name: str) -> None:
    a = d.take(d.types(name))
    b = d.broadcastable(a.shape, a.dtype)
    whole = a.dtype[0] in "ui"
    if whole:
        b = nonzero(d, b)
    d.add(name, a, b, fmod=int(not whole or d.chance()))


@case("Pow")
def power(d: Draft, name: str) -> None:
    a = d.take(d.types(name))
    kind = d.dtype(d.types(name, 1)) if d.opset >= 12 and d.chance(0.4) else a.dtype
    b = d.broadcastable(a.shape, kind)
    if kind[0] in "ui":
        b = d.feed(abs(b.array.astype(kind) % 5).astype(kind))
    elif a.dtype[0] in "ui":
        raise Unfit("a whole number to a broken power is truncated: any rounding shows")
    elif d.chance(0.3):
        b = d.constant(d.array((), kind, plain=True))
    d.add(name, a, b)


@case("BitShift")
def bit_shift(d: Draft, name: str) -> None:
    a = d.take(d.types(name))
    b = d.broadcastable(a.shape, a.dtype)
    bits = a.array.dtype.itemsize * 8
    d.add(
        name, a, d.feed(b.array % b.array.dtype.type(bits)), direction=d.choose(["LEFT", "RIGHT"])
    )


@case(
    "Neg", "Abs", "Exp", "Log", "Sqrt", "Tanh", "Erf", "Not", "BitwiseNot", "IsNaN", "Sign",
    "Sigmoid", "HardSwish", "Softplus", "Softsign", "Mish", "Relu", "Floor", "Ceil", "Round",
    "Reciprocal", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh",
    "Atanh", "Identity",
)  # fmt: skip
def unary(d: Draft, name: str) -> None:
    d.add(name, d.take(d.types(name)))


@case("Sin", "Cos", "Tan")
def periodic(d: Draft, name: str) -> None:
    x = d.take(d.types(name))
    if np.abs(x.array).max(initial=0) > 1e5:
        raise Unfit("compiled sines are exact up to 1e5, and bounded beyond")
    d.add(name, x)


@case("IsInf")
def is_inf(d: Draft, name: str) -> None:
    flags = {f"detect_{k}": d.integer(0, 1) for k in ("negative", "positive") if d.chance()}
    d.add(name, d.take(d.types(name)), **flags)


@case("LeakyRelu", "Elu", "Celu", "ThresholdedRelu", "Swish")
def with_alpha(d: Draft, name: str) -> None:
    alpha = d.number(0.01, 2) if d.chance() else None
    if name == "LeakyRelu" and d.chance(0.3):
        alpha = d.number(-2, 3)
    d.add(name, d.take(d.types(name)), alpha=alpha)


@case("Selu")
def selu(d: Draft, name: str) -> None:
    alpha = d.number(0.1, 3) if d.chance() else None
    gamma = d.number(0.1, 3) if d.chance() else None
    d.add(name, d.take(d.types(name)), alpha=alpha, gamma=gamma)


@case("HardSigmoid")
def hard_sigmoid(d: Draft, name: str) -> None:
    alpha = d.number(0.05, 1) if d.chance() else None
    beta = d.number(0, 1) if d.chance() else None
    d.add(name, d.take(d.types(name)), alpha=alpha, beta=beta)


@case("Shrink")
def shrink(d: Draft, name: str) -> None:
    bias = d.number(-1, 1) if d.chance() else None
    lambd = d.number(0, 2) if d.chance() else None
    x = d.take(d.types(name))
    if x.dtype[0] in "ui":
        bias = None if bias is None else float(round(bias))
    d.add(name, x, bias=bias, lambd=lambd)


@case("Gelu")
def gelu(d: Draft, name: str) -> None:
    d.add(name, d.take(d.types(name)), approximate=d.choose([None, "none", "tanh"]))


@case("PRelu")
def prelu(d: Draft, name: str) -> None:
    x = d.take(d.types(name))
    kept = x.shape[d.integer(0, x.rank) :]
    d.add(name, x, d.tensor([1 if d.chance(0.3) else n for n in kept], x.dtype))


@case("Max", "Min", "Sum", "Mean")
def many(d: Draft, name: str) -> None:
    values = [d.take(d.types(name))]
    for _ in range(d.integer(0, 3)):
        values.append(d.broadcastable(values[0].shape, values[0].dtype))
    d.add(name, *values)


@case("Clip")
def clip(d: Draft, name: str) -> None:
    x = d.take(d.types(name))
    low, high = sorted(d.array((2,), x.dtype, plain=True).tolist())
    if d.opset < 11:
        d.add(name, x, min=float(low) if d.chance(0.7) else None, max=float(high))
        return
    bounds = [d.scalar(v, x.dtype) if d.chance(0.7) else None for v in (low, high)]
    d.add(name, x, *bounds)


@case("Where")
def where(d: Draft, name: str) -> None:
    x = d.take(d.types(name, 1))
    y = d.broadcastable(x.shape, x.dtype)
    condition = d.broadcastable(x.shape, "bool")
    d.add(name, condition, x, y)


@case("Cast")
def cast(d: Draft, name: str) -> None:
    x = d.take(ANY)
    if d.opset >= 21 and d.chance(0.3):  # through a narrow type, and back
        narrow = d.choose([kind for kind in STORED if kind in d.types("Transpose")])
        y = d.feed(d.array(x.shape, "float32", plain=True))
        if "int" in narrow:
            y = d.feed(d.array(x.shape, narrow).astype(np.float32))
        (y,) = d.add(name, y, to=element_number(narrow))
        d.add(name, y, to=element_number("float32"))
        return
    d.add(name, fitting(d, x, to := d.dtype(ANY)), to=element_number(to))


@case("CastLike")
def cast_like(d: Draft, name: str) -> None:
    x = d.take(ANY)
    like = d.take(ANY)
    d.add(name, fitting(d, x, like.dtype), like)


def fitting(d: Draft, x: Tensor, to: str) -> Tensor:
    """Numbers that type `to` can hold: what others become is not defined."""
    if x.dtype[0] != "f" or to[0] not in "ui":
        return x
    info = np.iinfo(to)
    array = np.nan_to_num(x.array.astype(np.float64), nan=1, posinf=2, neginf=3)
    array = np.clip(array, max(info.min, -1e9), min(info.max, 1e9))
    return d.feed(array.astype(x.dtype))


@case("Dropout")
def dropout(d: Draft, name: str) -> None:
    x = d.take(d.types(name))
    outputs = d.integer(1, 2) if d.opset >= 10 else 1  # before, the reference errs on its type
    if d.opset < 12:
        d.add(name, x, outputs=outputs, ratio=d.number(0, 0.9))
        return
    ratio = d.scalar(0.25, "float32") if d.chance() else None
    training = d.scalar(False, "bool") if d.chance(0.3) else None
    d.add(name, x, ratio, training, outputs=outputs)
