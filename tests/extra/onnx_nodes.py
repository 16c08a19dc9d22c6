"""Runs ONNX's official test data through brim: `python -m tests.extra.onnx_nodes [--suite all]`.

Every case ends as passed, drawn (its numbers are random: type, shape and range hold), refused (a
BrimError, with its reason), wrong (other numbers, shape or type than the case demands, by its own
tolerance) or crashed (any other exception). `--markdown` prints what docs/onnx-cases.md holds. The
assertions on these figures are in `test_onnx_nodes`, the cases themselves in `onnx_suites`.
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from brim.errors import BrimError
from brim.frontends.onnx import import_model, read
from brim.graph import evaluate
from tests.extra.onnx_suites import SUITES, Case, load_suite

Feeds = Mapping[str, Any]
Engine = Callable[[bytes, Feeds], Mapping[str, Any]]
KINDS = ("passed", "drawn", "refused", "wrong", "crashed")


@dataclass(frozen=True)
class Outcome:
    """How one case ended: one of KINDS; and why."""

    name: str
    suite: str
    kind: str
    why: str = ""


def interpret(model: bytes, feeds: Feeds) -> Mapping[str, Any]:
    """Imports a model and evaluates its graph with numpy."""
    parsed = read(model)
    shapes = {k: feeds[k].shape for k, v in parsed.inputs.items() if not v.is_static}
    return evaluate(import_model(parsed, shapes), feeds)


def run_compiled(model: bytes, feeds: Feeds) -> Mapping[str, Any]:
    """Compiles a model and runs the machine code."""
    import brim

    return brim.load(model).run(feeds)


ENGINES: dict[str, Engine] = {"interpreter": interpret, "compiled": run_compiled}


def run_cases(
    engine: Engine, only: str = "", every: int = 1, suites: Iterable[str] = ("base",)
) -> Iterator[Outcome]:
    """The outcomes of the cases whose names contain `only`, or of every so-manieth of them."""
    chosen = [case for suite in suites for case in load_suite(suite) if only in case.name]
    for case in chosen[::every]:
        yield run_case(case, engine)


def run_case(case: Case, engine: Engine) -> Outcome:
    """Runs all data sets of one case."""
    model, kind = case.model.SerializeToString(), "passed"
    for inputs, wanted in case.data_sets:
        try:
            results = list(engine(model, inputs).values())
        except BrimError as error:
            why = " ".join(f"{error.what} {error.why}".split())
            return Outcome(case.name, case.suite, "refused", why)
        except Exception as error:
            return Outcome(case.name, case.suite, "crashed", repr(error)[:300])
        fault = difference(results, wanted, case.rtol, case.atol)
        if fault and case.is_random:
            fault, kind = _drawn_difference(list(inputs.values()), results, wanted), "drawn"
        if fault:
            return Outcome(case.name, case.suite, "wrong", fault)
    return Outcome(case.name, case.suite, kind)


# ------------------------------------------------------------------ comparison


def difference(got: Any, wanted: Any, rtol: float, atol: float) -> str:
    """What differs between two arrays, or two lists or dicts of them; "" if nothing does."""
    if isinstance(wanted, dict):
        if not isinstance(got, dict) or list(got) != list(wanted):
            return f"{got!r} instead of {wanted!r}"[:300]
        got, wanted = list(got.values()), list(wanted.values())
    if isinstance(wanted, (list, tuple)):
        if not isinstance(got, (list, tuple)) or len(got) != len(wanted):
            return f"{_count(got)} instead of {len(wanted)} values"
        return next(filter(None, (difference(*p, rtol, atol) for p in zip(got, wanted))), "")
    if wanted is None or got is None:
        return "" if wanted is got else f"{got!r} instead of {wanted!r}"[:300]
    return _array_difference(got, np.asarray(wanted), rtol, atol)


def _count(got: Any) -> str:
    return str(len(got)) if isinstance(got, (list, tuple)) else type(got).__name__


def _array_difference(got: Any, wanted: np.ndarray, rtol: float, atol: float) -> str:
    if not isinstance(got, np.ndarray):
        return f"{type(got).__name__} instead of an array"
    if got.shape != wanted.shape:
        return f"shape {got.shape} instead of {wanted.shape}"
    if wanted.dtype.kind in "OUS":
        if got.astype(str).tolist() != wanted.astype(str).tolist():
            return f"{got} instead of {wanted}"[:300]
        return ""
    if got.dtype != wanted.dtype:
        return f"{got.dtype} instead of {wanted.dtype}"
    if wanted.dtype.isbuiltin != 1:  # one of ml_dtypes: equal, but bfloat16 by ONNX's own rule
        rtol, atol = (max(rtol, 2**-6), atol) if wanted.dtype.name == "bfloat16" else (0, 0)
        got, wanted = got.astype(np.float32), wanted.astype(np.float32)
    try:
        np.testing.assert_allclose(got, wanted, rtol, atol)
    except AssertionError as error:
        return " ".join(str(error).split())[:300]
    return ""


def _drawn_difference(inputs: list[Any], results: list[Any], wanted: list[Any]) -> str:
    """What is impossible in the results of Bernoulli (one input) or of a Dropout in training."""
    for got, expected in zip(results, wanted, strict=True):
        if got.shape != expected.shape or got.dtype != expected.dtype:
            return f"{got.dtype}{got.shape} instead of {expected.dtype}{expected.shape}"
    x, y = inputs[0], results[0]
    if len(inputs) == 1:
        possible = ((y == 0) & (x < 1)) | ((y == 1) & (x > 0))
    else:
        kept = (x / (1 - inputs[1])).astype(x.dtype)
        possible = (y == 0) | np.isclose(y, kept, rtol=1e-6)
        if len(results) == 2:
            possible &= results[1] == (y != 0)
    return "" if possible.all() else f"{y[~possible][:8]} cannot be drawn"


# ------------------------------------------------------------------ reports


def reasons(outcomes: Iterable[Outcome]) -> dict[str, list[str]]:
    """The names of the refused cases by their reason, the most frequent one first."""
    found = defaultdict(list)
    for outcome in outcomes:
        if outcome.kind == "refused":
            found[outcome.why].append(outcome.name)
    return dict(sorted(found.items(), key=lambda item: (-len(item[1]), item[0])))


def markdown(outcomes: list[Outcome]) -> str:
    """The page docs/onnx-cases.md."""
    import onnx

    lines = [
        "# The official ONNX test cases\n",
        f"How brim ends every case of the test data in the `onnx` package {onnx.__version__}, as",
        "`python -m tests.extra.onnx_nodes --suite all --markdown` prints it (do not edit).",
        "*Passed*: equal to the expected results, by the case's own tolerance. *Drawn*: random",
        "numbers, of which type, shape and range are as demanded. *Refused*: a typed error says",
        "why; the reasons are below. *Wrong* and *crashed* are bugs.\n",
        "| suite | " + " | ".join(("cases", *KINDS)) + " |",
        "|---|" + "---|" * (1 + len(KINDS)),
    ]
    for suite, meaning in SUITES.items():
        kinds = Counter(outcome.kind for outcome in outcomes if outcome.suite == suite)
        counts = " | ".join(str(n) for n in (kinds.total(), *(kinds[kind] for kind in KINDS)))
        lines.append(f"| {suite}: {meaning} | {counts} |")
    lines.append("\n## Drawn\n")
    lines.append(", ".join(f"`{o.name}`" for o in outcomes if o.kind == "drawn") or "None.")
    lines.append("\n## Refused\n")
    for why, names in reasons(outcomes).items():
        lines.append(f"- {why}: {', '.join(f'`{name}`' for name in names)}")
    if bugs := [o for o in outcomes if o.kind in ("wrong", "crashed")]:
        lines += ["\n## Bugs\n", *(f"- `{o.name}`: {o.kind}, {o.why}" for o in bugs)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Prints the figures, every wrong or crashed case, and why cases are refused."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--suite", choices=(*SUITES, "all"), default="base")
    parser.add_argument("--engine", choices=ENGINES, default="interpreter")
    parser.add_argument("--only", default="", help="part of the cases' names")
    parser.add_argument("--list", action="store_true", help="print every case")
    parser.add_argument("--markdown", action="store_true", help="print the page of the docs")
    options = parser.parse_args()
    suites = SUITES if options.suite == "all" else (options.suite,)
    outcomes = []
    for outcome in run_cases(ENGINES[options.engine], options.only, suites=suites):
        outcomes.append(outcome)
        shown = options.list or outcome.kind in ("wrong", "crashed")
        if shown and not options.markdown:
            print(f"{outcome.kind:8} {outcome.name} {outcome.why}", flush=True)
    if options.markdown:
        print(markdown(outcomes), end="")
        return
    for why, names in reasons(outcomes).items():
        print(f"{len(names):4} refused: {why[:160]}  ({names[0]})")
    for suite in suites:
        print(suite, dict(Counter(o.kind for o in outcomes if o.suite == suite)))


if __name__ == "__main__":
    main()
