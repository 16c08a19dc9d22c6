"""A network to be trained: an imported model whose weights are inputs of its graph.

    net = brim.train.network("model.onnx", shapes={"x": (32, 3, 224, 224)})
    net = net.freeze("features.*")
    ...
    model = net.model()

It is plain data; every change gives another network. How it is trained is told in `step` and `fit`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property
from os import PathLike
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from brim.errors import InputError, UnsupportedError
from brim.graph import Graph, Value, const, substitute, users
from brim.model import Model, compile
from brim.passes.layout import layout
from brim.passes.simplify import simplify
from brim.passes.straight_through import straight_through
from brim.passes.training import dropout_before_moves, statistics
from brim.train.imported import Shapes, imported
from brim.train.weights import Source, label, moved

if TYPE_CHECKING:
    from brim.train.layers import Layers

Head = Callable[["Layers", Value], Value]


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
        """Running statistics of batch norms, which follow the batches; without frozen ones."""
        return (frozenset(statistics(self.graph)) & self.weights.keys()) - self.frozen

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
        """The weights by name, in the layout of the file; without such that no file has."""
        known = {name: array for name, array in self.weights.items() if name in self.sources}
        return {name: self.sources[name].outward(array) for name, array in known.items()}

    def freeze(self, *patterns: str) -> Network:
        """With these weights as they are, and batch norms of these statistics in evaluation form.

        patterns: as in file names, "backbone.*", of weights or of the nodes that read them. Raises
        InputError where one fits no weight.
        """
        return replace(self, frozen=self.frozen | self.named(*patterns))

    def unfreeze(self, *patterns: str) -> Network:
        """With these weights trained again. Raises InputError where a pattern fits no weight."""
        return replace(self, frozen=self.frozen - self.named(*patterns))

    def named(self, *patterns: str) -> frozenset[str]:
        """The names that fit a pattern, or are read by nodes whose names do.

        Exporters often invent names for weights, such as "onnx::Conv_123", but not for nodes.
        Raises InputError where a pattern fits none.
        """
        found: set[str] = set()
        for pattern in patterns:
            fits = {
                weight
                for weight, names in self._names.items()
                if any(fnmatchcase(name, pattern) for name in names)
            }
            if not fits:
                known = sorted(set().union(*self._names.values()))
                near = difflib.get_close_matches(pattern, known, 3, 0.3)
                raise InputError(
                    f"no weight is named {pattern!r}",
                    where=self.graph.name,
                    hint=f"similar: {', '.join(near or list(self.weights)[:3])}",
                )
            found |= fits
        return frozenset(found)

    @cached_property
    def _names(self) -> dict[str, set[str]]:
        """What each weight is called: its name, and those of the nodes that read it."""
        readers = users(self.graph)
        return {
            name: {name, *map(label, readers.get(id(self.graph.inputs[name]), ()))}
            for name in self.weights
        }

    def with_file_weights(self, contents: Mapping[str, np.ndarray]) -> Network:
        """As `with_weights`, in the layouts of the file. Raises InputError."""
        moved = {}
        for name, array in contents.items():
            source = self.sources.get(name)
            if source is None:
                self.named(name)
                raise InputError(f"no file holds the weight {name!r}", hint="use with_weights")
            if np.shape(array) != source.shape:
                raise InputError(
                    f"weight {name!r} is {list(source.shape)} in its file, not {[*np.shape(array)]}"
                )
            moved[name] = source.inward(np.asarray(array))
        return self.with_weights(moved)

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

    def replace(self, head: int | Head, *, at: str = "", seed: int = 0) -> Network:
        """With a new head, whose result is the only output.

        head: outputs of one fully connected layer "head"; or a function (layers, value) -> value
        that writes other layers, see `Layers`. at: the name of the node or tensor whose result the
        head reads, channels last; by default what the last fully connected layer read. seed: of the
        new weights. Raises InputError where there is no such place.
        """
        from brim.train.head import replaced

        return replaced(self, head, at, seed)

    def adapted(
        self, *patterns: str, rank: int, alpha: float | None = None, seed: int = 0
    ) -> Network:
        """With adapters (LoRA) beside matrices whose names, or whose nodes', fit; all else frozen.

        Matrices are those of products with data, and 1x1 convolutions. rank: of what is added to
        them, times alpha / rank (default: 1). seed: of the new weights "NAME.lora_a"; those of
        "NAME.lora_b" are 0. Raises InputError where nothing can be adapted.
        """
        from brim.train.adapters import adapted

        return adapted(self, patterns, rank, rank if alpha is None else alpha, seed)

    def merged(self) -> Network:
        """With what adapters add in the weights beside which they are, and no adapters."""
        from brim.train.adapters import merged

        return merged(self)

    def with_constants(self) -> Graph:
        """The graph with the weights as constants again, adapters merged into them."""
        whole = self.merged()
        known = {id(whole.graph.inputs[n]): const(array, n) for n, array in whole.weights.items()}
        outputs = substitute(whole.graph.outputs.values(), known)
        return Graph(self.data, dict(zip(self.graph.outputs, outputs)), self.graph.name)

    def model(self, *, threads: int | None = None, **options: Any) -> Model:
        """The network as a model, with what its weights are now. options: of `brim.compile`."""
        return compile(self.with_constants(), threads=threads, **options)


def network(
    source: str | PathLike[str] | bytes | Graph | Model | Any,
    *,
    shapes: Shapes | None = None,
    batch: int | None = None,
    signature: str = "",
) -> Network:
    """A model whose weights can be trained: all its float constants that have axes.

    source: an ONNX or TFLite file or its bytes, a ModelProto, a graph, a `.brim` artifact (whose
    norms are folded, and whose weights have the names of their layers), or a model that was loaded
    from one of these. shapes: input name -> shape, samples first, where it is open. batch: how many
    samples all inputs have whose first axis is open or 1; in a file made for one sample, too, if no
    sample sees another. signature: which of a TFLite model's.

    Weights have the names of the file. Frozen are masks, and what ONNX's `Constant` nodes give
    where there are initializers. Floats that the file quantizes and dequantizes, as quantization-
    aware training leaves them, stay rounded, and slopes pass straight through; their scales are
    constants. Raises InputError and ModelError as `brim.load` does, UnsupportedError for models
    that hold integers for weights, and for such that remember.
    """
    graph, found = imported(source, shapes or {}, batch, signature)
    if names := [value.where for value in found.narrow.values()]:
        raise UnsupportedError(
            f"{len(names)} constants are of 16 bits or less, such as {names[0]!r}",
            why="steps of training are too small for them",
            where=graph.name,
            hint="train the float model that this one was made of",
        )
    if graph.state:
        raise UnsupportedError(
            f"the model remembers {sorted(graph.state)} from run to run", where=graph.name
        )
    graph = straight_through(graph, found.arrays)
    arrays = {name: array for name, array in found.arrays.items() if name in graph.inputs}
    graph = layout(dropout_before_moves(simplify(graph)), arrays)
    graph, sources = moved(simplify(graph), arrays)
    weights = {name: sources[name].inward(array) for name, array in arrays.items()}
    for array in weights.values():
        array.flags.writeable = False
    fixed = {name for name, array in weights.items() if not np.isfinite(array).all()}  # masks
    if found.literals < weights.keys():  # else the file writes all of its weights so
        fixed |= found.literals
    known = frozenset(fixed & weights.keys())
    return Network(graph, MappingProxyType(weights), MappingProxyType(sources), known)
