"""A whole picture as a network sees it: made smaller by averaging, and scaled within the program.

Kits that look at regions sample them inside the program (`sampling`); those of this file look once
at all of a picture, which may be many times as large as their input, so every pixel has its share.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from brim import zoo
from brim.graph import Graph, Value, placeholder, substitute
from brim.model import Model, load_around
from brim.ops import primitive as p
from brim.pictures import pillow
from brim.sources import Around
from brim.types import F32, U8, Type
from brim.vision.programs import say_progress

# A network's outputs, by name -> those of the program.
Decode = Callable[[dict[str, Value]], dict[str, Value]]


@dataclass(frozen=True)
class Whole:
    """What a network sees: rows x columns pixels, black as `low` and white as `high`."""

    rows: int
    columns: int
    low: float
    high: float

    def join(self, network: Graph, decode: Decode) -> Graph:
        """The network behind `pixels` u8[rows,columns,3], and `decode` behind it. Raises
        ModelError, as `substitute` does, where the network takes something else."""
        pixels = placeholder(Type((self.rows, self.columns, 3), U8))
        scale = (self.high - self.low) / 255
        seen = p.add(p.mul(p.cast(pixels, to=F32), scale), self.low)
        seen = p.reshape(seen, shape=(1, self.rows, self.columns, 3))
        (taken,) = network.inputs.values()
        found = substitute(network.outputs.values(), {id(taken): seen})
        return Graph({"pixels": pixels}, decode(dict(zip(network.outputs, found))), network.name)

    def program(
        self,
        name: str,
        decode: Decode,
        threads: int | None,
        network: Callable[[Graph], Graph] = lambda graph: graph,
    ) -> Model:
        """The zoo's model `name`, fetched and compiled at once, or taken from the cache. network:
        makes the network of what the file holds, where that is only weights.

        Raises DownloadError where a file is neither here nor to be got, and what `brim.load` does.
        """
        around = Around(f"vision {name} {self}", lambda graph: self.join(network(graph), decode))
        return load_around(zoo.get(name, progress=say_progress), around, threads=threads)

    def pixels(
        self, picture: np.ndarray, box: tuple[float, float, float, float] | None = None
    ) -> np.ndarray:
        """u8[rows,columns,3]: a picture u8[height,width,3], or a box of it (left, top, right,
        bottom in pixels), stretched."""
        return resized(picture, self.columns, self.rows, box)


def resized(
    picture: np.ndarray,
    width: int,
    height: int,
    box: tuple[float, float, float, float] | None = None,
) -> np.ndarray:
    """u8[height,width,3] from u8[:,:,3] or a box of it: linear between pixels where that is larger,
    an average of all pixels below where it is smaller."""
    Image = pillow()
    if box is None and picture.shape[:2] == (height, width):
        return picture
    image = Image.fromarray(np.ascontiguousarray(picture))
    small = image.resize((width, height), Image.Resampling.BILINEAR, box, reducing_gap=3.0)
    return np.asarray(small)
