"""What the operating system says about this machine and about what a process may have of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")
_V1 = {"cpu": "cpu", "memory": "memory"}  # controllers of cgroups of the first kind


@dataclass(frozen=True)
class Limits:
    """What a container or service may use. cores: whole and parts; memory: bytes; None: all."""

    cores: float | None
    memory: int | None


def limits(root: Path = ROOT) -> Limits:
    """The least that the control groups of this process allow, of either kind."""
    cores, memory = [], []
    for folder in _groups(root, ""):  # cgroups of the second kind: one tree
        cores.append(_quota(_text(folder / "cpu.max").split()))
        memory.append(_count(_text(folder / "memory.max")))
    for folder in _groups(root, "cpu"):
        texts = (_text(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
        cores.append(_quota([text.strip() for text in texts]))
    for folder in _groups(root, "memory"):
        memory.append(_count(_text(folder / "memory.limit_in_bytes")))
    largest = 1 << 50  # what the first kind calls no limit is some 2 ** 63
    return Limits(
        min((n for n in cores if n), default=None),
        min((n for n in memory if n and n < largest), default=None),
    )


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's control group and of those around it."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controller in controllers.split(","):
            base = root / "sys/fs/cgroup" / _V1.get(controller, "")
            here = base / path.strip("/")
            yield from (
                folder for folder in (here, *here.parents) if base in (folder, *folder.parents)
            )


def _quota(words: list[str]) -> float | None:
    """Cores of "quota period", in microseconds."""
    if len(words) != 2 or not all(word.isdigit() for word in words) or not int(words[1]):
        return None
    return int(words[0]) / int(words[1])


def _count(text: str) -> int | None:
    return int(text) if text.strip().isdigit() else None


def memory_bytes(root: Path = ROOT) -> tuple[int, int] | None:
    """Memory in all, and what is available of it; None where the system does not tell."""
    found = dict(re.findall(r"^(\w+):\s+(\d+) kB$", _text(root / "proc/meminfo"), re.MULTILINE))
    if not {"MemTotal", "MemAvailable"} <= found.keys():
        return None
    return int(found["MemTotal"]) << 10, int(found["MemAvailable"]) << 10


def governor(root: Path = ROOT) -> str:
    """The rule by which the first core's clock is set, such as powersave; "" where not known."""
    return _text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip()


def is_virtual(root: Path = ROOT) -> bool:
    """Whether this is a virtual machine, which shares its cores with others."""
    return " hypervisor" in _text(root / "proc/cpuinfo")


def _text(path: Path) -> str:
    """The text of a file of the system; "" where there is none."""
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""
