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

from brim.errors import InputError, ModelError
from brim.runtime.cpu import processor_name
from brim.runtime.record import Record, as_integer, as_list, as_real, parse_json
from brim.tools.sweep import Point, Setting

FORMAT = 1
SAMPLES, CONFIDENCE = 2000, 0.95


@dataclass(frozen=True)
class Times:
    """Seconds of each round, and of the yardstick between them."""

    rounds: tuple[float, ...]
    yardstick: float


@dataclass(frozen=True)
class Kept:
    """A benchmark as it is kept: what was measured with each setting.

    digest: SHA-256 of the model file. machine: the processor's name. brim: the version.
    """

    model: str
    digest: str
    machine: str
    brim: str
    times: Mapping[Setting, Times]


@dataclass(frozen=True)
class Change:
    """What became of one setting: median seconds before and now, their ratio (above 1: slower), and
    between which numbers it is, rounds and drift considered. drift: the yardstick's ratio, which is
    the machine's own."""

    setting: Setting
    before: float
    now: float
    ratio: float
    low: float
    high: float
    drift: float

    def is_slower(self, limit: float) -> bool:
        """Whether it takes more than `limit` times as long, beyond the noise."""
        return self.low > limit


@dataclass(frozen=True)
class Comparison:
    """All settings that both sides have. unmatched: those of one side alone. notes: what else
    differs."""

    changes: tuple[Change, ...]
    unmatched: tuple[Setting, ...]
    notes: tuple[str, ...]


def kept(model: Path, points: Sequence[Point]) -> Kept:
    """What was measured of a model file."""
    import brim

    return Kept(
        model.name,
        hashlib.sha256(model.read_bytes()).hexdigest(),
        processor_name(),
        brim.__version__,
        {p.setting: Times(p.ours.rounds, p.ours.yardstick) for p in points},
    )


def compare(before: Kept, now: Kept) -> Comparison:
    """What became of a benchmark. Raises InputError where no setting is the same."""
    common = [setting for setting in now.times if setting in before.times]
    if not common:
        raise InputError(
            "the benchmarks have no setting in common",
            why=f"kept: {_listed(before)}; now: {_listed(now)}",
            hint="measure with the same --threads, --batch and --shape",
        )
    changes = [_change(s, before.times[s], now.times[s]) for s in common]
    pairs = (
        ("model file", before.digest[:12], now.digest[:12]),
        ("processor", before.machine, now.machine),
        ("version of brim", before.brim, now.brim),
    )
    return Comparison(
        tuple(changes),
        tuple(s for s in (*before.times, *now.times) if s not in common),
        tuple(f"another {what}: {old}, now {new}" for what, old, new in pairs if old != new),
    )


def _change(setting: Setting, before: Times, now: Times) -> Change:
    random = np.random.default_rng(0)
    old, new = (
        np.median(random.choice(times.rounds, (SAMPLES, len(times.rounds))), axis=1)
        for times in (before, now)
    )
    edge = (1 - CONFIDENCE) / 2
    low, high = np.quantile(new / old, (edge, 1 - edge)).tolist()
    medians = statistics.median(before.rounds), statistics.median(now.rounds)
    drift = now.yardstick / before.yardstick
    # a machine that is slower now explains a slower model, one that is faster hides it
    ends = (low / max(drift, 1.0), high / min(drift, 1.0))
    return Change(setting, *medians, medians[1] / medians[0], *ends, drift)


def _listed(kept: Kept) -> str:
    return "; ".join(map(str, kept.times))


# ------------------------------------------------------------------ files


def document(kept: Kept) -> dict[str, Any]:
    """A benchmark as JSON has it."""
    return {
        "format": FORMAT,
        "model": kept.model,
        "digest": kept.digest,
        "machine": kept.machine,
        "brim": kept.brim,
        "settings": [
            {
                "threads": setting.threads,
                "batch": setting.batch,
                "shapes": {name: list(shape) for name, shape in setting.shapes},
                "rounds_seconds": list(times.rounds),
                "yardstick_seconds": times.yardstick,
            }
            for setting, times in kept.times.items()
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
        dict(_setting(item) for item in record.records("settings")),
    )


def _setting(record: Record) -> tuple[Setting, Times]:
    where = record.where
    shapes = tuple(
        (name, tuple(as_integer(n, where) for n in as_list(shape, where)))
        for name, shape in record.record("shapes").items()
    )
    batch = None if record.get("batch") is None else record.integer("batch", 1)
    rounds = tuple(as_real(seconds, where) for seconds in record.list("rounds_seconds"))
    times = Times(rounds, record.real("yardstick_seconds"))
    if not min((*rounds, times.yardstick)) > 0 or not rounds:
        raise ModelError("a time is missing, or is 0", where=where)
    return Setting(record.integer("threads", 1), batch, shapes), times
