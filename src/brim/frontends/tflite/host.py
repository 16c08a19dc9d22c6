"""TFLite operators as host steps, for results whose shape depends on data, and for text.

A step runs the same row of the table as the importer, on arrays. The schema's package is not
needed.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest
from typing import Any

import numpy as np

from brim.errors import ModelError, UnsupportedError
from brim.frontends.tflite.model import Operator, Quantization, Tensor
from brim.frontends.tflite.table import TABLE, Call, NeedsData, Operand, Shape
from brim.graph import Value, const, evaluate_values
from brim.ops.control import results_of
from brim.ops.host import foreign
from brim.types import Type, find_dtype


def host_step(call: Call, shapes: tuple[Shape, ...] = ()) -> list[Value]:
    """A call as a host step. shapes: those of its results, as far as they are known.

    Raises UnsupportedError for what arrays cannot tell.
    """
    inputs: list[Value] = []
    for operand in call.inputs:
        if operand is not None and not isinstance(operand, Value):
            raise UnsupportedError(f"{call.name} when shapes depend on data")
        if operand is not None:
            inputs.append(operand)
    if not inputs or not call.results:
        raise UnsupportedError(f"{call.name} when shapes depend on data")
    operator = call.operator
    if any(name.endswith("subgraph_index") for name in operator.options):
        raise UnsupportedError(f"{call.name} when shapes depend on data")
    value = foreign(
        *inputs,
        format="tflite",
        op=operator.name,
        domain="",
        version=operator.version,
        present=tuple(operand is not None for operand in call.inputs),
        wanted=(True,) * len(call.results),
        attributes=(
            *operator.options.items(),
            ("custom options", operator.custom.hex() if operator.custom is not None else ""),
            ("inputs", tuple(map(_described, call.tensors))),
            ("results", tuple(map(_described, call.results))),
        ),
        tensors=(),
        results=tuple(
            str(Type(shape, call.result_dtype(i)))
            for i, (_, shape) in enumerate(zip_longest(call.results, shapes))
        ),
    )
    return results_of(value)


def _described(tensor: Tensor | None) -> tuple[Any, ...]:
    """What rows ask about a tensor, as plain values."""
    if tensor is None:
        return ()
    found = tensor.quantization
    parts = (
        ()
        if found is None
        else (tuple(found.scale.tolist()), tuple(found.zero.tolist()), found.axis)
    )
    return (tensor.kind, str(tensor.dtype), tensor.shape, parts)


def _tensor(described: tuple[Any, ...]) -> Tensor | None:
    if not described:
        return None
    kind, dtype, shape, parts = described
    found = None
    if parts:
        scale, zero, axis = parts
        found = Quantization(np.array(scale, np.float32), np.array(zero, np.int64), axis)
    return Tensor("", kind, find_dtype(dtype), tuple(shape), tuple(shape), None, found, False)


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
    """What `brim.ops.host.foreign` calls: the results of one operator. Raises BrimError."""
    from brim.frontends.tflite.importer import compute  # it imports this file

    row = TABLE.get(op)
    if row is None:
        raise ModelError(f"TFLite operator {op} is not known")
    options = dict(attributes)
    inside, outside = options.pop("inputs"), options.pop("results")
    custom = bytes.fromhex(options.pop("custom options")) or None
    rest = iter(arrays)
    operands: tuple[Operand, ...] = tuple(const(next(rest)) if there else None for there in present)
    given = tuple(map(_tensor, inside))
    made = tuple(tensor for tensor in map(_tensor, outside) if tensor is not None)
    numbers = (tuple(range(len(given))), tuple(range(len(made))))
    call = Call(Operator(op, version, *numbers, (), options, custom), operands, given, made, None)
    try:
        found = compute(row, call)
    except (ValueError, TypeError, IndexError, KeyError, ZeroDivisionError, NeedsData) as error:
        raise ModelError(f"{op} cannot be computed for these inputs", why=repr(error)) from None
    values = [value for value in found if isinstance(value, Value)]
    if len(values) < len(made):
        raise UnsupportedError(f"{op} when shapes depend on data")
    return evaluate_values(values, {})
