"""`brim vision`: the kits on pictures, folders of them, video files and cameras."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from brim.cli.console import (
    Json,
    Threads,
    command,
    note,
    output,
    progress,
    show_json_rows,
    show_table,
)
from brim.errors import InputError
from brim.files import written
from brim.pictures import SUFFIXES as PICTURES

vision_commands = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Find faces, bodies, hands, things and text in pictures.",
)

KITS = {
    "face": "Find faces: 468 points of each, and where they look.",
    "pose": "Find people: 33 points of each body.",
    "hands": "Find hands: 21 points of each, left or right, gestures.",
    "objects": "Find things of 23 kinds: people, cats, cups, chairs and so on.",
    "segment": "Find which pixels are people.",
    "text": "Read the text in pictures.",
    "classify": "Say which of 1000 kinds of things pictures show.",
}
HELP = """{what}

    Models are got at first use, and kept; see `brim zoo show {kit}`. Pictures are not sent
    anywhere. Frames of videos are followed in order; of a camera's the newest is taken.

    \b
    Examples:
        brim vision {kit} photo.jpg --out found.png
        brim vision {kit} photos/ --json              every picture of a folder
        brim vision {kit} film.mp4 --out found.mp4    needs the extra `video`
        brim vision {kit} 0                           the first camera, until Ctrl-C
    """


@dataclass(frozen=True)
class Seen:
    """A picture, or a frame of a video (the frame's number), and what was found in it."""

    source: str
    frame: int | None
    pixels: np.ndarray
    results: Any

    def as_dict(self) -> dict[str, Any]:
        frame = {} if self.frame is None else {"frame": self.frame}
        return {"source": self.source, **frame, **self.results.as_dict()}

    def rows(self) -> Iterator[tuple[str, str, str, str]]:
        """What a table says of each thing that was found."""
        place = self.source if self.frame is None else f"{self.source} {self.frame}"
        for each in self.results:
            box = "  ".join(f"{n:.0f}" for n in each.box.to_numpy())
            yield place, getattr(each, "text", each.label), f"{each.score:.2f}", box


def _register(kit: str, what: str) -> None:
    def look(
        pictures: Annotated[
            list[str],
            typer.Argument(metavar="PICTURE...", help="pictures, folders, videos, or a camera: 0"),
        ],
        out: Annotated[
            Path | None,
            typer.Option(
                metavar="FILE",
                help="write the picture or video with what was found; of several, a folder",
            ),
        ] = None,
        frames: Annotated[
            int | None, typer.Option(min=1, metavar="N", help="stop a video after N frames")
        ] = None,
        threads: Threads = None,
        as_json: Json = False,
    ) -> None:
        sources = _sources(pictures)
        _check(sources, out, frames, as_json)
        with progress(quiet=as_json) as report:
            found = _looked(kit, sources, out, frames, threads, report)
            if as_json:
                show_json_rows([seen.as_dict() for seen in found])
                return
            if isinstance(sources[0], int):
                _tell(found)
                return
            rows = [row for seen in found for row in seen.rows()]
        if rows:
            show_table(("picture", "found", "score", "box"), rows, right=("score", "box"))
        else:
            note("nothing was found")

    look.__name__ = kit
    look.__doc__ = HELP.format(kit=kit, what=what)
    command(vision_commands)(look)


for _kit, _what in KITS.items():
    _register(_kit, _what)


def _tell(found: Iterator[Seen]) -> None:
    """A line for each thing in each frame, when it comes: a camera may never end."""
    for seen in found:
        for row in seen.rows():
            output().print("  ".join(row), soft_wrap=True)


# ---------------------------------------------------------------- what to look at

Source = Path | int  # a file, or the number of a camera


def _sources(arguments: list[str]) -> list[Source]:
    """Folders become the pictures in them. Raises InputError for what is not there."""
    found: list[Source] = []
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.suffix.lower() in PICTURES)
            if not inside:
                raise InputError(f"there are no pictures in {path}", hint="name a file")
            found += inside
        elif path.is_file():
            found.append(path)
        elif argument.isdigit():
            found.append(int(argument))
        else:
            raise InputError(f"there is no file {path}", hint="check the path")
    return found


def _moves(source: Source) -> bool:
    from brim.vision.videos import SUFFIXES

    return isinstance(source, int) or source.suffix.lower() in SUFFIXES


def _check(sources: list[Source], out: Path | None, frames: int | None, as_json: bool) -> None:
    """Whether all that was asked for can be done, before anything is fetched. Raises InputError."""
    if any(map(_moves, sources)) and len(sources) > 1:
        raise InputError("a video or camera comes alone", hint="one command for each")
    if isinstance(sources[0], int) and as_json and frames is None:
        raise InputError(
            "a camera has no end, so there is no JSON document of it", hint="say --frames 100"
        )
    if out is not None and len(sources) > 1 and out.suffix:
        raise InputError(f"{len(sources)} pictures do not fit into {out}", hint="name a folder")


# ---------------------------------------------------------------- looking

Report = Callable[[str, int, int], None]


def _looked(
    kit: str,
    sources: list[Source],
    out: Path | None,
    frames: int | None,
    threads: int | None,
    report: Report,
) -> Iterator[Seen]:
    """All sources, one after another; `out` is written on the way."""
    from brim import vision

    first = sources[0]
    mode = "image" if not _moves(first) else "stream" if isinstance(first, int) else "video"
    finder = getattr(vision, kit.title())(threads=threads, mode=mode)
    if _moves(first):
        yield from _film(finder, first, out, frames, report)
        return
    for number, source in enumerate(sources):
        assert isinstance(source, Path)  # a camera comes alone
        report("looking", number, len(sources))
        seen = _picture(finder, source)
        if out is not None:
            several = len(sources) > 1 or out.is_dir()
            target = out / f"{source.stem}.png" if several else out
            _save(seen.results.draw(seen.pixels), target)
        yield seen
    report("looking", len(sources), len(sources))


def _picture(finder: Any, source: Path) -> Seen:
    from brim.pictures import read_picture

    pixels = read_picture(source)
    return Seen(str(source), None, pixels, finder.detect(pixels))


def _film(
    finder: Any, source: Source, out: Path | None, frames: int | None, report: Report
) -> Iterator[Seen]:
    from brim.vision.videos import Film, opened

    with ExitStack() as stack:
        video = stack.enter_context(opened(source))
        film = None
        if out is not None:
            film = Film(out, video.rate)
            stack.callback(film.close)
        count = min(frames or video.count, video.count or frames or 0)
        for number, (pixels, results) in enumerate(_followed(finder, video)):
            if film is not None:
                film.add(np.asarray(results.draw(pixels)))
            report("looking", number + 1, count)
            yield Seen(video.where, number, pixels, results)
            if frames is not None and number + 1 >= frames:
                break
    if finder.dropped:
        note(f"{finder.dropped} frames came too fast and were left out")


def _followed(finder: Any, video: Any) -> Iterator[tuple[np.ndarray, Any]]:
    """(frame, what is in it): of a camera the newest, of a file each, at the time it has there."""
    if finder.mode == "stream":
        yield from finder.follow(video)
        return
    for number, frame in enumerate(video):
        yield frame, finder.detect(frame, number / video.rate)


def _save(picture: Any, path: Path) -> None:
    hint = "name a .png or .jpg file"
    try:
        with written(path, parents=True, hint=hint) as temporary:
            picture.save(temporary)
    except ValueError as error:  # no format has such a suffix
        raise InputError(f"{path} cannot be written", str(error), hint=hint) from None
