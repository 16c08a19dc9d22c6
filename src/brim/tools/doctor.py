"""Looks at everything brim depends on and at what is known to go wrong. Nothing is changed."""

from __future__ import annotations

import difflib
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

import brim
from brim import settings
from brim.errors import BrimError
from brim.graph import Graph, const, evaluate, placeholder
from brim.ops import math
from brim.runtime.cache import Cache
from brim.runtime.cpu import machine, processor, processor_name
from brim.runtime.threads import cpus
from brim.tools.caches import PARTS, cache_files
from brim.tools.machine import Limits, governor, is_virtual, limits, memory_bytes
from brim.tools.packages import Installed, installed
from brim.types import F32, Type

ROOM = 1 << 30  # bytes on the cache's disk below which it soon is full
VECTORS = ("avx2", "fma", "avx512f", "avx512vnni", "avxvnni", "amx-int8", "neon", "dotprod", "i8mm",
           "sve", "fullfp16", "bf16")  # fmt: skip
REQUIRED = ("numpy", "llvmlite")


@dataclass(frozen=True)
class Finding:
    """What is wrong (is_problem), or could be better; what to do about it."""

    is_problem: bool
    what: str
    hint: str


@dataclass(frozen=True)
class Diagnosis:
    """facts: about this machine, for people. cache: part -> files and bytes. findings: problems
    first."""

    facts: Mapping[str, str]
    packages: tuple[Installed, ...]
    cache: Mapping[str, tuple[int, int]]
    findings: tuple[Finding, ...]

    @property
    def is_well(self) -> bool:
        """Whether there are no problems."""
        return not any(finding.is_problem for finding in self.findings)


def diagnose() -> Diagnosis:
    """Looks at the machine, packages, settings and cache, and compiles and runs a small model."""
    packages, allowed = installed(), limits()
    found = [
        *package_findings(packages),
        *setting_findings(os.environ),
        *_cache_findings(),
        *machine_findings(allowed, cpus()),
        *arithmetic_findings(),
    ]
    if not any(finding.is_problem for finding in found):
        found += compiler_findings()
    found.sort(key=lambda finding: not finding.is_problem)
    return Diagnosis(_facts(allowed), packages, _cache_sizes(), tuple(found))


def _facts(allowed: Limits) -> dict[str, str]:
    there = processor()
    features = [name for name in VECTORS if there and name in there[1]]
    memory = memory_bytes()
    facts = {
        "brim": f"{brim.__version__}, in {os.path.dirname(brim.__file__)}",
        "Python": f"{platform.python_version()}, {sys.executable}",
        "system": f"{platform.system()} {platform.release()}, {machine()}",
        "C library": " ".join(platform.libc_ver()),
        "processor": processor_name() + (", in a virtual machine" if is_virtual() else ""),
        "vectors": " ".join(features),
        "cores": f"{cpus()} of {os.cpu_count()}",
        "memory": "" if memory is None else "{:.1f} GB, {:.1f} GB available".format(
            *(count / 1e9 for count in memory)
        ),
        "limits": _limits_text(allowed),
        "clock": governor(),
        "cache": "off" if settings.get("cache") == "off" else str(settings.cache_directory()),
    }  # fmt: skip
    return {name: fact for name, fact in facts.items() if fact.strip()}


def _limits_text(allowed: Limits) -> str:
    cores = f"{allowed.cores:g} cores" if allowed.cores else ""
    memory = f"{allowed.memory / 1e9:.1f} GB" if allowed.memory else ""
    return ", ".join(filter(None, (cores, memory)))


def _cache_sizes() -> dict[str, tuple[int, int]]:
    if settings.get("cache") == "off":
        return {}
    sizes = {part: [file.stat().st_size for file in cache_files(part)] for part in PARTS}
    return {part: (len(found), sum(found)) for part, found in sizes.items()}


# ------------------------------------------------------------------ what may be wrong


def package_findings(packages: tuple[Installed, ...]) -> Iterator[Finding]:
    """Packages that must be there and are not, are too old or broken."""
    for found in packages:
        package = found.package
        extra = (
            f"'brim[{package.extra}]'" if package.extra else f"'{package.name}>={package.least}'"
        )
        if found.fault:
            what = f"{package.name} {found.version}: {found.fault}"
            yield Finding(True, what, f"pip install --upgrade {extra}")
        elif not found.version and package.name in REQUIRED:
            yield Finding(
                True, f"{package.name} is missing: {package.purpose}", f"pip install {extra}"
            )


def setting_findings(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Settings that no one reads, that are wrong, or that slow everything down."""
    known = {setting.env: setting for setting in settings.SETTINGS.values()}
    for name in sorted(environment):
        if not name.startswith("BRIM_"):
            continue
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"{near[0]}?" if near else f"settings: {', '.join(known)}"
            yield Finding(False, f"nothing reads the environment variable {name}", hint)
            continue
        try:
            value = settings.get(known[name].name)
        except BrimError as error:
            yield Finding(True, error.what, error.hint)
            continue
        slow = {
            "check": "every graph is interpreted after every pass",
            "debug": "models are compiled anew by every process",
            "dump": "models are compiled anew by every process, and written as text",
            "exact": "variants such as Winograd's convolution are not used",
        }.get(known[name].name)
        if slow and value:
            yield Finding(False, f"{name}={environment[name]}: {slow}", f"unset {name}")


def _cache_findings() -> Iterator[Finding]:
    try:
        if settings.get("cache") == "off":
            hint = "unset BRIM_CACHE"
            yield Finding(False, "the cache is off: every process compiles every model", hint)
            return
        folder = settings.cache_directory()
        Cache(folder / "kernels")
    except BrimError as error:
        yield Finding(True, f"{error.what}: {error.why}", error.hint)
        return
    hint = "name a folder of your own with BRIM_CACHE"
    if not os.access(folder, os.W_OK | os.X_OK):
        what = f"{folder} cannot be written: every process compiles every model"
        yield Finding(True, what, hint)
        return
    free = shutil.disk_usage(folder).free
    if free < ROOM:
        hint = "brim cache clear, or name a folder elsewhere with BRIM_CACHE"
        yield Finding(False, f"the cache's disk has {free / 1e6:.0f} MB left", hint)


def machine_findings(allowed: Limits, cores: int) -> Iterator[Finding]:
    """What the machine does to threads and to times."""
    if sys.platform not in ("linux", "android"):
        yield Finding(False, f"brim is not tested on {platform.system()}", "report what fails")
    if processor() is None:
        what = "the system does not tell the processor's features: code from files is not run"
        yield Finding(False, what, "artifacts are compiled from their graphs, once")
    if allowed.cores and allowed.cores < cores:
        whole = max(int(allowed.cores), 1)
        what = (
            f"{cores} cores are there, but only {allowed.cores:g} may be used: threads are held up"
        )
        yield Finding(False, what, f"BRIM_THREADS={whole} at most, and not 0")
    if allowed.memory and allowed.memory < ROOM // 2:
        what = f"only {allowed.memory / 1e6:.0f} MB of memory may be used"
        yield Finding(False, what, "BRIM_JOBS=1 compiles in one process")
    if governor() == "powersave":
        what = "the clock rule is powersave: times vary, and short runs are slow"
        yield Finding(False, what, "cpupower frequency-set -g performance, for measurements")


def arithmetic_findings() -> Iterator[Finding]:
    """Arithmetic of this process that is not IEEE 754's, as some libraries switch it."""
    tiny = np.float32(1e-40)  # below the normal numbers
    if not tiny * np.float32(1):
        yield Finding(
            True,
            "numbers below 1e-38 become 0: some library of this process switched that on",
            "libraries compiled with -ffast-math do so; import them in another process",
        )


def compiler_findings() -> Iterator[Finding]:
    """What goes wrong with a small model, compiled and run here on one thread and on two."""
    x = placeholder(Type((8, 32), F32))
    w = const(np.linspace(-1, 1, 32 * 16, dtype=np.float32).reshape(32, 16))
    graph = Graph({"x": x}, {"y": math.softmax(math.matmul(x, w), axis=1)}, "doctor")
    feeds = {"x": np.linspace(-1, 1, 8 * 32, dtype=np.float32).reshape(8, 32)}
    wanted = evaluate(graph, feeds)["y"]
    report = "please report this with the output of `brim doctor --json`"
    for threads in (1, 2)[: cpus()]:
        try:
            found = brim.compile(graph, threads=threads).run(feeds)["y"]
        except BrimError as error:
            yield Finding(True, f"a small model cannot be run: {error.what}: {error.why}", report)
            return
        if not np.allclose(found, wanted, 1e-4, 1e-6):
            yield Finding(True, f"a small model is wrong on {threads} threads", report)


def missing(diagnosis: Diagnosis) -> dict[str, list[str]]:
    """Extra of brim -> what cannot be done without it here."""
    gone: dict[str, list[str]] = {}
    for found in diagnosis.packages:
        if not found.version and found.package.extra:
            gone.setdefault(found.package.extra, []).append(found.package.purpose)
    return gone
