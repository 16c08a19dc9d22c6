"""What the kits find in real pictures stays what it was, and is what people see in them.

`goldens/vision/KIT-PICTURE.json` holds what was found and looked at once. After a change that is
meant, look at the pictures that `brim vision` draws, then

    BRIM_GOLDENS=write python -m pytest tests/extra/test_vision_goldens.py

writes them anew. Compared are all numbers: pixels to half of one, scores to a hundredth.
"""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PIL")

from brim import vision, zoo
from brim.errors import InputError
from brim.vision import Kit, Results

pytestmark = pytest.mark.network
FOLDER = Path(__file__).parent / "goldens" / "vision"
CASES = [
    ("face", "astronaut"),
    ("pose", "astronaut"),
    ("hands", "hand-pointing"),
    ("hands", "hand-hook"),
    ("hands", "hand-fist"),
    ("objects", "chelsea"),
    ("objects", "coffee"),
    ("objects", "astronaut"),
    ("segment", "astronaut"),
    ("segment", "camera"),
    ("classify", "chelsea"),
    ("classify", "coffee"),
    ("classify", "camera"),
    ("text", "page"),
]
PIXELS, SHARES = 0.5, 0.01  # how far positions, and everything else, may be from the golden
PLACES = {"box", "corners", "pixels"}  # keys below which numbers are pixels
COMMON = 0.995  # of two masks: intersection over union


@cache
def kit(name: str) -> Kit:
    return getattr(vision, name.title())(threads=1)


@cache
def found(name: str, picture: str) -> Results:
    return kit(name).detect(zoo.get(picture))


def differences(want: Any, got: Any, key: str, limit: float = SHARES) -> list[str]:
    """Where two documents differ by more than they may."""
    limit = PIXELS if key in PLACES else limit
    if type(want) is not type(got) and not {type(want), type(got)} <= {int, float}:
        return [f"{key}: {type(want).__name__}, now {type(got).__name__}"]
    if isinstance(want, dict) and key == "mask":
        a, b = (np.cumsum(mask["counts"]) for mask in (want, got))
        shared = overlap(a, b)
        return [] if shared >= COMMON else [f"mask: {shared:.4f} of it is common"]
    if isinstance(want, dict):
        if want.keys() != got.keys():
            return [f"{key}: {[*want]}, now {[*got]}"]
        return [each for k in want for each in differences(want[k], got[k], k, limit)]
    if isinstance(want, list):
        if len(want) != len(got):
            return [f"{key}: {len(want)}, now {len(got)}"]
        return [each for a, b in zip(want, got) for each in differences(a, b, "", limit)]
    same = abs(want - got) <= limit if isinstance(want, float) else want == got
    return [] if same else [f"{key}: {want}, now {got}"]


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two masks, given where their runs end (the first is false)."""

    def flat(ends: np.ndarray) -> np.ndarray:
        return np.repeat(np.arange(len(ends)) % 2 == 1, np.diff(ends, prepend=0))

    p, q = flat(a), flat(b)
    return float((p & q).sum() / max((p | q).sum(), 1))


@pytest.mark.parametrize(("name", "picture"), CASES, ids=map("-".join, CASES))
def test_kits_find_what_they_found(name: str, picture: str) -> None:
    golden = FOLDER / f"{name}-{picture}.json"
    got = json.loads(found(name, picture).to_json())
    if os.environ.get("BRIM_GOLDENS") == "write":
        rows = ",\n".join(json.dumps(each) for each in got["found"])
        size = json.dumps(got["picture"])
        golden.write_text(f'{{"picture": {size}, "found": [\n{rows}\n]}}\n', encoding="utf-8")
    assert differences(json.loads(golden.read_text(encoding="utf-8")), got, "") == []


def test_differences_are_seen() -> None:
    """The comparison itself: what it must notice."""
    want = json.loads(found("segment", "astronaut").to_json())
    assert differences(want, want, "") == []

    def changed(**parts: Any) -> dict[str, Any]:
        return want | {"found": [want["found"][0] | parts]}

    box = want["found"][0]["box"]
    assert differences(want, changed(box=box | {"left": box["left"] + 1}), "")
    assert not differences(want, changed(box=box | {"left": box["left"] + 0.3}), "")
    assert differences(want, changed(score=want["found"][0]["score"] - 0.02), "")
    assert differences(want, changed(label="cat"), "")
    assert differences(want, want | {"found": []}, "")
    mask = want["found"][0]["mask"]
    moved = [mask["counts"][0] + 4, *mask["counts"][1:-1], mask["counts"][-1] - 4]
    assert differences(want, changed(mask=mask | {"counts": moved}), "")


def test_things_are_those_that_people_see() -> None:
    (cat,) = found("objects", "chelsea")
    assert cat.label == "Cat" and cat.score > 0.8
    (cup,) = found("objects", "coffee")
    assert cup.label == "Coffee cup"
    assert cup.box.left < 290 < cup.box.right and cup.box.top < 170 < cup.box.bottom
    assert found("objects", "astronaut")[0].label == "Person"


def test_a_cat_is_a_cat_and_alike() -> None:
    """The likeliest kinds of a cat are cats; its picture is like itself mirrored."""
    names = [each.label for each in found("classify", "chelsea")[:3]]
    assert all("cat" in name for name in names)
    assert found("classify", "coffee")[0].label == "espresso"
    assert found("classify", "camera")[0].label == "tripod"
    classify = kit("classify")
    assert isinstance(classify, vision.Classify)
    from PIL import Image, ImageOps

    with Image.open(zoo.get("chelsea")) as photo:
        cat, mirrored = classify.embed(photo), classify.embed(ImageOps.mirror(photo))
    cup = classify.embed(zoo.get("coffee"))
    assert cat.shape == (1280,) and cat.dtype == np.float32
    assert np.linalg.norm(cat) == pytest.approx(1, abs=1e-5)
    assert cat @ mirrored > 0.8 > 0.4 > cat @ cup


def test_the_mask_is_the_person() -> None:
    """At places that people see as the astronaut, or as what is behind her."""
    (person,) = found("segment", "astronaut")
    mask = person.mask
    assert mask is not None and mask.shape == (512, 512) and mask.dtype == np.float32
    for x, y in ((225, 110), (180, 60), (150, 350), (200, 300)):  # face, hair, suit, suit
        assert mask[y, x] > 0.9
    for x, y in ((20, 20), (60, 120), (400, 60), (480, 200), (330, 150)):
        assert mask[y, x] < 0.1
    assert ((mask > 0.1) & (mask < 0.9)).mean() < 0.1, "few pixels are in doubt"
    cut = found("segment", "astronaut").cut_out(zoo.get("astronaut"))
    assert cut.mode == "RGBA" and cut.size == (512, 512)
    np.testing.assert_array_equal(np.asarray(cut)[:, :, 3], np.rint(mask * 255))
    with pytest.raises(InputError, match="another picture"):
        found("segment", "astronaut").cut_out(zoo.get("chelsea"))


def test_the_page_is_read() -> None:
    page = found("text", "page")
    assert isinstance(page, vision.Lines)
    assert page.text.startswith("Region-based segmentation\nLet us first determine markers of the")
    assert "histogram of grey values:" in page.text
