"""`python -m bench.train_small`: what training recovers of what compression loses.

The network of `bench/models` after one epoch on Fashion-MNIST with its numbers rounded as integers
need it (from the scales of the smallest and largest value, per tensor and per channel), judged by
the 10,000 test pictures: in floats, as integers before the epoch, and after. Training itself makes
the network better, too: the epoch in floats shows how much of it that is. Needs the data set, see
`bench.fashion`.
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
from brim.compress import Int8
from brim.compress.data import read_data
from brim.compress.metric import Judge
from brim.model import Model
from brim.train.compressed import made_of

BATCH, RATE, CALIBRATION = 100, 3e-3, 512
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

    def tuned(self, network: train.Network, epochs: int = 1) -> tuple[train.Network, float]:
        """A network after some epochs of Adam, its rate falling to 0; and the seconds they took."""
        start, steps = time.perf_counter(), epochs * (len(self.x) // BATCH)
        data = {"x": self.x, "labels": self.labels}
        optimiser = train.Adam(train.Cosine(RATE, steps))
        found, _ = train.fit(network, data, train.CrossEntropy(), optimiser, epochs)
        return found, time.perf_counter() - start


def rows(pictures: Pictures) -> Iterator[Row]:
    """A row in floats, and one for each kind of scales."""
    before = pictures.accuracy(pictures.floats)
    net, seconds = pictures.tuned(pictures.network)
    yield Row("float", before, pictures.accuracy(net.model()), seconds)
    for name, per_channel in SCALES.items():
        recipe = Int8("min_max", per_channel=per_channel, equalise=False, correct_bias=False)
        net = train.quantized(pictures.network, pictures.x[:CALIBRATION], recipe)
        before = pictures.accuracy(brim.compile(made_of(net).graph))
        net, seconds = pictures.tuned(net)
        after = pictures.accuracy(brim.compile(made_of(net).graph))
        yield Row(f"int8, {name}", before, after, seconds)


def main() -> int:
    """Prints a line for each row."""
    parser = argparse.ArgumentParser(prog="python -m bench.train_small", description=__doc__)
    parser.parse_args()
    for row in rows(Pictures()):
        print(
            f"{row.name:20} {row.before:7.2%} -> {row.after:7.2%}  {row.seconds:5.0f} s", flush=True
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
