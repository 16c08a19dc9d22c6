"""Networks of the zoo that look at regions of pictures, each one program with what surrounds it.

A pixel goes in as a byte and a result comes out decoded: sampling, scaling, the network, and what
`decode` adds behind it are compiled together, and cached like any loaded model.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np

from brim import zoo
from brim.graph import Graph, Value
from brim.model import load_around
from brim.sources import Around
from brim.vision.regions import Region
from brim.vision.sampling import Sampling, Window

# The network's outputs, the largest first -> the program's by name.
Decode = Callable[[list[Value]], dict[str, Value]]


class Network:
    """The zoo's network `name`, fetched and compiled at once, or taken from the cache.

    Raises DownloadError where a file is neither here nor to be got, and what `brim.load` raises.
    """

    def __init__(
        self, name: str, sampling: Sampling, decode: Decode, threads: int | None = None
    ) -> None:
        def change(network: Graph) -> Graph:
            inputs, outputs = sampling.join(network)
            return Graph(inputs, decode(sorted(outputs, key=_size)), network.name)

        path = zoo.get(name, progress=say_progress)
        self.sampling, self._window = sampling, Window()
        # The source of `decode` is part of every key of the cache, as all of brim's is.
        key = f"vision {name} {sampling} {decode.__qualname__}"
        self.model = load_around(path, Around(key, change), threads=threads)

    def __call__(self, picture: np.ndarray, region: Region) -> dict[str, np.ndarray]:
        """What the network says of a region of u8[height, width, 3], in its own coordinates."""
        matrix = region.matrix(self.sampling.columns, self.sampling.rows)
        return self.model.run(self._window.feeds(picture, matrix, self.sampling))

    def pixels(self, points: np.ndarray, region: Region) -> np.ndarray:
        """Points f32[n,2] or f32[n,3] (u, v, depth) of the network to pixels of the picture."""
        matrix = region.matrix(self.sampling.columns, self.sampling.rows)
        placed = points[:, :2] @ matrix[:, :2].T + matrix[:, 2]
        depth = points[:, 2:] * (abs(region.width) / self.sampling.columns)
        return np.concatenate([placed, depth], axis=1).astype(np.float32)


def _size(value: Value) -> int:
    return -value.type.size


def say_progress(what: str, done: int, total: int) -> None:
    """One line on the standard error that says what is fetched, and how much of it is here."""
    amount = f"{done / 1e6:.1f} of {total / 1e6:.1f} MB" if total else ""
    end = "\n" if total and done >= total else ""
    if sys.stderr.isatty():
        print(f"\rbrim: getting {what} {amount}", end=end, file=sys.stderr, flush=True)
    elif not done:
        print(f"brim: getting {what}", file=sys.stderr, flush=True)
