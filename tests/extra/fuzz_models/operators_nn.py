"""Cases of layers with windows: convolutions and pools in every form of padding."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tests.extra.fuzz_models.draft import Draft, Tensor, Unfit
from tests.extra.fuzz_models.operators_matrix import zero_points
from tests.extra.fuzz_models.table import case


@dataclass(frozen=True)
class Window:
    """A kernel on a few axes; `attributes` as ONNX names them."""

    image: tuple[int, ...]
    kernel: tuple[int, ...]
    attributes: dict


def window(d: Draft, dilates: bool = True, automatic: bool = True, axes: int = 0) -> Window:
    """Any window that fits its image: at least one position, padding smaller than the kernel."""
    axes = axes or d.choose([1, 2, 2, 2, 3])
    most = {1: 12, 2: 8, 3: 5}[axes]
    kernel = tuple(d.integer(1, 3) for _ in range(axes))
    stride = [d.choose([1, 1, 2, 3]) for _ in range(axes)]
    dilation = [d.choose([1, 1, 2]) if dilates else 1 for _ in range(axes)]
    reach = [(k - 1) * s + 1 for k, s in zip(kernel, dilation)]
    image = tuple(d.integer(r, r + most) for r in reach)
    attributes: dict = {}
    if any(s > 1 for s in stride) or d.chance():
        attributes["strides"] = stride
    if dilates and (any(s > 1 for s in dilation) or d.chance(0.3)):
        attributes["dilations"] = dilation
    padding = d.choose(["none", "pads", "pads", "auto"]) if automatic else "pads"
    if padding == "auto":
        attributes["auto_pad"] = d.choose(["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"])
        if any(s > 1 for s in dilation) and attributes["auto_pad"][:4] == "SAME":
            attributes["auto_pad"] = "VALID"
    elif padding == "pads":
        attributes["pads"] = [d.integer(0, kernel[i % axes] - 1) for i in range(2 * axes)]
    return Window(image, kernel, attributes)


@case("Conv")
def conv(d: Draft, name: str) -> None:
    w = window(d)
    groups, inner, outer = d.choose([1, 1, 2, 3]), d.integer(1, 4), d.integer(1, 4)
    kind = d.dtype(d.types(name))
    x = d.tensor((d.integer(1, 3), groups * inner, *w.image), kind)
    weights = d.tensor((groups * outer, inner, *w.kernel), kind)
    bias = d.tensor((groups * outer,), kind) if d.chance() else None
    d.add(
        name,
        x,
        weights,
        bias,
        kernel_shape=w.kernel if d.chance() else None,
        group=groups if groups > 1 or d.chance() else None,
        **w.attributes,
    )


@case("ConvInteger")
def conv_integer(d: Draft, name: str) -> None:
    w = window(d)
    groups, inner, outer = d.choose([1, 1, 2]), d.integer(1, 3), d.integer(1, 3)
    x = d.tensor((d.integer(1, 2), groups * inner, *w.image), d.choose(["uint8", "int8"]))
    weights = d.tensor((groups * outer, inner, *w.kernel), d.choose(["uint8", "int8"]))
    zeros = zero_points(d, x, weights)
    zeros = [z if z is None or z.rank == 0 else None for z in zeros]
    d.add(name, x, weights, *zeros, group=groups, **w.attributes)


@case("ConvTranspose")
def conv_transpose(d: Draft, name: str) -> None:
    axes = d.choose([1, 2, 2, 3])
    kernel = [d.integer(1, 3) for _ in range(axes)]
    stride = [d.integer(1, 3) for _ in range(axes)]
    dilation = [d.choose([1, 1, 2]) for _ in range(axes)]
    image = [d.integer(1, 5) for _ in range(axes)]
    extra = [d.integer(0, max(s, g) - 1) for s, g in zip(stride, dilation)]
    more: dict = {"strides": stride, "dilations": dilation}
    if d.chance(0.4):
        more["output_padding"] = extra
    match d.choose(["none", "pads", "auto", "shape"]):
        case "pads":
            more["pads"] = [d.integer(0, kernel[i % axes] - 1) for i in range(2 * axes)]
        case "auto":
            more["auto_pad"] = d.choose(["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"])
        case "shape":
            more["output_shape"] = [
                (n - 1) * s + (k - 1) * g + 1 - d.integer(0, k - 1)
                for n, s, k, g in zip(image, stride, kernel, dilation)
            ]
            more.pop("output_padding", None)
    groups, inner, outer = d.choose([1, 1, 2]), d.integer(1, 3), d.integer(1, 3)
    kind = d.dtype(d.types(name))
    x = d.tensor((d.integer(1, 2), groups * inner, *image), kind, plain=True)
    weights = d.tensor((groups * inner, outer, *kernel), kind, plain=True)
    bias = d.tensor((groups * outer,), kind) if d.chance() else None
    d.add(name, x, weights, bias, group=groups, **more)


@case("DeformConv")
def deform_conv(d: Draft, name: str) -> None:
    w = window(d, automatic=False, axes=2)
    groups, inner, outer, offsets = d.choose([1, 1, 2]), d.integer(1, 2), d.integer(1, 2), 1
    channels = groups * inner
    if d.chance(0.3):
        offsets = d.choose([n for n in range(1, channels + 1) if channels % n == 0])
    kind = d.dtype(t for t in d.types(name) if t in ("float32", "float64"))
    a = w.attributes
    stride, dilation = a.get("strides", (1, 1)), a.get("dilations", (1, 1))
    out = [
        (w.image[i] + a["pads"][i] + a["pads"][2 + i] - (w.kernel[i] - 1) * dilation[i] - 1)
        // stride[i]
        + 1
        for i in range(2)
    ]
    n, taps = d.integer(1, 2), math.prod(w.kernel)
    x = d.tensor((n, channels, *w.image), kind, plain=True)
    weights = d.tensor((groups * outer, inner, *w.kernel), kind, plain=True)
    moved = d.tensor((n, offsets * taps * 2, *out), kind, plain=True)
    bias = d.tensor((groups * outer,), kind) if d.chance() else None
    mask = d.tensor((n, offsets * taps, *out), kind) if d.chance() else None
    d.add(name, x, weights, moved, bias, mask, group=groups, offset_group=offsets, **a)


def pooled(d: Draft, name: str, dilates: bool) -> tuple[Tensor, dict]:
    """An image and the attributes of a pool over it."""
    w = window(d, dilates)
    more = dict(w.attributes)
    if d.has(name, "ceil_mode") and d.chance(0.5):
        more["ceil_mode"] = d.integer(0, 1)
    kind = d.dtype(d.types(name))
    x = d.tensor((d.integer(1, 2), d.integer(1, 3), *w.image), kind)
    return x, {"kernel_shape": w.kernel, **more}


@case("MaxPool")
def max_pool(d: Draft, name: str) -> None:
    x, more = pooled(d, name, d.has(name, "dilations"))
    outputs = d.integer(1, 2) if d.opset >= 8 else 1
    if outputs == 2:
        x = d.feed(distinct(d, x))  # which of several equal ones is meant is not defined
        if d.chance(0.3):
            more["storage_order"] = 1
    d.add(name, x, outputs=outputs, **more)


def distinct(d: Draft, x: Tensor) -> np.ndarray:
    """As many different numbers of the same type and shape, as far as the type has them."""
    count = x.array.size
    if x.dtype in ("int8", "uint8", "float16") and count > 120:
        raise Unfit("too many for the type")
    return d.rng.permutation(count).reshape(x.shape).astype(x.array.dtype)


@case("AveragePool")
def average_pool(d: Draft, name: str) -> None:
    x, more = pooled(d, name, d.has(name, "dilations"))
    if d.has(name, "count_include_pad") and d.chance():
        more["count_include_pad"] = d.integer(0, 1)
    d.add(name, x, **more)


@case("LpPool")
def lp_pool(d: Draft, name: str) -> None:
    x, more = pooled(d, name, d.has(name, "dilations"))
    d.add(name, x, p=d.choose([None, 1, 2, 3]), **more)


@case("GlobalAveragePool", "GlobalMaxPool")
def global_pool(d: Draft, name: str) -> None:
    d.add(name, d.take(d.types(name), 3, zero=False))


@case("GlobalLpPool")
def global_lp_pool(d: Draft, name: str) -> None:
    d.add(name, d.take(d.types(name), 3, zero=False), p=d.choose([None, 1, 2, 3]))


@case("MaxUnpool")
def max_unpool(d: Draft, name: str) -> None:
    n, channels, height, width = d.integer(1, 2), d.integer(1, 2), d.integer(1, 3), d.integer(1, 3)
    shape, full = (n, channels, height, width), (n, channels, 2 * height, 2 * width)
    places = d.rng.permutation(math.prod(full))[: math.prod(shape)].reshape(shape)
    x = d.tensor(shape, d.dtype(t for t in d.types(name) if t != "float16"))
    more = {"kernel_shape": [2, 2], "strides": [2, 2]}
    given = d.ints(full) if d.chance(0.3) else None
    d.add(name, x, d.feed(places.astype(np.int64)), given, **more)


@case("MaxRoiPool")
def max_roi_pool(d: Draft, name: str) -> None:
    n, size = d.integer(1, 2), d.integer(4, 9)
    x = d.tensor((n, d.integer(1, 2), size, size), "float32")
    d.add(
        name,
        x,
        d.feed(regions(d, n, size, True)),
        pooled_shape=[d.integer(1, 3), d.integer(1, 3)],
        spatial_scale=d.choose([None, 1.0, 0.5]),
    )


def regions(d: Draft, images: int, size: int, numbered: bool) -> np.ndarray:
    """Boxes inside an image; numbered: each row begins with the number of its image."""
    count = d.integer(1, 3)
    low = d.rng.integers(0, size - 1, (count, 2))
    high = np.minimum(low + d.rng.integers(1, size, (count, 2)), size - 1)
    boxes = np.concatenate([low, high], 1).astype(np.float32)
    if not numbered:
        return boxes
    return np.concatenate([d.rng.integers(0, images, (count, 1)), boxes], 1).astype(np.float32)


@case("RoiAlign")
def roi_align(d: Draft, name: str) -> None:
    n, size = d.integer(1, 2), d.integer(4, 9)
    kind = d.dtype(t for t in d.types(name) if t != "float16")
    x = d.tensor((n, d.integer(1, 2), size, size), kind, plain=True)
    boxes = regions(d, n, size, False).astype(kind)
    if d.chance(0.3):
        boxes = (boxes + d.rng.uniform(-1, 1, boxes.shape)).astype(kind)
    which = d.feed(d.rng.integers(0, n, len(boxes)).astype(np.int64))
    transform = None
    if d.has(name, "coordinate_transformation_mode"):
        transform = d.choose([None, "half_pixel", "output_half_pixel"])
    d.add(
        name,
        x,
        d.feed(boxes),
        which,
        mode=d.choose([None, "avg", "max"]),
        output_height=d.integer(1, 3),
        output_width=d.integer(1, 3),
        sampling_ratio=d.choose([None, 0, 1, 2]),
        spatial_scale=d.choose([None, 1.0, 0.5]),
        coordinate_transformation_mode=transform,
    )
