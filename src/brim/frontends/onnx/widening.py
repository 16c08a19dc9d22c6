"""Operators that compute with bfloat16: in f32, with one rounding of each result.

bf16 is a storage type of brim, so all but the rows declared with `storage=True` are given f32, as
if the model had a Cast around each such operator. Which results are rounded back is said by ONNX's
schema: those whose type is that of a widened input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from brim.errors import UnsupportedError
from brim.frontends.onnx.model import Node
from brim.frontends.onnx.operands import Operand
from brim.frontends.onnx.table import Row
from brim.frontends.onnx.tensors import NUMBERS
from brim.graph import Value
from brim.types import BF16, F32, DType


def needs_widening(row: Row, operands: Iterable[Operand]) -> bool:
    """Whether a row is given bf16 and computes. Raises UnsupportedError for other storage types."""
    if row.storage or row.dynamic:
        return False
    found = [o.dtype for o in operands if isinstance(o, Value) and o.dtype.kind == "n"]
    if any(dtype != BF16 for dtype in found):
        narrow = next(dtype for dtype in found if dtype != BF16)
        raise UnsupportedError(
            f"{row.name} of {narrow}",
            why="it is moved and converted, never computed with",
            hint="put a DequantizeLinear or a Cast before it",
        )
    return bool(found)


def widened(
    node: Node,
    version: int,
    operands: Iterable[Operand],
    run: Callable[[tuple[Operand, ...]], list[Operand]],
    apply: Callable[..., Operand],
) -> list[Operand]:
    """The results of a node that is given bf16.

    run: imports the node with other operands. apply: one more operator, by its name, operands and
    attributes (`Scope.apply`): where shapes are not known, the casts are host steps.
    """
    operands = tuple(operands)
    results = run(
        tuple(apply("Cast", o, to=NUMBERS[F32]) if _has(o, BF16) else o for o in operands)
    )
    dtypes = _result_dtypes(node, version, operands)
    return [
        apply("Cast", found, to=NUMBERS[BF16]) if dtype == BF16 and _has(found, F32) else found
        for found, dtype in zip(results, dtypes)
    ]


def _has(operand: Operand, dtype: DType) -> bool:
    return isinstance(operand, Value) and operand.dtype == dtype


def _result_dtypes(node: Node, version: int, operands: Sequence[Operand]) -> list[DType | None]:
    """For each output the element type of the inputs that share its type variable in the schema.

    Operators of other domains have no schema at hand: all their results are bf16.
    """
    from onnx import defs

    if not defs.has(node.op, version, node.domain):
        return [BF16] * len(node.outputs)
    schema = defs.get_schema(node.op, version, node.domain)
    known: dict[str, DType] = {}
    for position, operand in enumerate(operands):
        if isinstance(operand, Value):
            formal = schema.inputs[min(position, len(schema.inputs) - 1)]
            known.setdefault(formal.type_str, operand.dtype)
    formals = [schema.outputs[min(i, len(schema.outputs) - 1)] for i in range(len(node.outputs))]
    return [known.get(formal.type_str) for formal in formals]
