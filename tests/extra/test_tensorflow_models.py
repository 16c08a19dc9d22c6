"""Networks of TensorFlow and Keras, converted by tf2onnx: equal to TensorFlow's own results."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
pytest.importorskip("tf2onnx")
tf = pytest.importorskip("tensorflow")

import brim
from tests.extra.tensorflow_networks import NETWORKS

pytestmark = [pytest.mark.peer("tensorflow", "tf2onnx"), pytest.mark.slow]


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_equal_to_tensorflow(name: str) -> None:
    """Differences up to 1e-5 of the largest number: sums run in another order."""
    import tf2onnx

    tf.keras.utils.set_random_seed(0)
    run, inputs, shapes = NETWORKS[name]()
    names = [f"x{i}" for i in range(len(inputs))]
    specs = [
        tf.TensorSpec(shape, tf.as_dtype(array.dtype), name)
        for name, shape, array in zip(names, shapes, inputs)
    ]
    function = tf.function(lambda *arrays: run(*arrays), input_signature=specs)
    proto, _ = tf2onnx.convert.from_function(function, specs, opset=18)
    wanted = [np.asarray(part) for part in tf.nest.flatten(function(*map(tf.constant, inputs)))]
    _compare(brim.load(proto.SerializeToString()).run(dict(zip(names, inputs))), wanted)


def _compare(found: dict[str, Any], wanted: list[np.ndarray]) -> None:
    assert len(found) == len(wanted)
    for number, (got, want) in enumerate(zip(found.values(), wanted)):
        assert got.dtype == want.dtype, number
        assert got.shape == want.shape, number
        limit = 1e-5 * max(1.0, float(np.abs(want).max(initial=0)))
        np.testing.assert_allclose(got, want, 0, limit, err_msg=str(number))


def test_a_saved_model_with_a_loop_and_a_condition(tmp_path: Path) -> None:
    """Through the command line of tf2onnx, as most people do it."""

    class Collatz(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[tf.TensorSpec((None,), tf.int32, "x")])
        def steps(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
            count = tf.zeros_like(x)
            while tf.reduce_any(x > 1):
                count += tf.cast(x > 1, tf.int32)
                x = tf.where(x > 1, tf.where(x % 2 == 0, x // 2, 3 * x + 1), x)
                if tf.reduce_all(x < 1 << 20):
                    x = tf.maximum(x, 1)
                else:
                    x = tf.minimum(x, 1 << 20)
            return {"count": count}

    module = Collatz()
    folder, file = tmp_path / "saved", tmp_path / "net.onnx"
    tf.saved_model.save(module, str(folder), signatures=module.steps)
    command = (sys.executable, "-m", "tf2onnx.convert", "--opset", "18")
    made = subprocess.run(
        (*command, "--saved-model", str(folder), "--output", str(file)),
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert file.is_file(), made.stderr[-2000:]
    model = brim.load(file)
    for numbers in ([6, 7, 1, 27], [2, 9]):
        x = np.array(numbers, np.int32)
        np.testing.assert_array_equal(model(x), module.steps(tf.constant(x))["count"])
