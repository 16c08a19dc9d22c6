"""Gradients of networks that torch exported, by their weights and inputs, equal torch's own.

Recurrent layers, attention, choices and loops, from ONNX files; corners where a slope is chosen.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest

import brim
from brim.graph import Graph, evaluate, placeholder
from brim.ops import primitive as p
from brim.ops.registry import apply
from brim.passes.autodiff import gradient
from brim.train import network
from brim.types import type_of

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from torch import Tensor, nn
from torch.nn import functional as F

pytestmark = pytest.mark.filterwarnings("ignore")


class First(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0]


class Attention(nn.Module):
    """A transformer's block."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.qkv, self.out = nn.LayerNorm(8), nn.Linear(8, 24), nn.Linear(8, 8)
        self.rest = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))

    def forward(self, x: Tensor) -> Tensor:
        batch, time, width = x.shape
        parts = self.qkv(self.norm(x)).reshape(batch, time, 3, 2, width // 2)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v)
        x = x + self.out(y.transpose(1, 2).reshape(batch, time, width))
        return x + self.rest(x)


class Choice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        if bool(x.sum() > 0):
            y = torch.tanh(self.a(x)) * x
        else:
            y = self.b(x).sigmoid()
        return y


class Repeated(nn.Module):
    """A loop of known length, and one that ends when its state is small."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = x
        for _ in range(4):
            h = torch.tanh(self.a(h)) + x
        while bool(h.abs().sum() > 3.0):
            h = self.b(h) * 0.5
        return h


class Largest(nn.Module):
    """The largest elements along two axes; of the second the places are used, too."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        y = self.dense(x)
        values, places = y.topk(3, 0)
        return y.topk(2, 1).values.sum() + (values * places).sum(0)


def pooled() -> nn.Module:
    """Windows that overlap, dilate and leave rests; convolutions of both directions."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.MaxPool2d(3, 2, 1), nn.Hardswish(),
        nn.ConvTranspose2d(8, 6, 3, stride=2, padding=1, groups=2), nn.PReLU(6),
        nn.Conv2d(6, 6, 3, dilation=2, groups=6), nn.AvgPool2d(3, 2, 1), nn.ELU(0.7),
        nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(6, 4, 1, stride=2), nn.Flatten(),
    )  # fmt: skip


NETWORKS: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "lstm": lambda: (First(nn.LSTM(5, 7, 2, bidirectional=True)), torch.randn(6, 3, 5)),
    "gru": lambda: (First(nn.GRU(5, 7, 2)), torch.randn(6, 3, 5)),
    "rnn": lambda: (First(nn.RNN(5, 7, batch_first=True)), torch.randn(3, 6, 5)),
    "attention": lambda: (Attention(), torch.randn(2, 5, 8)),
    "if": lambda: (torch.jit.script(Choice()), torch.rand(2, 4)),
    "else": lambda: (torch.jit.script(Choice()), -torch.rand(2, 4)),
    "loop": lambda: (torch.jit.script(Repeated()), torch.randn(2, 4)),
    "topk": lambda: (Largest(), torch.randn(5, 6)),
    "windows": lambda: (pooled(), torch.randn(2, 3, 33, 30)),
}


def exported(net: nn.Module, x: Tensor) -> bytes:
    file = io.BytesIO()
    torch.onnx.export(
        net, (x,), file, input_names=["x"], output_names=["y"], dynamo=False, opset_version=17,
        training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False,
    )  # fmt: skip
    return file.getvalue()


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_equal_torchs(name: str) -> None:
    torch.manual_seed(0)
    net, x = NETWORKS[name]()
    with torch.no_grad():  # equal weights would become one in the file
        for weight in net.parameters():
            weight.add_(torch.randn_like(weight) * 0.01)
    ours = network(exported(net, x))
    (out,) = ours.graph.outputs.values()
    factors = np.random.default_rng(0).standard_normal(out.shape).astype(np.float32)
    loss = p.reduce(p.mul(out, factors), op="add", axes=tuple(range(len(out.shape))))
    wrt = {name: ours.graph.inputs[name] for name in ("x", *sorted(ours.trained))}
    slopes = dict(zip(wrt, gradient(loss, list(wrt.values()))))
    found = brim.compile(Graph(ours.graph.inputs, slopes)).run({"x": x.numpy(), **ours.weights})

    x = x.clone().requires_grad_()
    (net(x) * torch.tensor(factors)).sum().backward()
    wanted = {"x": x, **dict(net.named_parameters())}
    assert set(found) == set(wanted)
    for key, tensor in wanted.items():
        slope = found[key] if key == "x" else ours.sources[key].outward(found[key])
        want = np.zeros(tensor.shape) if tensor.grad is None else tensor.grad.numpy()
        scale = max(1.0, float(np.abs(want).max()))
        np.testing.assert_allclose(slope / scale, want / scale, atol=2e-5, err_msg=key)


CORNERS: dict[str, tuple[str, dict, Callable[[Tensor], Tensor], list[float]]] = {
    "relu": ("relu", {}, F.relu, [0, 1, -1]),
    "absolute": ("absolute", {}, torch.abs, [0, 1, -1]),
    "leaky relu": ("leaky_relu", {"alpha": 0.1}, lambda x: F.leaky_relu(x, 0.1), [0, 1, -1]),
    "elu": ("elu", {"alpha": 0.3}, lambda x: F.elu(x, 0.3), [0, 1, -1]),
    "celu": ("celu", {"alpha": 0.3}, lambda x: F.celu(x, 0.3), [0, 1, -1]),
    "selu": ("selu", {"alpha": 1.6732632, "gamma": 1.050701}, F.selu, [0, 1, -1]),
    "hard sigmoid": ("hard_sigmoid", {"alpha": 1 / 6, "beta": 0.5}, F.hardsigmoid, [-4, -3, 0, 3]),
    "softplus": ("softplus", {}, F.softplus, [-90, 0, 3, 19]),
    "thresholded": ("thresholded_relu", {"alpha": 1.0}, lambda x: F.threshold(x, 1, 0), [0, 1, 2]),
    "soft shrink": ("shrink", {"threshold": 0.5, "bias": 0.5}, F.softshrink, [-0.5, 0, 0.5, 1]),
    "largest": ("reduce", {"op": "max", "axes": (0,)}, lambda x: x.amax(0, True), [2, 1, 2, 2]),
    "product": ("reduce", {"op": "mul", "axes": (0,)}, lambda x: x.prod(), [2, 0, 3]),
    "running product": (
        "cumulate", {"op": "mul", "axis": 0, "exclusive": False, "reverse": False},
        lambda x: x.cumprod(0), [2, 0, 3, 0, 5],
    ),
    "norm": ("l2_norm", {"axes": (0,)}, lambda x: x.norm(), [0, 0]),
}  # fmt: skip


@pytest.mark.parametrize("name", CORNERS)
def test_slopes_at_corners_are_torchs(name: str) -> None:
    op, attrs, function, numbers = CORNERS[name]
    x = np.array(numbers, np.float32)
    value = placeholder(type_of(x))
    (slope,) = gradient(apply(op, value, **attrs), [value])
    found = evaluate(Graph({"x": value}, {"y": slope}), {"x": x})["y"]
    peer = torch.tensor(x, requires_grad=True)
    function(peer).sum().backward()
    np.testing.assert_allclose(found, peer.grad.numpy(), atol=1e-6)


PAIRS: dict[str, tuple[Callable, Callable]] = {
    "maximum": (p.maximum, torch.maximum),
    "minimum": (p.minimum, torch.minimum),
    "power": (p.power, torch.pow),
}


@pytest.mark.parametrize("name", PAIRS)
def test_slopes_of_pairs_are_torchs(name: str) -> None:
    ours, theirs = PAIRS[name]
    arrays = [np.float32([2, 2, 3, 0, 0, 5]), np.float32([2, 3, 2, 2, 0, 0])]
    a, b = (placeholder(type_of(x)) for x in arrays)
    slopes = dict(zip("ab", gradient(ours(a, b), [a, b])))
    found = evaluate(Graph({"a": a, "b": b}, slopes), dict(zip("ab", arrays)))
    peers = [torch.tensor(x, requires_grad=True) for x in arrays]
    theirs(*peers).sum().backward()
    for slope, peer in zip(found.values(), peers):
        np.testing.assert_allclose(slope, peer.grad.numpy(), atol=1e-6)


def test_slopes_at_bounds_are_those_of_torchs_clamp() -> None:
    x = np.float32([-2, -1, 0, 1, 2])
    value = placeholder(type_of(x))
    limited = p.minimum(p.maximum(value, -1.0), 1.0)
    graph = Graph({"x": value}, {"y": gradient(limited, [value])[0]})
    peer = torch.tensor(x, requires_grad=True)
    peer.clamp(-1, 1).sum().backward()
    np.testing.assert_array_equal(evaluate(graph, {"x": x})["y"], peer.grad.numpy())
