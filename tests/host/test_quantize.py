"""`brim.quantize`, end to end on small networks: contract, mixed precision, report, artifact."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

import brim
from brim.compress import ContractError, Int8, Recipe
from brim.errors import InputError, UnsupportedError
from brim.graph import Graph, Value, placeholder
from brim.ops import primitive as p
from brim.types import F32, Type
from tests import networks as n

SHAPE = (1, 12, 12, 3)


def network() -> Graph:
    x = placeholder(Type(SHAPE, F32))
    y = n.relu(p.add(n.convolution(x, n.weight(3, 3, 3, 8), stride=2), n.weight(8)))
    z = n.relu(p.add(n.convolution(y, n.weight(3, 3, 8, 8)), y))
    z = p.reshape(p.mul(p.reduce(z, op="add", axes=(1, 2)), 1 / 36), shape=(1, 8))
    return Graph({"x": x}, {"y": p.contract(z, n.weight(8, 10), spec="mk,kn->mn")}, "small")


def samples(count: int = 40) -> list[np.ndarray]:
    random = np.random.default_rng(1)
    return [random.standard_normal(SHAPE).astype(np.float32) for _ in range(count)]


@pytest.fixture(scope="module")
def model() -> brim.Model:
    return brim.compile(network())


def test_a_quantized_model_keeps_its_outputs(model: brim.Model) -> None:
    small, report = brim.quantize(model, samples(), force=True)
    assert "squared error" in report.accuracy.name
    assert report.accuracy.samples == 40
    assert 0 < report.accuracy.difference < 0.01
    noise = signal = 0.0
    for x in samples():
        want, found = model(x), small(x)
        noise, signal = noise + np.square(found - want).sum(), signal + np.square(want).sum()
    assert noise / signal == pytest.approx(report.accuracy.difference, rel=1e-3)
    assert [layer.form for layer in report.layers] == ["int8"] * 3
    assert all(layer.sqnr and layer.sqnr > 25 for layer in report.layers)
    assert report.sizes.weights_after < 0.4 * report.sizes.weights_before


def test_products_are_of_bytes(model: brim.Model) -> None:
    small, _ = brim.quantize(model, samples(), force=True)
    products = [v for v in small.graph.values() if v.op and v.op.name in ("conv", "contract")]
    assert {arg.dtype.name for v in products for arg in v.args} == {"u8", "i8"}


def test_the_artifact_computes_the_same_to_the_bit(model: brim.Model, tmp_path: Path) -> None:
    small, report = brim.quantize(model, samples(), force=True)
    small.save(tmp_path / "small.brim")
    again = brim.load(tmp_path / "small.brim")
    assert all(np.array_equal(small(x), again(x)) for x in samples(4))
    assert again.metadata["recipe"] == report.recipe == Recipe().to_toml()


def test_layers_stay_in_float_until_the_contract_holds(model: brim.Model) -> None:
    _, loose = brim.quantize(model, samples(), force=True)
    limit = 0.9 * loose.accuracy.difference
    _, tight = brim.quantize(model, samples(), force=True, max_loss=limit)
    assert "float" in {layer.form for layer in tight.layers}
    assert tight.accuracy.difference <= limit
    assert any("float" in note for note in tight.stages[-1].notes)


def test_a_missed_contract_is_an_error_that_names_layers(model: brim.Model) -> None:
    with pytest.raises(ContractError, match="misses its contract") as caught:
        brim.quantize(model, samples(), max_loss=1e-9)
    report = caught.value.report
    assert not report.accepted
    assert report.verdict.blame
    assert all(
        blame.layer in {layer.name for layer in report.layers} for blame in report.verdict.blame
    )
    assert report.verdict.blame[0].layer in str(caught.value)


def test_kept_layers_stay_as_they_were(model: brim.Model) -> None:
    names = [layer.name for layer in brim.quantize(model, samples(), force=True)[1].layers]
    recipe = Recipe((Int8(keep=(names[0],)),))
    _, report = brim.quantize(model, samples(), recipe, force=True)
    assert [layer.form for layer in report.layers] == ["float", "int8", "int8"]
    with pytest.raises(UnsupportedError, match="keeps all 3"):
        brim.quantize(model, samples(), Recipe((Int8(keep=("*",)),)))


def test_labels_make_it_top_1(model: brim.Model) -> None:
    pictures = samples()
    labels = [int(model(x).argmax()) for x in pictures]
    labels[:10] = [(label + 1) % 10 for label in labels[:10]]
    data = [(x, np.array([label])) for x, label in zip(pictures, labels)]
    _, report = brim.quantize(model, data, force=True)
    assert report.accuracy.name == "top-1 accuracy"
    assert report.accuracy.before == 0.75
    assert report.accuracy.low <= report.accuracy.difference <= report.accuracy.high


def test_a_metric_of_the_users_own(model: brim.Model) -> None:
    def score(outputs: Mapping[str, np.ndarray], labels: object) -> np.ndarray:
        return outputs["y"].max(axis=1)

    _, report = brim.quantize(model, samples(), metric=score, force=True)
    assert report.accuracy.name == "score"
    assert report.accuracy.before == pytest.approx(np.mean([model(x).max() for x in samples()]))


def test_values_that_are_not_numbers_are_named() -> None:
    x = placeholder(Type((1, 8), F32))
    y: Value = p.contract(p.log(x), n.weight(8, 4), spec="mk,kn->mn")
    data = [np.full((1, 8), -1.0 if i == 3 else i + 1.0, np.float32) for i in range(8)]
    with pytest.raises(InputError, match="NaN or infinity for calibration sample 3"):
        brim.quantize(brim.compile(Graph({"x": x}, {"y": y})), data)
