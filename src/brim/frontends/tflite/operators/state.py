"""What a model remembers: variables behind handles, and the graph that fills them first."""

from __future__ import annotations

import numpy as np

from brim.errors import ModelError
from brim.frontends.tflite.table import Call, Resource, operator
from brim.graph import Value, evaluate_values


def _handle(call: Call) -> str:
    found = call.operand(0)
    if not isinstance(found, Resource):
        raise ModelError(f"{call.name} takes a handle")
    return found.name


def _text(raw: object) -> str:
    return raw.decode("utf-8", "replace") if isinstance(raw, bytes) else ""


@operator("VAR_HANDLE")
def var_handle(call: Call) -> Resource:
    return Resource(f"{_text(call.option('container'))}/{_text(call.option('shared_name'))}")


@operator("READ_VARIABLE", moves=True)
def read_variable(call: Call) -> Value:
    return call.scope.variables.read(_handle(call))


@operator("ASSIGN_VARIABLE", moves=True)
def assign_variable(call: Call) -> list[Value]:
    variables = call.scope.variables
    name = _handle(call)
    variables.first.setdefault(name, np.zeros(call[1].shape, call[1].dtype.numpy))
    variables.read(name)  # what is changed is given too
    variables.left[name] = call[1]
    return []


@operator("CALL_ONCE", moves=True)
def call_once(call: Call) -> list[Value]:
    """What the graph assigns is what its variables hold before the first run."""
    variables = call.scope.variables
    known = set(variables.left)
    call.scope.call(call.scope.graph_of(call.int("init_subgraph_index")), ())
    for name in set(variables.left) - known:
        (variables.first[name],) = evaluate_values([variables.left.pop(name)], {})
        variables.given.pop(name)
    return []
