"""Random models: brim equals its peers on a fixed sample, and the fuzzer itself is no blind judge.

The nightly run is `make fuzz` (20,000 models); 500 run here in every test run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("onnx")

from onnx import defs, helper

from tests.extra.fuzz_models import engines
from tests.extra.fuzz_models.compose import OPSETS, Sample, sample
from tests.extra.fuzz_models.judge import judge
from tests.extra.fuzz_models.known import KNOWN
from tests.extra.fuzz_models.models import make_model
from tests.extra.fuzz_models.rows import CASES
from tests.extra.fuzz_models.runner import FAILURES, Result, Run, _died, counts, fuzz
from tests.extra.fuzz_models.shrink import shrink

pytestmark = pytest.mark.peer("onnxruntime")

SEED = 2026
NOTE = Path(__file__).parents[2] / "docs" / "why" / "008-others-errors.md"
# Operators that no case draws, and why.
NOT_DRAWN = {
    "Constant": "written for constants of all others",
    "RandomNormal RandomNormalLike RandomUniform RandomUniformLike Multinomial": "random",
    "SequenceAt SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength "
    "SequenceMap SplitToSequence ConcatFromSequence ReverseSequence Optional OptionalGetElement "
    "OptionalHasElement": "no tensors",
    "StringConcat StringSplit StringNormalizer RegexFullMatch TfIdfVectorizer": "text",
    "ImageDecoder": "needs files of pictures",
    "BitCast": "no peer has it",
    "Scatter": "the old name of ScatterElements",
}


def _failures(results: list[Result]) -> list[Result]:
    return [result for result in results if result.kind in FAILURES]


def _run(count: int, first: int, engine: str = "interpreter", jobs: int = 1) -> list[Result]:
    return fuzz(Run(SEED, count, first, engine=engine), jobs)


# (number of the first model, how many, engine): 500 in all
PARTS = [
    *((first, 114, "interpreter") for first in range(0, 456, 114)),
    *((first, 22, "compiled") for first in (456, 478)),
]


@pytest.mark.parametrize(("first", "count", "engine"), PARTS)
def test_random_models_equal_their_peers(first: int, count: int, engine: str) -> None:
    results = _run(count, first, engine)
    assert len(results) == count
    assert not _failures(results)
    assert sum(result.kind in ("agree", "rounding") for result in results) > count / 2


@pytest.mark.slow
@pytest.mark.parametrize("first", range(500, 1000, 100))
def test_more_compiled_models_equal_their_peers(first: int) -> None:
    results = _run(100, first, "compiled")
    assert not _failures(results), counts(results)


def test_every_operator_is_drawn_or_listed() -> None:
    known = {
        schema.name
        for schema in defs.get_all_schemas_with_history()
        if schema.domain == "" and schema.since_version <= OPSETS[1] and not schema.deprecated
    }
    left_out = {name for names in NOT_DRAWN for name in names.split()} - {"ReverseSequence"}
    assert known - set(CASES) - left_out == set()
    assert set(CASES) <= known | {"Upsample", "Scatter"}


def test_a_seed_gives_one_model() -> None:
    first, second = sample(SEED, 7), sample(SEED, 7)
    assert first is not None
    assert second is not None
    assert first.model.SerializeToString() == second.model.SerializeToString()
    assert sample(SEED, 8) != first


def test_known_errors_of_others_are_explained() -> None:
    headings = {line[3:] for line in NOTE.read_text().splitlines() if line.startswith("## ")}
    assert {entry.section for entry in KNOWN} <= headings
    assert {op for entry in KNOWN for op in entry.ops} <= set(CASES)


# ------------------------------------------------------------------ the judge


def _model(
    nodes: list[onnx.NodeProto], inputs: dict[str, np.ndarray], outputs: list[str]
) -> Sample:
    model = make_model(nodes, inputs, {}, {}, 21)
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    return Sample(model, inputs)


@pytest.fixture
def chain() -> Sample:
    """tanh, and then a sum, of 3 x 5 numbers."""
    x = np.linspace(-2, 2, 15, dtype=np.float32).reshape(3, 5)
    nodes = [
        helper.make_node("Tanh", ["x"], ["t"]),
        helper.make_node("Neg", ["x"], ["unused"]),
        helper.make_node("ReduceSum", ["t"], ["y"]),
    ]
    return _model(nodes, {"x": x}, ["y", "unused"])


def test_right_answers_agree(chain: Sample) -> None:
    assert judge(chain.model, chain.feeds, ("interpreter", "compiled")).kind in (
        "agree",
        "rounding",
    )


def _tampered(change: float, op: str = "Tanh") -> engines.Engine:
    """brim, wrong by a factor wherever a model has `op`."""

    def run(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> engines.Arrays:
        wrong = any(node.op_type == op for node in model.graph.node)
        factor = np.float32(1 + change) if wrong else np.float32(1)
        return {n: a * factor for n, a in engines.interpreter(model, feeds).items()}

    return run


@pytest.mark.parametrize("change", [1e-4, 0.5])
def test_a_wrong_answer_is_seen(
    chain: Sample, change: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(engines.BRIM, "interpreter", _tampered(change))
    verdict = judge(chain.model, chain.feeds)
    assert verdict.kind == "disagree"
    assert "instead of" in verdict.why


def test_a_crash_is_seen(chain: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    def stumbles(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> engines.Arrays:
        raise ZeroDivisionError("here")

    monkeypatch.setitem(engines.BRIM, "interpreter", stumbles)
    assert judge(chain.model, chain.feeds).kind == "crash"


def test_a_failure_shrinks_to_its_node(chain: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(engines.BRIM, "interpreter", _tampered(0.5))
    small = shrink(chain, lambda part: judge(part.model, part.feeds).kind == "disagree")
    assert [node.op_type for node in small.model.graph.node] == ["Tanh"]
    assert small.feeds["x"].size == 1


def test_rounding_that_a_floor_amplifies_is_no_difference() -> None:
    x = np.array([0.1, 0.2, 0.7], np.float32)
    nodes = [
        helper.make_node("Div", ["x", "y"], ["q"]),
        helper.make_node("Mul", ["q", "y"], ["p"]),
        helper.make_node("Sub", ["p", "x"], ["d"]),
        helper.make_node("Sign", ["d"], ["s"]),
    ]
    graph = _model(nodes, {"x": x, "y": np.array([0.3, 0.7, 1.1], np.float32)}, ["s"])
    from brim.frontends.onnx import import_model
    from tests.extra.fuzz_models.noise import spread

    sizes = spread(import_model(graph.model.SerializeToString()), graph.feeds)["s"]
    assert np.isinf(sizes).any() or (sizes >= 1).any()


def test_exact_numbers_have_no_noise() -> None:
    x = np.array([[1, 2], [3, 4]], np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "x"], ["p"]),
        helper.make_node("Floor", ["p"], ["y"]),
    ]
    graph = _model(nodes, {"x": x}, ["y"])
    from brim.frontends.onnx import import_model
    from tests.extra.fuzz_models.noise import spread

    assert not spread(import_model(graph.model.SerializeToString()), graph.feeds)["y"].any()


# ------------------------------------------------------------------ the runner


@pytest.mark.parametrize(
    ("log", "kind"),
    [
        ('Fatal Python error: Aborted\n  File "/x/onnxruntime/capi/session.py", line 1', "peer"),
        ('Fatal Python error: Aborted\n  File "/x/brim/runtime/program.py", line 1', "crash"),
        ('Timeout (0:01:00)!\n  File "/x/onnx/reference/op_run.py", line 1', "peer"),
        ('Timeout (0:01:00)!\n  File "/x/brim/graph.py", line 1', "hang"),
        ("Traceback (most recent call last):\nValueError: in a case", "fault"),
    ],
)
def test_whose_fault_a_death_is(log: str, kind: str) -> None:
    assert _died(3, log).kind == kind


def test_a_run_goes_on_in_many_children() -> None:
    run = Run(SEED, 6, only="Relu")
    results = fuzz(run, jobs=2)
    assert [result.index for result in results] == list(range(6))
    assert sum(counts(results).values()) == 6
