"""onnxruntime's operator on text that exported text vectorizers begin with: Tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from brim.errors import ModelError
from brim.frontends.bounds import kept
from brim.frontends.onnx.operators.patterns import compiled
from brim.frontends.onnx.table import MICROSOFT, Call, host
from brim.types import STR, Type

_START, _END = "\x02", "\x03"  # around the tokens of a text, where `mark` asks for it


@host("Tokenizer", domain=MICROSOFT, types=lambda call: [Type(None, STR)])
def tokenizer(call: Call, x: np.ndarray) -> np.ndarray:
    """[C] -> [C, D] or [N, C] -> [N, C, D]: the tokens of each text, filled up with `pad_value`.

    Tokens are what is left between `separators`, or what matches `tokenexp`, or the single
    characters where the only separator is empty; those under `mincharnum` characters are left out.
    D is 0 where all texts are empty, marks or not: so onnxruntime has it.
    """
    if x.ndim not in (1, 2):
        raise ModelError(f"Tokenizer of texts of {x.ndim} axes", hint="it takes [C] or [N, C]")
    split, least = _splitter(call), call.int("mincharnum", 1)
    mark, pad = call.flag("mark"), call.text("pad_value")
    rows = [[token for token in split(text) if len(token) >= max(least, 1)] for text in x.ravel()]
    if mark and any(x.ravel()):
        rows = [[_START, *row, _END] for row in rows]
    width = max(map(len, rows), default=0)
    found = np.full(kept(x.size, width), pad, object)
    for i, row in enumerate(rows):
        found[i, : len(row)] = row
    return found.reshape(*x.shape, width)


def _splitter(call: Call) -> Callable[[str], list[str]]:
    separators, token = call.texts("separators", ()), call.text("tokenexp", "")
    if bool(separators) == bool(token):
        raise ModelError("Tokenizer needs either separators or tokenexp")
    if separators == ("",):
        return list
    if token:
        pattern = compiled(token, "Tokenizer")
        return lambda text: [match.group(0) for match in pattern.finditer(text)]
    patterns = [compiled(separator, "Tokenizer") for separator in separators]
    if any(pattern.fullmatch("") for pattern in patterns):
        raise ModelError(f"Tokenizer with a separator that matches nothing: {separators!r:.200}")

    def split(text: str) -> list[str]:
        parts = [text]
        for pattern in patterns:
            parts = [piece for part in parts for piece in _between(pattern, part)]
        return parts

    return split


def _between(pattern: Any, text: str) -> list[str]:
    """The pieces of a text around all matches; groups in the pattern add nothing."""
    pieces, start = [], 0
    for match in pattern.finditer(text):
        pieces.append(text[start : match.start()])
        start = match.end()
    return [*pieces, text[start:]]
