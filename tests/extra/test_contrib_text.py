"""com.microsoft.Tokenizer against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import brim
from brim.errors import ModelError

onnxruntime = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.peer("onnxruntime", "re2")

PLAIN = {"mark": 0, "mincharnum": 1, "pad_value": "#"}
WORDS = ["Hello World", "I love computer science !", ""]
CASES = [
    (WORDS, {"separators": [" "]}),
    (WORDS, {"separators": [" "], "mark": 1}),
    (WORDS, {"separators": [""]}),
    (["ünï cødé"], {"separators": [""], "mark": 1}),
    (WORDS, {"separators": ["o", "l+"]}),
    (WORDS, {"separators": ["l", "lo"], "mincharnum": 2}),
    (WORDS, {"tokenexp": "[a-zA-Z]+"}),
    (WORDS, {"tokenexp": "[a-zA-Z]+", "mincharnum": 3, "mark": 1}),
    (["ünï cødé"], {"tokenexp": "\\w+"}),
    (["abc"], {"tokenexp": "x*"}),
    (["a-b c"], {"tokenexp": "([a-z])-([a-z])|c"}),
    ([["a b", "c"], ["", "d  e"]], {"separators": [" "]}),
    (["", ""], {"separators": [" "]}),
    (["", ""], {"separators": [" "], "mark": 1}),
]


def model(shape: tuple[int, ...], attributes: dict[str, Any]) -> bytes:
    node = helper.make_node("Tokenizer", ["x"], ["y"], domain="com.microsoft", **attributes)
    ports = [
        [helper.make_tensor_value_info(name, TensorProto.STRING, size)]
        for name, size in (("x", shape), ("y", None))
    ]
    sets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph([node], "g", *ports)
    return helper.make_model(graph, opset_imports=sets, ir_version=9).SerializeToString()


@pytest.mark.parametrize(("texts", "attributes"), CASES)
def test_tokens(texts: list, attributes: dict[str, Any]) -> None:
    x = np.array(texts, object)
    data = model(x.shape, PLAIN | attributes)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    (wanted,) = session.run(None, {"x": x})
    (found,) = brim.load(data).run({"x": x}).values()
    assert found.shape == wanted.shape
    assert found.tolist() == wanted.tolist()


@pytest.mark.parametrize("attributes", [{}, {"separators": ["x*"]}, {"tokenexp": "("}])
def test_a_pattern_without_sense_is_refused(attributes: dict[str, Any]) -> None:
    with pytest.raises(ModelError):
        brim.load(model((1,), PLAIN | attributes)).run({"x": np.array(["a"], object)})
