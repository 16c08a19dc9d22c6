"""ONNX's official test data: none wrong, none crashed, and no fewer passed than before."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from brim.errors import UnsupportedError
from tests.extra.onnx_nodes import ENGINES, Outcome, difference, markdown, run_case, run_cases
from tests.extra.onnx_suites import SUITES, load_suite

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # overflows are tested, too

CASES = {"base": 1404, "expanded": 480, "pytorch": 117, "simple": 23}  # in onnx 1.23
PASSED = {"base": 1401, "expanded": 477, "pytorch": 117, "simple": 21}  # raise it when more do
PAGE = Path(__file__).parents[2] / "docs" / "onnx-cases.md"


@pytest.mark.slow
@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("engine", ENGINES)
def test_no_case_is_wrong(engine: str, suite: str) -> None:
    outcomes = list(run_cases(ENGINES[engine], suites=[suite]))
    assert len(outcomes) >= CASES[suite]
    assert _bad(outcomes) == []
    assert Counter(outcome.kind for outcome in outcomes)["passed"] >= PASSED[suite]


@pytest.mark.parametrize(("engine", "every"), [("interpreter", 2), ("compiled", 23)])
def test_no_case_of_a_sample_is_wrong(engine: str, every: int) -> None:
    """The part of all suites that runs on every change."""
    outcomes = list(run_cases(ENGINES[engine], every=every, suites=SUITES))
    assert len(outcomes) >= sum(CASES.values()) // every
    assert _bad(outcomes) == []
    passed = Counter(outcome.kind for outcome in outcomes)["passed"]
    assert passed > 0.98 * len(outcomes)


@pytest.mark.slow
def test_the_page_of_cases_is_current() -> None:
    text = PAGE.read_text(encoding="utf-8")
    if f"package {onnx.__version__}," not in text:
        pytest.skip("the page is about another release of onnx")
    outcomes = list(run_cases(ENGINES["interpreter"], suites=SUITES))
    command = "python -m tests.extra.onnx_nodes --suite all --markdown > docs/onnx-cases.md"
    assert markdown(outcomes) == text, command


def test_a_refusal_is_listed_with_its_reason() -> None:
    case = next(case for case in load_suite("base") if case.name == "test_abs")

    def refuse(model: bytes, feeds: object) -> dict[str, np.ndarray]:
        raise UnsupportedError("Abs of nothing", why="there is\nnothing")

    outcome = run_case(case, refuse)
    assert (outcome.kind, outcome.why) == ("refused", "Abs of nothing there is nothing")
    page = markdown([outcome, replace(outcome, name="test_neg")])
    assert "- Abs of nothing there is nothing: `test_abs`, `test_neg`\n" in page
    assert "## Bugs" not in page
    assert "- `test_abs`: wrong, " in markdown([replace(outcome, kind="wrong")])


def test_other_numbers_types_and_errors_are_found() -> None:
    """The tests above can fail."""
    case = next(case for case in load_suite("base") if case.name == "test_abs")
    wanted = case.data_sets[0][1][0]

    def kind(y: object) -> str:
        return run_case(case, lambda model, feeds: {"y": y}).kind  # type: ignore[arg-type,dict-item]

    assert kind(wanted) == "passed"
    for y in (wanted + 0.01, wanted.astype(np.float64), wanted[0], [wanted], None, 1.0):
        assert kind(y) == "wrong"
    assert run_case(case, lambda model, feeds: {"y": 1 / 0}).kind == "crashed"  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("got", "wanted", "same"),
    [
        ([], [], True),
        (None, None, True),
        (None, [], False),
        ([np.zeros(2)], [np.zeros(2)], True),
        ([np.zeros(2)], [np.zeros(2), np.zeros(2)], False),
        ([np.zeros(2)], [np.zeros(3)], False),
        ({1: np.ones(1)}, {1: np.ones(1)}, True),
        ({1: np.ones(1)}, {2: np.ones(1)}, False),
        (np.array(["a"], object), np.array(["a"]), True),
        (np.array(["a"], object), np.array(["b"]), False),
    ],
    ids=str,
)
def test_sequences_optionals_maps_and_texts_are_compared(
    got: object, wanted: object, same: bool
) -> None:
    assert (difference(got, wanted, 1e-3, 1e-7) == "") is same


def test_drawn_numbers_have_to_be_possible() -> None:
    case = next(case for case in load_suite("base") if case.name == "test_bernoulli")
    x, wanted = case.data_sets[0][0]["x"], case.data_sets[0][1][0]
    assert x.min() > 0 and x.max() < 1
    kinds = {
        run_case(case, lambda model, feeds, y=y: {"y": y}).kind
        for y in (np.ones_like(wanted), np.zeros_like(wanted))
    }
    assert kinds == {"drawn"}
    for y in (x.astype(wanted.dtype), wanted.astype(np.int64), wanted[1:]):
        assert run_case(case, lambda model, feeds, y=y: {"y": y}).kind == "wrong"


def _bad(outcomes: list[Outcome]) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.kind in ("wrong", "crashed")][:10]
