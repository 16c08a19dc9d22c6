"""Custom operators with FlexBuffer or struct options: SSD's end, spectrograms, pooling with places.

LiteRT answers for those that its resolver has; TensorFlow's perception operators and MediaPipe's
twins of them are compared with their definitions, written here as loops.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from flatbuffers import flexbuffers

from tests.extra.tflite_cases.case import Case, Made, values
from tests.tflite_models import Feed, Graph, Op, Quantization, Tensor, complete, constant, write

SAME, VALID = 1, 2  # TfLitePadding
Q = Quantization(0.05, 100)


def cases() -> Iterator[Case]:
    yield from _detections()
    yield from _speech()
    yield from _rotations()
    yield from _debugged()
    yield from _pools()
    yield from _warps()


def made(
    name: str,
    options: Mapping[str, Any] | bytes,
    tensors: list[Tensor],
    results: list[Tensor],
    feed: Feed,
    expected: Callable[[Feed], Feed] | None = None,
    label: str = "",
) -> Case:
    """A case of one custom operator. Shapes of results that are None are LiteRT's."""
    raw = options if isinstance(options, bytes) else bytes(flexbuffers.Dumps(dict(options)))
    inputs, outputs = (" ".join(t.name for t in part) for part in (tensors, results))
    ports = " ".join(t.name for t in tensors if t.data is None)

    def make() -> Made:
        step = Op("CUSTOM", inputs, outputs, {}, 1, name, raw)
        graph = Graph([*tensors, *results], [step], ports, outputs)
        return Made(write(graph if expected else complete(graph, feed)), [feed])

    return Case("CUSTOM", f"{name} {label}", make, expected=expected)


# ------------------------------------------------------------------ detectors


def _detections() -> Iterator[Case]:
    count, kinds = 24, 4
    rng = np.random.default_rng(7)
    centres = rng.uniform(0.1, 0.9, (count, 2))
    anchors = np.concatenate([centres, rng.uniform(0.1, 0.4, (count, 2))], 1).astype(np.float32)
    for regular, most, per_box, iou, background in (
        (True, 10, 1, 0.5, 1), (True, 6, 1, 0.2, 0), (False, 5, 1, 0.6, 1), (False, 3, 2, 0.9, 1),
    ):  # fmt: skip
        options = {
            "max_detections": most,
            "max_classes_per_detection": per_box,
            "detections_per_class": 5,
            "use_regular_nms": regular,
            "nms_score_threshold": 0.1,
            "nms_iou_threshold": iou,
            "num_classes": kinds,
            "y_scale": 10.0, "x_scale": 10.0, "h_scale": 5.0, "w_scale": 5.0,
        }  # fmt: skip
        label = f"{'each class' if regular else 'all classes'} {most} {per_box} {iou}"
        results = [Tensor(f"y{i}", "float32") for i in range(4)]
        boxes = values(label, "float32", (1, count, 4))
        shape = (1, count, kinds + background)
        scores = values(label + " scores", "float32", shape, 0.15, 1)
        tensors = [
            Tensor("boxes", "float32", boxes.shape),
            Tensor("scores", "float32", shape),
            constant("anchors", anchors),
        ]
        feed = {"boxes": boxes, "scores": scores}
        yield made("TFLite_Detection_PostProcess", options, tensors, results, feed, None, label)
    whole = values("bytes", "uint8", (1, count, 4), 60, 140)
    sure = rng.permutation(count * 5).astype(np.uint8).reshape(1, count, 5) * 2 + 10
    byte_anchors = np.clip(anchors * 200, 0, 255).astype(np.uint8)
    tensors = [
        Tensor("boxes", "uint8", whole.shape, quantization=Q),
        Tensor("scores", "uint8", sure.shape, quantization=Quantization(1 / 256, 0)),
        constant("anchors", byte_anchors, quantization=Quantization(0.005, 0)),
    ]
    results = [Tensor(f"y{i}", "float32") for i in range(4)]
    options = {**options, "use_regular_nms": True, "max_detections": 8}
    options["max_classes_per_detection"] = 1
    feed = {"boxes": whole, "scores": sure}
    yield made("TFLite_Detection_PostProcess", options, tensors, results, feed, None, "uint8")


# ------------------------------------------------------------------ speech, rotations


def _speech() -> Iterator[Case]:
    sound = values("sound", "float32", (700, 2), -1, 1)
    for size, stride, squared in ((100, 50, True), (256, 128, False), (640, 30, True)):
        options = {"window_size": size, "stride": stride, "magnitude_squared": squared}
        tensors, results = [Tensor("x", "float32", sound.shape)], [Tensor("y", "float32")]
        feed = {"x": sound}
        yield made("AudioSpectrogram", options, tensors, results, feed, None, f"{size} {stride}")
    power = values("power", "float32", (2, 3, 129), 0.1, 30)
    for low, high, bands, count in ((20, 4000, 40, 13), (300, 3000, 10, 10)):
        options = {
            "upper_frequency_limit": high, "lower_frequency_limit": low,
            "filterbank_channel_count": bands, "dct_coefficient_count": count,
        }  # fmt: skip
        tensors = [Tensor("x", "float32", power.shape), constant("rate", np.array([16000], "i4"))]
        results = [Tensor("y", "float32")]
        yield made("Mfcc", options, tensors, results, {"x": power}, None, f"{low} to {high}")


def _rotations() -> Iterator[Case]:
    for size, shape in ((4, (3, 8)), (128, (2, 3, 256))):
        options = {"hadamard_size": size, "random_binary_vector": [1, -1, 1]}
        tensors = [Tensor("x", "float32", shape)]
        results = [Tensor("y", "float32", shape)]
        feed = {"x": values(f"rotation {size}", "float32", shape)}
        yield made("aeq.hadamard_rotation", options, tensors, results, feed, None, str(size))


def _debugged() -> Iterator[Case]:
    exact = values("verified", "float32", (3, 4), -4, 4)
    stored = np.clip(np.rint(exact / 0.05) + 3, -128, 127).astype(np.int8)
    tensors = [
        Tensor("x", "int8", stored.shape, quantization=Quantization(0.05, 3)),
        Tensor("ref", "float32", exact.shape),
    ]
    options = {"tolerance": 5.0, "log_if_failed": True}
    feed = {"x": stored, "ref": exact}
    yield made("NumericVerify", options, tensors, [Tensor("y", "float32")], feed)


# ------------------------------------------------------------------ pooling with places


def _geometry(padding: int, sizes: Any, kernel: Any, stride: Any) -> tuple[list[int], list[int]]:
    """Of each axis: how many windows, and where the first begins."""
    if padding == VALID:
        return [(n - k) // s + 1 for n, k, s in zip(sizes, kernel, stride)], [0, 0]
    counts = [-(-n // s) for n, s in zip(sizes, stride)]
    spare = [max((c - 1) * s + k - n, 0) for c, s, k, n in zip(counts, stride, kernel, sizes)]
    return counts, [-(n // 2) for n in spare]


def pooled(x: np.ndarray, padding: int, kernel: Any, stride: Any, in_window: bool) -> Feed:
    """Maxima and their places, window by window."""
    batch, height, width, channels = x.shape
    counts, begins = _geometry(padding, (height, width), kernel, stride)
    top = np.zeros((batch, *counts, channels), np.float32)
    place = np.zeros(top.shape, np.float32 if in_window else np.int32)
    for n, i, j, c in np.ndindex(top.shape):
        best = -np.inf
        for dy, dx in np.ndindex(*kernel):
            row, column = begins[0] + i * stride[0] + dy, begins[1] + j * stride[1] + dx
            if 0 <= row < height and 0 <= column < width and x[n, row, column, c] > best:
                best = x[n, row, column, c]
                in_picture = (row * width + column) * channels + c
                place[n, i, j, c] = dy * kernel[1] + dx + 0.1 if in_window else in_picture
        top[n, i, j, c] = best
    return {"y": top, "place": place}


def unpooled(
    x: np.ndarray, place: np.ndarray, padding: int, kernel: Any, stride: Any, in_window: bool
) -> Feed:
    """Zeros, and each element where its place says."""
    batch, height, width, channels = x.shape
    small = (height, width)
    if in_window:
        sizes = [n * k for n, k in zip(small, kernel)]
    elif padding == SAME:
        sizes = [n * s for n, s in zip(small, stride)]
    else:
        sizes = [(n - 1) * s + k for n, s, k in zip(small, stride, kernel)]
    spare = [max((n - 1) * s + k - m, 0) for n, s, k, m in zip(small, stride, kernel, sizes)]
    y = np.zeros((batch, *sizes, channels), np.float32)
    for n, i, j, c in np.ndindex(x.shape):
        if in_window:
            dy, dx = divmod(int(place[n, i, j, c]), kernel[1])
            row, column = i * stride[0] - spare[0] // 2 + dy, j * stride[1] - spare[1] // 2 + dx
            if 0 <= row < sizes[0] and 0 <= column < sizes[1]:
                y[n, row, column, c] = x[n, i, j, c]
        else:
            y[n].reshape(-1)[place[n, i, j, c]] = x[n, i, j, c]
    return {"y": y}


def _pools() -> Iterator[Case]:
    for padding, size, kernel, stride in (
        (SAME, (5, 7), (2, 2), (2, 2)),
        (VALID, (6, 6), (3, 2), (2, 1)),
        (SAME, (4, 6), (2, 3), (2, 3)),
    ):
        for ours in (True, False):
            word = "SAME" if padding == SAME else "VALID"
            label = f"{'MediaPipe' if ours else 'TensorFlow'} {word} {size} {kernel}"
            raw = struct.pack("<10i", padding, *stride[::-1], *kernel[::-1], 0, 0, 0, 0, 0)
            named = {
                "padding": word, "ksize": [1, *kernel, 1], "strides": [1, *stride, 1],
                "include_batch_in_index": False,
            }  # fmt: skip
            x = values(label, "float32", (2, *size, 3))

            def pool(feed: Feed, padding=padding, kernel=kernel, stride=stride, ours=ours) -> Feed:
                return pooled(feed["x"], padding, kernel, stride, ours)

            found = pool({"x": x})
            kind = "float32" if ours else "int32"
            results = [
                Tensor("y", "float32", found["y"].shape),
                Tensor("place", kind, found["place"].shape),
            ]
            tensors = [Tensor("x", "float32", x.shape)]
            options = raw if ours else named
            yield made("MaxPoolingWithArgmax2D", options, tensors, results, {"x": x}, pool, label)

            def unpool(
                feed: Feed, padding=padding, kernel=kernel, stride=stride, ours=ours
            ) -> Feed:
                return unpooled(feed["x"], feed["place"], padding, kernel, stride, ours)

            if max(found["y"].shape[1] * stride[0] - size[0], 0) and not ours:
                continue  # places of a picture that is no multiple of the stride do not fit
            feed = {"x": found["y"], "place": found["place"]}
            tensors = [Tensor(n, a.dtype.name, a.shape) for n, a in feed.items()]
            results = [Tensor("y", "float32", unpool(feed)["y"].shape)]
            yield made("MaxUnpooling2D", raw, tensors, results, feed, unpool, label)


def warped(feed: Feed) -> Feed:
    """TensorFlow's dense_image_warp: bilinear, positions held inside the picture."""
    x, flow = feed["x"], feed["flow"]
    batch, height, width, _ = x.shape
    y = np.zeros_like(x)
    for n, i, j in np.ndindex(batch, height, width):
        at = np.float32([i, j]) - flow[n, i, j]
        first = np.clip(np.floor(at), 0, [height - 2, width - 2]).astype(int)
        a, b = np.clip(at - first, 0, 1)
        corner = x[n, first[0] : first[0] + 2, first[1] : first[1] + 2]
        rows = corner[:, 0] + b * (corner[:, 1] - corner[:, 0])
        y[n, i, j] = rows[0] + a * (rows[1] - rows[0])
    return {"y": y}


def _warps() -> Iterator[Case]:
    feed = {
        "x": values("warped", "float32", (2, 5, 6, 3)),
        "flow": values("flow", "float32", (2, 5, 6, 2), -4, 4),
    }
    tensors = [Tensor(name, "float32", array.shape) for name, array in feed.items()]
    results = [Tensor("y", "float32", feed["x"].shape)]
    yield made("DenseImageWarp", b"", tensors, results, feed, warped)


CASES = list(cases())
