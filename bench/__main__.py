"""`python -m bench`: times engines on the networks of `bench.nets` and prints the ratios.

Only options, the table and the JSON file are here; measuring is in `bench.measure`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import onnx

from bench import networks_folder
from bench.measure import TOLERANCE, Comparison, Measured, compare, machine
from bench.nets import NETS, build, multiply_accumulates, resizable
from bench.peers import ENGINES
from bench.plot import draw

COLUMNS = (
    "network", "engine", "ms", "best", "GFLOP/s", "ratio", "25-75 %", "differs",
    "cores", "load", "again", "MB",
)  # fmt: skip
LEGEND = """\
ms: median over rounds; best: fastest single run; GFLOP/s: two per multiply-accumulate
ratio: the first engine's time over this one's, paired by round, below 1 the first is faster
differs: largest |difference| over largest |value|; cores: kept busy; MB: peak memory of the process
load: ms with an empty cache on disk; again: in a fresh process, the cache filled"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 if every engine ran, fairly, and agreed; else 1, the reasons on stderr."""
    options = _parser().parse_args(arguments)
    described = machine()
    print(", ".join(f"{name} {value}" for name, value in described.items()))
    size = f", images {options.size} x {options.size}" if options.size else ""
    print(f"threads {options.threads}, alternating rounds {options.rounds}", end=", ")
    print(f"batch {options.batch}{size}", flush=True)
    records: list[dict[str, object]] = []
    rows: list[tuple[str, ...]] = []
    troubles: list[str] = []
    try:
        with _progress() as progress:
            for net in options.nets:
                if options.size and not resizable(net):
                    print(f"{net} is left out: it takes no image of another size")
                    continue
                progress(f"{net}: build")
                path = build(net, options.directory, options.batch, options.size)
                operations = multiply_accumulates(onnx.load(path))
                measured, comparisons = compare(
                    path, options.engines, options.threads, options.rounds, progress
                )
                records.append(_record(net, operations, measured, comparisons))
                rows += _rows(net, operations, measured, comparisons)
                troubles += _troubles(net, options.threads, measured, comparisons)
    except KeyboardInterrupt:
        troubles.append("interrupted: the networks that follow were not measured")
    if options.json:
        settings = {name: getattr(options, name) for name in ("threads", "rounds", "batch", "size")}
        report = {"format": 1, "machine": described, **settings, "results": records}
        _write(options.json, json.dumps(report, indent=1, allow_nan=False))
    if options.plot:
        first, *others = options.engines
        peers = ", ".join(others) or "no other engine"
        title = f"time of {first} / fastest of {peers}; {options.threads} thread(s)"
        title += f", batch {options.batch}{size}" if options.batch > 1 or size else ""
        _write(options.plot, draw(records, title))  # type: ignore[arg-type]
    _show(rows)
    print(LEGEND)
    for trouble in troubles:
        print(trouble, file=sys.stderr)
    return 1 if troubles else 0


def _parser() -> argparse.ArgumentParser:
    def names(known: Sequence[str]) -> Callable[[str], list[str]]:
        def parse(text: str) -> list[str]:
            chosen = text.split(",")
            if unknown := [name for name in chosen if name not in known]:
                raise argparse.ArgumentTypeError(f"{unknown} not among {', '.join(known)}")
            return chosen

        return parse

    def count(text: str) -> int:
        if (value := int(text)) < 1:
            raise argparse.ArgumentTypeError("must be at least 1")
        return value

    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    add = parser.add_argument
    add("--nets", type=names(list(NETS)), default=list(NETS), help="comma-separated; default all")
    add("--engines", type=names(list(ENGINES)), default=["brim", "onnxruntime"],
        help="the first is compared with the others; one named twice shows the noise")  # fmt: skip
    add("--threads", type=count, default=1)
    add("--rounds", type=count, default=7)
    add("--batch", type=count, default=1, help="images (or sequences) in one run")
    add("--size", type=count, metavar="PIXELS", help="height and width, where images may be of any")
    add("--json", type=Path, metavar="FILE", help="write everything that was measured")
    add("--plot", type=Path, metavar="FILE.svg", help="draw the ratios")
    add("--directory", type=Path, default=networks_folder(), help="where networks are kept")
    return parser


def _record(
    net: str, operations: int, measured: list[Measured], comparisons: list[Comparison]
) -> dict[str, object]:
    def finite(fields: dict[str, object]) -> dict[str, object]:
        """JSON has no NaN and no infinity: what was not measured is null."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in fields.items()
        }

    return {
        "net": net,
        "multiply_accumulates": operations,
        "engines": [finite({**asdict(m), "median": m.median}) for m in measured],
        "comparisons": [finite({**asdict(c), "agrees": c.agrees}) for c in comparisons],
    }


def _rows(
    net: str, operations: int, measured: list[Measured], comparisons: list[Comparison]
) -> Iterator[tuple[str, ...]]:
    """A row of COLUMNS for every engine that ran."""
    against = {c.peer: (f"{c.ratio:.2f}", f"{c.low:.2f}-{c.high:.2f}", f"{c.difference:.0e}")
               for c in comparisons}  # fmt: skip
    for m in measured:
        if m.state == "ok":
            yield (
                net,
                m.label,
                f"{m.median * 1e3:.2f}",
                f"{m.fastest * 1e3:.2f}",
                f"{2e-9 * operations / m.median:.1f}",
                *against.get(m.label, ("", "", "")),
                f"{m.cores:.1f}",
                f"{m.cold_load * 1e3:.0f}",
                f"{m.warm_load * 1e3:.0f}",
                f"{m.peak_bytes / 1e6:.0f}",
            )


def _troubles(
    net: str, threads: int, measured: list[Measured], comparisons: list[Comparison]
) -> Iterator[str]:
    for m in measured:
        if m.state != "ok":
            yield f"{net}: {m.label} {m.state}: {m.why}"
        # Slack: a waking helper thread is no second worker.
        elif m.cores > threads + 0.3:
            yield f"{net}: {m.label} kept {m.cores:.1f} cores busy, {threads} allowed: unfair"
    for c in comparisons:
        if not c.agrees:
            yield f"{net}: {c.peer} differs by {c.difference:.1e}, more than {TOLERANCE:.0e}"


def _show(rows: list[tuple[str, ...]]) -> None:
    try:
        from rich import box
        from rich.console import Console
        from rich.table import Table
    except ModuleNotFoundError:
        widths = [max(map(len, column)) for column in zip(COLUMNS, *rows, strict=True)]
        for row in (COLUMNS, *rows):
            print(" ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))
        return
    table = Table(box=box.SIMPLE_HEAD, padding=0)
    for index, title in enumerate(COLUMNS):
        table.add_column(title, justify="left" if index < 2 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = Console()
    # A pipe or a narrow terminal must not cut figures off.
    console.width = max(console.width, 110)
    console.print(table)


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """What is being done, on standard error: one live line where rich is there, else nothing."""
    try:
        from rich.console import Console
    except ModuleNotFoundError:
        yield lambda message: None
        return
    with Console(stderr=True).status("") as status:
        yield status.update


def _write(path: Path, text: str) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # while the machine is described: `uname` is a child process, too
        sys.exit("interrupted before anything was measured")
