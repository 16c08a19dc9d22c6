"""Running a planned model: native segments and host steps over one arena for each call.

A `Program` is immutable and thread-safe: every call takes an arena of its own (kept for the next
call), and results own their memory. Nothing is compiled here; code comes as object bytes.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from brim.containers import checked_box, unbox
from brim.errors import BrimError, InputError, ModelError
from brim.graph import Graph, Value, apply_numpy
from brim.runtime.entry import entry_name
from brim.runtime.loader import load_objects
from brim.runtime.memory import POINTER, Memory
from brim.runtime.plan import Call, HostCall, Place, Plan, Segment, Tensor
from brim.runtime.threads import shared_pool
from brim.seeds import one_run
from brim.types import STR, Shape, Type, strided

KERNEL_SYMBOL = "kernel"


class Program:
    """A plan with its code and weights, ready to run.

    weights: flat uint8 array, 64-byte aligned. objects: the entry object first (if the plan has
    native segments), then one object for each kernel of the table. pool_code: object bytes of the
    thread pool, or a function that makes them; only asked for when threads > 1.
    subprograms: id(sub-graph) -> Program, for `cond` and `loop`.
    """

    def __init__(
        self,
        plan: Plan,
        weights: np.ndarray,
        objects: Sequence[bytes],
        threads: int = 1,
        pool_code: bytes | Callable[[], bytes] | None = None,
        subprograms: Mapping[int, Program] | None = None,
    ) -> None:
        self.plan, self.weights, self.threads = plan, weights, threads
        self._subprograms = dict(subprograms or {})
        self._only_native = not any(isinstance(step, HostCall) for step in plan.steps)
        self._memories: list[Memory] = []
        self._loaded = load_objects(list(objects)) if objects else ()
        if not all(KERNEL_SYMBOL in o.symbols for o in self._loaded[1:]):
            raise ModelError(f"an object defines no function {KERNEL_SYMBOL!r}")
        kernels = [o.symbols[KERNEL_SYMBOL] for o in self._loaded[1:]]
        self._table = (POINTER * max(len(kernels), 1))(*kernels)
        self._table_address, self._weights_address = (
            ctypes.addressof(self._table),
            weights.ctypes.data,
        )
        segments = plan.segments
        self._splits = threads > 1 and any(c.trips > 1 for s in segments for c, _ in s.each())
        signature = [*[POINTER] * 6, ctypes.c_int64, POINTER]
        self._entries = [
            self._loaded[0].function(entry_name(i), None, *signature) for i in range(len(segments))
        ]
        self._pool_code = pool_code
        self.ports = _quick_ports(plan)

    def quick(self, feeds: Mapping[str, Any]) -> dict[str, Any] | None:
        """What `run` gives, for feeds that are arrays of just the planned names and types, of a
        plan that is one native segment; else None. The shortest way: small models run for
        microseconds. Raises InputError as `run` does."""
        if self.ports is None or self.plan.state:
            return None
        memory = self._memories.pop() if self._memories else Memory(self.plan)
        try:
            return self.quick_in(memory, self.ports, feeds)
        finally:
            self._memories.append(memory)

    def quick_in(
        self, memory: Memory, ports: Ports, feeds: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """`quick` by these of the ports, in memory that knows where the others are."""
        inputs, outputs = ports
        if len(feeds) != len(inputs):
            return None
        held = []  # what is not copied, until kernels have read it
        for name, slot, dtype, shape in inputs:
            array = feeds.get(name)
            if type(array) is not np.ndarray or array.shape != shape or array.dtype != dtype:
                return None
            held.append(memory.give(slot, array))
        made = [(name, slot, memory.room(slot, kind)) for name, slot, kind in outputs]
        self._native(0, memory)
        del held
        return {name: memory.owned(slot, array) for name, slot, array in made}

    def _native(self, segment: int, memory: Memory) -> None:
        pool = shared_pool(self.threads, self._pool_code) if self._splits else None
        self._entries[segment](
            memory.arena_address,
            self._weights_address,
            memory.io_address,
            self._table_address,
            pool.address if pool else None,
            pool.parallel_for_address if pool else None,
            self.threads if pool else 1,
            memory.status_address,
        )
        if memory.status.value:
            memory.status.value = 0
            raise InputError(
                "an index is out of range",
                why="a gather or scatter of the model was given an index outside its axis",
                hint="check integer inputs such as token ids",
            )

    def _host(self, call: _Run, step: HostCall) -> None:
        call.host(step)

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """One inference. feeds: an array of exactly the planned type for every input; none is
        changed, state included.

        Raises InputError for missing, unknown or wrongly typed inputs and for indices that are out
        of range at run time.
        """
        arrays = self._arrays(feeds)
        memory = self._memories.pop() if self._memories else Memory(self.plan)
        try:
            call = _Run(self, memory, arrays)
            if self._only_native:
                return call.run()
            with one_run():
                return call.run()
        finally:
            self._memories.append(memory)

    def _arrays(self, feeds: Mapping[str, np.ndarray]) -> dict[int, np.ndarray]:
        if not feeds.keys() <= self.plan.inputs.keys():
            raise InputError(
                f"there is no input {min(feeds.keys() - self.plan.inputs.keys())!r}",
                hint=f"the model takes {list(self.plan.inputs)}",
            )
        arrays: dict[int, np.ndarray] = {}
        for name, (type, slot) in self.plan.inputs.items():
            if name not in feeds:
                raise InputError(
                    f"input {name!r} is missing", hint=f"the model takes {list(self.plan.inputs)}"
                )
            arrays[slot] = check_array(name, feeds[name], type)
        return arrays

    def time_calls(self, feeds: Mapping[str, np.ndarray], rounds: int = 5) -> list[float]:
        """Best seconds of each kernel call, one thread, in plan order (see `brim explain`).

        A call in a loop is timed once, and counts for all iterations.
        """
        return _Run(self, Memory(self.plan), self._arrays(feeds)).time_calls(rounds)


Ports = tuple[list[tuple[str, int, np.dtype, Shape]], list[tuple[str, int, Type]]]


def _quick_ports(plan: Plan) -> Ports | None:
    """The inputs and outputs of a plan of one native segment and plain arrays, without its state,
    else None."""
    if len(plan.steps) != 1 or not isinstance(plan.steps[0], Segment):
        return None
    inputs = [item for item in plan.inputs.items() if item[0] not in plan.state]
    outputs = [item for item in plan.outputs.items() if item[0] not in plan.state]
    places = [slot for _, (_, slot) in (*inputs, *outputs)]
    if len(set(places)) != len(places) or any(isinstance(slot, str) for slot in places):
        return None  # an input that is an output, or what is no array
    if any(not t.is_static or t.dtype.is_object for _, (t, _) in (*inputs, *outputs)):
        return None
    return (
        [(name, slot, type.dtype.numpy, type.dims) for name, (type, slot) in inputs],
        [(name, slot, type) for name, (type, slot) in outputs if isinstance(slot, int)],
    )


def check_array(name: str, array: Any, type: Type) -> np.ndarray:
    """The array, contiguous, if it has the type; plain Python numbers and lists are converted.

    Of what a container holds, the box of a checked copy.
    """
    if type.dtype.kind == "o":
        return checked_box(array, type.dtype, f"input {name!r}")
    if not isinstance(array, np.ndarray):
        array = np.asarray(array, type.dtype.numpy)
    wanted = type.dtype.numpy
    stored = type.dtype.kind == "n"
    if array.dtype != wanted and not (type.dtype == STR and array.dtype.kind in "OUST"):
        raise InputError(
            f"input {name!r} is {array.dtype}, the model wants {wanted}",
            hint=f"convert it: array.astype({'ml_dtypes' if stored else 'numpy'}.{wanted})",
        )
    if type.is_static and array.shape != type.shape:
        raise InputError(f"input {name!r} has shape {array.shape}, not {type.shape}")
    if array.flags.c_contiguous:
        return array
    return np.ascontiguousarray(array).reshape(array.shape)


def _apart(content: Any, weights: np.ndarray) -> Any:
    """What a host step gave, or a container holds, without a part of the program's constants."""
    if isinstance(content, list):
        return [_apart(part, weights) for part in content]
    shared = isinstance(content, np.ndarray) and np.may_share_memory(content, weights)
    return content.copy() if shared else content


class _Run:
    """The state of one call: where its inputs and outputs are, and the objects of host steps."""

    def __init__(self, program: Program, memory: Memory, arrays: dict[int, np.ndarray]) -> None:
        self.program, self.memory = program, memory
        self.objects: dict[str, Any] = {}
        state = {slot for _, slot in program.plan.state.values()}
        self.arrays = {
            slot: memory.give(slot, array.copy() if slot in state else array)
            for slot, array in arrays.items()
        }
        for type, slot in program.plan.outputs.values():
            if isinstance(slot, int) and slot not in self.arrays:
                self.arrays[slot] = memory.room(slot, type)

    def run(self) -> dict[str, Any]:
        program, segment = self.program, 0
        for step in program.plan.steps:
            match step:
                case Segment():
                    program._native(segment, self.memory)
                    segment += 1
                case HostCall():
                    program._host(self, step)
        return {name: self._result(slot) for name, (_, slot) in program.plan.outputs.items()}

    def _result(self, slot: int | str) -> Any:
        if isinstance(slot, str):
            return _apart(unbox(self.objects[slot]), self.program.weights)
        return self.memory.owned(slot, self.arrays[slot])

    def host(self, step: HostCall) -> None:
        """Runs an operator by numpy."""
        args = [self._argument(a, v) for a, v in zip(step.args, step.value.args)]
        if isinstance(step.result, str):  # it may be a part of an argument, and lives longer
            args = [self._owned(a, found) for a, found in zip(args, step.args)]
        programs = self.program._subprograms
        graphs = [a for a in step.value.attrs.values() if isinstance(a, Graph)]
        try:
            if graphs and all(id(g) in programs for g in graphs):
                result = step.value.op.numpy(  # type: ignore[union-attr]
                    *args,
                    **step.value.attrs,
                    run=lambda graph, feeds: programs[id(graph)].run(feeds),
                )
            else:
                result = apply_numpy(step.value, args)
            if isinstance(step.result, str):
                self.objects[step.result] = result
            else:
                self._array(step.result)[...] = result
        except BrimError:
            raise
        except Exception as error:  # operators check types; values may still not suit numpy
            raise InputError(
                f"{step.value.op.name} failed on these inputs",  # type: ignore[union-attr]
                f"{type(error).__name__}: {error}",
                step.value.where,
            ) from error

    def _argument(self, found: Tensor | str, value: Value) -> Any:
        if value.data is not None and value.dtype.is_object:
            return value.data  # Python objects, never memory of the plan
        return self.objects[found] if isinstance(found, str) else self._array(found)

    @staticmethod
    def _owned(array: np.ndarray, found: Tensor | str) -> np.ndarray:
        """A copy of what lies in memory that the next step or the next call may overwrite."""
        if isinstance(found, str) or found.place.kind == "weights" or found.type.dtype.is_object:
            return array
        return array.copy()

    def _memory(self, place: Place) -> np.ndarray:
        match place.kind:
            case "arena":
                return self.memory.arena[place.offset :]
            case "weights":
                return self.program.weights[place.offset :]
        return self.arrays[place.offset].reshape(-1).view(np.uint8)

    def _array(self, tensor: Tensor) -> np.ndarray:
        """A numpy view of a planned tensor."""
        type = tensor.type
        if type.dtype.is_object:
            return self.arrays[tensor.place.offset]
        item, shape = type.dtype.bytes, type.dims
        if type.size == 0:
            return np.zeros(shape, type.dtype.numpy)
        reach = tensor.offset + 1 + sum((n - 1) * s for n, s in zip(shape, tensor.strides))
        flat = self._memory(tensor.place)[: reach * item].view(type.dtype.numpy)[tensor.offset :]
        strides = tuple(s * item for s in tensor.strides)
        return strided(flat, shape, strides)

    def time_calls(self, rounds: int) -> list[float]:
        times: list[float] = []
        for step in self.program.plan.steps:
            match step:
                case Segment():
                    times.extend(self._time(call, rounds) * trips for call, trips in step.each())
                case HostCall():
                    self.host(step)
        return times

    def _time(self, call: Call, rounds: int) -> float:
        program, memory = self.program, self.memory
        bases = {"arena": memory.arena_address, "weights": program._weights_address}
        args = [
            memory.io[p.offset] if p.kind == "io" else bases[p.kind] + p.offset for p in call.args
        ]
        types = [*[POINTER] * len(args), ctypes.c_int64, ctypes.c_int64, POINTER]
        address = program._table[call.kernel] or 0  # ctypes reads a null pointer as None
        kernel = ctypes.CFUNCTYPE(None, *types)(address)
        status, best = memory.status_address, float("inf")
        for _ in range(rounds):
            start = time.perf_counter()
            kernel(*args, 0, call.trips, status)
            best = min(best, time.perf_counter() - start)
        return best
