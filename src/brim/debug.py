"""What BRIM_DEBUG prints (to stderr) and what BRIM_DUMP writes: the compiler's windows.

Nothing here changes what is compiled, and nothing is computed unless it was asked for. Everything
written is text that can be read back: graphs with `parse_graph`, kernels and schedules with
`parse_kernel` and `parse_schedule`. docs/debugging.md shows it at work.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from brim import settings
from brim.files import write_text, written
from brim.graph import Graph
from brim.kernels.ir import Kernel
from brim.kernels.schedule import choose
from brim.kernels.text import parse_kernel, parse_schedule, print_schedule
from brim.runtime.compiled import Row
from brim.targets.llvm import emit
from brim.targets.objects import assembly
from brim.targets.target import Target
from brim.text import print_graph
from brim.types import as_carrier

TARGET, TIMES, DECISIONS, KERNELS, GRAPHS, LLVM, ASSEMBLY = range(1, 8)  # levels of BRIM_DEBUG
SHOWN = 3  # candidates of a kernel that level 3 shows beside the chosen one


@dataclass(frozen=True)
class Window:
    """What was asked for, for one graph: a level, and the folder that takes its dump (or None)."""

    level: int = 0
    folder: Path | None = None

    def text(self, level: int, name: str, text: str) -> None:
        """Prints `text` if the level asks for it; writes the file `name` if there is a dump."""
        if self.level >= level:
            print(f"# {name}\n{text.rstrip()}\n", file=sys.stderr)
        if self.folder is not None:
            (self.folder / name).write_text(text)


def open_window(name: str) -> Window:
    """What the settings ask for. Every graph gets a folder of its own: DUMP/0-NAME, 1-NAME, ..."""
    level, root = settings.get("debug"), settings.get("dump")
    return Window(level, _new_folder(Path(root), name) if root else None)


def _new_folder(root: Path, name: str) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    label = re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:60]  # names come from files: no dots or slashes
    for number in count():
        if any(root.glob(f"{number}-*")):
            continue
        folder = root / f"{number}-{label}"
        with contextlib.suppress(FileExistsError):  # another process was quicker: take the next
            folder.mkdir()
            break
    return folder


def show_graph(window: Window, name: str, graph: Graph) -> None:
    """Level 5: the graph after a pass. Its large constants go to NAME.npz beside NAME.graph."""
    if window.level >= GRAPHS:
        print(f"# {name}.graph\n{print_graph(graph)[0]}", file=sys.stderr)
    if window.folder is not None:
        write_graph(window.folder / f"{name}.graph", graph)


def write_graph(path: Path, graph: Graph) -> None:
    """Writes a graph as text, and its large constants as the .npz of the same name beside it."""
    text, data = print_graph(graph)
    arrays: Any = {key: as_carrier(array) for key, array in data.items()}
    with written(path.with_suffix(".npz")) as temporary:
        np.savez(temporary, **arrays)
    write_text(path, text)


def show_target(window: Window, target: Target) -> None:
    """Level 1: the machine that is compiled for, and its prices."""
    if window.level < TARGET:
        return
    caches = " ".join(f"{size >> 10}K" for size in target.caches)
    print(
        f"target {target.name}: {target.triple} {target.cpu}, {target.vector_bytes * 8}-bit vectors"
        f" x {target.registers}, {target.ghz} GHz, caches {caches}",
        file=sys.stderr,
    )


def show_kernels(
    window: Window, rows: Sequence[Row], kernels: Mapping[Kernel, int], target: Target
) -> None:
    """Levels 3, 4, 6, 7: for every distinct kernel the decision, its text, LLVM text and assembly.

    rows: the model's kernel calls. kernels: each kernel before packing -> the number of its object.
    """
    if window.level < DECISIONS and window.folder is None:
        return
    shown: set[int] = set()
    for row, (kernel, number) in zip(_first_rows(rows, kernels), kernels.items()):
        if number in shown:
            continue
        shown.add(number)
        name = f"k{number:02d}"
        window.text(DECISIONS, f"{name}.why", _decision(row, kernel, target))
        window.text(KERNELS, f"{name}.kernel", row.kernel)
        window.text(KERNELS, f"{name}.schedule", row.schedule)
        if window.level >= LLVM or window.folder is not None:
            llvm = emit(parse_kernel(row.kernel), parse_schedule(row.schedule), target)
            window.text(LLVM, f"{name}.ll", llvm)
        if window.level >= ASSEMBLY or window.folder is not None:
            window.text(ASSEMBLY, f"{name}.s", assembly(llvm, target))


def _first_rows(rows: Sequence[Row], kernels: Mapping[Kernel, int]) -> list[Row]:
    """The first call of each kernel, in the order of `kernels`."""
    first: dict[int, Row] = {}
    for row in rows:
        first.setdefault(row.object, row)
    return [first[number] for number in kernels.values()]


def _decision(row: Row, kernel: Kernel, target: Target) -> str:
    chosen, priced = choose(kernel, target)
    lines = [f"{', '.join(row.ops)}  # {row.where}" if row.where else ", ".join(row.ops)]
    lines.append(f"{priced[0][0] * 1e6:9.2f} us  {print_schedule(chosen).strip()}  <- chosen")
    for seconds, schedule in priced[1 : 1 + SHOWN]:
        lines.append(f"{seconds * 1e6:9.2f} us  {print_schedule(schedule).strip()}")
    if len(priced) > 1 + SHOWN:
        lines.append(f"{priced[-1][0] * 1e6:9.2f} us  is the worst of {len(priced)} candidates")
    return "\n".join(lines) + "\n"


def show_times(rows: Sequence[Row], seconds: Sequence[float]) -> None:
    """Level 2: every kernel call, predicted and measured, with its arithmetic per second."""
    print("#    predicted   measured   GFLOP/s  operators", file=sys.stderr)
    for number, (row, took) in enumerate(zip(rows, seconds)):
        rate = row.flops / took / 1e9 if took else 0.0
        where = f"  # {row.where}" if row.where else ""
        line = f"{number:<3}{_times(row.predicted_seconds, took)}{rate:10.1f}"
        print(f"{line}  {', '.join(row.ops)}{where}", file=sys.stderr)
    total = _times(sum(row.predicted_seconds for row in rows), sum(seconds))
    print(f"sum{total}", file=sys.stderr)


def _times(*seconds: float) -> str:
    return "".join(f"{s * 1e6:8.1f} us" for s in seconds)
