"""Benchmarks that are kept, and what became of them since: ratios with the noise of both sides.

Two measurements of one program differ: by rounds, and because a machine is not today what it was
then. Rounds are resampled; and beside the model a yardstick is timed, work that no version of brim
changes. What the yardstick drifted by widens the interval, so a model counts as slower only by what
neither explains.
"""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brim.errors import InputError
from brim.runtime.cpu import processor_name
from brim.runtime.record import Record, as_integer, as_list, as_real, parse_json
from brim.tools.sweep import Setting, Sweep

FORMAT = 1
SAMPLES, CONFIDENCE = 2000, 0.95


@dataclass(frozen=True)
class Kept:
    """A benchmark as it is kept: seconds of the rounds with each setting, and of the yardstick.

    digest: SHA-256 of the model file. machine: the processor's name. brim: the version.
    """

    model: str
    digest: str
    machine: str
    brim: str
    yardstick: float
    rounds: Mapping[Setting, tuple[float, ...]]


@dataclass(frozen=True)
class Change:
    """What became of one setting: median seconds before and now, their ratio (above 1: slower), and
    between which numbers it is, rounds and the yardstick's drift considered."""

    setting: Setting
    before: float
    now: float
    ratio: float
    low: float
    high: float

    def is_slower(self, limit: float) -> bool:
        """Whether it takes more than `limit` times as long, beyond the noise."""
        return self.low > limit


@dataclass(frozen=True)
class Comparison:
    """All settings that both sides have. unmatched: those of one side alone. yardstick: the ratio
    of the machine's own speed. notes: what else differs."""

    changes: tuple[Change, ...]
    unmatched: tuple[Setting, ...]
    yardstick: float
    notes: tuple[str, ...]


def kept(model: Path, measured: Sweep) -> Kept:
    """What was measured of a model file."""
    import brim

    return Kept(
        model.name,
        hashlib.sha256(model.read_bytes()).hexdigest(),
        processor_name(),
        brim.__version__,
        measured.yardstick,
        {point.setting: point.ours.rounds for point in measured.points},
    )


def compare(before: Kept, now: Kept) -> Comparison:
    """What became of a benchmark. Raises InputError where no setting is the same."""
    common = [setting for setting in now.rounds if setting in before.rounds]
    if not common:
        raise InputError(
            "the benchmarks have no setting in common",
            why=f"kept: {_listed(before)}; now: {_listed(now)}",
            hint="measure with the same --threads, --batch and --shape",
        )
    drift = now.yardstick / before.yardstick
    changes = [_change(s, before.rounds[s], now.rounds[s], drift) for s in common]
    pairs = (
        ("model file", before.digest[:12], now.digest[:12]),
        ("processor", before.machine, now.machine),
        ("version of brim", before.brim, now.brim),
    )
    return Comparison(
        tuple(changes),
        tuple(s for s in (*before.rounds, *now.rounds) if s not in common),
        drift,
        tuple(f"another {what}: {old}, now {new}" for what, old, new in pairs if old != new),
    )


def _change(
    setting: Setting, before: Sequence[float], now: Sequence[float], drift: float
) -> Change:
    random = np.random.default_rng(0)
    old, new = (
        np.median(random.choice(rounds, (SAMPLES, len(rounds))), axis=1) for rounds in (before, now)
    )
    edge = (1 - CONFIDENCE) / 2
    low, high = np.quantile(new / old, (edge, 1 - edge)).tolist()
    medians = statistics.median(before), statistics.median(now)
    ratio = medians[1] / medians[0]
    # a machine that is slower now explains a slower model, one that is faster hides it
    return Change(setting, *medians, ratio, low / max(drift, 1.0), high / min(drift, 1.0))


def _listed(kept: Kept) -> str:
    return "; ".join(map(str, kept.rounds))


# ------------------------------------------------------------------ files


def document(kept: Kept) -> dict[str, Any]:
    """A benchmark as JSON has it."""
    return {
        "format": FORMAT,
        "model": kept.model,
        "digest": kept.digest,
        "machine": kept.machine,
        "brim": kept.brim,
        "yardstick_seconds": kept.yardstick,
        "settings": [
            {
                "threads": setting.threads,
                "batch": setting.batch,
                "shapes": {name: list(shape) for name, shape in setting.shapes},
                "rounds_seconds": list(rounds),
            }
            for setting, rounds in kept.rounds.items()
        ],
    }


def read(path: Path) -> Kept:
    """A benchmark from a file that `document` was written to. Raises ModelError for others."""
    record = parse_json(path.read_bytes(), path.name)
    record.integer("format", FORMAT, FORMAT)
    return Kept(
        record.text("model"),
        record.text("digest"),
        record.text("machine"),
        record.text("brim"),
        record.real("yardstick_seconds") or 1.0,
        dict(_setting(item) for item in record.records("settings")),
    )


def _setting(record: Record) -> tuple[Setting, tuple[float, ...]]:
    where = record.where
    shapes = tuple(
        (name, tuple(as_integer(n, where) for n in as_list(shape, where)))
        for name, shape in record.record("shapes").items()
    )
    batch = None if record.get("batch") is None else record.integer("batch", 1)
    rounds = tuple(as_real(seconds, where) for seconds in record.list("rounds_seconds"))
    if not rounds or min(rounds) <= 0:
        raise InputError(f"{where} has no times")
    return Setting(record.integer("threads", 1), batch, shapes), rounds
