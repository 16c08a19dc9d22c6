"""Cases of resampling: Resize in every mode, Upsample, GridSample, AffineGrid."""

from __future__ import annotations

import math

import numpy as np

from tests.extra.fuzz_models.draft import LARGEST, Draft, Unfit
from tests.extra.fuzz_models.table import case


@case("Resize", since=11)
def resize(d: Draft, name: str) -> None:
    mode = d.choose(["nearest", "linear", "cubic"])
    rank = d.choose([1, 2, 3, 4, 4, 4, 5]) if mode != "cubic" else d.choose([2, 4])
    kind = d.dtype(t for t in d.types(name) if t in ("float32", "float64", "uint8", "int32"))
    if mode == "cubic" or (mode == "linear" and kind not in ("float32", "float64")):
        kind = "float32"
    resized = d.subset(range(rank), 1) if d.chance() else list(range(max(rank - 2, 0), rank))
    if mode == "cubic":
        resized = [rank - 2, rank - 1]
    shape = tuple(d.integer(1, 6) if i in resized else d.integer(1, 3) for i in range(rank))
    x = d.tensor(shape, kind, plain=True)
    transforms = ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"]
    transforms += ["tf_crop_and_resize"] if kind == "float32" else []
    if d.opset >= 19:
        transforms.append("half_pixel_symmetric")
    transform = d.choose(transforms)
    more: dict = {"mode": mode, "coordinate_transformation_mode": transform}
    if mode == "nearest":
        more["nearest_mode"] = d.choose(
            [None, "round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]
        )
    if mode == "cubic":
        more["cubic_coeff_a"] = d.choose([None, -0.75, -0.5])
        more["exclude_outside"] = d.choose([None, 0, 1])
    if d.opset >= 18 and mode != "nearest" and transform != "tf_crop_and_resize":
        more["antialias"] = d.choose([None, 0, 1])
    if transform == "tf_crop_and_resize":
        more["extrapolation_value"] = d.choose([None, 0.0, 2.5])
    axes = None
    if d.opset >= 18 and d.chance(0.4):
        axes = sorted(resized)
        more["axes"] = [a - rank if d.chance(0.3) else a for a in axes]
    chosen = axes or list(range(rank))
    region = None
    if transform == "tf_crop_and_resize":
        edges = np.sort(d.rng.uniform(-0.2, 1.2, (len(chosen), 2)), 1)
        untouched = [i for i, axis in enumerate(chosen) if axis not in resized]
        edges[untouched] = 0, 1
        region = d.constant(edges.T.reshape(-1).astype(np.float32))
    elif d.opset < 13:
        region = d.constant(np.zeros(0, np.float32))
    goal = [d.integer(1, 8) if axis in resized else shape[axis] for axis in chosen]
    if math.prod(goal) * math.prod(shape) > LARGEST * 8:
        raise Unfit("too large")
    if d.chance():
        if d.opset >= 18 and d.chance(0.3) and transform != "tf_crop_and_resize":
            more["keep_aspect_ratio_policy"] = d.choose(["stretch", "not_larger", "not_smaller"])
        empty = d.constant(np.zeros(0, np.float32)) if d.opset < 13 else None
        d.add(name, x, region, empty, d.ints(goal), **more)
        return
    factors = [d.choose([0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 1 / 3, 0.6]) for _ in chosen]
    factors = [f if a in resized else 1.0 for f, a in zip(factors, chosen)]
    if any(math.floor(f * shape[a]) < 1 for f, a in zip(factors, chosen)):
        raise Unfit("nothing is left")
    d.add(name, x, region, d.constant(np.array(factors, np.float32)), **more)


@case("Upsample")
def upsample(d: Draft, name: str) -> None:
    x = d.take(("float32",), 4, 4, zero=False)
    factors = [1.0, 1.0, d.choose([1.0, 1.5, 2.0, 3.0]), d.choose([1.0, 2.0, 2.5])]
    mode = d.choose([None, "nearest", "linear"])
    if math.prod(x.shape) * math.prod(factors) > LARGEST:
        raise Unfit("too large")
    if d.opset > 9:
        raise Unfit("replaced by Resize")
    if d.has(name, "scales"):
        d.add(name, x, scales=factors, mode=mode)
    else:
        d.add(name, x, d.constant(np.array(factors, np.float32)), mode=mode)


@case("GridSample")
def grid_sample(d: Draft, name: str) -> None:
    axes = d.choose([2, 2, 3]) if d.opset >= 20 else 2
    words = ["linear", "nearest", "cubic"] if d.opset >= 20 else ["bilinear", "nearest", "bicubic"]
    mode = d.choose([None, *(words if axes == 2 else words[:2])])
    n, channels = d.integer(1, 2), d.integer(1, 2)
    kind = d.dtype(t for t in d.types(name) if t in ("float32", "float64"))
    x = d.tensor((n, channels, *(d.integer(1, 5) for _ in range(axes))), kind, plain=True)
    out = [d.integer(1, 4) for _ in range(axes)]
    grid = d.rng.uniform(-1.4, 1.4, (n, *out, axes)).astype(kind)
    d.add(
        name,
        x,
        d.feed(grid),
        mode=mode,
        padding_mode=d.choose([None, "zeros", "border", "reflection"]),
        align_corners=d.choose([None, 0, 1]),
    )


@case("AffineGrid")
def affine_grid(d: Draft, name: str) -> None:
    axes, n = d.choose([2, 3]), d.integer(1, 2)
    theta = d.tensor((n, axes, axes + 1), "float32", plain=True)
    size = d.ints([n, d.integer(1, 3), *(d.integer(1, 4) for _ in range(axes))])
    d.add(name, theta, size, align_corners=d.choose([None, 0, 1]))
