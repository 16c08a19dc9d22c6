"""What others get wrong: conditions under which a peer's answer is not the standard's.

Every entry cites its section of docs/why/008-others-errors.md, which has the minimal example and
what the specification says. An entry excuses one peer on models with such a node, nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper

from tests.extra.fuzz_models.models import constants_of, opset_of

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Node:
    """A node as the conditions see it: its name, attributes, and the arrays it reads, if known."""

    op: str
    attributes: Mapping[str, Any]
    inputs: tuple[np.ndarray | None, ...]
    outputs: int
    opset: int

    def input(self, index: int) -> np.ndarray | None:
        """Input `index`; None if it is left out, or computed by another node."""
        return self.inputs[index] if index < len(self.inputs) else None

    def is_integer(self, index: int = 0) -> bool:
        array = self.input(index)
        return array is not None and array.dtype.kind in "iu"

    def is_text(self) -> bool:
        array = self.input(0)
        return array is not None and array.dtype.kind == "O"

    def has_odd(self, index: int = 0) -> bool:
        """Whether the input has NaN or infinities."""
        array = self.input(index)
        return array is not None and array.dtype.kind == "f" and not np.isfinite(array).all()


@dataclass(frozen=True)
class Known:
    """`who` is wrong about `ops` where `condition` holds; `section` of the note says why."""

    who: str
    ops: tuple[str, ...]
    section: str
    condition: Callable[[Node], bool] = lambda node: True


def _negative_steps(node: Node) -> bool:
    steps = node.input(4)
    return steps is not None and bool((steps < 0).any())


def _same_without_overlap(node: Node) -> bool:
    """SAME padding, and a stride that leaves gaps between the windows."""
    strides = node.attributes.get("strides", ())
    kernel = node.attributes.get("kernel_shape")
    if kernel is None:
        weights = node.input(1)
        kernel = weights.shape[2:] if weights is not None else ()
    gaps = any(s > k for s, k in zip(strides, kernel))
    return node.attributes.get("auto_pad", b"")[:4] == b"SAME" and gaps


def _wide_range(node: Node) -> bool:
    x = node.input(0)
    return x is None or not float(np.abs(x).max(initial=0)) < 1e3


def _fewer_images_than_channels(node: Node) -> bool:
    x = node.input(0)
    return x is None or x.shape[0] < x.shape[1]


def _crops(node: Node) -> bool:
    return node.attributes.get("coordinate_transformation_mode") == b"tf_crop_and_resize"


def _crops_without_scaling(node: Node) -> bool:
    scales = node.input(2)
    return _crops(node) and (scales is None or scales.size == 0 or bool((scales == 1).any()))


def _nearest_by_broken_scales(node: Node) -> bool:
    scales = node.input(2)
    nearest = node.attributes.get("mode", b"nearest") == b"nearest"
    return nearest and scales is not None and bool((scales * 16 % 1 != 0).any())


def _one_tensor_twice(node: Node) -> bool:
    mean, variance = node.input(3), node.input(4)
    return node.outputs > 1 and mean is not None and mean is variance


def _keeps_ratio_of_last_axes(node: Node) -> bool:
    policy = node.attributes.get("keep_aspect_ratio_policy", b"stretch")
    return policy != b"stretch" and min(node.attributes.get("axes", (0,))) < 0


def _has_type(node: Node, dtype: type[np.generic]) -> bool:
    x = node.input(0)
    return x is not None and x.dtype == dtype


def _is_double(node: Node) -> bool:
    return _has_type(node, np.float64)


def _gates_without_bounds(node: Node) -> bool:
    """Gates that may be any number: overflow is near, and depends on how the layer is written."""
    gates = node.attributes.get("activations", ())[:: 2 if node.op == "GRU" else 3]
    return any(gate not in (b"Sigmoid", b"HardSigmoid", b"Tanh", b"Softsign") for gate in gates)


def _has_sigmoid(node: Node) -> bool:
    body = node.attributes.get("body")
    return body is not None and any(inner.op_type == "Sigmoid" for inner in body.node)


def _empty_product(node: Node) -> bool:
    a = node.input(0)
    return a is not None and a.shape[-1] == 0


ORT, REFERENCE = "onnxruntime", "reference"
RECURRENT = ("RNN", "GRU", "LSTM")
WINDOWED = ("MaxPool", "AveragePool", "LpPool")

KNOWN: tuple[Known, ...] = (
    Known(ORT, ("Slice",), "slice-to-the-end", _negative_steps),
    Known(REFERENCE, ("Slice",), "slice-before-the-start", _negative_steps),
    Known(ORT, ("Pow",), "integers-through-floats", Node.is_integer),
    Known(ORT, ("Shrink",), "integers-through-floats", Node.is_integer),
    Known(REFERENCE, ("Shrink",), "integers-through-floats", Node.is_integer),
    Known(REFERENCE, ("Gemm",), "integers-through-floats", Node.is_integer),
    Known(REFERENCE, ("Erf",), "integers-through-floats"),
    Known(ORT, ("ReduceSum",), "integers-through-floats", Node.is_integer),
    Known(REFERENCE, ("PRelu",), "masks-by-multiplication", lambda n: n.has_odd(1)),
    Known(ORT, ("Sign",), "nan", lambda n: n.has_odd()),
    Known(ORT, ("MaxPool", "GlobalMaxPool", "MaxRoiPool"), "nan", lambda n: n.has_odd()),
    Known(ORT, ("ScatterElements", "ScatterND"), "nan", lambda n: n.has_odd() or n.has_odd(2)),
    Known(
        REFERENCE, ("ScatterElements", "ScatterND"), "nan", lambda n: n.has_odd() or n.has_odd(2)
    ),
    Known(
        REFERENCE,
        ("Conv",),
        "zeros-between-taps",
        lambda n: max(n.attributes.get("dilations", (1,))) > 1 and n.has_odd(),
    ),
    Known(
        ORT,
        ("LogSoftmax", "Hardmax", "Upsample", "DynamicQuantizeLinear"),
        "nan",
        lambda n: n.has_odd(),
    ),
    Known(REFERENCE, ("Hardmax",), "hardmax-of-blocks", lambda n: n.opset < 13),
    Known(ORT, ("Clip",), "clip-of-infinity", lambda n: n.has_odd()),
    Known(ORT, ("Dropout",), "mask-of-dropout", lambda n: n.opset < 12 and n.outputs == 2),
    Known(REFERENCE, ("OneHot",), "masks-by-multiplication"),
    Known(REFERENCE, ("Unique",), "unique-in-order", lambda n: n.attributes.get("sorted") == 0),
    Known(ORT, ("MatMulInteger", "ConvInteger"), "sums-of-nothing", _empty_product),
    Known(REFERENCE, ("MatMulInteger",), "zero-points-of-rows"),
    Known(ORT, ("ConvTranspose", *WINDOWED), "same-with-gaps", _same_without_overlap),
    Known(REFERENCE, (*WINDOWED, "GlobalMaxPool"), "pools-of-the-reference"),
    Known(REFERENCE, RECURRENT, "recurrent-layers-of-the-reference"),
    Known(
        ORT,
        RECURRENT,
        "softplus-of-recurrent-layers",
        lambda n: b"Softplus" in n.attributes.get("activations", ()),
    ),
    Known(ORT, ("GRU", "LSTM"), "gates-without-bounds", _gates_without_bounds),
    Known(ORT, ("Scan", "Loop"), "sigmoid-of-large-numbers", _has_sigmoid),
    Known(ORT, ("HardSwish", "Gelu"), "constants-in-f32", _is_double),
    Known(
        REFERENCE,
        ("HardSwish", "Gelu", "GridSample", "BatchNormalization"),
        "constants-in-f32",
        _is_double,
    ),
    Known(ORT, ("LayerNormalization",), "stage-one", _is_double),
    Known(REFERENCE, ("LayerNormalization",), "stage-one", _is_double),
    Known(
        REFERENCE,
        ("Mean", "Sum", "BatchNormalization"),
        "sums-in-f16",
        lambda n: _has_type(n, np.float16),
    ),
    Known(ORT, ("BatchNormalization",), "one-tensor-twice", _one_tensor_twice),
    Known(ORT, ("Resize",), "nearest-in-the-middle", _nearest_by_broken_scales),
    Known(ORT, ("Resize",), "crops-of-scale-1", _crops_without_scaling),
    Known(
        ORT,
        ("Resize",),
        "cubic-crops",
        lambda n: n.attributes.get("mode") == b"cubic" and _crops(n),
    ),
    Known(
        REFERENCE,
        ("Resize",),
        "broken-lengths",
        lambda n: (
            _crops(n) or n.attributes.get("coordinate_transformation_mode") == b"pytorch_half_pixel"
        ),
    ),
    Known(
        ORT,
        ("Resize",),
        "broken-lengths",
        lambda n: n.attributes.get("coordinate_transformation_mode") == b"align_corners",
    ),
    Known(ORT, ("Resize",), "axes-from-the-end", _keeps_ratio_of_last_axes),
    Known(ORT, ("Gather",), "texts-of-gather", lambda n: n.is_text()),
    Known(REFERENCE, ("LpNormalization",), "size-of-power-1", lambda n: n.attributes.get("p") == 1),
    Known(REFERENCE, ("QLinearMatMul", "QLinearConv"), "rounding-with-the-zero-point"),
    Known(REFERENCE, ("QuantizeLinear",), "saturation"),
    Known(
        ORT,
        ("AffineGrid",),
        "one-point-grids",
        lambda n: bool(n.attributes.get("align_corners")),
    ),
    Known(ORT, ("Bernoulli",), "bernoulli"),
    Known(ORT, ("MeanVarianceNormalization", "GroupNormalization"), "variance-below-zero"),
    Known(REFERENCE, ("MeanVarianceNormalization", "GroupNormalization"), "variance-below-zero"),
    Known(
        REFERENCE, ("ConvTranspose",), "bias-of-groups", lambda n: n.attributes.get("group", 1) > 1
    ),
    Known(ORT, ("InstanceNormalization",), "variance-below-zero", _wide_range),
    Known(REFERENCE, ("InstanceNormalization",), "overflow-on-the-way", _wide_range),
    Known(REFERENCE, ("DynamicQuantizeLinear",), "nan", lambda n: n.has_odd()),
    Known(ORT, ("LRN",), "running-sums", _wide_range),
    Known(REFERENCE, ("LRN",), "pools-of-the-reference", _fewer_images_than_channels),
    Known(
        ORT,
        ("Pad",),
        "pads-of-both-signs",
        lambda n: n.attributes.get("mode") == b"wrap",
    ),
    Known(REFERENCE, ("RoiAlign",), "regions-of-the-reference", lambda n: n.opset < 16),
    Known(
        REFERENCE,
        ("LogSoftmax", "SoftmaxCrossEntropyLoss", "ReduceLogSumExp"),
        "logarithms-of-sums",
    ),
)


def excuse(model: onnx.ModelProto, feeds: Arrays, who: str) -> str | None:
    """The section that explains a difference from peer `who`, or None."""
    arrays = constants_of(model) | dict(feeds)
    for proto in model.graph.node:
        attributes = {a.name: helper.get_attribute_value(a) for a in proto.attribute}
        inputs = tuple(arrays.get(name) for name in proto.input)
        node = Node(proto.op_type, attributes, inputs, len(proto.output), opset_of(model))
        for entry in KNOWN:
            if entry.who == who and node.op in entry.ops and entry.condition(node):
                return f"{who}: {node.op}: {entry.section}"
    return None
