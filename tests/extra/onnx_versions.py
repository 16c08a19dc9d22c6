"""One-operator models for every operator set in which an operator changed, and their runners.

A row says what a node takes and in which operator sets it is valid as written; where a set moved an
attribute to an input, changed a default or a meaning, there is a row before and one after. What
both must give is what onnxruntime gives: the test is `test_onnx_versions`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

NEWEST = 24  # of the operator sets that onnxruntime 1.32 runs without a warning
_RNG = np.random.default_rng(7)


@dataclass(frozen=True, eq=False)
class Row:
    """A node; the first `data` inputs are a caller's, the others constants of the model."""

    op: str
    sets: tuple[int, ...]
    inputs: Sequence[np.ndarray | None]
    attributes: dict[str, Any]
    outputs: int
    data: int
    label: str

    def model(self, version: int, constant: bool = True) -> onnx.ModelProto:
        """The one-node model of an operator set; with constant=False all inputs are a caller's."""
        names = ["" if value is None else f"x{i}" for i, value in enumerate(self.inputs)]
        results = [f"y{i}" for i in range(self.outputs)]
        given = [(n, v) for n, v in zip(names, self.inputs) if v is not None]
        ports = [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
            for n, v in given
        ]
        weights = [numpy_helper.from_array(v, n) for n, v in given[self.data :]] if constant else []
        ports = ports[: self.data] if constant else ports
        graph = helper.make_graph(
            [helper.make_node(self.op, names, results, **self.attributes)],
            self.op,
            ports,
            [onnx.ValueInfoProto(name=name) for name in results],
            weights,
        )
        return helper.make_model_gen_version(
            graph, opset_imports=[helper.make_opsetid("", version)]
        )

    def feeds(self, constant: bool = True) -> dict[str, np.ndarray]:
        given = {f"x{i}": value for i, value in enumerate(self.inputs) if value is not None}
        return dict(list(given.items())[: self.data]) if constant else given


def row(
    op: str, first: int, last: int, *inputs: Any, outputs: int = 1, data: int = 1, **attributes: Any
) -> Row:
    """A row for the operator sets from `first` to `last` in which the operator's schema changed."""
    sets = {version for version in _changes()[op] if first <= version <= last} | {first, last}
    arrays = [None if value is None else np.asarray(value) for value in inputs]
    given = " ".join(f"{k}={v}" for k, v in attributes.items() if not isinstance(v, np.ndarray))
    return Row(op, tuple(sorted(sets)), arrays, attributes, outputs, data, given.replace("\n", " "))


@cache
def _changes() -> dict[str, list[int]]:
    """The operator sets in which each operator of the default domain changed."""
    found = defaultdict(list)
    for schema in onnx.defs.get_all_schemas_with_history():
        if not schema.domain:
            found[schema.name].append(schema.since_version)
    return found


def f32(*shape: int) -> np.ndarray:
    return _RNG.standard_normal(shape).astype(np.float32)


def i64(*shape: int) -> np.ndarray:
    return _RNG.integers(-50, 50, shape)


def i32(*shape: int) -> np.ndarray:
    return _RNG.integers(-50, 50, shape).astype(np.int32)


def flags(*shape: int) -> np.ndarray:
    return _RNG.integers(0, 2, shape).astype(bool)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


REDUCTIONS = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean",
    "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare",
)  # fmt: skip
GROWING = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
POSITIVE = np.abs(f32(2, 3, 4)) + np.float32(0.1)
BOXES = np.sort(_RNG.random((1, 6, 4), np.float32), axis=-1)


def _reductions() -> list[Row]:
    rows = []
    for op in REDUCTIONS:
        moved = 13 if op == "ReduceSum" else 18  # from here on the axes are an input
        rows += [
            row(op, 7, moved - 1, POSITIVE, axes=[0, 2]),
            row(op, 7, moved - 1, POSITIVE, keepdims=0),
            row(op, 11, moved - 1, POSITIVE, axes=[-1], keepdims=0),
            row(op, moved, NEWEST, POSITIVE, ints(0, -1)),
            row(op, moved, NEWEST, POSITIVE, ints(1), keepdims=0),
            row(op, moved, NEWEST, POSITIVE, keepdims=0),
            row(op, moved, NEWEST, POSITIVE, ints(), noop_with_empty_axes=1),
            row(op, moved, NEWEST, POSITIVE, ints()),
        ]
    return rows


def _softmaxes() -> list[Row]:
    rows = []
    for op in ("Softmax", "LogSoftmax", "Hardmax"):
        rows += [  # before 13 the axis splits the shape into two; the default moved from 1 to -1
            row(op, 7, 12, f32(2, 3, 4)),
            row(op, 7, 12, f32(2, 3, 4), axis=0),
            row(op, 7, 12, f32(2, 3, 4), axis=2),
            row(op, 11, 12, f32(2, 3, 4), axis=-2),
            row(op, 13, NEWEST, f32(2, 3, 4)),
            row(op, 13, NEWEST, f32(2, 3, 4), axis=1),
            row(op, 13, NEWEST, f32(2, 3, 4), axis=-3),
        ]
    return rows


def _pools() -> list[Row]:
    x = f32(1, 2, 7, 8)
    rows = [
        row("MaxPool", 7, NEWEST, x, kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1]),
        row("MaxPool", 8, NEWEST, x, outputs=2, kernel_shape=[2, 2], strides=[2, 1]),
        row("MaxPool", 8, NEWEST, x, outputs=2, kernel_shape=[2, 3], storage_order=1),
        row("MaxPool", 10, NEWEST, x, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
        row("MaxPool", 10, NEWEST, x, kernel_shape=[2, 2], dilations=[2, 3]),
        row("MaxPool", 12, NEWEST, (f32(1, 1, 6) * 40).astype(np.int8), kernel_shape=[2]),
        row("AveragePool", 7, NEWEST, x, kernel_shape=[3, 2], pads=[1, 1, 1, 0]),
        row(
            "AveragePool", 7, NEWEST, x, kernel_shape=[3, 2], pads=[1, 1, 1, 0], count_include_pad=1
        ),
        row("AveragePool", 10, NEWEST, x, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
        row("AveragePool", 19, NEWEST, x, kernel_shape=[2, 2], dilations=[2, 3]),
        row("LpPool", 7, NEWEST, x, kernel_shape=[3, 2], strides=[2, 2], p=3),
        row("GlobalLpPool", 7, 21, x, p=3),
    ]
    for op in ("MaxPool", "AveragePool", "LpPool"):
        for mode in ("SAME_UPPER", "SAME_LOWER", "VALID"):
            given = {"kernel_shape": [3, 2], "strides": [2, 2], "auto_pad": mode}
            rows.append(row(op, 7, NEWEST, x, **given))
    return rows


def _resizes() -> list[Row]:
    x, up = f32(1, 2, 3, 4), np.array([1, 1, 2, 1.5], np.float32)
    down, none = np.array([1, 1, 0.6, 0.5], np.float32), np.array([], np.float32)
    sizes = ints(1, 2, 5, 3)
    rows = []
    for mode in ("nearest", "linear"):
        rows += [
            row("Upsample", 7, 8, x, mode=mode, scales=up.tolist()),
            row("Upsample", 9, 9, x, up, mode=mode),
            row("Resize", 10, 10, x, up, mode=mode),
            row("Resize", 10, 10, x, down, mode=mode),
            row("Resize", 11, NEWEST, x, none, up, mode=mode),
            row("Resize", 11, NEWEST, x, none, none, sizes, mode=mode),
            row("Resize", 13, NEWEST, x, None, up, mode=mode),
            row("Resize", 13, NEWEST, x, None, None, sizes, mode=mode),
            row("Resize", 18, NEWEST, x, None, up[2:], mode=mode, axes=[2, 3]),
        ]
        for rule in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"):
            given = {"mode": mode, "coordinate_transformation_mode": rule}
            rows.append(row("Resize", 11, NEWEST, x, none, none, sizes, **given))
    for rule in ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil"):
        rows.append(row("Resize", 11, NEWEST, x, none, none, sizes, nearest_mode=rule))
    rows += [
        row("Resize", 11, NEWEST, x, none, none, sizes, mode="cubic"),
        row("Resize", 11, NEWEST, x, none, none, sizes, mode="cubic", cubic_coeff_a=-0.5),
        row("Resize", 11, NEWEST, x, none, none, sizes, mode="cubic", exclude_outside=1),
        row("Resize", 18, NEWEST, x, None, None, sizes, mode="linear", antialias=1),
    ]
    for kind in (np.uint8, np.int8):  # fractions of integers: weighted as floats, then cut off
        pixels = (_RNG.random((1, 2, 3, 4)) * 100).astype(kind)
        rows.append(row("Resize", 11, 12, pixels, none, none, sizes, mode="linear"))
        rows.append(row("Resize", 13, NEWEST, pixels, None, None, sizes, mode="linear"))
    return rows


def _recurrences() -> list[Row]:
    rows = []
    hidden, x = 3, f32(4, 2, 5)
    for op, gates in (("RNN", 1), ("GRU", 3), ("LSTM", 4)):
        for direction, ways in (("forward", 1), ("reverse", 1), ("bidirectional", 2)):
            w, r = f32(ways, gates * hidden, 5), f32(ways, gates * hidden, hidden)
            b = f32(ways, 2 * gates * hidden)
            given = {"hidden_size": hidden, "direction": direction}
            lengths = np.array([4, 2], np.int32)
            rows += [
                row(op, 7, NEWEST, x, w, r, outputs=2, **given),
                row(op, 7, NEWEST, x, w, r, b, lengths, f32(ways, 2, hidden), outputs=2, **given),
            ]
        if op == "GRU":
            w, r, b = f32(1, 9, 5), f32(1, 9, 3), f32(1, 18)
            rows.append(row(op, 7, NEWEST, x, w, r, b, hidden_size=3, linear_before_reset=1))
        w, r = f32(1, gates * hidden, 5), f32(1, gates * hidden, hidden)
        rows.append(row(op, 14, NEWEST, x.swapaxes(0, 1), w, r, hidden_size=3, layout=0))
        rows.append(row(op, 7, NEWEST, x, w, r, hidden_size=3, clip=0.5))
    return rows


def _norms() -> list[Row]:
    x, c = f32(2, 3, 4, 5), [f32(3), f32(3), f32(3), np.abs(f32(3))]
    return [
        row("BatchNormalization", 7, NEWEST, x, *c, epsilon=1e-3),
        row("BatchNormalization", 7, 8, x, *c, momentum=0.5),
        row("BatchNormalization", 14, NEWEST, x, *c, outputs=3, training_mode=1, momentum=0.7),
        row("InstanceNormalization", 7, NEWEST, x, f32(3), f32(3), epsilon=1e-3),
        row("LpNormalization", 7, NEWEST, x, axis=1, p=1),
        row("LpNormalization", 7, NEWEST, x),
        row("LRN", 7, NEWEST, x, size=3, alpha=0.01, beta=0.7, bias=2.0),
        row("MeanVarianceNormalization", 9, NEWEST, x),
        row("MeanVarianceNormalization", 9, NEWEST, x, axes=[1, 3]),
        row("LayerNormalization", 17, NEWEST, x, f32(5), f32(5)),
        row("LayerNormalization", 17, NEWEST, x, f32(4, 5), axis=2, outputs=3),
        row("GroupNormalization", 21, NEWEST, f32(2, 6, 4), f32(6), f32(6), num_groups=3),
        row("RMSNormalization", 23, NEWEST, x, f32(4, 5), axis=-2),
    ]


def _shapes() -> list[Row]:
    x = f32(2, 3, 4)
    return [
        row("Reshape", 7, NEWEST, x, ints(0, -1, 2)),
        row("Reshape", 14, NEWEST, np.zeros((0, 3), np.float32), ints(3, 0), allowzero=1),
        row("Squeeze", 7, 12, f32(1, 3, 1, 2), axes=[0]),
        row("Squeeze", 7, 12, f32(1, 3, 1, 2)),
        row("Squeeze", 11, 12, f32(1, 3, 1, 2), axes=[-2]),
        row("Squeeze", 13, NEWEST, f32(1, 3, 1, 2), ints(0, -2)),
        row("Squeeze", 13, NEWEST, f32(1, 3, 1, 2)),
        row("Unsqueeze", 7, 12, x, axes=[0, 4]),
        row("Unsqueeze", 11, 12, x, axes=[-1]),
        row("Unsqueeze", 13, NEWEST, x, ints(-1, 0)),
        row("Flatten", 7, NEWEST, x, axis=2),
        row("Flatten", 11, NEWEST, x, axis=-1),
        row("Transpose", 7, NEWEST, x),
        row("Transpose", 7, NEWEST, x, perm=[1, 2, 0]),
        row("Concat", 7, NEWEST, x, x, axis=1, data=2),
        row("Concat", 11, NEWEST, x, x, axis=-1, data=2),
        row("Slice", 7, 9, x, starts=[1, -3], ends=[9, -1], axes=[0, 2]),
        row("Slice", 7, 9, x, starts=[0, 1], ends=[1, 100]),
        row("Slice", 10, NEWEST, x, ints(-1, 2), ints(0, 0), ints(2, 1), ints(-2, -1)),
        row("Slice", 10, NEWEST, x, ints(0, 1), ints(1, 1000)),
        row("Slice", 11, NEWEST, x, ints(1), ints(-1), ints(-1)),
        row("Split", 7, 12, x, axis=2, split=[1, 3], outputs=2),
        row("Split", 7, 12, x, axis=2, outputs=2),
        row("Split", 11, 12, x, axis=-1, outputs=4),
        row("Split", 13, 17, x, axis=2, outputs=2),
        row("Split", 13, NEWEST, x, ints(2, 1), axis=1, outputs=2),
        row("Split", 18, NEWEST, x, axis=1, num_outputs=2, outputs=2),
        row("Pad", 7, 10, x, pads=[0, 1, 2, 1, 0, 1], value=2.5),
        row("Pad", 7, 10, x, pads=[0, 1, 2, 1, 0, 1], mode="reflect"),
        row("Pad", 7, 10, x, pads=[0, 1, 2, 1, 0, -1], mode="edge"),
        row("Pad", 11, NEWEST, x, ints(0, 1, 2, 1, 0, 1), np.float32(2.5)),
        row("Pad", 11, NEWEST, x, ints(0, 1, 2, 1, 0, 1), mode="edge"),
        row("Pad", 11, NEWEST, x, ints(1, 1, 2, 1, 0, 1), mode="reflect"),
        row("Pad", 13, NEWEST, i64(2, 3), ints(0, 1, 1, 0), np.int64(7)),
        row("Pad", 18, NEWEST, x, ints(1, 2), np.float32(0.5), ints(-1)),
        row("Pad", 19, NEWEST, x, ints(0, 4, 5, 0, 3, 6), mode="wrap"),
        row("Expand", 8, NEWEST, f32(3, 1), ints(2, 1, 4)),
        row("Tile", 7, NEWEST, x, ints(2, 1, 3)),
        row("Gather", 7, NEWEST, x, ints(1, 0), axis=1),
        row("Gather", 11, NEWEST, x, ints(-1, 0), axis=-1),
        row("GatherElements", 11, NEWEST, x, ints(1, -1, 0, 0).reshape(1, 1, 4), axis=1),
        row("GatherND", 11, NEWEST, x, ints(1, -1, 0, 2).reshape(2, 2)),
        row("GatherND", 12, NEWEST, x, ints(-1, 0).reshape(2, 1), batch_dims=1),
        row("Scatter", 9, 10, x, ints(1, 0, 1, 1).reshape(1, 1, 4), f32(1, 1, 4), axis=1),
        row("ScatterElements", 11, NEWEST, x, ints(1, -1).reshape(1, 1, 2), f32(1, 1, 2), axis=-1),
        row("ScatterND", 11, NEWEST, x, ints(1, 0).reshape(2, 1), f32(2, 3, 4)),
        row("Shape", 7, NEWEST, x),
        row("Shape", 15, NEWEST, x, start=-2, end=-1),
        row("Size", 7, NEWEST, x),
        row("ConstantOfShape", 9, NEWEST, ints(2, 3), data=0),
        row("EyeLike", 9, NEWEST, f32(3, 4), k=1, dtype=7),
        row("DepthToSpace", 7, NEWEST, f32(1, 8, 2, 3), blocksize=2),
        row("DepthToSpace", 11, NEWEST, f32(1, 8, 2, 3), blocksize=2, mode="CRD"),
        row("SpaceToDepth", 7, NEWEST, f32(1, 2, 4, 6), blocksize=2),
        row("ReverseSequence", 10, NEWEST, x, ints(1, 2, 2), batch_axis=1, time_axis=0),
        row("ReverseSequence", 10, NEWEST, x, ints(1, 3), batch_axis=0, time_axis=1),
        row("Trilu", 14, NEWEST, f32(3, 4), np.int64(1), upper=0),
        row("OneHot", 9, NEWEST, ints(1, 7, -2), np.int64(4), np.array([2, 5], np.float32)),
        row("OneHot", 11, NEWEST, ints(1, -2), np.int64(3), np.array([2, 5], np.int64), axis=0),
    ]


def _elements() -> list[Row]:
    x = f32(2, 3, 4)
    rows = [
        row("Clip", 7, 10, x, min=-0.5, max=0.25),
        row("Clip", 7, 10, x, max=0.25),
        row("Clip", 11, NEWEST, x, np.float32(-0.5), np.float32(0.25)),
        row("Clip", 11, NEWEST, x, None, np.float32(0.25)),
        row("Clip", 12, NEWEST, i64(4), np.int64(-3), np.int64(7)),
        row("Dropout", 7, 11, x, ratio=0.3),  # before 12 the mask means nothing outside training
        row("Dropout", 12, NEWEST, x, np.float32(0.3), outputs=2),
        row("Dropout", 12, NEWEST, x, np.float32(0), np.bool_(True), outputs=2),
        row("Cast", 7, NEWEST, x * 9, to=7),
        row("Cast", 9, NEWEST, i32(5), to=11),
        row("CastLike", 15, NEWEST, x * 9, np.zeros(1, np.int32)),
        row("PRelu", 7, NEWEST, x, f32(3, 1)),
        row("PRelu", 9, NEWEST, i64(2, 3), ints(2)),
        row("Equal", 7, NEWEST, i64(3, 4), i64(4)),
        row("Equal", 11, NEWEST, f32(3, 4), f32(4)),
        row("Less", 7, NEWEST, x, f32(4)),
        row("Greater", 9, NEWEST, i64(5), i64(5)),
        row("LessOrEqual", 12, NEWEST, x, f32(4)),
        row("Pow", 7, NEWEST, POSITIVE, f32(4)),
        row("Pow", 12, NEWEST, POSITIVE, ints(2)),
        row("Pow", 13, NEWEST, np.array([2, 3], np.int32), np.array([3.5, 2], np.float32)),
        row("Mod", 10, NEWEST, i64(8), np.array(7)),
        row("Mod", 10, NEWEST, f32(8), f32(8), fmod=1),
        row("Where", 9, NEWEST, flags(3, 4), f32(4), f32(3, 1), data=3),
        row("Max", 8, NEWEST, x, f32(4), f32(3, 1), data=3),
        row("Min", 12, NEWEST, i64(3), i64(3), data=2),
        row("Sum", 8, NEWEST, x, f32(4), data=2),
        row("Mean", 8, NEWEST, x, f32(4), f32(4), data=3),
        row("Gelu", 20, NEWEST, x, approximate="tanh"),
        row("Gelu", 20, NEWEST, x),
        row("HardSwish", 14, NEWEST, x * 4),
        row("HardSigmoid", 7, NEWEST, x * 4, alpha=0.3),
        row("Elu", 7, NEWEST, x, alpha=0.7),
        row("Celu", 12, NEWEST, x, alpha=0.7),
        row("Selu", 7, NEWEST, x),
        row("Mish", 18, NEWEST, x),
        row("ThresholdedRelu", 10, NEWEST, x, alpha=0.3),
        row("LeakyRelu", 7, NEWEST, x, alpha=0.2),
        row("Shrink", 9, NEWEST, x, lambd=0.3, bias=0.1),
        row(
            "BitShift",
            11,
            NEWEST,
            np.array([8, 5], np.uint8),
            np.array([1, 2], np.uint8),
            direction="RIGHT",
        ),
        row("IsInf", 10, NEWEST, np.array([np.inf, -np.inf, 1], np.float32), detect_negative=0),
        row("Round", 11, NEWEST, np.array([0.5, 1.5, -2.5], np.float32)),
        row("CumSum", 11, NEWEST, x, np.int64(-2), exclusive=1, reverse=1),
        row("Erf", 9, NEWEST, x),
    ]
    for op in ("Add", "Sub", "Mul", "Div"):
        rows += [row(op, 7, NEWEST, x, POSITIVE[0, 0], data=2)]
        rows += [row(op, 14, NEWEST, np.array([9, 200], np.uint8), np.array([4, 7], np.uint8))]
    return rows


def _products() -> list[Row]:
    return [
        row("Gemm", 7, NEWEST, f32(3, 4), f32(4, 5), f32(5), alpha=0.5, beta=2.0),
        row("Gemm", 7, NEWEST, f32(4, 3), f32(5, 4), f32(3, 1), transA=1, transB=1),
        row("Gemm", 11, NEWEST, f32(3, 4), f32(4, 5)),
        row("MatMul", 7, NEWEST, f32(2, 1, 3, 4), f32(5, 4, 2)),
        row("MatMul", 9, NEWEST, i32(3, 4), i32(4)),
        row("Conv", 7, NEWEST, f32(1, 4, 6, 5), f32(2, 2, 3, 3), group=2, pads=[1, 0, 1, 2]),
        row("Conv", 7, NEWEST, f32(1, 2, 6, 5), f32(2, 2, 3, 3), f32(2), dilations=[2, 1]),
        row("ConvTranspose", 7, NEWEST, f32(1, 2, 4, 3), f32(2, 3, 3, 3), strides=[2, 2]),
        row(
            "ConvTranspose", 7, NEWEST, f32(1, 2, 4, 3), f32(2, 3, 3, 3), strides=[2, 2],
            output_padding=[1, 0], pads=[1, 1, 0, 1],
        ),
        row("Einsum", 12, NEWEST, f32(2, 3), f32(3, 4), equation="ij,jk->ki"),
        row("Det", 11, NEWEST, f32(2, 3, 3)),
    ]  # fmt: skip


def _selections() -> list[Row]:
    x = GROWING[:, ::-1] % np.float32(7)
    scores = _RNG.random((1, 2, 6), np.float32)
    rows = [
        row("TopK", 7, 9, x, axis=2, k=2, outputs=2),
        row("TopK", 10, NEWEST, x, ints(3), axis=-1, outputs=2),
        row("TopK", 11, NEWEST, x, ints(2), axis=1, largest=0, outputs=2),
        row("Unique", 11, NEWEST, np.array([3, 1, 3, 2], np.float32), outputs=4, sorted=0),
        row("NonZero", 9, NEWEST, flags(3, 4)),
        row("Compress", 9, NEWEST, x, flags(3), axis=1),
        row(
            "NonMaxSuppression", 10, NEWEST, BOXES, scores, np.array(3), np.float32(0.4), data=2
        ),
        row(
            "NonMaxSuppression", 10, NEWEST, BOXES, scores, np.array(3), np.float32(0.4),
            np.float32(0.3), data=2, center_point_box=1,
        ),
    ]  # fmt: skip
    for op in ("ArgMax", "ArgMin"):
        rows += [
            row(op, 7, NEWEST, x, axis=1, keepdims=0),
            row(op, 11, NEWEST, x, axis=-1),
            row(op, 12, NEWEST, x, axis=2, select_last_index=1),
        ]
    return rows


def _pictures() -> list[Row]:
    x = f32(1, 2, 6, 6)
    regions = np.array([[0, 0, 4, 4], [1, 2, 5, 5]], np.float32)
    which = ints(0, 0)
    place = np.concatenate([np.zeros((2, 1), np.float32), regions], axis=1)
    grid = f32(1, 3, 4, 2) * np.float32(0.6)
    rows = [
        row("MaxRoiPool", 7, 21, x, place, pooled_shape=[2, 3], data=2),
        row("MaxRoiPool", 7, 21, x, place, pooled_shape=[2, 2], spatial_scale=0.5, data=2),
        row("RoiAlign", 10, 15, x, regions, which, output_height=2, output_width=3, data=3),
        row("RoiAlign", 16, NEWEST, x, regions, which, output_height=2, output_width=3, data=3),
        row("RoiAlign", 16, NEWEST, x, regions, which, sampling_ratio=2, data=3,
            coordinate_transformation_mode="output_half_pixel"),
    ]  # fmt: skip
    for mode, first, last in (("bilinear", 16, 19), ("bicubic", 16, 19), ("linear", 20, NEWEST)):
        rows.append(row("GridSample", first, last, x, grid, mode=mode, data=2))
    for corners in (0, 1):
        given = {"padding_mode": "reflection", "align_corners": corners}
        rows.append(row("GridSample", 16, NEWEST, x, grid, data=2, **given))
    return rows


def _quantized() -> list[Row]:
    u8 = np.array([0, 100, 255], np.uint8)
    scale, zero = np.float32(0.1), np.uint8(100)
    x = f32(2, 3)
    return [
        row("QuantizeLinear", 10, NEWEST, x, scale, zero),
        row("QuantizeLinear", 13, NEWEST, x, np.array([0.1, 0.2, 0.3], np.float32), u8, axis=-1),
        row("DequantizeLinear", 10, NEWEST, u8, scale, zero),
        row("DequantizeLinear", 13, NEWEST, u8, scale),
        row("DynamicQuantizeLinear", 11, NEWEST, x, outputs=3),
        row("MatMulInteger", 10, NEWEST, u8.reshape(1, 3), u8.reshape(3, 1), zero, np.uint8(3)),
    ]


ROWS = [
    *_reductions(), *_softmaxes(), *_pools(), *_resizes(), *_recurrences(), *_norms(), *_shapes(),
    *_elements(), *_products(), *_selections(), *_pictures(), *_quantized(),
]  # fmt: skip
