"""A detector as people export them, for pictures of any size: data for tests.

One convolution stands for the backbone; what follows is what makes such models hard: anchors from
the picture's own shape (Shape, Gather, Range, Expand), Reshape by computed shapes, a threshold
(NonZero), the best (TopK), NonMaxSuppression, and a Loop over however many boxes are left.
"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto

from tests.onnx_models import BOOL, F32, I64, graph, model, node

CLASSES, STRIDE = 3, 8


def detector(bias: float = 0.0) -> ModelProto:
    """picture f32[1,3,height,width] -> boxes f32[n,4], scores f32[n], classes i64[n], areas f32[n].

    height and width: multiples of 8. bias: of the classes' logits; -20 finds nothing.
    """
    random = np.random.default_rng(0)
    channels = 4 + CLASSES
    weights = {
        "kernel": random.normal(size=(channels, 3, STRIDE, STRIDE)).astype(np.float32) / 9,
        "bias": np.float32([0] * 4 + [bias] * CLASSES),
        **{name: np.array(value, np.int64) for name, value in _INTEGERS.items()},
        **{name: np.array(value, np.float32) for name, value in _FLOATS.items()},
    }
    weights["trips"] = np.array(np.iinfo(np.int64).max)
    outputs = [("boxes", F32, (None, 4)), ("scores", F32, (None,)), ("classes", I64, (None,))]
    return model(
        [*_anchors(), *_candidates(), *_best(), *_survivors(), *_areas()],
        [("picture", F32, (1, 3, "height", "width"))],
        [*outputs, ("areas", F32, (None,))],
        weights,
    )


_INTEGERS = {
    "zero": 0, "one": 1, "two": 2, "three": 3, "most": [40], "kept": [9], "minus": [-1],
    "first": [0], "second": [1], "third": [2], "column": [1], "four": [4], "end": [1 << 40],
    "three_of": [3], "last": [-1],
}  # fmt: skip
_FLOATS = {"stride": 8, "half": 0.5, "overlap": 0.4, "threshold": 0.35, "size": 24, "lowest": 0}


def _anchors() -> list:
    """centres f32[cells,2]: the middle of every cell, in pixels."""
    return [
        node("Conv", "picture kernel bias", "features", strides=[STRIDE, STRIDE]),
        node("Shape", "features", "shape"),
        node("Gather", "shape two", "rows", axis=0),
        node("Gather", "shape three", "columns", axis=0),
        node("Range", "zero rows one", "y_index"),
        node("Range", "zero columns one", "x_index"),
        node("Unsqueeze", "y_index last", "y_column"),
        node("Unsqueeze", "x_index first", "x_row"),
        node("Unsqueeze", "rows first", "rows1"),
        node("Unsqueeze", "columns first", "columns1"),
        node("Concat", "rows1 columns1", "grid", axis=0),
        node("Expand", "y_column grid", "y_grid"),
        node("Expand", "x_row grid", "x_grid"),
        node("Reshape", "y_grid minus", "y_flat"),
        node("Reshape", "x_grid minus", "x_flat"),
        node("Cast", "y_flat", "y_float", to=F32),
        node("Cast", "x_flat", "x_float", to=F32),
        node("Unsqueeze", "y_float last", "y_centre"),
        node("Unsqueeze", "x_float last", "x_centre"),
        node("Concat", "y_centre x_centre", "cells", axis=1),
        node("Add", "cells half", "cell_middles"),
        node("Mul", "cell_middles stride", "centres"),
    ]


def _candidates() -> list:
    """corners f32[cells,4] (y1, x1, y2, x2) and chances f32[cells,classes]."""
    return [
        node("Transpose", "features", "last_channels", perm=[0, 2, 3, 1]),
        node("Concat", "rows1 columns1", "area_shape", axis=0),
        node("ReduceProd", "area_shape", "cell_count", keepdims=1),
        node("Shape", "features", "feature_shape"),
        node("Slice", "feature_shape second third", "channel_count"),
        node("Concat", "cell_count channel_count", "flat_shape", axis=0),
        node("Reshape", "last_channels flat_shape", "flat"),
        node("Slice", "flat first four column", "offsets"),
        node("Slice", "flat four end column", "logits"),
        node("Sigmoid", "logits", "chances"),
        node("Slice", "offsets first third column", "shift"),
        node("Slice", "offsets third four column", "spread"),
        node("Add", "centres shift", "middle"),
        node("Exp", "spread", "scale"),
        node("Mul", "scale size", "lengths"),
        node("Mul", "lengths half", "halves"),
        node("Sub", "middle halves", "low"),
        node("Add", "middle halves", "high"),
        node("Concat", "low high", "corners", axis=1),
    ]


def _best() -> list:
    """The best boxes over the threshold: as many as there are, 40 at most."""
    return [
        node("ReduceMax", "chances", "best_chance", axes=[1], keepdims=0),
        node("Greater", "best_chance threshold", "good"),
        node("NonZero", "good", "good_rows"),
        node("Reshape", "good_rows minus", "good_row"),
        node("Gather", "best_chance good_row", "good_chances", axis=0),
        node("Shape", "good_chances", "good_count"),
        node("Min", "good_count most", "top_count"),
        node("TopK", "good_chances top_count", "top_chances top_place", axis=0),
        node("Gather", "good_row top_place", "top_rows", axis=0),
        node("Gather", "corners top_rows", "top_corners", axis=0),
        node("Gather", "chances top_rows", "top_classes", axis=0),
    ]


def _survivors() -> list:
    """NonMaxSuppression for each class, and what it leaves."""
    return [
        node("Unsqueeze", "top_corners first", "nms_boxes"),
        node("Transpose", "top_classes", "class_rows", perm=[1, 0]),
        node("Unsqueeze", "class_rows first", "nms_scores"),
        node("NonMaxSuppression", "nms_boxes nms_scores kept overlap threshold", "selected"),
        node("Gather", "selected two", "selected_box", axis=1),
        node("Gather", "selected one", "classes", axis=1),
        node("Gather", "top_corners selected_box", "unclipped", axis=0),
        node("Max", "unclipped lowest", "boxes"),
        node("Unsqueeze", "selected_box last", "box_column"),
        node("Unsqueeze", "classes last", "class_column"),
        node("Concat", "box_column class_column", "pairs", axis=1),
        node("GatherND", "top_classes pairs", "scores"),
    ]


def _areas() -> list:
    """A Loop that runs once for each box and ends by its own condition."""
    body = graph(
        [
            node("Gather", "boxes i", "box", axis=0),
            node("Split", "box", "y1 x1 y2 x2", axis=0),
            node("Sub", "y2 y1", "height_of"),
            node("Sub", "x2 x1", "width_of"),
            node("Mul", "height_of width_of", "area1"),
            node("ReduceSum", "area1", "area", keepdims=0),
            node("Add", "i one", "next"),
            node("Less", "next box_count", "again"),
            node("Add", "sum area", "sum_after"),
        ],
        [("i", I64, ()), ("alive", BOOL, ()), ("sum", F32, ())],
        [("again", BOOL, ()), ("sum_after", F32, ()), ("area", F32, ())],
        name="areas_body",
    )
    return [
        node("Shape", "boxes", "boxes_shape"),
        node("Gather", "boxes_shape zero", "box_count", axis=0),
        node("Greater", "box_count zero", "any_box"),
        node("Loop", "trips any_box lowest", "area_sum each_area", body=body),
        node("Identity", "each_area", "areas"),
    ]
