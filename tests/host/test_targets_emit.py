"""Object code for every row of the target table: right format, right machine, nothing undefined.

Each row is compiled in a child process, because a failed assertion of a back end aborts it.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator

import pytest

from brim.kernels.ir import Kernel
from brim.types import BOOL, DTYPES, F16, F32, F64, DType
from tests import kernels_library as lib

# e_machine of the ELF specification
MACHINES = {"x86_64": 62, "aarch64": 183, "armv7a": 40, "riscv64": 243}
ROWS = [
    *("x86-64-v2", "x86-64-v3", "x86-64-v4", "cortex-a76", "cortex-a53"),
    *("armv7", "riscv64", "wasm32"),
]
UNARY = ("sqrt", "floor", "ceil", "trunc", "rint", "exp", "log", "tanh", "erf", "sin", "atan")
BINARY = ("maximum", "minimum", "power", "mod", "fmod", "atan2")
SAMPLE = [
    *("matmul packed with a tail", "dots", "conv 3x3 packed", "conv 3x3 stride 2", "grouped"),
    *("depthwise", "max_pool", "softmax rows", "softmax columns", "layer_norm", "total", "half"),
    *("transpose", "transpose i8", "strided", "reversed", "spread", "concatenate", "pad bool"),
    *(
        "iota i8",
        "quantized",
        "quantized conv",
        "gather rows",
        "gather elements",
        "guarded gather",
        "scatter_add",
    ),
    *("cumulative along", "inner_scan", "argmax rows", "argmax columns", "argmax i8", "constant"),
    *("reduce mul", "reduce and bool", "complete trees", "linked trees", "repeated often"),
]


def kernels() -> Iterator[Kernel]:
    """A sample of the library, and every operation that a back end might turn into a call."""
    library = dict(lib.library())
    yield from (library[name] for name in SAMPLE)
    n = 37
    for dtype in (F32, F64):
        for op in UNARY:
            yield lib.elementwise(op, n, 1, dtype)
        for op in BINARY:
            yield lib.elementwise(op, n, 2, dtype)
    whole: list[DType] = [t for t in DTYPES.values() if t.is_integer]
    for dtype in whole:
        for op in ("mul", "div", "mod", "fmod", "maximum", "shift_left", "shift_right"):
            yield lib.elementwise(op, n, 2, dtype)
    for of in (F16, F32, F64):
        for to in (F16, F32, F64, BOOL, *whole):
            yield lib.elementwise("cast", n, 1, of, to)
            yield lib.elementwise("cast", n, 1, to, of)


# ------------------------------------------------------------------ symbol tables


def undefined(blob: bytes) -> list[str]:
    """Names of symbols that an object uses and does not define."""
    return _wasm_imports(blob) if blob[:4] == b"\0asm" else _elf_undefined(blob)


def _elf_undefined(blob: bytes) -> list[str]:
    wide = blob[4] == 2
    table, size, count = (
        (struct.unpack_from("<Q", blob, 40)[0], *struct.unpack_from("<HH", blob, 58))
        if wide
        else (struct.unpack_from("<I", blob, 32)[0], *struct.unpack_from("<HH", blob, 46))
    )
    layout = "<IIQQQQIIQQ" if wide else "<10I"
    sections = [struct.unpack_from(layout, blob, table + i * size) for i in range(count)]
    found = []
    for _, kind, _, _, offset, length, link, _, _, entry in sections:
        if kind != 2:  # SHT_SYMTAB
            continue
        names = sections[link][4]
        for at in range(offset + entry, offset + length, entry):  # the first one is always null
            name = struct.unpack_from("<I", blob, at)[0]
            (section,) = struct.unpack_from("<H", blob, at + (6 if wide else 14))
            if section == 0:
                end = blob.index(b"\0", names + name)
                found.append(blob[names + name : end].decode())
    return found


def _wasm_imports(blob: bytes) -> list[str]:
    """Imported functions and globals; memory and tables always are imports of an object."""

    def number(at: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            byte = blob[at]
            value |= (byte & 127) << shift
            at, shift = at + 1, shift + 7
            if byte < 128:
                return value, at

    found, at = [], 8
    while at < len(blob):
        kind, (size, body) = blob[at], number(at + 1)
        if kind == 2:
            count, here = number(body)
            for _ in range(count):
                words = []
                for _ in range(2):
                    length, here = number(here)
                    words.append(blob[here : here + length].decode())
                    here += length
                sort = blob[here]
                if sort in (0, 3):
                    found.append(words[1])
                if sort == 0:
                    _, here = number(here + 1)
                elif sort == 3:
                    here += 3
                else:  # memory or table: (element type,) flags, least, perhaps most
                    here += 2 if sort == 1 else 1
                    limits = blob[here]
                    _, here = number(here + 1)
                    if limits & 1:
                        _, here = number(here)
        at = body + size
    return found


# ------------------------------------------------------------------ the test


def report(row: str, every: int) -> dict[str, list]:
    """Kernel -> [magic in hex, machine, undefined symbols]: what the child prints."""
    from brim.kernels.pack import pack
    from brim.kernels.schedule import choose
    from brim.targets.objects import compile_kernel
    from brim.targets.target import TARGETS

    target, found = TARGETS[row], {}
    for number, kernel in enumerate(list(kernels())[::every]):
        print(row, kernel.name, file=sys.stderr, flush=True)
        schedule = choose(kernel, target)[0]
        blob = compile_kernel(pack(kernel, schedule)[0], schedule, target)
        machine = struct.unpack_from("<H", blob, 18)[0]
        found[f"{number} {kernel.name}"] = [blob[:4].hex(), machine, undefined(blob)]
    return found


@pytest.mark.parametrize("row", ROWS)
def test_some_objects(row: str) -> None:
    check(row, 11)


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS)
def test_all_objects(row: str) -> None:
    check(row, 1)


def check(row: str, every: int) -> None:
    """Compiles every so-manieth kernel for a row."""
    from brim.targets.target import TARGETS

    code = f"from {__name__} import *; print(json.dumps(report({row!r}, {every})))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"PYTHONPATH": ":".join(sys.path)},
    )
    assert done.returncode == 0, done.stderr[-800:]
    found = json.loads(done.stdout)
    assert len(found) > 150 // every
    architecture = TARGETS[row].architecture
    wasm = architecture == "wasm32"
    magic = (b"\0asm" if wasm else b"\x7fELF").hex()
    for name, (start, machine, missing) in found.items():
        assert start == magic, name
        assert wasm or machine == MACHINES[architecture], name
        assert missing == [], f"{name} calls {missing}"


def test_every_row_is_tested() -> None:
    from brim.targets.target import TARGETS

    assert list(TARGETS) == ROWS


def test_undefined_symbols_are_seen() -> None:
    from brim.targets.objects import compile_text
    from brim.targets.target import TARGETS

    for row in ("x86-64-v3", "armv7", "wasm32"):
        target = TARGETS[row]
        text = f'target triple = "{target.triple}"\ndeclare void @other()\n'
        text += "define void @f() nounwind {\n  call void @other()\n  ret void\n}\n"
        assert undefined(compile_text(text, target)) == ["other"]
