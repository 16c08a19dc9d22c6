"""Who agrees with whom on one model, and how the model counts.

agree       every peer that runs the model equals brim, to a few units in the last place
rounding    they differ by no more than rounding does to this very graph (`noise`), or brim
            is no farther from the graph in f64 than the peer
known       a peer differs for a reason that `known` lists
outvoted    a peer differs, and the other peer equals brim on this very model
refused     brim refuses what a peer runs
unjudged    no peer runs the model; brim does, or refuses as well
disagree    a difference that nothing explains
crash       brim ended with anything but a BrimError
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx

from brim.errors import BrimError
from brim.frontends.onnx import import_model
from tests.extra.fuzz_models.engines import (
    BRIM,
    PEERS,
    Arrays,
    Refused,
    plain_onnxruntime,
)
from tests.extra.fuzz_models.known import excuse
from tests.extra.fuzz_models.models import by_nodes, in_double, is_stored, with_fed_constants
from tests.extra.fuzz_models.noise import spread

UNITS = 8  # of the last place: what two engines' polynomials may differ
SPREADS = 8  # the spread is that of a few samples
# Of the largest value, or of SMALL: errors of a peer's quick functions (some compute f64 in f32).
SMALL = 0.01  # a quick sigmoid errs by 1e-7, however small its result
LOOSE = {"float16": 2e-2, "float32": 5e-5, "float64": 1e-6}
KINDS = ("agree", "rounding", "known", "outvoted", "unjudged", "refused", "disagree", "crash")


@dataclass(frozen=True)
class Verdict:
    """How a model ended; who is involved (an engine of brim and a peer); what the difference is."""

    kind: str
    who: str = ""
    why: str = ""


def judge(
    model: onnx.ModelProto,
    feeds: Mapping[str, np.ndarray],
    engines: Sequence[str] = ("interpreter",),
    peers: Sequence[str] = tuple(PEERS),
) -> Verdict:
    """Runs a model everywhere and compares. The worst of the comparisons counts."""
    answers: dict[str, Arrays] = {}
    refusals: dict[str, str] = {}
    for name in peers:
        try:
            answers[name] = PEERS[name](model, feeds)
        except Refused as refusal:
            refusals[name] = str(refusal)
    verdicts = []
    ours: dict[str, Arrays] = {}
    for name in engines:
        try:
            ours[name] = BRIM[name](model, feeds)
        except Refused as refusal:
            kind = "refused" if answers else "unjudged"
            verdicts.append(Verdict(kind, "/".join((name, *answers)), str(refusal)))
        except Exception as error:
            verdicts.append(Verdict("crash", name, f"{type(error).__name__}: {error}"[:300]))
    if ours and not answers and len(ours) < 2:
        why = " | ".join(f"{name}: {why}" for name, why in refusals.items())
        return max([*verdicts, Verdict("unjudged", "", why)], key=_weight)

    truth = _Truth(model, feeds)
    for engine, results in ours.items():
        others = answers
        if engine != "interpreter" and "interpreter" in ours:
            others = {"interpreter": ours["interpreter"]}  # which is compared with the peers
        found = [
            _compare(truth, f"{engine}/{other}", results, answer)
            for other, answer in others.items()
        ]
        alike = any(v.kind in ("agree", "rounding") for v in found)
        verdicts += [
            replace(v, kind="outvoted") if alike and v.kind == "disagree" else v for v in found
        ]
    return max(verdicts, key=_weight)


def _larger(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.maximum(a, b) if a.shape == b.shape else np.array(np.inf)


def _weight(verdict: Verdict) -> int:
    return KINDS.index(verdict.kind)


@dataclass(frozen=True)
class _Truth:
    """What is known of a model beyond the engines' answers; computed when first asked for."""

    model: onnx.ModelProto
    feeds: Mapping[str, np.ndarray]

    @functools.cached_property
    def spread(self) -> Arrays:
        """What rounding can do, in the steps and (where it stays valid) in the constants, too."""
        found = spread(import_model(self.model.SerializeToString()), self.feeds)
        fed, feeds = with_fed_constants(self.model, self.feeds)
        with contextlib.suppress(BrimError):
            other = spread(import_model(fed.SerializeToString()), feeds)
            found = {n: _larger(a, other[n]) for n, a in found.items()}
        return found

    @functools.cached_property
    def exact(self) -> Arrays:
        """The results in f64; empty where a node does not take it."""
        feeds = {
            name: array.astype(np.float64) if array.dtype.kind == "f" else array
            for name, array in self.feeds.items()
        }
        try:
            return BRIM["interpreter"](in_double(self.model), feeds)
        except Refused:
            return {}

    @functools.cached_property
    def by_nodes(self) -> list[Verdict]:
        """Each node by itself, fed with what brim's interpreter computed; empty for one node.

        If all are fine, the model amplifies a small difference (which the noise may lack: a peer's
        quick tanh) or hands on a known one.
        """
        if sum(node.op_type != "Constant" for node in self.model.graph.node) < 2:
            return []
        try:
            parts = list(by_nodes(self.model, self.feeds))
        except Refused:
            return [Verdict("disagree", why="the nodes cannot be run one by one")]
        return [judge(part, feeds) for part, feeds in parts]


def _compare(truth: _Truth, who: str, results: Arrays, answer: Arrays) -> Verdict:
    why = difference(results, answer)
    if not why:
        return Verdict("agree", who)
    other = who.partition("/")[2]
    if not difference(results, answer, truth.spread) or _is_looser(truth, results, answer):
        return Verdict("rounding", who, why)
    if who.startswith("interpreter/") and truth.by_nodes:
        worst = max(truth.by_nodes, key=_weight)
        if worst.kind in ("agree", "rounding"):
            return Verdict("rounding", who, f"every node by itself agrees; {why}")
        if worst.kind in ("known", "outvoted"):
            return worst
    elif (reason := excuse(truth.model, truth.feeds, other)) is not None:
        return Verdict("known", who, reason)
    if other == "onnxruntime":
        try:
            plain = plain_onnxruntime(truth.model, truth.feeds)
        except Refused:
            pass
        else:
            if not difference(results, plain, truth.spread):
                return Verdict("known", who, "onnxruntime without its optimisations agrees")
    return Verdict("disagree", who, why)


def _is_looser(truth: _Truth, results: Arrays, answer: Arrays) -> bool:
    """Whether both are right to the precision of f32, brim at least about as much as the peer."""
    for name, want in answer.items():
        got, exact = results[name], truth.exact.get(name)
        if exact is None or not got.shape == want.shape == exact.shape or got.dtype != want.dtype:
            return False
        if want.dtype.name not in LOOSE:
            if difference({name: got}, {name: want}):
                return False
            continue
        ours, theirs = _error(got, exact), _error(want, exact)
        if theirs > LOOSE[want.dtype.name] or ours > max(
            4 * theirs, 8 * UNITS * np.finfo(want.dtype).eps
        ):
            return False
    return bool(truth.exact)


def _error(array: np.ndarray, exact: np.ndarray) -> float:
    """The largest error over the largest value or SMALL; inf where only one of them is finite."""
    a, b = array.astype(np.float64), exact.astype(np.float64)
    with np.errstate(all="ignore"):
        b = b.astype(array.dtype).astype(np.float64)  # what overflows in f64 is infinite elsewhere
        finite = np.isfinite(a) & np.isfinite(b)
        if not ((a == b) | (np.isnan(a) & np.isnan(b)) | finite).all():
            return np.inf
        size = np.abs(b[finite]).max(initial=0)
        return float(np.abs(a[finite] - b[finite]).max(initial=0) / max(size, SMALL))


def difference(
    results: Arrays, wanted: Arrays, allowed: Mapping[str, np.ndarray] | None = None
) -> str:
    """What differs, or an empty text. allowed: absolute, per element, beyond a few units."""
    for name, want in wanted.items():
        got = results.get(name)
        if got is None:
            return f"{name} is missing"
        extra = np.zeros(()) if allowed is None else np.asarray(allowed[name], np.float64)
        if got.shape != want.shape:
            if extra.shape == () and np.isinf(extra):
                continue
            return f"{name}: shape {got.shape} instead of {want.shape}"
        if want.dtype.kind in "OUS":
            if got.astype(str).tolist() != want.astype(str).tolist():
                return f"{name}: {got} instead of {want}"[:300]
            continue
        if got.dtype != want.dtype:
            return f"{name}: {got.dtype} instead of {want.dtype}"
        if is_stored(want.dtype):
            got, want = got.astype(np.float32), want.astype(np.float32)
        wrong = _wrong(got, want, extra)
        if wrong.any():
            at = tuple(int(i) for i in np.argwhere(wrong)[0])
            return (
                f"{name}{list(at)} = {got[at]!r} instead of {want[at]!r};"
                f" {int(wrong.sum())} of {wrong.size} {want.dtype} differ"
            )
    return ""


def _wrong(got: np.ndarray, want: np.ndarray, extra: np.ndarray) -> np.ndarray:
    """Which elements differ by more than they may."""
    if want.dtype.kind in "bui":
        return (got != want) & ~np.isinf(extra)
    info = np.finfo(want.dtype)
    with np.errstate(all="ignore"):
        a, b = got.astype(np.float64), want.astype(np.float64)
        size = np.maximum(np.abs(a), np.abs(b))
        units = UNITS * (np.where(np.isfinite(size), size, 0) * info.eps + info.smallest_normal)
        near = np.abs(a - b) <= units + SPREADS * extra
        same = (a == b) | (np.isnan(a) & np.isnan(b)) | near | np.isinf(extra)
    return ~same
