"""`onnx_node`: one ONNX node as a host step, for results whose shape depends on data, and for text.

It runs the same row of the table as the importer, on arrays. The `onnx` package is not needed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from brim.errors import ModelError
from brim.frontends.onnx.model import Node
from brim.frontends.onnx.table import Call, Row, find
from brim.graph import Value, const, evaluate_values
from brim.ops.control import results_of
from brim.ops.registry import primitive
from brim.types import Type, parse_type


def run_row(row: Row, call: Call) -> list[Any]:
    """Calls a row whose inputs are all constant: its results as constant values (or sequences)."""
    if row.on_host:
        arrays = [None if value is None else value.data for value in call.inputs]
        found = row.function(call, *arrays)
        parts = found if isinstance(found, tuple) else (found,)
        return [part if part is None else const(np.asarray(part)) for part in parts]
    found = row.function(call)
    return list(found) if isinstance(found, (tuple, list)) else [found]


def _infer(*types: Type, results: tuple[str, ...], **attrs: Any) -> Any:
    found = tuple(parse_type(text) for text in results)
    return found[0] if len(found) == 1 else found


def _numpy(
    *arrays: np.ndarray,
    op: str,
    domain: str,
    version: int,
    present: tuple[bool, ...],
    wanted: tuple[bool, ...],
    attributes: tuple[tuple[str, Any], ...],
    tensors: tuple[str, ...],
    results: tuple[str, ...],
) -> Any:
    row = find(op, domain, version)
    if row is None:
        raise ModelError(f"ONNX operator {op} {version} is not known", where=domain)
    rest = iter(arrays)
    inputs = tuple(const(np.array(next(rest))) if there else None for there in present)
    values = dict(attributes) | {name: array for name, array in zip(tensors, rest)}
    outputs = tuple(f"{i}" if there else "" for i, there in enumerate(wanted))
    node = Node(op, domain, op, tuple("x" if v else "" for v in inputs), outputs, values)
    found = run_row(row, Call(node, version, inputs, None))
    kept = [value for value, there in zip(found, wanted) if there]
    parts = tuple(evaluate_values(kept, {}))
    for part, text in zip(parts, results):
        if np.asarray(part).dtype != parse_type(text).dtype.numpy:
            raise ModelError(f"{op} gave {np.asarray(part).dtype} where {text} was expected")
    return parts[0] if len(parts) == 1 else parts


@primitive("host", _infer, _numpy)
def onnx_node(*inputs, op, domain, version, present, wanted, attributes, tensors, results):
    """One ONNX operator run on the host.

    present: which of its inputs are given. wanted: which outputs are used. attributes: (name, plain
    value) pairs. tensors: names of tensor attributes, whose values are the last inputs. results: one
    type as text for each wanted output, f32[?] where the shape depends on data.
    """


def host_step(
    node: Node, version: int, inputs: Iterable[Value | None], results: list[Type]
) -> list[Value | None]:
    """`node` as a host step; one value for each output, None for those that nobody names."""
    inputs = tuple(inputs)
    tensors = {k: v for k, v in node.attributes.items() if isinstance(v, np.ndarray)}
    plain = tuple((k, v) for k, v in node.attributes.items() if k not in tensors)
    wanted = tuple(bool(name) for name in node.outputs)
    value = onnx_node(
        *(v for v in inputs if v is not None),
        *(const(array) for array in tensors.values()),
        op=node.op,
        domain=node.domain,
        version=version,
        present=tuple(v is not None for v in inputs),
        wanted=wanted,
        attributes=plain,
        tensors=tuple(tensors),
        results=tuple(str(type) for type, there in zip(results, wanted) if there),
    )
    found = iter(results_of(value))
    return [next(found) if there else None for there in wanted]
