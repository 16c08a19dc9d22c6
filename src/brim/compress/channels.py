"""Which channels belong together, through a whole graph: what scaling or removing one must touch.

    %3 = contract(window(%1), %w)    # channels 1 to 16
    %5 = maximum(add(%3, %b), 0.0)   # the same ones
    %8 = contract(window(%5), %v)    # channels 17 to 48
    %9 = add(%8, %2)                 # those of %8 are those of %2, from here on

Every element of a value has a number. Products with constant weights begin new channels, moves
carry numbers along, operators that combine two values make their numbers one (union-find). Number 0
is fixed: inputs, outputs, and whatever passes an operator that is not understood. What to do with
channels is not decided here.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from brim.compress.points import Layer
from brim.graph import Graph, Value, const, rewrite
from brim.ops.primitive import parse_spec
from brim.types import Type

# f(s * x, s * y) = s * f(x, y) for s > 0; comparisons give the same for both
HOMOGENEOUS = ("add", "sub", "maximum", "minimum", "select", "neg", "absolute")
COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
SCALINGS = ("mul", "div")  # homogeneous in their first argument, if the second is a constant


def letters(layer: Layer) -> tuple[str, str, str]:
    """A letter for each axis of a layer's data, weights and result, as in the spec of `contract`.

    A `conv` has those of the contraction of its data's windows, without the axes inside those.
    """
    assert layer.value.op is not None
    if layer.value.op.name == "conv":
        outer, inner = "hwd"[: len(layer.value.shape) - 2], "ijl"[: len(layer.value.shape) - 2]
        return f"n{outer}c", f"{inner}co", f"n{outer}o"
    specs = parse_spec(layer.value.attrs["spec"])
    return specs[layer.data], specs[layer.side], specs[2]


def spread(array: np.ndarray, own: str, onto: str) -> np.ndarray:
    """An array whose axes have the letters `own`, so that it broadcasts over axes `onto`.

    Axes that `onto` lacks must be of size 1.
    """
    kept = [letter for letter in own if letter in onto]
    sizes = dict(zip(own, array.shape))
    order = [kept.index(letter) for letter in onto if letter in sizes]
    packed = array.reshape([sizes[letter] for letter in kept]).transpose(order)
    return packed.reshape([sizes.get(letter, 1) for letter in onto])


def with_weights(graph: Graph, weights: Mapping[int, np.ndarray]) -> Graph:
    """The graph with other constants; weights: id(constant value) -> array of its type."""

    def rule(value: Value) -> Value | None:
        found = weights.get(id(value))
        return None if found is None else const(found, value.where)

    return rewrite(graph, rule)


@dataclass(frozen=True, eq=False)
class Channels:
    """numbers: id(value) -> i64, of the value's rank, 1 along axes on which nothing depends."""

    numbers: Mapping[int, np.ndarray]

    def of(self, value: Value) -> np.ndarray:
        """The numbers of a value's channels, as they broadcast to it; 0: fixed."""
        found = self.numbers.get(id(value))
        return np.zeros((1,) * value.type.rank, np.int64) if found is None else found


def find_channels(graph: Graph, layers: Collection[Layer], homogeneous: bool) -> Channels:
    """Numbers the channels of every value that depends on one of the `layers`.

    homogeneous: of channels that are to be multiplied by positive numbers, which every operator on
    the way lets through, and which may differ before and after a depthwise product. Otherwise of
    channels that are to be removed, which all elementwise operators let through.
    """
    return _Search(graph, layers, homogeneous).channels()


class _Search:
    """One search: the numbers of all values so far, and which of them are one."""

    def __init__(self, graph: Graph, layers: Collection[Layer], homogeneous: bool) -> None:
        self.graph, self.homogeneous = graph, homogeneous
        self.layers = {id(layer.value): layer for layer in layers}
        self.numbers: dict[int, np.ndarray] = {}
        self.parent = np.zeros(1, np.int64)

    def channels(self) -> Channels:
        for value in self.graph.values():
            numbers = self._numbered(value)
            if numbers is not None:
                self.numbers[id(value)] = _compact(numbers)
        for value in self.graph.outputs.values():
            self._fix(value)
        found = {key: _compact(self._root(array)) for key, array in self.numbers.items()}
        return Channels(found)

    # ---------------------------------------------------------- numbers

    def _fresh(self, shape: tuple[int, ...]) -> np.ndarray:
        first = len(self.parent)
        new = np.arange(first, first + math.prod(shape), dtype=np.int64)
        self.parent = np.concatenate([self.parent, new])
        return new.reshape(shape)

    def _root(self, numbers: np.ndarray) -> np.ndarray:
        while ((above := self.parent[numbers]) != numbers).any():
            numbers = above
        return numbers

    def _unite(self, a: np.ndarray, b: np.ndarray) -> None:
        """Makes numbers one, element by element after broadcasting."""
        a, b = np.broadcast_arrays(a, b)
        while ((one := self._root(a)) != (other := self._root(b))).any():
            np.minimum.at(self.parent, np.maximum(one, other), np.minimum(one, other))

    def _fix(self, *values: Value) -> None:
        for value in values:
            if id(value) in self.numbers:
                self._unite(self.numbers[id(value)], np.zeros((), np.int64))

    # ---------------------------------------------------------- operators

    def _numbered(self, value: Value) -> np.ndarray | None:
        """The numbers of one value, given those of its arguments; None: all are fixed."""
        if value.op is None:
            return None
        if id(value) in self.layers:
            return self._product(self.layers[id(value)])
        if not any(id(arg) in self.numbers for arg in value.args):
            return None
        if isinstance(value.type, Type) and value.type.is_static:
            match value.op.kind:
                case "elementwise":
                    return self._elementwise(value)
                case "reduce" if value.op.name == "reduce":
                    return self._reduced(value)
                case "move" | "index":
                    found = self._moved(value)
                    if found is not None:
                        return found
        self._fix(*value.args)
        return None

    def _product(self, layer: Layer) -> np.ndarray:
        """New numbers; those of the data, if channels of a depthwise product are to be removed."""
        data, weights, out = letters(layer)
        x = layer.value.args[layer.data]
        given = Channels(self.numbers).of(x)
        varying = {c for c, n in zip(data, given.shape) if n > 1}
        shared = {c for c in weights if c in data and c in out}
        own = [c for c in weights if c not in data and c in out]
        if not varying <= set(weights):  # no weight goes with what would be scaled or removed
            self._fix(x)
        if not shared or self.homogeneous:
            begins = {*shared, *own[-1:]}
            sizes = zip(out, layer.value.shape)
            return self._fresh(tuple(n if c in begins else 1 for c, n in sizes))
        if not own and varying <= shared:
            return spread(given, data, out)
        self._fix(x)
        return np.zeros((1,) * len(out), np.int64)

    def _elementwise(self, value: Value) -> np.ndarray | None:
        assert value.op is not None
        varying = [arg for arg in value.args if not arg.is_const]
        if self.homogeneous:
            name = value.op.name
            scaled = name in SCALINGS and varying == [value.args[0]]
            scaled |= name == "mul" and len(varying) == 1
            if not (scaled or name in HOMOGENEOUS or name in COMPARISONS):
                self._fix(*value.args)
                return None
        rank = value.type.rank
        parts = []
        for arg in varying:
            found = Channels(self.numbers).of(arg)
            parts.append(found.reshape((1,) * (rank - found.ndim) + found.shape))
        for part in parts[1:]:
            self._unite(parts[0], part)
        return np.broadcast_arrays(*parts)[0]

    def _reduced(self, value: Value) -> np.ndarray | None:
        numbers = self.numbers[id(value.args[0])]
        mixes = any(numbers.shape[axis] > 1 for axis in value.attrs["axes"])
        if mixes or (self.homogeneous and value.attrs["op"] not in ("add", "max", "min")):
            self._fix(value.args[0])
            return None
        return numbers

    def _moved(self, value: Value) -> np.ndarray | None:
        """The numbers of what is only moved; None where they cannot follow."""
        assert value.op is not None
        x, attrs = value.args[0], value.attrs
        numbers = Channels(self.numbers).of(x)
        match value.op.name:
            case "transpose":
                return numbers.transpose(attrs["perm"])
            case "reshape":
                return _reshaped(numbers, x.shape, value.shape)
            case "broadcast":
                return numbers.reshape((1,) * (value.type.rank - numbers.ndim) + numbers.shape)
            case "slice":
                for axis, n in enumerate(numbers.shape):
                    if n > 1:
                        steps = attrs["steps"][axis] * np.arange(attrs["sizes"][axis])
                        numbers = numbers.take(attrs["starts"][axis] + steps, axis)
                return numbers
            case "window" if all(numbers.shape[axis] == 1 for axis in attrs["axes"]):
                return numbers.reshape(numbers.shape + (1,) * len(attrs["size"]))
            case "gather" if value.args[1].data is not None:
                axis, index = attrs["axis"], value.args[1].data
                if numbers.shape[axis] > 1:
                    return numbers.take(index.astype(np.int64), axis)
                shape = numbers.shape
                return numbers.reshape(shape[:axis] + (1,) * index.ndim + shape[axis + 1 :])
            case "pad" if not self.homogeneous or attrs["value"] in (0, math.inf, -math.inf):
                return self._padded(numbers, attrs["low"], attrs["high"])
            case "concat":
                return self._joined(value)
        return None

    def _padded(
        self, numbers: np.ndarray, low: tuple[int, ...], high: tuple[int, ...]
    ) -> np.ndarray:
        """Padding along channels begins new ones."""
        for axis, widths in enumerate(zip(low, high)):
            if numbers.shape[axis] > 1 and any(widths):
                shape = numbers.shape
                ends = [self._fresh((*shape[:axis], n, *shape[axis + 1 :])) for n in widths]
                numbers = np.concatenate([ends[0], numbers, ends[1]], axis)
        return numbers

    def _joined(self, value: Value) -> np.ndarray:
        axis = value.attrs["axis"]
        known = Channels(self.numbers)
        parts = [known.of(arg) for arg in value.args]
        shape = [max(part.shape[i] for part in parts) for i in range(value.type.rank)]
        sizes = [arg.shape[axis] for arg in value.args]
        whole = [
            np.broadcast_to(part, (*shape[:axis], n, *shape[axis + 1 :]))
            for part, n in zip(parts, sizes)
        ]
        return np.concatenate(whole, axis)


def _reshaped(numbers: np.ndarray, old: tuple[int, ...], new: tuple[int, ...]) -> np.ndarray:
    """Numbers of a reshaped value: only axes that are split or merged are written out."""
    first: list[int] = []
    then: list[int] = []
    for before, after in _runs(old, new):
        varies = any(numbers.shape[axis] > 1 for axis in before)
        first += [old[axis] if varies else 1 for axis in before]
        then += [new[axis] if varies else 1 for axis in after]
    return np.broadcast_to(numbers, first).reshape(then)


def _runs(old: tuple[int, ...], new: tuple[int, ...]) -> list[tuple[range, range]]:
    """The smallest runs of axes of two shapes that hold the same number of elements."""
    runs, i, j = [], 0, 0
    while i < len(old) or j < len(new):
        start, a, b = (i, j), 1, 1
        while True:
            if (a <= b and i < len(old)) or j == len(new):
                a, i = a * old[i], i + 1
            else:
                b, j = b * new[j], j + 1
            if a == b:
                break
        runs.append((range(start[0], i), range(start[1], j)))
    return runs


def _compact(numbers: np.ndarray) -> np.ndarray:
    """Without the elements along axes on which nothing depends."""
    for axis, n in enumerate(numbers.shape):
        first = numbers.take([0], axis) if n > 1 else numbers
        if n > 1 and (numbers == first).all():
            numbers = first
    return numbers
