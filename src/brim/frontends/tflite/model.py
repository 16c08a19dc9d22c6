"""A TFLite model as plain, immutable data: what the file says, before any operator is understood.

Nothing here knows FlatBuffers (that is `reader`) or brim's operators (that is `importer`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from brim.errors import InputError
from brim.types import Dim, DType, Type


@dataclass(frozen=True, eq=False)
class Quantization:
    """real = scale * (integer - zero): f32[n] and i64[n], n 1 or the size of `axis`."""

    scale: np.ndarray
    zero: np.ndarray
    axis: int

    @property
    def per_tensor(self) -> bool:
        return self.scale.size == 1


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of a sub-graph. dtype: None for resources, variants and complex numbers.

    signature: the shape with -1 where callers may choose. is_variable: it keeps its content from
    run to run, zeros at first.
    """

    name: str
    kind: str  # the schema's name of the element type
    dtype: DType | None
    shape: tuple[int, ...]
    signature: tuple[int, ...]
    data: np.ndarray | None
    quantization: Quantization | None
    is_variable: bool

    @property
    def type(self) -> Type:
        """With the dimensions that callers may choose as Dims. Raises AttributeError for others."""
        assert self.dtype is not None
        dims = (Dim(f"d{i}") if n < 0 else n for i, n in enumerate(self.signature))
        return Type(tuple(dims), self.dtype)


@dataclass(frozen=True, eq=False)
class Operator:
    """One operator: numbers of tensors (-1: left out), options by the schema's field names.

    custom: the bytes of a custom operator's options, None for builtin ones.
    """

    name: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    intermediates: tuple[int, ...]
    options: Mapping[str, Any]
    custom: bytes | None = None


@dataclass(frozen=True, eq=False)
class Subgraph:
    """A sub-graph: the main one, a branch, a loop's body, a composite's meaning."""

    name: str
    tensors: tuple[Tensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: tuple[Operator, ...]


@dataclass(frozen=True)
class Signature:
    """A way to call the model: names for the inputs and outputs (tensors) of a sub-graph."""

    key: str
    subgraph: int
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]


@dataclass(frozen=True, eq=False)
class TfliteModel:
    """A parsed model, seen by one of its signatures."""

    name: str
    subgraphs: tuple[Subgraph, ...]
    signatures: Mapping[str, Signature]
    signature: Signature
    metadata: Mapping[str, str]
    size: int  # bytes of the file: what the importer's limits scale with
    external: tuple[str, ...] = ()  # files beside the model that hold data of it: never any

    @property
    def main(self) -> Subgraph:
        return self.subgraphs[self.signature.subgraph]

    @cached_property
    def inputs(self) -> Mapping[str, Type]:
        return {name: self.main.tensors[i].type for name, i in self.signature.inputs.items()}

    @cached_property
    def outputs(self) -> Mapping[str, Type | None]:
        """Shapes that the file declares are those of its own example, so they are not told."""
        return dict.fromkeys(self.signature.outputs)

    @cached_property
    def usual_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """What open dimensions are unless a caller says otherwise."""
        return {name: self.main.tensors[i].shape for name, i in self.signature.inputs.items()}


def choose(signatures: Mapping[str, Signature], wanted: str, where: str) -> Signature:
    """The signature of a name; "": the first. Raises InputError."""
    if not wanted:
        return next(iter(signatures.values()))
    if wanted not in signatures:
        raise InputError(
            f"the model has no signature {wanted!r}", where=where, hint=f"it has {[*signatures]}"
        )
    return signatures[wanted]
