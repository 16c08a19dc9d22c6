"""Control flow, sequences and optionals, interpreted, against onnxruntime."""

from __future__ import annotations

import pytest

pytest.importorskip("onnx")

from brim.frontends.onnx import import_model
from brim.graph import evaluate
from tests.control_cases import CASES, ControlCase
from tests.extra.onnx_nodes import difference
from tests.sequence_cases import SEQUENCE_CASES

JUDGED = [case for case in (*CASES, *SEQUENCE_CASES) if "onnxruntime" in case.peers]


@pytest.mark.peer("onnxruntime")
@pytest.mark.parametrize("case", JUDGED, ids=str)
def test_control_flow_gives_what_onnxruntime_gives(case: ControlCase) -> None:
    import onnxruntime

    data = case.model
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    graph = import_model(data)
    for feeds in case.feeds:
        wanted = session.run(None, feeds)
        assert not difference(list(evaluate(graph, feeds).values()), wanted, 1e-5, 1e-5)
