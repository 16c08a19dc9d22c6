"""`python -m bench.shapes`: layers of odd extents beside round ones of about the same work.

Efficiency is the odd layer's GFLOP/s over its neighbour's, the median over alternating rounds, each
the sum of a layer's kernels on one thread. It must be at least one half: then no extent is a cliff.
Images are channels-last, as they are inside of a network that brim compiled. Products with padding
count, for both. Run nothing else meanwhile.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from onnx import ModelProto

import brim
from bench.nets import multiply_accumulates
from bench.sketch import Sketch, Tensor

LEAST = 0.5
SECONDS = 0.02  # of one layer in one round
Layer = tuple[str, tuple[int, ...]]  # a key of KINDS, and the extents that its builder takes


def conv(
    kernel: int, stride: int, inputs: int, outputs: int, height: int, width: int
) -> ModelProto:
    """Convolution of one image that keeps its size, divided by the stride, with bias and relu."""
    net = Sketch("conv")
    y = net.conv(_image(net, inputs, height, width), outputs, kernel, stride, bias=True)
    return _finished(net, y, *(-(-n // stride) for n in (height, width)))


def depthwise(kernel: int, stride: int, channels: int, height: int, width: int) -> ModelProto:
    """The same, each channel by itself."""
    net = Sketch("depthwise")
    x = _image(net, channels, height, width)
    y = net.conv(x, channels, kernel, stride, groups=channels, bias=True)
    return _finished(net, y, *(-(-n // stride) for n in (height, width)))


def transposed(kernel: int, inputs: int, outputs: int, height: int, width: int) -> ModelProto:
    """Transposed convolution of stride 2 that doubles the size, less one if `kernel` is odd."""
    net = Sketch("transposed")
    x = _image(net, inputs, height, width)
    y = net.conv_transpose(x, outputs, kernel, 2, (kernel - 1) // 2)
    return _finished(net, y, *(2 * n - kernel % 2 for n in (height, width)))


def dense(rows: int, inputs: int, outputs: int) -> ModelProto:
    """Matrix times weights, and bias: with one row, a vector times a matrix."""
    net = Sketch("dense")
    y = net.gemm(net.input("input", (rows, inputs), 1), outputs)
    return net.finish(y, (rows, outputs))


def matmul(batch: int, rows: int, inner: int, columns: int) -> ModelProto:
    """Products of matrices that are both inputs."""
    net = Sketch("matmul")
    a = net.input("a", (batch, rows, inner), 2)
    b = net.input("b", (batch, inner, columns), 2)
    product = Tensor(net.node("MatMul", a.name, b.name), columns)
    return net.finish(product, (batch, rows, columns))


def _image(net: Sketch, channels: int, height: int, width: int) -> Tensor:
    x = net.input("input", (1, height, width, channels), 3)
    return net.transpose(x, (0, 3, 1, 2))


def _finished(net: Sketch, y: Tensor, height: int, width: int) -> ModelProto:
    y = net.transpose(net.relu(y), (0, 2, 3, 1))
    return net.finish(y, (1, height, width, y.channels))


KINDS: dict[str, Callable[..., ModelProto]] = {
    "conv1x1": partial(conv, 1, 1),
    "conv3x3": partial(conv, 3, 1),
    "conv3x3/2": partial(conv, 3, 2),
    "conv5x5/3": partial(conv, 5, 3),
    "conv7x7/2": partial(conv, 7, 2),
    "depthwise3x3": partial(depthwise, 3, 1),
    "depthwise5x5": partial(depthwise, 5, 1),
    "depthwise3x3/2": partial(depthwise, 3, 2),
    "transposed2x2": partial(transposed, 2),
    "transposed3x3": partial(transposed, 3),
    "transposed4x4": partial(transposed, 4),
    "dense": dense,
    "matmul": matmul,
}

# An odd layer and its neighbour: of the same kind where that is a round one of about as many
# operations and bytes; else of another (what reads every input once is a vector times a matrix).
PAIRS = """
conv3x3 7x13x127x127          conv3x3 8x16x128x128
conv3x3 13x13x61x61           conv3x3 16x16x56x56
conv3x3 31x61x31x31           conv3x3 32x64x32x32
conv3x3 61x127x17x17          conv3x3 64x128x16x16
conv3x3 127x251x7x7           conv3x3 128x256x8x8
conv3x3 17x17x251x7           conv3x3 16x16x256x8
conv3x3 17x17x7x251           conv3x3 16x16x8x256
conv3x3 31x61x1x251           conv3x3 32x64x1x256
conv3x3 251x251x1x1           conv3x3 256x256x1x1
conv3x3 1x32x112x112          conv3x3 4x32x56x56
conv3x3 1x31x113x113          conv3x3 1x32x112x112
conv3x3 32x1x112x112          depthwise3x3 32x112x112
conv3x3 31x1x113x113          depthwise3x3 32x112x112
conv3x3 1x1x251x251           depthwise3x3 4x128x128
conv1x1 7x13x127x127          conv1x1 8x16x128x128
conv1x1 31x61x31x31           conv1x1 32x64x32x32
conv1x1 61x127x17x17          conv1x1 64x128x16x16
conv1x1 127x251x7x7           conv1x1 128x256x8x8
conv1x1 251x127x13x13         conv1x1 256x128x14x14
conv1x1 251x251x1x1           dense 1x256x256
conv1x1 1x251x31x31           conv1x1 1x256x32x32
conv1x1 251x1x31x31           dense 1x1024x256
conv1x1 3x7x127x127           conv1x1 4x8x128x128
conv3x3/2 3x17x127x127        conv3x3/2 4x16x128x128
conv3x3/2 13x31x61x61         conv3x3/2 16x32x64x64
conv3x3/2 127x127x13x13       conv3x3/2 128x128x14x14
conv3x3/2 1x7x251x251         conv3x3/2 4x8x128x128
conv5x5/3 7x31x61x61          conv5x5/3 8x32x64x64
conv7x7/2 3x61x127x127        conv7x7/2 4x64x128x128
depthwise3x3 7x127x127        depthwise3x3 8x128x128
depthwise3x3 31x61x61         depthwise3x3 32x64x64
depthwise3x3 127x31x31        depthwise3x3 128x32x32
depthwise3x3 251x7x7          depthwise3x3 256x8x8
depthwise3x3 61x13x251        depthwise3x3 64x14x256
depthwise3x3 1x251x251        depthwise3x3 4x128x128
depthwise3x3 251x1x1          depthwise3x3 256x1x1
depthwise5x5 7x127x127        depthwise5x5 8x128x128
depthwise5x5 61x31x31         depthwise5x5 64x32x32
depthwise5x5 251x7x7          depthwise5x5 256x8x8
depthwise3x3/2 31x127x127     depthwise3x3/2 32x128x128
depthwise3x3/2 251x13x13      depthwise3x3/2 256x14x14
transposed2x2 13x7x31x31      dense 1024x16x32
transposed2x2 61x31x17x17     dense 256x64x128
transposed2x2 127x1x31x31     dense 1024x128x4
transposed2x2 17x13x1x251     dense 256x16x64
transposed3x3 31x17x31x31     dense 1024x32x144
transposed3x3 61x61x13x13     dense 196x64x576
transposed4x4 31x17x13x13     dense 196x32x256
transposed4x4 61x61x7x7       dense 64x64x1024
dense 127x251x61              dense 128x256x64
dense 251x251x251             dense 256x256x256
dense 61x7x127                dense 64x8x128
dense 251x3x251               dense 256x4x256
dense 251x1x251               dense 256x4x64
dense 31x1021x31              dense 32x1024x32
dense 251x251x3               dense 256x256x4
dense 251x251x1               dense 256x64x4
dense 7x509x1021              dense 8x512x1024
dense 2x509x509               dense 4x512x256
dense 13x13x13                dense 16x16x16
dense 1x251x1021              dense 1x256x1024
dense 1x1021x251              dense 1x1024x256
dense 1x2039x7                dense 1x2048x8
dense 1x7x2039                dense 1x8x2048
dense 1x4093x1                dense 1x1024x4
matmul 1x127x251x61           matmul 1x128x256x64
matmul 7x61x31x61             matmul 8x64x32x64
matmul 13x31x127x13           matmul 12x32x128x16
matmul 3x251x5x251            matmul 4x256x4x256
matmul 127x1x31x61            matmul 128x1x32x64
matmul 1x251x251x1            matmul 1x256x64x4
"""


def layer(kind: str, extents: str) -> Layer:
    return kind, tuple(map(int, extents.split("x")))


def pairs() -> list[tuple[Layer, Layer]]:
    """PAIRS, read."""
    rows = [line.split() for line in PAIRS.strip().splitlines()]
    return [(layer(*row[:2]), layer(*row[2:])) for row in rows]


def build(kind: str, extents: tuple[int, ...]) -> ModelProto:
    return KINDS[kind](*extents)


@dataclass(frozen=True)
class Result:
    """A pair: best sums of kernels in seconds, multiply-accumulates, efficiency (see above)."""

    layers: tuple[Layer, Layer]
    seconds: tuple[float, float]
    operations: tuple[int, int]
    efficiency: float

    def __str__(self) -> str:
        odd, near = (
            f"{kind:15}{'x'.join(map(str, extents)):>14} {s * 1e6:8.1f} us {2e-9 * n / s:6.1f}"
            for (kind, extents), s, n in zip(self.layers, self.seconds, self.operations)
        )
        return f"{odd}   {near}   {self.efficiency:5.2f}{'' if self.efficiency >= LEAST else ' <'}"


def measure(odd: Layer, near: Layer, rounds: int) -> Result:
    """Times both layers in turns."""
    protos = [build(*odd), build(*near)]
    models = [brim.load(proto, threads=1) for proto in protos]
    repeats = [max(3, int(SECONDS / sum(m.time_kernels(rounds=3)))) for m in models]
    times = [
        [sum(m.time_kernels(rounds=n)) for m, n in zip(models, repeats)] for _ in range(rounds)
    ]
    first, second = map(multiply_accumulates, protos)
    ratio = statistics.median(b / a for a, b in times) * first / second
    best = (min(a for a, _ in times), min(b for _, b in times))
    return Result((odd, near), best, (first, second), ratio)


def main() -> int:
    """A line for each pair; exit code 1 if one is below `LEAST`."""
    parser = argparse.ArgumentParser(prog="python -m bench.shapes", description=__doc__)
    parser.add_argument("--only", default="", help="odd layers whose kind begins so")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    low = 0
    print("both: time and GFLOP/s; then the efficiency, '<' if below one half")
    for odd, near in pairs():
        if odd[0].startswith(options.only):
            result = measure(odd, near, options.rounds)
            print(result, flush=True)
            low += result.efficiency < LEAST
    print(f"{low} below one half")
    return 1 if low else 0


if __name__ == "__main__":
    sys.exit(main())
