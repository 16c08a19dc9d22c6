"""Files, models and graphs for training: each as a graph whose weights are inputs.

A file that was made for one sample is imported for more. What a network is, is `network`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from brim.errors import BrimError, InputError, UnsupportedError
from brim.frontends.weights import Weights
from brim.graph import Graph, Value, substitute
from brim.model import Model
from brim.passes.batch import check_samples
from brim.runtime.artifact import Artifact, open_artifact
from brim.runtime.container import MAGIC
from brim.sources import front_end, graph_file
from brim.types import Type

Shapes = Mapping[str, Sequence[int]]


def imported(
    source: Any, shapes: Shapes, batch: int | None, signature: str
) -> tuple[Graph, Weights]:
    """The graph of what `network` takes, and its weights, which are inputs after the others."""
    if isinstance(source, Model):
        source, known = source.origin
        signature = signature or known
    if isinstance(source, (str, PathLike)):
        source = Path(source)
        if source.suffix in (".graph", ".txt"):
            source = graph_file(source)
        elif source.suffix == ".brim":
            source = open_artifact(source)
    elif isinstance(source, bytes) and source.startswith(MAGIC):
        source = open_artifact(source)
    if isinstance(source, Artifact):
        source = _only_graph(source)
    if not isinstance(source, Graph):
        return _of_file(source, shapes, batch, signature)
    if shapes or batch is not None:
        raise InputError(
            f"a graph has the shapes that it was built for: {source.name}",
            hint="build it for this batch, or give the file it was made of",
        )
    return _of_graph(source)


def _only_graph(artifact: Artifact) -> Graph:
    """What an artifact computes. Raises InputError where it does so for several shapes."""
    programs = artifact.programs_of("")
    if len(programs) != 1:
        raise InputError(
            f"the artifact was made for {len(programs)} shapes, and a network has one",
            where=artifact.where,
            hint="train the file that it was made of",
        )
    return programs[0].graph


def _of_file(
    source: Any, shapes: Shapes, batch: int | None, signature: str
) -> tuple[Graph, Weights]:
    format = front_end(source)
    parsed = format.read(source, signature=signature)
    sizes = {name: tuple(shape) for name, shape in shapes.items()}
    if batch is not None:
        sizes = {**_with_batch(parsed.inputs, parsed.usual_shapes, batch), **sizes}
    fixed = [
        name
        for name, shape in sizes.items()
        if name in parsed.inputs and (parsed.inputs[name].shape or ())[:1] == (1,) != shape[:1]
    ]
    if not fixed:
        found = Weights()
        return format.import_model(parsed, sizes, weights=found), found
    found = Weights(sizes[fixed[0]][0])
    try:
        graph = format.import_model(parsed, sizes, weights=found)
    except UnsupportedError:
        raise
    except BrimError as error:
        raise InputError(
            f"the model cannot take {found.batch} samples at once: {error.what}",
            why="; ".join(filter(None, ("it was made for one", error.why))),
            where=error.where,
            hint="export it with an open batch",
        ) from None
    check_samples(graph, fixed)
    return graph, found


def _with_batch(
    inputs: Mapping[str, Type], usual: Mapping[str, tuple[int, ...]], batch: int
) -> dict[str, tuple[int, ...]]:
    """Shapes with so many samples, of inputs whose first axis is open or 1."""
    found: dict[str, tuple[int, ...]] = {}
    for name, type in inputs.items():
        rest = usual.get(name, type.shape or ())[1:]
        if type.shape and (type.shape[0] == 1 or not isinstance(type.shape[0], int)):
            sizes = tuple(n for n in rest if isinstance(n, int))
            if len(sizes) == len(rest):  # else the front end says that a shape is missing
                found[name] = (batch, *sizes)
    return found


def _of_graph(graph: Graph) -> tuple[Graph, Weights]:
    found = Weights()
    replace: dict[int, Value] = {}
    for value in graph.values():
        if value.data is not None:
            made = found.value(value.data, value.where)
            if not made.is_const:
                replace[id(value)] = made
    outputs = dict(zip(graph.outputs, substitute(graph.outputs.values(), replace)))
    return found.settled(Graph(graph.inputs, outputs, graph.name, graph.state)), found
