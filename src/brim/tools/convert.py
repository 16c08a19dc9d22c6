"""Makes a .brim artifact and proves it: loaded again, it must compute what its source computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import brim
from brim.errors import BrimError, UnsupportedError
from brim.files import written
from brim.graph import evaluate, visible
from brim.model import Model
from brim.runtime.artifact import open_artifact
from brim.tools.destinations import check_destinations
from brim.tools.in_double import evaluate_in_double
from brim.tools.judge import (
    TOLERANCE,
    differences,
    has_quantized_activations,
    is_amplified_rounding,
)
from brim.tools.litert import has_litert
from brim.tools.opened import open_model
from brim.tools.peers import Arrays, has_onnxruntime, run_litert, run_onnxruntime
from brim.types import Type


@dataclass(frozen=True)
class Converted:
    """What was checked: the reference's name, the difference per output; size of the artifact.

    unproven: why the native code itself could not be run here; '' if it was. amplified: the
    inputs amplify rounding, so the outputs were judged against the same model in f64.
    """

    reference: str
    differences: dict[str, float]
    bytes: int
    unproven: str
    amplified: bool


def convert_file(
    source: Path,
    destination: Path,
    feeds: Callable[[Model], Arrays],
    shapes: Mapping[str, Sequence[int]] | None = None,
    target: str | None = None,
    threads: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    signature: str = "",
) -> Converted:
    """Compiles `source`, saves it as `destination` and compares the two.

    feeds: gives the inputs to compare on, once the model is loaded; they go into the artifact as
    the sample of its self-test. Code for another processor is not run: its graph and weights,
    compiled here, are compared instead. What a model remembers is as before its first run.
    Raises BrimError, and leaves no file behind, where an output differs by more than TOLERANCE,
    unless both are equally far from the model computed in f64.
    """
    check_destinations(destination)
    model = brim.load(
        source,
        threads=threads,
        shapes=shapes,
        target=target,
        progress=progress,
        signature=signature,
    )
    _need_arrays(model.inputs)
    arrays = feeds(model)
    model.compile({name: array.shape for name, array in arrays.items()})
    _need_arrays(model.outputs)
    with written(destination) as temporary:
        model.save(temporary, [arrays])
        artifact = open_artifact(temporary)
        unproven = artifact.why_not(artifact.programs[0], trust=True)
        outputs = brim.load(temporary, threads=threads, trust=True).run(arrays)
        reference, wanted = _reference(source, arrays, signature)
        apart = differences(outputs, wanted)
        wrong = {name: value for name, value in apart.items() if not value <= TOLERANCE}
        amplified = bool(wrong) and _is_rounding(source, arrays, signature, outputs, wanted)
        if wrong and not amplified:
            listed = ", ".join(f"{name} by {value:.1e}" for name, value in wrong.items())
            raise BrimError(
                f"{source} and its compiled form differ: {listed}",
                why=f"{reference} computes other values; more than {TOLERANCE:.0e} is not accepted",
                hint="nothing was written. Random inputs may be unlike real ones: compare on real "
                "ones with --input NAME=FILE.npy. If those differ as well, please report it; "
                f"brim compare {source} {_COMPUTED[reference]} finds the layer",
            )
    return Converted(reference, apart, destination.stat().st_size, unproven, amplified)


def _need_arrays(types: Mapping[str, Type]) -> None:
    for name, type in types.items():
        if type.dtype.kind == "o":
            raise UnsupportedError(
                f"{name!r} is {type}, and only arrays can be compared and kept as a sample",
                hint="save it from Python, without a comparison: brim.load(...).save(...)",
            )


def _is_rounding(
    source: Path, feeds: Arrays, signature: str, outputs: Arrays, wanted: Arrays
) -> bool:
    """Whether a difference is rounding that the model amplifies, and brim's share no larger."""
    if any(array.dtype != np.float32 for array in wanted.values()):
        return False
    exact = evaluate_in_double(open_model(source, signature).graph(_shapes(feeds)), feeds)
    return is_amplified_rounding(outputs, wanted, exact)


_COMPUTED = {
    "onnxruntime": "@onnxruntime",
    "LiteRT": "@litert",
    "brim's interpreter": "@interpreter",
}  # how `brim compare` calls the references


def _reference(source: Path, feeds: Arrays, signature: str) -> tuple[str, Arrays]:
    if source.suffix.lower() == ".onnx" and has_onnxruntime():
        return "onnxruntime", run_onnxruntime(source, feeds)[0]
    # LiteRT and brim round quantized numbers apart by one here and there, which later layers see;
    # the interpreter computes the very integers that the compiled code must have
    floats = source.suffix.lower() == ".tflite" and not has_quantized_activations(source)
    if floats and has_litert():
        return "LiteRT", run_litert(source, feeds, signature)[0]
    graph = open_model(source, signature).graph(_shapes(feeds))
    return "brim's interpreter", visible(evaluate(graph, feeds), graph.state)


def _shapes(feeds: Arrays) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in feeds.items()}
