"""`explain`: every kernel with its layers, times, bytes, roof and reasons; the page of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import brim
from brim.figures import json_text, printable
from brim.graph import Graph, Value, const, placeholder
from brim.model import Model
from brim.ops import control, elementwise, math, nn
from brim.ops import primitive as p
from brim.runtime import artifact_save
from brim.search import choice
from brim.tools.explain import Explanation, explain
from brim.types import F32, Type
from tests.html_pages import NASTY, Page
from tests.networks import relu, weight


def named(value: Value, where: str) -> Value:
    return Value(value.op, value.args, value.attrs, value.type, value.data, where)


def network() -> Graph:
    """A convolution with its activation, a product for each of its points, and a softmax."""
    x = placeholder(Type((1, 24, 24, 16), F32))
    w, one = weight(3, 3, 16, 32), (1, 1)
    conv = nn.conv(x, w, low=one, high=one, stride=one, dilation=one, groups=1)
    a = named(relu(named(conv, "net.onnx: first (Conv)")), "r")
    points = p.reshape(a, shape=(576, 32))
    b = named(p.contract(points, weight(32, 16), spec="mk,kn->mn"), "net.onnx: second (MatMul)")
    y = named(math.softmax(b, axis=1), "net.onnx: last (Softmax)")
    return Graph({"x": x}, {"y": y}, "net.onnx")


@pytest.fixture(scope="module")
def model() -> Model:
    return brim.compile(network())


@pytest.fixture(scope="module")
def found(model: Model) -> Explanation:
    return explain(model, measure=True)


def test_every_kernel_is_told(model: Model, found: Explanation) -> None:
    rows = model.report().kernels
    assert [each.kernel for each in found.kernels] == [row.kernel for row in rows]
    assert sum(each.predicted for each in found.kernels) == model.report().predicted_seconds
    assert found.flops == model.report().flops
    assert {each.layer for each in found.kernels} >= {"first", "second", "last"}
    assert all(each.measured and each.measured > 0 for each in found.kernels)
    assert found.seconds == sum(each.seconds for each in found.kernels)


def test_what_was_taken_is_the_first_candidate(found: Explanation) -> None:
    for each in found.kernels:
        assert each.candidates[0].schedule == each.schedule
        assert len(each.candidates) <= each.considered
        seconds = [candidate.seconds for candidate in each.candidates]
        assert seconds == sorted(seconds)


def test_a_product_moves_its_tensors_once(found: Explanation) -> None:
    (second,) = (each for each in found.kernels if each.layer == "second")
    moved = second.roof.bytes
    assert (moved.read, moved.weights) == (24 * 24 * 32 * 4, 32 * 16 * 4)
    assert moved.written == 24 * 24 * 16 * 4
    assert second.roof.flops == 24 * 24 * 32 * 16 * 2


def test_those_that_lose_most_come_first(found: Explanation) -> None:
    lost = [seconds for _, seconds in found.furthest()]
    assert lost == sorted(lost, reverse=True)
    assert sum(lost) == pytest.approx(sum(each.above_roof for each in found.kernels))
    numbers = sorted(i for some, _ in found.furthest() for i in some)
    assert numbers == list(range(len(found.kernels)))
    for some, _ in found.furthest():
        assert len({(found.kernels[i].kernel, found.kernels[i].schedule) for i in some}) == 1
    for each in found.kernels:
        assert each.above_roof == pytest.approx(each.seconds * max(1 - each.of_roof, 0), abs=1e-12)


def test_the_variant_is_told_with_its_rivals(found: Explanation) -> None:
    (bodies,) = (each for each in found.variants if "first" in each.where[0])
    of_first = [each for each in found.kernels if each.layer == "first"]
    taken, *others = bodies.prices
    for each in of_first:
        (sentence,) = (text for text in each.why if text.startswith("conv is computed as"))
        assert f"as {taken[0]};" in sentence
        assert all(name in sentence for name, _ in others)
        assert found.bodies_of(each) is bodies


def test_reasons_name_what_decided(found: Explanation) -> None:
    second = next(each for each in found.kernels if each.layer == "second")
    told = "\n".join(second.why)
    assert f"chosen by price out of {second.considered} schedules" in told
    assert "lanes along" in told and "registers" in told
    assert f"the roof is {second.roof.name}" in told
    price = next(text for text in second.why if "predicted for a run" in text)
    parts = [int(part.split("%")[0].split()[-1]) for part in price.split(", ")[1:]]
    assert 99 <= sum(parts) <= 101


def test_measured_times_that_decided_are_told(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a store that knows times, the words say so."""
    search = choice.by_times(brim.targets.target.find_target("host"))
    candidates = choice.Search.candidates

    def timed(self: choice.Search, kernel: object) -> list[choice.Candidate]:
        return [replace(c, measured=c.predicted) for c in candidates(search, kernel)]  # type: ignore[arg-type]

    monkeypatch.setattr(choice.Search, "candidates", timed)
    chosen = [each for each in explain(model).kernels if each.considered > 1]
    assert chosen
    assert all(any("chosen as the fastest measured" in t for t in each.why) for each in chosen)


def test_an_artifact_of_other_prices_says_that_it_cannot_know(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It shows what the file holds, not what would be chosen today."""
    model.save(tmp_path / "net.brim")
    loaded = brim.load(tmp_path / "net.brim")
    loaded.run({"x": np.zeros((1, 24, 24, 16), np.float32)})
    same = explain(loaded)
    assert all(each.candidates for each in same.kernels)
    assert [each.sources for each in same.kernels] == [
        each.sources for each in explain(model).kernels
    ]
    candidates = choice.Search.candidates
    monkeypatch.setattr(choice.Search, "candidates", lambda *given: candidates(*given)[-1:])
    other = explain(loaded)
    assert [each.schedule for each in other.kernels] == [each.schedule for each in same.kernels]
    unknown = [each for each, was in zip(other.kernels, same.kernels) if was.considered > 1]
    assert unknown and not any(each.candidates for each in unknown)
    assert all("how it was chosen is not known" in each.why[-2] for each in unknown)


def test_files_from_before_sources_name_the_kernel_alone(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    why = artifact_save._why
    monkeypatch.setattr(
        artifact_save, "_why", lambda made: {k: v for k, v in why(made).items() if k != "sources"}
    )
    model.save(tmp_path / "old.brim")
    loaded = brim.load(tmp_path / "old.brim")
    loaded.compile()
    rows, now = loaded.report().kernels, model.report().kernels
    assert [row.where for row in rows] == [row.where for row in now]
    assert [row.sources for row in rows] == [(row.where,) for row in now]


def test_kernels_inside_of_a_branch_are_told(tmp_path: Path) -> None:
    """How often they run depends on data: they count once."""
    x = placeholder(Type((8, 16), F32))

    def branch(of: Callable[[Value], Value]) -> Graph:
        port = placeholder(x.type)
        return Graph({"x": port}, {"y": of(port)}, "branch")

    large = p.reduce(x, op="max", axes=(0, 1))
    picked = control.cond(
        elementwise.lt(const(np.float32(0)), p.reshape(large, shape=())),
        x,
        then=branch(lambda v: p.tanh(p.contract(v, weight(16, 16), spec="mk,kn->mn"))),
        orelse=branch(p.exp),
    )
    model = brim.compile(Graph({"x": x}, {"y": picked}, "branches"))
    model.save(tmp_path / "branches.brim")
    loaded = brim.load(tmp_path / "branches.brim")
    loaded.compile()
    for made in (explain(model, measure=True), explain(loaded, measure=True)):
        inner = [each for each in made.kernels if each.inner]
        assert {op for each in inner for op in each.operators} >= {"tanh", "contract", "exp"}
        assert all(each.measured is None and each.candidates for each in inner)
        assert "count once" in made.to_html()
        assert all(each.measured for each in made.kernels if not each.inner)


def test_json_has_all_of_it(found: Explanation) -> None:
    document = json.loads(json_text(found.to_json()))
    assert len(document["kernels"]) == len(found.kernels)
    first = document["kernels"][0]
    assert first["roof"]["seconds"] == found.kernels[0].roof.seconds
    assert first["of_roof"] == found.kernels[0].of_roof
    assert document["target"]["name"] == "host"


def test_the_page_needs_nothing_else(found: Explanation) -> None:
    shown = Page(found.to_html())
    assert shown.left_open() == shown.requests() == []
    text = "".join(shown.text)
    for each in found.kernels:
        assert each.layer in text and all(reason in text for reason in each.why)


def renamed(found: Explanation, name: str) -> Explanation:
    """With this name for all that a file names."""
    kernels = tuple(
        replace(
            each,
            layer=name,
            sources=tuple(name for _ in each.sources),
            fused=tuple(f"{name} op" for _ in each.fused),
        )
        for each in found.kernels
    )
    variants = tuple(replace(each, where=(name, name)) for each in found.variants)
    inputs = {name: "f32[4]"}
    return replace(found, model=name, inputs=inputs, kernels=kernels, variants=variants)


@pytest.mark.parametrize("name", NASTY)
def test_names_are_text(name: str, found: Explanation) -> None:
    nasty = Page(renamed(found, name).to_html())
    assert nasty.tags == Page(renamed(found, "x").to_html()).tags
    assert printable(name) in "".join(nasty.text)


def test_a_model_without_kernels_has_a_page() -> None:
    x = placeholder(Type((4,), F32))
    found = explain(brim.compile(Graph({"x": x}, {"y": p.reshape(x, shape=(2, 2))}, "moves")))
    assert Page(found.to_html()).left_open() == []
