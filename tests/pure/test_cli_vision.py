"""`brim vision` with a stand-in for the kits: what it reads, writes, prints and refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("typer")
pytest.importorskip("PIL")

from PIL import Image

from brim import vision
from brim.cli import main
from brim.vision.kit import Kit
from brim.vision.results import Box, Found, Results, Size


class Brightest(Kit[Results]):
    """Finds the one thing that there is: where the picture is brightest."""

    def _detect(self, pixels: np.ndarray, seconds: float) -> Results:
        size = Size(pixels.shape[1], pixels.shape[0])
        bright = pixels.sum(2)
        if not bright.any():
            return Results(size, (), ("spot",))
        y, x = np.unravel_index(int(bright.argmax()), bright.shape)
        box = Box(float(x), float(y), float(x + 1), float(y + 1), size)
        self.seen = [*getattr(self, "seen", []), seconds]
        return Results(size, (Found(label="spot", score=1.0, box=box),), ("spot",))


@pytest.fixture
def kits(monkeypatch: pytest.MonkeyPatch) -> list[Brightest]:
    """All kits that the command makes."""
    made: list[Brightest] = []

    def make(**options: Any) -> Brightest:
        made.append(Brightest(**options))
        return made[-1]

    for name in ("Face", "Text"):
        monkeypatch.setitem(vars(vision), name, make)
    return made


def picture(path: Path, x: int, y: int) -> str:
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[y, x] = 255
    Image.fromarray(pixels).save(path)
    return str(path)


def test_a_picture_becomes_a_row_and_a_drawing(
    kits: list[Brightest], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo, out = picture(tmp_path / "a.png", 30, 20), tmp_path / "new" / "found.png"
    assert main(["vision", "face", photo, "--out", str(out), "--threads", "2"]) == 0
    shown = capsys.readouterr().out
    assert photo in shown and "spot" in shown and "30  20  31  21" in shown
    assert (kits[0].mode, kits[0].threads) == ("image", 2)
    with Image.open(out) as drawn, Image.open(photo) as plain:
        assert drawn.size == plain.size
        assert np.abs(np.asarray(drawn, int) - np.asarray(plain)).max() > 100


def test_json_is_one_document(
    kits: list[Brightest], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = [picture(tmp_path / f"{n}.png", n, n) for n in (7, 8)]
    assert main(["vision", "face", *photos, "--json"]) == 0
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) == 4, "a line for each picture"
    found = json.loads(shown)
    assert [each["source"] for each in found] == photos
    assert [each["found"][0]["box"]["left"] for each in found] == [7, 8]
    assert found[0]["picture"] == {"width": 60, "height": 40}
    assert len(kits) == 1, "one kit looks at all pictures"


def test_a_folder_is_all_pictures_in_it(
    kits: list[Brightest], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    (photos / "notes.txt").write_text("no picture")
    for n in (2, 1):
        picture(photos / f"{n}.jpg", n, n)
    assert main(["vision", "text", str(photos), "--out", str(out)]) == 0
    assert [path.name for path in sorted(out.iterdir())] == ["1.png", "2.png"]
    shown = capsys.readouterr().out
    assert shown.index("1.jpg") < shown.index("2.jpg") and "notes" not in shown


def test_nothing_found_is_no_error(
    kits: list[Brightest], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "dark.png")
    assert main(["vision", "face", str(tmp_path / "dark.png")]) == 0
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "nothing was found\n")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("face a.png b.png --out x.png", "do not fit into x.png"),
        ("face a.png nothing.png", "there is no file nothing.png"),
        ("face 0 a.png", "comes alone"),
        ("face film.mp4 a.png", "comes alone"),
        ("face 0 --json", "a camera has no end"),
        ("face empty", "no pictures in empty"),
        ("face notes.txt", "no picture could be read"),
        ("face a.png --out found.what", "cannot be written"),
    ],
)
def test_what_cannot_be_done_is_said(
    kits: list[Brightest],
    line: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png"):
        picture(Path(name), 1, 1)
    for name in ("empty", "folder"):
        Path(name).mkdir()
    Path("notes.txt").write_text("no picture")
    Path("film.mp4").touch()
    assert main(["vision", *line.split()]) == 1
    shown = capsys.readouterr()
    assert message in shown.err + shown.out
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a.png", "b.png", "empty", "film.mp4", "folder", "notes.txt",
    ]  # fmt: skip


def test_a_video_is_followed_frame_by_frame(
    kits: list[Brightest], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("cv2")
    from brim.vision.videos import Film, opened

    film, out = tmp_path / "film.avi", tmp_path / "found.mp4"
    writer = Film(film, 10)
    for n in range(6):
        frame = np.zeros((48, 64, 3), np.uint8)
        frame[16:32, 8 * n : 8 * n + 8] = (255, 40, 0)
        writer.add(frame)
    writer.close()
    line = ["vision", "face", str(film), "--frames", "5", "--out", str(out), "--json"]
    assert main(line) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["frame"] for each in found] == [0, 1, 2, 3, 4]
    lefts = [each["found"][0]["box"]["left"] for each in found]
    assert all(abs(left - 8 * n) <= 8 for n, left in enumerate(lefts)), "frames are in order"
    assert kits[0].mode == "video"
    assert kits[0].seen == pytest.approx([0, 0.1, 0.2, 0.3, 0.4]), "the film's own times"
    with opened(film) as video:
        frame = next(iter(video))
        assert frame[24, 4, 0] > 150 > 100 > frame[24, 4, 2], "red is the first channel"
    with opened(out) as video:
        assert sum(1 for _ in video) == 5


def test_damaged_videos_are_refused(
    kits: list[Brightest], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("cv2")
    (tmp_path / "film.mp4").write_bytes(b"no film" * 100)
    assert main(["vision", "face", str(tmp_path / "film.mp4")]) == 1
    assert "no video could be opened" in capsys.readouterr().err


def test_without_opencv_it_says_what_to_install(
    kits: list[Brightest],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    (tmp_path / "film.mp4").touch()
    assert main(["vision", "face", str(tmp_path / "film.mp4")]) == 1
    assert "pip install 'brim[video]'" in capsys.readouterr().err


def test_a_camera_is_told_as_it_comes(
    kits: list[Brightest], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stand-in for OpenCV's camera; frames that come while the kit is busy may be left out."""
    cv2 = pytest.importorskip("cv2")

    class Camera:
        def __init__(self, source: int) -> None:
            assert source == 3
            self.left = 50

        def isOpened(self) -> bool:
            return True

        def read(self) -> tuple[bool, Any]:
            self.left -= 1
            return self.left >= 0, np.full((4, 6, 3), 200, np.uint8)

        def get(self, what: int) -> float:
            return 0.0

        def release(self) -> None:
            pass

    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    assert main(["vision", "face", "3", "--frames", "1"]) == 0
    assert capsys.readouterr().out == "camera 3 0  spot  1.00  0  0  1  1\n"
    assert kits[0].mode == "stream"
