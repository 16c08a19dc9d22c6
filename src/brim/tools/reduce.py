"""Makes a model file small on which a command fails. Nothing is printed here."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from brim.debug import write_graph
from brim.errors import InputError
from brim.files import written
from brim.reduce import GRAPHS, ONNX, Form, reduced
from brim.reduce.command import Command, Ended, failure
from brim.reduce.testcase import graph_test, onnx_test
from brim.tools.destinations import check_destinations
from brim.tools.opened import open_model

T = TypeVar("T")


@dataclass(frozen=True)
class Reduced:
    """What became of a failing model. nodes: of the whole model and of the small one; runs: of the
    command; failure: how it ends; test: a file for pytest that runs it on the small model;
    interrupted: the search was ended early, and this is the smallest model until then."""

    destination: Path
    nodes: tuple[int, int]
    runs: int
    seconds: float
    failure: str
    test: str
    interrupted: bool


def reduce_file(
    model: Path,
    command: Command,
    destination: Path | None = None,
    expect: str = "",
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    signature: str = "",
    progress: Callable[[str, int, int], None] | None = None,
) -> Reduced:
    """Reduces a model file while `command` ends on it as on the whole one, and writes the result.

    destination: an .onnx file (default for ONNX: MODEL.small.onnx) is reduced as the file that it
    is; a .graph (default for all else) as the graph that it is imported to, which is right for what
    fails behind the front end. expect: what the command must print, too. KeyboardInterrupt ends
    the search, not the function. Raises InputError where the command does not fail at first.
    """
    if not model.is_file():
        raise InputError(f"there is no file {model}")
    is_onnx = model.suffix.lower() == ".onnx"
    default = model.with_name(f"{model.stem}.small{'.onnx' if is_onnx else '.graph'}")
    destination = destination or default
    check_destinations(destination, suffixes=(".graph", *([".onnx"] * is_onnx)))
    report = progress or (lambda stage, done, total: None)
    if destination.suffix == ".graph":
        opened = open_model(model, signature)
        graph = opened.graph({**opened.usual, **(shapes or {})})
        return _Search(GRAPHS, write_graph, graph_test, command, expect, report).run(
            graph, model, destination
        )
    return _Search(ONNX, _write_onnx, onnx_test, command, expect, report).run(
        _onnx_model(model, shapes or {}), model, destination
    )


@dataclass(frozen=True)
class _Search(Generic[T]):
    """How models of a format are reduced, written and told."""

    form: Form[T]
    write: Callable[[Path, T], None]
    test: Callable[[T, Path, str, str], str]
    command: Command
    expect: str
    progress: Callable[[str, int, int], None]

    def run(self, model: T, source: Path, destination: Path) -> Reduced:
        start, runs, best = time.perf_counter(), 0, model
        before, interrupted = self.form.nodes(model), False
        with tempfile.TemporaryDirectory(prefix="brim-reduce-") as folder:
            file = Path(folder) / f"{source.stem}{destination.suffix}"

            def ended(candidate: T) -> Ended:
                nonlocal runs
                self.write(file, candidate)
                runs += 1
                return self.command.run(file)

            def found(candidate: T) -> None:
                nonlocal best
                best = candidate
                self.progress("nodes removed", before - self.form.nodes(candidate), before)

            wanted = failure(ended(model), self.expect)
            try:
                reduced(model, self.form, lambda c: wanted.is_in(ended(c)), found)
            except KeyboardInterrupt:
                interrupted = True
        self.write(destination, best)
        nodes, how = (before, self.form.nodes(best)), str(wanted.ended)
        what = f"{nodes[0]} nodes of {source.name}, reduced to {nodes[1]}: {how}."
        test = self.test(best, destination, self.command.line, what)
        return Reduced(
            destination, nodes, runs, time.perf_counter() - start, how, test, interrupted
        )


def _write_onnx(path: Path, model: Any) -> None:
    with written(path) as temporary:
        temporary.write_bytes(model.SerializeToString())


def _onnx_model(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> Any:
    """The file as `onnx` loads it, with external data, and with these shapes of its inputs."""
    from brim.frontends.onnx import read

    read(path)  # what is damaged is refused with a reason
    import onnx

    model = onnx.load(path)
    ports = {port.name: port.type.tensor_type for port in model.graph.input}
    for name, dims in shapes.items():
        if name not in ports or len(ports[name].shape.dim) != len(dims):
            raise InputError(f"no input {name!r} of {len(dims)} axes", hint=f"it has {[*ports]}")
        for dim, extent in zip(ports[name].shape.dim, dims):
            dim.dim_value = extent
    return model
