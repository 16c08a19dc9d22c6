"""What the predictors of ai.onnx.ml share: features [N, C] in, class labels [N] out.

The scores between both are each operator's own; what post_transform makes of them is in
`post_transform`.
"""

from __future__ import annotations

import numpy as np

import brim.ops.primitive as p
from brim.errors import ModelError
from brim.frontends.onnx.table import Call
from brim.graph import Value, const
from brim.ops.host import foreign
from brim.types import F32, I64, STR, Type

ML = "ai.onnx.ml"


def features(call: Call) -> Value:
    """Input 0 as [N, C] of f64 if it is that, else of f32; one row where it has one axis.

    All results are f32, whatever comes in: with doubles, all between is computed in f64.
    """
    x = call[0]
    if len(x.shape) not in (1, 2):
        raise ModelError(f"{call.node.op} takes rows of features [N, C], not {x.type}")
    x = x if x.dtype.is_float else p.cast(x, to=F32)
    return p.reshape(x, shape=(1, *x.shape)) if len(x.shape) == 1 else x


def table(values: tuple[float, ...], like: Value, *shape: int) -> Value:
    """A constant of an attribute's numbers, in the element type of `like`."""
    return const(np.array(values, like.dtype.numpy).reshape(shape or (len(values),)))


def columns(x: Value, wanted: list[int] | np.ndarray) -> Value:
    """The columns `wanted` of x [N, C], in that order."""
    return p.gather(x, const(np.asarray(wanted, np.int64)), axis=1)


def class_labels(call: Call, integers: str = "classlabels_ints") -> tuple[int, ...] | tuple:
    """The labels of a classifier: ints or texts, () without any. Raises ModelError for both.

    integers: the name of the attribute with integer labels, which is not the same everywhere.
    """
    numbers, texts = call.ints(integers, ()), call.texts("classlabels_strings", ())
    if numbers and texts:
        raise ModelError(f"{call.node.op} has labels of two kinds")
    return numbers or texts


def labelled(labels: tuple, index: Value) -> Value:
    """The label (i64 or text) of each class index (i64[N], less than the number of labels).

    Without labels it is the index. Texts are looked up by a host step of its own, so that what
    finds the index stays compiled.
    """
    if not labels or labels == tuple(range(len(labels))):
        return index
    if not isinstance(labels[0], str):
        return p.gather(const(np.array(labels, np.int64)), index, axis=0)
    if index.data is not None:
        return const(np.array(labels, object)[index.data])
    return foreign(
        index,
        format="onnx",
        op="LabelEncoder",
        domain=ML,
        version=2,
        present=(True,),
        wanted=(True,),
        attributes=(("keys_int64s", tuple(range(len(labels)))), ("values_strings", labels)),
        tensors=(),
        results=(str(Type(index.shape, STR)),),
    )


def winner(scores: Value) -> Value:
    """The index i64[N] of the highest score in each row of [N, C], the first of equal ones."""
    best = p.argreduce(scores, op="max", axis=1, last=False)
    return p.reshape(p.cast(best, to=I64), shape=(scores.shape[0],))
