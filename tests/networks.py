"""Small graphs in the shape of real networks, of brim's own operators, for several tests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from brim.graph import Graph, Value, const, placeholder
from brim.ops import primitive as p
from brim.ops import quantized as q
from brim.types import F32, I8, I32, I64, type_of

_random = np.random.default_rng(0)


def begin_anew() -> None:
    """The next numbers are those of the first test, whichever tests ran before."""
    global _random
    _random = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return _random.standard_normal(shape).astype(np.float32)


def weight(*shape: int) -> Value:
    return const(normal(*shape))


def convolution(x: Value, w: Value, stride: int = 1, border: int = 1) -> Value:
    """A 2-D convolution, channels last, as pad + window + contract."""
    sides = (0, border, border, 0)
    if border:
        x = p.pad(x, low=sides, high=sides, value=0)
    size = w.shape[:2]
    x = p.window(x, axes=(1, 2), size=size, stride=(stride, stride), dilation=(1, 1))
    return p.contract(x, w, spec="nhwcij,ijco->nhwo")


def relu(x: Value) -> Value:
    return p.maximum(x, 0)


def softmax(x: Value) -> Value:
    axes = (len(x.shape) - 1,)
    e = p.exp(p.sub(x, p.reduce(x, op="max", axes=axes)))
    return p.div(e, p.reduce(e, op="add", axes=axes))


def layer_norm(x: Value) -> Value:
    axes, size = (len(x.shape) - 1,), x.shape[-1]
    d = p.sub(x, p.mul(p.reduce(x, op="add", axes=axes), 1 / size))
    variance = p.mul(p.reduce(p.mul(d, d), op="add", axes=axes), 1 / size)
    d = p.div(d, p.sqrt(p.add(variance, 1e-5)))
    return p.add(p.mul(d, weight(size)), weight(size))


def quantized(x: Value) -> Value:
    """Layers of 8-bit integers: convolutions, a sum of two of them, means."""

    def layer(x: Value, size: int, outputs: int) -> Value:
        w = _random.integers(-127, 128, (size, size, x.shape[-1], outputs), np.int8)
        scale = const(_random.uniform(1e-3, 2e-3, outputs).astype(np.float32))
        zero = const(np.array(3, np.int8))
        return q.requantize(convolution(x, const(w), border=size // 2), scale, zero)

    first = layer(x, 3, 8)
    a, b = (p.cast(layer(first, size, 6), to=I32) for size in (1, 3))
    total = p.shift_right(p.add(p.add(p.mul(a, 700), p.mul(b, 500)), 512), 10)
    total = p.cast(p.minimum(p.maximum(total, -128), 127), to=I8)
    means = p.reduce(p.cast(layer(total, 1, 5), to=I32), op="add", axes=(1, 2))
    return p.cast(p.shift_right(means, 6), to=I8)


def attention_block(x: Value, heads: int = 4) -> Value:
    batch, length, width = x.shape

    def project() -> Value:
        y = p.add(p.contract(x, weight(width, width), spec="bsk,ko->bso"), weight(width))
        y = p.reshape(y, shape=(batch, length, heads, width // heads))
        return p.transpose(y, perm=(0, 2, 1, 3))

    q, k, v = project(), project(), project()
    scores = p.contract(q, p.transpose(k, perm=(0, 1, 3, 2)), spec="bhsd,bhdt->bhst")
    shares = softmax(p.mul(scores, 0.3))
    mixed = p.contract(shares, v, spec="bhst,bhtd->bhsd")
    mixed = p.reshape(p.transpose(mixed, perm=(0, 2, 1, 3)), shape=x.shape)
    y = layer_norm(p.add(p.contract(mixed, weight(width, width), spec="bsk,ko->bso"), x))
    h = p.contract(y, weight(width, 4 * width), spec="bsk,ko->bso")
    h = p.mul(p.mul(h, 0.5), p.add(1, p.erf(p.mul(h, 0.70710678))))
    return layer_norm(p.add(p.contract(h, weight(4 * width, width), spec="bsk,ko->bso"), y))


def gated(x: Value) -> Value:
    """A squeeze-and-excite block."""
    y = relu(convolution(x, weight(3, 3, x.shape[3], 8)))
    squeezed = p.mul(p.reduce(y, op="add", axes=(1, 2)), 1 / (y.shape[1] * y.shape[2]))
    gate = p.contract(squeezed, weight(8, 8), spec="nhwc,co->nhwo")
    return p.mul(y, p.div(1, p.add(1, p.exp(p.neg(gate)))))


def dense(x: Value) -> Value:
    """Concats of concats, as in DenseNet."""
    a = p.concat(x, convolution(x, weight(3, 3, x.shape[3], 4)), axis=3)
    b = p.concat(a, convolution(a, weight(3, 3, a.shape[3], 4)), axis=3)
    return convolution(b, weight(1, 1, b.shape[3], 3), border=0)


def max_pool(x: Value) -> Value:
    x = p.pad(x, low=(0, 1, 1, 0), high=(0, 1, 1, 0), value=-np.inf)
    x = p.window(x, axes=(1, 2), size=(3, 3), stride=(2, 2), dilation=(1, 1))
    return p.reduce(x, op="max", axes=(4, 5))


def depthwise(x: Value) -> Value:
    x = p.pad(x, low=(0, 1, 1, 0), high=(0, 1, 1, 0), value=0)
    x = p.window(x, axes=(1, 2), size=(3, 3), stride=(1, 1), dilation=(1, 1))
    return p.contract(x, weight(3, 3, x.shape[3]), spec="nhwcij,ijc->nhwc")


def residual(x: Value) -> Value:
    y = relu(convolution(x, weight(3, 3, 8, 8)))
    y = convolution(y, weight(3, 3, 8, 8))
    return relu(p.add(y, convolution(x, weight(1, 1, 8, 8), border=0)))


def channels_first(x: Value) -> Value:
    y = convolution(p.transpose(x, perm=(0, 2, 3, 1)), weight(3, 3, x.shape[1], 8), 2)
    return p.transpose(relu(y), perm=(0, 3, 1, 2))


Build = Callable[..., "Value | tuple[Value, ...]"]

# name -> (inputs, function of the inputs, kernels expected, standalone moves expected)
NETWORKS: dict[str, tuple[list[np.ndarray], Build, int, int]] = {
    "elementwise": ([normal(2, 3, 4)], lambda x: relu(p.add(x, 1)), 1, 0),
    "convolution": (
        [normal(1, 6, 7, 3)],
        lambda x: relu(p.add(convolution(x, weight(3, 3, 3, 8)), weight(8))),
        1,
        0,
    ),
    "channels_first": ([normal(1, 3, 8, 8)], channels_first, 1, 0),
    "softmax": ([normal(5, 9)], softmax, 1, 0),
    "layer_norm": ([normal(5, 12)], layer_norm, 1, 0),
    "residual": ([normal(1, 6, 6, 8)], residual, 3, 0),
    "quantized": ([_random.integers(-128, 128, (1, 8, 8, 4), np.int8)], quantized, 5, 0),
    "attention": ([normal(1, 6, 16)], attention_block, 11, 0),
    "squeeze_excite": ([normal(1, 4, 4, 8)], gated, 4, 0),
    "dense": ([normal(1, 4, 4, 8)], dense, 4, 1),  # the copy is of the graph's input
    "max_pool": ([normal(1, 7, 7, 5)], max_pool, 1, 0),
    "depthwise": ([normal(1, 7, 7, 21)], depthwise, 1, 0),
    "reshape": ([normal(6, 4)], lambda x: p.add(p.reshape(relu(x), shape=(8, 3)), 1), 2, 0),
    "gather": (
        [normal(6, 4), np.array([[1, 2], [5, 0]])],
        lambda x, i: p.add(p.gather(x, i, axis=0), 1),
        1,
        0,
    ),
    "cumulate": (
        [normal(3, 5)],
        lambda x: p.cumulate(x, op="add", axis=1, exclusive=True, reverse=True),
        1,
        0,
    ),
    "scatter": (
        [normal(3, 5), normal(3, 2)],
        lambda x, u: p.scatter(x, const(np.array([1, 4])), u, axis=1, op="add"),
        2,
        1,
    ),
    "slices": (
        [normal(4, 9)],
        lambda x: p.slice(relu(x), starts=(0, 8), sizes=(4, 3), steps=(1, -2)),
        1,
        0,
    ),
    "argreduce": (
        [normal(4, 9)],
        lambda x: p.argreduce(relu(x), op="max", axis=1, last=False),
        1,
        0,
    ),
    "argreduce_of_two_axes": (  # positions are counted along one axis, so it cannot become two
        [normal(4, 3, 5)],
        lambda x: p.argreduce(
            p.reshape(p.transpose(x, perm=(1, 0, 2)), shape=(3, 20)), op="max", axis=1, last=False
        ),
        2,
        1,
    ),
    "half": ([normal(4, 9).astype(np.float16)], lambda x: p.mul(p.add(x, x), x), 1, 0),
    "iota": ([normal(9)], lambda x: p.add(x, p.cast(p.iota(size=9, dtype=I64), to=F32)), 1, 0),
}


def network(name: str) -> tuple[Graph, dict[str, np.ndarray]]:
    """A network as a graph of primitives, and inputs for it."""
    arrays, build, _, _ = NETWORKS[name]
    inputs = {f"x{i}": placeholder(type_of(a)) for i, a in enumerate(arrays)}
    results = build(*inputs.values())
    results = results if isinstance(results, tuple) else (results,)
    outputs = {f"y{i}": r for i, r in enumerate(results)}
    return Graph(inputs, outputs, name), dict(zip(inputs, arrays))
