"""Operators of ai.onnx.ml where no peer can judge: refusals, exact integers, empty batches.

What agrees with onnxruntime and onnx.reference is in `tests/extra/test_onnx_ml.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper

from brim.errors import BrimError, InputError, ModelError, UnsupportedError
from brim.frontends.onnx.importer import import_model
from brim.graph import evaluate

F32, I64 = np.float32, np.int64
ROWS = np.array([[1, 2, 3], [-4, 0, 2]], F32)
MACHINE = {
    "coefficients": [0.5, -0.25],
    "rho": [0.1],
    "support_vectors": [1.0, 0, 0, 1],
    "kernel_type": "RBF",
    "kernel_params": [0.3, 0.0, 0.0],
}


def model(op: str, *inputs: np.ndarray, outputs: int = 1, **attributes: Any) -> ModelProto:
    names = [f"x{i}" for i in range(len(inputs))]
    results = [f"y{i}" for i in range(outputs)]
    ports = [
        helper.make_tensor_value_info(
            name,
            TensorProto.STRING if x.dtype == object else helper.np_dtype_to_tensor_dtype(x.dtype),
            x.shape,
        )
        for name, x in zip(names, inputs)
    ]
    node = helper.make_node(op, names, results, domain="ai.onnx.ml", **attributes)
    empty = [helper.make_empty_tensor_value_info(name) for name in results]
    sets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(helper.make_graph([node], "g", ports, empty), opset_imports=sets)


def run(op: str, *inputs: np.ndarray, outputs: int = 1, **attributes: Any) -> list[Any]:
    proto = model(op, *inputs, outputs=outputs, **attributes)
    feed = {f"x{i}": x for i, x in enumerate(inputs)}
    return list(evaluate(import_model(proto), feed).values())


REFUSED = [
    ("Imputer", (ROWS,), {"imputed_value_int64s": [1]}, ModelError),
    ("Imputer", (ROWS,), {"imputed_value_floats": [1.0, 2.0]}, ModelError),
    ("Imputer", (ROWS.astype(np.int32),), {"imputed_value_int64s": [1 << 40]}, ModelError),
    ("Scaler", (ROWS,), {"offset": [1.0, 2, 3], "scale": [1.0]}, ModelError),
    ("Normalizer", (ROWS[None],), {}, ModelError),
    ("Normalizer", (ROWS,), {"norm": "L3"}, UnsupportedError),
    ("FeatureVectorizer", (ROWS,), {"inputdimensions": [3, 3]}, ModelError),
    ("FeatureVectorizer", (ROWS,), {"inputdimensions": [1 << 40]}, ModelError),
    ("OneHotEncoder", (ROWS,), {"cats_int64s": [1, 1]}, ModelError),
    ("OneHotEncoder", (ROWS,), {"cats_strings": ["1"]}, ModelError),
    ("LabelEncoder", (ROWS,), {"keys_floats": [1.0, 2.0], "values_int64s": [1]}, ModelError),
    ("LabelEncoder", (ROWS,), {"keys_int64s": [1], "values_int64s": [1]}, ModelError),
    ("LabelEncoder", (ROWS,), {"values_int64s": [1]}, ModelError),
    ("LinearRegressor", (ROWS,), {"coefficients": [1.0, 2.0]}, ModelError),
    ("LinearRegressor", (ROWS,), {"coefficients": [1.0] * 6, "targets": 3}, ModelError),
    (
        "LinearRegressor",
        (ROWS,),
        {"coefficients": [1.0] * 6, "targets": 2, "intercepts": [1.0]},
        ModelError,
    ),
    (
        "LinearClassifier",
        (ROWS,),
        {"coefficients": [1.0] * 6, "classlabels_ints": [1]},
        ModelError,
    ),
    (
        "LinearClassifier",
        (ROWS,),
        {"coefficients": [1.0] * 3, "classlabels_ints": [1, 2], "post_transform": "PROBIT"},
        UnsupportedError,
    ),
    (
        "LinearClassifier",
        (ROWS,),
        {"coefficients": [1.0] * 3, "classlabels_ints": [1], "classlabels_strings": ["a"]},
        ModelError,
    ),
    ("SVMRegressor", (ROWS,), {**MACHINE, "n_supports": 2}, ModelError),
    ("SVMRegressor", (ROWS[:, :2],), {**MACHINE, "n_supports": 3}, ModelError),
    (
        "SVMRegressor",
        (ROWS[:, :2],),
        {**MACHINE, "n_supports": 2, "one_class": 1, "post_transform": "LOGISTIC"},
        UnsupportedError,
    ),
    (
        "SVMRegressor",
        (ROWS[:, :2],),
        {**MACHINE, "n_supports": 2, "kernel_params": [0.3]},
        ModelError,
    ),
    (
        "SVMClassifier",
        (ROWS[:, :2],),
        {**MACHINE, "vectors_per_class": [1, 1], "classlabels_ints": [1]},
        UnsupportedError,
    ),
    (
        "SVMClassifier",
        (ROWS[:, :2],),
        {**MACHINE, "vectors_per_class": [2, 1], "classlabels_ints": [1, 2]},
        ModelError,
    ),
    (
        "SVMClassifier",
        (ROWS[:, :2],),
        {**MACHINE, "vectors_per_class": [1, 1], "classlabels_ints": [1, 2], "prob_a": [1.0]},
        ModelError,
    ),
    ("ZipMap", (ROWS,), {"classlabels_int64s": [1, 1, 2]}, ModelError),
    ("ZipMap", (ROWS,), {"classlabels_int64s": [1, 2]}, ModelError),
]


@pytest.mark.parametrize(("op", "inputs", "attributes", "error"), REFUSED)
def test_a_contradiction_is_refused(
    op: str, inputs: tuple, attributes: dict, error: type[BrimError]
) -> None:
    outputs = 2 if op.endswith("Classifier") else 1
    with pytest.raises(error):
        run(op, *inputs, outputs=outputs, **attributes)


def test_large_integers_are_compared_exactly() -> None:
    x = np.array([2**53 + 1, 2**53, -(2**62)], I64)
    (found,) = run("Binarizer", x, threshold=float(2**53))
    assert found.tolist() == [1, 0, 0]
    (found,) = run("Binarizer", x, threshold=-1e30)
    assert found.tolist() == [1, 1, 1]
    (found,) = run("OneHotEncoder", x, cats_int64s=[2**53, 2**53 + 1])
    assert found.tolist() == [[0, 1], [1, 0], [0, 0]]
    (found,) = run("OneHotEncoder", x.astype(np.float64), cats_int64s=[2**53, 2**53 + 1])
    assert found.tolist() == [[1, 0], [1, 0], [0, 0]]


@pytest.mark.parametrize("gap", [1, 3, 1000])
@pytest.mark.parametrize("count", [1, 15, 16, 17, 300])
def test_a_table_finds_each_of_its_keys_and_nothing_else(count: int, gap: int) -> None:
    random = np.random.default_rng(count)
    keys = random.permutation(np.arange(count) * gap - 5)
    values = random.integers(-100, 100, count)
    x = np.concatenate([keys, keys - 1, keys + 1, [-(2**63), 2**63 - 1]])
    table = dict(zip(keys.tolist(), values.tolist()))
    (found,) = run(
        "LabelEncoder", x, keys_int64s=keys.tolist(), values_int64s=values.tolist(), default_int64=7
    )
    assert found.tolist() == [table.get(key, 7) for key in x.tolist()]
    (found,) = run(
        "LabelEncoder",
        x.astype(F32),
        keys_floats=keys.astype(F32).tolist(),
        values_int64s=values.tolist(),
        default_int64=7,
    )
    assert found.tolist() == [table.get(int(key), 7) for key in x.astype(F32).tolist()]


def test_an_unknown_category_is_an_error_where_the_model_says_so() -> None:
    with pytest.raises(InputError):
        run("OneHotEncoder", np.array(["a", "q"], object), cats_strings=["a"], zeros=0)
    with pytest.raises(BrimError, match="index"):
        run("OneHotEncoder", np.array([1, 2], I64), cats_int64s=[1], zeros=0)


def test_an_empty_batch() -> None:
    x = np.zeros((0, 2), F32)
    labels, scores = run(
        "SVMClassifier",
        x,
        outputs=2,
        vectors_per_class=[1, 1],
        classlabels_strings=["a", "b"],
        prob_a=[-1.0],
        prob_b=[0.0],
        **MACHINE,
    )
    assert labels.shape == (0,)
    assert labels.dtype == object
    assert scores.shape == (0, 2)
    assert run("ZipMap", x, classlabels_int64s=[1, 2]) == [[]]
    (found,) = run("LinearRegressor", x, coefficients=[1.0, 2.0])
    assert found.shape == (0, 1)


def test_probabilities_stay_compiled_and_only_text_runs_on_the_host() -> None:
    attributes = {"coefficients": [1.0, 0, 0, 0, 1, 0], "classlabels_strings": ["a", "b"]}
    graph = import_model(model("LinearClassifier", ROWS, outputs=2, **attributes))
    steps = [v.attrs["op"] for v in graph.values() if v.op is not None and v.op.kind == "host"]
    assert steps == ["LabelEncoder"]
    assert str(graph.outputs["y0"].type) == "str[2]"
