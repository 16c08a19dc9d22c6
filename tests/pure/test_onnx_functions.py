"""Functions that ONNX models define themselves: nested, with attributes, overloads, own sets."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
from onnx import AttributeProto, helper

from brim.errors import BrimError, ModelError, UnsupportedError
from brim.frontends.onnx import import_model, read
from tests.onnx_models import BOOL, F32, graph, interpret, model, node

X, Y = ("x", F32, (2, 3)), ("y", F32, (2, 3))
DATA = np.arange(6, dtype=np.float32).reshape(2, 3)


def function(
    name: str,
    inputs: str,
    outputs: str,
    nodes: list[Any],
    opset: int = 17,
    attributes: tuple[str, ...] = (),
    defaults: dict[str, Any] | None = None,
    overload: str = "",
    domain: str = "local",
) -> Any:
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("local", 1)]
    made = [helper.make_attribute(key, value) for key, value in (defaults or {}).items()]
    return helper.make_function(
        domain, name, inputs.split(), outputs.split(), nodes, imports, attributes, made,
        overload=overload,
    )  # fmt: skip


def call(op: str, inputs: str, outputs: str, domain: str = "local", **attributes: Any) -> Any:
    made = node(op, inputs, outputs, **attributes)
    made.domain = domain
    return made


def referring(made: Any, attribute: str, kind: Any, name: str) -> Any:
    """`made` with an attribute that takes the function's attribute `name`."""
    made.attribute.append(AttributeProto(name=attribute, type=kind, ref_attr_name=name))
    return made


def test_functions_within_functions_with_attributes_and_defaults() -> None:
    leak = referring(node("LeakyRelu", "a", "b"), "alpha", AttributeProto.FLOAT, "slope")
    inner = function("Leak", "a", "b", [leak], defaults={"slope": 0.5})
    nested = referring(call("Leak", "a", "t"), "slope", AttributeProto.FLOAT, "outer_slope")
    outer = function(
        "Twice", "a", "b", [nested, call("Leak", "t", "b")], attributes=("outer_slope",)
    )
    nodes = [call("Twice", "x", "y", outer_slope=0.25), call("Twice", "x", "z")]
    z = ("z", F32, (2, 3))
    found = interpret(model(nodes, [X], [Y, z], functions=[inner, outer]), x=-DATA)
    np.testing.assert_array_equal(found[0], -DATA * 0.125)
    np.testing.assert_array_equal(found[1], -DATA * 0.25)  # both by the default


def test_an_attribute_of_a_function_reaches_its_branches() -> None:
    leak = referring(node("LeakyRelu", "a", "r"), "alpha", AttributeProto.FLOAT, "slope")
    branches = [graph([part], [], [("r", F32, None)]) for part in (leak, node("Neg", "a", "r"))]
    chosen = node("If", "c", "b", then_branch=branches[0], else_branch=branches[1])
    inner = function("Chosen", "a c", "b", [chosen], attributes=("slope",))
    proto = model(
        [call("Chosen", "x c", "y", slope=0.25)], [X, ("c", BOOL, ())], [Y], functions=[inner]
    )
    for condition, factor in ((True, 0.25), (False, -1)):
        found = interpret(proto, x=-DATA, c=np.array(condition))[0]
        np.testing.assert_array_equal(found, -DATA * factor)


def test_an_optional_input_of_a_function() -> None:
    clip = function("Limit", "a low high", "b", [node("Clip", "a low high", "b")])
    low = {"low": np.float32(2)}
    proto = model([call("Limit", "x low", "y")], [X], [Y], low, functions=[clip])
    np.testing.assert_array_equal(interpret(proto, x=DATA)[0], np.maximum(DATA, 2))


def test_a_function_has_its_own_operator_set() -> None:
    """Softmax changed its meaning in set 13: before, all axes from `axis` on are one."""
    old = function("Old", "a", "b", [node("Softmax", "a", "b", axis=1)], opset=11)
    proto = model(
        [call("Old", "x", "y"), node("Softmax", "x", "z", axis=1)],
        [("x", F32, (2, 3, 2))], [("y", F32, None), ("z", F32, None)], functions=[old],
    )  # fmt: skip
    x = np.random.default_rng(0).normal(size=(2, 3, 2)).astype(np.float32)
    found = interpret(proto, x=x)
    np.testing.assert_allclose(found[0].sum((1, 2)), 1, 1e-6)
    np.testing.assert_allclose(found[1].sum(1), 1, 1e-6)


def test_overloads_of_one_function() -> None:
    functions = [
        function("F", "a", "b", [node("Neg", "a", "b")], overload="minus"),
        function("F", "a", "b", [node("Exp", "a", "b")], overload="exp"),
    ]
    nodes = [call("F", "x", "y"), call("F", "x", "z")]
    nodes[0].overload, nodes[1].overload = "exp", "minus"
    proto = model(nodes, [X], [Y, ("z", F32, (2, 3))], functions=functions)
    found = interpret(proto, x=DATA)
    np.testing.assert_allclose(found[0], np.exp(DATA), 1e-6)
    np.testing.assert_array_equal(found[1], -DATA)


def test_a_function_of_a_domain_that_nobody_knows() -> None:
    inner = function("Magic", "a", "b", [node("Neg", "a", "b")], domain="com.example.deep")
    proto = model([call("Magic", "x", "y", "com.example.deep")], [X], [Y], functions=[inner])
    np.testing.assert_array_equal(interpret(proto, x=DATA)[0], -DATA)


def test_functions_that_are_called_wrongly() -> None:
    clip = function("F", "a", "b", [node("Neg", "a", "b")])
    for wrong in (call("F", "x x", "y"), call("F", "x", "y z"), call("F", "x", "y", speed=2)):
        with pytest.raises(ModelError, match="function 'F'"):
            interpret(model([wrong], [X], [Y], functions=[clip]), x=DATA)
    with pytest.raises(ModelError, match="two functions"):
        read(model([call("F", "x", "y")], [X], [Y], functions=[clip, clip]))
    endless = function("F", "a", "b", [call("F", "a", "b")])
    with pytest.raises(ModelError, match="nest deeper"):
        interpret(model([call("F", "x", "y")], [X], [Y], functions=[endless]), x=DATA)


def test_a_function_of_a_set_from_the_future() -> None:
    future = function("F", "a", "b", [node("Neg", "a", "b")], opset=99)
    with pytest.raises(UnsupportedError, match=r"operator set 99 of ai\.onnx"):
        read(model([call("F", "x", "y")], [X], [Y], functions=[future]))


def test_every_bit_flip_is_a_typed_error_or_a_graph() -> None:
    leak = referring(node("LeakyRelu", "a", "b"), "alpha", AttributeProto.FLOAT, "slope")
    inner = function("Leak", "a", "b", [leak], defaults={"slope": 0.5}, overload="two")
    made = call("Leak", "x", "y", slope=0.25)
    made.overload = "two"
    data = model([made], [X], [Y], functions=[inner]).SerializeToString()
    for position in range(len(data)):
        for bit in (0, 3, 6, 7):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            with contextlib.suppress(BrimError):  # anything untyped is a bug and ends the test
                import_model(bytes(damaged), {"x": (2, 3)})
