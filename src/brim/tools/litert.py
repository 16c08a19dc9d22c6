"""LiteRT, TFLite's own runtime, as a peer: one model, ready to run. Nothing is compared here."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from brim.frontends.tflite.model import Signature

Arrays = dict[str, np.ndarray]


def has_litert() -> bool:
    """Whether LiteRT is installed; it is not imported."""
    return importlib.util.find_spec("ai_edge_litert") is not None


class LiteRt:
    """A TFLite file in LiteRT on the CPU with its default kernels, XNNPACK's where it has some.

    Inputs and outputs have the names that brim gives them: those of a signature ("": the first).
    keep: all tensors can be read after a run; plain kernels compute them then.
    """

    module, reads = "ai_edge_litert", ".tflite"

    def __init__(
        self,
        model: Path | str,
        threads: int,
        shapes: Mapping[str, Sequence[int]] | None = None,
        signature: str = "",
        keep: bool = False,
    ) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        self._model, self._key = model, signature
        kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if keep else OpResolverType.AUTO
        self._engine = Interpreter(
            model_path=str(model),
            num_threads=threads,
            experimental_preserve_all_tensors=keep,
            experimental_op_resolver_type=kernels,
        )
        self._shapes: dict[str, tuple[int, ...]] = {}
        if shapes:
            self._resize({name: tuple(shape) for name, shape in shapes.items()})
        else:
            self._engine.allocate_tensors()

    @property
    def version(self) -> str:
        """The release that is installed."""
        return version("ai-edge-litert")

    @cached_property
    def _signature(self) -> Signature:
        """Found when it is needed first: what LiteRT takes to load is no time of brim's reader."""
        from brim.frontends.tflite import read

        return read(self._model, signature=self._key).signature

    def _resize(self, shapes: dict[str, tuple[int, ...]]) -> None:
        if self._signature.subgraph:
            return  # a signature's runner does it by itself
        for name, shape in shapes.items():
            self._engine.resize_tensor_input(self._signature.inputs[name], list(shape))
        self._engine.allocate_tensors()
        self._shapes = shapes

    def run(self, feeds: Mapping[str, np.ndarray]) -> Arrays:
        """The outputs for arrays by name; texts as in brim. The arrays are the caller's own."""
        signature, given = self._signature, {n: _bytes(array) for n, array in feeds.items()}
        if signature.subgraph:
            found = self._engine.get_signature_runner(signature.key)(**given)
            return {name: _texts(found[name]) for name in signature.outputs}
        shapes = {name: array.shape for name, array in given.items()}
        if shapes != self._shapes:
            self._resize(shapes)
        for name, array in given.items():
            self._engine.set_tensor(signature.inputs[name], array)
        self._engine.invoke()
        get = self._engine.get_tensor
        return {name: _texts(get(index)) for name, index in signature.outputs.items()}

    def tensor(self, number: int) -> np.ndarray:
        """What a tensor of the first sub-graph held in the last run; of what `keep` keeps."""
        return _texts(self._engine.get_tensor(number))


def _bytes(array: np.ndarray) -> np.ndarray:
    if array.dtype != object:
        return array
    return np.array([str(text).encode() for text in array.flat], object).reshape(array.shape)


def _texts(array: np.ndarray) -> np.ndarray:
    if array.dtype != object:
        return array
    texts = [text.decode("utf-8", "replace") for text in array.flat]
    return np.array(texts, object).reshape(array.shape)
