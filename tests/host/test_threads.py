"""The thread pool: every index runs exactly once, nobody hangs, and it goes away when it should."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from brim.errors import InputError
from brim.runtime import pool_source
from brim.runtime.loader import LoadedObject, load_object
from brim.runtime.threads import Pool, host_triple, shared_pool

llvm = pytest.importorskip("llvmlite.binding")

# Tasks and callers as generated models have them. `mark` adds 1 to context[index]; `meet` returns
# when the job's two tasks run at the same time, or adds to context[1] when it waited in vain;
# `busiest` keeps in context[1] how many of its tasks ever ran at once; `nest` (context: its
# arguments) calls parallel_for from within a task. `stress` runs `jobs` jobs of 1 to 9 tasks on
# 64 contexts in turn, so that a task of an earlier job would be counted where it does not belong.
SOURCE = """
define void @mark(ptr %c, i64 %i) {
  %p = getelementptr i64, ptr %c, i64 %i
  %o = atomicrmw add ptr %p, i64 1 monotonic
  ret void
}
define void @meet(ptr %c, i64 %i) {
  %o = atomicrmw add ptr %c, i64 1 seq_cst
  %x = and i64 %o, -2
  %want = add i64 %x, 2
  br label %l
l:
  %n = phi i64 [ 0, %0 ], [ %n1, %again ]
  %v = load atomic i64, ptr %c acquire, align 8
  %ok = icmp sge i64 %v, %want
  br i1 %ok, label %out, label %again
again:
  %n1 = add i64 %n, 1
  %late = icmp sgt i64 %n1, 5000000000
  br i1 %late, label %fail, label %l
fail:
  %f = getelementptr i64, ptr %c, i64 1
  %g = atomicrmw add ptr %f, i64 1 seq_cst
  br label %out
out:
  ret void
}
define void @busiest(ptr %c, i64 %i) {
  %o = atomicrmw add ptr %c, i64 1 seq_cst
  %now = add i64 %o, 1
  %m = getelementptr i64, ptr %c, i64 1
  %p = atomicrmw max ptr %m, i64 %now seq_cst
  br label %l
l:
  %n = phi i64 [ 0, %0 ], [ %n1, %l ]
  %v = load atomic i64, ptr %c acquire, align 8
  %n1 = add i64 %n, 1
  %more = icmp slt i64 %n1, 20000
  br i1 %more, label %l, label %out
out:
  %q = atomicrmw sub ptr %c, i64 1 seq_cst
  ret void
}
define void @nest(ptr %c, i64 %i) {
  %pf = load ptr, ptr %c
  %c1 = getelementptr ptr, ptr %c, i64 1
  %pool = load ptr, ptr %c1
  %c2 = getelementptr ptr, ptr %c, i64 2
  %marks = load ptr, ptr %c2
  call void %pf(ptr %pool, ptr @mark, ptr %marks, i64 50, i64 4)
  ret void
}
define void @stress(ptr %pf, ptr %pool, ptr %contexts, i64 %limit, i64 %jobs) {
  br label %l
l:
  %j = phi i64 [ 0, %0 ], [ %j1, %l ]
  %slot = and i64 %j, 63
  %at = mul i64 %slot, 9
  %c = getelementptr i64, ptr %contexts, i64 %at
  %r = urem i64 %j, 9
  %count = add i64 %r, 1
  call void %pf(ptr %pool, ptr @mark, ptr %c, i64 %count, i64 %limit)
  %j1 = add i64 %j, 1
  %more = icmp slt i64 %j1, %jobs
  br i1 %more, label %l, label %out
out:
  ret void
}
"""


@pytest.fixture(scope="module")
def tasks() -> LoadedObject:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = llvm.Target.from_triple(host_triple()).create_target_machine(
        reloc="pic", codemodel="small"
    )
    module = llvm.parse_assembly(SOURCE)
    module.triple = host_triple()
    module.data_layout = str(machine.target_data)
    return load_object(machine.emit_object(module))


@pytest.fixture(scope="module")
def code() -> bytes:
    return pool_source.pool_object(host_triple())


@pytest.fixture(params=["futex", "futex, spinning", "nap"])
def pool(request: pytest.FixtureRequest, code: bytes) -> Iterator[Pool]:
    waiting, *spinning = request.param.split(", ")
    if waiting == "futex" and sys.platform != "linux":
        pytest.skip("no futex here")
    with Pool(4, code, waiting=waiting) as pool:
        # More threads than processors would not spin; whichever this machine has, try both.
        pool._block.put(pool_source.SPIN, 2_000 if spinning else 0)
        yield pool


def words(count: int) -> ctypes.Array[ctypes.c_int64]:
    return (ctypes.c_int64 * count)()


def stress(pool: Pool, tasks: LoadedObject, jobs: int, limit: int = 4) -> None:
    contexts = words(64 * 9)
    run = tasks.function("stress", None, *(ctypes.c_void_p,) * 3, *(ctypes.c_int64,) * 2)
    run(pool.parallel_for_address, pool.address, ctypes.addressof(contexts), limit, jobs)
    expected = [0] * (64 * 9)
    for job in range(jobs):
        for index in range(job % 9 + 1):
            expected[job % 64 * 9 + index] += 1
    assert list(contexts) == expected


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
@pytest.mark.parametrize("count", [0, 1, 2, 7, 4095, 4096, 8190, 100_003])
def test_every_index_runs_exactly_once(
    pool: Pool, tasks: LoadedObject, count: int, limit: int
) -> None:
    marks = words(count + 1)
    for _ in range(3):
        pool.run(tasks.symbols["mark"], ctypes.addressof(marks), count, limit)
    assert list(marks) == [3] * count + [0]


def test_every_job_has_its_own_generation(pool: Pool, tasks: LoadedObject) -> None:
    marks = words(9)
    for job in range(100):
        ticket = pool._block.get(pool_source.TICKET) & (1 << 64) - 1
        assert ticket >> 52 == 0  # no chunk is left that a late worker could claim
        assert ticket & (1 << 44) - 1 == job
        pool.run(tasks.symbols["mark"], ctypes.addressof(marks), 9)


@pytest.mark.parametrize("limit", [2, 4])
def test_a_hundred_thousand_jobs(pool: Pool, tasks: LoadedObject, limit: int) -> None:
    stress(pool, tasks, 100_000, limit)


def test_more_threads_than_processors(code: bytes, tasks: LoadedObject) -> None:
    with Pool(4 * (os.cpu_count() or 1), code) as pool:
        stress(pool, tasks, 3_000, 64)


def test_several_callers_at_once(pool: Pool, tasks: LoadedObject) -> None:
    failures: list[BaseException] = []

    def call() -> None:
        try:
            stress(pool, tasks, 20_000)
        except BaseException as error:
            failures.append(error)

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not failures


def test_two_threads_really_work_at_the_same_time(pool: Pool, tasks: LoadedObject) -> None:
    met = words(2)
    for _ in range(20):
        pool.run(tasks.symbols["meet"], ctypes.addressof(met), 2)
    assert list(met) == [40, 0]


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_the_limit_holds_in_a_larger_pool(pool: Pool, tasks: LoadedObject, limit: int) -> None:
    for _ in range(30):
        context = words(2)
        pool.run(tasks.symbols["busiest"], ctypes.addressof(context), 20, limit)
        assert context[0] == 0
        assert 1 <= context[1] <= limit


def test_nested_calls_run_serially(pool: Pool, tasks: LoadedObject) -> None:
    marks = words(50)
    context = (ctypes.c_uint64 * 3)(
        pool.parallel_for_address, pool.address, ctypes.addressof(marks)
    )
    pool.run(tasks.symbols["nest"], ctypes.addressof(context), 40)
    assert list(marks) == [40] * 50


def test_a_null_pool_is_serial(code: bytes, tasks: LoadedObject) -> None:
    run = load_object(code).function(
        "parallel_for", None, *(ctypes.c_void_p,) * 3, *(ctypes.c_int64,) * 2
    )
    marks = words(100)
    run(None, tasks.symbols["mark"], ctypes.addressof(marks), 100, 8)
    assert list(marks) == [1] * 100


def test_one_thread_costs_and_starts_nothing() -> None:
    def never() -> bytes:
        raise AssertionError("the pool's code was asked for")

    before = threading.active_count()
    pool = Pool(1, never)
    assert (pool.threads, threading.active_count()) == (1, before)


@pytest.mark.parametrize("threads", [0, -1, 257])
def test_impossible_numbers_of_threads(threads: int) -> None:
    with pytest.raises(InputError, match="not possible"):
        Pool(threads)


def test_a_pool_grows_and_keeps_its_address(code: bytes, tasks: LoadedObject) -> None:
    with Pool(1, lambda: code) as pool:
        address = pool.address
        for threads in (2, 4, 3):
            pool.grow(threads)
            stress(pool, tasks, 1_000)
        assert (pool.threads, pool.address) == (4, address)


def test_a_closed_pool_is_serial_and_may_grow_again(pool: Pool, tasks: LoadedObject) -> None:
    before = threading.active_count()
    pool.close()
    assert (pool.threads, threading.active_count()) == (1, before - 3)
    stress(pool, tasks, 1_000)
    pool.grow(3)
    stress(pool, tasks, 1_000)


def test_closing_while_jobs_run(pool: Pool, tasks: LoadedObject) -> None:
    caller = threading.Thread(target=stress, args=(pool, tasks, 200_000))
    caller.start()
    for _ in range(20):
        pool.close()
        pool.grow(4)
    caller.join()
    stress(pool, tasks, 1_000)


def test_a_dropped_pool_stops_its_threads(code: bytes) -> None:
    before = threading.active_count()
    pool = Pool(3, code)
    assert threading.active_count() == before + 2
    del pool
    gc.collect()
    assert threading.active_count() == before


def test_idle_threads_sleep_and_wake(pool: Pool, tasks: LoadedObject) -> None:
    stress(pool, tasks, 100)
    time.sleep(0.02)
    begin = time.process_time()
    time.sleep(0.4)
    assert time.process_time() - begin < 0.1  # three spinning threads would burn 1.2 s
    met = words(2)
    for _ in range(10):
        time.sleep(0.005)
        pool.run(tasks.symbols["meet"], ctypes.addressof(met), 2)
    assert list(met) == [20, 0]


def test_a_failing_python_task_does_not_wedge_the_pool(
    pool: Pool, tasks: LoadedObject, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda error: seen.append(error.exc_type))

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)
    def fail(_: int, index: int) -> None:
        raise ValueError(index)

    pool.run(ctypes.cast(fail, ctypes.c_void_p).value or 0, 0, 50)
    assert seen == [ValueError] * 50
    stress(pool, tasks, 1_000)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="POSIX only")
def test_an_interrupt_does_not_wedge_the_pool(pool: Pool, tasks: LoadedObject) -> None:
    marks = words(5_000)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def work_until_interrupted() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.003)
        while True:
            pool.run(tasks.symbols["mark"], ctypes.addressof(marks), 5_000)

    previous = signal.signal(signal.SIGALRM, interrupt)
    try:
        for _ in range(20):
            with pytest.raises(KeyboardInterrupt):
                work_until_interrupted()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert len(set(marks)) == 1  # no job was left half done
    stress(pool, tasks, 1_000)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX only")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_starts_fresh(tasks: LoadedObject, code: bytes) -> None:
    pool = shared_pool(3, code)
    stop = threading.Event()

    def keep_busy() -> None:  # so that some forks happen in the middle of a job
        while not stop.is_set():
            stress(pool, tasks, 500)

    caller = threading.Thread(target=keep_busy)
    caller.start()
    try:
        for _ in range(10):
            if not (child := os.fork()):
                signal.alarm(20)
                try:
                    assert pool.threads == 1
                    stress(pool, tasks, 500)  # serial: no thread is started behind one's back
                    assert shared_pool(3) is pool
                    met = words(2)
                    pool.run(tasks.symbols["meet"], ctypes.addressof(met), 2)
                    assert list(met) == [2, 0]
                    os._exit(0)
                finally:
                    os._exit(1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        caller.join()
    stress(pool, tasks, 500)
    pool.close()


def test_a_process_with_an_open_pool_exits_cleanly() -> None:
    script = (
        "from brim.runtime.threads import *; a = shared_pool(3); b = Pool(2);"
        "a.run(a._native().symbols['spin'], 100, 4)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize("triple", ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"])
def test_the_code_is_self_contained_and_deterministic(triple: str) -> None:
    code = pool_source.pool_object(triple)
    assert code == pool_source.pool_object(triple)
    assert len(pool_source.pool_key(triple)) == 64
    assert pool_source.pool_key(triple) != pool_source.pool_key(triple, "other")
    for name in pool_source.SYMBOLS:
        assert name.encode() in code
    if triple == host_triple():
        assert sorted(load_object(code).symbols) == sorted(pool_source.SYMBOLS)
