"""The box operators of detectors: non-maximum suppression, and what SSD models end with.

They run on the host: which boxes remain depends on all that were chosen before.
"""

from __future__ import annotations

import heapq

import numpy as np

from brim.errors import ModelError
from brim.frontends.bounds import kept
from brim.frontends.tflite.table import Call, operator
from brim.graph import Value, const
from brim.ops.selection import intersection_over_union


@operator("NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5")
def non_max_suppression(call: Call) -> list[Value]:
    """Indices of boxes[n, (y1, x1, y2, x2)], the best first, padded with 0 to a given number.

    V5 is soft (Bodla 2017, arXiv:1704.04503): what overlaps loses score, by a Gaussian of sigma.
    """
    most = call.integer(2)
    soft = call.name.endswith("V5")
    kept(most)
    boxes, scores, _, *rest = call.arrays((most,), *([(most,)] if soft else []), ())
    allowed, least, *others = (np.float32(a.reshape(())) for a in rest)
    sigma = others[0] if soft else np.float32(0)
    if sigma < 0 or boxes.shape != (scores.size, 4):
        raise ModelError(f"{call.name} of {boxes.shape} and {scores.shape} with sigma {sigma}")
    found = _suppressed(boxes, scores, most, (allowed, least, sigma))
    index, left = np.zeros(most, np.int32), np.zeros(most, np.float32)
    for i, (box, score) in enumerate(found):
        index[i], left[i] = box, score
    count = np.array(len(found), np.int32)
    return [const(a) for a in ((index, left, count) if soft else (index, count))]


def _suppressed(
    boxes: np.ndarray, scores: np.ndarray, most: int, limits: tuple[np.float32, ...]
) -> list[tuple[int, np.float32]]:
    """The chosen boxes and their scores. limits: overlap, score, and the sigma of the decay."""
    allowed, least, sigma = limits
    corners = np.concatenate(
        [np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])], 1
    )
    # score falling, then index; how many of the chosen ones the score has been compared with
    queue = [(-scores[i], int(i), 0) for i in np.flatnonzero(scores > least)]
    heapq.heapify(queue)
    chosen: list[tuple[int, np.float32]] = []
    while queue and len(chosen) < most:
        negative, box, seen = heapq.heappop(queue)
        score = first = np.float32(-negative)
        shared = intersection_over_union(corners[box], corners[[i for i, _ in chosen[seen:]]])[::-1]
        hit = bool((shared >= allowed).any())
        if sigma > 0 and not hit:
            for part in shared:
                score = score * np.exp(np.float32(-0.5) / sigma * part * part)
                if score <= least:
                    break
        if hit or score <= least:
            continue
        if score == first:
            chosen.append((box, score))
        else:
            heapq.heappush(queue, (-score, box, len(chosen)))
    return chosen


@operator("TFLite_Detection_PostProcess")
def detection_post_process(call: Call) -> list[Value]:
    """Boxes[1, n, 4], classes[1, n], scores[1, n] and their count, from an SSD's predictions.

    Inputs: box encodings (centre and size relative to anchors), class scores, anchors.
    """
    most, per_box = call.int("max_detections"), call.int("max_classes_per_detection")
    classes, per_class = call.int("num_classes"), call.int("detections_per_class", 100)
    regular = call.flag("use_regular_nms")
    least, allowed = call.float("nms_score_threshold"), call.float("nms_iou_threshold")
    scale = np.array([call.float(f"{name}_scale") for name in "yxhw"], np.float64)
    call.ignore("_output_quantized", "_support_output_type_float_in_quantized_op")
    n = most * per_box
    kept(n)
    encoded, scores, anchors = call.arrays((1, n, 4), (1, n), (1, n), (1,))
    if encoded.shape[0] != 1 or not 0 < classes <= scores.shape[2] or not 0 < allowed <= 1:
        raise ModelError(f"{call.name} of {encoded.shape} and {scores.shape}")
    scores = scores[0, :, scores.shape[2] - classes :]  # without the background
    corners = _decoded(encoded[0, :, :4], anchors, scale)
    if regular:
        found = _regular(corners, scores, (most, min(per_class, most)), (least, allowed))
        count = len(found)
    else:
        chosen = _greedy(corners, scores.max(1), most, (least, allowed))
        order = np.argsort(-scores, axis=1, kind="stable")
        found = [(box, int(order[box, i])) for box in chosen for i in range(min(per_box, classes))]
        count = len(chosen)
    boxes, kinds, values = np.zeros((1, n, 4)), np.zeros((1, n)), np.zeros((1, n))
    for i, (box, kind) in enumerate(found):
        boxes[0, i], kinds[0, i], values[0, i] = corners[box], kind, scores[box, kind]
    results = (boxes, kinds, values, np.array([count]))
    return [const(array.astype(np.float32)) for array in results]


def _decoded(encoded: np.ndarray, anchors: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Corners (y1, x1, y2, x2) f32 of boxes that are encoded relative to anchors."""
    numbers, anchor = encoded.astype(np.float64) / scale, anchors.astype(np.float64)
    centre = (numbers[:, :2] * anchor[:, 2:] + anchor[:, :2]).astype(np.float32)
    half = (0.5 * np.exp(numbers[:, 2:]) * anchor[:, 2:]).astype(np.float32)
    return np.concatenate([centre - half, centre + half], 1)


def _greedy(
    corners: np.ndarray, scores: np.ndarray, most: int, limits: tuple[float, float]
) -> list[int]:
    """Boxes by falling score, each overlapping no better one by more than is allowed."""
    least, allowed = (np.float32(limit) for limit in limits)
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] >= least]
    chosen: list[int] = []
    while order.size and len(chosen) < most:
        best, order = order[0], order[1:]
        chosen.append(int(best))
        order = order[intersection_over_union(corners[best], corners[order]) <= allowed]
    return chosen


def _regular(
    corners: np.ndarray, scores: np.ndarray, most: tuple[int, int], limits: tuple[float, float]
) -> list[tuple[int, int]]:
    """(box, class) by falling score, each class on its own. most: of all, and of one class."""
    total, each = most
    found = [
        (box, kind)
        for kind in range(scores.shape[1])
        for box in _greedy(corners, scores[:, kind], each, limits)
    ]
    return sorted(found, key=lambda pair: -scores[pair])[:total]
