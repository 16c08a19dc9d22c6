"""The products that only training has: gradients of convolutions by every form, transposed weights.

Operators' gradients are checked against slopes in tests/pure/test_ops.py.
"""

from __future__ import annotations

import numpy as np
import pytest

import brim
from brim.graph import Graph, Op, Value, evaluate_values, placeholder
from brim.kernels.lower import lower
from brim.kernels.schedule import choose
from brim.ops import primitive as p
from brim.ops.nn import conv
from brim.ops.registry import VARIANTS
from brim.passes.autodiff import gradient
from brim.passes.expand import expand, variants
from brim.passes.layout import layout
from brim.passes.simplify import simplify
from brim.search.variants import kernels_of
from brim.targets.target import find_target
from brim.types import F32, F64, DType, Type

FORMS = ["conv", *(op.name for _, op in VARIANTS["conv"])]


def backward(dtype: DType, size: tuple[int, int], stride: int, groups: int) -> Graph:
    """A 3x3 layer of x[2, *size, 8] and its slopes by x and w, for a cotangent g."""
    x = placeholder(Type((2, *size, 8), dtype))
    w = placeholder(Type((3, 3, 8 // groups, 24), dtype))
    y = conv(
        x, w, stride=(stride,) * 2, dilation=(1, 1), low=(1, 1), high=(1, 1), groups=groups
    )  # fmt: skip
    g = placeholder(y.type)
    dx, dw = gradient(p.mul(y, g), [x, w])
    return Graph({"x": x, "w": w, "g": g}, {"y": y, "dx": dx, "dw": dw})


@pytest.mark.parametrize(("stride", "groups"), [(1, 1), (2, 1), (1, 8), (2, 4)])
@pytest.mark.parametrize("form", FORMS)
def test_gradients_of_convolutions_by_every_form(form: str, stride: int, groups: int) -> None:
    def chosen(value: Value) -> Op | None:
        return next((op for op in variants(value) if op.name == form), None)

    random = np.random.default_rng(0)
    size = (2, 2) if form.endswith("_2") else (13, 11)  # where that form is worth a price
    graph, exact = (backward(dtype, size, stride, groups) for dtype in (F32, F64))
    formed = simplify(expand(layout(simplify(graph)), choose=chosen))
    used = {value.op.name for value in formed.values() if value.op}
    assert ("winograd_output" in used) == (form != "conv" and groups == 1 and stride == 1)
    feeds = {n: random.standard_normal(v.shape).astype(np.float32) for n, v in graph.inputs.items()}
    found = brim.compile(formed, threads=2).run(feeds)
    env = {id(v): feeds[n].astype(np.float64) for n, v in exact.inputs.items()}
    for name, wanted in zip(exact.outputs, evaluate_values(exact.outputs.values(), env)):
        most = np.abs(wanted).max()
        assert np.abs(found[name] - wanted).max() < 1e-5 * most, name


def test_transposed_weights_are_read_as_they_lie() -> None:
    """dx = g w^T sums across lanes, in tiles of rows and columns, and no operand is turned."""
    g, w = placeholder(Type((512, 1024), F32)), placeholder(Type((256, 1024), F32))
    dx = p.contract(g, w, spec="mn,kn->mk")
    ((step, _),) = lower(Graph({"g": g, "w": w}, {"dx": dx})).kernel_steps()
    for row in ("x86-64-v3", "x86-64-v4"):
        best, _ = choose(step.kernel, find_target(row))
        assert best.vector not in step.kernel.outer
        assert len(best.tile) == 2 and min(count for _, count in best.tile) > 1


def test_forms_of_turned_weights_are_priced_as_they_are_read() -> None:
    """The kernels that a price is made of read weights through the moves around them."""
    x, w = placeholder(Type((1, 14, 14, 32), F32)), placeholder(Type((3, 3, 64, 32), F32))
    same = {"stride": (1, 1), "dilation": (1, 1), "low": (1, 1), "high": (1, 1), "groups": 1}
    turned = conv(x, p.transpose(w, perm=(0, 1, 3, 2)), **same)
    plain = conv(x, placeholder(Type((3, 3, 32, 64), F32)), **same)
    assert kernels_of(turned, None) != kernels_of(plain, None)
