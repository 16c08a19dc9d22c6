"""ONNX nodes as host steps, for results whose shape depends on data, and for text.

A step runs the same row of the table as the importer, on arrays. The `onnx` package is not needed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from brim.containers import box, unbox
from brim.errors import ModelError, UnsupportedError
from brim.frontends.onnx.model import Node
from brim.frontends.onnx.operands import Nothing, Operand, Sequence, as_value, type_of_operand
from brim.frontends.onnx.rows import Row, find
from brim.frontends.onnx.table import Call
from brim.graph import Value, const, evaluate_values
from brim.ops.control import results_of
from brim.ops.host import foreign
from brim.types import F32, Type


def run_row(row: Row, call: Call) -> list[Any]:
    """Calls a row whose inputs are all constant: its results as operands."""
    if row.on_host:
        arrays = [value.data if isinstance(value, Value) else None for value in call.inputs]
        parts = _tuple(row.function(call, *arrays))
        return [part if part is None else const(np.asarray(part)) for part in parts]
    found = row.function(call)
    return list(found) if isinstance(found, (tuple, list)) else [found]


def _tuple(found: Any) -> tuple[Any, ...]:
    return found if isinstance(found, tuple) else (found,)


def run(
    arrays: Iterable[np.ndarray],
    op: str,
    domain: str,
    version: int,
    present: tuple[bool, ...],
    wanted: tuple[bool, ...],
    attributes: tuple[tuple[str, Any], ...],
    tensors: tuple[str, ...],
    results: tuple[Type, ...],
) -> list[np.ndarray]:
    """What `brim.ops.host.foreign` calls: the wanted results of one node. Raises BrimError."""
    row = find(op, domain, version)
    if row is None:
        raise ModelError(f"ONNX operator {op} {version} is not known", where=domain)
    rest = iter(arrays)
    inputs = tuple(next(rest) if there else None for there in present)
    values = dict(attributes) | dict(zip(tensors, rest))
    outputs = tuple(str(i) if there else "" for i, there in enumerate(wanted))
    node = Node(op, domain, op, tuple("x" if there else "" for there in present), outputs, values)
    operands = tuple(map(_operand, inputs))
    call = Call(node, version, operands, None, results=results)
    try:
        found = (
            _tuple(row.function(call, *map(unbox, inputs))) if row.on_host else run_row(row, call)
        )
    except (ValueError, TypeError, IndexError, KeyError, ZeroDivisionError, OverflowError) as error:
        raise ModelError(f"{op} cannot be computed for these inputs", why=repr(error)) from None
    if not (row.on_host or row.dynamic):
        call.check_inputs()
    left = set(values) - call.read
    if left:
        raise UnsupportedError(f"{op} with attributes {sorted(left)}")
    kept = [value for value, there in zip(found, wanted, strict=False) if there]
    if row.on_host:
        return [np.asarray(x) if isinstance(x, (np.ndarray, np.generic)) else box(x) for x in kept]
    return evaluate_values(map(as_value, kept), {})


def _operand(given: np.ndarray | None) -> Operand:
    """What a call shows of an input of a host step; None for maps, which rows take as they are."""
    content = unbox(given)
    return None if given is None or isinstance(content, dict) else _content(content)


def _content(content: Any) -> Operand:
    match content:
        case None:
            return Nothing(F32)
        case list():
            parts = tuple(map(_content, content))
            return Sequence(parts, type_of_operand(parts[0]).dtype if parts else F32)
        case dict():
            raise ModelError("maps are for rows that run on the host")
    return const(np.array(content))


def host_step(
    node: Node, version: int, inputs: Iterable[Value | None], results: Iterable[Type]
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
        attributes=tuple(
            (k, str(v) if isinstance(v, Type) else v)
            for k, v in node.attributes.items()
            if k not in tensors
        ),
        tensors=tuple(tensors),
        results=tuple(str(type) for type, there in zip(results, wanted) if there),
    )
    found = iter(results_of(value))
    return [next(found) if there else None for there in wanted]
