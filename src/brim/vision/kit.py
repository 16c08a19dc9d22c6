"""What all kits are: `detect` for one picture, `follow` for many, one at a time, in three modes.

In mode "image" every picture stands alone. In mode "video" they are frames of one film, in order.
In mode "stream" frames arrive whether or not somebody has time for them: the newest is taken, and
those that it overtook are dropped and counted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from math import inf
from typing import Any, Generic, Literal, TypeVar

import numpy as np

from brim.errors import InputError
from brim.pictures import read_picture
from brim.vision.results import Results

Mode = Literal["image", "video", "stream"]
MODES = ("image", "video", "stream")
FRAME = 1 / 30  # seconds between frames of a video whose times are not given

R = TypeVar("R", bound=Results)


class Kit(Generic[R]):
    """A ready algorithm. threads: as in `brim.load`. Thread-safe: calls take turns.

    Networks are fetched (`brim zoo`) and compiled when the kit is made, or taken from the cache.
    """

    def __init__(self, *, threads: int | None = None, mode: Mode = "image") -> None:
        if mode not in MODES:
            raise InputError(f"there is no mode {mode!r}", hint=f"one of {', '.join(MODES)}")
        self.threads, self.mode = threads, mode
        self.dropped = 0
        self._clock = -inf  # of the last frame
        self._turn = threading.Lock()

    def detect(self, image: Any, seconds: float | None = None) -> R:
        """What is found in a path, a Pillow image or u8[height, width, 3] RGB (`read_picture`).

        seconds: when the frame was taken, for videos and streams; default: a thirtieth after the
        last one, in a stream the clock's time. Raises InputError for what is no picture, and for
        a time that is not later than the last.
        """
        pixels = read_picture(image)
        with self._turn:
            return self._detect(pixels, self._time(seconds))

    def follow(self, frames: Iterable[Any]) -> Iterator[tuple[np.ndarray, R]]:
        """(frame, what is found in it) for each of many frames; in a stream for the newest only.

        A stream's frames are read in a thread of its own; `dropped` counts those overtaken.
        """
        if self.mode != "stream":
            for frame in frames:
                pixels = read_picture(frame)
                yield pixels, self.detect(pixels)
            return
        newest = _Newest(frames)
        try:
            for frame in newest:
                self.dropped = newest.dropped
                pixels = read_picture(frame)
                yield pixels, self.detect(pixels)
        finally:
            newest.stop()

    def _time(self, seconds: float | None) -> float:
        if seconds is None:
            later = max(0.0, self._clock + FRAME)
            seconds = time.monotonic() if self.mode == "stream" else later
        elif seconds <= self._clock and self.mode != "image":
            raise InputError(
                f"a frame of {seconds} s follows one of {self._clock} s",
                hint="frames of a video come in order; make a kit for each video",
            )
        self._clock = seconds
        return seconds

    def _detect(self, pixels: np.ndarray, seconds: float) -> R:
        raise NotImplementedError


class _Newest(Iterator[Any]):
    """The newest of frames that a thread reads; ends, or fails, as the frames do."""

    def __init__(self, frames: Iterable[Any]) -> None:
        self.dropped = 0
        self._changed = threading.Condition()
        self._frame: Any = None
        self._error: BaseException | None = None
        self._done = False
        threading.Thread(target=self._read, args=(frames,), daemon=True).start()

    def _read(self, frames: Iterable[Any]) -> None:
        try:
            for frame in frames:
                with self._changed:
                    if self._done:
                        return
                    self.dropped += self._frame is not None
                    self._frame = frame
                    self._changed.notify()
        except BaseException as error:  # goes on in the thread that asks for frames
            self._error = error
        finally:
            self.stop()

    def __next__(self) -> Any:
        with self._changed:
            self._changed.wait_for(lambda: self._frame is not None or self._done)
            frame, self._frame = self._frame, None
        if frame is not None:
            return frame
        if self._error is not None:
            raise self._error
        raise StopIteration

    def stop(self) -> None:
        with self._changed:
            self._done = True
            self._changed.notify()
