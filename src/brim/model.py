"""What users hold: `load` gives a `Model`, which compiles itself for each shape it is called with.

Compiled programs are kept per shape. Reading formats is the front ends' work, compiling the
compiler's; here they meet.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike, cpu_count
from pathlib import Path
from typing import Any

import numpy as np

from brim import settings
from brim.compiler import Progress, compile_graph, load_program, sample_inputs
from brim.debug import TIMES, show_times
from brim.errors import InputError, ModelError
from brim.frontends.onnx.importer import import_model
from brim.frontends.onnx.model import OnnxModel
from brim.frontends.onnx.reader import read
from brim.graph import Graph
from brim.runtime.compiled import Compiled, Row
from brim.runtime.plan import HostCall
from brim.runtime.program import Program
from brim.types import Type

Shapes = Mapping[str, Sequence[int]]
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
    peak_flops: float  # what one core can do in a second, from the target's row

    @property
    def flops(self) -> int:
        return sum(row.flops for row in self.kernels)

    @property
    def predicted_seconds(self) -> float:
        return sum(row.predicted_seconds for row in self.kernels)


@dataclass(frozen=True, eq=False)
class _Entry:
    compiled: Compiled
    program: Program


class Model:
    """A model ready to run. Thread-safe; results own their memory.

    inputs, outputs: name -> Type; symbolic dimensions are `Dim`s.
    """

    def __init__(
        self,
        name: str,
        inputs: Mapping[str, Type],
        outputs: Sequence[str],
        source: OnnxModel | Graph | None,
        target: str,
        threads: int,
        progress: Progress | None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self.name, self.inputs, self.threads = name, dict(inputs), threads
        self.metadata = dict(metadata or {})
        self._outputs = list(outputs)
        self._source, self._target, self._progress = source, target, progress
        self._entries: OrderedDict[tuple, _Entry] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def outputs(self) -> dict[str, Type]:
        """Name -> Type of the outputs, as compiled last; before that, of unknown shape."""
        with self._lock:
            entry = next(reversed(self._entries.values()), None)
        if entry is not None:
            return {name: type for name, (type, _) in entry.program.plan.outputs.items()}
        declared = getattr(self._source, "outputs", {})
        return {n: t for n in self._outputs if isinstance(t := declared.get(n), Type)}

    def __repr__(self) -> str:
        inputs = ", ".join(f"{n}: {t}" for n, t in self.inputs.items())
        return f"<brim.Model {self.name}({inputs}) -> {', '.join(self._outputs)}>"

    def __call__(self, *arrays: Any, **named: Any) -> Any:
        """Runs the model on arrays in the order of its inputs (or by name); one result comes bare."""
        if len(arrays) > len(self.inputs):
            raise InputError(f"{len(arrays)} arrays given, the model takes {list(self.inputs)}")
        feeds = dict(zip(self.inputs, arrays))
        twice = set(feeds) & set(named)
        if twice:
            raise InputError(f"input {sorted(twice)[0]!r} is given twice")
        results = tuple(self.run({**feeds, **named}).values())
        return results[0] if len(results) == 1 else results

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Runs the model on arrays by name. Compiles first if the shapes are new."""
        feeds = self._checked(feeds)
        shapes = {name: feeds[name].shape for name in self.inputs}
        return self._entry(shapes).program.run(feeds)

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
            if not isinstance(given, np.ndarray):
                given = np.asarray(given, type.dtype.numpy)
            if type.shape is not None:
                fits = given.ndim == len(type.shape) and all(
                    not isinstance(n, int) or n == m for n, m in zip(type.shape, given.shape)
                )
                if not fits:
                    raise InputError(f"input {name!r} has shape {given.shape}, the model wants {type}")
            arrays[name] = given
        return arrays

    def compile(self, shapes: Shapes | None = None) -> Report:
        """Compiles for shapes (only inputs with symbolic dimensions need one) and reports."""
        full: dict[str, tuple[int, ...]] = {}
        for name in shapes or {}:
            if name not in self.inputs:
                raise InputError(
                    f"a shape is given for {name!r}, which is no input",
                    hint=f"the model takes {', '.join(f'{n}: {t}' for n, t in self.inputs.items())}",
                )
        for name, type in self.inputs.items():
            if shapes and name in shapes:
                full[name] = tuple(int(n) for n in shapes[name])
            elif type.is_static:
                full[name] = type.dims
            else:
                raise InputError(
                    f"the shape of input {name!r} is open: {type}",
                    hint=f"give one, such as shapes={{{name!r}: {_example(type)}}}",
                )
        return report_of(self._entry(full).compiled)

    def report(self) -> Report:
        """The report of the shapes compiled last. Raises InputError if there are none yet."""
        with self._lock:
            entry = next(reversed(self._entries.values()), None)
        if entry is None:
            raise InputError("nothing is compiled yet", hint="call the model or model.compile(...)")
        return report_of(entry.compiled)

    def time_kernels(self, feeds: Mapping[str, Any] | None = None, rounds: int = 5) -> list[float]:
        """Best seconds of every kernel of the shapes compiled last, on one thread, in order."""
        with self._lock:
            entry = next(reversed(self._entries.values()), None)
        if entry is None:
            raise InputError("nothing is compiled yet", hint="call the model or model.compile(...)")
        return entry.program.time_calls(feeds or sample_inputs(entry.compiled.graph), rounds)

    def _entry(self, shapes: Mapping[str, tuple[int, ...]]) -> _Entry:
        key = tuple(shapes[name] for name in self.inputs)
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                entry = self._made(shapes)
                self._entries[key] = entry
                if len(self._entries) > MAX_PROGRAMS:
                    self._entries.popitem(last=False)
            self._entries.move_to_end(key)
        return entry

    def _made(self, shapes: Mapping[str, tuple[int, ...]]) -> _Entry:
        match self._source:
            case OnnxModel():
                graph = import_model(self._source, shapes)
            case Graph():
                graph = self._source
            case _:
                raise InputError(
                    f"this artifact was not made for shapes {dict(shapes)}",
                    hint="convert the source again with these shapes",
                )
        compiled = compile_graph(graph, self._target, self._progress)
        program = load_program(compiled, self.threads)
        if settings.get("debug") >= TIMES:
            show_times(compiled.rows, program.time_calls(sample_inputs(compiled.graph)))
        return _Entry(compiled, program)


def _example(type: Type) -> tuple[int, ...]:
    return tuple(n if isinstance(n, int) else 1 for n in type.shape or ())


def report_of(compiled: Compiled) -> Report:
    """The report of compiled data."""
    plan = compiled.plan
    hosts = tuple(s.value.op.name for s in plan.steps if isinstance(s, HostCall) and s.value.op)
    return Report(
        compiled.rows,
        hosts,
        compiled.seconds,
        plan.arena_bytes,
        plan.tensor_bytes,
        int(compiled.weights.nbytes),
        compiled.target.peak_flops,
    )


def thread_count(threads: int | None) -> int:
    """Threads to use: as given, else as set; 0 means one per core."""
    wanted = settings.get("threads") if threads is None else threads
    if wanted < 0:
        raise InputError(f"threads={threads} is negative")
    return wanted or cpu_count() or 1


def load(
    source: str | PathLike[str] | bytes,
    *,
    threads: int | None = None,
    shapes: Shapes | None = None,
    target: str | None = None,
    progress: Progress | None = None,
) -> Model:
    """Loads a model file (ONNX) and compiles it.

    threads: how many a call may use (default: the setting, 1; 0: one per core). shapes: input name
    -> shape for inputs with symbolic dimensions; without it they are compiled at the first call.
    target: a row of the target table (default: the setting, "host").
    progress(stage, done, total) is called during compilation. Raises BrimError.
    """
    if not isinstance(source, bytes):
        source = Path(source)
        if not source.is_file():
            raise ModelError(f"there is no file {source}", hint="check the path")
    onnx = read(source)
    model = Model(
        onnx.name,
        onnx.inputs,
        list(onnx.outputs),
        onnx,
        target or settings.get("target"),
        thread_count(threads),
        progress,
        onnx.metadata,
    )
    if shapes or all(t.is_static for t in onnx.inputs.values()):
        model.compile(shapes)
    return model


def compile(
    graph: Graph,
    *,
    threads: int | None = None,
    target: str | None = None,
    progress: Progress | None = None,
) -> Model:
    """Compiles a static graph that was built in Python or parsed from text."""
    inputs = {name: value.type for name, value in graph.inputs.items()}
    model = Model(
        graph.name,
        inputs,
        list(graph.outputs),
        graph,
        target or settings.get("target"),
        thread_count(threads),
        progress,
    )
    model.compile()
    return model
