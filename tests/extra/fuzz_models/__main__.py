"""`python -m tests.extra.fuzz_models --count 20000 --seed 0 [--jobs 2] [--engine compiled]`.

Prints progress, every failure in one line, and how many models ended in which way. The exit code
says whether there were failures.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

from tests.extra.fuzz_models.runner import ENGINES, FAILURES, Result, Run, counts, fuzz, serve

EVERY = 200  # models between two lines of progress


def main() -> int:
    """Runs models and prints what became of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first model")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--engine", choices=ENGINES, default="interpreter")
    parser.add_argument("--only", default="", help="an operator: every node is of it")
    parser.add_argument("--folder", type=Path, help="where failing models are written")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    run = Run(
        options.seed, options.count, options.first, options.only, options.engine, options.folder
    )
    if options.serve:
        serve(run, range(*map(int, options.serve.split(":"))))
        return 0
    done: list[Result] = []
    start = time.monotonic()

    def report(result: Result) -> None:
        done.append(result)
        if result.kind in FAILURES:
            print(f"{result.index} {_line(result)}", flush=True)
        if len(done) % EVERY == 0:
            seconds = time.monotonic() - start
            print(f"{len(done)} models in {seconds:.0f} s: {counts(done)}", file=sys.stderr)

    results = fuzz(run, options.jobs, report)
    for kind in ("refused", "known", "outvoted", "peer"):
        reasons = Counter(_line(r)[:170] for r in results if r.kind == kind)
        for reason, count in reasons.most_common(40):
            print(f"{count:5} {reason}")
    print(counts(results))
    return any(result.kind in FAILURES for result in results)


def _line(result: Result) -> str:
    names = " ".join(result.nodes[:6]) if result.kind in (*FAILURES, "outvoted") else ""
    if result.kind == "outvoted":
        return f"{result.kind} {result.who} {names}"
    return " ".join(f"{result.kind} {result.who} {result.why} {names}".split())


if __name__ == "__main__":
    sys.exit(main())
