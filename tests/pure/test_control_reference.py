"""Control flow, sequences and optionals, interpreted, against the reference of the onnx package."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx")

from onnx.reference import ReferenceEvaluator

from brim.frontends.onnx import import_model
from brim.graph import evaluate
from brim.passes.verify import verify
from brim.text import parse_graph, print_graph
from tests.control_cases import CASES, ControlCase
from tests.extra.onnx_nodes import difference
from tests.sequence_cases import SEQUENCE_CASES

ALL = (*CASES, *SEQUENCE_CASES)
JUDGED = [case for case in ALL if "reference" in case.peers]


@pytest.mark.parametrize("case", JUDGED, ids=str)
def test_control_flow_gives_what_the_reference_gives(case: ControlCase) -> None:
    model = case.model
    graph, reference = import_model(model), ReferenceEvaluator(model)
    for feeds in case.feeds:
        found = list(evaluate(graph, feeds).values())
        assert not difference(found, reference.run(None, feeds), 1e-5, 1e-5)


@pytest.mark.parametrize("case", ALL, ids=str)
def test_graphs_of_control_flow_print_and_parse(case: ControlCase) -> None:
    graph = import_model(case.model)
    verify(graph)
    text, data = print_graph(graph)
    again = parse_graph(text, data)
    assert print_graph(again)[0] == text
    feeds = case.feeds[0]
    found, wanted = evaluate(again, feeds), evaluate(graph, feeds)
    assert not difference(list(found.values()), list(wanted.values()), 0, 0)


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("scan_forward_of_0", [(2,), (0, 2), (0, 3)]),
        ("scan_backward_of_0", [(2,), (0, 2), (0, 3)]),
        ("scan_along_other_axes_of_0", [(2,), (2, 0), (3, 0)]),
    ],
)
def test_a_scan_over_nothing_gives_its_state_and_no_rows(
    name: str, shapes: list[tuple[int, ...]]
) -> None:
    (case,) = [case for case in CASES if case.name == name]
    found = list(evaluate(import_model(case.model), case.feeds[0]).values())
    assert [array.shape for array in found] == shapes
    np.testing.assert_array_equal(found[0], case.feeds[0]["s"])
