"""Measures engines against each other on one model: alternating rounds, medians, differences.

No printing and no networks here: `compare` takes any ONNX file with constant input shapes, or a
TFLite file, and returns plain data that `bench.__main__` shows or stores.
"""

from __future__ import annotations

import math
import os
import platform
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx

from bench.peers import Arrays, NotInstalled, Peer, PeerError, load_arrays, save_arrays
from brim.runtime.cpu import processor_name

ROUND_SECONDS = 0.25  # a round repeats the model for about so long
WARM_UP_RUNS = 3
TOLERANCE = 1e-3  # largest relative difference; rounding grows from layer to layer


@dataclass
class Measured:
    """What was seen of one engine on one model; times in seconds.

    `state` is "ok", "not installed" or "failed", and `why` explains the latter two. `cold_load` is
    the first load, its caches on disk empty, `warm_load` the second in a fresh process. `rounds`
    holds the median of each round, which is `runs` runs long;
    `cores` is how many cores the process kept busy at most in one of them.
    """

    label: str
    state: str = "ok"
    why: str = ""
    version: str = ""
    cold_load: float = math.nan
    warm_load: float = math.nan
    runs: int = 0
    rounds: list[float] = field(default_factory=list)
    fastest: float = math.inf
    cores: float = 0.0
    peak_bytes: int = 0

    @property
    def median(self) -> float:
        return statistics.median(self.rounds) if self.rounds else math.nan


@dataclass(frozen=True)
class Comparison:
    """The first engine against another: time ratios (below 1: the first is faster), difference.

    `ratio` is the median over rounds of the ratio within a round, `low` and `high` its quartiles:
    the two engines of a round ran next to each other, so a busy machine slows both.
    """

    peer: str
    ratio: float
    low: float
    high: float
    difference: float

    @property
    def agrees(self) -> bool:
        return self.difference <= TOLERANCE  # NaN does not


@dataclass(frozen=True)
class Entry:
    """What starts in a race: an engine and the file that it runs, under a label of its own.

    `environment` is added to this process's, such as {"BRIM_TARGET": "x86-64-v3"}.
    """

    label: str
    engine: str
    model: Path
    environment: Mapping[str, str] = field(default_factory=dict)


def labels(engines: Sequence[str]) -> list[str]:
    """Distinct labels: a repeated engine, which shows the noise, becomes `name#2`."""
    return [
        name if (count := list(engines[:index]).count(name)) == 0 else f"{name}#{count + 1}"
        for index, name in enumerate(engines)
    ]


def compare(
    model: Path,
    engines: Sequence[str],
    threads: int = 1,
    rounds: int = 7,
    progress: Callable[[str], None] = lambda message: None,
) -> tuple[list[Measured], list[Comparison]]:
    """Times every engine on `model`; compares the first with each other one that worked.

    Inputs are drawn from N(0, 1) with a fixed seed; caches on disk begin empty. An engine that is
    missing or fails is reported in its `Measured` and the others go on.
    """
    with TemporaryDirectory(prefix="brim-bench-") as folder:
        entries = [
            Entry(label, engine, model, {"BRIM_CACHE": str(Path(folder) / f"{label}.cache")})
            for engine, label in zip(engines, labels(engines))
        ]
        return race(model.stem, entries, random_inputs(model), threads, rounds, progress)


def race(
    name: str,
    entries: Sequence[Entry],
    inputs: Arrays,
    threads: int = 1,
    rounds: int = 7,
    progress: Callable[[str], None] = lambda message: None,
) -> tuple[list[Measured], list[Comparison]]:
    """Times entries on the same inputs, as `compare` does."""
    results = [Measured(entry.label) for entry in entries]
    peers: dict[str, Peer] = {}
    outputs: dict[str, Arrays] = {}
    with TemporaryDirectory(prefix="brim-bench-") as folder, ExitStack() as stack:
        scratch = Path(folder)
        input_names = save_arrays(scratch / "inputs.npz", inputs)
        for entry, result in zip(entries, results, strict=True):
            progress(f"{name}: {result.label} loads")
            with _noted(result):
                peers[result.label] = _start(stack, entry, threads, result)
                outputs[result.label] = _outputs(
                    peers[result.label], scratch, input_names, result.label
                )
                once = min(peers[result.label].ask("time", runs=WARM_UP_RUNS)["seconds"])
                result.runs = max(1, math.ceil(ROUND_SECONDS / once))
        for index in range(rounds):
            progress(f"{name}: round {index + 1} of {rounds}")
            for result in results if index % 2 == 0 else results[::-1]:
                if result.state != "ok":
                    continue
                with _noted(result):
                    reply = peers[result.label].ask("time", runs=result.runs)
                    result.rounds.append(statistics.median(reply["seconds"]))
                    result.fastest = min(result.fastest, *reply["seconds"])
                    result.cores = max(result.cores, reply["cores"])
        for result in results:
            if result.state == "ok":
                with _noted(result):
                    result.peak_bytes = peers[result.label].ask("memory")["peak_bytes"]
    return results, _comparisons(results, outputs)


def random_inputs(model: Path) -> Arrays:
    """Seeded inputs of `model`: of an ONNX file float32 (ValueError for another type or an open
    shape), of a TFLite file floats from 0 to 1 and integers of all sizes."""
    if model.suffix == ".tflite":
        return _tflite_inputs(model)
    graph = onnx.load(model, load_external_data=False).graph
    weights = {weight.name for weight in graph.initializer}
    random = np.random.default_rng(1)
    arrays = {}
    for value in graph.input:
        if value.name in weights:
            continue
        tensor = value.type.tensor_type
        shape = [dimension.dim_value for dimension in tensor.shape.dim]
        if tensor.elem_type != onnx.TensorProto.FLOAT or 0 in shape:
            raise ValueError(f"{model}: input {value.name} is not float32 of a constant shape")
        arrays[value.name] = random.standard_normal(shape, np.float32)
    return arrays


def _tflite_inputs(model: Path) -> Arrays:
    from brim.frontends.tflite import read

    parsed, random = read(model), np.random.default_rng(1)
    arrays = {}
    for name, type in parsed.inputs.items():
        shape, dtype = parsed.usual_shapes[name], type.dtype.numpy
        if dtype.kind == "f":
            arrays[name] = random.random(shape, np.float32).astype(dtype)
        else:
            limits = np.iinfo(dtype)
            arrays[name] = random.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    return arrays


def difference(outputs: Arrays, reference: Arrays) -> float:
    """Largest |a - b| over the largest |b|, worst output; infinity if names or shapes differ.

    Of integers, which are quantized numbers, the difference of one quantum is none.
    """
    if outputs.keys() != reference.keys():
        return math.inf
    worst = [0.0]
    for name, b in reference.items():
        a = outputs[name]
        if a.shape != b.shape:
            return math.inf
        exact = 1.0 if b.dtype.kind in "iu" else 0.0
        a, b = a.astype(np.float64), b.astype(np.float64)
        most = max(float(np.max(np.abs(a - b))) - exact, 0.0)
        worst.append(most / max(float(np.max(np.abs(b))), 1e-30))
    return float(np.max(worst))  # unlike max(), it keeps a NaN


def machine() -> dict[str, object]:
    """What the figures were measured on: processor, cores usable, load before, versions."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": processor_name(),
        "cores": usable,
        "load_before": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


@contextmanager
def _noted(result: Measured) -> Iterator[None]:
    """Turns an engine's failure into its row of the report."""
    try:
        yield
    except PeerError as error:
        result.state = "not installed" if isinstance(error, NotInstalled) else "failed"
        result.why = str(error)


def _start(stack: ExitStack, entry: Entry, threads: int, result: Measured) -> Peer:
    """A child that has loaded the model, after a first child that did."""
    load = {"model": str(entry.model), "threads": threads}
    with Peer(entry.engine, entry.environment) as first:
        result.cold_load = first.ask("load", **load)["seconds"]
    peer = stack.enter_context(Peer(entry.engine, entry.environment))
    reply = peer.ask("load", **load)
    result.warm_load, result.version = reply["seconds"], reply["version"]
    return peer


def _outputs(peer: Peer, scratch: Path, input_names: list[str], label: str) -> Arrays:
    inputs, outputs = scratch / "inputs.npz", scratch / f"{label}.npz"
    reply = peer.ask("run", inputs=str(inputs), names=input_names, outputs=str(outputs))
    return load_arrays(outputs, reply["names"])


def _comparisons(results: Sequence[Measured], outputs: dict[str, Arrays]) -> list[Comparison]:
    first, *others = results
    comparisons = []
    for other in others:
        if first.state != "ok" or other.state != "ok":
            continue
        ratios = [a / b for a, b in zip(first.rounds, other.rounds, strict=True)]
        low, ratio, high = np.quantile(ratios, (0.25, 0.5, 0.75)).tolist()
        delta = difference(outputs[first.label], outputs[other.label])
        comparisons.append(Comparison(other.label, ratio, low, high, delta))
    return comparisons
