"""Kits that see whole pictures, without their networks: anchors, boxes, masks, what is seen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

pytest.importorskip("PIL")

from brim.errors import InputError, ModelError
from brim.graph import Graph, evaluate, placeholder
from brim.ops import primitive as p
from brim.types import F32, Type
from brim.vision import Box, Found, Person, Size
from brim.vision.classify import _middle
from brim.vision.efficientnet import SIDE, STAGES, efficientnet_lite0
from brim.vision.objects import Objects, _decoded, anchors, distinct, shared
from brim.vision.segment import refined
from brim.vision.whole import Whole, resized

random = np.random.default_rng(0)


# ---------------------------------------------------------------- what a network sees


def test_bytes_are_scaled_within_the_program() -> None:
    x = placeholder(Type((1, 2, 3, 3), F32))
    network = Graph({"x": x}, {"y": p.mul(x, 2.0)}, "twice")
    graph = Whole(2, 3, -1.0, 1.0).join(network, lambda said: {"found": said["y"]})
    pixels = np.arange(18, dtype=np.uint8).reshape(2, 3, 3) * 15
    got = evaluate(graph, {"pixels": pixels})["found"]
    np.testing.assert_allclose(got[0], 2 * (pixels / 127.5 - 1), atol=1e-6)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
def test_resizing_keeps_a_plain_picture(h: int, w: int, rows: int, columns: int) -> None:
    plain = np.full((h, w, 3), (10, 200, 77), np.uint8)
    np.testing.assert_array_equal(
        resized(plain, columns, rows)[:], np.broadcast_to(plain[0, 0], (rows, columns, 3))
    )


def test_making_smaller_averages() -> None:
    """A fine chequered picture becomes grey: every pixel has its share, none is left out."""
    y, x = np.mgrid[:512, :512]
    chequered = np.repeat(((x + y) % 2 * 255).astype(np.uint8)[:, :, None], 3, axis=2)
    assert np.abs(resized(chequered, 100, 100).astype(int) - 127).max() <= 8


@pytest.mark.parametrize(("height", "width"), [(300, 451), (1, 1), (7, 20_000)])
def test_classes_come_from_the_middle(height: int, width: int) -> None:
    box = _middle(np.zeros((height, width, 3), np.uint8))
    assert box.width == pytest.approx(box.height) == pytest.approx(0.875 * min(height, width))
    assert (box.left + box.right, box.top + box.bottom) == pytest.approx((width, height))


# ---------------------------------------------------------------- things


def test_anchors_cover_the_picture() -> None:
    """1917 of six sizes; each grid's middles are evenly spread, and sizes grow."""
    found = anchors()
    assert found.shape == (1917, 4) and found.dtype == np.float32
    first, second = found[: 19 * 19 * 3], found[19 * 19 * 3 : 19 * 19 * 3 + 600]
    assert sorted(set(np.round(first[:, 0] * 38).astype(int))) == list(range(1, 38, 2))
    np.testing.assert_allclose(
        first[:3, 2:], [(0.1, 0.1), (0.2828, 0.1414), (0.1414, 0.2828)], atol=1e-4
    )
    assert first[:, 2:].max() < second[:, 2:].max() < found[-6:, 2:].max()
    np.testing.assert_allclose(found[-6], (0.5, 0.5, 0.95, 0.95))
    areas = (second[:6, 2] * second[:6, 3]) ** 0.5
    np.testing.assert_allclose(areas, [0.35] * 5 + [(0.35 * 0.5) ** 0.5], rtol=1e-6)


def test_decoding_is_that_of_ssd() -> None:
    said = {"boxes": (1, 1917, 4), "classes": (1, 1917, 24)}
    inputs = {name: placeholder(Type(shape, F32)) for name, shape in said.items()}
    feeds = {name: random.normal(0, 1, shape).astype(np.float32) for name, shape in said.items()}
    got = evaluate(Graph(inputs, _decoded(inputs)), feeds)
    x, y, w, h = anchors().T.astype(np.float64)
    ty, tx, th, tw = feeds["boxes"][0].T.astype(np.float64)
    cx, cy, bw, bh = tx / 10 * w + x, ty / 10 * h + y, np.exp(tw / 5) * w, np.exp(th / 5) * h
    want = np.stack([cx - bw / 2, cy - bh / 2, cx + bw / 2, cy + bh / 2], 1)
    np.testing.assert_allclose(got["boxes"], want, atol=1e-6)
    logits = feeds["classes"][0, :, 1:].astype(np.float64)
    np.testing.assert_allclose(got["scores"], 1 / (1 + np.exp(-logits)), atol=1e-6)


BOXES = npst.arrays(np.float32, (12, 4), elements=st.floats(0, 100, width=32))


@given(BOXES, npst.arrays(np.float32, 12, elements=st.floats(0, 1, width=32)))
def test_what_is_kept_is_apart_and_explains_the_rest(
    corners: np.ndarray, scores: np.ndarray
) -> None:
    boxes = np.concatenate([corners[:, :2], corners[:, :2] + corners[:, 2:]], axis=1)
    kept = distinct(boxes, scores, np.arange(12))
    assert list(scores[kept]) == sorted(scores[kept], reverse=True)
    for n in range(12):
        covered = [k for k in kept if n != k and shared(boxes[k], boxes[n : n + 1])[0] >= 0.5]
        if n in kept:
            assert not [k for k in covered if k in kept]
        else:
            assert max(scores[covered]) >= scores[n]


def test_overlap_of_boxes() -> None:
    box = np.array([0, 0, 10, 10], np.float32)
    others = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [10, 10, 20, 20], [2, 2, 4, 4]], np.float32)
    np.testing.assert_allclose(shared(box, others), [1, 1 / 3, 0, 0.04], atol=1e-6)


def test_a_score_must_be_a_share() -> None:
    with pytest.raises(InputError, match="a score of 7"):
        Objects(score=7)
    with pytest.raises(InputError, match="no mode"):
        Objects(mode="films")  # type: ignore[arg-type]


# ---------------------------------------------------------------- masks


@given(st.floats(0, 1), st.integers(1, 60), st.integers(1, 60))
def test_a_plain_mask_stays_plain(value: float, height: int, width: int) -> None:
    mask = np.full((16, 16), value, np.float32)
    picture = random.integers(0, 256, (height, width, 3), np.uint8)
    fine = refined(mask, resized(picture, 16, 16), picture)
    assert fine.shape == (height, width) and fine.dtype == np.float32
    np.testing.assert_allclose(fine, value, atol=1e-4)


def test_edges_of_a_mask_follow_the_picture() -> None:
    """A mask that is blurred over four cells is drawn to the picture's own edge."""
    picture = np.zeros((400, 400, 3), np.uint8)
    picture[:, 210:] = 230
    mask = np.clip((np.arange(64) - 31) / 4, 0, 1).astype(np.float32)[None].repeat(64, 0)
    fine = refined(mask, resized(picture, 64, 64), picture)
    plain = np.interp((np.arange(400) + 0.5) / 6.25 - 0.5, np.arange(64), mask[0])
    truth = np.arange(400) >= 210
    assert np.abs(fine[200] - truth).mean() < 0.7 * np.abs(plain - truth).mean()
    assert fine[200, 213] - fine[200, 206] > 0.5 > plain[213] - plain[206]


def test_people_are_cut_out() -> None:
    pixels = random.integers(0, 256, (4, 6, 3), np.uint8)
    mask = np.zeros((4, 6), np.float32)
    mask[1:3, 2:4] = 1
    size = Size(6, 4)
    person = Found(label="person", score=1.0, box=Box(2, 1, 4, 3, size), mask=mask)
    cut = np.asarray(Person(size, (person,), ("person",)).cut_out(pixels))
    np.testing.assert_array_equal(cut[:, :, :3], pixels)
    np.testing.assert_array_equal(cut[:, :, 3], mask * 255)
    assert not np.asarray(Person(size, (), ("person",)).cut_out(pixels))[:, :, 3].any()
    with pytest.raises(InputError, match="another picture"):
        Person(size, (person,), ("person",)).cut_out(pixels[:, :5])


# ---------------------------------------------------------------- EfficientNet


def weights() -> dict[str, np.ndarray]:
    """Random ones of the right shapes, named as in the PyTorch port."""
    found: dict[str, np.ndarray] = {}

    def unit(conv: str, norm: str, *shape: int) -> None:
        scale = np.sqrt(2 / np.prod(shape[1:]))
        found[f"{conv}.weight"] = random.normal(0, scale, shape).astype(np.float32)
        for part, value in (("weight", 1), ("bias", 0), ("running_mean", 0), ("running_var", 1)):
            found[f"{norm}.{part}"] = np.full(shape[0], value, np.float32)

    unit("_conv_stem", "_bn0", 32, 3, 3, 3)
    channels, number = 32, 0
    for stage, after in zip(STAGES, (16, 24, 40, 80, 112, 192, 320)):
        for _ in range(stage.blocks):
            name, wide = f"_blocks.{number}.", channels * stage.expand
            if stage.expand > 1:
                unit(f"{name}_expand_conv", f"{name}_bn0", wide, channels, 1, 1)
            unit(f"{name}_depthwise_conv", f"{name}_bn1", wide, 1, stage.kernel, stage.kernel)
            unit(f"{name}_project_conv", f"{name}_bn2", after, wide, 1, 1)
            channels, number = after, number + 1
    unit("_conv_head", "_bn1", 1280, 320, 1, 1)
    found["_fc.weight"] = random.normal(0, 0.03, (1000, 1280)).astype(np.float32)
    found["_fc.bias"] = np.zeros(1000, np.float32)
    return found


def test_efficientnet_has_its_published_size() -> None:
    """4.65 million weights (the paper's table of Lite0); every named weight is used."""
    named = weights()
    count = sum(w.size for name, w in named.items() if "running" not in name)
    assert count == 4_652_008
    graph = efficientnet_lite0(named)
    assert {name: value.shape for name, value in graph.outputs.items()} == {
        "logits": (1, 1000), "embedding": (1, 1280),
    }  # fmt: skip
    assert graph.inputs["x"].shape == (1, SIDE, SIDE, 3)
    constants = {id(value.data.base if value.data.base is not None else value.data)
                 for value in graph.values() if value.data is not None}  # fmt: skip
    assert len(constants) >= len(named)


@pytest.mark.parametrize(
    ("name", "weight"),
    [
        ("_conv_head.weight", None),
        ("_bn1.bias", np.zeros(7, np.float32)),
        ("_fc.weight", np.zeros((1000, 1280), np.float64)),
    ],
)
def test_other_weights_are_refused(name: str, weight: np.ndarray | None) -> None:
    named = weights()
    del named[name]
    if weight is not None:
        named[name] = weight
    with pytest.raises(ModelError, match=name.replace(".", r"\.")):
        efficientnet_lite0(named)
