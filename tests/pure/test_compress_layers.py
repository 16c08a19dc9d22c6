"""What a report says of layers: in which form their weights are stored."""

from __future__ import annotations

import numpy as np

from brim.compress.layers import stored_forms
from brim.graph import Graph, Value, const, placeholder
from brim.ops import primitive as p
from brim.ops.packed_weights import unpack
from brim.passes.expand import expand_certain
from brim.types import F32, Type

ROWS, COLUMNS = 64, 8
WEIGHTS = np.random.default_rng(0).standard_normal((ROWS, COLUMNS)).astype(np.float32)


def packed(bits: int) -> Value:
    codes = p.hold(const(np.zeros((ROWS * bits // 8, COLUMNS), np.uint8)))
    scale, zero = (const(np.ones((2, COLUMNS), np.float32)) for _ in range(2))
    return unpack(codes, scale, zero, axis=0, bits=bits)


def test_the_largest_constant_tells_the_form() -> None:
    x = placeholder(Type((1, ROWS), F32))
    weights = {
        "float": const(WEIGHTS),
        "f16 weights": p.cast(p.hold(const(WEIGHTS.astype(np.float16))), to=F32),
        "int8 weights": packed(8),
        "int4 weights": packed(4),
    }
    outputs = {}
    for form, value in weights.items():
        product = p.contract(x, value, spec="mk,kn->mn")
        named = Value(
            product.op, product.args, product.attrs, product.type, product.data, f"net: {form}"
        )
        outputs[form] = named
    activations = p.contract(x, x, spec="mk,nk->mn")
    graph = expand_certain(Graph({"x": x}, {**outputs, "none": activations}))
    assert stored_forms(graph) == {(f"net: {form}", 0): form for form in weights}


def test_an_input_is_no_weight() -> None:
    x, w = placeholder(Type((1, 4), F32)), placeholder(Type((4, 2), F32))
    graph = Graph({"x": x, "w": w}, {"y": p.contract(x, w, spec="mk,kn->mn")})
    assert stored_forms(graph) == {}
