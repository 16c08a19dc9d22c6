"""`python -m bench.train_small`: what training recovers of what compression loses.

The network of `bench/models` on Fashion-MNIST, judged by the 10,000 test pictures before and after

- one epoch with its numbers rounded as integers need it, from the scales of the smallest and
  largest value, per tensor and per channel. (Training by itself may make a network better: the
  epoch in floats shows how much.)
- four epochs in which 80 % of its weights become zeros; before: at once, by `brim.quantize`.

And a smaller network from scratch, of few pictures: by their labels alone, and with what the large
one says of them. Needs the data set, see `bench.fashion`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import brim
from bench.fashion import MODEL, SIDE, load
from brim import train
from brim.compress import Int8, Prune, Recipe
from brim.compress.data import read_data
from brim.compress.metric import Judge
from brim.model import Model
from brim.ops import primitive as p
from brim.ops.math import relu
from brim.train.compressed import made_of
from brim.train.layers import averaged

BATCH, CALIBRATION = 100, 512
FEW, EPOCHS = 3000, 20  # pictures and epochs of the small network
SCALES = {"per tensor": False, "per channel": True}


@dataclass(frozen=True)
class Row:
    """before, after: top-1 accuracies. seconds: of the training."""

    name: str
    before: float
    after: float
    seconds: float


class Pictures:
    """Fashion-MNIST, and the judge of models of `BATCH` pictures."""

    def __init__(self) -> None:
        self.x, self.labels = load("train")
        shown, labels = load("test")
        self.network = train.network(MODEL, shapes={"x": (BATCH, 1, SIDE, SIDE)})
        types = {name: value.type for name, value in self.network.data.items()}
        self.floats = self.network.model()
        self.judge = Judge(self.floats, read_data({"x": shown, "labels": labels}, types), None)

    def accuracy(self, model: Model) -> float:
        return self.judge(model).after

    def tuned(
        self,
        network: train.Network,
        epochs: int = 1,
        rate: float = 3e-3,
        *,
        loss: train.Loss | None = None,
        samples: int | None = None,
    ) -> tuple[train.Network, float]:
        """A network after some epochs of Adam, its rate falling to 0; and the seconds they took."""
        data = {"x": self.x[:samples], "labels": self.labels[:samples]}
        start, steps = time.perf_counter(), epochs * (len(data["x"]) // BATCH)
        optimiser = train.Adam(train.Cosine(rate, steps))
        found, _ = train.fit(network, data, loss or train.CrossEntropy(), optimiser, epochs)
        return found, time.perf_counter() - start


def rows(pictures: Pictures) -> Iterator[Row]:
    """What is trained, and what comes out."""
    before = pictures.accuracy(pictures.floats)
    net, seconds = pictures.tuned(pictures.network)
    yield Row("float", before, pictures.accuracy(net.model()), seconds)
    yield from integers(pictures)
    yield zeros(pictures)
    yield taught(pictures)


def integers(pictures: Pictures) -> Iterator[Row]:
    """A row for each kind of scales."""
    for name, per_channel in SCALES.items():
        recipe = Int8("min_max", per_channel=per_channel, equalise=False, correct_bias=False)
        net = train.quantized(pictures.network, pictures.x[:CALIBRATION], recipe)
        before = pictures.accuracy(brim.compile(made_of(net).graph))
        net, seconds = pictures.tuned(net)
        after = pictures.accuracy(brim.compile(made_of(net).graph))
        yield Row(f"int8, {name}", before, after, seconds)


def zeros(pictures: Pictures) -> Row:
    """80 % of the weights, in four epochs; the masks grow in the first two and a half."""
    recipe, epochs = Prune(sparsity=0.8), 4
    grown = int(0.6 * epochs * len(pictures.x) / BATCH)
    shapes = {name: value.shape for name, value in pictures.network.data.items()}
    data, once = pictures.x[:CALIBRATION], Recipe((recipe,))
    at_once, _ = brim.quantize(MODEL, data, once, max_loss=1, shapes=shapes, force=True)
    net, seconds = pictures.tuned(train.pruned(pictures.network, recipe, grown), epochs, 1e-2)
    before, after = pictures.accuracy(at_once), pictures.accuracy(net.model())
    return Row(f"{recipe.sparsity:.0%} of weights zero", before, after, seconds)


def taught(pictures: Pictures) -> Row:
    """A small network by itself (before) and with a teacher (after)."""
    student = small()
    alone, _ = pictures.tuned(student, EPOCHS, 1e-2, samples=FEW)
    loss = train.Distillation(temperature=2.0, share=0.9)
    both = train.distilling(student, pictures.network)
    net, seconds = pictures.tuned(both, EPOCHS, 1e-2, samples=FEW, loss=loss)
    before, after = pictures.accuracy(alone.model()), student.with_weights(net.weights).model()
    return Row(f"distilled, {FEW} pictures", before, pictures.accuracy(after), seconds)


def small() -> train.Network:
    """Two convolutions and a classifier: 19,850 weights."""
    layers = train.Layers(seed=0)
    y = p.reshape(layers.input("x", (BATCH, 1, SIDE, SIDE)), shape=(BATCH, SIDE, SIDE, 1))
    for name, outputs in (("first", 32), ("second", 64)):
        y = relu(layers.batch_norm(layers.conv(y, name, outputs, size=3, stride=2), f"{name}.norm"))
    return layers.network(layers.dense(averaged(y), "last", 10))


def main() -> int:
    """Prints a line for each row."""
    parser = argparse.ArgumentParser(prog="python -m bench.train_small", description=__doc__)
    parser.parse_args()
    for row in rows(Pictures()):
        print(
            f"{row.name:25} {row.before:7.2%} -> {row.after:7.2%}  {row.seconds:5.0f} s", flush=True
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
