"""ONNX's official node tests: none wrong, none crashed, and no fewer passed than before."""

from __future__ import annotations

import pytest

pytest.importorskip("onnx")

from tests.extra.onnx_nodes import ENGINES, Outcome, run_cases

FLOOR = {"interpreter": 1216, "compiled": 1216}  # cases that pass; raise it when more do


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_no_case_is_wrong(engine: str) -> None:
    outcomes = list(run_cases(ENGINES[engine]))
    assert len(outcomes) >= 1404
    bad = [outcome for outcome in outcomes if outcome.kind in ("wrong", "crashed")]
    assert not bad, bad[:10]
    assert _count(outcomes, "passed") >= FLOOR[engine]


@pytest.mark.parametrize(("engine", "every"), [("interpreter", 3), ("compiled", 7)])
def test_no_case_of_a_sample_is_wrong(engine: str, every: int) -> None:
    """The part of the suite that runs on every change."""
    outcomes = list(run_cases(ENGINES[engine], every=every))
    assert len(outcomes) >= 1404 // every
    assert not [outcome for outcome in outcomes if outcome.kind in ("wrong", "crashed")]
    assert _count(outcomes, "passed") > 0.84 * len(outcomes)


def test_every_refusal_has_a_reason() -> None:
    refused = [o for o in run_cases(ENGINES["interpreter"], "cast_") if o.kind == "refused"]
    assert refused
    assert all("not supported" in outcome.why for outcome in refused)


def _count(outcomes: list[Outcome], kind: str) -> int:
    return sum(outcome.kind == kind for outcome in outcomes)
