"""Checkpoints: all that a training needs to go on to the same bits, a file each, in safetensors.

A file appears whole or not at all, and is on the disk when it does: a process that is killed, or a
machine that loses power, leaves the checkpoint before. What is read is checked against the digest
that the file holds, since safetensors has none.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from brim.errors import InputError, ModelError, UnsupportedError
from brim.files import remove_unfinished, written

KEPT = 3  # of the newest checkpoints
BEST = "best.safetensors"
_NAME = re.compile(r"step-(\d{9,})\.safetensors")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A training after `step` batches.

    state: weights, the optimiser's slots and whatever else the step graph remembers, by name.
    record: what the loop remembers, as JSON: the epoch, the place in its data, losses so far.
    settings: what decides the numbers that come out, such as the seed, the batch and the optimiser:
    a training goes on only with the same.
    """

    step: int
    state: Mapping[str, np.ndarray]
    record: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)


def save(folder: Path, checkpoint: Checkpoint, keep: int = KEPT) -> Path:
    """Writes a checkpoint and removes all but the newest `keep`. Raises InputError where the folder
    cannot be written, UnsupportedError where safetensors is not installed."""
    path = folder / f"step-{checkpoint.step:09d}.safetensors"
    _write(path, checkpoint)
    for old in listed(folder)[:-keep]:
        old.unlink(missing_ok=True)
    return path


def save_best(folder: Path, checkpoint: Checkpoint) -> Path:
    """Writes the checkpoint that is best so far in place of the one before it."""
    _write(folder / BEST, checkpoint)
    return folder / BEST


def listed(folder: Path) -> list[Path]:
    """The checkpoints in a folder, the newest last."""
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if _NAME.fullmatch(path.name)), key=_step)


def _step(path: Path) -> int:
    found = _NAME.fullmatch(path.name)
    assert found is not None
    return int(found[1])


def newest(folder: Path, skip_damaged: bool = False) -> Checkpoint | None:
    """The newest checkpoint in a folder, None where there is none.

    Raises ModelError if it is damaged. skip_damaged: the one before is taken then, as long as there
    is one.
    """
    damage: ModelError | None = None
    for path in reversed(listed(folder)):
        try:
            return load(path)
        except ModelError as error:
            if not skip_damaged:
                raise
            damage = damage or error
    if damage is not None:
        raise damage
    return None


def load(path: Path) -> Checkpoint:
    """Reads a checkpoint. Raises ModelError if it is damaged or something else, InputError if it
    cannot be read."""
    _, load_bytes = _safetensors()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"the checkpoint {path} cannot be read", str(error)) from None
    try:
        length = int.from_bytes(content[:8], "little")
        notes = json.loads(content[8 : 8 + length])["__metadata__"]
        state = load_bytes(content)
        intact = notes["digest"] == _digest(state, notes["card"])
        card = json.loads(notes["card"]) if intact else {}
    except Exception as error:  # whatever a damaged file makes the reader raise
        raise _damaged(path, f"{type(error).__name__}: {error}"[:200]) from None
    if not intact:
        raise _damaged(path, "its content is not what was written")
    return Checkpoint(card["step"], state, card["record"], card["settings"])


def _damaged(path: Path, why: str) -> ModelError:
    return ModelError(
        f"the checkpoint {path.name} is damaged, or none",
        why=why,
        where=str(path),
        hint="remove it, or say skip_damaged=True (--skip-damaged), to go on from the one before",
    )


def _write(path: Path, checkpoint: Checkpoint) -> None:
    save_bytes, _ = _safetensors()
    card = {
        "step": checkpoint.step,
        "record": dict(checkpoint.record),
        "settings": dict(checkpoint.settings),
    }
    state = {name: np.asarray(array, order="C") for name, array in checkpoint.state.items()}
    text, hint = json.dumps(card), "checkpoints that were there before still are"
    remove_unfinished(path.parent, path.suffix)
    content = save_bytes(state, {"card": text, "digest": _digest(state, text)})
    with written(path, parents=True, lasting=True, hint=hint) as temporary:
        temporary.write_bytes(content)


def _digest(state: Mapping[str, np.ndarray], card: str) -> str:
    """SHA-256 of everything that a file holds."""
    digest = hashlib.sha256(card.encode())
    for name in sorted(state):
        array = state[name]
        digest.update(f"\0{name}\0{array.dtype}\0{array.shape}\0".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _safetensors() -> tuple[Any, Any]:
    """Its functions that make a file's content and read it."""
    try:
        from safetensors.numpy import load, save
    except ImportError as error:
        raise UnsupportedError(
            "checkpoints need safetensors", str(error), hint="pip install 'brim[train]'"
        ) from None
    return save, load
