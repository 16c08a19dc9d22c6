"""Random nests of If, Loop, Scan and sequences, interpreted and compiled, against onnxruntime."""

from __future__ import annotations

import pytest

pytest.importorskip("onnx")

import brim
from brim.frontends.onnx import import_model
from brim.graph import evaluate
from tests.extra.onnx_nodes import difference
from tests.random_control import feeds_of, random_model

pytestmark = pytest.mark.peer("onnxruntime")


def _agrees(number: int, compiled: bool) -> None:
    import onnxruntime

    data = random_model(number)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # its optimisations crash the process for one such model in a few hundred
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    graph = import_model(data)
    for feeds in feeds_of(number):
        wanted = session.run(None, feeds)
        found = evaluate(graph, feeds) if not compiled else brim.load(data).run(feeds)
        assert not difference(list(found.values()), wanted, 1e-4, 1e-4)


@pytest.mark.parametrize("number", range(30))
def test_random_control_flow(number: int) -> None:
    _agrees(number, compiled=False)


@pytest.mark.parametrize("number", range(60, 64))
def test_random_control_flow_compiled(number: int) -> None:
    _agrees(number, compiled=True)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1000, 2000, 50))
def test_many_random_models_of_control_flow(first: int) -> None:
    for number in range(first, first + 50):
        _agrees(number, compiled=number % 10 == 0)
