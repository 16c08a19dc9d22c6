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

from brim.errors import BrimError, InputError, ModelError
from brim.graph import Graph, Value, apply_numpy
from brim.runtime.entry import entry_name
from brim.runtime.loader import load_objects
from brim.runtime.plan import ALIGN, Call, HostCall, Place, Plan, Segment, Tensor
from brim.runtime.threads import shared_pool
from brim.types import STR, Type

KERNEL_SYMBOL = "kernel"
_POINTER = ctypes.c_void_p


def aligned_bytes(size: int) -> np.ndarray:
    """`size` zeroed bytes that start on a cache line. Raises BrimError where memory is short."""
    try:
        raw = np.zeros(size + ALIGN, np.uint8)
    except MemoryError:
        raise BrimError(f"there is no memory for {size} bytes of temporaries") from None
    start = -raw.ctypes.data % ALIGN
    return raw[start : start + size]


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
        self._arenas: list[np.ndarray] = []
        self._loaded = load_objects(list(objects)) if objects else ()
        if not all(KERNEL_SYMBOL in o.symbols for o in self._loaded[1:]):
            raise ModelError(f"an object defines no function {KERNEL_SYMBOL!r}")
        kernels = [o.symbols[KERNEL_SYMBOL] for o in self._loaded[1:]]
        self._table = (_POINTER * max(len(kernels), 1))(*kernels)
        segments = [s for s in plan.steps if isinstance(s, Segment)]
        signature = [*[_POINTER] * 6, ctypes.c_int64, _POINTER]
        self._entries = [
            self._loaded[0].function(entry_name(i), None, *signature) for i in range(len(segments))
        ]
        self._pool_code = pool_code

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """One inference. feeds: an array of exactly the planned type for every input.

        Raises InputError for missing, unknown or wrongly typed inputs and for indices that are out
        of range at run time.
        """
        call = _Run(self, self._arrays(feeds))
        arena = self._arenas.pop() if self._arenas else aligned_bytes(self.plan.arena_bytes)
        try:
            return call.run(arena)
        finally:
            self._arenas.append(arena)

    def _arrays(self, feeds: Mapping[str, np.ndarray]) -> dict[int, np.ndarray]:
        unknown = set(feeds) - set(self.plan.inputs)
        if unknown:
            raise InputError(
                f"there is no input {sorted(unknown)[0]!r}",
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
        """Best seconds of each kernel call, one thread, in plan order (see `brim explain`)."""
        return _Run(self, self._arrays(feeds)).time_calls(rounds)


def check_array(name: str, array: Any, type: Type) -> np.ndarray:
    """The array, contiguous, if it has the type; plain Python numbers and lists are converted."""
    if not isinstance(array, np.ndarray):
        array = np.asarray(array, type.dtype.numpy)
    wanted = type.dtype.numpy
    if array.dtype != wanted and not (type.dtype == STR and array.dtype.kind in "OUST"):
        raise InputError(
            f"input {name!r} is {array.dtype}, the model wants {wanted}",
            hint=f"convert it: array.astype(numpy.{wanted})",
        )
    if type.is_static and array.shape != type.shape:
        raise InputError(f"input {name!r} has shape {array.shape}, not {type.shape}")
    return np.ascontiguousarray(array).reshape(array.shape)


class _Run:
    """The state of one call: pointers, host objects, and the status word."""

    def __init__(self, program: Program, arrays: dict[int, np.ndarray]) -> None:
        self.program, self.arrays = program, arrays
        self.objects: dict[str, Any] = {}
        self.status = ctypes.c_int32(0)
        for type, slot in program.plan.outputs.values():
            if isinstance(slot, int) and slot not in arrays:
                try:
                    arrays[slot] = np.empty(type.dims, type.dtype.numpy)
                except MemoryError:
                    raise BrimError(f"there is no memory for an output of type {type}") from None
        pointers = [0] * (max(arrays, default=-1) + 1)
        for slot, array in arrays.items():
            pointers[slot] = array.ctypes.data
        self.io = (_POINTER * max(len(pointers), 1))(*pointers)

    def run(self, arena: np.ndarray) -> dict[str, Any]:
        program, self.arena, segment = self.program, arena, 0
        for step in program.plan.steps:
            match step:
                case Segment():
                    self._native(segment)
                    segment += 1
                case HostCall():
                    self._host(step)
        outputs = program.plan.outputs.items()
        return {
            name: self.objects[slot] if isinstance(slot, str) else self.arrays[slot]
            for name, (_, slot) in outputs
        }

    def _native(self, segment: int) -> None:
        program = self.program
        pool = shared_pool(program.threads, program._pool_code) if program.threads > 1 else None
        program._entries[segment](
            self.arena.ctypes.data,
            program.weights.ctypes.data,
            ctypes.addressof(self.io),
            ctypes.addressof(program._table),
            pool.address if pool else None,
            pool.parallel_for_address if pool else None,
            program.threads,
            ctypes.addressof(self.status),
        )
        if self.status.value:
            raise InputError(
                "an index is out of range",
                why="a gather or scatter of the model was given an index outside its axis",
                hint="check integer inputs such as token ids",
            )

    def _host(self, step: HostCall) -> None:
        args = [self._argument(a, v) for a, v in zip(step.args, step.value.args)]
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
        if value.data is not None and value.dtype.kind == "s":
            return value.data  # text is Python objects, never memory of the plan
        return self.objects[found] if isinstance(found, str) else self._array(found)

    def _memory(self, place: Place) -> np.ndarray:
        match place.kind:
            case "arena":
                return self.arena[place.offset :]
            case "weights":
                return self.program.weights[place.offset :]
        return self.arrays[place.offset].reshape(-1).view(np.uint8)

    def _array(self, tensor: Tensor) -> np.ndarray:
        """A numpy view of a planned tensor."""
        type = tensor.type
        if type.dtype.kind == "s":
            return self.arrays[tensor.place.offset]
        item, shape = type.dtype.bytes, type.dims
        if type.size == 0:
            return np.zeros(shape, type.dtype.numpy)
        reach = tensor.offset + 1 + sum((n - 1) * s for n, s in zip(shape, tensor.strides))
        flat = self._memory(tensor.place)[: reach * item].view(type.dtype.numpy)[tensor.offset :]
        strides = tuple(s * item for s in tensor.strides)
        return np.lib.stride_tricks.as_strided(flat, shape, strides)

    def time_calls(self, rounds: int) -> list[float]:
        self.arena = aligned_bytes(self.program.plan.arena_bytes)
        times: list[float] = []
        for step in self.program.plan.steps:
            match step:
                case Segment():
                    times.extend(self._time(call, rounds) for call in step.calls)
                case HostCall():
                    self._host(step)
        return times

    def _time(self, call: Call, rounds: int) -> float:
        program = self.program
        bases = {"arena": self.arena.ctypes.data, "weights": program.weights.ctypes.data}
        args = [
            self.io[p.offset] if p.kind == "io" else bases[p.kind] + p.offset for p in call.args
        ]
        types = [*[_POINTER] * len(args), ctypes.c_int64, ctypes.c_int64, _POINTER]
        address = program._table[call.kernel] or 0  # ctypes reads a null pointer as None
        kernel = ctypes.CFUNCTYPE(None, *types)(address)
        status, best = ctypes.addressof(self.status), float("inf")
        for _ in range(rounds):
            start = time.perf_counter()
            kernel(*args, 0, call.trips, status)
            best = min(best, time.perf_counter() - start)
        return best
