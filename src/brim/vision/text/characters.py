"""What the recogniser's classes mean, and its scores as text.

Decoding is greedy, of a network that was trained by connectionist temporal classification.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from brim.errors import ModelError


def characters_of(metadata: Mapping[str, str]) -> list[str]:
    """The characters of a recogniser: the index of a class gives its text, the blank ("") first.
    They are in the ONNX file's metadata under `character`. Raises ModelError when they are not."""
    if "character" not in metadata:
        raise ModelError(
            "the recogniser names no characters",
            why="its ONNX metadata has no entry 'character'",
            hint="use the PP-OCR recogniser of `brim zoo`",
        )
    return ["", *metadata["character"].splitlines(), " "]


def decode(scores: np.ndarray, characters: Sequence[str]) -> tuple[str, float]:
    """Text and mean probability from f32[1,T,len(characters)]: the best class of each step, repeats
    merged, blanks (class 0) dropped."""
    if scores.ndim != 3 or scores.shape[0] != 1 or scores.shape[2] != len(characters):
        raise ModelError(
            "the text recogniser's output does not fit its characters",
            why=f"expected (1, steps, {len(characters)}), got {scores.shape}",
        )
    best = scores[0].argmax(1)
    kept = best != 0
    kept[1:] &= best[1:] != best[:-1]
    if not kept.any():
        return "", 0.0
    text = "".join(characters[i] for i in best[kept])
    return text, float(scores[0].max(1)[kept].mean())
