"""The network of `train_fashion.py` in torch, whose steps and numbers ours are compared with."""

from __future__ import annotations

from torch import nn


def network() -> nn.Sequential:
    """f32[n, 1, 28, 28] in 0..1 -> ten logits."""

    def layer(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list:
        conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        return [conv, nn.BatchNorm2d(outputs), nn.ReLU6()]

    layers = layer(1, 16, 3)
    for inputs, outputs, stride in ((16, 32, 2), (32, 64, 2), (64, 64, 1), (64, 128, 1)):
        layers += layer(inputs, inputs, 3, stride, groups=inputs) + layer(inputs, outputs, 1)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))
