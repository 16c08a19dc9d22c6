"""What a compression did, as plain data: sizes, accuracy, speed, every layer, and the verdict.

How it is shown is told elsewhere: `report_text.py` for terminals, `report_page.py` for browsers.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from brim.compress.histogram import Histogram
from brim.compress.measure import Speed, Times
from brim.compress.metric import Accuracy
from brim.figures import json_text
from brim.pages import Distribution, frame

BINS = 64
FLOAT = "float"  # the form of layers that are left as they are


@dataclass(frozen=True)
class Sizes:
    """Bytes. before: of the float model's numbers alone, so that nothing flatters; after: of the
    compressed artifact, with code and all. weights: of the numbers alone, of both.
    """

    before: int
    after: int
    weights_before: int
    weights_after: int

    @property
    def ratio(self) -> float:
        """Below 1: it became smaller."""
        return self.after / self.before


@dataclass(frozen=True)
class Layer:
    """One product of the network, named after the source's node.

    op: the source's operator. form: what it is computed in, such as int8, int4 or float. sqnr: dB,
    signal to quantization noise of its result. clipped: share of its inputs beyond their range.
    loss: what it costs of the metric when it alone is compressed. activations: of its inputs.
    before, after: what it takes in the float and in the compressed model. None: not known.
    """

    name: str
    op: str
    form: str
    sqnr: float | None = None
    clipped: float | None = None
    loss: float | None = None
    activations: Distribution | None = None
    weights: Distribution | None = None
    before: Times | None = None
    after: Times | None = None


@dataclass(frozen=True)
class Stage:
    """The model after a step of the recipe: bytes of its weights, FLOPs of a run, what it has lost
    of the metric so far (None: not measured), and what the step has to say. The first stage is the
    float model, its step ''."""

    step: str
    bytes: int
    flops: int
    loss: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Blame:
    """A layer, and what it does to the result."""

    layer: str
    why: str


@dataclass(frozen=True)
class Verdict:
    """Whether the contract holds; if not, in what it is missed, and the layers to blame for it."""

    accepted: bool
    reasons: tuple[str, ...] = ()
    blame: tuple[Blame, ...] = ()


@dataclass(frozen=True)
class Report:
    """All that is known of a compressed model.

    model: its name. recipe: as TOML. max_loss: what the contract allows, in the metric's units.
    rest_before, rest_after: what all kernels that are no layer's take.
    """

    model: str
    recipe: str
    max_loss: float
    sizes: Sizes
    accuracy: Accuracy
    speed: Speed
    layers: tuple[Layer, ...]
    stages: tuple[Stage, ...]
    verdict: Verdict
    warnings: tuple[str, ...] = ()
    rest_before: Times | None = None
    rest_after: Times | None = None

    @property
    def accepted(self) -> bool:
        """Whether the model keeps its contract."""
        return self.verdict.accepted

    def show(self) -> None:
        """Prints it."""
        print(str(self))

    def __str__(self) -> str:
        from brim.compress.report_text import report_text

        return report_text(self)

    def to_json(self) -> str:
        """All of it, as one JSON document."""
        return json_text(asdict(self), indent=1)

    def to_html(self) -> str:
        """One page that needs nothing else: no network, no script."""
        from brim.compress.report_page import report_page

        return report_page(self)

    def _repr_html_(self) -> str:
        """The page within a notebook, in a frame that keeps its styles to itself."""
        return frame(self.to_html(), f"report of {self.model}")


def distribution(numbers: Histogram, kept: tuple[float, float] | None = None) -> Distribution:
    """What a report keeps of a histogram: at most BINS bins, each some of the histogram's own."""
    edges, counts = numbers.edges, numbers.counts
    each = max(-(-len(counts) // BINS), 1)
    bins = -(-len(counts) // each)
    padded = np.zeros(bins * each, np.int64)
    padded[: len(counts)] = counts
    width = float(edges[1] - edges[0])
    low = float(edges[0])
    merged = padded.reshape(bins, each).sum(axis=1)
    return Distribution(low, low + width * bins * each, tuple(merged.tolist()), kept)
