"""What a conformance case is, and how one of a single operator is written."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from tests.tflite_models import (
    Feed,
    Graph,
    Kernels,
    Op,
    Quantization,
    Tensor,
    bfloat16,
    complete,
    constant,
    run_litert,
    write,
)

# equal: numbers within rounding, integers exactly, quantized ones within one quantum.
# random: of the same shape and type, with the same mean and spread.
Judge = Literal["equal", "random"]
LIMITS = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32767, 32767), "int4": (-8, 7)}
WORDS = [b"", b"a", b"edge", b"two words", "größer".encode(), b"x" * 40]


@dataclass(frozen=True)
class Made:
    """A model and what is fed to its runs, one after another."""

    model: bytes
    feeds: Sequence[Feed]


@dataclass(frozen=True)
class Case:
    """A model of few operators. `kind` is the operator it is about.

    `make` writes it, which takes LiteRT some milliseconds. `expected`, where LiteRT has no kernel,
    computes the outputs of a run instead of it. `kernels`: LiteRT's that are the measure; its
    own, where XNNPACK's give the same.
    """

    kind: str
    name: str
    make: Callable[[], Made]
    judge: Judge = "equal"
    expected: Callable[[Feed], Feed] | None = None
    kernels: Kernels = "plain"

    def answers(self, made: Made) -> list[Mapping[str, np.ndarray]]:
        """What the runs must give."""
        if self.expected:
            return [self.expected(feed) for feed in made.feeds]
        return list(run_litert(made.model, made.feeds, self.kernels))


def values(name: str, dtype: str, shape: Sequence[int], low: float = -3, high: float = 3) -> Any:
    """Random elements, the same for the same name: uniform, in [low, high] unless text or bool."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    match dtype:
        case "bool":
            return rng.random(shape) < 0.5
        case "string":
            return np.array(WORDS, object)[rng.integers(0, len(WORDS), shape)]
        case "float32" | "float64" | "float16":
            return rng.uniform(low, high, shape).astype(dtype)
        case "bfloat16":
            return rng.uniform(low, high, shape).astype(bfloat16)
        case "complex64" | "complex128":
            parts = rng.uniform(low, high, (2, *shape))
            return (parts[0] + 1j * parts[1]).astype(dtype)
        case "int4" | "int2":
            return rng.integers(low, high, shape, endpoint=True).astype(np.int8)
        case _:
            if dtype.startswith("u"):
                low = max(low, 0)
            return rng.integers(int(low), int(high), shape, endpoint=True).astype(dtype)


def x(dtype: str, *shape: int, q: Quantization | None = None) -> Tensor:
    """An input, or (without a shape) an output."""
    return Tensor("", dtype, shape, quantization=q)


def y(dtype: str, q: Quantization | None = None) -> Tensor:
    """An output, whose shape LiteRT finds."""
    return Tensor("", dtype, None, quantization=q)


def k(data: Any, dtype: str = "", q: Quantization | None = None) -> Tensor:
    """A constant."""
    return constant("", data, dtype, quantization=q)


def single(
    kind: str,
    name: str,
    inputs: Sequence[Tensor | None],
    outputs: Sequence[Tensor] | None = None,
    /,
    *,
    low: float = -3,
    high: float = 3,
    feeds: Sequence[Mapping[int, Any]] = ({},),
    version: int = 1,
    intermediates: Sequence[Tensor] = (),
    judge: Judge = "equal",
    others: Sequence[Graph] = (),
    kernels: Kernels = "plain",
    **options: Any,
) -> Case:
    """A case of one builtin operator with inputs x0, x1, ... and outputs y0, y1, ...

    The output is of the type of the first input unless said otherwise. Inputs are drawn from
    [low, high] (quantized ones from all values) where `feeds`, one for each run, gives none.
    `others` are further subgraphs, counted from 1.
    """
    made = [replace(t, name=f"x{i}") if t else None for i, t in enumerate(inputs)]
    if outputs is None:
        first = next(t for t in made if t)
        outputs = [y(first.dtype, first.quantization)]
    results = [replace(t, name=f"y{i}") for i, t in enumerate(outputs)]
    between = [replace(t, name=f"i{i}") for i, t in enumerate(intermediates)]
    fed = {i: t for i, t in enumerate(made) if t and t.data is None and not t.variable}
    names = " ".join(t.name if t else "_" for t in made)
    step = Op(
        kind,
        names,
        " ".join(t.name for t in results),
        options,
        version,
        intermediates=" ".join(t.name for t in between),
    )
    tensors = [*(t for t in made if t), *results, *between]

    def make() -> Made:
        drawn = [
            {
                tensor.name: np.asarray(given[i])
                if i in given
                else drawn_input(f"{kind} {name} {i} {run}", tensor, low, high)
                for i, tensor in fed.items()
            }
            for run, given in enumerate(feeds)
        ]
        inputs_ = " ".join(t.name for t in fed.values())
        graph = Graph(tensors, [step], inputs_, step.outputs)
        return Made(write(complete(graph, drawn[0], *others), *others), drawn)

    return Case(kind, name, make, judge, kernels=kernels)


def several(kind: str, name: str, graphs: Sequence[Graph], feeds: Sequence[Feed]) -> Case:
    """A case of many operators or subgraphs, whose shapes all stand in the file."""
    return Case(kind, name, lambda: Made(write(*graphs), feeds))


def drawn_input(seed: str, tensor: Tensor, low: float = -3, high: float = 3) -> np.ndarray:
    """Elements for an input: a quantized one gets all its values."""
    if tensor.quantization is not None and tensor.dtype in LIMITS:
        low, high = LIMITS[tensor.dtype]
    array: np.ndarray = values(seed, tensor.dtype, tensor.shape or (), low, high)
    return array
