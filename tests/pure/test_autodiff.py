"""Gradients of whole graphs: shared values, intermediates, composites, second order, errors.

The gradient of each operator alone is checked in test_ops.
"""

from __future__ import annotations

import numpy as np
import pytest

from brim.errors import OpError, UnsupportedError
from brim.graph import Graph, Value, const, evaluate_values, placeholder
from brim.ops import OPS, control, nn, storage
from brim.ops import math as maths
from brim.ops import primitive as ops
from brim.ops.registry import apply, at
from brim.passes.autodiff import gradient
from brim.passes.expand import expand
from brim.passes.simplify import simplify
from brim.types import DTYPES, F16, F32, F64, I32, parse_type


def value(text: str) -> Value:
    return placeholder(parse_type(text))


def total(y: Value) -> Value:
    return ops.reduce(y, op="add", axes=tuple(range(len(y.shape))))


def run(values: list[Value], *pairs: tuple[Value, np.ndarray]) -> list[np.ndarray]:
    return evaluate_values(values, {id(v): np.asarray(a, v.dtype.numpy) for v, a in pairs})


def test_values_used_twice_gather_both_parts() -> None:
    x = value("f64[3]")
    y = ops.mul(x, x)
    found = run(gradient(ops.add(y, ops.mul(y, x)), [x]), (x, np.array([1, 2, 3])))[0]
    np.testing.assert_allclose(found, [5, 16, 33])


def test_intermediates_can_be_asked_for_beside_inputs() -> None:
    x = value("f64[3]")
    y = ops.exp(x)
    dy, dx = run(gradient(ops.mul(y, y), [y, x]), (x, np.zeros(3)))
    np.testing.assert_allclose(dy, [2, 2, 2])
    np.testing.assert_allclose(dx, [2, 2, 2])


def test_what_the_loss_does_not_need_has_gradient_zero() -> None:
    x, z = value("f64[3]"), value("f32[2]")
    dz, dx = gradient(ops.cast(ops.cast(x, to=I32), to=F64), [z, x])
    assert run([dz], (z, np.ones(2)))[0].tolist() == [0, 0]
    assert run([dx], (x, np.ones(3)))[0].tolist() == [0, 0, 0]


def test_same_argument_twice_through_a_body() -> None:
    x = value("f64[2]")
    found = run(gradient(maths.prelu(x, x), [x]), (x, np.array([3.0, -2.0])))[0]
    np.testing.assert_allclose(found, [1, -4])


def test_second_order() -> None:
    x = value("f64[3]")
    first = gradient(maths.sigmoid(x), [x])[0]
    second = gradient(first, [x])[0]
    points = np.array([-1.0, 0.0, 2.0])
    s = 1 / (1 + np.exp(-points))
    np.testing.assert_allclose(run([second], (x, points))[0], s * (1 - s) * (1 - 2 * s))


def _slope(loss: Value, pairs: list[tuple[Value, np.ndarray]], wrt: Value) -> np.ndarray:
    """Central differences, one element after another."""
    at = {id(v): a for v, a in pairs}
    base = at[id(wrt)]
    found = np.zeros(base.shape)
    for place in np.ndindex(*base.shape):
        ends = []
        for sign in (1, -1):
            moved = base.copy()
            moved[place] += sign * 1e-6
            known = [(v, moved if v is wrt else a) for v, a in pairs]
            ends.append(float(run([loss], *known)[0].sum()))
        found[place] = (ends[0] - ends[1]) / 2e-6
    return found


def _network() -> tuple[Value, list[Value]]:
    """A small residual network with batch of two, and its parameters."""
    x, w1, b1 = value("f64[2,5,5,2]"), value("f64[3,3,2,3]"), value("f64[3]")
    w2, head = value("f64[3,3,1,3]"), value("f64[3,4]")
    same = {"stride": (1, 1), "dilation": (1, 1), "low": (1, 1), "high": (1, 1)}
    y = ops.add(nn.conv(x, w1, groups=1, **same), b1)
    y = ops.add(maths.gelu(y, approximate=True), nn.conv(y, w2, groups=3, **same))
    pool = {"stride": (2, 2), "dilation": (1, 1), "low": (0, 0), "high": (1, 1)}
    y = nn.max_pool(y, size=(2, 2), **pool)
    y = ops.reshape(maths.reduce_mean(y, axes=(1, 2)), shape=(2, 3))
    y = maths.log_softmax(maths.matmul(y, head), axis=1)
    chosen = ops.slice(y, starts=(0, 1), sizes=(2, 1), steps=(1, 1))
    return ops.neg(total(chosen)), [x, w1, b1, w2, head]


def test_a_network_has_the_slopes_of_its_loss() -> None:
    loss, wrt = _network()
    rng = np.random.default_rng(0)
    pairs = [(v, rng.normal(size=v.shape)) for v in wrt]
    found = run(gradient(loss, wrt), *pairs)
    for v, g in zip(wrt, found):
        np.testing.assert_allclose(g, _slope(loss, pairs, v), rtol=1e-5, atol=1e-7)


def test_gradients_simplify_and_expand_like_any_graph() -> None:
    loss, wrt = _network()
    inputs = {f"v{i}": v for i, v in enumerate(wrt)}
    graph = Graph(inputs, {f"d{i}": g for i, g in enumerate(gradient(loss, wrt))})
    small = simplify(expand(simplify(graph)))
    assert len(small.values()) < len(expand(graph).values())
    rng = np.random.default_rng(0)
    pairs = [(v, rng.normal(size=v.shape)) for v in wrt]
    before, after = (run(list(g.outputs.values()), *pairs) for g in (graph, small))
    for a, b in zip(before, after):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_only_the_way_to_the_loss_needs_gradients() -> None:
    x, z = value("f32[4]"), value("f32[4]")
    odd = ops.bitcast(ops.bitcast(z, to=I32), to=F32)
    found = gradient(ops.mul(x, odd), [x])
    assert run(found, (x, np.ones(4)), (z, np.full(4, 3)))[0].tolist() == [3, 3, 3, 3]


def _tiles(x: Value) -> Value:
    tiles = apply("winograd_input", x, tile=(2, 2), window=(3, 3), low=(1, 1), high=(1, 1))
    return apply("winograd_output", tiles, tile=(2, 2), window=(3, 3), shape=x.shape[:3])


def test_all_missing_gradients_are_named_at_once() -> None:
    """Those within graphs of control operators, too, and each with its place."""
    x = value("f32[1,2,2,3]")
    inner = value("f32[1,2,2,3]")
    with at("node 7"):
        branch = Graph({"x": inner}, {"y": _tiles(inner)}, "branch")
    other = Graph({"x": inner}, {"y": ops.neg(inner)}, "other")
    y = control.cond(value("bool[]"), x, then=other, orelse=branch)
    with pytest.raises(UnsupportedError) as found:
        gradient(y, [x])
    assert found.value.what == "no gradient for winograd_input; winograd_output"
    assert found.value.where == "node 7"


def test_host_steps_on_the_way_are_named() -> None:
    """Foreign operators as their format calls them; and why a shape is in the way."""
    x = value("f32[4]")
    part = apply("sequence_at", apply("sequence", x, of=F32), np.int64(0))
    y = apply(
        "foreign", part, format="onnx", op="ReduceSum", domain="", version=13, present=(True,),
        wanted=(True,), attributes=(), tensors=(), results=("f32[]",),
    )  # fmt: skip
    with pytest.raises(UnsupportedError) as found:
        gradient(y, [x])
    for name in ("ReduceSum", "sequence_at, whose shape is known at run time only", "sequence;"):
        assert name in found.value.what


def test_an_operator_without_gradient_beside_the_way_does_not_matter() -> None:
    x = value("f32[1,2,2,3]")
    y = ops.mul(x, ops.floor(_tiles(x)))
    assert run(gradient(y, [x]), (x, np.ones(x.shape)))[0].shape == x.shape


def test_only_floats_have_gradients() -> None:
    x = value("i32[4]")
    with pytest.raises(OpError, match="cannot be differentiated"):
        gradient(ops.neg(x), [x])
    assert OPS["neg"].grad is not None


def test_saturated_sigmoids_have_slope_zero() -> None:
    """exp(200) is infinite, and must not become 0 times infinity on the way back."""
    x = value("f32[3]")
    y = ops.div(1.0, ops.add(ops.exp(ops.neg(x)), 1.0))
    found = run(gradient(y, [x]), (x, np.array([-200, 0, 200])))[0]
    np.testing.assert_array_equal(found, [0, 0.25, 0])


@pytest.mark.parametrize("to", ["bf16", "f8e4m3fn", "f16"])
def test_conversions_hand_cotangents_on(to: str) -> None:
    """As if nothing were rounded, through moves of storage types, whose cotangents are f32."""
    x = value("f32[4]")
    short = storage.convert(x, DTYPES[to])
    turned = ops.slice(short, starts=(3,), sizes=(2,), steps=(-2,))
    moved = ops.gather(ops.concat(turned, short, axis=0), const(np.array([1, 0, 0])), axis=0)
    y = ops.mul(storage.convert(moved, F32), const(np.float32([1, 2, 4])))
    of_short, of_x = gradient(y, [short, x])
    assert of_short.dtype == (F16 if to == "f16" else F32)
    for found in run([of_short, of_x], (x, np.ones(4))):
        assert found.tolist() == [0, 1, 0, 6]


def test_slopes_of_what_is_constant_in_pieces_are_zero() -> None:
    """Nothing goes through rounding, and a cotangent without end does not become NaN there."""
    x = value("f32[3]")
    y = ops.sqrt(ops.floor(x))
    assert run(gradient(ops.add(y, x), [x]), (x, np.zeros(3)))[0].tolist() == [1, 1, 1]
    of_floor = gradient(y, [y.args[0]])
    assert np.isinf(run(of_floor, (x, np.zeros(3)))[0]).all()


def test_pieces_of_a_value_get_their_cotangents_side_by_side() -> None:
    x = value("f32[2,6]")
    parts = [ops.slice(x, starts=(0, n), sizes=(2, 2), steps=(1, 1)) for n in (0, 2, 4)]
    y = ops.add(ops.mul(parts[0], parts[1]), ops.exp(parts[2]))
    (found,) = gradient(y, [x])
    assert found.op is OPS["concat"]
    data = np.arange(12.0).reshape(2, 6) / 6
    first, second, third = np.split(data.astype(np.float32), 3, 1)
    want = np.concatenate([second, first, np.exp(third)], 1)
    np.testing.assert_allclose(run([found], (x, data))[0], want, rtol=1e-6)
