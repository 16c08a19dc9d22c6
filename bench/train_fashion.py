"""`python -m bench.train_fashion [FILE.onnx]`: trains the small network of `bench/models` anew.

A convolution, four depthwise-separable blocks (Howard 2017, arXiv:1704.04861) and a classifier,
batch norms and ReLU6 between: 18,826 parameters. Four epochs of Adam on Fashion-MNIST, some minutes
on one core. The rate stays high for three of them, which leaves some channels with ranges far from
the others': one scale for all cannot hold them. (With a rate that falls from the start every way of
quantizing keeps the network within 0.2 points, which shows nothing.) Batch norms are exported as
such: taking them apart is the engine's work.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

import torch
from torch import nn

from bench.fashion import MODEL, load

EPOCHS, BATCH, RATE, SEED = 4, 128, 1e-2, 1


def network() -> nn.Sequential:
    """f32[n, 1, 28, 28] in 0..1 -> ten logits."""

    def layer(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list:
        conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        return [conv, nn.BatchNorm2d(outputs), nn.ReLU6()]

    layers = layer(1, 16, 3)
    for inputs, outputs, stride in ((16, 32, 2), (32, 64, 2), (64, 64, 1), (64, 128, 1)):
        layers += layer(inputs, inputs, 3, stride, groups=inputs) + layer(inputs, outputs, 1)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))


def main() -> int:
    """Trains, prints the accuracy on the test pictures after each epoch, and stores the network."""
    parser = argparse.ArgumentParser(prog="python -m bench.train_fashion", description=__doc__)
    parser.add_argument("file", type=Path, nargs="?", default=MODEL)
    options = parser.parse_args()
    torch.manual_seed(SEED)
    pictures, labels = map(torch.from_numpy, load("train"))
    net = network()
    optimiser = torch.optim.Adam(net.parameters(), RATE)
    steps = len(pictures) // BATCH
    for epoch in range(EPOCHS):
        net.train()
        order = torch.randperm(len(pictures))[: steps * BATCH]
        for step, chosen in enumerate(order.split(BATCH)):
            falls = epoch == EPOCHS - 1
            optimiser.param_groups[0]["lr"] = RATE * (1 - step / steps * falls)
            loss = nn.functional.cross_entropy(net(pictures[chosen]), labels[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        print(f"epoch {epoch + 1}: {accuracy(net):.2%}", flush=True)
    store(net, options.file)
    return 0


@torch.no_grad()
def accuracy(net: nn.Sequential) -> float:
    """The part of the test pictures whose class the network names."""
    pictures, labels = map(torch.from_numpy, load("test"))
    named = torch.cat([net.eval()(part).argmax(1) for part in pictures.split(1000)])
    return (named == labels).float().mean().item()


def store(net: nn.Sequential, file: Path) -> None:
    """Writes ONNX with batch norms and an open batch."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        # The newer exporter folds batch norms into convolutions, which this network is there to do.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net.eval(),
            (torch.zeros(1, 1, 28, 28),),
            file,
            input_names=["x"],
            output_names=["logits"],
            dynamic_axes={"x": {0: "n"}, "logits": {0: "n"}},
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
            dynamo=False,
            opset_version=17,
        )


if __name__ == "__main__":
    sys.exit(main())
