"""An ONNX model as plain, immutable data: what the file says, before any operator is understood.

Nothing here knows protobuf (that is `reader`) or brim's operators (that is `importer`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from brim.types import Type


@dataclass(frozen=True)
class Reference:
    """An attribute of a function's node that takes its value from the function's caller."""

    name: str


@dataclass(frozen=True, eq=False)
class Node:
    """One node. Attributes hold int, float, str, tuples of them, ndarray, Type or Subgraph.

    Empty names among inputs and outputs stand for what is left out.
    """

    op: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    overload: str = ""  # which of several functions of one name is called

    def __str__(self) -> str:
        return f"{self.name or (self.outputs[0] if self.outputs else '')} ({self.op})"


@dataclass(frozen=True, eq=False)
class Subgraph:
    """A graph: the main one, a branch or a loop's body. Types are None where the file has none."""

    name: str
    inputs: Mapping[str, Type | None]
    outputs: Mapping[str, Type | None]
    nodes: tuple[Node, ...]
    initializers: Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Function:
    """A function that the model defines itself; nodes call it like an operator."""

    name: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]  # name -> default, or None where a caller must give one
    nodes: tuple[Node, ...]
    opsets: Mapping[str, int]
    overload: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """What nodes call it by."""
        return self.domain, self.name, self.overload


@dataclass(frozen=True, eq=False)
class OnnxModel:
    """A parsed model. `inputs` are those that a caller must give; symbolic dimensions are Dims."""

    name: str
    inputs: Mapping[str, Type]
    outputs: Mapping[str, Type | None]
    graph: Subgraph
    functions: Mapping[tuple[str, str, str], Function]
    opsets: Mapping[str, int]
    metadata: Mapping[str, str] = field(default_factory=dict)
    size: int = 0  # bytes of the file and its external data: what the importer's limits scale with
    external: tuple[str, ...] = ()  # files beside the model that hold data of it

    @property
    def usual_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """What open dimensions are unless a caller says otherwise: ONNX does not tell."""
        return {}

    @property
    def initializers(self) -> Mapping[str, np.ndarray]:
        return self.graph.initializers
