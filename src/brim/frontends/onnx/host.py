"""ONNX nodes as host steps, for results whose shape depends on data, and for text.

A step runs the same row of the table as the importer, on arrays. The `onnx` package is not needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from brim.errors import ModelError, UnsupportedError
from brim.frontends.onnx.model import Node
from brim.frontends.onnx.rows import Row, find
from brim.frontends.onnx.table import Call
from brim.graph import Value, const, evaluate_values
from brim.ops.control import results_of
from brim.ops.host import foreign
from brim.types import Type


def run_row(row: Row, call: Call) -> list[Any]:
    """Calls a row whose inputs are all constant: its results as values (or sequences of them)."""
    if row.on_host:
        arrays = [value.data if isinstance(value, Value) else None for value in call.inputs]
        found = row.function(call, *arrays)
        parts = found if isinstance(found, tuple) else (found,)
        return [part if part is None else const(np.asarray(part)) for part in parts]
    found = row.function(call)
    return list(found) if isinstance(found, (tuple, list)) else [found]


def run(
    arrays: Sequence[np.ndarray],
    op: str,
    domain: str,
    version: int,
    present: tuple[bool, ...],
    wanted: tuple[bool, ...],
    attributes: tuple[tuple[str, Any], ...],
    tensors: tuple[str, ...],
) -> list[np.ndarray]:
    """What `brim.ops.host.foreign` calls: the wanted results of one node. Raises BrimError."""
    row = find(op, domain, version)
    if row is None:
        raise ModelError(f"ONNX operator {op} {version} is not known", where=domain)
    rest = iter(arrays)
    inputs = tuple(const(np.array(next(rest))) if there else None for there in present)
    values = dict(attributes) | dict(zip(tensors, rest))
    outputs = tuple(str(i) if there else "" for i, there in enumerate(wanted))
    node = Node(op, domain, op, tuple("x" if v else "" for v in inputs), outputs, values)
    call = Call(node, version, inputs, None)
    try:
        found = run_row(row, call)
    except (ValueError, TypeError, IndexError, KeyError, ZeroDivisionError, OverflowError) as error:
        raise ModelError(f"{op} cannot be computed for these inputs", why=repr(error)) from None
    left = set(values) - call.read
    if left:
        raise UnsupportedError(f"{op} with attributes {sorted(left)}")
    kept = [value for value, there in zip(found, wanted, strict=False) if there]
    return evaluate_values(kept, {})


def host_step(
    node: Node, version: int, inputs: Iterable[Value | None], results: list[Type]
) -> list[Value | None]:
    """`node` as a host step; one value for each output, None for those that nobody names."""
    inputs = tuple(inputs)
    tensors = {k: v for k, v in node.attributes.items() if isinstance(v, np.ndarray)}
    wanted = tuple(bool(name) for name in node.outputs)
    value = foreign(
        *(v for v in inputs if v is not None),
        *(const(array) for array in tensors.values()),
        format="onnx",
        op=node.op,
        domain=node.domain,
        version=version,
        present=tuple(v is not None for v in inputs),
        wanted=wanted,
        attributes=tuple((k, v) for k, v in node.attributes.items() if k not in tensors),
        tensors=tuple(tensors),
        results=tuple(str(type) for type, there in zip(results, wanted) if there),
    )
    found = iter(results_of(value))
    return [next(found) if there else None for there in wanted]
