"""Operators of ai.onnx.ml (without trees) against onnxruntime and onnx.reference, one by one.

Each case says with whom brim agrees. Where it is only one of both, the other one lacks the types or
decides otherwise; why brim sides with whom is said at the operator. Each runs interpreted and
compiled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, TypeProto, ValueInfoProto, helper, numpy_helper

import brim
from brim.frontends.onnx.importer import import_model
from brim.graph import evaluate

onnxruntime = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.peer

F32, F64, I64, I32, I16 = np.float32, np.float64, np.int64, np.int32, np.int16
BOTH, ORT, REFERENCE = ("onnxruntime", "reference"), ("onnxruntime",), ("reference",)
NAN, INF = float("nan"), float("inf")
TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")


@dataclass(frozen=True, eq=False)
class Case:
    op: str
    inputs: tuple[np.ndarray, ...]
    peers: tuple[str, ...]
    attributes: dict[str, Any]
    version: int = 3

    @property
    def outputs(self) -> int:
        return 2 if self.op.endswith("Classifier") else 1


def case(
    op: str, *inputs: Any, peers: tuple[str, ...] = BOTH, version: int = 3, **attributes: Any
) -> Case:
    return Case(op, tuple(map(np.asarray, inputs)), peers, attributes, version)


X = np.array([[1, 2, 3], [-4, 0, 2]], F32)
HOLES = np.array([[1, NAN, 3], [0, 0, NAN]], F32)
WHOLE = np.array([[1, 0, 3], [0, 0, 5]], I64)
TEXTS = np.array([["a", "b"], ["z", "a"]], object)
UNEVEN = np.array([1, 1.7, -0.5, NAN, INF], F32)
POINTS = np.array([[1, 0], [1, 1], [0, 1], [-1, -2], [0.25, 0.5]], F32)


def _tensor(*items: Any, dtype: Any) -> TensorProto:
    return numpy_helper.from_array(np.array(items, dtype))


def _features() -> list[Case]:
    place = "ArrayFeatureExtractor"
    found = [
        case(place, X, np.array([2, 0])),
        case(place, X, np.array([[2], [0]])),
        case(place, X[0], np.array([[2, 0, 1]])),
        case(place, X[None].astype(F64), np.array([1])),
        case(place, WHOLE.astype(I32), np.array(1)),
        case(place, TEXTS, np.array([1])),
        case("Binarizer", X, threshold=1.5),
        case("Binarizer", np.array([NAN, 1, 0], F32), peers=REFERENCE),
        case("FeatureVectorizer", X, X[:, :1], inputdimensions=[3, 1]),
        case("FeatureVectorizer", X, X, inputdimensions=[2, 5]),
        case("FeatureVectorizer", X[0], X[1], inputdimensions=[3, 2], peers=ORT),
        case("FeatureVectorizer", X, WHOLE, inputdimensions=[3, 3], peers=REFERENCE),
        case("Imputer", HOLES, imputed_value_floats=[7.0, 8, 9], replaced_value_float=NAN),
        case("Imputer", HOLES, imputed_value_floats=[7.0], replaced_value_float=0.0),
        case("Imputer", HOLES[0], imputed_value_floats=[7.0] * 3, peers=ORT),
        case("Imputer", WHOLE, imputed_value_int64s=[7, 8, 9], replaced_value_int64=0),
        case("Scaler", X[None], offset=[1.0], scale=[2.0]),
        case("Scaler", X[0], offset=[1.0, 2, 3], scale=[2.0, 1, 0.5]),
        case("OneHotEncoder", WHOLE, cats_int64s=[5, 0, 1]),
        case("OneHotEncoder", WHOLE[:, :2], cats_int64s=[5, 0, 1], zeros=0, peers=ORT),
        case("OneHotEncoder", TEXTS, cats_strings=["b", "a"]),
        case("OneHotEncoder", UNEVEN, cats_int64s=[0, 1], peers=ORT),
    ]
    for dtype in (F32, F64, I64, I32):
        x, only = X.astype(dtype), BOTH if dtype is F32 else REFERENCE
        scaled = ORT if dtype in (I64, I32) else BOTH
        found += [
            case("Binarizer", x, threshold=1.5, peers=only),
            case("Scaler", x, offset=[1.0, 2, 3], scale=[2.0, 1, 0.5], peers=scaled),
            case("Normalizer", x, norm="MAX", peers=REFERENCE),
            case("Normalizer", x, norm="L1"),
            case("Normalizer", x, norm="L2", peers=scaled),
            case("FeatureVectorizer", x, inputdimensions=[3]),
        ]
    return [*found, case("Normalizer", np.zeros((1, 3), F32), norm="L2")]


def _labels() -> list[Case]:
    numbers = np.array([0, 1, 7, -1], I64)
    floats = np.array([0.0, -0.0, NAN, 2.5], F32)
    encode, maps = "LabelEncoder", "CategoryMapper"
    words = {"cats_int64s": [4, 5], "cats_strings": ["a", "b"]}
    sparse = [int(n) for n in np.random.default_rng(0).permutation(2000)[:500] ** 2]
    found = [
        case(encode, TEXTS, version=1, classes_strings=["a", "b"], peers=ORT),
        case(encode, TEXTS, version=1, classes_strings=["a"], default_int64=9, peers=ORT),
        case(encode, numbers, version=1, classes_strings=["p", "q"], peers=ORT),
        case(encode, TEXTS, version=2, keys_strings=["a", "b"], values_int64s=[4, 5]),
        case(encode, TEXTS, version=2, keys_strings=["a", "b"], values_floats=[4.0, 5]),
        case(encode, TEXTS, version=2, keys_strings=["a", "b"], values_strings=["A", "B"]),
        case(encode, numbers, version=2, keys_int64s=[0, 7], values_floats=[4.0, 5]),
        case(encode, numbers, version=2, keys_int64s=[0, 7], values_strings=["A", "B"]),
        case(encode, floats, version=2, keys_floats=[0.0, NAN], values_floats=[1.0, 2]),
        case(encode, floats, version=4, keys_floats=[0.0, NAN], values_floats=[1.0, 2], peers=ORT),
        case(encode, floats, version=4, keys_floats=[NAN], values_strings=["?"], peers=ORT),
        case(encode, numbers, version=4, keys_int64s=[0, 0], values_int64s=[5, 6], peers=REFERENCE),
        case(
            encode,
            np.array([*sparse[:7], 3, -5, 10**7], I64),
            version=2,
            keys_int64s=sparse,
            values_int64s=list(range(len(sparse))),
        ),
        case(
            encode,
            np.linspace(-3, 3, 25).astype(F32),
            version=2,
            keys_floats=np.linspace(-3, 3, 97).astype(F32).tolist(),
            values_int64s=list(range(97)),
        ),
        case(maps, TEXTS, peers=ORT, **words),
        case(maps, TEXTS, peers=ORT, default_int64=77, **words),
        case(maps, np.array([4, 0], I64), peers=ORT, **words),
        case(maps, np.array([4, 0], I64), peers=ORT, default_string="none", **words),
    ]
    for key in (I64, I32, I16, F32, F64):
        for value in (I64, F32, F64, I16):
            known = (key, value) in ((I64, I64), (F32, F32), (F64, F64), (I64, F32), (F32, I64))
            found.append(
                case(
                    encode,
                    numbers.astype(key),
                    version=4,
                    peers=BOTH if known else REFERENCE,
                    keys_tensor=_tensor(0, 7, dtype=key),
                    values_tensor=_tensor(4, 5, dtype=value),
                    default_tensor=_tensor(-3, dtype=value),
                )
            )
    return found


def _linear() -> list[Case]:
    three = {"coefficients": [1.0, -1, 0.5, 0, -1, 2], "intercepts": [0.1, 0.2, 0.3]}
    found = []
    for name in TRANSFORMS:
        # onnx.reference knows no transform of a regressor; of classifiers it takes the label of
        # the highest transformed score
        only = BOTH if name == "NONE" else ORT
        x = POINTS / 8 if name == "PROBIT" else POINTS
        found += [
            case("LinearRegressor", x, targets=3, post_transform=name, peers=only, **three),
            case(
                "LinearClassifier",
                x,
                classlabels_ints=[4, 5, 6],
                post_transform=name,
                peers=BOTH if name in ("NONE", "SOFTMAX", "LOGISTIC") else ORT,
                **three,
            ),
        ]
        if name != "PROBIT":
            found.append(
                case(
                    "LinearClassifier",
                    POINTS,
                    classlabels_strings=["no", "yes"],
                    post_transform=name,
                    coefficients=[1.0, -1],
                    intercepts=[0.1],
                    peers=BOTH if name == "LOGISTIC" else REFERENCE,
                )
            )
    return [
        *found,
        case("LinearRegressor", POINTS[0], coefficients=[1.0, -1], peers=ORT),
        case("LinearClassifier", POINTS.astype(I64), classlabels_ints=[4, 5, 6], **three),
        case("LinearClassifier", POINTS.astype(F64), classlabels_ints=[4, 5, 6], **three),
    ]


def _machines() -> list[Case]:
    pair = {"coefficients": [0.5, -0.25], "rho": [0.1], "support_vectors": [1.0, 0, 0, 1]}
    found = []
    for kernel, gamma in (("LINEAR", 0.0), ("POLY", 0.3), ("RBF", 0.3), ("SIGMOID", 0.3)):
        given = {"kernel_type": kernel, "kernel_params": [gamma, 0.1, 3.0], **pair}
        found += [
            case("SVMRegressor", POINTS, n_supports=2, **given),
            case("SVMRegressor", POINTS, n_supports=2, one_class=1, **given),
            case(
                "SVMClassifier", POINTS, classlabels_ints=[4, 5], vectors_per_class=[1, 1], **given
            ),
        ]
    root = {"kernel_type": "POLY", "kernel_params": [0.3, 0.9, 2.5], **pair}
    found.append(case("SVMRegressor", POINTS, n_supports=2, peers=ORT, **root))
    random = np.random.default_rng(2)
    many = {
        "kernel_type": "RBF",
        "kernel_params": [0.4, 0.0, 0.0],
        "support_vectors": random.normal(size=9 * 2).round(3).tolist(),
        "coefficients": random.normal(size=3 * 9).round(3).tolist(),
        "rho": random.normal(size=6).round(3).tolist(),
        "vectors_per_class": [2, 3, 1, 3],
    }
    sure = {"prob_a": [-1.5, -2, -1, -1.2, -3, -0.5], "prob_b": [0.1, 0, -0.2, 0.3, 0, 0.05]}
    for name in TRANSFORMS:
        more = {"post_transform": name, "classlabels_ints": [7, 5, 3, 1], **many}
        if name != "PROBIT":
            found.append(case("SVMClassifier", POINTS, **more))
        # onnx.reference multiplies a whole column where one element belongs: Q[t, t + 1 :]
        found.append(case("SVMClassifier", POINTS, peers=ORT, **more, **sure))
    texts = {"classlabels_strings": ["a", "b", "c", "d"], **many}
    without = {"kernel_type": "LINEAR", "kernel_params": [0.0, 0, 0], "rho": [0.1, 0.2, 0.3]}
    found += [
        case("SVMClassifier", POINTS, peers=ORT, **texts, **sure),
        case(
            "SVMClassifier",
            POINTS,
            classlabels_ints=[4, 5, 6],
            coefficients=[0.5, -0.25, 1, 1, 3, -1],
            **without,
        ),
        case("SVMRegressor", POINTS, coefficients=[0.5, -0.25], **without),
    ]
    return found


CASES = [*_features(), *_labels(), *_linear(), *_machines()]
PARAMS = [pytest.param(one, id=f"{one.op}-{i}") for i, one in enumerate(CASES)]


def model_of(one: Case) -> tuple[ModelProto, dict[str, np.ndarray]]:
    """The model of one node, and what it is fed."""
    names = [f"x{i}" for i in range(len(one.inputs))]
    outputs = [f"y{i}" for i in range(one.outputs)]
    node = helper.make_node(one.op, names, outputs, domain="ai.onnx.ml", **one.attributes)
    ports = [
        helper.make_tensor_value_info(
            name,
            TensorProto.STRING if x.dtype == object else helper.np_dtype_to_tensor_dtype(x.dtype),
            x.shape,
        )
        for name, x in zip(names, one.inputs)
    ]
    graph = helper.make_graph([node], "g", ports, [ValueInfoProto(name=name) for name in outputs])
    sets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", one.version)]
    return helper.make_model(graph, opset_imports=sets, ir_version=9), dict(zip(names, one.inputs))


def peer_results(name: str, model: ModelProto, feed: dict[str, np.ndarray]) -> list[Any]:
    if name == "reference":
        from onnx.reference import ReferenceEvaluator

        with np.errstate(all="ignore"):
            return ReferenceEvaluator(model).run(None, feed)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, feed)


def assert_same(found: Any, wanted: Any) -> None:
    found, wanted = np.asarray(found), np.asarray(wanted)
    assert found.shape == wanted.shape
    if wanted.dtype.kind in "OU":
        assert found.tolist() == wanted.tolist()
    else:
        np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("one", PARAMS)
def test_one_operator(one: Case) -> None:
    model, feed = model_of(one)
    with np.errstate(all="ignore"):
        found = list(evaluate(import_model(model), feed).values())
    for peer in one.peers:
        for mine, other in zip(found, peer_results(peer, model, feed), strict=True):
            assert_same(mine, other)
    compiled = brim.load(model.SerializeToString()).run(feed).values()
    for mine, other in zip(compiled, found, strict=True):
        assert mine.dtype == other.dtype
        assert_same(mine, other)


def map_model(op: str, key: int, value: int, **attributes: Any) -> ModelProto:
    kind = TypeProto()
    kind.map_type.key_type = key
    kind.map_type.value_type.tensor_type.elem_type = value
    kind.map_type.value_type.tensor_type.shape.SetInParent()
    node = helper.make_node(op, ["x"], ["y"], domain="ai.onnx.ml", **attributes)
    port = ValueInfoProto(name="x", type=kind)
    graph = helper.make_graph([node], "g", [port], [ValueInfoProto(name="y")])
    sets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=sets, ir_version=9)


TEXT, WHOLES, FLOATS = TensorProto.STRING, TensorProto.INT64, TensorProto.FLOAT
MAPS = [
    ("DictVectorizer", TEXT, {"c": 8.0, "a": 4.0}, {"string_vocabulary": ["a", "c", "b"]}),
    ("DictVectorizer", WHOLES, {1: 2.0}, {"int64_vocabulary": [3, 1]}),
    ("CastMap", WHOLES, {5: 3.25, 0: -1.5, 1: 2.5}, {}),
    ("CastMap", WHOLES, {5: 3.25, 0: -1.5, 1: 2.5}, {"cast_to": "TO_INT64"}),
    ("CastMap", WHOLES, {5: 3.25, 0: -1.5, 1: 2.5}, {"cast_to": "TO_STRING"}),
    ("CastMap", WHOLES, {5: 3.25, 0: -1.5}, {"map_form": "SPARSE", "max_map": 7}),
]


@pytest.mark.parametrize(("op", "key", "content", "attributes"), MAPS)
def test_an_operator_on_a_map(op: str, key: int, content: Any, attributes: dict) -> None:
    model = map_model(op, key, FLOATS, **attributes)
    (found,) = brim.load(model.SerializeToString()).run({"x": content}).values()
    (wanted,) = peer_results("onnxruntime", model, {"x": content})
    assert found.dtype == wanted.dtype
    assert_same(found, wanted)


@pytest.mark.parametrize(
    "labels", [{"classlabels_int64s": [4, 5]}, {"classlabels_strings": ["a", "b"]}]
)
@pytest.mark.parametrize("rows", [0, 1, 3])
def test_zip_map(labels: dict, rows: int) -> None:
    scores = np.arange(2 * rows, dtype=F32).reshape(rows, 2) / 3
    model, feed = model_of(case("ZipMap", scores, **labels))
    (found,) = brim.load(model.SerializeToString()).run(feed).values()
    assert found == peer_results("onnxruntime", model, feed)[0]
    assert len(found) == rows
