"""Random graphs through the whole pipeline (passes, fusion, machine code) equal numpy."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings

from brim.compiler import compile_graph, load_program
from brim.graph import evaluate
from tests.random_graphs import RandomGraph, graphs


@given(graphs())
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_compiled_equals_numpy(case: RandomGraph) -> None:
    found = load_program(compile_graph(case.graph)).run(case.feeds)
    case.check(found, evaluate(case.graph, case.feeds))
