"""Runs ONNX's official node tests through brim: `python -m tests.extra.onnx_nodes [--list]`.

Every case ends as passed, refused (a BrimError, with its reason), wrong (other numbers, shape or
type than the case demands, by its own tolerance) or crashed (any other exception). The assertions
on these figures are in `test_onnx_nodes`.
"""

from __future__ import annotations

import argparse
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from brim.errors import BrimError
from brim.frontends.onnx import import_model
from brim.graph import evaluate

Feeds = Mapping[str, np.ndarray]
Engine = Callable[[bytes, Feeds], Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Outcome:
    """How one case ended: passed, refused, wrong or crashed; and why."""

    name: str
    kind: str
    why: str = ""


def interpret(model: bytes, feeds: Feeds) -> Mapping[str, np.ndarray]:
    """Imports a model and evaluates its graph with numpy."""
    return evaluate(import_model(model), feeds)


def run_compiled(model: bytes, feeds: Feeds) -> Mapping[str, np.ndarray]:
    """Compiles a model and runs the machine code."""
    import brim

    return brim.load(model).run(feeds)


ENGINES: dict[str, Engine] = {"interpreter": interpret, "compiled": run_compiled}


def base_cases() -> list[Any]:
    """The 1,404 cases of single nodes in onnx 1.23 (their 480 expansions left out)."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's, about the overflows that some cases are made of
        return [case for case in collect_testcases(None) if "_expanded" not in case.name]


def run_cases(engine: Engine, only: str = "", every: int = 1) -> Iterator[Outcome]:
    """The outcomes of the base cases whose names contain `only`, or of every so-manieth of them."""
    chosen = [case for case in base_cases() if only in case.name]
    for case in chosen[::every]:
        yield run_case(case, engine)


def run_case(case: Any, engine: Engine) -> Outcome:
    """Runs all data sets of one case."""
    model = case.model.SerializeToString()
    names = [port.name for port in case.model.graph.input]
    for inputs, wanted in case.data_sets:
        try:
            results = engine(model, dict(zip(names, map(_array, inputs))))
        except BrimError as error:
            return Outcome(case.name, "refused", " ".join(f"{error.what} {error.why}".split()))
        except Exception as error:
            return Outcome(case.name, "crashed", repr(error)[:300])
        difference = _difference(list(results.values()), wanted, case.rtol, case.atol)
        if difference:
            return Outcome(case.name, "wrong", difference)
    return Outcome(case.name, "passed")


def _array(value: Any) -> Any:
    """Cases hold arrays or, for types that numpy lacks, serialised tensors."""
    if not hasattr(value, "dims"):
        return value
    from onnx import numpy_helper

    return numpy_helper.to_array(value)


def _difference(results: list[np.ndarray], wanted: list[Any], rtol: float, atol: float) -> str:
    if len(results) != len(wanted):
        return f"{len(results)} results instead of {len(wanted)}"
    for got, expected in zip(results, wanted):
        expected = np.asarray(_array(expected))
        if got.shape != expected.shape:
            return f"shape {got.shape} instead of {expected.shape}"
        if expected.dtype.kind in "OUS":
            if got.astype(str).tolist() != expected.astype(str).tolist():
                return f"{got} instead of {expected}"[:300]
            continue
        if got.dtype != expected.dtype:
            return f"{got.dtype} instead of {expected.dtype}"
        try:
            np.testing.assert_allclose(got, expected, rtol, atol)
        except AssertionError as error:
            return " ".join(str(error).split())[:300]
    return ""


def main() -> None:
    """Prints the figures, every wrong or crashed case, and why cases are refused."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--engine", choices=ENGINES, default="interpreter")
    parser.add_argument("--only", default="", help="part of the cases' names")
    parser.add_argument("--list", action="store_true", help="print every case")
    options = parser.parse_args()
    outcomes = []
    for outcome in run_cases(ENGINES[options.engine], options.only):
        outcomes.append(outcome)
        if options.list or outcome.kind in ("wrong", "crashed"):
            print(f"{outcome.kind:8} {outcome.name} {outcome.why}", flush=True)
    for why, count in Counter(o.why for o in outcomes if o.kind == "refused").most_common():
        print(f"{count:4} refused: {why[:160]}")
    print(dict(Counter(outcome.kind for outcome in outcomes)))


if __name__ == "__main__":
    main()
