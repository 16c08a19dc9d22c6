"""What a model remembers: variables behind handles, and the graph that fills them first."""

from __future__ import annotations

from brim.frontends.tflite.table import Call, Resource, operator
from brim.frontends.tflite.variables import Variables
from brim.graph import Value, evaluate_values


def _text(raw: object) -> str:
    return raw.decode("utf-8", "replace") if isinstance(raw, bytes) else ""


@operator("VAR_HANDLE")
def var_handle(call: Call) -> Resource:
    return Resource(f"{_text(call.option('container'))}/{_text(call.option('shared_name'))}")


@operator("READ_VARIABLE", moves=True)
def read_variable(call: Call) -> Value:
    return call.scope.variables.read(call.handle(0))


@operator("ASSIGN_VARIABLE", moves=True, dynamic=True)
def assign_variable(call: Call) -> list[Value]:
    call.scope.variables.assign(call.handle(0), call[1])
    return []


@operator("CALL_ONCE", moves=True)
def call_once(call: Call) -> list[Value]:
    """What the graph assigns is what its variables hold before the first run."""
    fresh = Variables(call.scope.variables.first)
    call.scope.inside(fresh).call(call.int("init_subgraph_index"), ())
    for name in fresh.assigned:
        (fresh.first[name],) = evaluate_values([fresh.left[name]], {})
    return []
