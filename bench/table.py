"""What a comparison looks like in the terminal: the columns, their legend, live progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bench.measure import TOLERANCE, Comparison, Measured

COLUMNS = (
    "network", "engine", "ms", "best", "GFLOP/s", "ratio", "25-75 %", "differs",
    "cores", "load", "again", "MB",
)  # fmt: skip
LEGEND = """\
ms: median over rounds; best: fastest single run; GFLOP/s: two per multiply-accumulate
ratio: the first engine's time over this one's, paired by round, below 1 the first is faster
differs: largest |difference| over largest |value|; cores: kept busy; MB: peak memory of the process
load: ms with an empty cache on disk; again: in a fresh process, the cache filled"""


def rows_of(
    net: str, operations: int, measured: list[Measured], comparisons: list[Comparison]
) -> Iterator[tuple[str, ...]]:
    """A row of COLUMNS for every engine that ran. operations: multiply-accumulates, 0: unknown."""
    against = {c.peer: (f"{c.ratio:.2f}", f"{c.low:.2f}-{c.high:.2f}", f"{c.difference:.0e}")
               for c in comparisons}  # fmt: skip
    for m in measured:
        if m.state == "ok":
            yield (
                net,
                m.label,
                milliseconds(m.median),
                milliseconds(m.fastest),
                f"{2e-9 * operations / m.median:.1f}" if operations else "",
                *against.get(m.label, ("", "", "")),
                f"{m.cores:.1f}",
                f"{m.cold_load * 1e3:.0f}",
                f"{m.warm_load * 1e3:.0f}",
                f"{m.peak_bytes / 1e6:.0f}",
            )


def milliseconds(seconds: float) -> str:
    """Hundredths, or three digits of what is shorter."""
    return f"{seconds * 1e3:.2f}" if seconds > 1e-3 else f"{seconds * 1e3:.3g}"


def troubles_of(
    net: str, threads: int, measured: list[Measured], comparisons: list[Comparison]
) -> Iterator[str]:
    for m in measured:
        if m.state != "ok":
            yield f"{net}: {m.label} {m.state}: {m.why}"
        # Slack: a waking helper thread is no second worker.
        elif m.cores > threads + 0.3:
            yield f"{net}: {m.label} kept {m.cores:.1f} cores busy, {threads} allowed: unfair"
    for c in comparisons:
        if not c.agrees:
            yield f"{net}: {c.peer} differs by {c.difference:.1e}, more than {TOLERANCE:.0e}"


def show(rows: list[tuple[str, ...]]) -> None:
    try:
        from rich import box
        from rich.console import Console
        from rich.table import Table
    except ModuleNotFoundError:
        widths = [max(map(len, column)) for column in zip(COLUMNS, *rows, strict=True)]
        for row in (COLUMNS, *rows):
            print(" ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))
        return
    table = Table(box=box.SIMPLE_HEAD, padding=0)
    for index, title in enumerate(COLUMNS):
        table.add_column(title, justify="left" if index < 2 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = Console()
    # A pipe or a narrow terminal must not cut figures off.
    console.width = max(console.width, 130)
    console.print(table)


@contextmanager
def live_progress() -> Iterator[Callable[[str], None]]:
    """What is being done, on standard error: one live line where rich is there, else nothing."""
    try:
        from rich.console import Console
    except ModuleNotFoundError:
        yield lambda message: None
        return
    with Console(stderr=True).status("") as status:
        yield status.update
