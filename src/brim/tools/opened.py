"""A model file before anything is compiled: what it takes, and its graph as it says it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from brim.errors import InputError, ModelError
from brim.graph import Graph, visible
from brim.runtime.artifact import Artifact, open_artifact
from brim.sources import Shapes, front_end, graph_file
from brim.types import Type


@dataclass(frozen=True, eq=False)
class Opened:
    """inputs: name -> Type. usual: shapes of open ones where a caller names none. graph: for shapes
    of all inputs, before any pass; of an artifact what it holds, which has been through them all.
    parsed: the front end's model of a file; None of artifacts and graphs. Raises BrimError."""

    path: Path
    inputs: Mapping[str, Type]
    usual: Shapes
    graph: Callable[[Shapes], Graph] = field(repr=False)
    parsed: Any = None

    @property
    def is_artifact(self) -> bool:
        """Whether it is compiled already: a `.brim` file."""
        return self.path.suffix.lower() == ".brim"


def open_model(path: Path, signature: str = "") -> Opened:
    """Reads a model file of any kind that brim reads. Raises BrimError."""
    if not path.is_file():
        raise ModelError(f"there is no file {path}", hint="check the path")
    match path.suffix.lower():
        case ".brim":
            artifact = open_artifact(path)
            usual = artifact.programs[0].shapes
            return Opened(path, artifact.signatures[""][0], usual, lambda s: _held(artifact, s))
        case ".graph" | ".txt":
            graph = graph_file(path)
            inputs = {n: v.type for n, v in visible(graph.inputs, graph.state).items()}
            return Opened(path, inputs, {}, lambda shapes: graph)
    module = front_end(path)
    model = module.read(path, signature=signature)
    return Opened(
        path,
        model.inputs,
        model.usual_shapes,
        lambda shapes: module.import_model(model, shapes),
        model,
    )


def _held(artifact: Artifact, shapes: Shapes) -> Graph:
    program = artifact.find(shapes)
    if program is None:
        raise InputError(
            f"{artifact.where} holds no program for these shapes", why=str(dict(shapes))
        )
    return program.graph
