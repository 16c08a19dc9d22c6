"""What this machine's processor can do, and what code for a target needs, without asking LLVM.

Names are LLVM's. Only features that generated code may use count; what an operating system uses
(cache control, protection keys) is left out. Linux tells the features in /proc/cpuinfo; elsewhere
they are unknown, and code from files is then not run.
"""

from __future__ import annotations

import platform
import re
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from brim.runtime.record import Record, as_text
from brim.targets.target import Target

# Features whose names in /proc/cpuinfo differ from LLVM's.
_X86_64 = {
    "sse3": "pni", "sse4.1": "sse4_1", "sse4.2": "sse4_2", "sahf": "lahf_lm", "lzcnt": "abm",
    "bmi": "bmi1", "pclmul": "pclmulqdq", "sha": "sha_ni", "avx512vbmi2": "avx512_vbmi2",
    "avx512vnni": "avx512_vnni", "avx512bitalg": "avx512_bitalg", "avx512bf16": "avx512_bf16",
    "avx512vpopcntdq": "avx512_vpopcntdq", "avx512fp16": "avx512_fp16",
    "avx512vp2intersect": "avx512_vp2intersect", "avxvnni": "avx_vnni", "avxifma": "avx_ifma",
    "avxvnniint8": "avx_vnni_int8", "avxvnniint16": "avx_vnni_int16",
    "avxneconvert": "avx_ne_convert", "amx-tile": "amx_tile", "amx-int8": "amx_int8",
    "amx-bf16": "amx_bf16", "amx-fp16": "amx_fp16",
} | {
    name: name
    for name in (
        "sse", "sse2", "ssse3", "sse4a", "popcnt", "cx16", "bmi2", "movbe", "avx", "f16c", "fma",
        "fma4", "xop", "tbm", "avx2", "adx", "aes", "vaes", "vpclmulqdq", "gfni", "sha512", "sm3",
        "sm4", "avx512f", "avx512cd", "avx512dq", "avx512bw", "avx512vl", "avx512ifma",
        "avx512vbmi",
    )
}  # fmt: skip
_AARCH64 = {
    "neon": "asimd", "fp-armv8": "fp", "dotprod": "asimddp", "fullfp16": "asimdhp",
    "lse": "atomics", "rdm": "asimdrdm", "crc": "crc32", "fp16fml": "asimdfhm", "rcpc": "lrcpc",
    "complxnum": "fcma", "jsconv": "jscvt", "sha2": "sha2", "sha3": "sha3", "aes": "aes",
    "sve": "sve", "sve2": "sve2", "i8mm": "i8mm", "bf16": "bf16", "sme": "sme", "sme2": "sme2",
}  # fmt: skip
_KNOWN = {"x86_64": _X86_64, "aarch64": _AARCH64}

# What a processor's name stands for, beyond the features that are listed with it.
_V2 = frozenset(("cx16", "sahf", "popcnt", "sse3", "ssse3", "sse4.1", "sse4.2"))
_V3 = _V2 | {"avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe"}
_V4 = _V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
_A53 = frozenset(("neon", "fp-armv8", "crc"))
_A76 = _A53 | frozenset(("dotprod", "fullfp16", "lse", "rdm", "rcpc"))
_PROCESSORS = {
    "x86-64-v2": _V2, "x86-64-v3": _V3, "x86-64-v4": _V4, "cortex-a53": _A53, "cortex-a76": _A76,
}  # fmt: skip

_KEPT = {
    "text": ("name", "triple", "cpu", "features", "abi"),
    "count": ("vector_bytes", "registers"),
    "rate": ("ghz", "fma_issue"),
}


def machine() -> str:
    """This machine's architecture by its usual name: x86_64, aarch64, ..."""
    found = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(found, found)


@cache
def processor_name() -> str:
    """What this machine's processor is called, for people."""
    with suppress(OSError), Path("/proc/cpuinfo").open("rb") as file:
        text = file.read(8192).decode("utf-8", "replace")
        if found := re.search(r"^model name\s*:(.*)$", text, re.MULTILINE):
            return found[1].strip()
    return platform.processor() or platform.machine()


@cache
def processor() -> tuple[str, frozenset[str]] | None:
    """The processor's name and features as the system tells them, or None where it does not."""
    known = _KNOWN.get(machine())
    try:
        # All cores say the same; on a large server the whole file takes milliseconds.
        with Path("/proc/cpuinfo").open("rb") as file:
            text = file.read(8192).decode("utf-8", "replace")
    except OSError:
        return None
    flags = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    if known is None or flags is None:
        return None
    names = re.findall(r"^(?:model name|cpu family|model|CPU part)\s*:(.*)$", text, re.MULTILINE)
    there = set(flags[1].split())
    features = frozenset(name for name, flag in known.items() if flag in there)
    return " ".join(name.strip() for name in names[:3]), features


def required_features(target: Target) -> list[str] | None:
    """The features that code for `target` may use, or None where that is not known."""
    known = _KNOWN.get(target.architecture)
    named = {f[1:] for f in target.features.split(",") if f.startswith("+")}
    usual = _PROCESSORS.get(target.cpu)
    # A row of the table names its processor; the host's row lists every feature there is.
    if known is None or (usual is None and target.name != "host"):
        return None
    return sorted((named | (usual or frozenset())) & known.keys())


def write_target(target: Target) -> dict[str, Any]:
    """What an artifact tells about the target of its code; prices beyond the peak are left out."""
    kept = {name: getattr(target, name) for names in _KEPT.values() for name in names}
    return {**kept, "requires": required_features(target)}


def read_target(record: Record) -> tuple[Target, list[str] | None]:
    """The target of an artifact's code, and the features that the code needs; None: not known."""
    texts = {name: record.text(name) for name in _KEPT["text"]}
    counts = {name: record.integer(name, 1, 1 << 20) for name in _KEPT["count"]}
    rates = {name: record.real(name) for name in _KEPT["rate"]}
    needs = None
    if record.get("requires") is not None:
        needs = [as_text(n, f"{record.where}.requires") for n in record.list("requires")]
    return Target(**texts, **counts, **rates), needs  # type: ignore[arg-type]


def why_not_here(triple: str, required: list[str] | None) -> str:
    """Why code for a target cannot run on this machine; empty if it can."""
    architecture = triple.split("-", 1)[0]
    if architecture != machine():
        return f"its code is for {architecture}, this machine is {machine()}"
    here = processor()
    if required is None or here is None:
        return "which processor features its code needs, or this machine has, is not known"
    missing = sorted(set(required) - here[1])
    return f"this processor lacks {', '.join(missing[:8])}" if missing else ""
