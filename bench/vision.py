"""`python -m bench.vision`: whole kits on a 720p frame, beside their bare networks on LiteRT.

Each figure is a median of frames, kit and networks in alternating rounds, on one thread by default.
The kit's time is all of it: sampling the picture, networks, choosing, geometry. LiteRT's is that of
running, once each, the networks that the kit needs for one face, body or hand, and nothing else.
Run nothing else meanwhile.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bench.measure import machine
from brim import vision, zoo

WIDTH, HEIGHT = 1280, 720
# Kit, picture with something in it, TFLite networks of one detection.
KITS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("Face", "astronaut", ("face-detect", "face-detect-far", "face-mesh")),
    ("Pose", "astronaut", ("pose-detect", "pose-landmarks")),
    ("Hands", "hand-pointing", ("palm-detect", "hand-landmarks")),
    ("Objects", "chelsea", ("objects-detect",)),
    ("Segment", "astronaut", ("person-mask",)),
)


def frame(name: str) -> np.ndarray:
    """u8[720,1280,3]: a picture of the zoo, as large as fits, on grey."""
    from PIL import Image, ImageOps

    with Image.open(zoo.get(name)) as picture:
        fitted = ImageOps.pad(picture.convert("RGB"), (WIDTH, HEIGHT), color=(90, 90, 90))
    return np.asarray(fitted)


def litert(names: Sequence[str], threads: int) -> Callable[[], Any]:
    """Runs networks of the zoo one after another, on zeros."""
    from ai_edge_litert.interpreter import Interpreter

    nets = [Interpreter(str(zoo.get(name)), num_threads=threads) for name in names]
    for net in nets:
        net.allocate_tensors()
    return lambda: [net.invoke() for net in nets]


def timed(*contestants: Callable[[], Any], rounds: int) -> list[float]:
    """Median seconds of each, in alternating rounds of a few runs."""
    seconds: list[list[float]] = [[] for _ in contestants]
    for number in range(rounds + 1):
        for run, found in zip(contestants, seconds):
            for _ in range(5):
                start = time.perf_counter()
                run()
                if number:  # the first round warms up
                    found.append(time.perf_counter() - start)
    return [statistics.median(found) for found in seconds]


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a line for each kit and mode."""
    parser = argparse.ArgumentParser(prog="python -m bench.vision", description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args(arguments)
    print(", ".join(f"{name} {value}" for name, value in machine().items()), flush=True)
    print(f"{'kit':10}{'picture':>10}{'video':>10}{'networks on LiteRT':>22}   ms")
    for name, picture, networks in KITS:
        pixels, make = frame(picture), getattr(vision, name)
        alone, followed = (make(threads=options.threads, mode=m) for m in ("image", "video"))
        if not alone.detect(pixels):
            print(f"{name} finds nothing in {picture}", file=sys.stderr)
            return 1
        found = timed(
            lambda alone=alone, pixels=pixels: alone.detect(pixels),
            lambda followed=followed, pixels=pixels: followed.detect(pixels),
            litert(networks, options.threads),
            rounds=options.rounds,
        )
        one, many, bare = (1e3 * seconds for seconds in found)
        print(f"{name:10}{one:10.2f}{many:10.2f}{bare:22.2f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
