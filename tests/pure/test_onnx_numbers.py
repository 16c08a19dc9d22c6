"""Numbers and forms that random models got wrong once: a node each, with what it has to give.

Found by `tests.extra.fuzz_models`; what onnxruntime or the reference give here is not asked.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")

from onnx import helper

from brim.frontends.onnx import import_model
from brim.graph import evaluate
from tests.onnx_models import model, node

INF, NAN = np.inf, np.nan


def _kind(array: np.ndarray) -> int:
    return int(helper.np_dtype_to_tensor_dtype(array.dtype))


def _run(op: str, *arrays: Any, opset: int = 21, outputs: int = 1, **attributes: Any) -> list:
    """The results of one node; arrays that are None are left out."""
    given = {f"i{i}": np.asarray(a) for i, a in enumerate(arrays) if a is not None}
    names = " ".join(f"i{i}" if a is not None else "_" for i, a in enumerate(arrays))
    results = [f"o{i}" for i in range(outputs)]
    ports = [(name, _kind(array), array.shape) for name, array in given.items()]
    made = model([node(op, names, " ".join(results), **attributes)], ports, [], opset=opset)
    made.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in results)
    return list(evaluate(import_model(made), given).values())


F16, F32, F64 = np.float16, np.float32, np.float64


@pytest.mark.parametrize(
    ("base", "exponent", "wanted"),
    [
        (np.int64([7, 3]), np.int64([20, 40]), [7**20, 3**40 - 2**64]),
        (np.int32([-3, 2, 0]), np.int8([3, 31, 0]), [-27, -(2**31), 1]),
        (np.int64([2, 1, -1, -1, 0]), np.int64([-1, -5, -3, -2, -1]), [0, 1, -1, 1, 0]),
        (np.int32([3]), np.uint64([2**63 + 1]), [3]),
    ],
)
def test_whole_powers_are_exact(base: np.ndarray, exponent: np.ndarray, wanted: list[int]) -> None:
    (y,) = _run("Pow", base, exponent, opset=15)
    assert y.dtype == base.dtype
    assert [int(n) for n in y] == [w - 2**64 if w >= 2**63 else w for w in wanted]


@pytest.mark.parametrize("dtype", [F16, F32, F64])
def test_a_power_of_one_half_is_a_power(dtype: type) -> None:
    """It is the square root but for these two."""
    x, half = np.array([-np.inf, -0.0, 4, np.inf, -1, np.nan], dtype), np.array(0.5, dtype)
    port = _kind(x), x.shape
    nodes = [node("Pow", "x half", "y")]
    made = model(nodes, [("x", *port)], [("y", *port)], {"half": half}, opset=15)
    with np.errstate(invalid="ignore"):
        y = evaluate(import_model(made), {"x": x})["y"]
    np.testing.assert_array_equal(y, [np.inf, 0, 2, np.inf, np.nan, np.nan])
    assert not np.signbit(y[1])


def test_integers_are_shrunk_exactly() -> None:
    x = np.array([2**62 + 1, 3, 0, -(2**62) - 1], np.int64)
    assert _run("Shrink", x, bias=1.0, lambd=1.5)[0].tolist() == [2**62, 2, 0, -(2**62)]
    assert _run("Shrink", x, lambd=1.5)[0].tolist() == [2**62 + 1, 3, 0, -(2**62) - 1]


def test_integers_have_an_error_function_and_logarithms() -> None:
    assert _run("Erf", np.array([-9, 0, 9]), opset=9)[0].tolist() == [-1, 0, 1]
    x = np.array([[1, 100]], np.int32)
    assert _run("ReduceLogSum", x, opset=13, axes=[1])[0].tolist() == [[4]]
    assert _run("ReduceLogSumExp", x, opset=13, axes=[1])[0].tolist() == [[100]]


def test_softplus_has_digits_below_minus_17() -> None:
    x = np.array([-50, -20, 0, 30], F32)
    np.testing.assert_allclose(_run("Softplus", x)[0], np.log1p(np.exp(x.astype(F64))), rtol=1e-6)


@pytest.mark.parametrize("op", ["Mish", "Selu", "Gelu", "Elu"])
def test_f16_activations_round_once(op: str) -> None:
    x = np.array([-0.06, -0.09, 0.03, 2.5, -3], F16)
    exact = _run(op, x.astype(F64), opset=22)[0].astype(F16)
    np.testing.assert_array_max_ulp(_run(op, x, opset=22)[0], exact, 1)


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("AveragePool", {"kernel_shape": [2]}),
        ("LpPool", {"kernel_shape": [2]}),
        ("GlobalLpPool", {}),
        ("LpNormalization", {}),
        ("InstanceNormalization", {}),
        ("CumSum", {}),
    ],
)
def test_f16_does_not_overflow_on_the_way(op: str, attributes: dict[str, Any]) -> None:
    x = np.array([[[3e4, 3.4e4, -3.2e4]]], F16)
    more = {"CumSum": [np.int64(2)], "InstanceNormalization": [np.ones(1, F16)] * 2}.get(op, [])
    (y,) = _run(op, x, *more, **attributes)
    wide = [m.astype(F64) if m.dtype == F16 else m for m in more]
    (exact,) = _run(op, x.astype(F64), *wide, **attributes)
    np.testing.assert_allclose(y, exact.astype(F16), rtol=1e-3)


def test_the_mean_of_large_f16_is_finite() -> None:
    x = np.array([6e4], F16)
    assert np.isfinite(_run("Mean", x, x)[0]).all()


def test_equal_elements_have_no_negative_variance() -> None:
    x = np.full((1, 1, 4, 5), 0.1, F32)
    assert np.abs(_run("MeanVarianceNormalization", x)[0]).max() < 100
    assert np.isfinite(_run("MeanVarianceNormalization", x.astype(F16))[0]).all()


def test_defaults_are_f32_numbers() -> None:
    """An attribute is f32, and so is its default: visible in f64."""
    x = np.array([[1.0], [2.0]])
    parts = [np.array([v]) for v in (1.0, 0.0, 3.0, 4.0)]
    running = _run("BatchNormalization", x, *parts, opset=15, outputs=3, training_mode=1)[1]
    keep = float(F32(0.9))
    assert running.tolist() == [keep * 3 + (1 - keep) * 1.5]


def test_what_is_ignored_may_be_nan() -> None:
    x, target = np.array([[NAN, 1], [-2, 5]], F32), np.array([0, 0])
    assert _run("NegativeLogLikelihoodLoss", x, np.array([7, 0]), ignore_index=7)[0] == 2
    (each,) = _run("NegativeLogLikelihoodLoss", x, target, ignore_index=0, reduction="none")
    assert each.tolist() == [0, 0]


def test_padding_is_no_maximum() -> None:
    x = np.array([[[0, 2, 1]]], np.uint8)
    y, places = _run("MaxPool", x, opset=12, outputs=2, kernel_shape=[3], pads=[2, 2], strides=[3])
    assert y.tolist() == [[[0, 2]]]
    assert places.tolist() == [[[0, 1]]]


def test_places_of_nan_are_inside() -> None:
    x = np.array([[[NAN, 1, 2, 3]]], F32)
    _, places = _run("MaxPool", x, opset=12, outputs=2, kernel_shape=[2], strides=[2])
    assert places.tolist() == [[[0, 3]]]


@pytest.mark.parametrize(
    ("mode", "wanted"), [("SAME_UPPER", [0, 1, 0, 0, 2, 0]), ("SAME_LOWER", [0, 1, 0, 0, 2, 0])]
)
def test_a_transposed_convolution_with_gaps(mode: str, wanted: list[int]) -> None:
    x, w = np.array([[[1, 2]]], F32), np.ones((1, 1, 1), F32)
    assert _run("ConvTranspose", x, w, auto_pad=mode, strides=[3])[0].tolist() == [[wanted]]


def test_wrapping_goes_around_what_is_left() -> None:
    x = np.array([1, 2, 3])
    assert _run("Pad", x, np.array([3, -1]), mode="wrap")[0].tolist() == [2, 1, 2, 1, 2]


def test_the_dots_of_an_equation_stretch() -> None:
    a, b = np.ones((1, 2, 3), F32), np.arange(20, dtype=F32).reshape(5, 4)
    (y,) = _run("Einsum", a, b, equation="...ij,...k->...ijk")
    np.testing.assert_array_equal(y, np.einsum("aij,bk->bijk", a, b))


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
@pytest.mark.parametrize("opset", [11, 13])
def test_nothing_has_a_softmax(op: str, opset: int) -> None:
    assert _run(op, np.zeros((3, 0), F32), opset=opset)[0].shape == (3, 0)


def test_old_masks_have_the_type_of_the_input() -> None:
    for opset, kind in ((7, F32), (10, np.bool_)):
        _, mask = _run("Dropout", np.ones(3, F32), opset=opset, outputs=2, ratio=0.5)
        assert mask.dtype == kind


def test_unique_rows_of_text() -> None:
    rows = [["b", "x"], ["a", "x"], ["b", "x"]]
    words = np.array(rows, object)
    made = model([node("Constant", "", "x", value=helper.make_tensor("v", 8, (3, 2), [
        word.encode() for word in words.ravel()
    ])), node("Unique", "x", "y _ inverse", axis=0)], [], [], opset=11)  # fmt: skip
    made.graph.output.extend(helper.make_empty_tensor_value_info(n) for n in ("y", "inverse"))
    y, inverse = evaluate(import_model(made), {}).values()
    assert y.tolist() == [["a", "x"], ["b", "x"]]
    assert inverse.tolist() == [1, 0, 1]


def test_determinants_of_f16() -> None:
    x = np.array([[[2, 1, 0], [0, 3, 1], [1, 0, 1]]], F16)
    np.testing.assert_allclose(_run("Det", x)[0], [7], rtol=1e-3)


@pytest.mark.parametrize("onesided", [0, 1])
def test_long_frames_of_a_fourier_transform(onesided: int) -> None:
    x = np.sin(np.arange(6000) / 5).astype(F32).reshape(1, 6000, 1)
    (y,) = _run("STFT", x, np.int64(1500), None, np.int64(3000), onesided=onesided)
    frames = np.stack([x[0, i : i + 3000, 0] for i in (0, 1500, 3000)])
    wanted = np.fft.rfft(frames) if onesided else np.fft.fft(frames)
    np.testing.assert_allclose(y[0, ..., 0] + 1j * y[0, ..., 1], wanted, atol=0.05)


@pytest.mark.parametrize("steps", [3, 300])
def test_linear_attention_of_any_length(steps: int) -> None:
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(0, 0.3, (1, steps, n)).astype(F32) for n in (4, 4, 3))
    y, state = _run(
        "LinearAttention", q, k, v, opset=27, outputs=2,
        update_rule="linear", q_num_heads=1, kv_num_heads=1, scale=1.0,
    )  # fmt: skip
    sums = np.cumsum(k[0, :, :, None] * v[0, :, None, :], 0)
    np.testing.assert_allclose(state[0, 0], sums[-1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(y[0], np.einsum("td,tdm->tm", q[0], sums), rtol=1e-4, atol=1e-5)
