"""`python -m bench.train_fashion FILE.onnx`: trains the small network of `bench/models` anew.

A convolution, four depthwise-separable blocks (Howard 2017, arXiv:1704.04861) and a classifier,
batch norms and ReLU6 between: 18,826 parameters. Four epochs of Adam on Fashion-MNIST, some minutes
on one core, by `brim.train`. The rate stays high for three of them, which leaves some channels with
ranges far from the others': one scale for all cannot hold them. (With a rate that falls from the
start every way of quantizing keeps the network within 0.2 points, which shows nothing.) What is
written is the file of `bench/models` with other weights: batch norms as such, and an open batch.
The weights that lie there were trained with torch, the same way; their accuracy is known to tests.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from bench.fashion import MODEL, SIDE, load
from brim import train
from brim.graph import Value
from brim.ops import primitive as p
from brim.ops.math import relu
from brim.train import Adam, CrossEntropy, Layers, Network
from brim.train.layers import averaged
from brim.types import F64

EPOCHS, BATCH, RATE, SEED = 4, 128, 1e-2, 1


def network(batch: int, seed: int = SEED) -> Network:
    """x: f32[batch, 1, 28, 28] in 0..1 -> ten logits; untrained. Names are those in the file."""
    layers = Layers(seed)
    x = layers.input("x", (batch, 1, SIDE, SIDE))
    pictures = p.reshape(x, shape=(batch, SIDE, SIDE, 1))
    return layers.network({"logits": logits(layers, pictures)}, "fashion")


def logits(layers: Layers, x: Value) -> Value:
    """The layers, on pictures f32[batch, height, width, 1]: f32[batch, 10]."""
    places = count(0, 3)  # in nn.Sequential, where each layer takes three

    def layer(x: Value, outputs: int, size: int, stride: int = 1, groups: int = 1) -> Value:
        place = next(places)
        x = layers.conv(x, f"{place}", outputs, size=size, stride=stride, groups=groups, bias=False)
        return p.minimum(relu(layers.batch_norm(x, f"{place + 1}")), 6.0)

    y = layer(x, 16, 3)
    for outputs, stride in ((32, 2), (64, 2), (64, 1), (128, 1)):
        channels = y.shape[-1]
        y = layer(layer(y, channels, 3, stride, channels), outputs, 1)
    return layers.dense(averaged(y), f"{next(places) + 2}", 10)


@dataclass(frozen=True)
class LateFall:
    """A schedule: `rate`, but in the last `fall` of so many steps a straight line down to 0."""

    rate: float
    steps: int
    fall: int

    def at(self, step: Value) -> Value:
        left = p.div(p.cast(p.sub(self.steps, step), to=F64), float(self.fall))
        return p.mul(p.minimum(left, 1.0), self.rate)


def main() -> int:
    """Trains, prints what each epoch gave, with the accuracy on the test pictures, and writes."""
    parser = argparse.ArgumentParser(prog="python -m bench.train_fashion", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    data, test = (dict(zip(("x", "labels"), load(part))) for part in ("train", "test"))  # type: ignore[arg-type]
    each = len(data["x"]) // BATCH
    start = time.monotonic()
    net, history = train.fit(
        network(BATCH), data, CrossEntropy(), Adam(LateFall(RATE, EPOCHS * each, each)), EPOCHS,
        validation=test, seed=SEED, threads=options.threads,
        after_epoch=lambda epoch: print(epoch, flush=True),
    )  # fmt: skip
    last = history.epochs[-1].validation
    assert last is not None
    minutes = (time.monotonic() - start) / 60
    print(f"{last.metrics['accuracy']:.2%} in {minutes:.1f} minutes, compilation included")
    train.export(net, MODEL, options.file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
