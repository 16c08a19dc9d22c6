"""Face, Pose and Hands on real pictures: as LiteRT's networks say, and as geometry demands."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PillowImage = pytest.importorskip("PIL.Image")

from brim import vision, zoo
from brim.pictures import read_picture
from brim.vision import programs
from tests.extra.litert_networks import LiteRTModel

pytestmark = pytest.mark.network

KITS: dict[str, dict[str, Any]] = {"Face": {"iris": True}, "Pose": {"mask": True}, "Hands": {}}
PICTURES = {
    "Face": ("astronaut",),
    "Pose": ("astronaut",),
    "Hands": ("hand-pointing", "hand-hook", "hand-fist"),
}
CASES = [(kit, picture) for kit, pictures in PICTURES.items() for picture in pictures]


@cache
def kit(name: str) -> Any:
    return getattr(vision, name)(threads=1, **KITS[name])


@cache
def picture(name: str) -> np.ndarray:
    return read_picture(zoo.get(name))


@cache
def found(name: str, shown: str) -> Any:
    return kit(name).detect(picture(shown))


@pytest.mark.peer("ai_edge_litert")
@pytest.mark.parametrize(("name", "shown"), CASES)
def test_all_is_where_it_is_with_the_networks_of_litert(
    name: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the peer is compiled: samples and boxes are computed by numpy."""
    mine = found(name, shown)
    monkeypatch.setattr(programs, "load_around", LiteRTModel)
    wanted = getattr(vision, name)(threads=1, **KITS[name]).detect(picture(shown))
    assert len(mine) == len(wanted) == 1
    for got, want in zip(mine, wanted):
        assert got.score == pytest.approx(want.score, abs=1e-3)
        assert np.abs(got.landmarks.pixels - want.landmarks.pixels).max() < 0.1
        if name == "Face":
            assert np.abs(got.iris.pixels - want.iris.pixels).max() < 0.1
        if name == "Pose":
            assert np.abs(got.world - want.world).max() < 2e-3
            assert np.abs(got.mask - want.mask).max() < 0.02
        if name == "Hands":
            assert (got.side, got.gesture) == (want.side, want.gesture)


@pytest.mark.parametrize(("name", "shown"), CASES)
def test_the_same_picture_gives_the_same_result(name: str, shown: str) -> None:
    again = getattr(vision, name)(threads=2, **KITS[name])
    assert again.detect(picture(shown)).to_json() == found(name, shown).to_json()


def transformed(image: np.ndarray, degrees: float, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """A picture turned clockwise about its middle and scaled, and the f64[2,3] that moves points
    along."""
    height, width = image.shape[:2]
    angle, middle = np.radians(degrees), np.array([width / 2, height / 2])
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    size = (round(width * scale), round(height * scale))
    matrix = np.column_stack([turn, np.array(size) / 2 - turn @ middle])
    back = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]
    source = PillowImage.fromarray(image)
    if scale < 1:  # Pillow's transform does not average
        small = source.resize(size, PillowImage.Resampling.BOX)
        source, back = small, back * scale
    how = PillowImage.Transform.AFFINE, back.ravel().tolist(), PillowImage.Resampling.BICUBIC
    return np.asarray(source.transform(size, *how)), matrix


@pytest.mark.parametrize("degrees", [-40, 25, 60])
def test_a_face_that_is_turned_has_its_points_turned(degrees: float) -> None:
    turned, matrix = transformed(picture("astronaut"), degrees, 1.0)
    (before,), faces = found("Face", "astronaut"), kit("Face").detect(turned)
    (after,) = faces
    moved = np.c_[before.landmarks.pixels[:, :2], np.ones(468)] @ matrix.T
    error = np.linalg.norm(moved - after.landmarks.pixels[:, :2], axis=1)
    assert error.mean() < 0.02 * before.box.width
    assert after.head.roll == pytest.approx(before.head.roll - degrees, abs=3)
    assert after.head.yaw == pytest.approx(before.head.yaw, abs=5)
    assert after.expression.smile == pytest.approx(before.expression.smile, abs=0.3)


@pytest.mark.parametrize("scale", [0.25, 0.6, 2.0, 6.0])
def test_faces_of_all_sizes(scale: float) -> None:
    scaled, matrix = transformed(picture("astronaut"), 0, scale)
    (before,), (after,) = found("Face", "astronaut"), kit("Face").detect(scaled)
    moved = np.c_[before.landmarks.pixels[:, :2], np.ones(468)] @ matrix.T
    error = np.linalg.norm(moved - after.landmarks.pixels[:, :2], axis=1)
    assert error.mean() < 0.03 * before.box.width * scale
    assert after.score > 0.99


def test_what_is_known_of_the_astronaut() -> None:
    (face,) = found("Face", "astronaut")
    assert face.score > 0.99
    assert 0.1 < face.box.normalised[1] < face.box.normalised[3] < 0.4
    points = face.key_points
    assert points["right_eye"][0] < points["nose_tip"][0] < points["left_eye"][0]
    assert points["right_eye"][1] < points["nose_tip"][1] < points["mouth"][1]
    assert face.expression.smile > 0.8
    assert face.expression.mouth > 0.1  # her teeth show
    assert min(face.expression.right_eye, face.expression.left_eye) > 0.2
    assert max(abs(face.head.yaw), abs(face.head.pitch), abs(face.head.roll)) < 10
    centres = face.iris.pixels[[0, 5], :2]
    assert (
        np.linalg.norm(centres - [points["right_eye"][:2], points["left_eye"][:2]], axis=1).max()
        < 4
    )


def test_a_mirrored_face_has_right_and_left_exchanged() -> None:
    (plain,) = found("Face", "astronaut")
    (mirrored,) = kit("Face").detect(picture("astronaut")[:, ::-1])
    width = plain.landmarks.picture.width
    error = (
        mirrored.key_points["left_eye"]
        - (width, 0, 0)
        + plain.key_points["right_eye"] * (1, -1, -1)
    )
    assert np.abs(error[:2]).max() < 2
    assert mirrored.head.roll == pytest.approx(-plain.head.roll, abs=2)


def test_each_of_many_faces_is_found_once() -> None:
    """Large and small ones: of a fourteenth to an eighth of the picture."""
    face = PillowImage.fromarray(picture("astronaut")[:300, 80:380])
    canvas = PillowImage.new("RGB", (1280, 720), (90, 110, 130))
    places = [(20, 20, 500), (560, 40, 300), (900, 60, 300), (560, 400, 300), (900, 420, 280)]
    for left, top, side in places:
        canvas.paste(face.resize((side, side), PillowImage.Resampling.LANCZOS), (left, top))
    faces = kit("Face").detect(canvas)
    assert len(faces) == len(places)
    for left, top, side in places:
        middles = [((f.box.left + f.box.right) / 2, (f.box.top + f.box.bottom) / 2) for f in faces]
        inside = [left < x < left + side and top < y < top + side for x, y in middles]
        assert sum(inside) == 1
    assert all(face.score > 0.99 for face in faces)


@pytest.mark.parametrize("name", KITS)
@pytest.mark.parametrize("shown", ["coffee", "page", "grey", "noise", "1x1", "20000x50"])
def test_nothing_is_found_where_nothing_is(name: str, shown: str) -> None:
    made = {
        "grey": np.full((480, 640, 3), 128, np.uint8),
        "noise": np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8),
        "1x1": np.zeros((1, 1, 3), np.uint8),
        "20000x50": np.random.default_rng(1).integers(0, 256, (50, 20_000, 3), np.uint8),
    }
    pixels = made[shown] if shown in made else picture(shown)
    results = kit(name).detect(pixels)
    assert len(results) == 0
    assert results.picture == pixels.shape[1::-1]


def test_a_face_in_a_very_wide_picture() -> None:
    pixels = np.full((512, 20_000, 3), 100, np.uint8)
    pixels[:, 9000:9512] = picture("astronaut")
    assert len(kit("Face").detect(pixels)) == 0  # a 200th of the width: too small for any detector
    (face,) = kit("Face").detect(pixels[:, 8000:10_500])
    (alone,) = found("Face", "astronaut")
    moved = face.landmarks.pixels - (1000, 0, 0)
    assert np.abs(moved - alone.landmarks.pixels)[:, :2].mean() < 2


# ---------------------------------------------------------------- hands


@pytest.mark.parametrize(
    ("shown", "gesture"), [("hand-pointing", "point"), ("hand-fist", "fist"), ("hand-hook", "")]
)
def test_gestures_of_real_hands(shown: str, gesture: str) -> None:
    (hand,) = found("Hands", shown)
    assert hand.gesture == gesture
    assert hand.score > 0.98
    assert hand.world.shape == (21, 3)
    assert 0.05 < np.linalg.norm(hand.world[9] - hand.world[0]) < 0.15  # a palm, in metres


def test_the_finger_that_points() -> None:
    (hand,) = found("Hands", "hand-pointing")
    points = hand.landmarks
    assert points["index_tip"][1] == points.pixels[:, 1].min()
    assert points["wrist"][1] == points.pixels[:, 1].max()
    skin = picture("hand-pointing")[int(points["index_tip"][1]) + 12, int(points["index_tip"][0])]
    assert int(skin[0]) - int(skin[2]) > 20  # redder than the wall


def test_a_mirrored_hand_is_the_other_one() -> None:
    (plain,) = found("Hands", "hand-pointing")
    (mirrored,) = kit("Hands").detect(picture("hand-pointing")[:, ::-1])
    assert {plain.side, mirrored.side} == {"left", "right"}
    assert plain.side == "left"


def test_two_hands() -> None:
    both = np.concatenate([picture("hand-pointing"), picture("hand-fist")[:, ::-1]], axis=1)
    hands = kit("Hands").detect(both)
    assert sorted(hand.gesture for hand in hands) == ["fist", "point"]
    assert {hand.gesture: hand.box.left < 480 for hand in hands} == {"fist": False, "point": True}


# ---------------------------------------------------------------- bodies


def test_bodies_have_their_parts_in_place() -> None:
    (pose,) = found("Pose", "astronaut")
    points = pose.landmarks
    assert points["nose"][1] < points["left_shoulder"][1] < points["left_hip"][1]
    span = np.linalg.norm(pose.world[11] - pose.world[12])
    assert 0.2 < span < 0.5  # metres between the shoulders
    assert pose.presence.shape == (33,)
    chest = (points["left_shoulder"] + points["right_shoulder"])[:2] / 2
    column, row = (int(n) for n in chest)
    assert pose.mask[row + 20, column] > 0.9
    assert pose.mask[:5, :5].max() < 0.1


def test_the_astronaut_stands_before_us() -> None:
    (pose,) = found("Pose", "astronaut")
    points = pose.landmarks
    assert points["right_shoulder"][0] < points["left_shoulder"][0]
    shown = dict(zip(points.skeleton.names, points.visibility))
    assert min(shown["nose"], shown["left_shoulder"], shown["right_shoulder"]) > 0.95
    assert max(shown["left_ankle"], shown["right_ankle"]) < 0.3  # beyond the picture
    (face,) = found("Face", "astronaut")
    assert np.linalg.norm(points["nose"][:2] - face.key_points["nose_tip"][:2]) < 10


# What MediaPipe 0.10.21 says, which was looked at on the picture: (x, y) in pixels.
FOOTBALLER = {
    "nose": (250, 114),
    "left_shoulder": (271, 128),
    "right_shoulder": (202, 137),
    "left_hip": (291, 225),
    "right_hip": (252, 244),
    "left_ankle": (406, 262),
    "right_ankle": (283, 311),
}


def test_the_footballer() -> None:
    """messi5.jpg of OpenCV's samples, where the package of OpenCV's documentation is installed."""
    path = Path("/usr/share/doc/opencv-doc/examples/data/messi5.jpg")
    if not path.is_file():
        pytest.skip("opencv-doc is not installed")
    (pose,) = kit("Pose").detect(path)
    assert pose.score > 0.99
    for name, place in FOOTBALLER.items():
        assert np.linalg.norm(pose.landmarks[name][:2] - place) < 9, name
    assert pose.mask[190, 250] > 0.9  # his shirt
    assert pose.mask[310, 362] < 0.1  # the ball


def test_the_mask_of_a_body_is_that_of_a_person() -> None:
    """Two networks that have nothing to do with each other see one head. (They disagree about the
    helmet.)"""
    (pose,) = found("Pose", "astronaut")
    (person,) = vision.Segment(threads=1).detect(picture("astronaut"))
    a, b = pose.mask[:120] > 0.5, person.mask[:120] > 0.5
    assert (a & b).sum() / (a | b).sum() > 0.95
