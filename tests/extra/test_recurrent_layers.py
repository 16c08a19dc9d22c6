"""LSTM, GRU and RNN of many steps equal onnxruntime's, with all that their nodes may say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from onnx import TensorProto

import brim
from tests.onnx_models import F32, model, node

I32 = TensorProto.INT32
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
STEPS, FEATURES, SIZE = 33, 7, 20
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "lstm": ("LSTM", {}),
    "lstm, clipped": ("LSTM", {"clip": 0.4}),
    "lstm, coupled": ("LSTM", {"input_forget": 1}),
    "lstm, peepholes": ("LSTM", {"peepholes": True}),
    "lstm, other activations": ("LSTM", {"activations": ["HardSigmoid", "Softsign", "Relu"]}),
    "gru": ("GRU", {}),
    "gru, linear before reset": ("GRU", {"linear_before_reset": 1}),
    "rnn": ("RNN", {}),
    "rnn, clipped": ("RNN", {"clip": 0.4}),
}


@pytest.mark.parametrize("lengths", [False, True], ids=["whole", "lengths"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("name", CASES)
def test_equals_onnxruntime(name: str, direction: str, batch: int, lengths: bool) -> None:
    import onnxruntime

    kind, attributes = CASES[name]
    attributes = {"direction": direction, "hidden_size": SIZE, **attributes}
    directions, gates = 2 if direction == "bidirectional" else 1, GATES[kind]
    if "activations" in attributes:
        attributes["activations"] = attributes["activations"] * directions
    random = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return random.standard_normal(shape).astype(np.float32) / 2

    weights = {
        "w": normal(directions, gates * SIZE, FEATURES),
        "r": normal(directions, gates * SIZE, SIZE) / 2,
        "b": normal(directions, 2 * gates * SIZE),
    }
    names = ["x", "w", "r", "b", "n" if lengths else "_", "h"]
    feeds = {"x": normal(STEPS, batch, FEATURES), "h": normal(directions, batch, SIZE)}
    if kind == "LSTM":
        names.append("c")
        feeds["c"] = normal(directions, batch, SIZE)
    if attributes.pop("peepholes", False):
        names.append("p")
        weights["p"] = normal(directions, 3 * SIZE)
    if lengths:
        feeds["n"] = np.array([STEPS - 9 * (batch - 1 - i) for i in range(batch)], np.int32)
    outputs = ["y", "last", "cell"] if kind == "LSTM" else ["y", "last"]
    layer = node(kind, " ".join(names), " ".join(outputs), **attributes)
    inputs = [(n, I32 if n == "n" else F32, array.shape) for n, array in feeds.items()]
    made = model([layer], inputs, [(n, F32, None) for n in outputs], weights)
    session = onnxruntime.InferenceSession(made.SerializeToString())
    loaded = brim.load(made)
    assert not loaded.report().host_steps
    found = loaded.run(feeds)
    for output, want in zip(outputs, session.run(outputs, feeds)):
        np.testing.assert_allclose(found[output], want, rtol=1e-4, atol=2e-5)
