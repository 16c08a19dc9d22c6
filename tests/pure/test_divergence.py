"""Where two computations part: figures of two arrays, values in other forms, the first that is
wrong for good."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brim.divergence import (
    BOUNDS,
    apart,
    arranged,
    broken_by_change,
    first,
    interpreted,
    lasting,
    pairs,
    probed,
    results,
)
from brim.divergence.layers import may_agree
from brim.graph import Graph, Value, const, evaluate, placeholder, rewrite
from brim.ops import primitive as p
from brim.ops.registry import at
from brim.types import F32, Type
from brim.where import layer_of, split_name

random = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return random.standard_normal(shape).astype(np.float32)


# ------------------------------------------------------------------ figures


def test_figures_of_a_single_wrong_element() -> None:
    want = np.linspace(-4, 4, 24, dtype=np.float32).reshape(2, 3, 4)
    got = want.copy()
    got[1, 0, 2] += 2
    found = apart(got, want)
    assert found.largest == pytest.approx(0.5)
    assert found.at == (1, 0, 2)
    assert (found.got, found.want) == (got[1, 0, 2], want[1, 0, 2])
    assert found.sqnr == pytest.approx(10 * math.log10((want.astype(float) ** 2).sum() / 4))
    assert found.counts[0] == 23 and sum(found.counts) == 24
    assert found.counts[1 + len(BOUNDS) - 1] == 1  # below 1, the last of the bounds


def test_what_is_equal_is_not_apart() -> None:
    odd = np.array([np.nan, np.inf, -np.inf, 0.0, 1.0], np.float32)
    found = apart(odd, odd)
    assert (found.largest, found.sqnr, found.counts[0]) == (0, math.inf, 5)


@pytest.mark.parametrize("other", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_on_one_side_is_infinitely_far(other: float) -> None:
    found = apart(np.array([1, other], np.float32), np.array([1, 2], np.float32))
    assert (found.largest, found.sqnr, found.at) == (math.inf, -math.inf, (1,))


def test_empty_arrays_and_text_have_no_worst_element() -> None:
    assert apart(np.zeros((0, 3)), np.zeros((0, 3))).at is None
    assert apart(np.array(["a"], object), np.array(["b"], object)).largest == math.inf
    assert apart(np.array(["a"], object), np.array(["a"], object)).largest == 0


# ------------------------------------------------------------------ one value in two forms


@given(st.permutations(range(4)), st.lists(st.sampled_from([1, 2, 3, 4]), min_size=4, max_size=4))
def test_turned_axes_are_turned_back(order: list[int], shape: list[int]) -> None:
    want = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    found = arranged(np.ascontiguousarray(want.transpose(order)), want)
    assert found is not None
    np.testing.assert_array_equal(found[0], want)


def test_scalars_are_arrays() -> None:
    found = arranged(np.array(3.0, np.float32), np.array(3.5, np.float32))
    assert found is not None and apart(found[0], found[1]).at == ()


def test_it_is_said_what_was_done() -> None:
    want = normal(1, 3, 5, 7)
    cases: list[tuple[np.ndarray, str]] = [
        (want, ""),
        (want.transpose(0, 2, 3, 1), "axes 3 1 2"),
        (want.reshape(3, 5, 7), "reshaped"),
        (want.reshape(3, 35), "reshaped"),
    ]
    for got, how in cases:
        found = arranged(got, want)
        assert found is not None and found[2] == how
        np.testing.assert_array_equal(found[0], want)


def test_a_wrong_value_keeps_the_order_of_its_axes() -> None:
    want = normal(1, 8, 8, 8)
    got = want.transpose(0, 2, 3, 1).copy()
    got[0, 1, 2, 3] = 50
    found = arranged(got, want)
    assert found is not None
    assert apart(found[0], found[1]).at == (0, 3, 1, 2)


def test_what_cannot_be_one_value_is_not_compared() -> None:
    assert arranged(normal(2, 3), normal(2, 4)) is None
    assert arranged(np.zeros(3, np.int32), normal(3)) is None  # sums: no numbers by themselves
    assert arranged(np.array(["a"], object), normal(1)) is None


@pytest.mark.parametrize("kind", [np.uint8, np.int8])
def test_codes_are_read_as_the_numbers_that_they_stand_for(kind: Any) -> None:
    want = normal(1, 16, 6, 6)
    scale = np.linspace(0.02, 0.05, 16)  # a step for every channel, as equalised layers have
    limits = np.iinfo(kind)
    zero = 128 if kind is np.uint8 else 0
    codes = np.rint(want.transpose(0, 2, 3, 1) / scale) + zero
    codes = codes.clip(limits.min, limits.max).astype(kind)
    for found in (arranged(codes, want), arranged(want, codes)):
        assert found is not None and found[2] == "axes 3 1 2 codes"
        read, numbers = found[:2]
        assert read.shape == numbers.shape
        assert np.abs(read - numbers).max() < 0.05 / 2 * 1.3  # rounding, by a line that is fitted
    noisy = arranged(codes, want + normal(*want.shape))
    assert noisy is not None and apart(*noisy[:2]).sqnr < 5  # no line makes noise a signal


# ------------------------------------------------------------------ layers


def layered(wrong: str = "", scale: float = 1.0) -> Graph:
    """x -> a -> b (= scale) -> c (= 1 / scale) -> d, and a -> e; out = d + e."""
    x = placeholder(Type((2, 3), F32), "x")

    def layer(name: str, value: Value) -> Value:
        with at(f"net.onnx: {name} (Op)"):
            return p.add(value, 1.0) if name == wrong else value

    def made(name: str, op: Any, *args: Any) -> Value:
        with at(f"net.onnx: {name} (Op)"):
            found = op(*args)
        return layer(name, found)

    a = made("a", p.exp, x)
    b = made("b", p.mul, a, scale)
    c = made("c", p.mul, b, 1 / scale)
    d = made("d", p.sqrt, c)
    e = made("e", p.tanh, a)
    return Graph({"x": x}, {"out": made("f", p.add, d, e)}, "net")


def run(graph: Graph) -> dict[str, Any]:
    return evaluate(graph, {"x": np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)})


def close(got: Any, want: Any) -> bool:
    return bool(np.allclose(got, want, 1e-4, 1e-5))


@pytest.mark.parametrize("wrong", "abcdef")
def test_the_first_wrong_layer_is_found(wrong: str) -> None:
    found = broken_by_change(layered(), layered(wrong), ["out"], run, close)
    assert found is not None and found.layer == f"{wrong} (Op)"


@pytest.mark.parametrize("wrong", "adef")
def test_values_that_become_right_again_are_passed_by(wrong: str) -> None:
    """Between b and c everything is twice as large: that is no error."""
    found = broken_by_change(layered(), layered(wrong, scale=2.0), ["out"], run, close)
    assert found is not None and found.layer == f"{wrong} (Op)"


def test_what_heals_and_what_lasts() -> None:
    graph = layered()
    ids = {name[0]: id(values[0]) for name, values in results(graph).items()}
    known = {number: name in "ac" for name, number in ids.items()}  # b heals in c; d, e, f differ
    assert lasting(graph, ["out"], known) == {ids["d"], ids["e"], ids["f"]}
    assert lasting(graph, [], known) == set()
    del known[ids["c"]]  # nobody knows whether b heals
    assert ids["b"] in lasting(graph, ["out"], known)


def test_no_wrong_output_no_first_layer() -> None:
    assert first(layered(), [], {}) is None


def test_layers_that_could_not_be_compared_are_told() -> None:
    graph = layered()
    known = {id(v[0]): name[0] != "d" for name, v in results(graph).items() if name[0] in "ad"}
    found = first(graph, ["out"], known)
    assert found is not None
    assert (found.layer, found.after) == ("d (Op)", ("a (Op)",))
    assert found.between == ("b (Op)", "c (Op)")
    assert "'d (Op)'; or in what it is computed of: 'b (Op)', 'c (Op)'" in str(found)


def test_only_what_follows_from_inputs_is_a_layer() -> None:
    x = placeholder(Type((3,), F32), "x")
    with at("f: w (Constant)"):
        w = const(normal(3), "f: w (Constant)")
    with at("f: y (Add)"):
        y = p.add(p.mul(x, w), 2.0)  # two values, one of which leaves the layer
    assert results(Graph({"x": x}, {"y": y})) == {"y (Add)": (y,)}


def test_pairs_go_by_layer_and_size() -> None:
    left, right = layered(), layered(scale=2.0)
    found = list(pairs(results(left), results(right), may_agree))
    assert {layer for layer, _, _ in found} == {f"{name} (Op)" for name in "abcdef"}
    assert all(mine.op is other.op for _, mine, other in found)


def test_probes_and_the_interpreter_give_the_same() -> None:
    graph = layered()
    values = [v for vs in results(graph).values() for v in vs]
    watched, names = probed(graph, values)
    outputs = run(watched)
    feeds = {"x": np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)}
    seen = dict(interpreted(graph, values, feeds))
    assert seen.keys() == set(range(len(values)))
    for number, name in enumerate(names):
        np.testing.assert_array_equal(seen[number], outputs[name])


def test_a_pass_that_drops_an_operator_of_a_nameless_graph() -> None:
    x = placeholder(Type((4,), F32))
    before = Graph({"x": x}, {"y": p.mul(p.tanh(p.exp(x)), 3.0)})
    after = rewrite(before, lambda v: v.args[0] if v.op and v.op.name == "tanh" else None)

    def of_ones(graph: Graph) -> dict[str, Any]:
        return evaluate(graph, {"x": np.ones(4, np.float32)})

    found = broken_by_change(before, after, ["y"], of_ones, close)
    assert found is not None
    assert found.layer == "output y" and "exp: f32[4]" in found.after


def test_places_without_their_file() -> None:
    assert layer_of("my net.onnx: head/fc (1) (Gemm)") == "head/fc (1) (Gemm)"
    assert split_name("my net.onnx: head/fc (1) (Gemm)") == ("head/fc (1)", "Gemm")
    assert split_name("net.onnx: a: b (Conv)") == ("a: b", "Conv")
    assert split_name("head") == ("head", "")
