"""What users hold: `load` gives a `Model`, which compiles itself for each shape it is called with.

Compiled programs are kept per shape. Where programs come from is told in `sources.py`; neither the
compiler nor a front end is imported before it is needed.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike, cpu_count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brim import settings
from brim.containers import box, checked, unbox
from brim.errors import BrimError, InputError, ModelError, UnsupportedError
from brim.graph import Graph, evaluate, visible
from brim.runtime.artifact import Artifact, StoredProgram, Trust, open_artifact
from brim.runtime.compiled import Compiled, Row
from brim.runtime.container import MAGIC
from brim.runtime.cpu import machine
from brim.runtime.plan import HostCall
from brim.runtime.program import Program
from brim.seeds import one_run
from brim.sources import (
    Around,
    ArtifactSource,
    FileSource,
    GraphSource,
    Options,
    Progress,
    Source,
    graph_file,
)
from brim.state import State, StatefulProgram
from brim.types import Type

if TYPE_CHECKING:
    from brim.runtime.artifact_save import Function, Sample
    from brim.runtime.recording import Recording

Shapes = Mapping[str, Sequence[int]]
SAMPLED = 1 << 16  # bytes of state that a sample tells the new content of
MAX_PROGRAMS = 16  # compiled shapes that a model keeps; the one used longest ago goes first


@dataclass(frozen=True)
class Report:
    """What was made of a model for one shape. Times in seconds, sizes in bytes.

    arena_bytes: memory of all temporaries; tensor_bytes: what they would take side by side.
    """

    kernels: tuple[Row, ...]
    host_steps: tuple[str, ...]
    compile_seconds: float
    arena_bytes: int
    tensor_bytes: int
    weight_bytes: int
    target: str  # the row of the table of targets
    peak_flops: float  # what one core can do in a second, from that row
    inner: tuple[Row, ...] = ()  # kernels of sub-graphs, which steps on the host run

    @property
    def flops(self) -> int:
        """Floating point operations of one run."""
        return sum(row.flops for row in self.kernels)

    @property
    def predicted_seconds(self) -> float:
        """Of one run on one thread, by the cost model, without host steps."""
        return sum(row.predicted_seconds for row in self.kernels)

    def _repr_html_(self) -> str:
        """Figures and slowest kernels, in a notebook."""
        from brim.tools.notebook import report_html

        return report_html(self)

    def prediction_error(self, measured: Sequence[float]) -> float:
        """Median of |predicted - measured| / measured over the kernels that matter: those that take
        over half a percent of the time. measured: seconds of every kernel, as `time_kernels`."""
        least = sum(measured) / 200
        pairs = zip(self.kernels, measured)
        errors = [abs(row.predicted_seconds - s) / s for row, s in pairs if s > least]
        return float(np.median(errors)) if errors else 0.0


class _Entry:
    """One shape of a model: what was compiled, and the program, made when it is first run.

    state: the model's, which the program may remember more in.
    """

    def __init__(self, compiled: Compiled | StoredProgram, threads: int, state: State) -> None:
        self.compiled, self._threads = compiled, threads
        self._state = state
        self._lock = threading.Lock()
        state.admit(compiled.state)

    @cached_property
    def _program(self) -> Program:
        if isinstance(self.compiled, StoredProgram):
            return self.compiled.load(self._threads)
        from brim.compiler import load_program

        return load_program(self.compiled, self._threads)

    @property
    def program(self) -> Program:
        with self._lock:
            return self._program

    @property
    def outputs(self) -> dict[str, Type]:
        """Name -> Type of what a caller gets."""
        ports = visible(self.compiled.plan.outputs, self.compiled.state)
        return {name: type for name, (type, _) in ports.items()}

    @property
    def carrying(self) -> Program | StatefulProgram:
        """The program as callers see it: with the model's state, if it remembers anything."""
        names = self.compiled.state
        return StatefulProgram(self.program, names, self._state) if names else self.program

    def complete(self, feeds: Mapping[str, Any] | None) -> dict[str, Any]:
        """All that a program takes: feeds, by default random, and the state's first content."""
        from brim.compiler import sample_inputs

        return {**(feeds or sample_inputs(self.compiled.graph)), **self.compiled.state}


class Model:
    """A model ready to run. Thread-safe; results own their memory.

    inputs, outputs: name -> Type; symbolic dimensions are `Dim`s. A model that remembers (its graph
    has state) goes on in each run where the last one ended: see `state` and `reset`. Runs of one
    come one after another; load it twice for two streams.
    """

    def __init__(
        self,
        source: Source,
        threads: int,
        progress: Progress | None = None,
        state: State | None = None,
    ) -> None:
        self.name, self.inputs, self.threads = source.name, dict(source.inputs), threads
        self.metadata = dict(source.metadata)
        self._source, self._progress = source, progress
        self._entries: OrderedDict[tuple, _Entry] = OrderedDict()
        self._state = state or State()
        self._recent: Program | StatefulProgram | None = None  # what ran last: the shortest way
        self._lock = threading.Lock()

    @property
    def outputs(self) -> dict[str, Type]:
        """Name -> Type of the outputs, as compiled last; before that, those that are known."""
        with self._lock:
            entry = next(reversed(self._entries.values()), None)
        if entry is not None:
            return entry.outputs
        return {name: type for name, type in self._source.outputs.items() if type is not None}

    @property
    def origin(self) -> tuple[Any, str]:
        """What it was made of: a path, bytes, a ModelProto, a graph or an artifact; a signature."""
        return self._source.origin

    @property
    def artifact(self) -> Artifact | None:
        """The artifact that it was loaded from."""
        return self._source.artifact if isinstance(self._source, ArtifactSource) else None

    @property
    def usual_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of inputs with open dimensions, where a caller names none."""
        return {name: tuple(shape) for name, shape in self._source.usual.items()}

    @property
    def state(self) -> dict[str, np.ndarray]:
        """What the shapes compiled so far remember, by name: a copy.

        Assigning a mapping sets what it names. Raises InputError for what does not fit.
        """
        return self._state.contents()

    @state.setter
    def state(self, contents: Mapping[str, Any]) -> None:
        self._state.set(contents)

    def reset(self) -> None:
        """Forgets: the next run is as the first one was."""
        self._state.reset()

    @cached_property
    def functions(self) -> Mapping[str, Model]:
        """What else can be called, by name, such as a training step: models that share this one's
        state, so that each sees what the others changed."""
        given = self._source.functions.items()
        return {n: Model(s, self.threads, self._progress, self._state) for n, s in given}

    @property
    def graph(self) -> Graph:
        """The optimised graph of the shapes compiled last. Raises InputError if there are none."""
        return self._last().compiled.graph

    def __repr__(self) -> str:
        inputs = ", ".join(f"{n}: {t}" for n, t in self.inputs.items())
        return f"<brim.Model {self.name}({inputs}) -> {', '.join(self._source.outputs)}>"

    def _repr_html_(self) -> str:
        """Ports, figures and structure, in a notebook."""
        from brim.tools.notebook import model_html

        return model_html(self)

    def __call__(self, *arrays: Any, **named: Any) -> Any:
        """Runs the model on arrays in its inputs' order, or by name; one result comes bare."""
        if len(arrays) > len(self.inputs):
            raise InputError(f"{len(arrays)} arrays given, the model takes {list(self.inputs)}")
        feeds = dict(zip(self.inputs, arrays))
        twice = set(feeds) & set(named)
        if twice:
            raise InputError(f"input {sorted(twice)[0]!r} is given twice")
        results = tuple(self.run({**feeds, **named}).values())
        return results[0] if len(results) == 1 else results

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Runs the model on arrays by name. Compiles first if the shapes are new.

        A sequence is given, and comes out, as a list, a map as a dict, an optional as None or what
        it holds. Raises InputError for what does not fit.
        """
        recent = self._recent
        if recent is not None and (found := recent.quick(feeds)) is not None:
            return found
        feeds = self._checked(feeds)
        shapes = {name: feeds[name].shape for name in self.inputs}
        program = self._entry(shapes).carrying
        self._recent = program
        return program.run(feeds)

    def _checked(self, feeds: Mapping[str, Any]) -> dict[str, np.ndarray]:
        unknown = [name for name in feeds if name not in self.inputs]
        missing = [name for name in self.inputs if name not in feeds]
        if unknown or missing:
            raise InputError(
                f"input {(unknown or missing)[0]!r} is {'unknown' if unknown else 'missing'}",
                hint=f"the model takes {', '.join(f'{n}: {t}' for n, t in self.inputs.items())}",
            )
        arrays = {}
        for name, type in self.inputs.items():
            given = feeds[name]
            if type.dtype.kind == "o":
                arrays[name] = box(checked(unbox(given), type.dtype, f"input {name!r}"))
                continue
            if not isinstance(given, np.ndarray):
                given = np.asarray(given, type.dtype.numpy)
            if type.shape is not None:
                fits = given.ndim == len(type.shape) and all(
                    not isinstance(n, int) or n == m for n, m in zip(type.shape, given.shape)
                )
                if not fits:
                    raise InputError(
                        f"input {name!r} has shape {given.shape}, the model wants {type}"
                    )
            arrays[name] = given
        return arrays

    def compile(self, shapes: Shapes | None = None) -> Report:
        """Compiles for shapes (only inputs with symbolic dimensions need one) and reports."""
        return report_of(self._entry(self._full(shapes)).compiled)

    def _full(self, shapes: Shapes | None) -> dict[str, tuple[int, ...]]:
        """The shapes of all inputs. Raises InputError where one is not given and not known."""
        full: dict[str, tuple[int, ...]] = {}
        for name in shapes or {}:
            if name not in self.inputs:
                known = ", ".join(f"{n}: {t}" for n, t in self.inputs.items())
                raise InputError(
                    f"a shape is given for {name!r}, which is no input",
                    hint=f"the model takes {known}",
                )
        for name, type in self.inputs.items():
            if shapes and name in shapes:
                full[name] = tuple(int(n) for n in shapes[name])
            elif type.is_static:
                full[name] = type.dims
            elif name in self._source.usual:
                full[name] = tuple(self._source.usual[name])
            else:
                raise InputError(
                    f"the shape of input {name!r} is open: {type}",
                    hint=f"give one, such as shapes={{{name!r}: {type.example}}}",
                )
        return full

    def report(self) -> Report:
        """The report of the shapes compiled last. Raises InputError if there are none yet."""
        return report_of(self._last().compiled)

    def time_kernels(self, feeds: Mapping[str, Any] | None = None, rounds: int = 5) -> list[float]:
        """Best seconds of every kernel of the shapes compiled last, on one thread, in order."""
        entry = self._last()
        return entry.program.time_calls(entry.complete(feeds), rounds)

    def record(self, feeds: Mapping[str, Any] | None = None, runs: int = 10) -> Recording:
        """Runs the shapes compiled last with a clock around every kernel, on all threads; feeds as
        in `run`, by default random. State starts anew in each run, and the model's stays."""
        from brim.runtime.recording import record

        entry = self._last()
        compiled = entry.compiled
        data = compiled.compiled() if isinstance(compiled, StoredProgram) else compiled
        return record(data, entry.program, entry.complete(feeds), runs)

    def save(
        self, path: str | PathLike[str], samples: Sequence[Mapping[str, Any]] | None = None
    ) -> None:
        """Writes a `.brim` artifact of all shapes compiled so far, and of all functions; whole or
        not at all.

        samples: inputs, one mapping for each shape compiled, oldest first, that go into the file
        with the outputs they give, for self-tests; default: seeded random ones. State is written
        with its first content. Raises UnsupportedError for what cannot be saved, InputError if
        nothing is compiled yet.
        """
        from brim.runtime.artifact_save import save

        functions = {}
        for name, function in self.functions.items():
            if not function._entries:
                function.compile()
            functions[name] = function._saved(None)
        save(self._saved(samples), path, functions)

    def _saved(self, samples: Sequence[Mapping[str, Any]] | None) -> Function:
        """What an artifact is to hold of this."""
        from brim.runtime.artifact_save import Card, Function

        with self._lock:
            entries = list(self._entries.values())
        if not entries:
            raise InputError("nothing is compiled yet", hint="call the model or model.compile(...)")
        if samples is not None and len(samples) != len(entries):
            raise InputError(f"{len(samples)} samples for {len(entries)} compiled shapes")
        wanted: Sequence[Mapping[str, Any] | None]
        wanted = samples if samples is not None else [None] * len(entries)
        made = tuple(_sample(entry, feeds) for entry, feeds in zip(entries, wanted))
        programs = tuple(
            c.compiled() if isinstance(c := entry.compiled, StoredProgram) else c
            for entry in entries
        )
        outputs = {n: self.outputs.get(n) for n in self._source.outputs}
        return Function(Card(self.name, self.inputs, outputs, self.metadata), programs, made)

    def _last(self) -> _Entry:
        with self._lock:
            entry = next(reversed(self._entries.values()), None)
        if entry is None:
            raise InputError("nothing is compiled yet", hint="call the model or model.compile(...)")
        return entry

    def _entry(self, shapes: Mapping[str, tuple[int, ...]]) -> _Entry:
        key = tuple(shapes[name] for name in self.inputs)
        self._recent = None
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                compiled = self._source.made(shapes, self._progress)
                entry = self._entries[key] = _Entry(compiled, self.threads, self._state)
                if settings.get("debug"):
                    _show_times(entry)
                if len(self._entries) > MAX_PROGRAMS:
                    self._entries.popitem(last=False)
            self._entries.move_to_end(key)
        return entry


def _show_times(entry: _Entry) -> None:
    from brim.debug import TIMES, show_times

    compiled = entry.compiled
    if settings.get("debug") >= TIMES and compiled.target.architecture == machine():
        show_times(compiled.rows, entry.program.time_calls(entry.complete(None)))


def _sample(entry: _Entry, feeds: Mapping[str, Any] | None) -> Sample:
    """Inputs and outputs to save with a program. Code for other machines is interpreted."""
    from brim.runtime.artifact_save import Sample

    compiled = entry.compiled
    plan = compiled.plan
    ports = [type for type, _ in (*plan.inputs.values(), *plan.outputs.values())]
    if any(type.dtype.kind == "o" for type in ports):
        if feeds is not None:
            raise UnsupportedError("samples of sequences, optionals and maps cannot be saved")
        return Sample(missing="an input or output is a sequence, an optional or a map")
    try:
        inputs, state = entry.complete(feeds), compiled.state
        with one_run(seed=0):  # as the self-test does: random numbers must come out again
            if compiled.target.architecture == machine():
                outputs = entry.program.run(inputs)
            else:
                outputs = evaluate(compiled.graph, inputs)
        large = {name for name, array in state.items() if array.nbytes > SAMPLED}
        return Sample(visible(inputs, state), visible(outputs, large))
    except BrimError as error:
        if feeds is not None:
            raise
        return Sample(missing=f"the model refused random inputs: {error.what}")


def report_of(compiled: Compiled | StoredProgram) -> Report:
    """The report of compiled data."""
    plan = compiled.plan
    hosts = tuple(s.value.op.name for s in plan.steps if isinstance(s, HostCall) and s.value.op)
    return Report(
        compiled.rows,
        hosts,
        compiled.seconds,
        plan.arena_bytes,
        plan.tensor_bytes,
        compiled.weight_bytes,
        compiled.target.name,
        compiled.target.peak_flops,
        compiled.inner_rows,
    )


def thread_count(threads: int | None) -> int:
    """Threads to use: as given, else as set; 0 means one per core."""
    wanted = settings.get("threads") if threads is None else threads
    if wanted < 0:
        raise InputError(f"threads={threads} is negative")
    return wanted or cpu_count() or 1


def load(
    source: str | PathLike[str] | bytes | Any,
    *,
    threads: int | None = None,
    shapes: Shapes | None = None,
    target: str | None = None,
    progress: Progress | None = None,
    trust: Trust = None,
    exact: bool | None = None,
    tune: float = 0.0,
    signature: str = "",
) -> Model:
    """Loads a model: an ONNX or TFLite file, its bytes, a ModelProto; a `.brim` artifact; a graph
    as text.

    threads: how many a call may use (default: the setting, 1; 0: one per core). shapes: input name
    -> shape for inputs with symbolic dimensions; without it they are compiled at the first call.
    target: a row of the target table (default: the setting, "host"); artifacts have their own.
    progress: called with stage, done and total during compilation. trust: native code in an
    artifact runs if this machine made it, if trust is True, or if trust is the artifact's
    `code_digest`; else the artifact's graph is compiled. exact: every operator is computed as it is
    defined, by no variant that rounds differently; artifacts stay what they were made as (default:
    the setting, False: f32 convolutions err by up to 1e-5 of their largest result, and NaNs spread
    to neighbours). tune: seconds, for each shape that is compiled, in which the best candidates are
    measured on this machine; what is found is kept, and later loads choose by it too. signature:
    which one of a TFLite model's to call (default: the first). Raises BrimError.
    """
    exact = settings.get("exact") if exact is None else exact
    options = Options(target or settings.get("target"), exact, tune)
    found = _source(source, trust, options, signature)
    model = Model(found, thread_count(threads), progress)
    known = {n for n, t in model.inputs.items() if t.is_static} | set(found.usual)
    if shapes or known >= model.inputs.keys():
        model._entry(model._full(shapes))
    return model


def load_around(
    path: str | PathLike[str],
    around: Around,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Model:
    """A model file with a change of its graph compiled around it, cached as `load` does.

    For what belongs to a network and is not in its file, such as how a picture becomes its input.
    All inputs must be static, or have usual shapes. Raises BrimError.
    """
    options = Options(settings.get("target"), settings.get("exact"))
    model = Model(FileSource(Path(path), options, "", around), thread_count(threads), progress)
    model.compile()
    return model


def _source(
    source: str | PathLike[str] | bytes | Any, trust: Trust, options: Options, signature: str
) -> Source:
    if isinstance(source, bytes):
        if source.startswith(MAGIC):
            _without(signature, "the artifact")
            return _artifact(open_artifact(source), trust, options)
        return FileSource(source, options, signature)
    if not isinstance(source, (str, PathLike)):
        return FileSource(
            source, options, signature
        )  # a ModelProto, which only the front end knows
    path = Path(source)
    if not path.is_file():
        raise ModelError(f"there is no file {path}", hint="check the path")
    if path.suffix in (".graph", ".txt"):
        _without(signature, path.name)
        return GraphSource(graph_file(path), options)
    try:
        with path.open("rb") as file:
            start = file.read(len(MAGIC))
    except OSError as error:
        raise ModelError(f"cannot read {path}", str(error)) from None
    if start == MAGIC or path.suffix == ".brim":
        _without(signature, path.name)
        return _artifact(open_artifact(path), trust, options)
    return FileSource(path, options, signature)


def _without(signature: str, name: str) -> None:
    if signature:
        raise InputError(f"{name} has no signature {signature!r}", hint="only TFLite models have")


def _artifact(artifact: Artifact, trust: Trust, options: Options) -> Source:
    if options.tune:
        raise InputError(
            "an artifact cannot be tuned",
            why="its code stays as it was made",
            hint="tune the model that it was made of, and convert it again",
        )
    return ArtifactSource(artifact, trust)


def compile(
    graph: Graph,
    *,
    threads: int | None = None,
    target: str | None = None,
    progress: Progress | None = None,
    exact: bool | None = None,
    tune: float = 0.0,
    functions: Mapping[str, Graph] | None = None,
) -> Model:
    """Compiles a static graph that was built in Python or parsed from text; all as in `load`.

    functions: other graphs, by name, that share its state: `Model.functions`. They are compiled
    when they are first called, or saved.
    """
    exact = settings.get("exact") if exact is None else exact
    options = Options(target or settings.get("target"), exact, tune)
    source = GraphSource(graph, options, functions)
    model = Model(source, thread_count(threads), progress)
    model.compile()
    return model
