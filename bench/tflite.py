"""`python -m bench.tflite`: brim against LiteRT on the real TFLite models of the zoo.

The tracked figure is the last line, the geometric mean of (LiteRT's time / brim's). Models are
fetched when they are not here yet. Run nothing else meanwhile.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence

from bench.measure import compare, machine
from bench.table import LEGEND, live_progress, rows_of, show, troubles_of
from brim import zoo

REFUSED = ("face-mesh-attention",)  # holds operators that neither engine has
MODELS = [e.name for e in zoo.list() if e.file_name.endswith(".tflite") and e.name not in REFUSED]


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 if both engines ran every model, fairly, and agreed; else 1, with reasons."""
    parser = argparse.ArgumentParser(prog="python -m bench.tflite", description=__doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="of the zoo; default all")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    if unknown := set(options.models) - set(MODELS):
        parser.error(f"{sorted(unknown)} not among {', '.join(MODELS)}")
    print(", ".join(f"{name} {value}" for name, value in machine().items()), flush=True)
    rows, troubles, gains = [], [], []
    with live_progress() as progress:
        for name in options.models or MODELS:
            engines = ("brim", "ai_edge_litert")
            path = zoo.get(name)
            found = compare(path, engines, options.threads, options.rounds, progress)
            rows += rows_of(name, 0, *found)
            troubles += troubles_of(name, options.threads, *found)
            gains += [1 / comparison.ratio for comparison in found[1]]
    show(rows)
    print(LEGEND)
    if gains:
        print(f"geometric mean of LiteRT / brim: {statistics.geometric_mean(gains):.2f}", end=", ")
        print(f"the least {min(gains):.2f}, of {len(gains)} models")
    for trouble in troubles:
        print(trouble, file=sys.stderr)
    return 1 if troubles else 0


if __name__ == "__main__":
    sys.exit(main())
