"""Cases that fold axes: reductions, softmax, normalisations, losses."""

from __future__ import annotations

import numpy as np

from tests.extra.fuzz_models.draft import FLOATS, INTEGERS, Draft, Tensor, Unfit, element_number
from tests.extra.fuzz_models.table import case


@case(
    "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2",
    "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare",
)  # fmt: skip
def reduce(d: Draft, name: str) -> None:
    kinds = d.types(name)
    if name.startswith("ReduceLog"):
        kinds = tuple(
            kind for kind in kinds if kind in FLOATS
        )  # a whole logarithm shows any rounding
    x = d.take(kinds)
    if x.dtype in INTEGERS and name not in ("ReduceMax", "ReduceMin", "ReduceSum"):
        x = d.feed(d.array(x.shape, x.dtype, plain=True))  # what overflows is left open
    axes = d.subset(range(x.rank), 1)
    if d.opset >= 11:
        axes = [a - x.rank if d.chance(0.3) else a for a in axes]
    keep = d.choose([None, 0, 1])
    if d.has(name, "axes"):
        d.add(name, x, axes=axes if axes and d.chance(0.8) else None, keepdims=keep)
        return
    more = {"noop_with_empty_axes": d.choose([None, 0, 1])} if d.chance(0.4) else {}
    roll = d.rng.random()
    given = None if roll < 0.15 else d.ints(axes if roll < 0.9 else [])
    d.add(name, x, given, keepdims=keep, **more)


@case("Softmax", "LogSoftmax", "Hardmax")
def softmax(d: Draft, name: str) -> None:
    x = d.take(d.types(name), 1)
    if name == "Hardmax" and np.isnan(x.array).any():
        raise Unfit("where NaN stands in an order is not defined")
    axis = d.axis(x.rank) if d.opset >= 11 else d.integer(0, x.rank - 1)
    d.add(name, x, axis=axis if d.chance(0.8) or x.rank == 1 else None)


@case("LayerNormalization")
def layer_norm(d: Draft, name: str) -> None:
    x = d.take(d.types(name), 1, zero=False)
    axis = d.axis(x.rank)
    shape = x.shape[axis:]
    kind = d.dtype(d.types(name, 1)) if d.chance(0.1) else x.dtype
    if kind != x.dtype:
        raise Unfit("scale has the type of the input")
    scale = d.tensor(broken(d, shape), x.dtype)
    bias = d.tensor(broken(d, shape), x.dtype) if d.chance(0.6) else None
    d.add(
        name,
        x,
        scale,
        bias,
        outputs=d.choose([1, 1, 2, 3]),
        axis=axis if axis != -1 or d.chance() else None,
        epsilon=epsilon(d),
        stash_type=d.choose([None, 1]),
    )


def broken(d: Draft, shape: tuple[int, ...]) -> list[int]:
    """The shape itself, or one that broadcasts to it."""
    if d.chance(0.8):
        return list(shape)
    return [1 if d.chance() else n for n in shape[d.integer(0, len(shape)) :]]


def epsilon(d: Draft) -> float | None:
    return d.choose([None, 1e-3, 0.1])


@case("RMSNormalization")
def rms_norm(d: Draft, name: str) -> None:
    x = d.take(d.types(name), 1, zero=False)
    axis = d.axis(x.rank)
    scale = d.tensor(broken(d, x.shape[axis:]), x.dtype)
    d.add(name, x, scale, axis=axis if d.chance(0.8) else None, epsilon=epsilon(d))


@case("GroupNormalization")
def group_norm(d: Draft, name: str) -> None:
    groups, each = d.integer(1, 3), d.integer(1, 3)
    channels = groups * each
    x = d.tensor((d.integer(1, 2), channels, *d.shape(0, 2, zero=False)), d.dtype(d.types(name)))
    size = (channels,) if d.opset >= 21 else (groups,)
    d.add(
        name,
        x,
        d.tensor(size, x.dtype),
        d.tensor(size, x.dtype),
        num_groups=groups,
        epsilon=epsilon(d),
    )


@case("InstanceNormalization")
def instance_norm(d: Draft, name: str) -> None:
    x = d.take(d.types(name), 3, zero=False)
    d.add(name, x, *channelwise(d, x, 2), epsilon=epsilon(d))


def channelwise(d: Draft, x: Tensor, count: int) -> list[Tensor]:
    """So many values with an element per channel."""
    return [d.tensor((x.shape[1],), x.dtype) for _ in range(count)]


@case("BatchNormalization")
def batch_norm(d: Draft, name: str) -> None:
    x = d.take(d.types(name), 2, zero=False)
    variance = d.feed(np.abs(d.array((x.shape[1],), x.dtype, plain=True)) + x.array.dtype.type(0.5))
    more = {"momentum": d.number(0.1, 0.9)} if d.chance() else {}
    if d.opset >= 14 and d.chance(0.2):
        d.add(
            name,
            x,
            *channelwise(d, x, 3),
            variance,
            outputs=3,
            training_mode=1,
            epsilon=epsilon(d),
            **more,
        )
        return
    d.add(name, x, *channelwise(d, x, 3), variance, epsilon=epsilon(d), **more)


@case("LRN")
def lrn(d: Draft, name: str) -> None:
    x = d.take(d.types(name), 4, 4, zero=False)
    more = {"alpha": d.number(0, 1), "beta": d.number(0.2, 1), "bias": d.number(0.5, 2)}
    d.add(name, x, size=d.integer(1, 6), **{k: v for k, v in more.items() if d.chance()})


@case("LpNormalization")
def lp_normalization(d: Draft, name: str) -> None:
    x = d.take(d.types(name), 1, zero=False)
    d.add(name, x, axis=d.axis(x.rank) if d.chance(0.8) else None, p=d.choose([None, 1, 2]))


@case("MeanVarianceNormalization")
def mean_variance(d: Draft, name: str) -> None:
    x = d.take(d.types(name), 4, 4, zero=False)
    d.add(name, x, axes=sorted(d.subset(range(4), 1)) if d.chance() else None)


@case("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss")
def loss(d: Draft, name: str) -> None:
    kind = d.dtype(d.types(name))
    n, classes, rest = d.integer(1, 4), d.integer(1, 5), d.shape(0, 2, zero=False)
    x = d.tensor((n, classes, *rest), kind)
    target = d.rng.integers(0, classes, (n, *rest)).astype(d.choose(["int64", "int32"]))
    ignore = None
    if d.chance(0.4):
        ignore = d.choose([0, classes - 1, -1, classes + 3])
        target = np.where(d.rng.random(target.shape) < 0.3, ignore, target).astype(target.dtype)
    weight = None
    if d.chance(0.4):
        weight = d.feed(np.abs(d.array((classes,), kind, plain=True)) + np.dtype(kind).type(0.25))
    outputs = d.integer(1, 2) if name[0] == "S" else 1
    d.add(
        name,
        x,
        d.feed(target),
        weight,
        outputs=outputs,
        reduction=d.choose([None, "none", "sum", "mean"]),
        ignore_index=ignore,
    )


@case("Bernoulli")
def bernoulli(d: Draft, name: str) -> None:
    """Certain outcomes only: the random ones differ by right."""
    x = d.feed(d.rng.integers(0, 2, d.shape()).astype(d.dtype(d.types(name))))
    kind = element_number(d.dtype(("float32", "bool", "int64"))) if d.chance() else None
    d.add(name, x, dtype=kind)
