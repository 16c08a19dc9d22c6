"""LiteRT, TFLite's own runtime, as a peer: one model, ready to run. Nothing is compared here."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence

import numpy as np

Arrays = dict[str, np.ndarray]


def has_litert() -> bool:
    """Whether LiteRT is installed; it is not imported."""
    return importlib.util.find_spec("ai_edge_litert") is not None


class LiteRt:
    """A TFLite file in LiteRT on the CPU with its default kernels, XNNPACK's where it has some.

    Inputs and outputs have the names that brim gives them: those of the first signature.
    """

    module, reads = "ai_edge_litert", ".tflite"

    def __init__(
        self, model: str, threads: int, shapes: Mapping[str, Sequence[int]] | None = None
    ) -> None:
        from importlib.metadata import version

        from ai_edge_litert.interpreter import Interpreter

        from brim.frontends.tflite import read

        self.version = version("ai-edge-litert")
        signature = read(model).signature
        self._engine = Interpreter(model_path=model, num_threads=threads)
        self._signature = (
            self._engine.get_signature_runner(signature.key) if signature.subgraph else None
        )
        self._inputs = dict(signature.inputs)
        self._outputs = dict(signature.outputs)
        if self._signature is None:
            for name, shape in (shapes or {}).items():
                self._engine.resize_tensor_input(self._inputs[name], list(shape))
            self._engine.allocate_tensors()

    def run(self, feeds: Mapping[str, np.ndarray]) -> Arrays:
        """The outputs for arrays by name; texts as in brim. The arrays are the caller's own."""
        given = {name: _bytes(array) for name, array in feeds.items()}
        if self._signature is not None:
            found = self._signature(**given)
            return {name: _texts(found[name]) for name in self._outputs}
        ports = {port["index"]: port for port in self._engine.get_input_details()}
        for name, array in given.items():
            index = self._inputs[name]
            if tuple(ports[index]["shape"]) != array.shape:
                self._engine.resize_tensor_input(index, list(array.shape))
                self._engine.allocate_tensors()
        for name, array in given.items():
            self._engine.set_tensor(self._inputs[name], array)
        self._engine.invoke()
        return {
            name: _texts(self._engine.get_tensor(index)) for name, index in self._outputs.items()
        }


def _bytes(array: np.ndarray) -> np.ndarray:
    if array.dtype != object:
        return array
    return np.array([str(text).encode() for text in array.flat], object).reshape(array.shape)


def _texts(array: np.ndarray) -> np.ndarray:
    if array.dtype != object:
        return array
    texts = [text.decode("utf-8", "replace") for text in array.flat]
    return np.array(texts, object).reshape(array.shape)
