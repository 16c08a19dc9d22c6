"""Compiled kernels on emulated ARM and RISC-V and in WebAssembly, against the interpreter.

Needs qemu's user emulation and a cross compiler's linker and C library (Debian: qemu-user,
gcc-aarch64-linux-gnu, gcc-arm-linux-gnueabihf, gcc-riscv64-linux-gnu), or Node; skipped without.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from brim.kernels.dots import paired
from brim.kernels.interpret import interpret
from brim.kernels.ir import Kernel, Schedule, trips
from brim.kernels.lower import lower
from brim.kernels.schedule import candidates, choose
from brim.kernels.text import print_kernel, print_schedule
from brim.passes.expand import expand, variants
from brim.targets.objects import compile_kernel
from brim.targets.target import TARGETS, Target
from brim.types import BOOL, DTYPES, F16, F32, F64, I8, I16, I32, I64, U8
from tests import kernels_library as lib
from tests.host.test_variants import integer_layer

pytestmark = pytest.mark.slow

# row: (linker, emulator with its processor)
TOOLS = {
    "cortex-a76": ("aarch64-linux-gnu-gcc", ("qemu-aarch64", "-cpu", "max")),
    "cortex-a53": ("aarch64-linux-gnu-gcc", ("qemu-aarch64", "-cpu", "cortex-a53")),
    "armv7": ("arm-linux-gnueabihf-gcc", ("qemu-arm", "-cpu", "cortex-a15")),
    "riscv64": (
        "riscv64-linux-gnu-gcc",
        ("qemu-riscv64", "-cpu", "rv64,v=true,vlen=128,vext_spec=v1.0"),
    ),
    "wasm32": ("node", ("node",)),
}
# qemu 7.2 fails an assertion of its own on conversions that name their rounding mode.
EMULATOR_ABORTS = {
    *(("trunc", t, t) for t in (F32, F64)),
    *(("cast", of, t) for of in (F32, F64) for t in (I32, DTYPES["u8"])),
    ("cast", F16, DTYPES["u8"]),
}
INEXACT = {"softmax rows", "softmax columns", "layer_norm", "gelu", "reduce mul", "half"}
INEXACT |= {"matmul with gelu"}

# Calls the kernel on buffers from stdin (their sizes are in the text) and gives them back.
DRIVER = """
#include <stdio.h>
#include <stdlib.h>
void NAME(POINTERS long long, long long, int *);
static const long sizes[] = {SIZES 0};
int main(void) {
  unsigned char *p[COUNT + 1]; int status = 0;
  for (int i = 0; i < COUNT; i++) {
    p[i] = malloc(sizes[i] + 8);
    if (fread(p[i], 1, sizes[i], stdin) != (size_t)sizes[i]) return 2;
  }
  NAME(VALUES 0, TRIPS, &status);
  for (int i = 0; i < COUNT; i++) fwrite(p[i], 1, sizes[i], stdout);
  fwrite(&status, 4, 1, stdout);
  return 0;
}
"""


# The same in JavaScript. An object's data lies at 0, its stack below 64 KiB, the buffers above.
SCRIPT = """
const fs = require("fs"), sizes = [SIZES], given = fs.readFileSync(0);
const places = [], count = sizes.length;
let top = 131072;
for (const size of sizes) { places.push(top); top += (size + 127) & ~63; }
const memory = new WebAssembly.Memory({ initial: (top >> 16) + 2 });
const env = { __linear_memory: memory };
env.__indirect_function_table = new WebAssembly.Table({ initial: 1, element: "anyfunc" });
const code = new WebAssembly.Module(fs.readFileSync(process.argv[2]));
const kernel = new WebAssembly.Instance(code, { env }).exports.kernel;
const bytes = new Uint8Array(memory.buffer);
let at = 0;
places.forEach((p, i) => { bytes.set(given.subarray(at, at + sizes[i]), p); at += sizes[i]; });
kernel(...places, 0n, BigInt(TRIPS), top);
const parts = places.map((p, i) => bytes.slice(p, p + sizes[i]));
fs.writeSync(1, Buffer.concat([...parts, bytes.slice(top, top + 4)]));
"""


def exported(blob: bytes) -> bytes:
    """A WebAssembly object with its first function exported as `kernel`.

    Such an object is a valid module: one that stands alone needs no linker.
    """

    def number(at: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            byte = blob[at]
            value |= (byte & 127) << shift
            at, shift = at + 1, shift + 7
            if byte < 128:
                return value, at

    # exports come after the sections 1 to 6; kernels import no functions, so theirs is number 0
    at = 8
    while blob[at] <= 6:
        size, body = number(at + 1)
        at = body + size
    export = b"\x01\x06kernel\x00\x00"
    return blob[:at] + bytes([7, len(export)]) + export + blob[at:]


def emulate(
    row: str,
    kernel: Kernel,
    schedule: Schedule,
    data: dict[str, np.ndarray],
    folder: Path,
    target: Target,
) -> tuple[dict[str, np.ndarray], bool]:
    """The buffers after the kernel ran on the emulated processor, and its status."""
    compiler, emulator = TOOLS[row]
    count = len(kernel.args)
    words = {
        "NAME": kernel.name,
        "POINTERS": "void *, " * count,
        "SIZES": "".join(f"{data[arg.name].nbytes}, " for arg in kernel.args),
        "VALUES": "".join(f"p[{i}], " for i in range(count)),
        "COUNT": str(count),
        "TRIPS": str(trips(kernel, schedule)),
    }
    text = SCRIPT if row == "wasm32" else DRIVER
    for word, value in words.items():
        text = text.replace(word, value)
    source = folder / ("driver.js" if row == "wasm32" else "driver.c")
    program = folder / "program"
    source.write_text(text)
    blob = compile_kernel(kernel, schedule, target)
    if row == "wasm32":
        program.write_bytes(exported(blob))
        command = [*emulator, str(source), str(program)]
    else:
        (folder / "kernel.o").write_bytes(blob)
        built = subprocess.run(
            [compiler, "-static", "-o", str(program), str(source), str(folder / "kernel.o")],
            capture_output=True,
            text=True,
        )
        assert built.returncode == 0, built.stderr
        command = [*emulator, str(program)]
    given = b"".join(data[arg.name].tobytes() for arg in kernel.args)
    done = subprocess.run(command, input=given, capture_output=True, timeout=60)
    assert done.returncode == 0, f"exit {done.returncode}: {done.stderr!r}"
    found, at = {}, 0
    for arg in kernel.args:
        size = data[arg.name].nbytes
        found[arg.name] = np.frombuffer(done.stdout[at : at + size], data[arg.name].dtype)
        at += size
    return found, bool(struct.unpack("<i", done.stdout[at:])[0])


def agrees(
    row: str,
    kernel: Kernel,
    data: dict[str, np.ndarray],
    folder: Path,
    exact: bool = True,
    schedule: Schedule | None = None,
    target: Target | None = None,
) -> None:
    target = target or TARGETS[row]
    schedule = schedule or choose(kernel, target)[0]
    wanted = {name: array.copy() for name, array in data.items()}
    status = interpret(kernel, wanted)
    packed, stored = lib.packed(kernel, schedule, data)
    got, got_status = emulate(row, packed, schedule, stored, folder, target)
    where = f"\n{print_kernel(kernel)}{print_schedule(schedule)}"
    assert got_status == status, where
    for arg in kernel.args:
        if arg.role == "const":
            np.testing.assert_array_equal(got[arg.name], stored[arg.name], where)
        elif exact:
            np.testing.assert_array_equal(got[arg.name], wanted[arg.name], where)
        else:
            rtol, atol = (2e-3, 0) if arg.dtype == F16 else (2e-5, 1e-6)
            np.testing.assert_allclose(
                got[arg.name], wanted[arg.name], rtol=rtol, atol=atol, err_msg=where
            )


@pytest.fixture(params=TOOLS)
def row(request: pytest.FixtureRequest) -> str:
    compiler, emulator = TOOLS[request.param]
    for tool in (compiler, emulator[0]):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    return request.param


def another(kernel: Kernel, target: Target) -> Schedule:
    """A candidate that is not the best one."""
    found = candidates(kernel, target)
    return found[len(found) // 2]


def test_library(row: str, tmp_path: Path) -> None:
    failed = []
    for number, (name, kernel) in enumerate(lib.library()):
        data = lib.buffers_for(kernel, np.random.default_rng(number))
        if row == "riscv64" and name.startswith(
            "quantized"
        ):  # rounds to integers: see EMULATOR_ABORTS
            continue
        schedule = another(kernel, TARGETS[row]) if number % 2 else None
        try:
            agrees(row, kernel, data, tmp_path, name not in INEXACT, schedule)
        except AssertionError as error:
            failed.append(f"{name}: {error}")
    assert not failed, f"{len(failed)} kernels\n" + "\n".join(failed)[:4000]


def integer_kernels() -> Iterator[tuple[str, Kernel]]:
    """Products of all short integers, those whose weights add in pairs, and Winograd's form."""
    for dtypes in ((I8, I8), (U8, I8), (I8, I16), (U8, U8), (I16, I8), (I16, I16)):
        kinds = {"dtype": dtypes[0], "weights": dtypes[1], "zero": 3}
        name = f"{dtypes[0]} * {dtypes[1]}"
        yield f"{name}, 3x3", lib.quantized_convolution(4, 5, 10, 21, **kinds)
        yield f"{name}, 1x1", lib.quantized_convolution(3, 4, 50, 40, 1, **kinds)
        yield f"{name}, depthwise", lib.quantized_depthwise(5, 6, 40, **kinds)
        if dtypes[1] == I8:
            plain = lib.quantized_convolution(4, 5, 16, 24, 1, **kinds)
            yield f"{name}, paired", paired(plain, {"k": np.zeros(16 * 24, np.int8)})
    graph = integer_layer(9, np.ones((3, 3, 16, 24), np.int8))
    lowered = lower(expand(graph, choose=lambda value: variants(value)[-1]))
    kernels = [step.kernel for step, _ in lowered.kernel_steps()]
    assert {"winograd_input", "winograd_output"} <= {
        op for step, _ in lowered.kernel_steps() for op in step.fused.ops
    }
    yield from ((f"winograd {number}", kernel) for number, kernel in enumerate(kernels))


def test_integers(row: str, tmp_path: Path) -> None:
    if row == "riscv64":
        pytest.skip("its emulator aborts where numbers are rounded: see EMULATOR_ABORTS")
    rows = [TARGETS[row]]
    if row == "cortex-a76":
        rows.append(replace(rows[0], features=f"{rows[0].features},+i8mm"))
    failed = []
    for target in rows:
        for number, (name, kernel) in enumerate(integer_kernels()):
            data = lib.buffers_for(kernel, np.random.default_rng(number))
            if kernel.buffers.get("k") and kernel.buffers["k"].paired:
                data["k"] = np.clip(data["k"], -64, 64)
            found = candidates(kernel, target)
            for schedule in (found[0], found[len(found) // 2]):
                try:
                    agrees(row, kernel, data, tmp_path, schedule=schedule, target=target)
                except AssertionError as error:
                    failed.append(f"{name}, {target.features}: {error}")
    assert not failed, f"{len(failed)} kernels\n" + "\n".join(failed)[:4000]


def test_operations(row: str, tmp_path: Path) -> None:
    from tests.host.test_kernels import NUMERIC, pairs

    binary = (*NUMERIC, "mod", "fmod", "div")
    cases = [(op, 2, t, t, True) for op in binary for t in (F32, F64, I64)]
    cases += [(op, 2, I32, I32, True) for op in ("div", "mod", "shift_left", "shift_right")]
    cases += [(op, 1, t, t, True) for op in ("floor", "ceil", "trunc", "rint") for t in (F32, F64)]
    functions = ("exp", "log", "tanh", "erf", "sin")
    cases += [(op, 1, t, t, False) for op in functions for t in (F32, F64)]
    cases += [("power", 2, F32, F32, False), ("power", 2, F64, F64, False)]
    for of in (F16, F32, F64):
        for to in (F16, F32, F64, BOOL, I32, I64, DTYPES["u64"], DTYPES["u8"]):
            cases += [("cast", 1, of, to, True), ("cast", 1, to, of, True)]
    failed = []
    for op, arity, dtype, result, exact in cases:
        if row == "riscv64" and (op, dtype, result) in EMULATOR_ABORTS:
            continue
        columns = pairs(dtype, arity)
        if op in ("sin", "power"):  # far arguments of sin are not promised
            columns = {k: np.clip(v, -30, 30) for k, v in columns.items()}
        if row == "armv7" and dtype.is_float:  # its vectors take denormals for zeros
            for values in columns.values():
                values[np.abs(values) < np.finfo(dtype.numpy).tiny] = 0
        n = len(columns["a"])
        kernel = lib.elementwise(op, n, arity, dtype, result)
        data = {**columns, "y": np.zeros(n, result.numpy)}
        try:
            agrees(row, kernel, data, tmp_path, exact)
        except AssertionError as error:
            failed.append(f"{op} {dtype} {result}: {str(error)[:700]}")
    assert not failed, f"{len(failed)} operations\n" + "\n".join(failed)[:6000]
