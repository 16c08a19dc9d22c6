"""Pruned and factored networks on data: what goes, what is made up for, what is smaller then."""

from __future__ import annotations

import numpy as np
import pytest

import brim
from brim.compiler import optimise
from brim.compress import thin
from brim.compress.channels import Channels
from brim.compress.data import read_data
from brim.compress.low_rank import low_rank
from brim.compress.matrices import matrices
from brim.compress.moments import moments, read_of
from brim.compress.pipeline import constant_bytes, product_flops
from brim.compress.points import Layer, find_layers
from brim.compress.prune import prune
from brim.compress.rebuild import rebuilt
from brim.compress.recipe import Int8, LowRank, Prune, Recipe
from brim.compress.refit import Refit
from brim.compress.slopes import mean_squared_slopes
from brim.compress.work import Work
from brim.errors import UnsupportedError
from brim.graph import Graph, Value, const, evaluate, placeholder
from brim.ops import primitive as p
from brim.ops.nn import conv
from brim.passes.sparse import sparsify
from brim.types import F32, Type
from tests import networks as n

SHAPE = (2, 12, 12, 3)


def pixels(x: Value, w: Value) -> Value:
    one, none = (1, 1), (0, 0)
    return conv(x, w, stride=one, dilation=one, low=none, high=none, groups=1)


def network() -> Graph:
    x = placeholder(Type(SHAPE, F32))
    y = n.relu(p.add(n.convolution(x, n.weight(3, 3, 3, 32), stride=2), n.weight(32)))
    z = n.relu(p.add(pixels(y, n.weight(1, 1, 32, 64)), n.weight(64)))
    z = p.add(pixels(z, n.weight(1, 1, 64, 32)), y)
    z = p.reshape(p.mul(p.reduce(z, op="add", axes=(1, 2)), 1 / 36), shape=(2, 32))
    y = p.add(p.contract(z, n.weight(32, 8), spec="mk,kn->mn"), n.weight(8))
    return optimise(Graph({"x": x}, {"y": y}, "small"))


@pytest.fixture(scope="module")
def work() -> Work:
    random = np.random.default_rng(1)
    mixing = random.standard_normal((3, 3))
    samples = random.standard_normal((60, *SHAPE[1:])) @ mixing
    inputs = {"x": Type(SHAPE, F32)}
    batches = read_data([sample.astype(np.float32) for sample in samples], inputs)
    return Work(batches, judge=lambda graph: pytest.fail("nothing is judged"), max_loss=0.01)


def loss(graph: Graph, changed: Graph, work: Work) -> float:
    """Relative squared error of the outputs."""
    noise = signal = 0.0
    for batch in work.batches:
        want, found = (evaluate(g, batch)["y"] for g in (graph, changed))
        noise, signal = noise + np.square(found - want).sum(), signal + np.square(want).sum()
    return noise / signal


def unfitted(graph: Graph, made: Graph) -> Graph:
    """`graph` with zeros where `made` has some, and no weight changed otherwise."""
    masks = {a.name: b.weights != 0 for a, b in zip(find_layers(graph), find_layers(made))}

    def change(layer: Layer, z: Value) -> Refit:
        return Refit(layer.weights * masks[layer.name], np.zeros(1, np.float32))

    return rebuilt(graph, find_layers(graph), Channels({}), (), change)


@pytest.mark.parametrize("method", ["magnitude", "movement"])
@pytest.mark.parametrize("pattern", ["unstructured", "1x4", "1x8"])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_a_share_of_the_weights_is_zero(method: str, pattern: str, scope: str, work: Work) -> None:
    graph = network()
    step = Prune(method=method, pattern=pattern, sparsity=0.6, scope=scope)  # type: ignore[arg-type]
    made = prune(graph, step, work)
    layers = find_layers(made.graph)
    zeros = [1 - np.count_nonzero(v.weights) / v.weights.size for v in layers]
    sizes = [v.weights.size for v in layers]
    assert np.average(zeros, weights=sizes) == pytest.approx(0.6, abs=0.03)
    if scope == "layer":
        assert zeros == pytest.approx([0.6] * 4, abs=0.03)
    width = {"unstructured": 1, "1x4": 4, "1x8": 8}[pattern]
    for layer in layers:
        kept = matrices(layer)[1].pack(layer.weights)[0].reshape(-1, layer.weights.shape[-1])
        blocks = (kept != 0).reshape(len(kept), -1, width)
        assert (blocks.all(2) == blocks.any(2)).all()
    assert "weights in 4 layers are zero" in made.notes[0]
    assert loss(graph, made.graph, work) < 0.5 * loss(graph, unfitted(graph, made.graph), work)


def test_blocks_of_zeros_are_neither_stored_nor_multiplied(work: Work) -> None:
    graph = network()
    made = prune(graph, Prune(pattern="1x8", sparsity=0.75), work)
    found = sparsify(made.graph)
    assert constant_bytes(found) < 0.45 * constant_bytes(graph)
    assert product_flops(found) < 0.75 * product_flops(graph)


@pytest.mark.parametrize("method", ["magnitude", "movement"])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_channels_make_tensors_smaller(method: str, scope: str, work: Work) -> None:
    graph = network()
    step = Prune(method=method, pattern="channels", sparsity=0.5, scope=scope)  # type: ignore[arg-type]
    made = prune(graph, step, work)
    sizes = [value.type.size for value in made.graph.values() if not value.is_const]
    assert max(sizes) < max(v.type.size for v in graph.values() if not v.is_const)
    assert product_flops(made.graph) < 0.6 * product_flops(graph)
    channels = [layer.value.shape[-1] for layer in find_layers(made.graph)]
    assert channels[0] == channels[2]  # those of the stream
    assert all(n % 8 == 0 for n in channels)
    assert "of 96 channels in 2 groups are removed" in made.notes[0]
    assert loss(graph, made.graph, work) < 0.5


def test_what_is_removed_is_made_up_for(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = network()
    made = prune(graph, Prune(pattern="channels", sparsity=0.25, scope="layer"), work)
    kept = [layer.weights.shape for layer in find_layers(made.graph)]

    def as_it_was(graph: Graph, layer: Layer, *rest: object) -> Refit:
        return Refit(layer.weights, np.zeros(1, np.float32))

    monkeypatch.setattr(thin, "refit", as_it_was)
    bare = prune(graph, Prune(pattern="channels", sparsity=0.25, scope="layer"), work).graph
    assert [layer.weights.shape for layer in find_layers(bare)] == kept
    assert loss(graph, made.graph, work) < 0.5 * loss(graph, bare, work)


def test_names_choose_layers(work: Work) -> None:
    graph = network()
    with pytest.raises(UnsupportedError, match="can be pruned"):
        prune(graph, Prune(layers=("nobody",)), work)
    with pytest.raises(UnsupportedError, match="can be removed"):
        prune(graph, Prune(pattern="channels", layers=("nobody",)), work)
    assert low_rank(graph, LowRank(layers=("nobody",)), work).notes == ("no layer becomes cheaper",)


@pytest.mark.parametrize("rank", [None, 3])
def test_low_rank_saves_work(rank: int | None, work: Work) -> None:
    graph = network()
    made = low_rank(graph, LowRank(energy=0.9, rank=rank), work)
    assert product_flops(made.graph) < 0.8 * product_flops(graph)
    assert constant_bytes(made.graph) < 0.8 * constant_bytes(graph)
    assert len(made.notes) >= 2
    if rank is None:
        assert loss(graph, made.graph, work) < 0.3
    compiled = brim.compile(made.graph)
    for batch in work.batches:
        want = evaluate(made.graph, batch)["y"]
        found = compiled.run(batch)["y"]
        np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-5 * np.abs(want).max())


def test_low_rank_of_everything_changes_nothing(work: Work) -> None:
    """Nearly: what is cut off has a share of 1e-8 of a layer's energy."""
    graph = network()
    made = low_rank(graph, LowRank(energy=0.99999999), work)
    assert loss(graph, made.graph, work) < 1e-3


def test_moments_are_those_of_what_is_read(work: Work) -> None:
    graph = network()
    layer = find_layers(graph)[0]
    found = moments(graph, [read_of(layer)], work)[id(layer.value)]
    x, form = matrices(layer)
    rows = []
    for batch in work.batches:
        array = evaluate(Graph(graph.inputs, {"x": x}), batch)["x"]  # n h w c i j
        order = [form.data.index(c) for c in "nhw" + form.summed]
        rows.append(array.transpose(order).reshape(-1, form.shape[1]))
    wanted = np.concatenate(rows).astype(np.float64)
    np.testing.assert_allclose(found.second, wanted.T @ wanted / len(wanted), 1e-4, 1e-4)
    np.testing.assert_allclose(found.mean, wanted.mean(0), 1e-4, 1e-4)
    np.testing.assert_allclose(found.cross, found.second)


def test_slopes_tell_what_outputs_move_by(work: Work) -> None:
    """y = x w: each output moves by x for a unit of its weight."""
    x = placeholder(Type((2, 3), F32))
    w = const(np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32))
    graph = Graph({"x": x}, {"y": p.contract(x, w, spec="nc,co->no")})
    data = np.random.default_rng(1).standard_normal((400, 3)).astype(np.float32)
    batches = read_data(list(data), {"x": Type((2, 3), F32)})
    found = mean_squared_slopes(graph, [w], Work(batches, work.judge, 0.01))[id(w)]
    wanted = 2 * np.square(data).mean(0)
    np.testing.assert_allclose(found, np.broadcast_to(wanted[:, None], (3, 4)), rtol=0.35)


def test_steps_stack_in_a_recipe(work: Work) -> None:
    random = np.random.default_rng(1)
    samples = [random.standard_normal(SHAPE[1:]).astype(np.float32) for _ in range(80)]
    recipe = Recipe((Prune(pattern="channels", sparsity=0.25), LowRank(energy=0.95), Int8()))
    small, report = brim.quantize(brim.compile(network()), samples, recipe, force=True)
    kinds = [stage.step.split(" ")[0] for stage in report.stages]
    assert kinds == ["", "prune", "low_rank", "int8"]
    flops = [stage.flops for stage in report.stages]
    assert flops[1] < flops[0]
    assert flops[2] <= flops[1]
    assert {v.dtype.name for v in small.graph.values() if v.is_const} >= {"i8"}
