"""Cases that move, join and cut: nothing is computed but addresses."""

from __future__ import annotations

import math

import numpy as np

from tests.extra.fuzz_models.draft import ANY, LARGEST, Draft, Tensor, Unfit, element_number
from tests.extra.fuzz_models.table import case


@case("Transpose")
def transpose(d: Draft, name: str) -> None:
    x = d.take(d.types(name))
    perm = [int(i) for i in d.rng.permutation(x.rank)]
    d.add(name, x, perm=perm if d.chance(0.8) and perm else None)


@case("Reshape")
def reshape(d: Draft, name: str) -> None:
    x = d.take(d.types(name))
    target = other_shape(d, x.shape)
    literal = 0 in target and d.opset >= 14
    if target and math.prod(target) and d.chance(0.4):
        target[d.integer(0, len(target) - 1)] = -1
    if not literal and d.chance(0.3):
        for i in range(min(len(target), x.rank)):
            if target[i] == x.shape[i]:
                target[i] = 0
    if target.count(-1) and 0 in x.shape:
        target = list(x.shape)
    d.add(name, x, d.ints(target), allowzero=1 if literal else None)


def other_shape(d: Draft, shape: tuple[int, ...]) -> list[int]:
    """Another shape of as many elements: axes merged, split and added."""
    sizes = list(shape)
    for _ in range(d.integer(1, 3)):
        kind, at = d.choose(["merge", "split", "one"]), d.integer(0, max(len(sizes) - 1, 0))
        if kind == "merge" and at + 1 < len(sizes):
            sizes[at : at + 2] = [sizes[at] * sizes[at + 1]]
        elif kind == "split" and sizes and sizes[at]:
            factor = d.choose([f for f in range(1, 6) if sizes[at] % f == 0])
            sizes[at : at + 1] = [factor, sizes[at] // factor]
        elif kind == "one":
            sizes.insert(at, 1)
    return sizes if len(sizes) <= 6 else list(shape)


@case("Flatten")
def flatten(d: Draft, name: str) -> None:
    x = d.take(d.types(name), low=1)
    low = -x.rank if d.opset >= 11 else 0
    d.add(name, x, axis=d.integer(low, x.rank) if d.chance(0.8) else None)


@case("Squeeze")
def squeeze(d: Draft, name: str) -> None:
    x = d.take(d.types(name), fits=lambda t: 1 in t.shape)
    ones = [i for i, n in enumerate(x.shape) if n == 1]
    axes = d.subset(ones, 1)
    if d.opset >= 11:
        axes = [a - x.rank if d.chance(0.3) else a for a in axes]
    if d.chance(0.2):
        d.add(name, x)
    elif d.has(name, "axes"):
        d.add(name, x, axes=sorted(axes))
    else:
        d.add(name, x, d.ints(axes))


@case("Unsqueeze")
def unsqueeze(d: Draft, name: str) -> None:
    x = d.take(d.types(name), high=4)
    count = d.integer(1, 2)
    axes = d.subset(range(x.rank + count))[:count] or [0]
    rank = x.rank + len(axes)
    if d.has(name, "axes"):
        negative = d.opset >= 11 and d.chance(0.3)
        d.add(name, x, axes=sorted(a - rank if negative else a for a in axes))
    else:
        d.add(name, x, d.ints(a - rank if d.chance(0.3) else a for a in axes))


@case("Concat")
def concat(d: Draft, name: str) -> None:
    x = d.take(d.types(name), low=1)
    axis = d.integer(0, x.rank - 1)
    values = [x]
    for _ in range(d.integer(0, 3)):
        shape = [d.size() if i == axis else n for i, n in enumerate(x.shape)]
        values.append(d.tensor(shape, x.dtype))
    d.add(name, *values, axis=axis - x.rank if d.opset >= 11 and d.chance(0.3) else axis)


@case("Split")
def split(d: Draft, name: str) -> None:
    x = d.take(d.types(name), low=1)
    axis = d.integer(0, x.rank - 1)
    n = x.shape[axis]
    count = d.integer(1, 4)
    cuts = sorted(d.integer(0, n) for _ in range(count - 1))
    sizes = [b - a for a, b in zip([0, *cuts], [*cuts, n])]
    given = axis - x.rank if d.opset >= 11 and d.chance(0.3) else axis
    if d.has(name, "split"):
        d.add(name, x, outputs=count, axis=given, split=sizes)
    elif d.has(name, "num_outputs") and d.chance(0.5):
        d.add(name, x, outputs=count, axis=given, num_outputs=count)
    else:
        d.add(name, x, d.ints(sizes), outputs=count, axis=given)


@case("Slice")
def slice_(d: Draft, name: str) -> None:
    x = d.take(d.types(name), low=1)
    axes = d.subset(range(x.rank), 1)
    far = 2**31 - 1 if d.chance() else 2**63 - 1
    starts, ends, steps = [], [], []
    for axis in axes:
        n = x.shape[axis]
        starts.append(d.choose([0, d.integer(-n - 2, n + 2), far, -far]))
        ends.append(d.choose([n, d.integer(-n - 2, n + 2), d.integer(-n, n), far, -far]))
        steps.append(d.choose([1, 1, 2, 3, -1, -2, 7]))
    if d.has(name, "starts"):
        d.add(name, x, starts=starts, ends=ends, axes=axes)
        return
    kind = "int64" if far > 2**31 or d.chance(0.7) else "int32"
    named = [a - x.rank if d.chance(0.3) else a for a in axes]
    shown: Tensor | None = d.ints(named, kind)
    if axes == list(range(len(axes))) and d.chance():
        shown = None
    step = d.ints(steps, kind) if d.chance(0.7) else None
    d.add(name, x, d.ints(starts, kind), d.ints(ends, kind), shown, step)


@case("Pad")
def pad(d: Draft, name: str) -> None:
    x = d.take(d.types(name), low=1, high=4)
    modes = ["constant", "constant", "edge", "reflect"] + (["wrap"] if d.opset >= 19 else [])
    mode = d.choose(modes)
    axes = list(range(x.rank))
    if d.opset >= 18 and d.chance(0.3):
        axes = d.subset(axes, 1)
    low, high = [], []
    for axis in axes:
        n = x.shape[axis]
        most = {"constant": 4, "edge": 4 if n else 0, "wrap": 2 * n}.get(mode, max(n - 1, 0))
        least = -(n // 2) if d.chance(0.3) else 0
        low.append(d.integer(least, max(most, least)))
        high.append(d.integer(least, max(most, least)))
    value = d.array((), x.dtype, plain=True)
    if 0 in x.shape and mode != "constant":
        raise Unfit("an empty axis has no edge")
    shown = None if mode == "constant" and d.chance() else mode
    if d.has(name, "pads"):
        filled = float(value) if d.chance() else None
        d.add(name, x, pads=low + high, mode=shown, value=filled)
        return
    fill = d.constant(value) if d.chance(0.6) else None
    named = None
    if d.opset >= 18 and (axes != list(range(x.rank)) or d.chance(0.2)):
        named = d.ints(a - x.rank if d.chance(0.3) else a for a in axes)
    d.add(name, x, d.ints(low + high), fill, named, mode=shown)


@case("Tile")
def tile(d: Draft, name: str) -> None:
    x = d.take(d.types(name), low=1)
    repeats = [d.choose([1, 1, 2, 3, 0]) if d.chance(0.9) else 4 for _ in x.shape]
    if math.prod(repeats) * math.prod(x.shape) > LARGEST:
        raise Unfit("too large")
    d.add(name, x, d.ints(repeats))


@case("Expand")
def expand(d: Draft, name: str) -> None:
    x = d.take(d.types(name))
    shape = [d.size() if n == 1 and d.chance() else n for n in x.shape]
    shape = [1 if d.chance(0.2) else n for n in shape]
    shape = shape[d.integer(0, len(shape)) :] if d.chance(0.2) else shape
    if d.chance(0.3):
        shape = [d.integer(1, 3), *shape]
    try:
        full = np.broadcast_shapes(tuple(shape), x.shape)
    except ValueError:
        raise Unfit("the shapes do not fit") from None
    if math.prod(full) > LARGEST:
        raise Unfit("too large")
    d.add(name, x, d.ints(shape))


@case("DepthToSpace")
def depth_to_space(d: Draft, name: str) -> None:
    b = d.integer(1, 3)
    shape = (d.size(), d.integer(1, 3) * b * b, d.integer(1, 4), d.integer(1, 4))
    x = d.tensor(shape, d.dtype(d.types(name)))
    mode = d.choose([None, "DCR", "CRD"]) if d.has(name, "mode") else None
    d.add(name, x, blocksize=b, mode=mode)


@case("SpaceToDepth")
def space_to_depth(d: Draft, name: str) -> None:
    b = d.integer(1, 3)
    shape = (d.size(), d.integer(1, 3), d.integer(1, 4) * b, d.integer(1, 4) * b)
    d.add(name, d.tensor(shape, d.dtype(d.types(name))), blocksize=b)


@case("Shape")
def shape(d: Draft, name: str) -> None:
    x = d.take(ANY)
    if not d.has(name, "start"):
        d.add(name, x)
        return
    start = d.integer(-x.rank - 1, x.rank + 1) if d.chance() else None
    end = d.integer(-x.rank - 1, x.rank + 1) if d.chance() else None
    d.add(name, x, start=start, end=end)


@case("Size")
def size(d: Draft, name: str) -> None:
    d.add(name, d.take(ANY))


@case("ConstantOfShape")
def constant_of_shape(d: Draft, name: str) -> None:
    from onnx import numpy_helper

    kind = d.dtype(ANY)
    value = numpy_helper.from_array(d.array((1,), kind)) if d.chance(0.7) else None
    d.add(name, d.ints(d.shape(0, 4)), value=value)


@case("Range")
def range_(d: Draft, name: str) -> None:
    kind = d.dtype(d.types(name))
    step = d.choose([1, 2, 3, -1, -2])
    start = d.integer(-5, 5)
    limit = start + step * d.integer(-1, 9) + d.integer(0, 1)
    scale = 0.5 if kind[0] == "f" and d.chance() else 1
    d.add(name, *(d.scalar(v * scale, kind) for v in (start, limit, step)))


@case("EyeLike")
def eye_like(d: Draft, name: str) -> None:
    x = d.take(d.types(name), 2, 2)
    kind = element_number(d.dtype(d.types(name))) if d.chance() else None
    d.add(name, x, k=d.integer(-4, 4) if d.chance() else None, dtype=kind)


@case("Trilu")
def trilu(d: Draft, name: str) -> None:
    x = d.take(d.types(name), 2)
    k = d.scalar(d.integer(-4, 4), "int64") if d.chance(0.7) else None
    d.add(name, x, k, upper=d.choose([None, 0, 1]))


@case("CenterCropPad")
def center_crop_pad(d: Draft, name: str) -> None:
    x = d.take(d.types(name), 1, 4)
    axes = d.subset(range(x.rank), 1) if d.chance() else list(range(x.rank))
    shown = None
    if axes != list(range(x.rank)) or d.chance(0.3):
        shown = [a - x.rank if d.chance(0.3) else a for a in axes]
    d.add(name, x, d.ints(d.integer(1, 6) for _ in axes), axes=shown)


@case("ReverseSequence")
def reverse_sequence(d: Draft, name: str) -> None:
    x = d.take(d.types(name), 2, zero=False)
    batch = d.choose([0, 1])
    length = d.ints(d.integer(1, x.shape[1 - batch]) for _ in range(x.shape[batch]))
    if batch == 1 and d.chance():
        d.add(name, x, length)
    else:
        d.add(name, x, length, batch_axis=batch, time_axis=1 - batch)


@case("Col2Im")
def col2im(d: Draft, name: str) -> None:
    axes = d.integer(1, 3)
    kernel = [d.integer(1, 3) for _ in range(axes)]
    stride = [d.integer(1, 2) for _ in range(axes)]
    dilation = [d.integer(1, 2) for _ in range(axes)]
    pads = [d.integer(0, 1) for _ in range(2 * axes)]
    blocks = [d.integer(1, 3) for _ in range(axes)]
    image = [
        (blocks[i] - 1) * stride[i] + (kernel[i] - 1) * dilation[i] + 1 - pads[i] - pads[axes + i]
        for i in range(axes)
    ]
    if min(image) < 1:
        raise Unfit("no image")
    rows = d.integer(1, 3) * math.prod(kernel)
    x = d.tensor((d.size(), rows, math.prod(blocks)), d.dtype(d.types(name)))
    plain = d.chance(0.2) and stride == dilation == [1] * axes and not any(pads)
    more = {} if plain else {"strides": stride, "dilations": dilation, "pads": pads}
    d.add(name, x, d.ints(image), d.ints(kernel), **more)
