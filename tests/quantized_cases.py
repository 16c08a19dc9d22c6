"""ONNX models of one conversion: Cast between all types, QuantizeLinear and DequantizeLinear.

The cases are data; the interpreter and the compiled code are judged by the tests that run them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from onnx import ModelProto, helper

from brim.frontends.onnx.tensors import NUMBERS
from brim.types import (
    BF16,
    BOOL,
    F4E2M1,
    F8E4M3FN,
    F8E4M3FNUZ,
    F8E5M2,
    F8E5M2FNUZ,
    F8E8M0,
    F16,
    F32,
    F64,
    I2,
    I4,
    I8,
    I16,
    I32,
    I64,
    U2,
    U4,
    U8,
    U16,
    U32,
    U64,
    DType,
)
from tests.onnx_models import model, node

REAL = (F16, F32, F64, BF16, F8E4M3FN, F8E4M3FNUZ, F8E5M2, F8E5M2FNUZ, F8E8M0, F4E2M1)
WHOLE = (I8, I16, I32, I64, U8, U16, U32, U64, I4, U4, I2, U2)
TYPES = (*REAL, *WHOLE, BOOL)
QUANTIZED = (U8, I8, U16, I16, U4, I4, U2, I2, F8E4M3FN, F8E4M3FNUZ, F8E5M2, F8E5M2FNUZ, F4E2M1)
FORMS = {"tensor": ((), {}), "axis": ((6, 10), {}), "block": ((6, 2), {"block_size": 5}),
         "odd_block": ((6, 4), {"block_size": 3})}  # fmt: skip
Feeds = dict[str, np.ndarray]
_NUMBERS = [0, 1, 2, 3, 5, 6, 7, 13, 100, 127, -1, -2, -8, -100, 1000, 70000, 1 << 31, 1 << 40]
_FRACTIONS = [3.7, -0.3, 0.1, 1e-3, 448.5, 464, 465, 1e6, -1e6, 1e30, -0.0, 2.5, 3.5, 65519.9,
              65520, np.inf, -np.inf, np.nan]  # fmt: skip


def single(
    op: str,
    inputs: dict[str, tuple[DType, tuple[int, ...]]],
    result: DType,
    opset: int,
    **attributes: Any,
) -> ModelProto:
    """A model of one node with output y."""
    ports = [(name, NUMBERS[dtype], shape) for name, (dtype, shape) in inputs.items()]
    step = node(op, " ".join(inputs), "y", **attributes)
    return model([step], ports, [("y", NUMBERS[result], None)], opset=opset)


def limits(dtype: DType) -> tuple[int, int]:
    low = -(1 << (dtype.bits - 1)) if dtype.name[0] == "i" else 0
    return low, low + (1 << dtype.bits) - 1


def numbers(source: DType, to: DType) -> np.ndarray:
    """Elements of `source` whose value as `to` ONNX defines."""
    found = np.array([*_NUMBERS, *_FRACTIONS], np.float64)
    if source in WHOLE or source == BOOL:
        found = np.array(_NUMBERS, np.float64)
    if F8E8M0 in (source, to):
        found = np.array([0.25, 0.5, 1, 2, 1024, 2.0**40])
    with np.errstate(all="ignore"):
        plain = found.astype(np.int64) if source in WHOLE else found
        array = plain.astype(source.numpy)
        values = array.astype(np.float64)
    if to in WHOLE and source in REAL:
        low, high = limits(to)
        array = array[(values >= low) & (values <= high)]
    if to == F4E2M1:
        array = array[~np.isnan(array.astype(np.float64))]
    if to == F8E8M0:
        array = array[array.astype(np.float64) > 0]
        array = array[np.isfinite(array.astype(np.float64))]
    return array


def casts() -> Iterator[tuple[str, DType, DType, np.ndarray]]:
    """(name, from, to, numbers) for every pair of types."""
    for source, to in itertools.product(TYPES, TYPES):
        if source != to:
            yield f"{source}_to_{to}", source, to, numbers(source, to)


def _scales(form: str, dtype: DType, rng: np.random.Generator) -> np.ndarray:
    shape = (10,) if form == "axis" else FORMS[form][0]
    return np.asarray(rng.uniform(0.1, 3, shape).astype(dtype.numpy))


def _zeros(dtype: DType, scale: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    low, high = limits(dtype)
    found = rng.integers(max(low, -3), min(high, 3) + 1, scale.shape)
    return np.asarray((found if dtype in WHOLE else found * 0).astype(dtype.numpy))


def quantizations() -> Iterator[tuple[str, ModelProto, Feeds]]:
    """QuantizeLinear of x[6, 10]: every result type, form and float type; with and without zero."""
    rng = np.random.default_rng(3)
    for to, form, kind in itertools.product(QUANTIZED, FORMS, (F32, F16, BF16)):
        scale = _scales(form, kind, rng)
        x = (rng.standard_normal((6, 10)) * 40).astype(kind.numpy)
        for zero in (None, _zeros(to, scale, rng)):
            ports = {"x": (kind, x.shape), "s": (kind, scale.shape)}
            attrs = {"axis": 1, **FORMS[form][1]}
            feeds = {"x": x, "s": scale}
            if zero is None:
                attrs["output_dtype"] = NUMBERS[to]
            else:
                ports["z"], feeds["z"] = (to, zero.shape), zero
            name = f"{to}-{form}-{kind}{'' if zero is None else '-zero'}"
            yield name, single("QuantizeLinear", ports, to, 25, **attrs), feeds


def dequantizations() -> Iterator[tuple[str, ModelProto, Feeds]]:
    """DequantizeLinear of x[6, 10]: every type, form, type of scale and of the result."""
    rng = np.random.default_rng(4)
    for source, form, kind in itertools.product((*QUANTIZED, I32), FORMS, (F32, F16, BF16)):
        scale = _scales(form, kind, rng)
        low, high = limits(source) if source in WHOLE else (-4, 4)
        x = rng.integers(max(low, -1000), min(high, 1000) + 1, (6, 10)).astype(source.numpy)
        zero = None if source == I32 else _zeros(source, scale, rng)
        for to in (kind, BF16 if kind == F32 else F32):
            ports = {"x": (source, x.shape), "s": (kind, scale.shape)}
            feeds = {"x": x, "s": scale}
            if zero is not None:
                ports["z"], feeds["z"] = (source, zero.shape), zero
            attrs = {"axis": 1, "output_dtype": NUMBERS[to], **FORMS[form][1]}
            name = f"{source}-{form}-{kind}-{to}"
            yield name, single("DequantizeLinear", ports, to, 25, **attrs), feeds


def together(cases: list[tuple[str, ModelProto, Feeds]]) -> tuple[ModelProto, Feeds]:
    """All cases as one model, so that they cost one compilation: outputs y0, y1, ..."""
    nodes, inputs, outputs, feeds = [], [], [], {}
    for number, (_, part, given) in enumerate(cases):
        (step,) = part.graph.node
        names = [f"{name}{number}" for name in step.input]
        copy = helper.make_node(step.op_type, names, [f"y{number}"])
        copy.attribute.extend(step.attribute)
        nodes.append(copy)
        for port, name in zip(part.graph.input, names, strict=True):
            tensor = port.type.tensor_type
            shape = tuple(d.dim_value for d in tensor.shape.dim)
            inputs.append((name, tensor.elem_type, shape))
            feeds[name] = given[port.name]
        outputs.append((f"y{number}", part.graph.output[0].type.tensor_type.elem_type, None))
    return model(nodes, inputs, outputs, opset=25), feeds
