# %% [markdown]
# A tour of brim: one small network on its way from Python to machine code.
#
# Run it:  `python docs/tour.py`  (a few seconds; it needs numpy and llvmlite only). Every claim in
# it is asserted. Each section names the file to read next; `docs/architecture.md` is the map.
#
#     graph -> passes -> fusion, lowering -> schedules -> LLVM text -> objects -> plan -> program

# %%
import ctypes
import time

import numpy as np

import brim
from brim.compiler import PIPELINE, compile_graph, load_program
from brim.graph import Graph, const, evaluate, placeholder
from brim.kernels.interpret import interpret
from brim.kernels.ir import trips
from brim.kernels.lower import lower
from brim.kernels.pack import pack
from brim.kernels.reference import run_lowered
from brim.kernels.schedule import choose
from brim.kernels.steps import KernelStep
from brim.kernels.text import parse_kernel, print_kernel, print_schedule
from brim.ops import math, nn
from brim.ops import primitive as ops
from brim.passes.autodiff import gradient
from brim.passes.verify import verify
from brim.runtime.loader import load_object
from brim.runtime.plan import Segment, lifetimes
from brim.search.choice import by_price
from brim.search.variants import settle
from brim.targets.llvm import emit
from brim.targets.objects import assembly, compile_text
from brim.targets.target import TARGETS, host
from brim.text import parse_graph, print_graph
from brim.types import F32, Type

started = time.perf_counter()
random = np.random.default_rng(0)


def title(text: str) -> None:
    print(f"\n{'=' * 4} {text} {'=' * (90 - len(text))}")


def excerpt(text: str, word: str, keep: int = 6) -> None:
    """Some lines of a long text: the one that holds `word`, and those that follow."""
    lines = [line.strip() for line in text.splitlines()]
    first = next((i for i, line in enumerate(lines) if word in line), 0)
    for line in lines[first : first + keep]:
        print("   ", line if len(line) <= 100 else line[:97] + "...")


def close(a: np.ndarray, b: np.ndarray) -> bool:
    return np.allclose(a, b, rtol=1e-4, atol=1e-5)


# %% [markdown]
# ## 1. A graph (`graph.py`, `types.py`, `text.py`)
#
# A `Value` is an expression: an operator, its arguments, its attributes, its type. Values never
# change, so a pass can only make new ones. A graph names some of them as inputs and outputs.
#
# This is what a front end makes of a little image classifier. The file's images are channels-first,
# brim's operators are channels-last: a front end wraps operators in transposes and thinks no more.


# %%
def weights(*shape: int, scale: float = 0.1) -> brim.Value:
    return const((random.standard_normal(shape) * scale).astype(np.float32))


TO_LAST, TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
filters, dense = weights(3, 3, 3, 32), weights(64 * 32, 10, scale=0.02)
bias = const(np.arange(-5, 5, dtype=np.float32) / 16)
norm = (weights(32), weights(32), weights(32), const(random.random(32, np.float32) + 0.5))

x = placeholder(Type((1, 3, 16, 16), F32))
h = ops.transpose(x, perm=TO_LAST)
one = {"stride": (1, 1), "dilation": (1, 1), "low": (1, 1), "high": (1, 1)}
h = nn.conv(h, filters, **one, groups=1)
h = ops.transpose(h, perm=TO_FIRST)
h = ops.transpose(h, perm=TO_LAST)
h = nn.batch_norm(h, *norm, epsilon=1e-5)
h = math.relu(h)
h = nn.max_pool(h, **{**one, "stride": (2, 2)}, size=(3, 3))
h = math.matmul(ops.reshape(h, shape=(1, 64 * 32)), dense)
scores = ops.add(h, bias)
graph = Graph({"x": x}, {"y": math.softmax(scores, axis=1)}, "tour")

title("1. the graph, as a front end makes it")
text, constants = print_graph(graph)
print(text)
verify(graph)
again = parse_graph(text, constants)  # text is a full form: a dump is a program
assert print_graph(again)[0] == text

# %% [markdown]
# Types are inferred while the graph is built; a mistake is refused where it is made.

# %%
try:
    nn.conv(x, filters, **one, groups=1)
except brim.OpError as error:
    print(f"refused: {error}")
else:
    raise AssertionError("channels-first input must not fit")

# %% [markdown]
# ## 2. What a graph means (`ops/`)
#
# Every operator has a numpy reference, so every graph can be interpreted. A composite such as
# softmax is a Python function over other operators: run on placeholders it gives the type, run on
# arrays the reference, and passes put it in the operator's place. Numpy written by hand agrees.

# %%
image = random.standard_normal((1, 3, 16, 16)).astype(np.float32)
feeds = {"x": image}
meant = evaluate(graph, feeds)["y"]
assert close(meant, evaluate(graph, feeds, expand=True)["y"])


def by_hand(image: np.ndarray, filters: np.ndarray = filters.data) -> np.ndarray:
    last = image[0].transpose(1, 2, 0)
    padded = np.pad(last, ((1, 1), (1, 1), (0, 0)))
    taps = [padded[i : i + 16, j : j + 16] @ filters[i, j] for i in range(3) for j in range(3)]
    scale, shift, mean, variance = (value.data for value in norm)
    h = np.maximum((sum(taps) - mean) / np.sqrt(variance + 1e-5) * scale + shift, 0)
    padded = np.pad(h, ((1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    h = np.max([padded[i : i + 16 : 2, j : j + 16 : 2] for i in range(3) for j in range(3)], axis=0)
    h = h.reshape(1, -1) @ dense.data + bias.data
    e = np.exp(h - h.max())
    return e / e.sum()


title("2. what it means")
print("numpy reference of every operator:", meant.round(3)[0])
assert close(meant, by_hand(image))
print("numpy by hand agrees")

# %% [markdown]
# ## 3. Passes (`passes/`, the tuple PIPELINE in `compiler.py`; `variants.py`)
#
# A pass is a function from graph to graph. After each one the graph still means the same.

# %%
before = len(graph.values())
for name, run in PIPELINE:
    old, graph = print_graph(graph)[0], run(graph)
    verify(graph)
    assert close(evaluate(graph, feeds)["y"], meant), name
    title(f"3. after {name}")
    print("(nothing to do)" if print_graph(graph)[0] == old else print_graph(graph)[0])

names = [value.op.name for value in graph.values() if value.op]
assert names.count("transpose") == 1  # the pair in the middle has vanished, the input's is left
assert "batch_norm" not in names  # its scale is in the filters, its shift is one `add`

# %% [markdown]
# Some composites have several bodies: a 3x3 convolution may be the sum that defines it, or one of
# Winograd's. Which is cheapest depends on the target; here it is the plain one.

# %%
graph = settle(graph, by_price(host()))
assert close(evaluate(graph, feeds)["y"], meant)
assert not any(value.op.body for value in graph.values() if value.op)  # composites are gone
title("3. after settle")
print(print_graph(graph)[0])

# %% [markdown]
# ## 4. Fusion and lowering (`kernels/fuse.py`, `lower.py`, `ir.py`)
#
# Primitives become few kernels. `fuse` decides which values are stored; all others vanish into the
# kernels that use them, and moves (transpose, pad, window, reshape) into their addresses.
#
# A kernel says *what* is computed, not how: loops in no order, affine addresses, expressions,
# reductions. Every stage runs for each point of the outer axes. In the first kernel below a0 is the
# channels-first image: transpose, padding and window are nothing but its index and its guard.

# %%
lowered = lower(graph)
steps = [step for step in lowered.steps if isinstance(step, KernelStep)]
title("4. kernels")
for number, step in enumerate(steps):
    print(f"kernel {number}: {', '.join(step.fused.ops)}   buffers {', '.join(step.buffers)}")
    print(print_kernel(step.kernel))
    assert parse_kernel(print_kernel(step.kernel)) == step.kernel

conv = steps[0].kernel
assert not any(step.is_move for step in steps)  # nothing is copied only to be moved
assert {"transpose", "pad", "window", "contract", "add", "maximum"} <= set(steps[0].fused.ops)
print(f"{before} values became {len(steps)} kernels")

# %% [markdown]
# ## 5. What a kernel means (`kernels/interpret.py`)
#
# A short file of numpy runs the kernel form. It is the specification: whatever follows, on
# whatever machine, has to agree with it.

# %%
assert close(run_lowered(lowered, feeds)["y"], meant)
arrays = {arg.name: np.zeros(arg.size, arg.dtype.numpy) for arg in conv.args}
for arg, name in zip(conv.args, steps[0].buffers):
    if lowered.buffers[name].data is not None:
        arrays[arg.name][:] = lowered.buffers[name].data
arrays[conv.args[0].name][:] = image.reshape(-1)
interpret(conv, arrays)
expected = arrays[conv.args[-1].name].copy()
title("5. interpreted")
print(f"first kernel: {expected.size} numbers, the first are {expected[:4].round(3)}")

# %% [markdown]
# ## 6. Schedules (`kernels/schedule.py`, `cost.py`)
#
# A schedule says *how*: loop order, which axis fills the vector's lanes, how many points are
# computed together in registers, what is unrolled. A few tens are worth a look; a cost model prices
# them with the target's constants, and the cheapest is taken. Nothing is run.

# %%
target = host()
schedule, priced = choose(conv, target)
assert schedule == priced[0][1] and priced[0][0] <= priced[-1][0]
title(f"6. schedules of kernel 0 for {target.cpu} ({target.vector_bytes * 8}-bit vectors)")
shown = [*priced[:3], *priced[-1:]] if len(priced) > 4 else priced
for seconds, candidate in shown:
    print(f"{seconds * 1e6:8.2f} us  {print_schedule(candidate).strip()}")
print(f"{len(priced)} candidates; the last line is the worst")

# %% [markdown]
# Once the schedule is known, constants are stored in the order in which the kernel will read them.

# %%
packed, packings = pack(conv, schedule)
for arg, packing in packings.items():
    print(f"\n{arg} is packed in blocks of {packing.block} columns; kernel 0 then reads it as")
    print("   ", print_kernel(packed).partition(f" {arg}[")[2].partition("]")[0])
    arrays[arg] = packing.pack(arrays[arg])
assert interpret(packed, arrays) is False  # no index was out of range
assert np.array_equal(arrays[conv.args[-1].name], expected)

# %% [markdown]
# ## 7. LLVM text (`targets/llvm.py`, `builder.py`, `access.py`, `instructions.py`)
#
# The emitter writes vectors, loops and addresses itself; LLVM only allocates registers and encodes.

# %%
ir = emit(packed, schedule, target)
machine_code = assembly(ir, target)
fused = sum("call" in line and "llvm.fma" in line for line in ir.splitlines())
title("7. LLVM text")
excerpt(ir, "define", 8)
print(f"... {len(ir.splitlines())} lines, of which {fused} multiply and add:")
excerpt(ir[ir.index("define") :], "llvm.fma")
print("the same in assembly:")
excerpt(machine_code, "fm")
assert fused or not target.fma

# %% [markdown]
# ## 8. Objects (`targets/objects.py`, `runtime/loader.py`)
#
# A kernel is one self-contained ELF object with one function. For another machine only the row of
# the target table differs. Our own loader maps it: no linker, no file.

# %%
blob = compile_text(ir, target)
title("8. objects")
print(f"here: {len(blob)} bytes")
for name in ("cortex-a76", "riscv64", "wasm32"):
    row = TARGETS[name]
    theirs, _ = choose(conv, row)
    print(f"{name}: {len(compile_text(emit(pack(conv, theirs)[0], theirs, row), row))} bytes")

pointers, status = [arrays[arg.name].ctypes.data for arg in packed.args], ctypes.c_int32(0)
types = [ctypes.c_void_p] * len(pointers) + [ctypes.c_int64] * 2 + [ctypes.c_void_p]
kernel = load_object(blob).function("kernel", None, *types)
output = arrays[conv.args[-1].name]
output[:] = 0
kernel(*pointers, 0, trips(packed, schedule), ctypes.addressof(status))  # threads: a part each
assert close(output, expected) and status.value == 0
print("the machine code computes what the interpreter said")

# %% [markdown]
# ## 9. The plan (`runtime/plan.py`, `entry.py`)
#
# Temporaries share one arena, by liveness. One generated function calls the kernels one after
# another, through a table, with constant offsets; nothing is interpreted between them.

# %%
compiled = compile_graph(graph)
plan = compiled.plan
title("9. the plan")
for buffer, (first, last) in lifetimes(lowered).items():
    print(f"{buffer}: {lowered.buffers[buffer].size * 4} bytes, steps {first} to {last}")
print(f"arena {plan.arena_bytes} bytes, side by side they would take {plan.tensor_bytes}")
assert plan.arena_bytes <= plan.tensor_bytes + 64 * len(lowered.buffers)
(segment,) = plan.steps
assert isinstance(segment, Segment) and len(segment.calls) == len(steps)
for call in segment.calls:
    places = ", ".join(f"{place.kind}+{place.offset}" for place in call.args)
    print(f"call kernel {call.kernel} ({places}), {call.trips} trips")

# %% [markdown]
# ## 10. Running (`runtime/program.py`, `model.py`)
#
# A `Program` is a plan with its code and weights. Users hold a `Model`, which makes one for each
# shape that it meets. Its results own their memory, and threads may share it.

# %%
program = load_program(compiled)
assert close(program.run(feeds)["y"], meant)
model = brim.compile(again)
assert close(model(image), meant)
title("10. running")
report = model.report()
print(f"{model!r}\n{report.flops / 1e6:.2f} MFLOP in {len(report.kernels)} kernels")
best = sum(model.time_kernels(feeds, rounds=20))
print(f"predicted {report.predicted_seconds * 1e6:.1f} us, measured {best * 1e6:.1f} us")

# %% [markdown]
# ## 11. Gradients (`passes/autodiff.py`)
#
# The gradient of a graph is a graph: built by a reverse walk, compiled like any other. Here the
# weights are inputs; the slope along one random direction agrees with a finite difference.

# %%
w, label = placeholder(Type((3, 3, 3, 32), F32)), 7
h = nn.conv(ops.transpose(x, perm=TO_LAST), w, **one, groups=1)
h = math.relu(nn.batch_norm(h, *norm, epsilon=1e-5))
h = nn.max_pool(h, **{**one, "stride": (2, 2)}, size=(3, 3))
h = ops.add(math.matmul(ops.reshape(h, shape=(1, 64 * 32)), dense), bias)
chosen = ops.slice(math.log_softmax(h, axis=1), starts=(0, label), sizes=(1, 1), steps=(1, 1))
loss = ops.neg(chosen)
(slope,) = gradient(loss, [w])
training = Graph({"x": x, "w": w}, {"loss": loss, "slope": slope}, "training")
found = brim.compile(training).run({"x": image, "w": filters.data})

direction = random.standard_normal(filters.shape)
there, back = (
    -np.log(by_hand(image, filters.data + size * direction)[0, label]) for size in (1e-6, -1e-6)
)
measured, computed = (there - back) / 2e-6, float((found["slope"] * direction).sum())
title("11. gradients")
print(f"loss {found['loss'].item():.5f}; slope: computed {computed:.4f}, measured {measured:.4f}")
assert abs(found["loss"].item() + np.log(by_hand(image)[0, label])) < 1e-4
assert abs(computed - measured) < 1e-3

print(f"\nThe tour took {time.perf_counter() - started:.1f} s.")
