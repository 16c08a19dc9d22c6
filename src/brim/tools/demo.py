"""The demonstration: real networks, compiled here and now, read a page, find a face and a body.

It gets the networks and the photos from the zoo, prints what was read and found and what the
compiler made of each network, and writes the annotated photos. Everything about pictures is in
`vision`, everything about downloads in `zoo`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from brim import zoo
from brim.errors import BrimError, InputError
from brim.files import written
from brim.vision.text import Line, read_text
from brim.vision.text.characters import characters_of

if TYPE_CHECKING:
    from PIL import Image
    from rich.console import Console
    from rich.status import Status

NEEDED = {"rich": "cli", "onnx": "onnx", "tflite": "tflite", "PIL": "pictures"}  # to extras
NETWORKS = ("ppocr-detect", "ppocr-orient", "ppocr-recognise")
PICTURE = "page_read.png"
PHOTO = "astronaut"
KITS = {"Face": "face_found.png", "Pose": "pose_found.png"}  # to what is written
# Pixels of the detector's shorter side. Enough for this page; photos of small print need more.
SHORTEST_SIDE = 320
TIMED_RUNS = 3
ENLARGED = 3  # times the photo's size, so that the text in the annotated picture is readable
INK = (200, 30, 30)


@dataclass(frozen=True)
class Compiled:
    """A network compiled for one input shape, and how long that took."""

    network: str
    model: Any
    feed: dict[str, np.ndarray]
    compile_seconds: float


@dataclass(frozen=True)
class Reader:
    """An engine for one network: compiles it for each input shape that comes."""

    network: str
    path: Path
    threads: int
    tell: Callable[[str], None]
    compiled: dict[tuple[int, ...], Compiled] = field(default_factory=dict)

    def __call__(self, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        import brim

        shape = feed["x"].shape
        if shape not in self.compiled:
            self.tell(f"compiling {self.network} for {'x'.join(map(str, shape))}")
            start = perf_counter()
            model = brim.load(self.path, threads=self.threads, shapes={"x": shape})
            self.compiled[shape] = Compiled(self.network, model, feed, perf_counter() - start)
        self.tell("reading the page")
        return self.compiled[shape].model.run(feed)


def run_demo(output_directory: Path | str, threads: int) -> None:
    """Reads the page, finds the face and the body of an astronaut, and prints the results; writes
    `page_read.png`, `face_found.png` and `pose_found.png` into `output_directory`.

    Raises InputError when the directory cannot be written or a library is missing, DownloadError
    without network on the first run, and whatever compiling raises.
    """
    _check_libraries()
    from rich.console import Console

    import brim

    console = Console(highlight=False, markup=False, emoji=False)
    folder = Path(output_directory)
    files = _get_files(console)
    page = _open_picture(files["page"])
    with console.status("reading the page") as status:
        readers = {
            name: Reader(name, files[name], threads, lambda text: status.update(text))
            for name in NETWORKS
        }
        lines = read_text(
            page,
            readers["ppocr-detect"],
            readers["ppocr-recognise"],
            characters_of(brim.load(files["ppocr-recognise"]).metadata),
            readers["ppocr-orient"],
            SHORTEST_SIDE,
        )
        status.update("measuring")
        compiled = [each for reader in readers.values() for each in reader.compiled.values()]
        rows = [_row(each) for each in compiled]
        _save(_annotated(page, lines), folder / PICTURE)
        seen = [_seen(kit, files[PHOTO], folder / KITS[kit], threads, status) for kit in KITS]
    _print_lines(console, lines)
    _print_table(console, rows, threads)
    _print_seen(console, seen)
    for name in (PICTURE, *KITS.values()):
        console.print(f"annotated photo: {folder / name}", soft_wrap=True)


def _check_libraries() -> None:
    missing = [module for module in NEEDED if find_spec(module) is None]
    if missing:
        extras = ",".join(NEEDED[module] for module in missing)
        raise InputError(
            f"the demonstration needs {', '.join(missing)}",
            why="not installed",
            hint=f"pip install 'brim[{extras}]'",
        )


def _get_files(console: Console) -> dict[str, Path]:
    with _progress(console) as progress:
        models = [entry.name for kit in KITS for entry in zoo.select(kit.lower())]
        names = (*NETWORKS, "page", PHOTO, *models)
        return {name: zoo.get(name, progress=progress) for name in names}


@contextmanager
def _progress(console: Console) -> Iterator[zoo.Progress]:
    """One bar for each package, in bytes; a pulsing one where pip or npm keep the size secret."""
    from rich import progress as bars

    columns = (
        bars.TextColumn("getting {task.description}"),
        bars.BarColumn(),
        bars.DownloadColumn(),
        bars.TimeElapsedColumn(),
    )
    with bars.Progress(*columns, console=console, transient=True) as shown:
        tasks: dict[str, Any] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = shown.add_task(what, total=None)
            shown.update(tasks[what], completed=done, total=total or None)

        yield report


def _open_picture(path: Path) -> np.ndarray:
    from PIL import Image

    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def _row(compiled: Compiled) -> tuple[str, ...]:
    """What the table says of a compiled network."""
    layers, operations, peak = _figures(compiled.model)
    seconds = min(_timed_runs(compiled))
    return (
        compiled.network.removeprefix("ppocr-"),
        "x".join(map(str, compiled.feed["x"].shape)),
        str(layers),
        f"{compiled.compile_seconds:.2f} s",
        f"{seconds * 1e3:.1f} ms",
        f"{operations / seconds / 1e9:.1f}",
        f"{operations / seconds / peak:.0%}",
    )


def _timed_runs(compiled: Compiled) -> Iterator[float]:
    for _ in range(TIMED_RUNS):
        start = perf_counter()
        compiled.model.run(compiled.feed)
        yield perf_counter() - start


def _figures(model: Any) -> tuple[int, float, float]:
    """Layers (kernels), floating point operations of a run, and the most per second that the
    machine could do with the model's threads."""
    report = model.report()
    return len(report.kernels), report.flops, report.peak_flops * model.threads


def _seen(kit: str, photo: Path, path: Path, threads: int, status: Status) -> tuple[str, ...]:
    """Asks a kit, and draws what it found; returns what the table says of it."""
    from brim import vision

    status.update(f"compiling the networks of {kit}")
    start = perf_counter()
    finder = getattr(vision, kit)(threads=threads)
    ready = perf_counter() - start
    times = []
    for _ in range(1 + TIMED_RUNS):
        start = perf_counter()
        found = finder.detect(photo)
        times.append(perf_counter() - start)
    if not found:
        raise BrimError(f"{kit} found nothing in {photo}", hint="please report this: it is a bug")
    _save(found.draw(photo), path)
    each, look = found[0], min(times)
    points = str(len(each.landmarks))
    return kit, each.label, f"{each.score:.1%}", points, f"{ready:.2f} s", f"{look * 1e3:.1f} ms"


# ---------------------------------------------------------------- what is shown


def _annotated(page: np.ndarray, lines: Sequence[Line]) -> Image.Image:
    """The photo with the boxes, and beside it the text where it was found."""
    from PIL import Image, ImageDraw, ImageFont

    height, width = (side * ENLARGED for side in page.shape[:2])
    canvas = Image.new("RGB", (2 * width, height), "white")
    canvas.paste(Image.fromarray(page).resize((width, height), Image.Resampling.BICUBIC))
    draw = ImageDraw.Draw(canvas)
    for line in lines:
        assert line.corners is not None
        corners = [(x * ENLARGED, y * ENLARGED) for x, y in line.corners.tolist()]
        draw.polygon(corners, outline=INK, width=2)
        long, high = np.linalg.norm(np.subtract(corners[1::2], corners[0]), axis=1)
        font = ImageFont.load_default(size=max(high * 0.7, 8.0))
        if (wide := font.getlength(line.text)) > long:
            font = ImageFont.load_default(size=max(high * 0.7 * long / wide, 8.0))
        draw.text((width + corners[0][0], corners[0][1]), line.text, fill="black", font=font)
    return canvas


def _save(picture: Image.Image, path: Path) -> None:
    with written(path, parents=True, hint="name another folder") as temporary:
        picture.save(temporary, format="PNG")


def _print_lines(console: Console, lines: Sequence[Line]) -> None:
    from rich.table import Table

    if not lines:
        raise BrimError("no text was found on the page", hint="please report this: it is a bug")
    table = Table("line", "sure", title="The page reads", title_justify="left")
    for line in lines:
        table.add_row(line.text, f"{line.score:.1%}")
    console.print(table)


def _print_seen(console: Console, rows: Sequence[tuple[str, ...]]) -> None:
    from rich.table import Table

    table = Table("kit", "found", title=f"In the photo of the {PHOTO}", title_justify="left")
    for heading in ("sure", "points", "compile", "read and look"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _print_table(console: Console, rows: Sequence[tuple[str, ...]], threads: int) -> None:
    from rich.table import Table

    title = f"PP-OCR, compiled here for {threads or 'all'} thread{'' if threads == 1 else 's'}"
    table = Table("network", "input", title=title, title_justify="left")
    for column in table.columns:
        column.no_wrap = True
    for heading in ("layers", "compile", "run", "GFLOP/s", "of peak"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(*row)
    console.print(table)
