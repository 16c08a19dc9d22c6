"""Compiling kernels in child processes: in parallel, and safe from back-end assertions.

LLVM calls hold a global lock, so threads would not help; and a failed assertion in LLVM ends the
process it happens in. Children stay alive between calls. A job is text, the answer is an object.
"""

from __future__ import annotations

import atexit
import base64
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from brim.errors import CompileError

# Starting a child costs about as much as compiling this many kernels here.
FEW = 6
_PROGRAM = (
    "import sys; sys.path[:0] = [sys.argv[1]]; from brim.targets.workers import serve; serve()"
)


@dataclass(frozen=True)
class Job:
    """One kernel to compile: kernel and schedule as text, target by name."""

    kernel: str
    schedule: str
    target: str


def compile_here(job: Job) -> bytes:
    """The object of one job, in this process. Raises CompileError."""
    from brim.kernels.text import parse_kernel, parse_schedule
    from brim.targets.objects import compile_kernel
    from brim.targets.target import find_target

    return compile_kernel(
        parse_kernel(job.kernel), parse_schedule(job.schedule), find_target(job.target)
    )


class _Worker:
    """One child process; `compile` sends a job and waits for its object."""

    def __init__(self) -> None:
        root = str(Path(__file__).resolve().parents[2])
        self.process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, root],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the parent, which then closes the pipe
        )

    def compile(self, job: Job) -> bytes:
        assert self.process.stdin is not None and self.process.stdout is not None
        line = json.dumps([job.kernel, job.schedule, job.target]) + "\n"
        try:
            self.process.stdin.write(line.encode())
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except OSError:
            answer = b""
        if not answer:
            code = self.process.wait()
            raise CompileError(
                "the compiler's back end ended while it compiled a kernel",
                why=f"exit status {code}",
                where=job.kernel,
                hint="please report this kernel; BRIM_DUMP keeps its text",
            )
        kind, text = json.loads(answer)
        if kind == "error":
            raise CompileError("a kernel could not be compiled", why=text, where=job.kernel)
        return base64.b64decode(text)

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.kill()
        self.process.wait()


_idle: list[_Worker] = []
_lock = threading.Lock()


def _forget() -> None:
    _idle.clear()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_forget)  # a child must not share its parent's pipes


@atexit.register
def close_workers() -> None:
    """Ends all child processes."""
    with _lock:
        while _idle:
            _idle.pop().close()


def compile_all(
    jobs: Sequence[Job], processes: int, progress: Callable[[int], None] | None = None
) -> list[bytes]:
    """All jobs' objects, in order; `progress` hears how many are done. Raises CompileError."""
    done = [0]

    def tick() -> None:
        done[0] += 1
        if progress:
            progress(done[0])

    if len(jobs) <= FEW or processes <= 1:
        objects = []
        for job in jobs:
            objects.append(compile_here(job))
            tick()
        return objects
    results: list[bytes | None] = [None] * len(jobs)
    errors: list[CompileError] = []
    # the longest kernels first, so that no process is left with one at the end
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in sorted(range(len(jobs)), key=lambda n: -len(jobs[n].kernel)):
        todo.put(number)

    def work() -> None:
        with _lock:
            worker = _idle.pop() if _idle else None
        worker = worker or _Worker()
        try:
            while not errors:
                number = todo.get_nowait()
                results[number] = worker.compile(jobs[number])
                tick()
        except queue.Empty:
            pass
        except CompileError as error:
            errors.append(error)
        if worker.process.poll() is None:
            with _lock:
                _idle.append(worker)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(processes, len(jobs)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [r for r in results if r is not None]


def serve() -> None:
    """A child's main loop: a JSON line in, a JSON line out, until the pipe closes."""
    out = sys.stdout.buffer
    for line in sys.stdin.buffer:
        kernel, schedule, target = json.loads(line)
        try:
            blob = compile_here(Job(kernel, schedule, target))
            answer = ["ok", base64.b64encode(blob).decode()]
        except Exception as error:  # any failure becomes the parent's CompileError
            answer = ["error", f"{type(error).__name__}: {error}"]
        out.write(json.dumps(answer).encode() + b"\n")
        out.flush()
