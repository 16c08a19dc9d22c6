"""Importing ONNX models: shapes, constants, functions, versions, refusals that name everything."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx")

from onnx import AttributeProto, ModelProto, helper

from brim.errors import BrimError, InputError, ModelError, UnsupportedError
from brim.frontends import bounds
from brim.frontends.onnx import import_model, read
from brim.graph import evaluate
from tests.onnx_models import F32, I64, model, node

X, Y = ("x", F32, (2, 3)), ("y", F32, None)
RNG = np.random.default_rng(0)


def _run(found: ModelProto, *arrays: np.ndarray) -> list[np.ndarray]:
    names = [port.name for port in found.graph.input]
    shapes = {name: array.shape for name, array in zip(names, arrays)}
    return list(evaluate(import_model(found, shapes), dict(zip(names, arrays))).values())


def _random(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


# ------------------------------------------------------------------ inputs


def test_a_parsed_model_is_imported_for_several_shapes() -> None:
    parsed = read(model([node("Relu", "x", "y")], [("x", F32, ("n", 3))], [Y]))
    for n in (1, 5):
        assert import_model(parsed, {"x": (n, 3)}).outputs["y"].shape == (n, 3)


def test_missing_shapes_are_named() -> None:
    found = model([node("Add", "a b", "y")], [("a", F32, ("n",)), ("b", F32, ("m",))], [Y])
    with pytest.raises(InputError, match=r"a: f32\[n\]; b: f32\[m\]"):
        import_model(found)


@pytest.mark.parametrize("shape", [(2,), (2, 4), (-1, 3), (2, 3, 1)])
def test_shapes_that_contradict_the_model(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="does not fit"):
        import_model(model([node("Relu", "x", "y")], [("x", F32, ("n", 3))], [Y]), {"x": shape})


def test_names_that_are_no_inputs() -> None:
    with pytest.raises(InputError, match="no input"):
        import_model(model([node("Relu", "x", "y")], [X], [Y]), {"z": (1,)})


def test_an_input_fixed_to_a_constant_disappears() -> None:
    found = model([node("Reshape", "x s", "y")], [X, ("s", I64, (1,))], [Y])
    graph = import_model(found, constants={"s": np.array([-1])})
    assert list(graph.inputs) == ["x"]
    assert graph.outputs["y"].shape == (6,)


def test_an_initializer_that_is_an_input_is_its_default() -> None:
    found = model(
        [node("Add", "x w", "y")], [X, ("w", F32, (2, 3))], [Y], {"w": np.ones((2, 3), np.float32)}
    )
    assert list(import_model(found).inputs) == ["x"]
    assert list(import_model(found, {"w": (2, 3)}).inputs) == ["x", "w"]


# ------------------------------------------------------------------ structure


def test_shape_arithmetic_folds_away() -> None:
    found = model(
        [
            node("Shape", "x", "s"),
            node("Gather", "s zero", "n", axis=0),
            node("Concat", "n minus", "t", axis=0),
            node("Reshape", "x t", "y"),
        ],
        [("x", F32, ("n", 3, 4))],
        [Y],
        {"zero": np.array([0]), "minus": np.array([-1])},
    )
    graph = import_model(found, {"x": (5, 3, 4)})
    assert [value.op.name for value in graph.values() if value.op] == ["reshape"]
    assert graph.outputs["y"].shape == (5, 12)


def test_nodes_may_stand_in_any_order_and_dead_ones_are_ignored() -> None:
    nodes = [node("Neg", "a", "y"), node("NoSuchThing", "x", "dead"), node("Relu", "x", "a")]
    x = _random(2, 3)
    (y,) = _run(model(nodes, [X], [Y]), x)
    np.testing.assert_array_equal(y, -np.maximum(x, 0))


def test_cycles_are_refused() -> None:
    nodes = [node("Add", "x b", "a"), node("Relu", "a", "b"), node("Neg", "b", "y")]
    with pytest.raises(ModelError, match="cycle"):
        import_model(model(nodes, [X], [Y]))


def test_a_value_computed_twice_is_refused() -> None:
    nodes = [node("Relu", "x", "y"), node("Neg", "x", "y")]
    with pytest.raises(ModelError, match="computed twice"):
        import_model(model(nodes, [X], [Y]))


def test_a_value_that_nothing_computes_is_refused() -> None:
    with pytest.raises(ModelError, match="nothing computes 'z'"):
        import_model(model([node("Relu", "z", "y")], [X], [Y]))


def test_everything_unsupported_is_named_at_once() -> None:
    nodes = [
        node("Reluu", "x", "a"),
        node("Sigmoidd", "a", "b"),
        node("LSTMM", "x", "c"),
        node("GridSample", "x x", "d", mode="magic"),
        node("Sum", "b c d", "y"),
    ]
    with pytest.raises(UnsupportedError) as caught:
        import_model(model(nodes, [X], [Y]))
    for word in ("Reluu", "Relu", "LSTMM", "LSTM", "magic"):
        assert word in caught.value.what


def test_unknown_attributes_are_refused_not_ignored() -> None:
    with pytest.raises(UnsupportedError, match="'gain'"):
        import_model(model([node("Relu", "x", "y", gain=2.0)], [X], [Y]))


def test_errors_say_where() -> None:
    found = model([node("Reshape", "x s", "y")], [X], [Y], {"s": np.array([7])})
    with pytest.raises(BrimError) as caught:
        import_model(found)
    assert "Reshape_y (Reshape)" in caught.value.where


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Expand", "x big", "y")],
        [node("ConstantOfShape", "big", "y")],
        [node("Tile", "x big", "y")],
        [node("ConstantOfShape", "some", "a"), node("Tile", "a big", "y")],
    ],
)
def test_absurd_sizes_are_refused(nodes: list) -> None:
    weights = {"big": np.array([1 << 30, 1 << 30]), "some": np.array([8, 8])}
    with pytest.raises(ModelError):
        import_model(model(nodes, [X], [Y], weights))


# ------------------------------------------------------------------ functions


def _function(name: str, nodes: list, attributes: list[str] | None = None):
    return helper.make_function(
        "local", name, ["a"], ["b"], nodes, [helper.make_opsetid("", 17)], attributes or []
    )


def test_functions_are_inlined_with_their_attributes() -> None:
    leaky = node("LeakyRelu", "a", "b")
    reference = AttributeProto(name="alpha", ref_attr_name="slope", type=AttributeProto.FLOAT)
    leaky.attribute.append(reference)
    call = helper.make_node("Leak", ["x"], ["y"], domain="local", slope=0.5)
    found = model([call], [X], [Y], functions=[_function("Leak", [leaky], ["slope"])])
    x = _random(2, 3)
    (y,) = _run(found, x)
    np.testing.assert_allclose(y, np.where(x < 0, 0.5 * x, x))


def test_functions_that_call_themselves_are_refused() -> None:
    again = helper.make_node("Again", ["a"], ["b"], domain="local")
    call = helper.make_node("Again", ["x"], ["y"], domain="local")
    with pytest.raises(ModelError, match="nest deeper"):
        import_model(model([call], [X], [Y], functions=[_function("Again", [again])]))


def test_functions_that_multiply_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "NODES", 1000)
    functions = [_function("F0", [node("Relu", "a", "b")])]
    for i in range(1, 40):
        inner = [
            helper.make_node(f"F{i - 1}", ["a"], ["m"], domain="local"),
            helper.make_node(f"F{i - 1}", ["m"], ["b"], domain="local"),
        ]
        functions.append(_function(f"F{i}", inner))
    call = helper.make_node("F39", ["x"], ["y"], domain="local")
    with pytest.raises(ModelError, match="unfolds"):
        import_model(model([call], [("x", F32, (1,))], [Y], functions=functions))


# ------------------------------------------------------------------ versions


def test_softmax_before_13_covers_all_later_axes() -> None:
    x = _random(2, 3, 4)
    nodes = [node("Softmax", "x", "y", axis=1)]
    (old,) = _run(model(nodes, [("x", F32, x.shape)], [Y], opset=11), x)
    (new,) = _run(model(nodes, [("x", F32, x.shape)], [Y], opset=13), x)
    np.testing.assert_allclose(old.sum((1, 2)), 1, rtol=1e-6)
    np.testing.assert_allclose(new.sum(1), 1, rtol=1e-6)


def test_axes_and_bounds_move_from_attributes_to_inputs() -> None:
    x = _random(2, 1, 3)
    port = [("x", F32, x.shape)]
    pairs = [
        (node("Squeeze", "x", "y", axes=[1]), 11, node("Squeeze", "x a", "y"), {"a": [1]}),
        (node("ReduceSum", "x", "y", axes=[2]), 11, node("ReduceSum", "x a", "y"), {"a": [2]}),
        (node("Clip", "x", "y", min=-0.5, max=0.5), 7, node("Clip", "x lo hi", "y"), {}),
        (
            node("Slice", "x", "y", starts=[0], ends=[2], axes=[2]),
            9,
            node("Slice", "x s e a", "y"),
            {"s": [0], "e": [2], "a": [2]},
        ),
        (
            node("Pad", "x", "y", pads=[0, 0, 1, 0, 0, 2], value=3.0),
            10,
            node("Pad", "x p v", "y"),
            {"p": [0, 0, 1, 0, 0, 2]},
        ),
    ]
    numbers = {"lo": np.float32(-0.5), "hi": np.float32(0.5), "v": np.float32(3)}
    for old_node, version, new_node, weights in pairs:
        used = {n: np.array(w) for n, w in weights.items()}
        used |= {n: w for n, w in numbers.items() if n in new_node.input}
        (old,) = _run(model([old_node], port, [Y], opset=version), x)
        (new,) = _run(model([new_node], port, [Y], used, opset=18), x)
        np.testing.assert_array_equal(old, new)


def test_an_input_that_no_row_looks_at_is_refused() -> None:
    """What a later operator set might add to an operator is not dropped in silence."""
    ports = [X, ("extra", F32, (2, 3))]
    with pytest.raises(UnsupportedError, match="Relu with an input 1"):
        import_model(model([node("Relu", "x extra", "y")], ports, [Y]))
    with pytest.raises(UnsupportedError, match="Add with an input 2"):
        import_model(model([node("Add", "x extra extra", "y")], ports, [Y]))
    import_model(model([node("Relu", "x _", "y")], [X], [Y]))  # left out: nothing is there
