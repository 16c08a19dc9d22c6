"""Where a model's programs come from: a model file, an artifact, a graph; and the cache of models.

A source knows what the model takes and makes a compiled program for given shapes. What a model file
gave once is kept in the cache directory as artifacts, so that loading it again neither parses nor
compiles: nothing that only those need is imported before it is used. How models are called is not
here.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, astuple, dataclass
from functools import cache, cached_property
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from brim import settings
from brim.errors import BrimError, InputError, ModelError, TrustError, UnsupportedError
from brim.graph import Graph, visible
from brim.runtime.artifact import Artifact, StoredProgram, Trust
from brim.runtime.cache import Cache
from brim.runtime.compiled import Compiled
from brim.runtime.cpu import machine, processor
from brim.runtime.digests import file_digest
from brim.runtime.memory import give_back
from brim.runtime.record import Record, as_list, as_text, as_type, parse_json
from brim.targets.target import prices_file
from brim.types import Type

Progress = Callable[[str, int, int], None]
Shapes = Mapping[str, tuple[int, ...]]
CACHE_BYTES = 4 << 30  # of models; the ones used longest ago go first
LARGE = CACHE_BYTES // 4  # models of more bytes are compiled each time


@dataclass(frozen=True)
class Options:
    """How to compile. target: a row of the target table. exact: no variants that round differently.
    tune: seconds for measuring candidates here before. Raises InputError for what cannot be.
    """

    target: str
    exact: bool = False
    tune: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.tune < math.inf:
            raise InputError(f"tune={self.tune} is no number of seconds")
        if self.tune and self.target != "host":
            raise InputError(
                f"code for {self.target!r} cannot be tuned here",
                why="tuning measures on the machine that the code is for",
                hint="tune on a device, and name its file of measured times with BRIM_TUNED",
            )


class Source(Protocol):
    """What a `Model` needs to know. outputs: name -> Type, or None where it is not known yet;
    usual: shapes of inputs with open dimensions, where a caller names none; functions: what else
    can be called, by name."""

    @property
    def name(self) -> str: ...

    @property
    def inputs(self) -> Mapping[str, Type]: ...

    @property
    def outputs(self) -> Mapping[str, Type | None]: ...

    @property
    def usual(self) -> Shapes: ...

    @property
    def metadata(self) -> Mapping[str, str]: ...

    @property
    def functions(self) -> Mapping[str, Source]: ...

    @property
    def origin(self) -> tuple[Any, str]:
        """What the programs are made of: a path, bytes, a ModelProto, a graph or an artifact; and
        the signature."""

    def made(self, shapes: Shapes, progress: Progress | None) -> Compiled | StoredProgram:
        """The program for shapes of all inputs. Raises BrimError."""


class GraphSource:
    """A static graph, built in Python or parsed from text."""

    def __init__(
        self, graph: Graph, options: Options, functions: Mapping[str, Graph] | None = None
    ) -> None:
        others = (functions or {}).items()
        self.functions: Mapping[str, Source] = {n: GraphSource(g, options) for n, g in others}
        self.name = graph.name
        self.metadata: dict[str, str] = {}
        self.usual: Shapes = {}
        self.inputs = {n: value.type for n, value in visible(graph.inputs, graph.state).items()}
        self.outputs = {
            name: value.type if isinstance(value.type, Type) else None
            for name, value in visible(graph.outputs, graph.state).items()
        }
        self._graph, self._options = graph, options

    @property
    def origin(self) -> tuple[Graph, str]:
        return self._graph, ""

    def made(self, shapes: Shapes, progress: Progress | None) -> Compiled:
        from brim.compiler import compile_graph

        return compile_graph(self._graph, progress=progress, **asdict(self._options))


class ArtifactSource:
    """An artifact: its native code where that may run, else its graph compiled here."""

    def __init__(self, artifact: Artifact, trust: Trust, function: str = "") -> None:
        self.artifact, self._trust, self._function = artifact, trust, function
        self.name, self.metadata = function or artifact.name, artifact.metadata
        self.inputs, self.outputs = artifact.signatures[function]
        programs = artifact.programs_of(function)
        # Made for one set of shapes, it needs none named.
        self.usual: Shapes = programs[0].shapes if len(programs) == 1 else {}
        names = [] if function else [name for name in artifact.signatures if name]
        self.functions: Mapping[str, Source] = {
            name: ArtifactSource(artifact, trust, name) for name in names
        }
        for program in artifact.programs[:1]:
            artifact.why_not(program, trust)  # a pin that does not fit is an error at once

    @property
    def origin(self) -> tuple[Artifact, str]:
        return self.artifact, ""

    def made(self, shapes: Shapes, progress: Progress | None) -> Compiled | StoredProgram:
        program = self.artifact.find(shapes, self._function)
        if program is None:
            raise InputError(
                f"the artifact was not made for shapes {dict(shapes)}",
                f"it holds {[dict(p.shapes) for p in self.artifact.programs_of(self._function)]}",
                self.artifact.where,
                "convert the source again with these shapes",
            )
        reason = self.artifact.why_not(program, self._trust)
        if not reason:
            return program
        if find_spec("llvmlite") is None:
            raise TrustError(
                "the artifact's native code was not run, and it cannot be compiled here",
                f"{reason}; and llvmlite is not installed",
                self.artifact.where,
                "pass trust=True if you trust its source, or pip install llvmlite",
            )
        from brim.compiler import compile_graph

        return compile_graph(program.graph, "host", progress, optimised=True)


class Parsed(Protocol):
    """What a front end makes of a file; symbolic dimensions are Dims. size: its bytes; external:
    files beside it that hold data of it."""

    name: str
    size: int
    external: tuple[str, ...]
    metadata: Mapping[str, str]

    @property
    def inputs(self) -> Mapping[str, Type]: ...

    @property
    def outputs(self) -> Mapping[str, Type | None]: ...

    @property
    def usual_shapes(self) -> Shapes: ...


@dataclass(frozen=True)
class Around:
    """A change of the graph that a file gives, such as pre- and postprocessing to be compiled with
    it. key: names the change and all that decides about it."""

    key: str
    change: Callable[[Graph], Graph]


class FileSource:
    """A model file or its bytes, through the cache of models; or a ModelProto, without.

    signature: which way to call the model, where the format knows several. around: what is compiled
    around it; its shapes are the usual ones then.
    """

    functions: Mapping[str, Source] = {}

    def __init__(
        self, source: Any, options: Options, signature: str = "", around: Around | None = None
    ) -> None:
        self._source, self._options = source, options
        self._signature, self._around = signature, around
        self._started = time.time_ns()
        self._cache = _model_cache() if isinstance(source, (Path, bytes)) else None
        self._digest = self._main_digest() if self._cache else ""
        self._model: Parsed | None = None
        self._changed: Graph | None = None
        self._states: dict[str, tuple[int, int]] = {}
        self._external: list[tuple[str, str]] = []
        if not self._read_card():
            self._model = self._read()
            self.name, self.metadata = self._model.name, dict(self._model.metadata)
            self.inputs: Mapping[str, Type] = self._model.inputs
            self.outputs: Mapping[str, Type | None] = dict(self._model.outputs)
            self.usual: Shapes = dict(self._model.usual_shapes)
            if around is not None:
                self._changed = graph = around.change(self._imported({}))
                inside, outside = (visible(p, graph.state) for p in (graph.inputs, graph.outputs))
                self.inputs = {name: value.type for name, value in inside.items()}
                self.outputs = {name: value.type for name, value in outside.items()}
                self.usual = {}
            self._write_card()

    @property
    def origin(self) -> tuple[Any, str]:
        return self._source, self._signature

    def made(self, shapes: Shapes, progress: Progress | None) -> Compiled | StoredProgram:
        if not self._options.tune and (stored := self._stored(self._program_key(shapes))):
            return stored
        from brim.compiler import compile_graph

        target, exact, tune = astuple(self._options)
        # Not by way of a dictionary: a call by one keeps the graph, which shall go step by step.
        compiled = compile_graph(self._graph(shapes), target, progress, exact=exact, tune=tune)
        key = self._program_key(shapes)  # of what is known by now of the fastest
        if not key or not self._unchanged():
            return compiled
        self._store(key, compiled)
        if (stored := self._stored(key)) is None:
            return compiled
        del compiled  # the stored one is mapped: shared with other processes, read where needed
        give_back()
        return stored

    def _graph(self, shapes: Shapes) -> Graph:
        if self._around is not None:
            graph, self._changed = self._changed, None
            return graph or self._around.change(self._imported({}))
        graph = self._imported(shapes)
        if all(type.is_static for type in self.inputs.values()):
            self._model = None  # nobody can ask for other shapes, and its weights take memory
        return graph

    def _imported(self, shapes: Shapes) -> Graph:
        return front_end(self._source).import_model(self._read(), shapes)

    def _read(self) -> Parsed:
        if self._model is None:
            self._model = front_end(self._source).read(self._source, signature=self._signature)
            self._states = self._file_states()
        elif not self._file_states().items() <= self._states.items():
            raise ModelError(
                "a file beside the model was changed after it was loaded",
                why="its contents are mapped, so they are other ones now",
                where=self._model.name,
                hint="load the model again",
            )
        return self._model

    def _file_states(self) -> dict[str, tuple[int, int]]:
        """Size and time of every external file; one that is deleted stays mapped as it was."""
        assert self._model is not None
        folder = Path(self._source).parent if self._model.external else Path()
        files = {name: folder / name for name in self._model.external}
        found = {name: file.stat() for name, file in files.items() if file.is_file()}
        return {name: (state.st_size, state.st_mtime_ns) for name, state in found.items()}

    # -------------------------------------------------------------- the cache

    def _main_digest(self) -> str:
        if isinstance(self._source, bytes):
            return hashlib.sha256(self._source).hexdigest()
        return _digest_of(self._source)

    def _unchanged(self) -> bool:
        """Whether the files are still those that were read; else they must not be remembered."""
        if isinstance(self._source, bytes):
            return True
        files = [self._source, *(self._source.parent / name for name, _ in self._external)]
        try:
            fresh = any(file.stat().st_mtime_ns >= self._started for file in files)
            wanted = [self._digest, *(digest for _, digest in self._external)]
            same = [_digest_of(file) for file in files] == wanted
        except (OSError, BrimError):
            return False
        return same and not fresh

    @cached_property
    def _card_key(self) -> str:
        name = "" if isinstance(self._source, bytes) else self._source.name
        return _key("card", self._digest, name, self._view)

    @property
    def _view(self) -> str:
        """What of the file is compiled."""
        return f"{self._signature} {self._around.key if self._around else ''}"

    def _read_card(self) -> bool:
        """Whether the cache knows what this file is; then no front end is needed."""
        data = self._cache.get(self._card_key) if self._cache else None
        if data is None:
            return False
        card = parse_json(data, "cached model")
        external = []
        for item in card.list("external"):
            name, digest = (as_text(part, card.where) for part in as_list(item, card.where, 2))
            try:
                if _digest_of(Path(self._source).parent / name) != digest:  # type: ignore[arg-type]
                    return False
            except BrimError:
                return False
            external.append((name, digest))
        self._external = external
        self.name, self.metadata = card.text("name"), card.record("metadata").texts()
        self.inputs = {n: t for n, t in _types(card.record("inputs")).items() if t}
        self.outputs = _types(card.record("outputs"))
        self.usual = {name: tuple(shape) for name, shape in card.record("usual").items()}
        return True

    def _write_card(self) -> None:
        if self._cache is None or self._model is None:
            return
        if self._model.size > LARGE:  # what is kept must be hashed, copied, and fit many times
            self._cache = None
            return
        if not isinstance(self._source, bytes):
            names = self._model.external
            folder = self._source.parent
            self._external = [(name, _digest_of(folder / name)) for name in names]
        if not self._unchanged():
            self._cache = None
            return
        card = {
            "name": self.name,
            "metadata": dict(self.metadata),
            "inputs": {name: str(type) for name, type in self.inputs.items()},
            "outputs": {name: type and str(type) for name, type in self.outputs.items()},
            "usual": self.usual,
            "external": self._external,
        }
        self._cache.put(self._card_key, json.dumps(card).encode())

    def _program_key(self, shapes: Shapes) -> str:
        if self._cache is None:
            return ""
        ordered = [[name, list(shapes[name])] for name in self.inputs]
        target = self._options.target
        here = _this_machine() if target == "host" else ""
        view = (self._view, str(self._external), str(ordered))
        parts = (self._digest, *view, target, machine(), here)
        return _key("program", *parts, str(self._options.exact), _measured_times())

    def _stored(self, key: str) -> StoredProgram | None:
        """The program of an earlier load: this user's own, where nobody else may write."""
        content = self._cache.map(key) if self._cache and key else None
        if content is None:
            return None
        return Artifact(content, f"{self.name} in the cache", intact=True).programs[0]

    def _store(self, key: str, compiled: Compiled) -> None:
        from brim.runtime.artifact_save import Card, Function, artifact_parts

        try:
            card = Card(self.name, self.inputs, self.outputs)
            parts = artifact_parts(Function(card, (compiled,)))
        except (UnsupportedError, ModelError):  # a graph without a text form is compiled each time
            return
        if self._cache:
            self._cache.put(key, *parts)


def format_of(source: Any) -> str:
    """The front end for a path, bytes, or what only one front end knows. Raises ModelError."""
    if isinstance(source, Path):
        try:
            with source.open("rb") as file:
                source = file.read(8)
        except OSError as error:
            raise ModelError(f"cannot read {source}", str(error)) from None
    if isinstance(source, bytes):
        if source[4:8] == b"TFL3":
            return "tflite"
        if source.startswith((b"PK\3\4", b"\x80\2\x8a\n")):
            return "torch_weights"
    return "onnx"


def front_end(source: Any) -> Any:
    """The module that reads what is given: its `read` and `import_model`. Raises ModelError."""
    return import_module(f"brim.frontends.{format_of(source)}")


def _this_machine() -> str:
    """What code for the host depends on: the processor, and its prices where they were measured."""
    found, path = processor(), prices_file()
    prices = path.read_bytes() if path and path.is_file() else b""
    if found is not None:
        return f"{found[0]} {sorted(found[1])} {prices!r}"
    from brim.targets.target import host

    return str(host())  # only LLVM can tell


def _measured_times() -> str:
    """Which state of the store of measured times schedules are chosen by."""
    path = settings.tuned_file()
    try:
        status = path.stat() if path else None
    except OSError:
        return ""
    return f"{path} {status.st_size} {status.st_mtime_ns}" if status else ""


def _types(record: Record) -> dict[str, Type | None]:
    return {n: None if t is None else as_type(t, record.where, False) for n, t in record.items()}


def _model_cache() -> Cache | None:
    """The cache of models, unless it is off or the passes are to be watched."""
    where = settings.get("cache")
    if where == "off" or any(settings.get(name) for name in ("dump", "check", "debug")):
        return None
    return Cache(settings.cache_directory() / "models", CACHE_BYTES)


def _digest_of(path: Path) -> str:
    """SHA-256 of a file, which is remembered; only where there is a cache of models."""
    return file_digest(path, Cache(settings.cache_directory() / "digests", 1 << 20))


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join((*parts, _stamp())).encode()).hexdigest()


@cache
def _stamp() -> str:
    """What besides the model decides what a program is: Python, numpy, LLVM and all of brim.

    Files count by place, size and time: reading them all would take a tenth of a warm load.
    """
    parts = [f"{sys.version_info} {np.__version__}", *states_of(os.path.dirname(__file__))]
    llvm = find_spec("llvmlite")  # importing it takes longer than a warm load may
    if llvm is not None and llvm.origin:
        with os.scandir(os.path.dirname(llvm.origin)) as files:
            parts += [_state(entry) for entry in files if entry.name == "_version.py"]
    return hashlib.sha256("\0".join(sorted(parts)).encode()).hexdigest()


def states_of(folder: str) -> list[str]:
    """Path, size and time of each Python file in a folder and all folders in it."""
    found, folders = [], [folder]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.name.endswith(".py"):
                    found.append(_state(entry))
                elif entry.name != "__pycache__" and entry.is_dir():
                    folders.append(entry.path)
    return found


def _state(entry: os.DirEntry[str]) -> str:
    status = entry.stat()
    return f"{entry.path} {status.st_size} {status.st_mtime_ns}"


def graph_file(path: Path) -> Graph:
    """A graph from its text, with the arrays of the .npz of the same name (see BRIM_DUMP)."""
    from brim.runtime.artifact_text import parse

    try:
        text = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read {path}", str(error)) from None
    beside = path.with_suffix(".npz")
    data: dict[str, Any] = _arrays(beside) if beside.is_file() else {}
    return parse(memoryview(text), data, path.name)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a .npz file as numpy.savez writes it. Raises ModelError."""
    import zipfile

    from brim.runtime.npy import read_npy

    try:
        with zipfile.ZipFile(path) as file:
            members = file.infolist()
            total = sum(m.file_size for m in members)
            if any(m.compress_type for m in members) or total > path.stat().st_size:
                raise ModelError(
                    f"{path} is compressed or damaged", hint="write it with numpy.savez"
                )
            return {
                m.filename.removesuffix(".npy"): read_npy(memoryview(file.read(m)), m.filename)
                for m in members
            }
    except (OSError, ValueError, EOFError, NotImplementedError, zipfile.BadZipFile) as error:
        raise ModelError(f"{path} is not an intact .npz file", str(error)) from None
