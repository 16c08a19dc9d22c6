"""One side of a comparison: a model file and what computes it, such as "net.onnx@onnxruntime".

Every side has a graph that says which values there are and what they are computed of; it gives the
model's outputs as its users get them, and on request values inside. Compiled models are looked at
where their kernels leave values anyway, so that looking changes no kernel; see docs/why/033.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import brim
from brim import compiler
from brim.divergence import Results, interpreted, probed, results
from brim.errors import InputError
from brim.graph import Graph, Value, evaluate, visible
from brim.runtime.cpu import required_features, why_not_here
from brim.search.choice import by_times
from brim.search.variants import settle
from brim.seeds import one_run
from brim.targets.target import TARGETS, find_target
from brim.tools.in_double import in_double, widened
from brim.tools.judge import quantized_outputs
from brim.tools.litert import has_litert
from brim.tools.opened import Opened
from brim.tools.peers import Arrays, has_onnxruntime, run_litert, run_onnxruntime

AT_ONCE = 1 << 28  # bytes of values that a side keeps to be looked at; beyond, it runs again
ENGINES = {
    "onnxruntime": "ONNX's own runtime",
    "litert": "TFLite's own runtime",
    "interpreter": "brim's operators in numpy, without any pass",
    "f64": "the same, all f32 arithmetic done in f64",
    "exact": "compiled, without variants that round differently",
}

Inside = Callable[[Sequence[Value]], Iterator[tuple[int, Any]]]


@dataclass(frozen=True, eq=False)
class Side:
    """A model on its inputs. name: for people. graph: its values. results: layer -> those that can
    be looked at. outputs: what callers get. inside: values out of `results` -> number and content,
    in order of computation. quantized: outputs whose integers stand for numbers."""

    name: str
    graph: Graph
    results: Results[Value]
    outputs: Callable[[], Mapping[str, Any]]
    inside: Inside
    quantized: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Asked:
    """A side as the user wrote it: a file, and what computes it ("": compiled for this machine)."""

    path: Path
    by: str = ""

    def __str__(self) -> str:
        return f"{self.path.name}@{self.by}" if self.by else self.path.name


def asked(text: str, other: Path | None = None) -> Asked:
    """Reads FILE, FILE@BY or @BY, which is about the file `other`. Raises InputError."""
    path, at, by = text.rpartition("@")
    if not at or Path(text).is_file():
        return Asked(Path(text))
    if not path and other is None:
        raise InputError(f"{text!r} names no file", hint="only the second model may be the same")
    known = [*ENGINES, "host", *TARGETS, *_stages()]
    if by not in known:
        raise InputError(
            f"nothing that computes models is called {by!r}",
            hint=f"a runtime: {', '.join(ENGINES)}; a target: {', '.join(['host', *TARGETS])}; or "
            f"the graph after a pass: {', '.join(stage_names())}",
        )
    return Asked(Path(path) if path else other or Path(), by)


def stage_names() -> list[str]:
    """The names that dumps have: 00_import, then a number and a name for every pass."""
    passes = [name for name, _ in compiler.PIPELINE]
    return [f"{number:02d}_{name}" for number, name in enumerate(["import", *passes, "settle"])]


def _stages() -> dict[str, int]:
    """Stage, with its number or without -> how many passes have run."""
    names = {name: number for number, name in enumerate(stage_names())}
    return names | {name.partition("_")[2]: number for name, number in names.items()}


@dataclass(frozen=True, eq=False)
class Way:
    """What is asked for on an opened model: inputs by its names, the signature of a TFLite file."""

    of: Asked
    model: Opened
    feeds: Arrays
    signature: str = ""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: array.shape for name, array in self.feeds.items()}

    @property
    def is_compiled(self) -> bool:
        return self.of.by in ("", "host", "exact", *TARGETS)


def side(way: Way) -> Side:
    """The side, ready to run. Raises BrimError."""
    match way.of.by:
        case "onnxruntime" | "litert":
            return _peer(way)
        case "interpreter":
            return _interpreted(way, way.model.graph(way.shapes))
        case "f64":
            graph = in_double(way.model.graph(way.shapes))
            return _interpreted(replace(way, feeds=widened(way.feeds)), graph)
    return _compiled(way) if way.is_compiled else _interpreted(way, _after_passes(way))


# ------------------------------------------------------------------ interpreted


def _after_passes(way: Way) -> Graph:
    count, path = _stages()[way.of.by], way.of.path
    if way.model.is_artifact and count < len(compiler.PIPELINE):
        raise InputError(
            f"{path.name} holds the graph after all passes, none from between",
            hint=f"compare {path.name}@settle, or stages of the file that it was made of",
        )
    graph = way.model.graph(way.shapes)
    if not way.model.is_artifact:
        for _, run in compiler.PIPELINE[:count]:
            graph = run(graph)
    return settle(graph, by_times(find_target("host"))) if count > len(compiler.PIPELINE) else graph


def _interpreted(way: Way, graph: Graph) -> Side:
    def outputs() -> Mapping[str, Any]:
        with one_run(seed=0):
            return visible(evaluate(graph, way.feeds), graph.state)

    def inside(values: Sequence[Value]) -> Iterator[tuple[int, Any]]:
        with one_run(seed=0):
            yield from interpreted(graph, values, way.feeds)

    return Side(str(way.of), graph, results(graph), outputs, inside, _quantized(way))


def _quantized(way: Way) -> frozenset[str]:
    return quantized_outputs(way.of.path) if way.model.parsed is not None else frozenset()


# ------------------------------------------------------------------ compiled


def _compiled(way: Way) -> Side:
    target, exact = way.of.by if way.of.by in TARGETS else "host", way.of.by == "exact"
    row = find_target(target)
    if target != "host" and (reason := why_not_here(row.triple, required_features(row))):
        raise InputError(
            f"code for {target} cannot be run here",
            why=reason,
            hint="the graph that it is made of can be interpreted: compare stages, such as @settle",
        )
    model = brim.load(
        way.of.path, shapes=way.shapes, target=target, exact=exact, signature=way.signature
    )
    settled = settle(model.graph, by_times(row), exact)

    def outputs() -> Mapping[str, Any]:
        with one_run(seed=0):
            return model.run(way.feeds)

    def inside(values: Sequence[Value]) -> Iterator[tuple[int, Any]]:
        watched, names = probed(settled, values)
        made = compiler.compile_graph(watched, target, optimised=True, exact=exact)
        with one_run(seed=0):
            found = compiler.load_program(made, model.threads).run({**settled.state, **way.feeds})
        yield from enumerate(found[name] for name in names)

    stored = {id(value) for value in compiler.stored_values(settled)}
    kept = results(settled, stored)
    return Side(str(way.of), settled, kept, outputs, partial(_by_parts, inside), _quantized(way))


def _by_parts(inside: Inside, values: Sequence[Value]) -> Iterator[tuple[int, Any]]:
    """What `inside` gives, never asked for more than AT_ONCE bytes at a time."""
    start = 0
    while start < len(values):
        stop, room = start, AT_ONCE
        while stop < len(values) and (stop == start or room >= _bytes(values[stop])):
            room -= _bytes(values[stop])
            stop += 1
        for number, array in inside(values[start:stop]):
            yield start + number, array
        start = stop


def _bytes(value: Value) -> int:
    return value.type.size * value.dtype.bytes


# ------------------------------------------------------------------ a model's own runtime


def _peer(way: Way) -> Side:
    of, is_onnx = way.of, way.of.by == "onnxruntime"
    reads, there = (".onnx", has_onnxruntime) if is_onnx else (".tflite", has_litert)
    if of.path.suffix.lower() != reads:
        raise InputError(f"{of.by} does not read {of.path.name}", hint=f"give the {reads} file")
    if not there():
        package = {"litert": "ai-edge-litert"}.get(of.by, of.by)
        raise InputError(f"{of.by} is not installed", hint=f"pip install {package}")
    run: Callable[..., tuple[Arrays, list[np.ndarray]]] = partial(run_onnxruntime, of.path)
    tensors: Mapping[str, Sequence[Any]]
    if is_onnx:
        tensors = _onnx_tensors(way.model.parsed.graph)
    else:
        run = partial(run_litert, of.path, signature=way.signature)
        tensors = _tflite_tensors(way.model.parsed)
    graph = way.model.graph(way.shapes)
    found = {
        layer: values
        for layer, values in results(graph).items()
        if len(tensors.get(layer, ())) == len(values)
    }
    keys = {id(v): key for layer, vs in found.items() for v, key in zip(vs, tensors[layer])}

    def outputs() -> Mapping[str, Any]:
        return run(way.feeds)[0]

    def inside(values: Sequence[Value]) -> Iterator[tuple[int, Any]]:
        yield from enumerate(run(way.feeds, inside=[keys[id(value)] for value in values])[1])

    return Side(str(of), graph, found, outputs, partial(_by_parts, inside), _quantized(way))


def _onnx_tensors(graph: Any) -> dict[str, list[str]]:
    """Layer -> names of the tensors that its node hands on."""
    read = {name for node in graph.nodes for name in node.inputs} | set(graph.outputs)
    found: dict[str, list[str]] = {}
    for node in graph.nodes:
        found.setdefault(str(node), []).extend(name for name in node.outputs if name in read)
    return found


def _tflite_tensors(model: Any) -> dict[str, list[int]]:
    """Layer -> numbers of the tensors that its operator hands on; of the first sub-graph only."""
    if model.signature.subgraph:
        return {}
    graph = model.main
    read = {number for operator in graph.operators for number in operator.inputs}
    read |= set(graph.outputs)
    found: dict[str, list[int]] = {}
    for operator in graph.operators:
        label = graph.tensors[operator.outputs[0]].name if operator.outputs else "without results"
        used = (number for number in operator.outputs if number in read)
        found.setdefault(f"{label} ({operator.name})", []).extend(used)
    return found
