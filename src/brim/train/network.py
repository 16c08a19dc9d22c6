"""A network to be trained: an imported model whose weights are inputs of its graph.

    net = brim.train.network("model.onnx", shapes={"x": (32, 3, 224, 224)})
    net = net.freeze("features.*")
    ...
    model = net.model()

It is plain data; every change gives another network. How it is trained is told in `step` and `fit`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from brim.errors import InputError, UnsupportedError
from brim.frontends.weights import Weights
from brim.graph import Graph, Value, const, substitute
from brim.model import Model, compile
from brim.passes.layout import layout
from brim.passes.simplify import simplify
from brim.passes.training import statistics
from brim.sources import front_end, graph_file
from brim.train.weights import Source, moved

Shapes = Mapping[str, Sequence[int]]


@dataclass(frozen=True, eq=False)
class Network:
    """A network in evaluation form.

    graph: its inputs are the data, then one for each weight, by its name; its outputs the results.
    weights: name -> content, f32, in the layout that the graph reads. sources: name -> how the file
    holds it. frozen: names of weights that stay as they are.
    """

    graph: Graph
    weights: Mapping[str, np.ndarray]
    sources: Mapping[str, Source]
    frozen: frozenset[str] = field(default=frozenset())

    @cached_property
    def statistics(self) -> frozenset[str]:
        """Weights that are running statistics of batch norms: no gradient changes them."""
        return frozenset(statistics(self.graph)) & self.weights.keys()

    @cached_property
    def trained(self) -> frozenset[str]:
        """Weights that gradients change."""
        return frozenset(self.weights) - self.statistics - self.frozen

    @cached_property
    def data(self) -> dict[str, Value]:
        """The inputs that are no weights."""
        return {n: v for n, v in self.graph.inputs.items() if n not in self.weights}

    @property
    def file_weights(self) -> dict[str, np.ndarray]:
        """The weights by name, in the layout of the file."""
        return {name: self.sources[name].outward(array) for name, array in self.weights.items()}

    def freeze(self, *patterns: str) -> Network:
        """With these weights as they are, and batch norms of these statistics in evaluation form.

        patterns: as in file names, "backbone.*". Raises InputError where one fits no weight.
        """
        return replace(self, frozen=self.frozen | self.named(*patterns))

    def unfreeze(self, *patterns: str) -> Network:
        """With these weights trained again. Raises InputError where a pattern fits no weight."""
        return replace(self, frozen=self.frozen - self.named(*patterns))

    def named(self, *patterns: str) -> frozenset[str]:
        """The names that fit a pattern. Raises InputError where one fits none."""
        found: set[str] = set()
        for pattern in patterns:
            fits = {name for name in self.weights if fnmatchcase(name, pattern)}
            if not fits:
                near = difflib.get_close_matches(pattern, self.weights, 3, 0.3)
                raise InputError(
                    f"no weight is named {pattern!r}",
                    where=self.graph.name,
                    hint=f"similar: {', '.join(near or list(self.weights)[:3])}",
                )
            found |= fits
        return frozenset(found)

    def with_weights(self, contents: Mapping[str, np.ndarray]) -> Network:
        """With other contents for what is named, in the graph's layout.

        Raises InputError for names and shapes that do not fit.
        """
        new = dict(self.weights)
        for name, given in contents.items():
            if name not in new:
                self.named(name)
            array = np.array(given, np.float32)
            if array.shape != new[name].shape:
                raise InputError(
                    f"weight {name!r} is f32{list(new[name].shape)}, not {list(array.shape)}"
                )
            array.flags.writeable = False
            new[name] = array
        return replace(self, weights=MappingProxyType(new))

    def with_constants(self) -> Graph:
        """The graph with the weights as constants again."""
        known = {id(self.graph.inputs[n]): const(array, n) for n, array in self.weights.items()}
        outputs = substitute(self.graph.outputs.values(), known)
        name, state = self.graph.name, self.graph.state
        return Graph(self.data, dict(zip(self.graph.outputs, outputs)), name, state)

    def model(self, *, threads: int | None = None, **options: Any) -> Model:
        """The network as a model, with what its weights are now. options: of `brim.compile`."""
        return compile(self.with_constants(), threads=threads, **options)


def network(
    source: str | PathLike[str] | bytes | Graph | Model | Any,
    *,
    shapes: Shapes | None = None,
    signature: str = "",
) -> Network:
    """A model whose weights can be trained: all its float constants that have axes.

    source: an ONNX or TFLite file or its bytes, a ModelProto, a graph, or a model that was loaded
    from one of these. shapes: input name -> shape, the batch first, where it is open. Weights have
    the names of the file. Raises InputError and ModelError as `brim.load` does, UnsupportedError
    for quantized models and such that remember.
    """
    if isinstance(source, Model):
        source, known = source.origin
        signature = signature or known
    if isinstance(source, (str, PathLike)):
        source = Path(source)
        if source.suffix in (".graph", ".txt"):
            source = graph_file(source)
    if isinstance(source, Graph):
        graph, arrays, narrow = _opened(source)
    else:
        found = Weights()
        parsed = front_end(source).read(source, signature=signature)
        sizes = {name: tuple(shape) for name, shape in (shapes or {}).items()}
        graph = front_end(source).import_model(parsed, sizes, weights=found)
        arrays, narrow = found.arrays, found.narrow
    if narrow:
        raise UnsupportedError(
            f"{len(narrow)} constants are of 16 bits or less, such as {narrow[0]!r}",
            why="steps of training are too small for them",
            where=graph.name,
            hint="train the float model that this one was made of",
        )
    if graph.state:
        raise UnsupportedError(
            f"the model remembers {sorted(graph.state)} from run to run", where=graph.name
        )
    graph, sources = moved(layout(simplify(graph)), arrays)
    weights = {name: sources[name].inward(array) for name, array in arrays.items()}
    for array in weights.values():
        array.flags.writeable = False
    endless = frozenset(name for name, a in weights.items() if not np.isfinite(a).all())  # masks
    return Network(graph, MappingProxyType(weights), MappingProxyType(sources), endless)


def _opened(graph: Graph) -> tuple[Graph, dict[str, np.ndarray], list[str]]:
    """A graph with its weights as inputs, what they hold, and names of constants too narrow."""
    found = Weights()
    replace: dict[int, Value] = {}
    for value in graph.values():
        if value.data is not None:
            made = found.value(value.data, value.where)
            if not made.is_const:
                replace[id(value)] = made
    outputs = dict(zip(graph.outputs, substitute(graph.outputs.values(), replace)))
    changed = Graph(graph.inputs, outputs, graph.name, graph.state)
    return found.settled(changed), found.arrays, found.narrow
