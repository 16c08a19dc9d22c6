"""Quantized TFLite networks: LiteRT's integers, bit for bit, and no float numbers in between."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")
pytest.importorskip("tflite")

import brim
from brim import zoo
from brim.frontends.tflite import read
from tests.tflite_models import (
    Graph,
    Op,
    Quantization,
    Tensor,
    constant,
    op,
    run_litert,
    write,
)

pytestmark = pytest.mark.peer("ai_edge_litert")
Shape = tuple[int, ...]
LIMITS = {"int8": (-128, 128), "uint8": (0, 256)}


class Network:
    """A MobileNet's layers in small, of random weights: tensors and operators as they come."""

    def __init__(self, dtype: str) -> None:
        self.dtype, self.random = dtype, np.random.default_rng(0)
        self.offset = 0 if dtype == "int8" else 128
        self.tensors = [Tensor("x", dtype, (1, 16, 16, 3), quantization=self.scale(0.02, -128))]
        self.ops: list[Op] = []

    def scale(self, scale: float, zero: int = 0) -> Quantization:
        return Quantization(scale, zero + self.offset)

    def result(self, shape: Shape, quantization: Quantization) -> str:
        name = f"t{len(self.tensors)}"
        self.tensors.append(Tensor(name, self.dtype, shape, quantization=quantization))
        return name

    def find(self, name: str) -> Tensor:
        return next(t for t in self.tensors if t.name == name)

    def layer(self, kind: str, given: str, shape: Shape, to: Shape, **how: object) -> str:
        """A layer with weights of a shape; signed ones of convolutions have a scale a channel."""
        x, axis = self.find(given), 3 if kind == "DEPTHWISE_CONV_2D" else 0
        channels = shape[axis]
        many = channels if self.dtype == "int8" and kind != "FULLY_CONNECTED" else 1
        scales = self.random.uniform(2e-3, 6e-3, many)
        zeros = [self.offset] * many
        drawn = self.random.integers(*LIMITS[self.dtype], shape).astype(self.dtype)
        drawn = np.maximum(drawn, LIMITS[self.dtype][0] + 1)
        w = constant(
            f"w{len(self.tensors)}", drawn, quantization=Quantization([*scales], zeros, axis)
        )
        unit = float(x.quantization.scale)
        bias = self.random.integers(-2000, 2000, channels).astype(np.int32)
        real = Quantization([*(unit * scales)], [0] * many)
        b = constant(f"b{len(self.tensors)}", bias, quantization=real)
        terms = np.prod(shape) / channels
        y = self.result(to, self.scale(float(unit * 4e-3 * 74 * np.sqrt(terms)), 3))
        self.tensors += [w, b]
        self.ops.append(op(kind, f"{given} {w.name} {b.name}", y, **how))
        return y

    def plain(
        self, kind: str, given: str, to: Shape, quantization: Quantization, **how: object
    ) -> str:
        y = self.result(to, quantization)
        self.ops.append(op(kind, given, y, **how))
        return y


def mobile(dtype: str) -> bytes:
    n = Network(dtype)
    same = {"padding": "SAME", "strideH": 1, "strideW": 1}
    valid = {"padding": "VALID", "strideH": 1, "strideW": 1}
    half = {"padding": "SAME", "strideH": 2, "strideW": 2}
    a = n.layer("CONV_2D", "x", (8, 3, 3, 3), (1, 8, 8, 8), fusedActivationFunction="RELU6", **half)
    b = n.layer(
        "DEPTHWISE_CONV_2D",
        a,
        (1, 3, 3, 8),
        (1, 8, 8, 8),
        depthMultiplier=1,
        fusedActivationFunction="RELU",
        **same,
    )
    c = n.layer("CONV_2D", b, (8, 1, 1, 8), (1, 8, 8, 8), **same)
    d = n.plain("ADD", f"{a} {c}", (1, 8, 8, 8), n.scale(n.find(c).quantization.scale * 1.3, -7))
    e = n.layer("CONV_2D", d, (16, 1, 1, 8), (1, 8, 8, 16), fusedActivationFunction="RELU", **same)
    f = n.plain(
        "AVERAGE_POOL_2D",
        e,
        (1, 1, 1, 16),
        n.find(e).quantization,
        filterHeight=8,
        filterWidth=8,
        **valid,
    )
    g = n.plain("RESHAPE", f, (1, 16), n.find(f).quantization, newShape=[1, 16])
    h = n.layer("FULLY_CONNECTED", g, (5, 16), (1, 5))
    i = n.plain("SOFTMAX", h, (1, 5), n.scale(1 / 256, -128), beta=1.0)
    return write(Graph(n.tensors, n.ops, "x", i))


@pytest.mark.parametrize("dtype", LIMITS)
def test_networks_are_litert_bit_for_bit(dtype: str) -> None:
    content, random = mobile(dtype), np.random.default_rng(1)
    model = brim.load(content)
    feeds = [
        {"x": random.integers(*LIMITS[dtype], (1, 16, 16, 3)).astype(dtype)} for _ in range(20)
    ]
    for feed, expected in zip(feeds, run_litert(content, feeds, "default")):
        (want,) = expected.values()
        np.testing.assert_array_equal(model(feed["x"]), want)


@pytest.mark.parametrize("dtype", LIMITS)
def test_layers_store_bytes_and_no_kernel_only_converts(dtype: str) -> None:
    """One kernel a layer, the sum in that of its convolution; bytes in, bytes out."""
    kernels = brim.load(mobile(dtype)).report().kernels
    layers = [row for row in kernels if "contract" in row.ops]
    stored = [buffer for row in layers[:-1] for buffer in buffers(row.kernel)]
    assert len(layers) == 5
    assert all(shape.startswith(("i8[", "u8[")) for shape in stored)
    assert all({"contract", "reduce"} & set(row.ops) for row in kernels)


def buffers(kernel: str) -> list[str]:
    """The types of what a kernel reads and writes, constants left out: `in a0 i8[64]`."""
    found = (line.split() for line in kernel.splitlines())
    return [parts[2] for parts in found if len(parts) == 3 and parts[0] in ("in", "out")]


@pytest.mark.parametrize("kind", ["LOGISTIC", "TANH"])
@pytest.mark.parametrize("scale", [2.0**-12, 2.0**-11, 3e-4])
def test_all_16_bit_numbers(kind: str, scale: float) -> None:
    """LiteRT computes powers of two by gemmlowp's fixed point, other scales by a table."""
    x = np.arange(-(1 << 15), 1 << 15).astype(np.int16).reshape(1, -1)
    given, result = (
        Tensor(name, "int16", x.shape, quantization=Quantization(s))
        for name, s in (("x", scale), ("y", 2.0**-15))
    )
    content = write(Graph([given, result], [op(kind, "x", "y")], "x", "y"))
    ((want,),) = (answer.values() for answer in run_litert(content, [{"x": x}]))
    apart = np.abs(brim.load(content)(x).astype(int) - want)
    exact = scale == 2.0**-12 or (scale == 2.0**-11 and kind == "TANH")
    assert apart.max() <= (0 if exact else 1)


REAL = [e.name for e in zoo.list() if e.name.startswith(("tiny-", "wake-"))]
QUICK = ("tiny-resnet8", "tiny-autoencoder", "wake-alexa")


@pytest.mark.network
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow])
        for name in REAL
        if not name.endswith("-f32")
    ],
)
def test_real_networks_are_litert_bit_for_bit(name: str) -> None:
    content, random = zoo.get(name).read_bytes(), np.random.default_rng(0)
    model, feeds = brim.load(content), []
    for _ in range(10):
        feed = {}
        for port, type in model.inputs.items():
            shape = tuple(n if isinstance(n, int) else 1 for n in type.shape or ())
            if type.dtype.is_float:
                feed[port] = random.normal(0, 2, shape).astype(np.float32)
            else:
                feed[port] = random.integers(*LIMITS["int8"], shape).astype(np.int8)
        feeds.append(feed)
    graph = read(content).main
    ports = [graph.tensors[i].name for i in graph.inputs]
    asked = [dict(zip(ports, feed.values(), strict=True)) for feed in feeds]
    for feed, expected in zip(feeds, run_litert(content, asked, "default")):
        for got, want in zip(model.run(feed).values(), expected.values(), strict=True):
            np.testing.assert_array_equal(got, want)
