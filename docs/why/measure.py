"""The figures in these notes: `python docs/why/measure.py` measures them again, on this machine.

Each function prints the lines that its note quotes. Times are the best of some rounds on one
thread; ratios travel between machines better than microseconds. Notes 001 and 003 build MobileNetV2
with `bench.nets`, which needs the onnx package.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import brim
from brim.graph import Graph, Value, const, placeholder
from brim.kernels.ir import Kernel
from brim.kernels.lower import lower
from brim.kernels.schedule import choose
from brim.kernels.steps import KernelStep
from brim.kernels.text import parse_kernel, parse_schedule
from brim.ops import nn
from brim.ops import primitive as ops
from brim.targets.llvm import emit
from brim.targets.target import host
from brim.types import F32, Type

ROOT = Path(__file__).parents[2]


def best(action: Callable[[], object], rounds: int = 20) -> float:
    """Seconds of the quickest of some runs."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)


def took(action: Callable[[], object]) -> float:
    return best(action, 1)


def random_constant(*shape: int) -> Value:
    return const(np.random.default_rng(0).standard_normal(shape).astype(np.float32) * 0.1)


def mobilenet() -> Path:
    sys.path.insert(0, str(ROOT))
    from bench.nets import build

    folder = Path(tempfile.gettempdir()) / "brim-why"
    folder.mkdir(exist_ok=True)
    return build("mobilenet_v2", folder)


def note_001() -> None:
    """Separate objects: how many are shared, what the cache saves, what a call costs."""
    path = mobilenet()
    with tempfile.TemporaryDirectory() as cache:
        os.environ.update(BRIM_CACHE="off", BRIM_JOBS="2")
        brim.load(path)  # imports, child processes: those are not what is measured
        os.environ.update(BRIM_CACHE=cache, BRIM_JOBS="1")
        one = took(lambda: brim.load(path))
        os.environ.update(BRIM_CACHE=f"{cache}/second", BRIM_JOBS="2")
        two = took(lambda: brim.load(path))
        start = time.perf_counter()
        report = brim.load(path).report()
        again = time.perf_counter() - start
    distinct = len({row.object for row in report.kernels})
    print(f"001 MobileNetV2: {len(report.kernels)} calls of {distinct} kernels")
    print(f"001 load, empty cache, 1 process {one:.2f} s, 2 processes {two:.2f} s")
    print(f"001 load, filled cache {again:.2f} s")
    x = y = placeholder(Type((4, 4), F32))
    count = 200
    for _ in range(count):
        y = ops.contract(y, random_constant(4, 4), spec="mk,kn->mn")
    model = brim.compile(Graph({"x": x}, {"y": y}))
    feeds = {"x": np.zeros((4, 4), np.float32)}
    empty = brim.compile(Graph({"x": x}, {"y": ops.neg(x)}))
    seconds = best(lambda: model.run(feeds), 200) - best(lambda: empty.run(feeds), 200)
    print(f"001 one call, with a 4x4 matrix product in it: {seconds / count * 1e9:.0f} ns")


def convolution(size: int, channels: int, pad: int) -> Kernel:
    x = placeholder(Type((1, size, size, channels), F32))
    w = random_constant(3, 3, channels, channels)
    fields = {"stride": (1, 1), "dilation": (1, 1), "low": (pad, pad), "high": (pad, pad)}
    step = lower_one(nn.conv(x, w, **fields, groups=1), x)
    return step.kernel


def lower_one(y: Value, x: Value) -> KernelStep:
    from brim.compiler import optimise
    from brim.passes.expand import expand

    (step,) = lower(expand(optimise(Graph({"x": x}, {"y": y})))).steps
    assert isinstance(step, KernelStep)
    return step


def note_002() -> None:
    """Guards: a padded convolution against one whose input has the border already."""
    for size, channels in ((56, 64), (14, 256), (7, 512)):
        times = []
        for pad, extent in ((1, size), (0, size + 2)):
            x = placeholder(Type((1, extent, extent, channels), F32))
            w = random_constant(3, 3, channels, channels)
            fields = {"stride": (1, 1), "dilation": (1, 1), "low": (pad,) * 2, "high": (pad,) * 2}
            model = brim.compile(Graph({"x": x}, {"y": nn.conv(x, w, **fields, groups=1)}))
            times.append(min(model.time_kernels(rounds=30)))
        print(f"002 3x3, {size}x{size}x{channels}: guarded / bordered = {times[0] / times[1]:.2f}")


def note_003() -> None:
    """A second shape: what compiling again costs when kernels are shared or not."""
    path = mobilenet()
    with tempfile.TemporaryDirectory() as cache:
        os.environ.update(BRIM_CACHE=cache, BRIM_JOBS="2")
        model = brim.load(path)
        x = np.zeros((1, 3, 224, 224), np.float32)
        print(f"003 a call of a known shape: {best(lambda: model(x), 5) * 1e3:.1f} ms")
    graph = {}
    for size in (16, 24):
        p = placeholder(Type((1, size, size, 8), F32))
        fields = {"stride": (1, 1), "dilation": (1, 1), "low": (1, 1), "high": (1, 1)}
        y = nn.conv(p, random_constant(3, 3, 8, 8), **fields, groups=1)
        graph[size] = Graph({"x": p}, {"y": y})
    with tempfile.TemporaryDirectory() as cache:
        os.environ["BRIM_CACHE"] = cache
        first = took(lambda: brim.compile(graph[16]))
        other = took(lambda: brim.compile(graph[24]))
        known = took(lambda: brim.compile(graph[16]))
    print(f"003 one convolution: new shape {other * 1e3:.0f} ms, in the cache {known * 1e3:.0f} ms")
    assert first > 0


def note_005() -> None:
    """Text against llvmlite.ir: the same number of instructions, built and parsed."""
    from llvmlite import binding, ir

    from brim.targets.builder import Builder
    from brim.targets.builder import Value as Name

    rows = {row.object: row for row in brim.load(mobilenet()).report().kernels}.values()
    texts = [emit(parse_kernel(r.kernel), parse_schedule(r.schedule), host()) for r in rows]
    print(f"005 MobileNetV2: {sum(t.count(chr(10)) for t in texts)} lines of LLVM text")
    kernel = convolution(56, 64, 1)
    schedule, _ = choose(kernel, host())
    text = emit(kernel, schedule, host())
    seconds = best(lambda: emit(kernel, schedule, host()), 5)
    print(f"005 emit a 3x3 convolution: {seconds * 1e3:.1f} ms, {len(text.splitlines())} lines")

    def as_text() -> str:
        b = Builder("f", [("%p", "ptr")])
        base, vector = Name("%p", "ptr"), "<8 x float>"
        value = b.load(base, vector, 4)
        for i in range(2000):
            value = b.binary("fadd", value, b.load(b.gep(base, i, "float"), vector, 4))
        b.store(value, base, 4)
        return b.module(host().triple)

    def as_objects() -> str:
        module, vector = ir.Module(), ir.VectorType(ir.FloatType(), 8)
        pointer = ir.PointerType()
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), [pointer]), "f")
        b = ir.IRBuilder(function.append_basic_block())
        value = b.load(function.args[0], typ=vector, align=4)
        for i in range(2000):
            index = ir.Constant(ir.IntType(64), i)
            at = b.gep(function.args[0], [index], source_etype=ir.FloatType())
            value = b.fadd(value, b.load(at, typ=vector, align=4))
        b.store(value, function.args[0], align=4)
        b.ret_void()
        return str(module)

    ours, theirs = best(as_text), best(as_objects)
    parsed = best(lambda: binding.parse_assembly(as_text())) - ours
    print(f"005 6000 instructions: text {ours * 1e3:.0f} ms, llvmlite.ir {theirs * 1e3:.0f} ms,")
    print(f"005 parsing either in LLVM {parsed * 1e3:.0f} ms")


if __name__ == "__main__":
    chosen = sys.argv[1:] or ["001", "002", "003", "005"]
    for number in chosen:
        globals()[f"note_{number}"]()
