"""The graph that a scheme describes: products of bytes, sums in i32, bytes between the kernels.

    %5: f32[1,9,9,8] = contract(window(%1), %w)
    %6: f32[1,9,9,8] = maximum(add(%5, %bias), 0.0)
-->
    %5: i32[1,9,9,8] = contract(window(%1), %w)       # u8 and i8
    %6: i32[1,9,9,8] = add(%5, %bias)                 # in units of the product
    %7: f32[1,9,9,8] = mul(cast(%6), %factor)
    %8: u8[1,9,9,8] = nearest(%7)                     # relu is where u8 end

What is between two stored values is computed in f32 inside the kernel that stores the second one.
All rounding is that of single IEEE operations, so every processor gives the same bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from brim.compress.points import Layer, is_move, moved
from brim.compress.scheme import IntWeights, Quant, Scheme
from brim.graph import Graph, Value, const
from brim.ops import primitive as p
from brim.ops.nn import conv, crop_or_pad
from brim.ops.quantized import nearest
from brim.ops.registry import at, emit
from brim.types import F32, I32, U8

_LARGEST = 1 << 30  # of a bias in units of a product: sums stay within i32


@dataclass(frozen=True)
class _Sum:
    """min(max(total * factor, low), high) of an i32 `total`; factor: f32, as it broadcasts.

    is_fine: a product's, whose units are so small that constants may be rounded to them.
    """

    total: Value
    factor: np.ndarray
    is_fine: bool
    low: float = -math.inf
    high: float = math.inf


def integers(graph: Graph, layers: tuple[Layer, ...], scheme: Scheme) -> Graph:
    """`graph` with the layers that `scheme` has weights for in integers, and what it says stored
    as u8. Layers whose input is not stored stay in floats, and read what is not rounded."""
    return _Builder(graph, layers, scheme).graph()


class _Builder:
    """What each old value became: real numbers, integers, or a sum that is neither yet."""

    def __init__(self, graph: Graph, layers: tuple[Layer, ...], scheme: Scheme) -> None:
        self.old, self.scheme = graph, scheme
        self.layers = {id(layer.value): layer for layer in layers}
        self.reals: dict[int, Value] = {id(v): v for v in graph.inputs.values()}
        self.whole: dict[int, tuple[Value, Quant]] = {}
        self.sums: dict[int, _Sum] = {}
        self.exact: dict[int, Value] = {}  # what outputs and products of floats get: not rounded

    def graph(self) -> Graph:
        for value in self.old.values():
            with at(value.where):
                self._value(value)
        outputs = {name: self._exact(value) for name, value in self.old.outputs.items()}
        return Graph(self.old.inputs, outputs, self.old.name, self.old.state)

    def _value(self, value: Value) -> None:
        if value.op is None:
            self.reals[id(value)] = value
        elif not (self._as_move(value) or self._as_layer(value) or self._as_sum(value)):
            self._as_is(value)
        quant = self.scheme.activations.get(id(value))
        if quant is not None and id(value) not in self.whole:
            self._store(value, quant)

    def _as_is(self, value: Value) -> None:
        is_product = value.op.name in ("conv", "contract")  # type: ignore[union-attr]
        args = tuple((self._exact if is_product else self._real)(arg) for arg in value.args)
        same = all(a is b for a, b in zip(args, value.args))
        self.reals[id(value)] = value if same else emit(value.op, *args, **value.attrs)  # type: ignore[arg-type]

    # ---------------------------------------------------------- forms

    def _real(self, value: Value) -> Value:
        if id(value) not in self.reals:
            if id(value) in self.whole:
                x, quant = self.whole[id(value)]
                self.reals[id(value)] = _dequantized(x, quant)
            else:
                found = self.sums[id(value)]
                y = p.mul(p.cast(found.total, to=F32), const(found.factor))
                self.reals[id(value)] = _limited(y, found.low, found.high)
        return self.reals[id(value)]

    def _exact(self, value: Value) -> Value:
        """Real numbers as they were before they were stored."""
        if id(value) not in self.exact:
            if id(value) in self.whole and is_move(value):
                sources = moved(value)
                args = [self._exact(arg) for arg in sources]
                args += [self._real(arg) for arg in value.args[len(sources) :]]
                self.exact[id(value)] = emit(value.op, *args, **value.attrs)  # type: ignore[arg-type]
            else:
                self.exact[id(value)] = self._real(value)
        return self.exact[id(value)]

    def _store(self, value: Value, quant: Quant) -> None:
        """`value` as u8; those who read it from now on read these."""
        zero = const(np.uint8(quant.zero))
        found = self.sums.get(id(value))
        if found is not None:
            factor = (found.factor.astype(np.float64) / quant.scale).astype(np.float32)
            bounds = (quant.integer(found.low), quant.integer(found.high))
            x = nearest(p.mul(p.cast(found.total, to=F32), const(factor)), zero, bounds)
        else:
            inverse = const(np.float32(1 / np.float64(quant.scale)))
            x = nearest(p.mul(self._real(value), inverse), zero)
        self.exact[id(value)] = self._real(value)
        self.whole[id(value)] = x, quant
        self.reals.pop(id(value), None)

    # ---------------------------------------------------------- moves, sums

    def _as_move(self, value: Value) -> bool:
        """Moves of integers; also the largest and smallest of them."""
        if not is_move(value):
            return False
        sources = moved(value)
        quants = {self.whole[id(arg)][1] for arg in sources if id(arg) in self.whole}
        if len(quants) != 1 or not all(id(a) in self.whole or a.is_const for a in sources):
            return False
        (quant,) = quants
        args = [self.whole[id(a)][0] if id(a) in self.whole else _stored(a, quant) for a in sources]
        attrs = dict(value.attrs)
        if value.op.name == "pad":  # type: ignore[union-attr]
            attrs["value"] = quant.integer(attrs["value"])
        rest = value.args[len(sources) :]
        self.whole[id(value)] = emit(value.op, *args, *rest, **attrs), quant  # type: ignore[arg-type]
        return True

    def _as_sum(self, value: Value) -> bool:
        """Sums of integers, biases, and the bounds of activations."""
        op = value.op.name  # type: ignore[union-attr]
        if op == "reduce" and value.attrs["op"] == "add" and id(value.args[0]) in self.whole:
            x, quant = self.whole[id(value.args[0])]
            total = p.reduce(p.cast(x, to=I32), op="add", axes=value.attrs["axes"])
            terms = value.args[0].type.size // max(value.type.size, 1)
            self.sums[id(value)] = _Sum(
                p.sub(total, terms * quant.zero), np.asarray(quant.scale, np.float32), False
            )
            return True
        if op not in ("add", "maximum", "minimum", "mul", "div") or len(value.args) != 2:
            return False
        x, other = value.args
        if id(x) not in self.sums or other.data is None or value.type != x.type:
            return False
        changed = _changed(op, self.sums[id(x)], other.data)
        if changed is not None:
            self.sums[id(value)] = changed
        return changed is not None

    # ---------------------------------------------------------- products

    def _as_layer(self, value: Value) -> bool:
        layer = self.layers.get(id(value))
        weights = self.scheme.weights.get(id(value))
        if layer is None or weights is None or id(value.args[layer.data]) not in self.whole:
            return False
        x, quant = self.whole[id(value.args[layer.data])]
        total = _product(layer, x, quant, weights)
        sums = weights.integers.sum(axis=layer.summed, keepdims=True, dtype=np.int64)
        bias = -quant.zero * layer.along_result(sums)
        factor = layer.along_result(weights.scale.astype(np.float64)) * quant.scale
        if weights.shift is not None:
            bias = bias + np.rint(weights.shift / factor).astype(np.int64)
        total = p.add(total, const(np.clip(bias, -_LARGEST, _LARGEST).astype(np.int32)))
        self.sums[id(value)] = _Sum(total, factor.astype(np.float32), True)
        return True


def _product(layer: Layer, x: Value, quant: Quant, weights: IntWeights) -> Value:
    """The sums of x * w, i32."""
    w, attrs = const(weights.integers), dict(layer.value.attrs)
    if layer.value.op.name == "contract":  # type: ignore[union-attr]
        return emit(layer.value.op, *((x, w) if layer.data == 0 else (w, x)), **attrs)  # type: ignore[arg-type]
    x = crop_or_pad(x, attrs["low"], attrs["high"], quant.zero)
    inside = (0,) * len(attrs["low"])
    return conv(x, w, **{**attrs, "low": inside, "high": inside, "exact": True})


def _changed(op: str, found: _Sum, other: np.ndarray) -> _Sum | None:
    """`op` of a sum and a constant, as a sum; None: it is none."""
    bounded = (found.low, found.high) != (-math.inf, math.inf)
    if op == "add" and found.is_fine and not bounded and other.ndim <= found.total.type.rank:
        with np.errstate(over="ignore", invalid="ignore"):
            units = np.rint(other.astype(np.float64) / found.factor)
        if not np.isfinite(units).all() or np.abs(units).max(initial=0) > _LARGEST:
            return None
        return replace(found, total=p.add(found.total, const(units.astype(np.int32))))
    if other.size != 1:
        return None
    number = float(other.reshape(-1)[0])
    if op in ("mul", "div") and not bounded and number > 0 and math.isfinite(number):
        wide = np.asarray(found.factor, np.float64)
        factor = np.asarray(wide * number if op == "mul" else wide / number, np.float32)
        return replace(found, factor=factor) if np.isfinite(factor).all() and factor.all() else None
    if op == "maximum" and number <= found.high:
        return replace(found, low=max(found.low, number))
    if op == "minimum" and number >= found.low:
        return replace(found, high=min(found.high, number))
    return None


def _dequantized(x: Value, quant: Quant) -> Value:
    return p.mul(p.cast(p.sub(p.cast(x, to=I32), quant.zero), to=F32), np.float32(quant.scale))


def _stored(value: Value, quant: Quant) -> Value:
    """A constant as u8."""
    real = np.float64(value.data) / quant.scale  # type: ignore[arg-type]
    return const(np.clip(np.rint(real) + quant.zero, 0, 255).astype(U8.numpy))


def _limited(y: Value, low: float, high: float) -> Value:
    y = p.maximum(y, low) if low != -math.inf else y
    return p.minimum(y, high) if high != math.inf else y
