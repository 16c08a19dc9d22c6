"""The thread pool without C: Python threads that stay inside generated code, and its control block.

A worker is a Python thread that calls the native `worker` function of `pool_source.py` through
ctypes, which releases the GIL, and remains there: spinning briefly, then asleep. Generated models
call `parallel_for` of the same object directly; no Python runs between fork and join. What the
native code does, and why it is right, is told in `pool_source.py`; here are starting, growing,
stopping, fork and interpreter exit. No work is divided here: models choose their own tasks.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, Literal

from brim.errors import BrimError, InputError
from brim.runtime import pool_source
from brim.runtime.loader import LoadedObject, load_object

Waiting = Literal["futex", "nap"]

# How long an idle worker spins before it sleeps. Waking a sleeper costs 5 to 50 us, and the steps
# of a model follow each other within microseconds, so a little more than that is right.
SPIN_MICROSECONDS = 75
# Without futexes a sleeping worker looks for work this often.
NAP_MICROSECONDS = 500

_FUTEX_NUMBERS = {"x86_64": 202, "aarch64": 98}


class Pool:
    """Threads that run `parallel_for` jobs of native code.

    threads: how many take part in a job, the calling thread included; 1 starts nothing.
    code: the pool's object file, or a function that returns it (called when it is first needed);
    None compiles it for this machine, which needs llvmlite.
    waiting: how idle threads sleep. "futex" is Linux's and Android's; "nap" (elsewhere the only
    way) looks for work every 0.5 ms, which costs a little power while idle and up to 0.5 ms at
    the first job after a rest. None takes "futex" where it exists.

    The native contract: `void parallel_for(ptr pool, ptr task, ptr context, i64 count, i64 limit)`
    runs `task(ptr context, i64 index)` for every index in [0, count), on at most `limit` threads,
    and returns when all are done. It may be called from any number of threads at once: one caller
    gets the workers, the others run their tasks serially. So do nested calls, and a null pool.
    Hold on to the Pool for as long as its addresses are in use.
    """

    def __init__(
        self,
        threads: int = 1,
        code: bytes | Callable[[], bytes] | None = None,
        waiting: Waiting | None = None,
    ) -> None:
        self._block = _Block(waiting or _usual_waiting())
        self._workers: list[threading.Thread] = []
        self._code = code
        self._loaded: LoadedObject | None = None
        self._parallel_for: Callable[..., None] | None = None
        self._lock = threading.RLock()
        _POOLS.add(self)
        # Also runs at interpreter exit: no thread may return into a finalised interpreter.
        weakref.finalize(self, _dismiss, self._block, self._workers)
        self.grow(threads)

    @property
    def threads(self) -> int:
        """How many threads take part in a job, the calling one included."""
        return len(self._workers) + 1

    @property
    def address(self) -> int:
        """The `pool` argument of `parallel_for`."""
        return self._block.address

    @property
    def parallel_for_address(self) -> int:
        """Address of the native `parallel_for`."""
        return self._native().symbols["parallel_for"]

    def grow(self, threads: int) -> None:
        """Have at least this many threads; never fewer than before. Cheap when nothing changes.

        Raises InputError for a number outside 1..256, BrimError when threads cannot be started.
        """
        if threads <= len(self._workers) + 1 and threads >= 1:
            return
        if not 1 <= threads <= pool_source.MOST_THREADS:
            raise InputError(
                f"threads={threads} is not possible", f"it is 1 to {pool_source.MOST_THREADS}"
            )
        with self._lock:
            if self._block.get(pool_source.STOP):
                self.close()  # an earlier close was interrupted
            worker = self._native().function("worker", None, ctypes.c_void_p)
            self._block.open()
            self._block.put(pool_source.SPIN, self._spins() if threads <= cpus() else 0)
            while len(self._workers) + 1 < threads:
                # The thread holds all that it uses, so that a dropped Pool cannot pull memory away.
                thread = threading.Thread(
                    target=_stay,
                    args=(worker, self._block),
                    name=f"brim-{len(self._workers) + 1}",
                    daemon=True,
                )
                try:
                    thread.start()
                except RuntimeError as error:
                    raise BrimError(
                        f"cannot start {threads} threads",
                        str(error),
                        hint="ask for fewer threads, or raise the limit of processes (ulimit -u)",
                    ) from None
                self._workers.append(thread)
                self._block.put(pool_source.WORKERS, len(self._workers))

    def run(self, task: int, context: int, count: int, limit: int | None = None) -> None:
        """Call `parallel_for` from Python; task and context are addresses."""
        if self._parallel_for is None:
            arguments = (*(ctypes.c_void_p,) * 3, *(ctypes.c_int64,) * 2)
            self._parallel_for = self._native().function("parallel_for", None, *arguments)
        most = self.threads if limit is None else limit
        self._parallel_for(self.address, task, context, count, most)

    def close(self) -> None:
        """Stop and join the workers; until `grow` is called, jobs run on the calling thread."""
        with self._lock:
            _dismiss(self._block, self._workers)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _native(self) -> LoadedObject:
        with self._lock:
            if self._loaded is None:
                code = self._code
                if code is None:
                    code = pool_source.pool_object(host_triple())
                self._loaded = load_object(code if isinstance(code, bytes) else code())
            return self._loaded

    def _spins(self) -> int:
        """How many pauses make SPIN_MICROSECONDS; from 10 to 140 cycles each, so it is measured."""
        spin = self._native().function("spin", None, ctypes.c_int64)
        times = []
        for _ in range(3):
            begin = time.perf_counter_ns()
            spin(1000)
            times.append(time.perf_counter_ns() - begin)
        return SPIN_MICROSECONDS * 1000 * 1000 // max(min(times), 1)

    def _begin_anew(self) -> None:
        """In a forked child: the workers do not exist here and a job may seem to be running."""
        self._workers.clear()
        self._lock = threading.RLock()
        self._block.clear()


def shared_pool(threads: int, code: bytes | Callable[[], bytes] | None = None) -> Pool:
    """The process's pool, grown to at least `threads`; models share it.

    Call it before each run of a model: that costs 0.1 us, and gives a forked child its own threads.
    code: as in Pool; it is used when the pool starts its first thread.
    """
    if threads != 1 and _SHARED.threads == 1 and code is not None and _SHARED._loaded is None:
        _SHARED._code = code
    _SHARED.grow(threads)
    return _SHARED


def host_triple() -> str:
    """The four-part ELF triple that this process can load objects of."""
    machine = platform.machine().lower()
    architecture = {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)
    return f"{architecture}-unknown-linux-gnu"


class _Block:
    """The control block's memory, and how threads sleep on it."""

    def __init__(self, waiting: Waiting) -> None:
        self._memory = ctypes.create_string_buffer(pool_source.CONTROL_BYTES + 128)
        self.address = -(-ctypes.addressof(self._memory) // 128) * 128
        self._waiting = waiting

    def clear(self) -> None:
        ctypes.memset(self.address, 0, pool_source.CONTROL_BYTES)

    def open(self) -> None:
        """Store the system's functions, which workers need to sleep and wake."""
        libc = ctypes.CDLL(None)
        if self._waiting == "futex":
            self.put(pool_source.FUTEX, _FUTEX_NUMBERS[host_triple().partition("-")[0]])
            self.put(pool_source.SYSCALL, _pointer(libc.syscall))
        else:
            self.put(pool_source.NAP_MICROSECONDS, NAP_MICROSECONDS)
            self.put(pool_source.NAP, _pointer(libc.usleep))

    def put(self, offset: int, value: int) -> None:
        ctypes.c_int64.from_address(self.address + offset).value = value

    def get(self, offset: int) -> int:
        return ctypes.c_int64.from_address(self.address + offset).value

    def wake_all(self) -> None:
        if self._waiting == "futex":
            word = ctypes.c_long
            arguments = (129, 2**31 - 1, 0, 0, 0)  # FUTEX_WAKE_PRIVATE
            ctypes.CDLL(None).syscall(
                word(self.get(pool_source.FUTEX)),
                ctypes.c_void_p(self.address),
                *(word(a) for a in arguments),
            )


def _stay(worker: Callable[[int], None], block: _Block) -> None:
    worker(block.address)


def _dismiss(block: _Block, workers: list[threading.Thread]) -> None:
    """Stop and join workers. One may fall asleep just after a wake-up, hence the repetition."""
    block.put(pool_source.WORKERS, 0)
    block.put(pool_source.STOP, 1)
    while workers:
        block.wake_all()
        workers[-1].join(0.01)
        if not workers[-1].is_alive():
            workers.pop()
    block.put(pool_source.STOP, 0)


def _pointer(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def _usual_waiting() -> Waiting:
    return "futex" if sys.platform in ("linux", "android") else "nap"


def cpus() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _after_fork() -> None:
    for pool in _POOLS:
        pool._begin_anew()


_POOLS: weakref.WeakSet[Pool] = weakref.WeakSet()
_SHARED = Pool(1)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
