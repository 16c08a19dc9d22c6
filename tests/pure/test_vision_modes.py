"""Kits of simulated networks: tracking, searching, and streams that drop what they cannot see."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from brim.errors import InputError
from brim.vision.kit import MODES
from brim.vision.regions import Region, around
from brim.vision.results import Box, Found, Results, Size
from brim.vision.smoothing import Strength
from brim.vision.tracking import Sight, TrackingKit

SIDE = 20


class Squares(TrackingKit[Results[Found]]):
    """Finds bright squares: the detector by looking everywhere, the landmarks in their region."""

    STRENGTH = Strength(0.5, 10.0)

    def __init__(self, **how: Any) -> None:
        super().__init__(**how)
        self.searched, self.looked, self.blind = 0, 0, False
        self.traits: list[float] = []

    def _search(self, pixels: np.ndarray) -> list[Region]:
        self.searched += 1
        rows, columns = np.nonzero(pixels[::SIDE, ::SIDE, 0])
        middles = zip(columns * SIDE + SIDE / 2, rows * SIDE + SIDE / 2)
        return [Region(float(x), float(y), SIDE, SIDE) for x, y in middles]

    def _look(self, pixels: np.ndarray, region: Region) -> Sight | None:
        self.looked += 1
        left, top = max(int(region.x) - 2 * SIDE, 0), max(int(region.y) - 2 * SIDE, 0)
        part = pixels[top : int(region.y) + 2 * SIDE, left : int(region.x) + 2 * SIDE, 0]
        y, x = np.nonzero(part)
        if self.blind or len(x) == 0:
            return None
        ends = [[x.min() + left, y.min() + top, 0], [x.max() + left + 1, y.max() + top + 1, 0]]
        points = np.array(ends, np.float32)
        traits = np.array([float(pixels[0, 0, 1])])  # the detector does not look there
        return Sight(part.max() / 255, points, around(points, 0.0), traits=traits)

    def _result(self, pixels: np.ndarray, sights: Sequence[Sight]) -> Results[Found]:
        size = Size(pixels.shape[1], pixels.shape[0])
        boxes = [Box(*map(float, s.points[:, :2].ravel()), size) for s in sights]
        self.traits = [float(sight.traits[0]) for sight in sights]
        found = (Found(label="square", score=s.score, box=b) for s, b in zip(sights, boxes))
        return Results(size, tuple(found), ("square",))


def frame(*squares: tuple[int, int]) -> np.ndarray:
    pixels = np.zeros((400, 400, 3), np.uint8)
    for left, top in squares:
        pixels[top : top + SIDE, left : left + SIDE] = 200
    return pixels


def test_pictures_stand_alone() -> None:
    kit = Squares()
    for n in range(3):
        assert len(kit.detect(frame((40, 40), (200, 40))[:, : 400 - n])) == 2
    assert kit.searched == 3
    assert len(kit.detect(frame())) == 0


def test_in_a_video_the_last_frame_says_where_to_look() -> None:
    kit = Squares(mode="video")
    boxes = [kit.detect(frame((40 + 2 * n, 40)))[0].box.left for n in range(9)]
    assert kit.searched == 2  # the first frame, and a quarter of a second later
    assert boxes == sorted(boxes)
    assert 40 < boxes[-1] <= 56


def test_what_is_lost_is_searched_at_once() -> None:
    kit = Squares(mode="video")
    kit.detect(frame((40, 40)))
    assert len(kit.detect(frame((300, 300)))) == 1
    assert kit.searched == 2
    assert len(kit.detect(frame())) == 0
    assert len(kit.detect(frame())) == 0
    assert kit.searched == 4
    assert len(kit.detect(frame((100, 100)))) == 1


def test_one_of_two_that_is_lost_is_searched_at_once() -> None:
    kit = Squares(mode="video")
    assert len(kit.detect(frame((40, 40), (200, 40)))) == 2
    assert len(kit.detect(frame((40, 40), (300, 300)))) == 2
    assert kit.searched == 2


def test_what_is_new_is_found_soon() -> None:
    kit = Squares(mode="video")
    counts = [len(kit.detect(frame((40, 40)), n / 30)) for n in range(4)]
    counts += [len(kit.detect(frame((40, 40), (200, 200)), n / 30)) for n in range(4, 12)]
    assert counts[:4] == [1] * 4
    assert counts[-1] == 2
    assert counts == sorted(counts)


def test_two_tracks_that_meet_become_one() -> None:
    kit = Squares(mode="video")
    assert len(kit.detect(frame((100, 100), (180, 100)))) == 2
    found = [len(kit.detect(frame((100 + 10 * n, 100), (180 - 10 * n, 100)))) for n in range(5)]
    assert found[-1] == 1


def test_what_the_landmarks_deny_is_no_result() -> None:
    kit = Squares()
    kit.blind = True
    assert len(kit.detect(frame((40, 40)))) == 0
    assert kit.looked == 1


def test_smoothing_is_for_videos_only() -> None:
    wobbling = [frame((40 + n % 2, 40)) for n in range(20)]
    still = [Squares().detect(each)[0].box.left for each in wobbling]
    assert set(still) == {40.0, 41.0}
    kit = Squares(mode="video")
    smooth = [kit.detect(each)[0].box.left for each in wobbling][10:]
    assert max(smooth) - min(smooth) < 0.5


def test_traits_are_those_of_all_frames() -> None:
    """One frame in which a left hand looks like a right one changes nothing."""
    kit, pixels = Squares(mode="video"), frame((100, 100))
    for n, trait in enumerate((10, 20, 60)):
        pixels[0, 0, 1] = trait
        kit.detect(pixels)
        assert kit.traits == [(10, 15, 30)[n]]
    pixels[0, 0, 1] = 0
    for _ in range(100):
        kit.detect(pixels)
    assert kit.traits == [0]
    alone = Squares()
    alone.detect(pixels)
    assert alone.traits == [0]


def test_times_go_forward() -> None:
    kit = Squares(mode="video")
    kit.detect(frame(), 0.0)
    kit.detect(frame(), 0.1)
    kit.detect(frame())
    with pytest.raises(InputError, match="follows"):
        kit.detect(frame(), 0.1)
    still = Squares()
    still.detect(frame(), 5.0)
    still.detect(frame(), 5.0)


def test_modes_are_checked() -> None:
    with pytest.raises(InputError, match="image, video, stream"):
        Squares(mode="film")
    assert MODES == ("image", "video", "stream")


@pytest.mark.parametrize("mode", ["image", "video"])
def test_follow_sees_every_frame(mode: Any) -> None:
    frames = [frame((40 + n, 40)) for n in range(9)]
    kit = Squares(mode=mode)
    pairs = list(kit.follow(iter(frames)))
    assert [np.array_equal(a, b) for (a, _), b in zip(pairs, frames, strict=True)] == [True] * 9
    assert all(len(found) == 1 for _, found in pairs)
    assert kit.dropped == 0


def test_a_stream_takes_the_newest_and_counts_the_others() -> None:
    """A camera of numbered frames that never waits, until the slow reader has seen one."""
    seen_one, all_given = threading.Event(), threading.Event()

    def camera() -> Iterator[np.ndarray]:
        yield frame((40, 40))
        assert seen_one.wait(10)
        for n in range(1, 6):
            yield frame((40 + n, 40))
        all_given.set()

    kit = Squares(mode="stream")
    lefts = []
    for pixels, found in kit.follow(camera()):
        assert len(found) == 1
        lefts.append(int(np.nonzero(pixels[40, :, 0])[0][0]))
        seen_one.set()
        assert all_given.wait(10)
    assert lefts[0] == 40
    assert lefts[-1] == 45  # the newest is never dropped
    assert len(lefts) + kit.dropped == 6
    assert kit.dropped >= 3


def test_an_error_of_the_camera_reaches_who_asks() -> None:
    def camera() -> Iterator[np.ndarray]:
        yield frame()
        raise OSError("unplugged")

    with pytest.raises(OSError, match="unplugged"):
        for _ in Squares(mode="stream").follow(camera()):
            pass


def test_who_stops_asking_stops_the_camera() -> None:
    given = 0

    def camera() -> Iterator[np.ndarray]:
        nonlocal given
        while True:
            given += 1
            yield frame()

    following = Squares(mode="stream").follow(camera())
    next(following)
    following.close()
    time.sleep(0.05)
    before = given
    time.sleep(0.1)
    assert given == before


def test_calls_of_several_threads_take_turns() -> None:
    kit = Squares()
    frames = [frame(*[(80 * n, 40) for n in range(1, count + 1)]) for count in range(1, 5)] * 3
    counts: dict[int, int] = {}

    def work(n: int) -> None:
        counts[n] = len(kit.detect(frames[n]))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(len(frames))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == {n: n % 4 + 1 for n in range(len(frames))}
