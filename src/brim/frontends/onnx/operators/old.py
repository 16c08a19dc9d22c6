"""What ONNX operators meant before operator set 7, told in terms of what they mean today.

A row here ends where its meaning ended (`until`). It rewrites inputs and attributes into those of a
later set and hands the call on; there is no arithmetic of its own. Operators that did not change
need no row, and those that only lost the attribute `consumed_inputs` share one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

import brim.ops.primitive as p
from brim.errors import ModelError
from brim.frontends.bounds import front
from brim.frontends.onnx.operands import Operand
from brim.frontends.onnx.operators.random import droppable, dropped, undropped
from brim.frontends.onnx.table import Call, find, operator
from brim.frontends.onnx.tensors import ELEMENTS
from brim.graph import Value, const

LAST = 6  # the last set with attributes for broadcasting
_NAMES = {"FLOAT16": "f16", "FLOAT": "f32", "DOUBLE": "f64", "BOOL": "bool", "STRING": "str"}


def later(call: Call, version: int, *inputs: Operand, drop: str = "", **attributes: Any) -> Any:
    """What the operator is in set `version`, for other inputs and attributes where given.

    drop: names of attributes, between spaces, that have no meaning there.
    """
    call.ignore("consumed_inputs", *drop.split())
    kept = {k: v for k, v in call.node.attributes.items() if k not in call.read}
    node = replace(call.node, attributes={**kept, **attributes})
    row = find(node.op, "", version)
    assert row is not None
    inner = replace(call, node=node, version=version, inputs=inputs or call.inputs, read=set())
    found = row.function(inner)
    call.ignore(*inner.read)
    return found


@operator(
    "Abs", "Ceil", "Elu", "Exp", "Floor", "HardSigmoid", "InstanceNormalization", "LeakyRelu",
    "Log", "Max", "Mean", "Min", "Neg", "Reciprocal", "Relu", "Sigmoid", "Sqrt", "Sum", "Tanh",
    until=5,
)  # fmt: skip
def with_consumed_inputs(call: Call) -> Any:
    return later(call, LAST)


@operator("Selu", until=5)
def selu(call: Call) -> Any:
    alpha, gamma = call.float("alpha", 1.6732), call.float("gamma", 1.0507)
    return later(call, LAST, alpha=alpha, gamma=gamma)


@operator("Clip", until=5)
def clip(call: Call) -> Any:
    low, high = call.float("min", -np.inf), call.float("max", np.inf)
    return later(call, 7, min=low, max=high)


@operator("Clip", since=6, until=LAST)
def clip_6(call: Call) -> Any:
    return later(call, 7)


@operator(
    "Add", "And", "Div", "Equal", "Greater", "Less", "Mul", "Or", "Pow", "Sub", "Xor", until=LAST
)
def broadcast_by_attributes(call: Call) -> Any:
    """`broadcast=1` fits the second input to axes of the first, from `axis` on or at the end."""
    a, b = call[0], call[1]
    broadcast, axis = call.flag("broadcast"), call.int("axis", None)
    if broadcast and b.shape != a.shape:
        b = _aligned(a, b, axis)
    if not broadcast and b.shape != a.shape:
        raise ModelError(f"{call.node.op} of {a.type} and {b.type} without broadcast=1")
    return later(call, 7, a, b)


def _aligned(a: Value, b: Value, axis: int | None) -> Value:
    rank, size = len(a.shape), len(b.shape)
    if b.type.size == 1:
        return p.reshape(b, shape=(1,) * rank)
    start = rank - size if axis is None else axis + rank if axis < 0 else axis
    shape = (1,) * max(start, 0) + b.shape + (1,) * max(rank - start - size, 0)
    fits = len(shape) == rank and all(n in (1, m) for n, m in zip(shape, a.shape))
    if start < 0 or not fits:
        raise ModelError(f"{b.type} is no part of {a.type} from axis {start} on")
    return p.reshape(b, shape=shape)


@operator("PRelu", until=LAST)
def prelu(call: Call) -> Any:
    """A slope of one axis is one number for each channel, or one for all."""
    x, slope = call[0], call[1]
    if len(slope.shape) == 1 and slope.type.size > 1:
        slope = p.reshape(slope, shape=(*slope.shape, *(1,) * (len(x.shape) - 2)))
    return later(call, 7, x, slope)


@operator("Gemm", until=LAST)
def gemm(call: Call) -> Any:
    return later(call, 7, drop="broadcast")


@operator("Dropout", until=LAST)
def dropout(call: Call) -> Any:
    call.ignore("consumed_inputs")
    ratio = call.float("ratio", 0.5)
    if not 0 <= ratio < 1:
        raise ModelError(f"Dropout with ratio {ratio}")
    in_test = call.flag("is_test")
    if call.scope is not None and call.scope.trains:
        return droppable(call, ratio)
    return undropped(call) if in_test else dropped(call, ratio)


@operator("BatchNormalization", until=LAST)
def batch_normalization(call: Call) -> Any:
    if not call.flag("is_test"):
        raise call.unsupported("is_test=0", "it trains: its mean and variance are those of a batch")
    return later(call, 7)


@operator("Cast", until=5)
def cast(call: Call) -> Any:
    """The element type is a text, such as FLOAT or INT64."""
    name = call.text("to").upper()
    brim_name = _NAMES.get(name, name.replace("UINT", "u").replace("INT", "i"))
    numbers = {str(dtype): number for number, dtype in ELEMENTS.items()}
    if brim_name not in numbers:
        raise call.unsupported(f"to={name!r}")
    return later(call, LAST, to=numbers[brim_name])


@operator("Concat", until=3)
def concat(call: Call) -> Any:
    return later(call, 4, axis=call.int("axis", 1))


@operator("GRU", "LSTM", "RNN", until=LAST)
def recurrent(call: Call) -> Any:
    """`output_sequence` says that Y is wanted, which Y's name says, too."""
    direction = call.text("direction", "forward")
    direction = "forward" if direction == "foward" else direction  # GRU's default in set 1
    return later(call, 7, drop="output_sequence", direction=direction)


@operator("GlobalLpPool", "LpPool", until=1)
def lp_pool(call: Call) -> Any:
    power = call.float("p", 2.0)
    if power != int(power):
        raise call.unsupported(f"p={power}")
    return later(call, 2, p=int(power))


@operator("Pad", until=1)
def pad(call: Call) -> Any:
    return later(call, 2, pads=call.ints("paddings"))


@operator("Reshape", until=4)
def reshape(call: Call) -> Any:
    return later(call, 5, call[0], const(np.array(call.ints("shape"), np.int64)))


@operator("Split", until=1)
def split(call: Call) -> Any:
    """Sizes come as an attribute or as the second input; the axis has no default."""
    attributes: dict[str, Any] = {"axis": call.int("axis")}
    sizes = call.int_inputs(1) if call.given(1) else call.ints("split", None)
    if sizes is not None:
        attributes["split"] = sizes
    return later(call, 2, call[0], drop="split", **attributes)


@operator("Tile", until=5)
def tile(call: Call) -> Any:
    """One count, for one axis; both are numbers of the input's type."""
    count, axis = (int(call.array(i).reshape(())) for i in (1, 2))
    counts = np.ones(len(call[0].shape), np.int64)
    counts[front(axis, counts.size)] = count
    return later(call, LAST, call[0], const(counts))


@operator("Upsample", until=LAST)
def upsample(call: Call) -> Any:
    scales = (1.0, 1.0, call.float("height_scale"), call.float("width_scale"))
    mode = call.choice("mode", "nearest", ("nearest", "bilinear"))
    return later(call, 7, scales=scales, mode="linear" if mode == "bilinear" else mode)
