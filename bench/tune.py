"""`python -m bench.tune`: what measuring gains over the cost model's own choice, for each network.

The tracked figure is the last line, the geometric mean of (tuned / untuned). One thread; run
nothing else meanwhile. Measured times are kept in a file of this run, which starts empty.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import networks_folder
from bench.nets import NETS, build
from brim.settings import SETTINGS
from brim.tools.tune import tune


def main() -> int:
    """Prints a line for each network."""
    parser = argparse.ArgumentParser(prog="python -m bench.tune", description=__doc__)
    parser.add_argument("--nets", default=",".join(NETS), help="comma-separated; default all")
    parser.add_argument("--directory", type=Path, default=networks_folder())
    parser.add_argument("--seconds", type=float, default=60.0, help="for each network, at most")
    options = parser.parse_args()
    ratios = []
    with TemporaryDirectory(prefix="brim-bench-") as folder:
        os.environ[SETTINGS["tuned"].env] = str(Path(folder) / "tuned.sqlite")
        for name in options.nets.split(","):
            Path(folder, "tuned.sqlite").unlink(missing_ok=True)
            found = tune(build(name, options.directory), options.seconds)
            ratios.append(found.ratio)
            print(
                f"{name:20} {found.before * 1e3:6.2f} ms untuned, {found.after * 1e3:6.2f} tuned: "
                f"{found.ratio:.3f}; {found.changed} of {found.kernels} kernels are other ones, "
                f"in {found.tuning:.1f} s",
                flush=True,
            )
    print(f"{'geometric mean':20} {statistics.geometric_mean(ratios):.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
