"""Exported models of scikit-learn predict what their sources predict, for batches of any size.

Labels must be equal. Numbers may differ from the source by 1e-4 of the largest one, or by what
onnxruntime differs, which computes in float32 as well: the sources compute in float64.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any
from unittest import mock

import numpy as np
import pytest
from onnx import helper

import brim
from brim.errors import BrimError

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("sklearn")
skl2onnx = pytest.importorskip("skl2onnx")

from skl2onnx.common import data_types
from sklearn.feature_extraction import text

from tests.extra.sklearn_models import CASES, Case, sentences

PEERS = ("onnxruntime", "sklearn", "skl2onnx")
pytestmark = pytest.mark.peer(*PEERS)
SETS = {"": 21, "ai.onnx.ml": 3}  # what skl2onnx 1.20 can write
# A language that is installed wherever onnxruntime is, and scikit-learn's own rule for words: the
# converter's rule would keep words of one letter.
WORDS = {"locale": "C", "tokenexp": "[a-zA-Z0-9_][a-zA-Z0-9_]+"}
VECTORIZERS = dict.fromkeys((text.CountVectorizer, text.TfidfVectorizer), WORDS)
TOLERANCE = 1e-4
ROWS = 24
make_attribute = helper.make_attribute


def _marks(case: Case) -> list[pytest.MarkDecorator]:
    words = [pytest.mark.peer(*PEERS, "re2")] if case.data is sentences else []
    return words if case.quick else [*words, pytest.mark.slow]


PARAMS = [pytest.param(case, id=case.name, marks=_marks(case)) for case in CASES]


@cache
def exported(case: Case) -> tuple[Any, bytes]:
    """The fitted model and its ONNX file."""
    X, y = case.data()
    types = [(name, _port(column)) for name, column in _columns(X).items()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is not converged is a model as well
        model = case.make().fit(_whole(X), y)
        options = VECTORIZERS | ({id(model): dict(case.options)} if case.options else {})
        with mock.patch.object(helper, "make_attribute", _with_plain_integers):
            proto = skl2onnx.convert_sklearn(
                model, initial_types=types, options=options, target_opset=SETS
            )
    return model, proto.SerializeToString()


def _with_plain_integers(key: str, value: Any, *rest: Any, **more: Any) -> Any:
    """onnx's make_attribute, for skl2onnx 1.20 that hands it truth values where integers belong."""
    if isinstance(value, list) and any(isinstance(item, bool) for item in value):
        value = [int(item) for item in value]
    return make_attribute(key, value, *rest, **more)


def _columns(X: Any) -> Mapping[str, np.ndarray]:
    return X if isinstance(X, Mapping) else {"X": X}


def _whole(X: Any) -> np.ndarray:
    """All columns side by side, as the source wants them."""
    return np.hstack([column.astype(object) for column in X.values()]) if _is_table(X) else X


def _is_table(X: Any) -> bool:
    return isinstance(X, Mapping)


def _port(column: np.ndarray) -> Any:
    kinds = {"f": data_types.FloatTensorType, "i": data_types.Int64TensorType}
    return kinds.get(column.dtype.kind, data_types.StringTensorType)([None, column.shape[1]])


def _some_rows(X: Any, count: int) -> Any:
    """Rows from the whole of the data: they are often sorted by target."""
    if _is_table(X):
        return {name: _some_rows(column, count) for name, column in X.items()}
    return X[np.linspace(0, len(X) - 1, count).astype(int)]


def _parts(found: Any) -> Iterator[np.ndarray]:
    """The arrays in an output: itself, the values of maps, the members of sequences."""
    match found:
        case list():
            for part in found:
                yield from _parts(part)
        case dict():
            yield np.array(list(found))
            yield np.array(list(found.values()))
        case _:
            yield np.asarray(found)


def error(found: np.ndarray, wanted: np.ndarray) -> float:
    """The largest difference, relative to the largest finite number; infinite for other shapes."""
    if found.shape != wanted.shape:
        return np.inf
    if wanted.dtype.kind in "OUSbi":
        return 0.0 if (found == wanted).all() else np.inf
    same = (found == wanted) | (np.isnan(found) & np.isnan(wanted))
    if same.all():
        return 0.0
    largest = np.abs(wanted[np.isfinite(wanted)]).max(initial=1e-30)
    return float(np.abs(np.where(same, 0, found - wanted)).max() / largest)


def answers(model: Any, X: np.ndarray) -> list[np.ndarray]:
    """What the source says, in the order of the outputs of the exported model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not hasattr(model, "predict"):
            return [np.asarray(model.transform(X))]
        found = [np.asarray(model.predict(X))]
        if hasattr(model, "predict_proba"):
            found.append(np.asarray(model.predict_proba(X)))
        return found


@pytest.mark.parametrize("case", PARAMS)
def test_an_exported_model_predicts_what_its_source_predicts(case: Case) -> None:
    source, data = exported(case)
    rows = _some_rows(case.data()[0], ROWS)
    feed = dict(_columns(rows))
    ours = list(brim.load(data).run(feed).values())
    theirs = _session(data).run(None, feed)
    if case.peer:
        for mine, other in zip(ours, theirs, strict=True):
            for a, b in zip(_parts(mine), _parts(other), strict=True):
                assert error(a, b) <= TOLERANCE
    if case.options.get("zipmap", "array") == "array":
        ours, theirs = ours[:1], theirs[:1]
    for mine, other, truth in zip(ours, theirs, answers(source, _whole(rows)), strict=False):
        mine, other = _aligned(mine, truth), _aligned(other, truth)
        assert error(mine, truth) <= max(TOLERANCE, error(other, truth) if case.peer else 0)


def _aligned(found: Any, truth: np.ndarray) -> np.ndarray:
    """An output in the shape of the source's: exported models often keep columns of one."""
    whole = np.stack(found) if isinstance(found, list) else np.asarray(found)
    return whole.reshape(truth.shape) if whole.size == truth.size else whole


@pytest.mark.parametrize("case", PARAMS)
def test_a_batch_of_one_gives_the_first_row(case: Case) -> None:
    assert_first_rows(case, 1)


@pytest.mark.parametrize("case", PARAMS)
def test_an_empty_batch_gives_no_rows(case: Case) -> None:
    if case.empty:
        assert_first_rows(case, 0)
    else:
        with pytest.raises(BrimError):
            assert_first_rows(case, 0)


def assert_first_rows(case: Case, count: int) -> None:
    """The first `count` rows alone give what they give as part of a batch."""
    _, data = exported(case)
    rows = _columns(_some_rows(case.data()[0], ROWS))
    model = brim.load(data)
    whole = model.run(dict(rows)).values()
    few = model.run({name: column[:count] for name, column in rows.items()}).values()
    for some, every in zip(few, whole, strict=True):
        for a, b in zip(_parts(some), _parts(_first(every, count)), strict=True):
            assert a.dtype == b.dtype
            assert error(a, b) <= TOLERANCE


def _first(found: Any, count: int) -> Any:
    """The first rows of an output: of a list of maps, of each array of a list, or of an array."""
    if isinstance(found, list):
        whole = not found or isinstance(found[0], dict)
        return found[:count] if whole else [_first(part, count) for part in found]
    return np.take(found, range(count), axis=found.shape.index(ROWS))


def _session(data: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
