"""Kits that know where to look: by a detector, or by the landmarks of the frame before.

In a video the landmarks of a thing say which region shows it in the next frame, so the detector
runs only when something was lost, and now and then for what is new. The landmarks are smoothed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf, pi
from typing import ClassVar, TypeVar

import numpy as np

from brim.vision.kit import Kit, Mode
from brim.vision.regions import Region, overlap
from brim.vision.results import Results
from brim.vision.smoothing import OneEuro, Strength

SEARCH_EVERY = 0.25  # seconds, for things that are new in the picture
MEMORY = 100  # frames whose traits count
ONE_THING = 0.5  # overlap of regions from which they show one thing
# A detector's region is looked at again, as its landmarks suggest, until they agree on it: its
# points are coarse where things are small or turned, and all results suffer from a crooked region.
LOOKS = 3
SAME_PLACE, SAME_ANGLE = 0.8, 0.17  # overlap; radians

R = TypeVar("R", bound=Results)


@dataclass(frozen=True, eq=False)
class Sight:
    """What a network of landmarks says of a region: score 0..1 that the thing is there; points
    f32[n,3] in pixels; next: the region that these points suggest; world: f32[m,3] in metres;
    traits: f32[k], what no frame changes, such as whether a hand is a right one; more: other
    results of the kit."""

    score: float
    points: np.ndarray
    next: Region
    world: np.ndarray | None = None
    traits: np.ndarray | None = None
    more: tuple[np.ndarray, ...] = ()


class _Track:
    """One thing, from frame to frame."""

    def __init__(self, region: Region, strength: Strength) -> None:
        self.region = region
        self._points, self._world = OneEuro(strength), OneEuro(strength)
        self._traits: list[np.ndarray] = []

    def follow(self, sight: Sight, seconds: float) -> Sight:
        """The sight with smoothed points, and the mean of all traits seen in some seconds."""
        self.region = sight.next
        points = self._points(sight.points, seconds, _extent(sight.points))
        world = sight.world
        if world is not None:
            world = self._world(world, seconds, _extent(world))
        traits = sight.traits
        if traits is not None:
            self._traits = [*self._traits[1 - MEMORY :], traits]
            traits = np.mean(self._traits, axis=0)
        return replace(sight, points=points, world=world, traits=traits)


class TrackingKit(Kit[R]):
    """A kit of a detector and a network of landmarks; a kit of one kind fills in the rest."""

    STRENGTH: ClassVar[Strength]

    def __init__(self, *, threads: int | None = None, mode: Mode = "image") -> None:
        super().__init__(threads=threads, mode=mode)
        self._tracks: list[_Track] = []
        self._searched = -inf

    def _search(self, pixels: np.ndarray) -> list[Region]:
        """The regions where the detector sees a thing, the surest first."""
        raise NotImplementedError

    def _look(self, pixels: np.ndarray, region: Region) -> Sight | None:
        """What the landmarks' network sees in a region, or None where the thing is not there."""
        raise NotImplementedError

    def _result(self, pixels: np.ndarray, sights: Sequence[Sight]) -> R:
        raise NotImplementedError

    def _detect(self, pixels: np.ndarray, seconds: float) -> R:
        if self.mode == "image":
            return self._result(pixels, self._new(pixels, []))
        kept: list[_Track] = []
        seen: list[Sight] = []
        for track in self._tracks:
            sight = self._look(pixels, track.region)
            if sight is not None and _is_new(sight, seen):
                kept.append(track)
                seen.append(sight)
        lost = len(kept) < len(self._tracks)
        if lost or not kept or seconds - self._searched >= SEARCH_EVERY:
            self._searched = seconds
            new = self._new(pixels, seen)
            kept += [_Track(sight.next, self.STRENGTH) for sight in new]
            seen += new
        self._tracks = kept
        smooth = [track.follow(sight, seconds) for track, sight in zip(kept, seen)]
        return self._result(pixels, smooth)

    def _new(self, pixels: np.ndarray, known: Sequence[Sight]) -> list[Sight]:
        """What the detector finds besides what is known."""
        found: list[Sight] = []
        for region in self._search(pixels):
            if all(overlap(region, other.next) < ONE_THING for other in (*known, *found)):
                sight = self._look_again(pixels, region)
                if sight is not None and _is_new(sight, (*known, *found)):
                    found.append(sight)
        return found

    def _look_again(self, pixels: np.ndarray, region: Region) -> Sight | None:
        for _ in range(LOOKS):
            sight = self._look(pixels, region)
            if sight is None or _agree(region, sight.next):
                break
            region = sight.next
        return sight


def _agree(a: Region, b: Region) -> bool:
    turn = abs((a.angle - b.angle + pi) % (2 * pi) - pi)
    return turn < SAME_ANGLE and overlap(a, b) > SAME_PLACE


def _is_new(sight: Sight, others: Sequence[Sight]) -> bool:
    return all(overlap(sight.next, other.next) < ONE_THING for other in others)


def _extent(points: np.ndarray) -> float:
    """Mean of width and height."""
    return float(np.ptp(points[:, :2], axis=0).mean())
