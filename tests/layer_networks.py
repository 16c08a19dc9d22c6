"""Networks written with `brim.train.Layers`, with PyTorch's names for their weights."""

from __future__ import annotations

from bench.train_fashion import logits
from brim.graph import Value
from brim.ops import primitive as p
from brim.ops.math import relu
from brim.ops.nn import max_pool
from brim.train import Layers, Network
from brim.train.layers import averaged


def fashion(batch: int, size: int = 28, seed: int = 0) -> Network:
    """The network of `bench.train_fashion`: f32[batch, size, size, 1] -> f32[batch, 10]."""
    layers = Layers(seed)
    x = layers.input("x", (batch, size, size, 1))
    return layers.network(logits(layers, x), "fashion")


def resnet18(batch: int, size: int = 224, classes: int = 1000, seed: int = 0) -> Network:
    """ResNet-18 (He 2016, arXiv:1512.03385) of f32[batch, size, size, 3], named as in torchvision;
    11,689,512 parameters with 1000 classes."""
    layers = Layers(seed)

    def normed(x: Value, name: str, outputs: int, kernel: int, stride: int, norm: str) -> Value:
        x = layers.conv(x, name, outputs, size=kernel, stride=stride, bias=False)
        return layers.batch_norm(x, norm)

    def block(x: Value, name: str, outputs: int, stride: int) -> Value:
        y = relu(normed(x, f"{name}.conv1", outputs, 3, stride, f"{name}.bn1"))
        y = normed(y, f"{name}.conv2", outputs, 3, 1, f"{name}.bn2")
        if stride > 1 or x.shape[-1] != outputs:
            down = f"{name}.downsample"
            x = normed(x, f"{down}.0", outputs, 1, stride, f"{down}.1")
        return relu(p.add(y, x))

    x = layers.input("x", (batch, size, size, 3))
    y = relu(normed(x, "conv1", 64, 7, 2, "bn1"))
    y = max_pool(y, size=(3, 3), stride=(2, 2), dilation=(1, 1), low=(1, 1), high=(1, 1))
    for i, outputs in enumerate((64, 128, 256, 512)):
        y = block(y, f"layer{i + 1}.0", outputs, 1 if i == 0 else 2)
        y = block(y, f"layer{i + 1}.1", outputs, 1)
    return layers.network(layers.dense(averaged(y), "fc", classes), "resnet18")
