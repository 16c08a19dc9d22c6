"""`python -m bench.predict`: how far the cost model is from measured times, kernel by kernel.

A network's figure is the median error of the kernels that take over half a percent of its time; the
tracked figure is the last line, the median of those. One thread; run nothing else meanwhile.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

import brim
from bench import networks_folder
from bench.nets import NETS, build
from brim.tools.predict import prediction


def main() -> int:
    """Prints a line for each network, and what the model is worst at."""
    parser = argparse.ArgumentParser(prog="python -m bench.predict", description=__doc__)
    parser.add_argument("--nets", default=",".join(NETS), help="comma-separated; default all")
    parser.add_argument("--directory", type=Path, default=networks_folder())
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    errors = []
    for name in options.nets.split(","):
        model = brim.load(build(name, options.directory))
        found = prediction(model, rounds=options.rounds)
        errors.append(found.median_error)
        (worst,) = found.worst(1)
        print(
            f"{name:20} {found.median_error:4.0%} at the median kernel, "
            f"{found.predicted_seconds / found.measured_seconds:4.2f} in all; "
            f"worst: {worst.predicted_seconds * 1e6:.0f} instead of "
            f"{worst.measured_seconds * 1e6:.0f} us ({worst.ops[0]})"
        )
    print(f"{'median':20} {np.median(errors):4.0%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
