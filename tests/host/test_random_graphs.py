"""Random graphs through the whole pipeline, from passes to machine code, equal numpy."""

from __future__ import annotations

from unittest import mock

from hypothesis import HealthCheck, given, settings

from brim.compiler import compile_graph, load_program
from brim.graph import evaluate
from brim.runtime import entry
from tests.random_graphs import RandomGraph, graphs


@given(graphs())
@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
def test_compiled_equals_numpy(case: RandomGraph) -> None:
    found = load_program(compile_graph(case.graph)).run(case.feeds)
    case.check(found, evaluate(case.graph, case.feeds))


@given(graphs())
@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_kernel_split_among_threads_equals_numpy(case: RandomGraph) -> None:
    with mock.patch.object(entry, "WORTH", 0.0):
        compiled = compile_graph(case.graph)
    found = load_program(compiled, threads=2).run(case.feeds)
    case.check(found, evaluate(case.graph, case.feeds))
