"""Exported models of XGBoost and LightGBM predict what their sources predict.

Labels must be equal and numbers within 1e-5 of the largest: the sources and the exported trees add
up the same float32 leaves, onnxruntime and brim in another order.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

import brim

onnxruntime = pytest.importorskip("onnxruntime")
datasets = pytest.importorskip("sklearn.datasets")
onnxmltools = pytest.importorskip("onnxmltools")
xgboost = pytest.importorskip("xgboost")
lightgbm = pytest.importorskip("lightgbm")

pytestmark = pytest.mark.peer("onnxruntime", "onnxmltools", "xgboost", "lightgbm")
TOLERANCE = 1e-5


def _flowers() -> tuple[np.ndarray, np.ndarray]:
    X, y = datasets.load_iris(return_X_y=True)
    return X.astype(np.float32), y


def _two_flowers() -> tuple[np.ndarray, np.ndarray]:
    X, y = _flowers()
    return X[50:], y[50:] - 1


def _gaps() -> tuple[np.ndarray, np.ndarray]:
    X, y = _flowers()
    X[np.random.default_rng(1).random(X.shape) < 0.2] = np.nan
    return X, y


def _patients() -> tuple[np.ndarray, np.ndarray]:
    X, y = datasets.load_diabetes(return_X_y=True)
    return (X * 10).astype(np.float32), y


def _light(kind: str, **given: Any) -> Any:
    return getattr(lightgbm, kind)(n_estimators=9, verbose=-1, random_state=0, **given)


CASES: dict[str, tuple[Callable[[], Any], Callable[[], Any], bool]] = {
    # name: model, data, whether it is slow
    "xgb": (lambda: xgboost.XGBClassifier(n_estimators=9), _flowers, False),
    "xgb-two": (lambda: xgboost.XGBClassifier(n_estimators=9), _two_flowers, True),
    "xgb-gaps": (lambda: xgboost.XGBClassifier(n_estimators=9), _gaps, True),
    "xgb-regressor": (lambda: xgboost.XGBRegressor(n_estimators=9), _patients, False),
    "xgb-forest": (lambda: xgboost.XGBRFRegressor(n_estimators=9), _patients, True),
    "xgb-poisson": (
        lambda: xgboost.XGBRegressor(n_estimators=9, objective="count:poisson"),
        _patients,
        True,
    ),
    "lgbm": (lambda: _light("LGBMClassifier"), _flowers, False),
    "lgbm-two": (lambda: _light("LGBMClassifier"), _two_flowers, True),
    "lgbm-gaps": (lambda: _light("LGBMClassifier"), _gaps, True),
    "lgbm-regressor": (lambda: _light("LGBMRegressor"), _patients, False),
    "lgbm-linear-loss": (lambda: _light("LGBMRegressor", objective="mae"), _patients, True),
}
PARAMS = [
    pytest.param(name, marks=[pytest.mark.slow] if slow else [])
    for name, (_, _, slow) in CASES.items()
]


@cache
def exported(name: str) -> tuple[Any, np.ndarray, bytes]:
    """The fitted model, some rows of its data, its ONNX file."""
    from onnxmltools.convert.common.data_types import FloatTensorType

    make, data, _ = CASES[name]
    X, y = data()
    model = make().fit(X, y)
    types = [("X", FloatTensorType([None, X.shape[1]]))]
    if name.startswith("xgb"):
        proto = onnxmltools.convert_xgboost(model, initial_types=types)
    else:
        proto = onnxmltools.convert_lightgbm(model, initial_types=types, zipmap=False)
    rows = X[np.linspace(0, len(X) - 1, 40).astype(int)]
    return model, rows, proto.SerializeToString()


@pytest.mark.parametrize("name", PARAMS)
def test_an_exported_booster_predicts_what_its_source_predicts(name: str) -> None:
    source, X, data = exported(name)
    found = list(brim.load(data).run({"X": X}).values())
    truth = [np.asarray(source.predict(X))]
    if hasattr(source, "predict_proba"):
        truth.append(source.predict_proba(X))
        assert (found[0] == truth[0]).all()
    scores, wanted = found[-1], truth[-1]
    error = np.abs(scores.reshape(wanted.shape) - wanted).max() / np.abs(wanted).max()
    assert error <= TOLERANCE


@pytest.mark.parametrize("name", PARAMS)
def test_an_exported_booster_equals_onnxruntime_for_any_batch(name: str) -> None:
    _, X, data = exported(name)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # LightGBM's converter declares the shape of one label
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    model = brim.load(data)
    for count in (40, 1, 0):
        wanted = session.run(None, {"X": X[:count]})
        for mine, other in zip(model.run({"X": X[:count]}).values(), wanted, strict=True):
            assert mine.dtype == other.dtype
            np.testing.assert_allclose(mine, other, rtol=TOLERANCE, atol=TOLERANCE)
