"""Operators on text and on the bytes of tensors: n-grams with gaps, hashes that keep neighbours."""

from __future__ import annotations

import struct

import numpy as np

from brim.errors import ModelError
from brim.frontends.tflite.fingerprint import fingerprint
from brim.frontends.tflite.table import Call, operator
from brim.graph import Value, const

MOST = 1 << 20  # n-grams of a text


@operator("SKIP_GRAM", moves=True)
def skip_gram(call: Call) -> Value:
    """The n-grams of a text's words, in which up to max_skip_size words may be left out."""
    size, skip = call.int("ngram_size"), call.int("max_skip_size", 0)
    shorter = call.flag("include_all_ngrams")
    (x,) = call.arrays()
    if x.size != 1 or not 1 <= size <= 16 or skip < 0:
        raise ModelError(f"SKIP_GRAM of {size} words from {x.shape}")
    words = str(x.reshape(-1)[0]).split()
    found: list[str] = []

    def extend(chosen: tuple[int, ...]) -> None:
        """All n-grams that begin with these words, longer ones first."""
        if len(found) >= MOST:
            raise ModelError(f"SKIP_GRAM gives more than {MOST} texts")
        if len(chosen) < size:
            reach = range(chosen[-1] + 1, min(chosen[-1] + skip + 2, len(words)))
            for place in reach:
                extend((*chosen, place))
        if len(chosen) == size or shorter:
            found.append(" ".join(words[i] for i in chosen))

    if len(words) >= size:
        for first in range(len(words)):
            extend((first,))
    return const(np.array(found, object))


@operator("LSH_PROJECTION", moves=True)
def lsh_projection(call: Call) -> Value:
    """Bits that are likely the same for similar items: signs of weighted sums of hashes.

    (Ravi 2017, "ProjectionNet", arXiv:1708.00630.) Sparse: those of a row are a number in its own
    range; dense: each is a number.
    """
    kind = call.choice("type", ("unknown", "sparse", "dense"))
    rows, bits = call[0].shape
    if kind == "unknown" or bits > 30:
        raise ModelError(f"LSH_PROJECTION of type {kind} to {bits} bits")
    seeds, items, *rest = call.arrays((rows,) if kind == "sparse" else (rows * bits,))
    keys = [item.tobytes() for item in items]
    weights = rest[0].astype(np.float64) if rest else np.ones(len(keys))
    found = np.zeros((rows, bits), np.int32)
    for place in np.ndindex(rows, bits):
        prefix = struct.pack("<f", seeds[place])
        hashes = np.array([fingerprint(prefix + key) for key in keys], np.uint64)
        found[place] = (weights * hashes.view(np.int64).astype(np.float64)).sum() > 0
    if kind == "dense":
        return const(found.reshape(-1))
    number = (found << np.arange(bits)[::-1]).sum(1) + np.arange(rows) * (1 << bits)
    return const(number.astype(np.int32))
