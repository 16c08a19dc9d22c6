"""Kits whose networks LiteRT runs: what surrounds a network is interpreted, nothing is compiled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from brim.graph import Graph, Op, evaluate, placeholder
from brim.ops import primitive
from brim.ops.registry import emit
from brim.sources import Around
from brim.types import F32, Type


class LiteRTModel:
    """Stands for the model that `load_around` gives."""

    def __init__(self, path: Path, around: Around, threads: int | None = None) -> None:
        self._graph = around.change(network(path))

    def run(self, feeds: Mapping[str, Any]) -> dict[str, np.ndarray]:
        return evaluate(self._graph, feeds)


def network(path: Path) -> Graph:
    """A graph of one operator, which calls LiteRT; its outputs come in the file's order."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    (taken,) = interpreter.get_input_details()
    given = interpreter.get_output_details()

    def call(x: np.ndarray) -> tuple[np.ndarray, ...]:
        interpreter.set_tensor(taken["index"], x)
        interpreter.invoke()
        return tuple(interpreter.get_tensor(each["index"]) for each in given)

    types = tuple(Type(tuple(map(int, each["shape"])), F32) for each in given)
    op = Op("litert", "host", lambda x: types, call, "LiteRT's results")
    x = placeholder(Type(tuple(map(int, taken["shape"])), F32))
    results = emit(op, x)
    outputs = [primitive.item(results, index=n) for n in range(len(given))]
    return Graph({"x": x}, {f"y{n}": each for n, each in enumerate(outputs)}, path.name)
