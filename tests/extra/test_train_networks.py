"""Twenty steps of training beside torch: networks exported with ONNX, the same batches.

torch computes in f64 here: along twenty steps its own f32 losses leave these by more than ours do,
since steps make differences of rounding larger.
"""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn

import brim
from brim import train
from brim.train import Network, Optimiser

pytestmark = [pytest.mark.peer("torch"), pytest.mark.filterwarnings("ignore")]
STEPS, BATCH, CLASSES = 20, 16, 5


def cnn() -> tuple[nn.Module, tuple[int, ...]]:
    """Convolutions with batch norms, one depthwise, a residual sum and a classifier."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.deep = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
            self.norm = nn.BatchNorm2d(8)
            self.wide = nn.Conv2d(8, 8, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.wide(torch.relu(self.norm(self.deep(x))))

    layers = [nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU6()]
    layers += [Block(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 9, CLASSES)]
    return nn.Sequential(*layers), (3, 12, 12)


def transformer() -> tuple[nn.Module, tuple[int, ...]]:
    """Two layers of attention over twelve words of sixteen numbers."""

    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.TransformerEncoderLayer(16, 4, 32, 0.0, "gelu", batch_first=True)
            self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.head = nn.Linear(16, CLASSES)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.layers(x).mean(1))

    return Words(), (12, 16)


def lstm() -> tuple[nn.Module, tuple[int, ...]]:
    """A recurrent layer over twelve words, another back over its results, and a classifier."""

    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.LSTM(6, 10, 2, batch_first=True, bidirectional=True)
            self.head = nn.Linear(20, CLASSES)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.layers(x)[0].sum(1))

    return Words(), (12, 6)


NETWORKS = {"cnn": cnn, "lstm": lstm, "transformer": transformer}
OPTIMISERS: dict[str, tuple[Optimiser, Callable]] = {
    "momentum": (
        train.SGD(0.05, momentum=0.9, decay=1e-3),
        lambda w: torch.optim.SGD(w, 0.05, momentum=0.9, weight_decay=1e-3),
    ),
    "adam": (train.Adam(5e-3), lambda w: torch.optim.Adam(w, 5e-3)),
    "adamw": (train.AdamW(5e-3, decay=0.1), lambda w: torch.optim.AdamW(w, 5e-3, weight_decay=0.1)),
}


def exported(net: nn.Module, shape: tuple[int, ...]) -> Network:
    """The network as brim imports it: with its batch norms, and the names of its weights."""
    file = io.BytesIO()
    torch.backends.mha.set_fastpath_enabled(False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net.eval(), (torch.zeros(BATCH, *shape),), file, input_names=["x"],
            training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False, dynamo=False,
            opset_version=17,
        )  # fmt: skip
    found = train.network(file.getvalue())
    assert found.trained == dict(net.named_parameters()).keys()
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("way", "clip"), [*((way, None) for way in OPTIMISERS), ("momentum", 0.3)])
@pytest.mark.parametrize("name", NETWORKS)
def test_losses_and_weights_are_torchs(name: str, way: str, clip: float | None) -> None:
    torch.manual_seed(0)
    net, shape = NETWORKS[name]()
    optimiser, peer = OPTIMISERS[way]
    mine = exported(net, shape)
    theirs = copy.deepcopy(net).double().train()
    other = peer(theirs.parameters())
    step = train.training_step(mine, train.CrossEntropy(), optimiser, clip=clip)
    model = brim.compile(step, threads=1)
    rng = np.random.default_rng(0)
    kinds = rng.normal(size=(CLASSES, *shape))
    losses = []
    for _ in range(STEPS):
        labels = rng.integers(0, CLASSES, BATCH)
        x = (kinds[labels] + rng.normal(size=(BATCH, *shape))).astype(np.float32)
        logits = theirs(torch.tensor(x, dtype=torch.float64))
        loss = nn.functional.cross_entropy(logits, torch.tensor(labels))
        other.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(theirs.parameters(), clip or 1e9)
        other.step()
        found = model.run({"x": x, "target": labels})
        losses.append(loss.item())
        assert float(found["loss"]) == pytest.approx(losses[-1], rel=1e-5)
        assert float(found["norm"]) == pytest.approx(norm.item(), rel=1e-4)
    assert np.mean(losses[-5:]) < np.mean(losses[:5])

    def flat(arrays: dict[str, np.ndarray]) -> np.ndarray:
        return np.concatenate([arrays[key].ravel() for key in sorted(arrays)])

    state = model.state
    learned = mine.with_weights({n: state[n] for n in mine.weights if n in state}).file_weights
    before, after = (
        {k: v.numpy() for k, v in module.state_dict().items() if v.is_floating_point()}
        for module in (net, theirs)
    )
    off = flat({key: learned[key] for key in after}) - flat(after)
    # Adam follows the signs of slopes that are 0 but for rounding: those of the keys' biases
    assert np.linalg.norm(off) < 5e-3 * np.linalg.norm(flat(after) - flat(before))
