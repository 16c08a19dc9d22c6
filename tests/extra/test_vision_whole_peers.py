"""Kits that see whole pictures find the same with the networks of their peers: LiteRT, PyTorch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

pytest.importorskip("PIL")

from brim import vision, zoo
from brim.vision import whole
from brim.vision.whole import resized
from tests.extra.litert_networks import LiteRTModel

pytestmark = pytest.mark.network


@pytest.mark.peer("ai_edge_litert")
@pytest.mark.parametrize("name", ["Objects", "Segment"])
def test_the_same_is_found_with_the_networks_of_litert(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the peer is compiled: scaling and boxes are computed by numpy."""
    pictures = [zoo.get(each) for each in ("astronaut", "chelsea", "coffee")]
    mine = [getattr(vision, name)(threads=1).detect(each) for each in pictures]
    monkeypatch.setattr(whole, "load_around", LiteRTModel)
    peer = getattr(vision, name)(threads=1)
    for picture, got in zip(pictures, mine):
        want = peer.detect(picture)
        assert [each.label for each in got] == [each.label for each in want]
        for a, b in zip(got, want):
            assert a.score == pytest.approx(b.score, abs=1e-3)
            np.testing.assert_allclose(a.box.to_numpy(), b.box.to_numpy(), atol=0.5)
            if b.mask is not None:
                assert np.abs(a.mask - b.mask).max() < 0.02
                assert np.abs(a.mask - b.mask).mean() < 1e-4


STAGES = ((1, 1), (2, 2), (2, 2), (3, 2), (3, 1), (4, 2), (1, 1))  # blocks, first step


@pytest.mark.peer("torch")
@pytest.mark.parametrize("picture", ["chelsea", "coffee", "camera"])
def test_efficientnet_computes_what_pytorch_does(picture: str) -> None:
    """The network written again with PyTorch's functions, on weights that PyTorch itself read."""
    import torch
    from torch.nn import functional as f

    weights: Mapping[str, torch.Tensor] = torch.load(
        zoo.get("efficientnet-lite0"), weights_only=True
    )

    def unit(
        x: torch.Tensor, conv: str, norm: str, step: int = 1, each: bool = False
    ) -> torch.Tensor:
        w = weights[f"{conv}.weight"]
        size = w.shape[2]
        total = max((-(-x.shape[2] // step) - 1) * step + size - x.shape[2], 0)
        x = f.pad(x, (total // 2, total - total // 2) * 2)
        x = f.conv2d(x, w, stride=step, groups=w.shape[0] if each else 1)
        parts = ("running_mean", "running_var", "weight", "bias")
        return f.batch_norm(x, *(weights[f"{norm}.{part}"] for part in parts), eps=1e-3)

    classify = vision.Classify(threads=1)
    found = classify.detect(zoo.get(picture))
    box = found[0].box
    from brim.pictures import read_picture

    place = (box.left, box.top, box.right, box.bottom)
    seen = resized(read_picture(zoo.get(picture)), 224, 224, place)
    x = torch.tensor((seen.astype(np.float32) - 127) / 128).permute(2, 0, 1)[None]
    with torch.no_grad():
        x = f.relu6(unit(x, "_conv_stem", "_bn0", 2))
        number = 0
        for blocks, first in STAGES:
            for block in range(blocks):
                name, step, y = f"_blocks.{number}.", first if block == 0 else 1, x
                if f"{name}_expand_conv.weight" in weights:
                    y = f.relu6(unit(y, f"{name}_expand_conv", f"{name}_bn0"))
                y = f.relu6(unit(y, f"{name}_depthwise_conv", f"{name}_bn1", step, True))
                y = unit(y, f"{name}_project_conv", f"{name}_bn2")
                x = x + y if x.shape == y.shape else y
                number += 1
        features = f.relu6(unit(x, "_conv_head", "_bn1")).mean((2, 3))
        logits = f.linear(features, weights["_fc.weight"], weights["_fc.bias"])
    want = torch.softmax(logits, 1)[0].numpy()
    for kind in found:
        assert kind.score == pytest.approx(want[classify.labels.index(kind.label)], abs=1e-5)
    assert found[0].score == pytest.approx(want.max(), abs=1e-5)
    embedding = features[0].numpy()
    np.testing.assert_allclose(
        classify.embed(zoo.get(picture)), embedding / np.linalg.norm(embedding), atol=1e-5
    )
