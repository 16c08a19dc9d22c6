"""Frames of video files and cameras, in and out, by OpenCV where that is installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from brim.errors import InputError, UnsupportedError

SUFFIXES = {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm"}
USUAL_RATE = 30.0  # frames in a second of a video that does not say


@dataclass(frozen=True)
class Video:
    """An open video or camera. rate: frames in a second; count: how many there are, 0 where nobody
    knows."""

    capture: Any
    rate: float
    count: int
    where: str

    def __iter__(self) -> Iterator[np.ndarray]:
        """u8[height, width, 3], RGB, one after another. Raises InputError where there is none."""
        none = True
        while True:
            good, frame = self.capture.read()
            if not good:
                break
            none = False
            yield np.ascontiguousarray(frame[:, :, ::-1])
        if none:
            raise InputError("no frame could be read", "damaged, or no video", self.where)


@contextmanager
def opened(source: Path | int) -> Iterator[Video]:
    """A video file, or the camera of that number. Raises InputError where there is no such thing,
    UnsupportedError where OpenCV is not installed."""
    cv2 = _opencv()
    if isinstance(source, Path) and not source.is_file():
        raise InputError(f"there is no file {source}", hint="check the path")
    where = f"camera {source}" if isinstance(source, int) else str(source)
    capture = cv2.VideoCapture(source if isinstance(source, int) else str(source))
    try:
        if not capture.isOpened():
            raise InputError(
                f"no video could be opened from {where}",
                why="OpenCV knows no such camera or format",
            )
        rate = capture.get(cv2.CAP_PROP_FPS)
        count = max(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
        yield Video(capture, rate if 0 < rate < 1000 else USUAL_RATE, count, where)
    finally:
        capture.release()


class Film:
    """Writes frames to an .mp4 or .avi file, which takes its size from the first."""

    def __init__(self, path: Path, rate: float) -> None:
        self._cv2 = _opencv()
        self._path, self._rate = path, rate
        self._writer: Any = None

    def add(self, frame: np.ndarray) -> None:
        """u8[height, width, 3], RGB. Raises InputError where the file cannot be written."""
        if self._writer is None:
            kind = "XVID" if self._path.suffix == ".avi" else "mp4v"
            code = self._cv2.VideoWriter.fourcc(*kind)
            size = (frame.shape[1], frame.shape[0])
            self._writer = self._cv2.VideoWriter(str(self._path), code, self._rate, size)
            if not self._writer.isOpened():
                raise InputError(
                    f"{self._path} cannot be written",
                    why="OpenCV writes .mp4 and .avi files, into folders that exist",
                )
        self._writer.write(np.ascontiguousarray(frame[:, :, ::-1]))

    def close(self) -> None:
        """Ends the file; nothing can be written after it."""
        if self._writer is not None:
            self._writer.release()


def _opencv() -> ModuleType:
    try:
        import cv2
    except ImportError as error:
        raise UnsupportedError(
            "reading videos and cameras needs OpenCV", str(error), hint="pip install 'brim[video]'"
        ) from None
    return cv2
