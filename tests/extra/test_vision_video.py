"""Faces, bodies and hands from frame to frame: nothing is lost, and still points do not tremble."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2")

from brim import zoo
from brim.pictures import read_picture
from brim.vision import Face, Hands, Pose
from brim.vision.detector import Detector
from brim.vision.smoothing import Strength

pytestmark = pytest.mark.network

FPS = 30
RAW = Strength(cutoff=1e9, gain=0.0)  # a filter that lets everything through


@cache
def frames() -> list[np.ndarray]:
    """The 120 frames of a man who talks in a car, and moves his head."""
    film = cv2.VideoCapture(str(zoo.get("talking-face")))
    found = []
    while (frame := film.read())[0]:
        found.append(np.ascontiguousarray(frame[1][:, :, ::-1]))
    return found


def track(kit: Any) -> np.ndarray:
    """f32[frames, points, 2] of the one thing in the film."""
    found = [kit.detect(frame, n / FPS) for n, frame in enumerate(frames())]
    assert [len(each) for each in found] == [1] * len(frames())
    return np.stack([each[0].landmarks.pixels[:, :2] for each in found])


@cache
def raw_track() -> np.ndarray:
    kit = Face(mode="video")
    kit.STRENGTH = RAW
    return track(kit)


def still_parts(points: np.ndarray) -> np.ndarray:
    """bool[frames - 2, points]: where a point is in the slower half, its speed being that of its
    mean over five frames."""
    means = sum(points[n : len(points) - 4 + n] for n in range(5)) / 5
    speed = np.linalg.norm(np.gradient(means, axis=0), axis=2)
    speed = np.pad(speed, ((1, 1), (0, 0)), mode="edge")
    return speed < np.median(speed)


def jitter(points: np.ndarray, parts: np.ndarray) -> float:
    """Pixels: root mean square of how far points are from the middle of where they were a frame
    earlier and are a frame later, which is what remains of noise, and nothing of even movement."""
    away = points[1:-1] - (points[:-2] + points[2:]) / 2
    return float(np.sqrt((np.linalg.norm(away, axis=2)[parts] ** 2).mean()))


def test_jitter_is_noise_and_no_movement() -> None:
    """The measure itself."""
    line = np.arange(50, dtype=float)[:, None, None] * (2.0, 1.0) + np.zeros((50, 3, 1))
    everything = np.ones((48, 3), bool)
    assert jitter(line, everything) < 1e-9
    noise = np.random.default_rng(0).normal(size=(5000, 3, 2))
    wanted = np.sqrt(2 * 1.5)  # two coordinates; 1 + 1/4 + 1/4 of the variance
    assert jitter(noise, np.ones((4998, 3), bool)) == pytest.approx(wanted, rel=0.03)


def test_still_landmarks_tremble_at_most_seven_tenths() -> None:
    raw = raw_track()
    parts = still_parts(raw)
    smooth = track(Face(mode="video"))
    assert jitter(smooth, parts) <= 0.7 * jitter(raw, parts)
    behind = np.linalg.norm(smooth - raw, axis=2)
    assert behind.mean() < 0.75  # pixels, of a face 48 pixels wide
    assert behind.max() < 4


def test_there_is_a_face_in_every_frame_and_it_is_sure() -> None:
    kit = Face(mode="video")
    for frame in frames():
        (face,) = kit.detect(frame)
        assert face.score > 0.9


def test_the_detector_runs_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    detect = Detector.__call__
    monkeypatch.setattr(Detector, "__call__", lambda self, x: calls.append(self) or detect(self, x))
    track(Face(mode="video"))
    assert len(set(map(id, calls))) == 2
    assert len(calls) <= 2 * (4 * len(frames()) // FPS + 2)  # four times a second, two detectors


def test_tracking_agrees_with_pictures_that_stand_alone() -> None:
    alone = Face()
    for n in range(0, 120, 12):
        (face,) = alone.detect(frames()[n])
        away = np.linalg.norm(raw_track()[n] - face.landmarks.pixels[:, :2], axis=1)
        assert away.mean() < 0.04 * face.box.width


def test_a_film_gives_the_same_result_each_time() -> None:
    first, second = track(Face(mode="video")), track(Face(mode="video", threads=2))
    np.testing.assert_array_equal(first, second)


def moving(picture: np.ndarray, count: int) -> list[np.ndarray]:
    """A camera that pans over a picture, and trembles."""
    rng = np.random.default_rng(0)
    height, width = picture.shape[:2]
    found = []
    for n in range(count):
        right, down = rng.normal((n, 0.5 * n), 0.5)
        matrix = np.array([[1, 0, -right], [0, 1, -down]])
        found.append(cv2.warpAffine(picture, matrix, (width, height), borderMode=1))
    return found


@pytest.mark.parametrize(("kit", "shown"), [(Hands, "hand-pointing"), (Pose, "astronaut")])
def test_hands_and_bodies_are_followed(kit: Any, shown: str) -> None:
    film = moving(read_picture(zoo.get(shown)), 20)
    smooth, alone = kit(mode="video"), kit()
    tracks = []
    for n, frame in enumerate(film):
        (thing,) = smooth.detect(frame, n / FPS)
        (same,) = alone.detect(frame)
        assert thing.score > 0.8
        tracks.append((thing.landmarks.pixels[:13, :2], same.landmarks.pixels[:13, :2]))
    mine, others = (np.stack(each) for each in zip(*tracks))
    everything = np.ones((18, 13), bool)
    assert jitter(mine, everything) <= 0.7 * jitter(others, everything)
    assert np.linalg.norm(mine - others, axis=2).mean() < 0.03 * np.ptp(others[0])
