"""Quantized networks in QDQ form: operators that sum are brought to operator form before import.

    DequantizeLinear -> Conv -> QuantizeLinear    becomes    QLinearConv

Both mean the same real numbers, but the second is exact: its sums are integers. Of the first, f32
sums in another order round another way where a result lies halfway between two quanta, and some ten
layers later everything differs by a few. onnxruntime joins these nodes, too, and more: what is
computed number by number needs no joining to be exact. No operator is defined here; what is not
recognised stays as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from brim.frontends.onnx.model import Node, OnnxModel, Subgraph
from brim.frontends.onnx.table import MICROSOFT


@dataclass(frozen=True)
class _Quantized:
    """The integers behind a real tensor: names of tensor, scale and zero point, their contents."""

    names: tuple[str, str, str]
    scale: np.ndarray
    zero: np.ndarray
    axis: int

    @property
    def is_scalar(self) -> bool:
        return self.scale.size == 1

    @property
    def is_byte(self) -> bool:
        return self.zero.dtype in (np.int8, np.uint8)


@dataclass(frozen=True)
class _Nodes:
    """What is known of a graph's names: who computes them, their contents, how often they serve."""

    producer: Mapping[str, Node]
    constants: Mapping[str, np.ndarray]
    uses: Mapping[str, int]

    def real(self, name: str) -> _Quantized | None:
        """The integers that `name` is dequantized from."""
        node = self.producer.get(name)
        if node is None or node.op != "DequantizeLinear":
            return None
        return self.parameters(node)

    def parameters(self, node: Node) -> _Quantized | None:
        """What a QuantizeLinear or DequantizeLinear says, if it is constant and not in blocks."""
        attributes = node.attributes
        if node.domain not in ("", MICROSOFT):
            return None
        if len(node.inputs) < 3 or attributes.get("block_size"):
            return None
        scale, zero = (self.constants.get(name) for name in node.inputs[1:3])
        if scale is None or zero is None or scale.dtype != np.float32:
            return None
        axis = attributes.get("axis", 1)
        if not isinstance(axis, int):
            return None
        return _Quantized(tuple(node.inputs[:3]), scale, zero, axis)  # type: ignore[arg-type]


def in_operator_form(model: OnnxModel) -> OnnxModel:
    """`model` with quantized operators instead of real ones between DequantizeLinear and
    QuantizeLinear, wherever scales and zero points are constant and of 8 bits.

    The nodes that become superfluous stay; nothing needs them.
    """
    graph = model.graph
    if not any(node.op == "DequantizeLinear" for node in graph.nodes):
        return model
    nodes = _known(graph)
    joined = tuple(_joined(node, nodes) or node for node in graph.nodes)
    opsets = MappingProxyType({**model.opsets, MICROSOFT: model.opsets.get(MICROSOFT, 1)})
    return replace(model, graph=replace(graph, nodes=joined), opsets=opsets)


def _known(graph: Subgraph) -> _Nodes:
    constants = {k: v for k, v in graph.initializers.items() if k not in graph.inputs}
    uses = Counter(list(graph.outputs))
    stack = list(graph.nodes)
    while stack:
        node = stack.pop()
        uses.update(node.inputs)
        value = node.attributes.get("value")
        if node.op == "Constant" and isinstance(value, np.ndarray):
            constants.update((name, value) for name in node.outputs)
        for part in node.attributes.values():
            if isinstance(part, Subgraph):
                uses.update(list(part.outputs))
                stack.extend(part.nodes)
    producer = {name: node for node in graph.nodes for name in node.outputs if name}
    return _Nodes(producer, constants, uses)


def _joined(last: Node, nodes: _Nodes) -> Node | None:
    """The quantized operator whose result the QuantizeLinear `last` is; None: it stays."""
    if last.op != "QuantizeLinear":
        return None
    result = nodes.parameters(last)
    if result is None or not result.is_scalar or not result.is_byte:
        return None
    real = _alone(last.inputs[0], nodes)
    lowest = result.zero == np.iinfo(result.zero.dtype).min
    if real is not None and real.op == "Relu" and real.inputs and lowest:
        real = _alone(real.inputs[0], nodes)  # what it cuts off cannot be represented anyway
    if real is None or real.domain or real.op not in _FORMS:
        return None
    counts, form = _FORMS[real.op]
    operands = [found for name in real.inputs if (found := nodes.real(name)) is not None]
    if len(operands) != len(real.inputs) or len(operands) not in counts:
        return None
    # the first is always quantized as a whole, and with the second it is what is multiplied
    if not operands[0].is_scalar or not all(operand.is_byte for operand in operands[:2]):
        return None
    joined = form(real, operands, result.names[1:], nodes)
    return None if joined is None else replace(joined, outputs=last.outputs)


def _alone(name: str, nodes: _Nodes) -> Node | None:
    """The node that computes `name`, if nothing else reads it."""
    return nodes.producer.get(name) if nodes.uses.get(name) == 1 else None


# ------------------------------------------------------------------ forms

_Parts = list[_Quantized]
_Form = Callable[[Node, _Parts, tuple[str, ...], _Nodes], Node | None]


def _bias(parts: _Parts) -> tuple[str, ...] | None:
    """The name of an i32 bias in units of the product's own scale; (): none; None: unfit."""
    if len(parts) < 3:
        return ()
    x, w, bias = parts
    unit, own = x.scale.ravel() * w.scale.ravel(), bias.scale.ravel()
    fits = bias.zero.dtype == np.int32 and not bias.zero.any() and own.size in (1, unit.size)
    return bias.names[:1] if fits and np.allclose(own, unit, rtol=1e-5, atol=0) else None


def _conv(node: Node, parts: _Parts, result: tuple[str, ...], nodes: _Nodes) -> Node | None:
    x, w, bias = parts[0], parts[1], _bias(parts)
    if bias is None or not (w.is_scalar or w.axis == 0):
        return None
    return replace(node, op="QLinearConv", inputs=(*x.names, *w.names, *result, *bias))


def _matmul(node: Node, parts: _Parts, result: tuple[str, ...], nodes: _Nodes) -> Node | None:
    a, b = parts
    if not _of_columns(b, nodes, False):
        return None
    return replace(node, op="QLinearMatMul", inputs=(*a.names, *b.names, *result))


def _gemm(node: Node, parts: _Parts, result: tuple[str, ...], nodes: _Nodes) -> Node | None:
    a, b, bias = parts[0], parts[1], _bias(parts)
    attributes = dict(node.attributes)
    plain = attributes.pop("beta", 1.0) == 1 and (not bias or attributes.get("alpha", 1.0) == 1)
    if bias is None or not plain:
        return None
    if not _of_columns(b, nodes, bool(attributes.get("transB"))):
        return None
    names = (*a.names, *b.names, *(bias or ("",)), *result)
    return replace(node, op="QGemm", domain=MICROSOFT, inputs=names, attributes=attributes)


def _of_columns(b: _Quantized, nodes: _Nodes, transposed: bool) -> bool:
    """Whether a matrix is quantized as a whole or by the columns of the product."""
    matrix = nodes.constants.get(b.names[0])
    if b.is_scalar:
        return True
    return matrix is not None and matrix.ndim == 2 and b.axis % 2 == (0 if transposed else 1)


def _global_average_pool(
    node: Node, parts: _Parts, result: tuple[str, ...], nodes: _Nodes
) -> Node | None:
    (x,) = parts
    return replace(
        node, op="QLinearGlobalAveragePool", domain=MICROSOFT, inputs=(*x.names, *result)
    )


# operator -> (how many operands it may have, its form)
_FORMS: Mapping[str, tuple[tuple[int, ...], _Form]] = {
    "Conv": ((2, 3), _conv),
    "MatMul": ((2,), _matmul),
    "Gemm": ((2, 3), _gemm),
    "GlobalAveragePool": ((1,), _global_average_pool),
}
