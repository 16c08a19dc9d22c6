"""Pruning without running anything: which weights go, how others make up for them, what stays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from brim.compress.channels import Channels, find_channels, letters
from brim.compress.low_rank import factors, rank_of
from brim.compress.masks import blocks, densities, mask, relative
from brim.compress.moments import Moments
from brim.compress.points import Layer, find_layers
from brim.compress.rebuild import rebuilt
from brim.compress.recipe import LowRank
from brim.compress.refit import Refit, fitted, relative_error
from brim.compress.thin import ROUND, families, lowest
from brim.graph import Graph, Value, const
from brim.ops import nn
from brim.ops import primitive as ops
from brim.ops.math import sigmoid
from tests.pure.test_equalise import (
    build,
    chain,
    check_same,
    clipped,
    conv,
    dense,
    mean,
    relu,
    residual,
    run,
    saturating,
    shuffled,
    widened,
)


def excited(x: Value) -> Value:
    """A gate that its own channels open, as in MobileNetV3."""
    y = relu(conv(x, 8))
    gate = sigmoid(dense(relu(dense(mean(y), 4)), 8))
    return dense(mean(conv(ops.mul(y, ops.reshape(gate, shape=(2, 1, 1, 8))), 6)), 5)


def joined(x: Value) -> Value:
    """Concats, slices, pools and lookups along channels."""
    y = ops.concat(relu(conv(x, 8)), relu(conv(x, 4)), axis=3)
    one, two, none = (1, 1), (2, 2), (0, 0)
    y = nn.max_pool(y, size=two, stride=two, dilation=one, low=none, high=none)
    z = ops.slice(y, starts=(0, 0, 0, 5), sizes=(2, 4, 4, 6), steps=(1, 1, 1, 1))
    z = ops.gather(relu(conv(z, 6)), const(np.array([5, 0, 0, 3])), axis=3)
    return dense(ops.concat(y, z, axis=3), 5)


NETWORKS = (chain, clipped, residual, widened, saturating, excited, joined)


def removable(graph: Graph) -> tuple[tuple[Layer, ...], Channels, list[int]]:
    layers = find_layers(graph)
    channels = find_channels(graph, layers, homogeneous=False)
    numbers = {n for layer in layers for n in channels.of(layer.value).reshape(-1).tolist()}
    return layers, channels, sorted(numbers - {0})


def masked(graph: Graph, layers: tuple[Layer, ...], channels: Channels, gone: set[int]) -> Graph:
    """The graph in which nobody reads some channels: as if they were not there."""

    def change(layer: Layer, z: Value) -> Refit:
        data, own, out = letters(layer)
        weights = layer.weights.copy()
        numbers = channels.of(layer.value.args[layer.data])
        for letter, n in zip(data, numbers.shape):
            if n > 1 and letter not in out:
                places = [slice(None)] * weights.ndim
                places[own.index(letter)] = np.flatnonzero(np.isin(numbers, list(gone)))
                weights[tuple(places)] = 0
        return Refit(weights, np.zeros(1, np.float32))

    return rebuilt(graph, layers, Channels({}), (), change)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("seed", range(3))
def test_without_channels_is_as_if_nobody_read_them(
    network: Callable[[Value], Value], seed: int
) -> None:
    graph = build(network)
    layers, channels, numbers = removable(graph)
    gone = set(np.random.default_rng(seed).permutation(numbers)[: len(numbers) // 2].tolist())
    found = rebuilt(graph, layers, channels, gone)
    check_same(found, masked(graph, layers, channels, gone))
    sizes = [sum(layer.weights.size for layer in find_layers(g)) for g in (found, graph)]
    assert sizes[0] < 0.8 * sizes[1]
    assert found.outputs["y"].type == graph.outputs["y"].type


def test_all_of_a_stream_loses_the_same_channels() -> None:
    graph = build(residual)
    layers, channels, _ = removable(graph)
    stream = channels.of(layers[0].value).reshape(-1)
    found = find_layers(rebuilt(graph, layers, channels, stream[:3].tolist()))
    assert [layer.value.shape[-1] for layer in found] == [5, 12, 12, 5, 12, 12, 5, 4]


@pytest.mark.parametrize("network", NETWORKS)
def test_biases_take_shifts_up(network: Callable[[Value], Value]) -> None:
    """Without one more operator, where a bias follows."""
    graph = build(network)

    def shifted(layer: Layer, z: Value) -> Refit:
        return Refit(layer.weights, np.ones(layer.value.shape[-1], np.float32))

    layers = [layer for layer in find_layers(graph) if layer.value.op.name == "conv"]  # type: ignore[union-attr]
    found = rebuilt(graph, layers, Channels({}), (), shifted)
    assert len(found.values()) == len(graph.values())
    assert np.abs(run(found) - run(graph)).max() > 1e-3


def test_families_are_what_goes_together() -> None:
    graph = build(clipped)
    layers, channels, numbers = removable(graph)
    found = families(graph, layers, channels)
    assert [len(family) for family in found] == [12]  # of 8 channels none are left over
    assert set(found[0]) <= set(numbers)
    assert not families(graph, [], channels)
    assert not families(build(shuffled), *removable(build(shuffled))[:2])


@pytest.mark.parametrize("together", [True, False])
def test_the_lowest_go_and_whole_vectors_stay(together: bool) -> None:
    found = [np.arange(1, 33), np.arange(33, 65), np.arange(65, 74)]
    scores = {n: float(n % 32) + (100 if n > 32 else 0) for n in range(1, 74)}
    removed = lowest(found, scores, 0.5, together)
    left = [len(set(family.tolist()) - removed) for family in found]
    assert all(n % ROUND == 0 and n >= ROUND for n in left)
    assert left[0] == (8 if together else 16)
    for family, n in zip(found, left):
        best = sorted(family.tolist(), key=lambda number: scores[number])[len(family) - n :]
        assert removed.isdisjoint(best)


# ---------------------------------------------------------------------- masks


@pytest.mark.parametrize("width", [1, 4, 8])
@pytest.mark.parametrize("kept", [0.01, 0.3, 0.5, 1.0])
def test_masks_keep_a_share_of_the_best(width: int, kept: float) -> None:
    weights = np.random.default_rng(0).random((50, 16))
    scores = blocks(weights, width)
    found = mask(scores, kept, width)
    whole = found.reshape(50, -1, width)
    assert (whole.all(2) == whole.any(2)).all()
    stays = whole[:, :, 0]
    if width == 1:
        assert stays.sum() == max(1, round(kept * scores.size))
        assert kept == 1 or scores[stays].min() > scores[~stays].max()
    else:  # the sparse product wants equally many in each group
        assert (stays.sum(0) == max(1, round(kept * 50))).all()
        for column, own in zip(scores.T, stays.T):
            assert kept == 1 or column[own].min() > column[~own].max()


def test_blocks_are_neighbours_that_add_up() -> None:
    squares = np.arange(8.0).reshape(2, 4)
    np.testing.assert_array_equal(blocks(squares, 2), [[1, 5], [9, 13]])


def test_a_layer_of_small_weights_does_not_lose_them_all() -> None:
    random = np.random.default_rng(0)
    small, large = np.square(random.standard_normal((2, 40, 30)))
    scores = {0: relative(small * 1e-12), 1: relative(large)}
    kept = densities(scores, 0.5)
    assert np.isclose(kept[0], kept[1], atol=0.05)
    assert np.isclose(kept[0] + kept[1], 1, atol=0.01)
    assert (np.argsort(scores[1], axis=None) == np.argsort(large, axis=None)).all()
    assert relative(large).max() == 1


# ---------------------------------------------------------------------- what is left


def moments_of(z: np.ndarray, x: np.ndarray) -> Moments:
    return Moments(z.T @ z / len(z), z.mean(0), z.T @ x / len(z), x.mean(0))


def test_what_follows_from_others_may_go() -> None:
    """Inputs that are sums of others, up to a constant, cost nothing."""
    random = np.random.default_rng(0)
    free = random.standard_normal((500, 4))
    x = np.concatenate([free, free @ random.standard_normal((4, 3)) + 5], axis=1)
    weights = random.standard_normal((7, 6))
    masks = np.zeros((7, 6), bool)
    masks[:4] = True
    known = moments_of(x, x)
    after = fitted(weights, masks, known, 6)
    assert not after[4:].any()
    assert relative_error(weights, after, known) < 1e-3  # what damping costs
    assert relative_error(weights, weights * masks, known) > 0.1
    shift = known.wanted @ weights - known.mean @ after
    np.testing.assert_allclose((x @ after + shift).mean(0), (x @ weights).mean(0))


@pytest.mark.parametrize("width", [1, 3])
def test_fitted_weights_err_less(width: int) -> None:
    random = np.random.default_rng(1)
    x = random.standard_normal((300, 12)) @ random.standard_normal((12, 12)) + 2
    z = x + 0.1 * random.standard_normal(x.shape)
    weights = random.standard_normal((12, 6))
    masks = np.repeat(random.random((12, 6 // width)) > 0.4, width, axis=1)
    known = moments_of(z, x)

    def error(after: np.ndarray) -> float:
        shift = known.wanted @ weights - known.mean @ after
        return float(np.square(z @ after + shift - x @ weights).sum())

    after = fitted(weights, masks, known, width)
    assert (after[~masks] == 0).all()
    assert error(after) < 0.7 * error(weights * masks)


def test_factors_are_exact_where_the_rank_is_low() -> None:
    random = np.random.default_rng(2)
    weights = random.standard_normal((30, 3)) @ random.standard_normal((3, 20))
    x = random.standard_normal((400, 30))
    a, b = factors(weights, moments_of(x, x), LowRank(energy=0.999999)) or (None, None)
    assert a is not None
    assert (a.shape, b.shape) == ((30, 3), (3, 20))
    np.testing.assert_allclose(a @ b, weights, atol=1e-6)


def test_factors_look_at_the_data() -> None:
    """Directions that inputs never take need no rank."""
    random = np.random.default_rng(3)
    x = random.standard_normal((400, 4)) @ random.standard_normal((4, 30))
    weights = random.standard_normal((30, 20))
    a, b = factors(weights, moments_of(x, x), LowRank(energy=0.99)) or (None, None)
    assert a is not None
    assert b.shape[0] <= 4
    np.testing.assert_allclose(x @ a @ b, x @ weights, atol=0.2 * np.abs(x @ weights).max())


def test_factors_that_save_nothing_are_not_made() -> None:
    x = np.random.default_rng(4).standard_normal((400, 30))
    assert factors(x[:30, :20], moments_of(x, x), LowRank(energy=0.9999)) is None
    assert factors(x[:30, :20], moments_of(x, x), LowRank(rank=19)) is None
    assert factors(x[:30, :20], moments_of(x, x), LowRank(rank=2)) is not None


def test_the_rank_follows_from_the_energy() -> None:
    sizes = np.array([3.0, 2.0, 1.0, 0.0])  # 9, 13, 14 of 14
    assert [rank_of(sizes, energy) for energy in (0.5, 0.64, 0.65, 0.93, 0.999)] == [1, 1, 2, 3, 3]
