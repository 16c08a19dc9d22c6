"""One-node models of onnxruntime's own domain: what `test_contrib_nodes` compares with onnxruntime.

Inputs that a row needs at import are constants of the model (`Weight`). Cases are made by functions
with a generator of their own, so that one more does not change the others.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from onnx import ModelProto, ValueInfoProto, helper, numpy_helper

F32, F16, F64 = np.float32, np.float16, np.float64
BYTES = (np.uint8, np.int8)


@dataclass(frozen=True)
class Weight:
    """An input that the model holds itself."""

    array: np.ndarray


Given = np.ndarray | Weight | None


@dataclass(frozen=True)
class Case:
    """A node. outputs: their number, or names, '' for those left out. quanta: how far integer
    results may differ."""

    op: str
    inputs: tuple[Given, ...]
    outputs: Sequence[str]
    attributes: dict[str, Any]
    domain: str = "com.microsoft"
    quanta: int = 0

    @property
    def feeds(self) -> dict[str, np.ndarray]:
        return {f"x{i}": a for i, a in enumerate(self.inputs) if isinstance(a, np.ndarray)}

    def model(self) -> ModelProto:
        names, ports, weights = [], [], []
        for i, given in enumerate(self.inputs):
            names.append("" if given is None else f"x{i}")
            if isinstance(given, Weight):
                weights.append(numpy_helper.from_array(given.array, f"x{i}"))
            elif given is not None:
                kind = helper.np_dtype_to_tensor_dtype(given.dtype)
                ports.append(helper.make_tensor_value_info(f"x{i}", kind, given.shape))
        node = helper.make_node(self.op, names, self.outputs, domain=self.domain)
        # not by make_node's keywords: QLinearSoftmax has an attribute `opset`
        node.attribute.extend(helper.make_attribute(k, v) for k, v in self.attributes.items())
        results = [ValueInfoProto(name=name) for name in self.outputs if name]
        if self.op == "QGemm" and len(self.inputs) < 8:  # whose inference needs to be told
            results = [helper.make_tensor_value_info("y0", 1, None)]
        graph = helper.make_graph([node], self.op, ports, results, weights)
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)


class Draw:
    """Seeded arrays, and the cases made of them."""

    def __init__(self, seed: str) -> None:
        self.random = np.random.default_rng(zlib.crc32(seed.encode()))
        self.cases: list[Case] = []

    def add(
        self,
        op: str,
        *inputs: Given,
        outputs: int | Sequence[str] = 1,
        domain: str = "com.microsoft",
        quanta: int = 0,
        **attributes: Any,
    ) -> None:
        names = [f"y{i}" for i in range(outputs)] if isinstance(outputs, int) else outputs
        kept = list(inputs)
        while kept[-1] is None:
            kept.pop()
        self.cases.append(Case(op, tuple(kept), names, attributes, domain, quanta))

    def normal(self, *shape: int, dtype: Any = F32) -> np.ndarray:
        return self.random.standard_normal(shape).astype(dtype)

    def whole(self, *shape: int, dtype: Any = np.uint8) -> np.ndarray:
        info = np.iinfo(dtype)
        return self.random.integers(info.min, info.max + 1, shape).astype(dtype)

    def index(self, limit: int, *shape: int, dtype: Any = np.int32) -> np.ndarray:
        return self.random.integers(0, limit, shape).astype(dtype)

    def scale(self, *shape: int, dtype: Any = F32) -> Weight:
        return Weight(self.random.uniform(0.01, 0.1, shape).astype(dtype))

    def zero(self, *shape: int, dtype: Any = np.uint8) -> Weight:
        return Weight(self.whole(*shape, dtype=dtype))

    def quantized(self, *shape: int, dtype: Any = np.uint8) -> tuple[Given, ...]:
        """A tensor, its scale and its zero point."""
        return self.whole(*shape, dtype=dtype), self.scale(), self.zero(dtype=dtype)

    def target(self, dtype: Any = np.uint8) -> tuple[Given, ...]:
        """The scale and zero point of a result."""
        return self.scale(), self.zero(dtype=dtype)


def quantized(d: Draw) -> None:
    for t in BYTES:
        q, y = d.quantized, d.target
        d.add("QLinearAdd", *q(90, 70, dtype=t), *q(90, 70, dtype=t), *y(t), quanta=1)
        d.add("QLinearAdd", *q(3, 1, 2, dtype=t), *q(4, 2, dtype=t), *y(t), quanta=1)
        d.add("QLinearMul", *q(90, 70, dtype=t), *q(70, dtype=t), *y(t))
        share = (Weight(np.float32(1 / 256)), Weight(t(np.iinfo(t).min)))
        d.add("QLinearSigmoid", *q(300, dtype=t), *share)
        d.add("QLinearLeakyRelu", *q(300, dtype=t), *y(t), alpha=0.2)
        mask = d.random.random((30, 20)) < 0.5
        d.add("QLinearWhere", mask, *q(30, 20, dtype=t), *q(30, 1, dtype=t), *y(t))
        d.add("QLinearConcat", *y(t), *q(30, 20, dtype=t), *q(30, 10, dtype=t), axis=-1)
        for axis, opset in ((-1, 13), (1, 13), (1, 11)):
            d.add("QLinearSoftmax", *q(3, 20, 7, dtype=t), *share, axis=axis, opset=opset, quanta=1)
        for last in (0, 1):
            image, layout = q(2, 7, 6, 5, dtype=t), {"channels_last": last}
            window = {"kernel_shape": [3, 2], "pads": [1, 0, 1, 1], **layout}
            d.add("QLinearGlobalAveragePool", *image, *y(t), **layout)
            d.add("QLinearAveragePool", *image, *y(t), strides=[2, 1], **window)
            edges = {"count_include_pad": 1, "ceil_mode": 1, "strides": [2, 2]}
            d.add("QLinearAveragePool", *image, *y(t), **edges, **window)
            filters = (
                Weight(d.whole(4, 6, 3, 3, dtype=np.int8)),
                d.scale(4),
                Weight(np.zeros(4, np.int8)),
            )
            bias = Weight(d.whole(4, dtype=np.int16).astype(np.int32))
            source = q(2, *((5, 7, 6) if last else (6, 5, 7)), dtype=t)
            d.add("QLinearConv", *source, *filters, *y(t), bias, pads=[1, 1, 1, 1], **layout)
        d.add("NhwcMaxPool", d.whole(2, 7, 6, 5, dtype=t), kernel_shape=[3, 2], pads=[1, 0, 1, 1])
        for b in BYTES if t is np.uint8 else (np.int8,):
            pair = (d.whole(4, 6, 5, dtype=t), d.whole(5, 9, dtype=b), d.scale(), d.scale(9))
            zeros = (d.zero(dtype=t), d.zero(9, dtype=b))
            d.add("MatMulIntegerToFloat", *pair, *zeros, Weight(d.normal(9)))
            d.add(
                "MatMulIntegerToFloat",
                d.whole(6, 5, dtype=t),
                d.whole(5, 9, dtype=b),
                d.scale(),
                d.scale(),
            )
            columns = (d.whole(5, 9, dtype=b), d.scale(9), d.zero(9, dtype=b))
            bias = Weight(d.whole(9, dtype=np.int16).astype(np.int32))
            d.add("QGemm", *q(6, 5, dtype=t), *columns, bias, *y(t), alpha=0.5)
            d.add("QGemm", *q(5, 6, dtype=t), *q(9, 5, dtype=b), transA=1, transB=1)
    for b in BYTES:
        columns = (d.whole(5, 9, dtype=b), d.scale(9), d.zero(9, dtype=b), Weight(d.normal(9)))
        d.add("DynamicQuantizeMatMul", d.normal(4, 6, 5), *columns)
        d.add("DynamicQuantizeMatMul", d.normal(6, 5), d.whole(5, 9, dtype=b), d.scale())
    d.add("MatMulInteger16", d.whole(4, 6, dtype=np.int16), d.whole(6, 3, dtype=np.int16))
    for t in (*BYTES, np.uint16, np.int16):
        d.add("QuantizeLinear", d.normal(4, 6) * 50, *d.target(t))
        d.add("DequantizeLinear", d.whole(4, 6, dtype=t), d.scale(6), d.zero(6, dtype=t), axis=1)


def fused(d: Draw) -> None:
    n = d.normal
    for op, inputs in (
        ("Gelu", ()), ("BiasGelu", (n(8),)), ("FastGelu", ()), ("FastGelu", (n(8),)),
        ("QuickGelu", ()),
    ):  # fmt: skip
        d.add(op, n(2, 3, 8) * 3, *inputs)
    d.add("QuickGelu", n(2, 3, 8), alpha=1.0)
    for name, parameters in (
        ("Relu", []), ("Tanh", []), ("Sigmoid", []), ("LeakyRelu", [0.2]), ("Clip", [-0.5, 0.6]),
        ("HardSigmoid", [0.3, 0.4]), ("HardSwish", []),
    ):  # fmt: skip
        extra = {"activation_params": parameters} if parameters else {}
        layer = (n(1, 4, 6, 7), Weight(n(6, 4, 3, 3)), Weight(n(6)))
        d.add("FusedConv", *layer, activation=name, pads=[1, 1, 1, 1], strides=[2, 1], **extra)
    point = Weight(n(6, 4, 1, 1))
    d.add("FusedConv", n(1, 4, 6, 7), point, Weight(n(6)), n(1, 6, 6, 7), activation="Relu")
    d.add("FusedConv", n(1, 4, 6, 7), point, None, n(1, 6, 6, 7))
    for name, greek in (
        ("Relu", ""), ("LeakyRelu", "a"), ("Elu", "a"), ("HardSigmoid", "ab"), ("Sigmoid", ""),
        ("Softplus", ""), ("Softsign", ""), ("Tanh", ""), ("ThresholdedRelu", "a"), ("Selu", "ag"),
        ("ScaledTanh", "ab"),
    ):  # fmt: skip
        values = {"a": ("activation_alpha", 0.3), "b": ("activation_beta", 0.7)}
        values["g"] = ("activation_gamma", 1.1)
        scaled = {"transB": 1, "alpha": 0.5, "beta": 2.0}
        d.add(
            "FusedGemm",
            n(5, 4),
            n(7, 4),
            n(7),
            activation=name,
            **scaled,
            **dict(values[c] for c in greek),
        )
    d.add("FusedMatMul", n(2, 3, 5, 4), n(2, 3, 7, 4), transB=1, alpha=0.5)
    d.add("FusedMatMul", n(2, 3, 4, 5), n(2, 3, 4, 7), transA=1)
    both = {"transBatchA": 1, "transBatchB": 1}
    d.add("FusedMatMul", n(5, 2, 3, 4), n(7, 2, 3, 4), transB=1, **both)
    d.add("FusedMatMul", n(5, 2, 3, 4), n(5, 2, 3, 7), transA=1, **both)
    d.add("FusedMatMul", n(4), n(7, 4), transB=1)
    d.add("TransposeMatMul", n(4, 5), n(4, 7), transA=1)
    for t in (F32, F16):

        def c(*shape: int, t: Any = t) -> np.ndarray:
            return n(*shape, dtype=t)

        sums = ["y", "", "", "sum"]
        d.add("SkipLayerNormalization", c(2, 3, 8), c(2, 3, 8), c(8), c(8), c(8), epsilon=1e-5)
        d.add("SkipLayerNormalization", c(2, 3, 8), c(3, 8), c(8), outputs=sums)
        d.add("SkipSimplifiedLayerNormalization", c(2, 3, 8), c(2, 3, 8), c(8), outputs=sums)
        d.add("SkipSimplifiedLayerNormalization", c(2, 3, 8), c(1, 3, 8), c(8), c(8))
    for t in (F32, F16, F64):
        x = (n(2, 3, 8, dtype=t), n(8, dtype=t))
        d.add("SimplifiedLayerNormalization", *x, domain="", epsilon=1e-6)
        d.add("SimplifiedLayerNormalization", *x, domain="", outputs=2)
    words, segments = d.index(10, 2, 5), d.index(2, 2, 5)
    mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int32)
    tables = (n(10, 8), n(6, 8), n(2, 8), n(8), n(8))
    d.add("EmbedLayerNormalization", words, segments, *tables, mask, outputs=2)
    d.add("EmbedLayerNormalization", words, None, *tables[:2], None, *tables[3:], None,
          d.index(6, 1, 5), outputs=3, epsilon=1e-5)  # fmt: skip
    for kept in (True, False):
        rows = [d.whole(*s) for s in ((10, 8), (6, 8), (2, 8), (8,), (8,))]
        scales, zeros = [d.scale() for _ in range(5)], [d.zero() for _ in range(5)]
        parts: list[list[Any]] = [rows, scales, zeros]
        if not kept:
            for part in parts:
                part[2] = None
        first = (words, segments if kept else None)
        d.add("QEmbedLayerNormalization", *first, *rows, mask, *scales, *zeros, outputs=2)


def attention(d: Draw) -> None:
    n = d.normal
    length, total, width = 5, 9, 12
    x, w, b = n(2, length, width), Weight(n(width, 3 * width) / 3), Weight(n(3 * width))
    past = n(2, 2, 3, 4, 4)
    padded = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int32)
    ends, both_ends = np.array([3, 5], np.int32), np.array([3, 5, 1, 0], np.int32)

    def whole(mask: Given = None, past: Given = None, extra: Given = None, **k: Any) -> None:
        d.add("Attention", x, w, b, mask, past, extra, num_heads=3, **k)

    whole()
    whole(unidirectional=1, outputs=2)
    for mask in (ends, both_ends, padded, d.index(2, 2, 5, 5), np.array([0, 5], np.int32)):
        whole(mask)
    whole(np.zeros((2, 5), np.int32), unidirectional=1)
    whole(ends, unidirectional=1)
    whole(ends, scale=0.3, mask_filter_value=-1.5)
    whole(past=past, outputs=2, unidirectional=1)
    whole(d.index(2, 2, total), past, outputs=2, unidirectional=1)
    whole(extra=n(1, 3, 5, 5))
    whole(padded, extra=n(2, 1, 5, 5))
    sizes = {"num_heads": 3, "qkv_hidden_sizes": [12, 12, 6]}
    d.add("Attention", x, Weight(n(width, 30) / 3), Weight(n(30)), **sizes)
    d.add("Attention", x, w, None, num_heads=3)

    tokens = d.whole(2, length, width)
    for t in BYTES:
        weights = Weight(d.whole(width, 3 * width, dtype=t))
        small = (Weight(np.float32(0.001)), Weight(d.random.uniform(0.001, 0.003, 36).astype(F32)))
        for scale, zero in zip(small, (d.zero(dtype=t), d.zero(36, dtype=t))):
            rest = (Weight(np.uint8(128)), zero)
            for mask, k in ((None, {}), (ends, {"unidirectional": 1})):
                d.add(
                    "QAttention",
                    tokens,
                    weights,
                    b,
                    d.scale(),
                    scale,
                    mask,
                    *rest,
                    num_heads=3,
                    **k,
                )
    d.add("QAttention", tokens, weights, b, d.scale(), small[0], d.index(2, 2, total),
          Weight(np.uint8(128)), None, past, num_heads=3, outputs=2, unidirectional=1)  # fmt: skip

    q, k, v = n(2, length, width), n(2, 7, width), n(2, 7, 9)
    cache = (n(2, 3, 4, 4), n(2, 3, 4, 4))

    def heads(*inputs: Given, op: str = "MultiHeadAttention", **rest: Any) -> None:
        d.add(op, *inputs, num_heads=3, **rest)

    heads(q, k, v, outputs=3)
    heads(q, k, v, n(33))
    sums = np.array([3, 7, 0, 5, 12, 0, 7, 14], np.int32)  # lengths, then where sentences start
    for mask in (np.array([3, 7], np.int32), d.index(2, 2, 7), d.index(2, 2, 5, 7)):
        heads(q, k, v, None, mask)
    heads(q, k, n(2, 7, width), None, sums)
    heads(q, k, v, None, None, n(1, 3, 5, 7), scale=0.4)
    heads(q, q, q, unidirectional=1)
    heads(q, n(2, 3, 7, 4), n(2, 3, 7, 4))
    heads(q, n(2, 3, 7, 4), n(2, 3, 7, 4), n(36))
    heads(q, q, n(2, 5, width), n(36), None, None, *cache, outputs=3)
    heads(q, q, q, None, d.index(2, 2, 9), n(2, 3, 5, 9), *cache, outputs=3, unidirectional=1)
    one, masked = n(2, 1, width), "DecoderMaskedMultiHeadAttention"
    heads(one, n(2, 3, 7, 4), n(2, 3, 7, 4), op=masked)
    heads(one, n(2, 3, 7, 4), n(2, 3, 7, 4), d.index(2, 2, 7), op=masked)


def decoder(d: Draw) -> None:
    for t in (F32, F16):
        tables = (d.normal(20, 4, dtype=t), d.normal(20, 4, dtype=t))
        for interleaved in (0, 1):
            places, k = d.index(20, 2, 5, dtype=np.int64), {"interleaved": interleaved}
            flat = d.normal(2, 5, 24, dtype=t)
            d.add("RotaryEmbedding", flat, np.array([3]), *tables, **k)
            d.add("RotaryEmbedding", flat, places, *tables, **k)
            d.add("RotaryEmbedding", d.normal(2, 3, 5, 8, dtype=t), places, *tables, **k)
            part = {"num_heads": 3, "rotary_embedding_dim": 8}
            d.add("RotaryEmbedding", d.normal(2, 5, 30, dtype=t), places, *tables, **k, **part)
    for x in (
        grouped(d, 5, 0, (5, 5)), grouped(d, 5, 0, (5, 5), packed=True), grouped(d, 1, 5, (6, 6)),
        grouped(d, 1, 5, (6, 4)), grouped(d, 1, 8, (6, 4)), grouped(d, 3, 5, (8,)),
        grouped(d, 5, 8, (5, 5)), grouped(d, 1, 5, (6, 4), packed=True, do_rotary=1),
        grouped(d, 5, 0, (5, 5), do_rotary=1), grouped(d, 3, 5, (8,), do_rotary=1),
        grouped(d, 1, 5, (6, 4), do_rotary=1, rotary_interleaved=1),
        grouped(d, 3, 5, (8,), do_rotary=1, places=np.array([[2, 3, 4]])),
        grouped(d, 5, 0, (5, 5), local_window_size=2), grouped(d, 5, 0, (5, 5), softcap=1.5),
        grouped(d, 1, 5, (6, 4), local_window_size=2), grouped(d, 5, 0, (5, 5), scale=0.3),
        grouped(d, 5, 0, (5, 5), smooth_softmax=1), grouped(d, 5, 0, (5, 5), sink=True),
        grouped(d, 1, 5, (6, 4), sink=True), grouped(d, 5, 0, (5, 5), bias=(1, 4, 5, 5)),
        grouped(d, 5, 0, (5, 5), bias=(2, 1, 5, 5), softcap=1.5),
        grouped(d, 5, 0, (5, 5), dtype=F16, do_rotary=1), grouped(d, 1, 5, (6, 6), dtype=F16),
    ):  # fmt: skip
        d.cases.append(x)


def grouped(
    d: Draw,
    length: int,
    before: int,
    ends: tuple[int, ...],
    packed: bool = False,
    dtype: Any = F32,
    places: np.ndarray | None = None,
    bias: tuple[int, ...] | None = None,
    sink: bool = False,
    **attributes: Any,
) -> Case:
    """GroupQueryAttention of 4 heads over 2, for sentences that end at `ends`."""
    batch, size = len(ends), 16

    def c(*shape: int) -> np.ndarray:
        return d.normal(*shape, dtype=dtype)

    parts: list[Given] = [
        c(batch, length, 4 * size),
        c(batch, length, 2 * size),
        c(batch, length, 2 * size),
    ]
    if packed:
        parts = [c(batch, length, 8 * size), None, None]
    cache = [c(batch, 2, before, size), c(batch, 2, before, size)] if before else [None, None]
    last = np.array(ends, np.int32) - 1
    inputs: list[Given] = [*parts, *cache, last, Weight(np.array(max(ends), np.int32))]
    turned = attributes.get("do_rotary")
    inputs += [Weight(c(40, size // 2)), Weight(c(40, size // 2))] if turned else [None, None]
    inputs += [places, None if bias is None else c(*bias), c(4) if sink else None]
    d.add("GroupQueryAttention", *inputs, outputs=3, num_heads=4, kv_num_heads=2, **attributes)
    return d.cases.pop()


def weights(d: Draw) -> None:
    def product(
        depth: int, block: int, bits: int = 4, zero: str = "", t: Any = F32, lead: tuple = (3,),
        groups: bool = False, bias: bool = False, **k: Any,
    ) -> None:  # fmt: skip
        rows, blocks = 6, -(-depth // block)
        packed = d.zero(rows, blocks, block * bits // 8)
        zeros: Weight | None = None
        if zero:
            whole = d.zero(rows, -(-blocks * bits // 8))
            zeros = (
                whole
                if zero == "packed"
                else Weight(d.random.uniform(3, 9, (rows, blocks)).astype(t))
            )
        index = Weight((np.arange(depth) // block).astype(np.int32)) if groups else None
        sizes = {"N": rows, "K": depth, "block_size": block, "bits": bits}
        scale, last = d.scale(rows, blocks, dtype=t), Weight(d.normal(rows, dtype=t))
        x = d.normal(*lead, depth, dtype=t)
        d.add("MatMulNBits", x, packed, scale, zeros, index, last if bias else None, **sizes, **k)

    for depth, block in ((32, 16), (40, 16), (64, 32)):
        product(depth, block)
        product(depth, block, zero="packed")
    product(64, 32, zero="real")
    product(64, 32, bits=8)
    product(80, 16, bits=8, zero="packed")
    product(64, 16, bits=2, zero="packed")
    product(64, 16, bias=True, lead=(2, 3))
    product(64, 16, t=F16)
    product(64, 16, groups=True)
    product(64, 16, groups=True, zero="real")

    for kind, bits in (("u8", 2), ("u8", 4), ("u8", 8), ("uint4", 4), ("int4", 4)):
        for t in (F32, F16):
            if kind == "u8":
                data, zeros = d.zero(10, 8 * bits), d.zero(10, -(-4 * bits // 8))
            else:
                low = -8 if kind == "int4" else 0
                small = getattr(ml_dtypes, kind)
                data, zeros = (
                    Weight(d.random.integers(low, low + 16, (10, n)).astype(small)) for n in (64, 4)
                )
            k = {"block_size": 16, "gather_axis": 0, "quantize_axis": 1}
            k |= {"bits": bits} if kind == "u8" else {}
            rows = np.array([[1, 3], [0, -2]])
            d.add("GatherBlockQuantized", data, rows, d.scale(10, 4, dtype=t), zeros, **k)
            d.add(
                "GatherBlockQuantized", data, np.array([0, 12, -11]), d.scale(10, 4, dtype=t), **k
            )


def data(d: Draw) -> None:
    n = d.normal

    def ints(*values: int, dtype: Any = np.int64) -> Weight:
        return Weight(np.array(values if len(values) > 1 else values[0], dtype))

    d.add("GatherND", n(3, 4, 5), d.index(3, 2, 2, dtype=np.int64))
    d.add("Trilu", n(4, 5), ints(1))
    d.add("Trilu", n(4, 5), upper=0)
    d.add("Pad", n(3, 4), ints(1, 0, 2, -1), Weight(np.float32(2)))
    for mode in ("reflect", "edge"):
        d.add("Pad", n(3, 4), ints(1, 0, 2, 1), mode=mode)
    for mode in ("bilinear", "nearest", "bicubic"):
        for padding in ("zeros", "border", "reflection"):
            grid = d.random.uniform(-1.2, 1.2, (1, 3, 4, 2)).astype(F32)
            k = {"mode": mode, "padding_mode": padding, "align_corners": 1}
            d.add("GridSample", n(1, 2, 5, 6), grid, **k)
    d.add("ExpandDims", n(3, 4), ints(-1, dtype=np.int32))
    d.add("ExpandDims", n(3, 4), ints(1, dtype=np.int32))
    d.add("Range", ints(1), ints(7), ints(2))
    d.add("Range", Weight(np.float32(1)), Weight(np.float32(7.5)))
    d.add("UnfoldTensor", n(3, 9), dim=-1, size=4, step=2)
    d.add("UnfoldTensor", n(5, 3, 2), dim=0, size=2)
    d.add(
        "ConvTransposeWithDynamicPads",
        n(1, 3, 4, 4),
        n(3, 2, 3, 3),
        ints(1, 0, 0, 1),
        n(2),
        strides=[2, 2],
    )
    for t in (F32, F64):
        for metric in ("sqeuclidean", "euclidean"):
            d.add("CDist", n(4, 6, dtype=t), n(5, 6, dtype=t), metric=metric)
    d.add("Unique", np.array([2, 1, 1, 3, 4, 3], F32), outputs=3)
    d.add("Inverse", n(2, 3, 3))
    d.add("Inverse", n(3, 3, dtype=F64))
    boxes = np.array([[0, 0, 1, 1], [0.2, 0.1, 0.9, 1.2], [-0.1, 0.3, 0.8, 0.6]], F32)
    images = np.array([0, 1, 0], np.int32)
    size = ints(3, 4, dtype=np.int32)
    d.add("CropAndResize", n(2, 3, 4, 5), boxes, images, size, extrapolation_value=-1.0)
    d.add("CropAndResize", n(2, 3, 4, 5), boxes, images, np.array([1, 4], np.int32), mode="nearest")
    for t in (np.int32, np.int64, np.uint32, np.uint64, F32, F64):
        d.add("MurmurHash3", np.array([1, 2, 77]).astype(t))
        d.add("MurmurHash3", np.array([1, 2, 77]).astype(t), positive=0, seed=42)


_TOPICS: tuple[Callable[[Draw], None], ...] = (quantized, fused, attention, decoder, weights, data)


def cases() -> Iterator[tuple[str, Case]]:
    """(name, case) of them all; names are the operator's with a number."""
    for topic in _TOPICS:
        draw = Draw(topic.__name__)
        topic(draw)
        seen: dict[str, int] = {}
        for case in draw.cases:
            seen[case.op] = seen.get(case.op, 0) + 1
            yield f"{case.op}-{seen[case.op]}", case
