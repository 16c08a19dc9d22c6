"""Networks that `bench.train` trains, as modules of torch, and the same as brim imports them.

Their weights are random; what the bench measures does not depend on them.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from bench.torch_fashion import network
from brim import train
from brim.train import Network

Shape = tuple[int, ...]


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut (He 2016, arXiv:1512.03385)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.a = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.b = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm_a, self.norm_b = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
        self.short: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            project = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.short = nn.Sequential(project, nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.norm_a(self.a(x)))
        return torch.relu(self.norm_b(self.b(y)) + self.short(x))


def resnet18() -> tuple[nn.Module, Shape]:
    """ResNet-18 of ten classes, for pictures of 64x64."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)]
    layers += [nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for outputs, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [Block(inputs, outputs, stride), Block(outputs, outputs, 1)]
        inputs = outputs
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10)]
    return nn.Sequential(*layers), (3, 64, 64)


class Layer(nn.Module):
    """An encoder's layer that norms first; attention is torch's own kernel."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_a, self.norm_b = nn.LayerNorm(width), nn.LayerNorm(width)
        self.all, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        parts = self.all(self.norm_a(x)).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(query, key, value)
        x = x + self.out(seen.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(F.gelu(self.up(self.norm_b(x))))


class Encoder(nn.Module):
    """Layers over a sequence, and a classifier of its mean."""

    def __init__(self, layers: int, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(Layer(width, heads, hidden) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.layers(x)).mean(1))


def encoder() -> tuple[nn.Module, Shape]:
    """Six layers of 4 heads, 256 wide, 1024 within, over sequences of 128."""
    return Encoder(6, 256, 4, 1024), (128, 256)


def fashion() -> tuple[nn.Module, Shape]:
    """The small network of `bench.train_fashion`: a convolution and depthwise-separable blocks."""
    return network(), (1, 28, 28)


NETS = {"fashion": (fashion, (128,)), "resnet18": (resnet18, (16, 32)), "encoder": (encoder, (16,))}


def imported(net: nn.Module, batch: int, shape: Shape) -> Network:
    """A module by way of ONNX: with its batch norms, and the names of its weights."""
    found = train.network(exported(net, batch, shape))
    others = found.weights.keys() - net.state_dict().keys()  # constants of the exporter's formulas
    return found.freeze(*others)


def exported(net: nn.Module, batch: int, shape: Shape) -> bytes:
    """The ONNX file of a module, to be trained.

    The exporter stores equal weights once, so all are moved a little first: in the module, too.
    """
    with torch.no_grad():
        for weight in (*net.parameters(), *net.buffers()):
            if weight.is_floating_point():
                weight += torch.rand_like(weight) * 1e-3
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net.eval(), (torch.zeros(batch, *shape),), file, input_names=["x"],
            training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False, dynamo=False,
            opset_version=17,
        )  # fmt: skip
    return file.getvalue()


def torch_step(
    net: nn.Module, updates: torch.optim.Optimizer, x: torch.Tensor, labels: torch.Tensor
) -> Callable[[], float]:
    """Torch's step on one batch, again and again: it gives the cross entropy."""

    def step() -> float:
        updates.zero_grad()
        loss = F.cross_entropy(net(x), labels)
        loss.backward()
        updates.step()
        return loss.item()

    return step
