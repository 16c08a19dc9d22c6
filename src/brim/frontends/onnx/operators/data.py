"""ONNX operators on text, and those whose result's shape depends on data: numpy on the host."""

from __future__ import annotations

import unicodedata

import numpy as np

from brim.errors import InputError, ModelError
from brim.frontends.bounds import front, kept
from brim.frontends.onnx.table import Call, host


@host("NonZero")
def non_zero(call: Call, x: np.ndarray) -> np.ndarray:
    found = np.nonzero(x) if x.ndim else (np.zeros(int(bool(x)), np.int64),)
    return np.stack(found).astype(np.int64)


@host("Compress")
def compress(call: Call, x: np.ndarray, condition: np.ndarray) -> np.ndarray:
    axis = call.int("axis", None)
    if axis is None:
        x, axis = x.reshape(-1), 0
    axis = front(axis, x.ndim)
    if condition.size > x.shape[axis]:
        raise ModelError(f"{condition.size} conditions for an axis of {x.shape[axis]}")
    return np.take(x, np.flatnonzero(condition), axis=axis)


def _unique(x: np.ndarray, axis: int | None) -> tuple[np.ndarray, ...]:
    """numpy's unique, with texts along an axis too: by their ranks, which are in the same order."""
    if x.dtype != object or axis is None:
        return np.unique(x, True, True, True, axis=axis)
    texts, ranks = np.unique(x, return_inverse=True)
    y, *rest = np.unique(ranks.reshape(x.shape), True, True, True, axis=axis)
    return texts[y], *rest


@host("Unique")
def unique(call: Call, x: np.ndarray) -> tuple[np.ndarray, ...]:
    axis, ordered = call.int("axis", None), call.flag("sorted", True)
    axis = None if axis is None else front(axis, x.ndim)
    y, first, inverse, count = _unique(x, axis)
    if not ordered:  # in the order of their first occurrence
        order = np.argsort(first, kind="stable")
        y, first, count = np.take(y, order, axis=axis or 0), first[order], count[order]
        inverse = np.argsort(order, kind="stable")[inverse.reshape(-1)]
    return y, first.astype(np.int64), inverse.reshape(-1).astype(np.int64), count.astype(np.int64)


# ------------------------------------------------------------------ text


def _each(function, x: np.ndarray) -> np.ndarray:
    y = np.empty(x.size, object)
    for i, text in enumerate(x.ravel()):
        y[i] = function(text)
    return y.reshape(x.shape)


@host("StringConcat", since=20)
def string_concat(call: Call, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = np.broadcast_arrays(a, b)
    kept(sum(map(len, a.ravel())) + sum(map(len, b.ravel())))  # texts that double at every node
    y = np.empty(a.size, object)
    for i, (left, right) in enumerate(zip(a.ravel(), b.ravel())):
        y[i] = left + right
    return y.reshape(a.shape)


@host("StringSplit", since=20)
def string_split(call: Call, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    delimiter, most = call.text("delimiter", "") or None, call.int("maxsplit", -1)
    parts = [text.split(delimiter, most) for text in x.ravel()]
    counts = np.array([len(row) for row in parts], np.int64)
    width = int(counts.max(initial=0))
    y = np.full(kept(x.size, width), "", object)
    for i, row in enumerate(parts):
        y[i, : len(row)] = row
    return y.reshape(*x.shape, width), counts.reshape(x.shape)


@host("StringNormalizer", since=10)
def string_normalizer(call: Call, x: np.ndarray) -> np.ndarray:
    call.ignore("locale")  # case is changed by Unicode's rules, the same everywhere
    action = call.choice("case_change_action", "NONE", ("NONE", "LOWER", "UPPER"))
    sensitive, stopwords = call.flag("is_case_sensitive"), call.texts("stopwords", ())
    change = {"LOWER": str.lower, "UPPER": str.upper}.get(action, str)
    if x.ndim not in (1, 2) or (x.ndim == 2 and x.shape[0] != 1):
        raise ModelError(f"texts of shape {x.shape}: StringNormalizer takes [C] or [1, C]")
    if not x.size:  # as by onnxruntime: one empty text for no text would be one row too many
        raise InputError("StringNormalizer of no texts", why="it always gives at least one")
    stops = set(stopwords) if sensitive else {text.lower() for text in stopwords}
    kept = [
        change(_without_accents(text))
        for text in x.ravel()
        if (text if sensitive else text.lower()) not in stops
    ]
    y = np.array(kept or [""], object)
    return y.reshape(1, -1) if x.ndim == 2 else y


def _without_accents(text: str) -> str:
    if text.isascii():
        return text
    spread = unicodedata.normalize("NFKD", text)
    return "".join(c for c in spread if not unicodedata.combining(c))


@host("TfIdfVectorizer", since=9)
def tfidf_vectorizer(call: Call, x: np.ndarray) -> np.ndarray:
    mode = call.choice("mode", "TF", ("TF", "IDF", "TFIDF"))
    shortest, longest = call.int("min_gram_length"), call.int("max_gram_length")
    skips = call.int("max_skip_count")
    starts, columns = call.ints("ngram_counts"), call.ints("ngram_indexes")
    numbers, words = call.ints("pool_int64s", None), call.texts("pool_strings", None)
    weights = call.floats("weights", None)
    pool = list(numbers if numbers is not None else words or ())
    longest, shortest = min(longest, len(starts)), max(shortest, 1)
    if list(starts) != sorted(starts) or min(starts, default=0) < 0 or len(starts) > 64:
        raise ModelError(f"TfIdfVectorizer with impossible ngram_counts {starts[:8]}")
    if not columns or min(columns) < 0 or max(columns) > 1 << 24:
        raise ModelError("TfIdfVectorizer with impossible ngram_indexes")
    grams: dict[tuple, int] = {}
    for size, begin in enumerate(starts, 1):
        end = starts[size] if size < len(starts) else len(pool)
        for i in range(begin, end - size + 1, size):
            grams[tuple(pool[i : i + size])] = columns[len(grams)]
    rows = x.reshape(1, -1) if x.ndim < 2 else x
    counts = np.zeros(kept(len(rows), max(columns) + 1), np.int64)
    for count, row in zip(counts, rows.tolist()):
        for size in range(shortest, longest + 1):
            gaps = min(skips, len(row)) if size > 1 else 0  # single words have none
            for skip in range(1, gaps + 2):
                for i in range(len(row) - skip * (size - 1)):
                    column = grams.get(tuple(row[i : i + skip * (size - 1) + 1 : skip]))
                    if column is not None:
                        count[column] += 1
    y = (counts > 0 if mode == "IDF" else counts).astype(np.float32)
    if weights is not None and mode != "TF":
        factor = np.ones(counts.shape[1], np.float32)
        for i, column in enumerate(columns):
            factor[column] = weights[i] if i < len(weights) else 1
        y *= factor
    return y[0] if x.ndim < 2 else y
