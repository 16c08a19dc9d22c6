"""Networks that are written in Python, beside the same ones of torch: names, layouts, numbers."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn

from bench.torch_fashion import network as torch_fashion
from brim.graph import Graph, const
from brim.model import compile
from brim.ops.dropout import KEY
from brim.passes.training import training_form
from brim.train import Network
from tests.layer_networks import fashion, resnet18


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        if stride > 1 or inputs != outputs:
            side = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(side, nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + (self.downsample(x) if hasattr(self, "downsample") else x))


class ResNet18(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inputs = 64
        for i, outputs in enumerate((64, 128, 256, 512)):
            pair = Block(inputs, outputs, 1 if i == 0 else 2), Block(outputs, outputs, 1)
            setattr(self, f"layer{i + 1}", nn.Sequential(*pair))
            inputs = outputs
        self.fc = nn.Linear(512, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        for i in range(4):
            x = getattr(self, f"layer{i + 1}")(x)
        return self.fc(x.mean((2, 3)))


def lively(module: nn.Module) -> nn.Module:
    """With norms and biases that are not as they begin."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.ndim == 1:
                low = 0.5 if "var" in name or "weight" in name else -0.5
                tensor.uniform_(low, low + 1)
    return module


CASES = {
    "fashion": (lambda: fashion(4, 12), torch_fashion, (4, 1, 12, 12)),
    "resnet18": (lambda: resnet18(2, 64, 7), lambda: ResNet18(7), (2, 3, 64, 64)),
}


@pytest.mark.parametrize("name", CASES)
def test_networks_equal_torchs_in_evaluation_and_in_training(name: str) -> None:
    make, torch_make, shape = CASES[name]
    module = lively(torch_make())
    state = {n: t.numpy().copy() for n, t in module.state_dict().items() if t.is_floating_point()}
    net: Network = make()
    assert net.weights.keys() == state.keys()
    net = net.with_file_weights(state)
    for weight, array in net.file_weights.items():
        np.testing.assert_array_equal(array, state[weight])
    x = torch.randn(shape)
    feed = np.ascontiguousarray(x.numpy().transpose(0, 2, 3, 1))

    with torch.no_grad():
        wanted = module.eval()(x).numpy()
        near = 1e-5 * np.abs(wanted).max()
        np.testing.assert_allclose(net.model(exact=True)(feed), wanted, 0, near)
        wanted = module.train()(x).numpy()
    key = const(np.zeros(KEY.dims, np.uint32))
    graph, running = training_form(net.graph, key)
    model = compile(Graph(graph.inputs, {**graph.outputs, **running}, name), exact=True)
    found = model.run({"x": feed, **net.weights})
    np.testing.assert_allclose(found["y"], wanted, 0, 1e-4 * np.abs(wanted).max())
    after = module.state_dict()
    assert running.keys() == net.statistics == {n for n in state if "running" in n}
    for statistic in running:
        np.testing.assert_allclose(found[statistic], after[statistic].numpy(), 1e-4, 1e-5)
