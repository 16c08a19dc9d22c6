"""`python -m bench.transfer`: networks that learned something else are taught Fashion-MNIST.

frozen   EfficientNet-Lite0, trained on ImageNet by Google: all of it stays, a new last layer learns
         from what it makes of the pictures, each of which it sees once
all      MLTK's network for rock, paper and scissors, a TFLite file of 73,000 weights: all of them
         and a new last layer learn, end to end; the result is an artifact again, which is loaded

Prints epochs, the accuracy on the test pictures, and the minutes, compilation included. Pictures
are enlarged by repeating their pixels. One thread, if not told otherwise.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

import brim
from bench.fashion import load
from brim import train, zoo
from brim.frontends import torch_weights
from brim.train import AdamW, Cosine, CrossEntropy, Examples, Network
from brim.train.data import in_order
from brim.types import F32, Type
from brim.vision.efficientnet import efficientnet_lite0

EPOCHS = {"frozen": 20, "all": 3}
BATCH = {"frozen": 32, "all": 128}
RATE = {"frozen": 3e-3, "all": 2e-3}


def main() -> int:
    """Trains one network or both, and prints what they know then."""
    parser = argparse.ArgumentParser(prog="python -m bench.transfer", description=__doc__)
    parser.add_argument("way", choices=["frozen", "all"], nargs="*", default=[])
    parser.add_argument("--samples", type=int, default=60_000, help="training pictures")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    for way in options.way or ["frozen", "all"]:
        start = time.monotonic()
        net = {"frozen": frozen, "all": whole}[way](BATCH[way])
        data, test = (pictures(net, part) for part in ("train", "test"))
        data = replace(data, numbers=data.numbers[: options.samples])
        rate = Cosine(RATE[way], EPOCHS[way] * (len(data) // BATCH[way]))
        print(f"{way}: {net.graph.name}, {len(net.trained)} weights learn", flush=True)
        net, _ = train.fit(
            net, data, CrossEntropy(), AdamW(rate), EPOCHS[way], validation=test,
            threads=options.threads, after_epoch=lambda epoch: print(epoch, flush=True),
        )  # fmt: skip
        minutes = (time.monotonic() - start) / 60
        print(f"{way}: {of_artifact(net, test):.2%} in {minutes:.1f} minutes", flush=True)
    return 0


def frozen(batch: int) -> Network:
    """EfficientNet-Lite0 for ten classes, of which only the last layer learns."""
    weights = torch_weights.read(zoo.get("efficientnet-lite0")).weights
    net = train.network(efficientnet_lite0(weights, batch))
    return net.freeze("*").replace(10)


def whole(batch: int) -> Network:
    """The network for rock, paper and scissors, for ten classes, all of which learns."""
    return train.network(zoo.get("tiny-rock-paper-scissors-f32"), batch=batch).replace(10)


def pictures(net: Network, part: str) -> Examples:
    """The pictures as a network takes them: grey or RGB, channels last, enlarged as they are read
    (all of them at 224x224 would take 36 GB)."""
    small, labels = load(part)  # type: ignore[arg-type]
    ((name, value),) = net.data.items()
    batch, side, _, channels = value.shape
    times = side // small.shape[2]
    found = train.read_examples(
        {name: small, "labels": labels}, {name: Type((batch, *small.shape[1:]), F32)}
    )

    def read(numbers: np.ndarray) -> dict[str, np.ndarray]:
        grey = found.read(numbers)[name][:, 0, :, :, None].repeat(times, 1).repeat(times, 2)
        scaled = (grey * 255 - 127) / 128 if channels == 3 else grey
        return {name: scaled.repeat(channels, 3).astype(np.float32)}

    return replace(found, types={name: value.type}, read=read)


def of_artifact(net: Network, test: Examples) -> float:
    """The accuracy of what is loaded again after it was saved."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tuned.brim"
        net.model().save(path)
        model, right = brim.load(path), 0
        for batch in in_order(test):
            assert batch.labels is not None
            named = next(iter(model.run(batch.feeds).values())).argmax(1)
            right += int((named[: batch.count] == batch.labels).sum())
    return right / len(test)


if __name__ == "__main__":
    sys.exit(main())
