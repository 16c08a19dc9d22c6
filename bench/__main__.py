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
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import onnx

from bench import networks_folder
from bench.measure import Comparison, Measured, compare, machine
from bench.nets import NETS, build, multiply_accumulates, resizable
from bench.peers import ENGINES
from bench.plot import draw
from bench.table import LEGEND, live_progress, rows_of, show, troubles_of


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
        with live_progress() as progress:
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
                rows += rows_of(net, operations, measured, comparisons)
                troubles += troubles_of(net, options.threads, measured, comparisons)
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
    show(rows)
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
