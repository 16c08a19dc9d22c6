"""Every setting of brim, declared once: name, type, default, doc. Each is an environment variable.

Read a setting with `get("threads")`; nothing else in brim reads the environment for its settings.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brim.errors import InputError


@dataclass(frozen=True)
class Setting:
    """One setting: `env` is its environment variable, `parse` turns its text into a value."""

    name: str
    parse: Callable[[str], Any]
    default: Any
    doc: str

    @property
    def env(self) -> str:
        return f"BRIM_{self.name.upper()}"


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError("must not be negative")
    return value


def _flag(text: str) -> bool:
    values = {"0": False, "1": True, "false": False, "true": True, "no": False, "yes": True}
    return values[text.lower()]


SETTINGS: dict[str, Setting] = {
    s.name: s
    for s in (
        Setting("threads", _count, 1, "Threads a model may use; 0 means one per core."),
        Setting("jobs", _count, 0, "Processes that compile kernels; 0 means one per core."),
        Setting("cache", str, "", "Folder of compiled kernels and models; '' means ~/.cache/brim, "
                "'off' means none."),
        Setting("debug", _count, 0, "1 targets, 2 time per kernel, 3 decisions, 4 kernel text, "
                "5 graph after each pass, 6 LLVM IR, 7 assembly."),
        Setting("dump", str, "", "Folder that receives the graph after each pass and every kernel "
                "as text."),
        Setting("check", _flag, False, "Interpret the graph after each pass and compare; names the "
                "pass that breaks it, and the layer."),
        Setting("target", str, "host", "Row of the target table to compile for."),
        Setting("exact", _flag, False, "Compute every operator as it is defined, without variants "
                "that round differently, such as Winograd's convolution."),
        Setting("tuned", str, "", "File of measured schedules (see `brim tune`); '' means "
                "tuned.sqlite in the cache folder, 'off' means none."),
        Setting("seed", _count, None, "Seed for random operators of models that have none of their "
                "own: equal runs then draw equal numbers."),
    )
}  # fmt: skip


def get(name: str) -> Any:
    """The value of a setting: its environment variable, else its default. Raises InputError."""
    setting = SETTINGS[name]
    text = os.environ.get(setting.env)
    if text is None or text == "":
        return setting.default
    try:
        return setting.parse(text)
    except (ValueError, KeyError) as error:
        raise InputError(
            f"{setting.env}={text!r} is not valid", why=str(error), hint=setting.doc
        ) from None


def cache_directory() -> Path:
    """$BRIM_CACHE, else $XDG_CACHE_HOME/brim, else ~/.cache/brim."""
    if chosen := get("cache"):
        return Path(chosen).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification says to ignore relative paths.
    base = Path(shared) if os.path.isabs(shared) else Path("~/.cache").expanduser()
    return base / "brim"


def tuned_file() -> Path | None:
    """Where measured schedules are kept: as BRIM_TUNED says, else in the cache; None: nowhere."""
    chosen = get("tuned")
    if chosen == "off" or (not chosen and get("cache") == "off"):
        return None
    return Path(chosen).expanduser() if chosen else cache_directory() / "tuned.sqlite"
