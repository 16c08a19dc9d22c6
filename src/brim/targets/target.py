"""What a machine is, as far as code generation and its prices need it: the table of targets.

Numbers are per core. A row's prices are defaults by processor family; `brim calibrate` may replace
them with measured ones. Importing this needs no LLVM; only `host` and `machine` do.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from brim import settings
from brim.errors import BrimError


@dataclass(frozen=True)
class Target:
    """One kind of processor.

    triple: four parts; objects are ELF (wasm32: a wasm module). vector_bytes: width of the vectors
    that kernels use; registers: how many of them. fma: multiplies and adds in one instruction.
    fma_issue, load_issue: vector instructions per cycle; fma_latency: cycles. ghz: sustained clock
    under vector code. caches: bytes a core can use at levels 1, 2, 3. bandwidth: bytes per cycle
    that one core reads from level 1, 2, 3 and memory. fork: seconds that it costs two threads to
    share some work. abi: LLVM's name of it. nan_extremes and lacks: see `Builder`.
    """

    name: str
    triple: str
    cpu: str
    features: str
    vector_bytes: int
    registers: int
    fma: bool = True
    fma_issue: float = 2.0
    load_issue: float = 2.0
    fma_latency: int = 4
    ghz: float = 2.5
    caches: tuple[int, int, int] = (32 << 10, 512 << 10, 4 << 20)
    bandwidth: tuple[float, float, float, float] = (64.0, 24.0, 12.0, 5.0)
    fork: float = 5e-7
    abi: str = ""
    nan_extremes: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()

    @property
    def architecture(self) -> str:
        """The first part of the triple: x86_64, aarch64, armv7a, riscv64, wasm32."""
        return self.triple.split("-", 1)[0]

    @property
    def looks_up_bytes(self) -> bool:
        """Whether bytes can be looked up in a table of 256 that lies in registers."""
        return self.architecture == "aarch64" or "+avx512vbmi," in self.features + ","

    @property
    def peak_flops(self) -> float:
        """f32 operations that one core can do in a second; a multiply and add counts as two."""
        return self.ghz * 1e9 * self.fma_issue * self.lanes(32) * 2

    @property
    def index_type(self) -> str:
        """LLVM's integer type as wide as a pointer."""
        return "i32" if self.architecture in ("armv7a", "wasm32") else "i64"

    def lanes(self, bits: int) -> int:
        """Elements of `bits` bits in one vector."""
        return max(self.vector_bytes * 8 // bits, 1)


_KB, _MB = 1 << 10, 1 << 20
_BOTH = ("float", "double")

# What small in-order cores share.
_SMALL: dict[str, Any] = {
    "fma_issue": 1.0,
    "load_issue": 1.0,
    "ghz": 1.4,
    "caches": (32 * _KB, 512 * _KB, 0),
    "bandwidth": (16.0, 8.0, 4.0, 2.0),
}

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target(
            "x86-64-v2", "x86_64-unknown-linux-gnu", "x86-64-v2", "", 16, 16,
            fma=False, fma_issue=1.0, fma_latency=8, lacks=("half",),
        ),
        Target("x86-64-v3", "x86_64-unknown-linux-gnu", "x86-64-v3", "", 32, 16, ghz=3.0),
        Target(
            "x86-64-v4", "x86_64-unknown-linux-gnu", "x86-64-v4", "", 64, 32,
            fma_issue=1.0, load_issue=1.0, ghz=3.0, caches=(32 * _KB, 1 * _MB, 4 * _MB),
        ),
        Target(
            "cortex-a76", "aarch64-unknown-linux-gnu", "cortex-a76", "+dotprod,+fullfp16", 16, 32,
            caches=(64 * _KB, 256 * _KB, 2 * _MB), bandwidth=(32.0, 16.0, 8.0, 4.0),
            nan_extremes=_BOTH,
        ),
        Target(
            "cortex-a53", "aarch64-unknown-linux-gnu", "cortex-a53", "", 16, 32,
            nan_extremes=_BOTH, **_SMALL,
        ),
        Target(
            # 16 registers, but with all of them in use LLVM moves every accumulator in every round
            "armv7", "armv7a-unknown-linux-gnueabihf", "cortex-a15", "+neon,+vfp4", 16, 14,
            nan_extremes=("float",), lacks=("rounding", "nearest", "long"), **_SMALL,
        ),
        Target(
            "riscv64", "riscv64-unknown-linux-gnu", "generic-rv64",
            "+m,+a,+f,+d,+c,+v,+zvl128b", 16, 32, abi="lp64d", lacks=("half",), **_SMALL,
        ),
        Target(
            "wasm32", "wasm32-unknown-unknown-wasm", "generic",
            "+simd128,+bulk-memory,+sign-ext,+nontrapping-fptoint", 16, 16,
            fma=False, fma_issue=1.0, fma_latency=8, nan_extremes=_BOTH,
            lacks=("half", "nearest"),
        ),
    )
}  # fmt: skip

# Prices by processor family, matched against the start of LLVM's name of the host's processor.
# Zen 4 splits 512-bit instructions in two; measured, they still win (half the instructions, and a
# tile's addresses and broadcasts are shared by twice as many lanes).
_FAMILIES: dict[str, dict[str, Any]] = {
    "znver4": {
        "fma_issue": 1.0, "load_issue": 1.0, "ghz": 3.65,
        "caches": (32 * _KB, 1 * _MB, 16 * _MB), "bandwidth": (64.0, 48.0, 24.0, 8.0),
    },
    "znver5": {
        "fma_issue": 2.0, "load_issue": 2.0, "ghz": 4.0,
        "caches": (48 * _KB, 1 * _MB, 16 * _MB), "bandwidth": (128.0, 64.0, 24.0, 8.0),
    },
    "znver": {
        "fma_latency": 5, "ghz": 3.2,
        "caches": (32 * _KB, 512 * _KB, 8 * _MB), "bandwidth": (64.0, 32.0, 16.0, 6.0),
    },
    "skylake": {"ghz": 2.8, "caches": (32 * _KB, 1 * _MB, 4 * _MB)},
    "cascadelake": {"ghz": 2.8, "caches": (32 * _KB, 1 * _MB, 4 * _MB)},
    "icelake": {"ghz": 2.8, "caches": (48 * _KB, 1280 * _KB, 6 * _MB)},
    "sapphirerapids": {
        "fma_issue": 2.0, "load_issue": 2.0, "ghz": 2.8,
        "caches": (48 * _KB, 2 * _MB, 8 * _MB), "bandwidth": (128.0, 48.0, 12.0, 5.0),
    },
    "apple": {
        "fma_issue": 4.0, "load_issue": 3.0, "ghz": 3.2, "caches": (128 * _KB, 4 * _MB, 8 * _MB),
    },
    "neoverse": {"ghz": 2.8, "caches": (64 * _KB, 1 * _MB, 8 * _MB)},
}  # fmt: skip


# What `brim calibrate` measures, and between which values every processor lies.
PRICES: dict[str, tuple[float, float]] = {
    "fma_issue": (0.1, 8),
    "load_issue": (0.1, 8),
    "fma_latency": (2, 20),
    "ghz": (0.2, 8),
    "caches": (0, 1 << 30),
    "bandwidth": (0.05, 512),
    "fork": (2e-8, 1e-3),
}


def prices_file() -> Path | None:
    """Where the measured prices of this machine are kept; None if nothing is to be kept."""
    folder = settings.cache_directory()
    return None if settings.get("cache") == "off" else folder / "prices.json"


def _measured(cpu: str) -> dict[str, Any]:
    """The saved prices of a processor: none, or all. A damaged file is told and not used."""
    path = prices_file()
    if path is None or not path.is_file():
        return {}
    try:
        saved = json.loads(path.read_bytes())
        if saved["cpu"] != cpu:
            return {}
        found = {n: tuple(v) if isinstance(v, list) else v for n, v in saved.items() if n in PRICES}
        for name, (low, high) in PRICES.items():
            count = {"caches": 3, "bandwidth": 4}.get(name)
            values = found[name] if count else (found[name],)
            if count and len(values) != count:
                raise ValueError(name)
            if not all(isinstance(v, int | float) and low <= v <= high for v in values):
                raise ValueError(name)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        warnings.warn(
            f"{path} is damaged and not used ({error}); run `brim calibrate`", RuntimeWarning,
            stacklevel=2,
        )  # fmt: skip
        return {}
    return found


@cache
def host() -> Target:
    """The machine this process runs on, as LLVM sees it. Raises BrimError for unknown families."""
    from llvmlite import binding

    cpu, found = binding.get_host_cpu_name(), binding.get_host_cpu_features()
    features = found.flatten()
    architecture = binding.get_default_triple().split("-", 1)[0]
    match architecture:
        case "x86_64":
            row = "x86-64-v4" if found.get("avx512vl") and found.get("avx512dq") else (
                "x86-64-v3" if found.get("avx2") and found.get("fma") else "x86-64-v2")  # fmt: skip
        case "aarch64" | "arm64":
            row = "cortex-a76" if found.get("dotprod") else "cortex-a53"
        case "armv7l" | "armv7a" | "armv7" | "arm":
            row = "armv7"
        case "riscv64":
            row = "riscv64"
        case _:
            raise BrimError(
                f"this machine is a {architecture}, for which brim has no target",
                hint=f"cross-compile for one of {', '.join(TARGETS)}",
            )
    prices = next((p for family, p in _FAMILIES.items() if cpu.startswith(family)), {})
    measured = _measured(cpu)
    return replace(TARGETS[row], name="host", cpu=cpu, features=features, **(prices | measured))


def find_target(name: str) -> Target:
    """A row of the table, or "host". Raises BrimError for other names."""
    if name == "host":
        return host()
    if name not in TARGETS:
        raise BrimError(f"there is no target {name!r}", hint=f"targets: host, {', '.join(TARGETS)}")
    return TARGETS[name]
