"""A graph again with other weights: some channels may be missing, and results may be shifted.

    %3 = contract(window(%1), %w)            %3 = contract(window(%1), %w')
    %4 = add(%3, %b)                  -->    %4 = add(%3, %b')

Which channels go, and what the weights become, is decided by the caller while the graph grows: each
layer's new weights may follow from what is before it. Attributes of moves are adapted to shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np

from brim.compress.channels import Channels, letters
from brim.compress.matrices import matrices
from brim.compress.points import Layer
from brim.compress.refit import Refit
from brim.graph import Graph, Value, const
from brim.ops import primitive as p
from brim.ops.registry import at, emit
from brim.types import Type

Change = Callable[[Layer, Value], Refit | None]


def rebuilt(
    graph: Graph,
    layers: Collection[Layer],
    channels: Channels,
    removed: Collection[int],
    change: Change = lambda layer, z: None,
) -> Graph:
    """The graph without the `removed` channels, by number.

    change: (layer, what it reads now) -> its weights, of the shape they had, and a bias; None: as
    they were. What it reads has the shape it had, with zeros in the place of removed channels.
    """
    return _Builder(graph, layers, channels, removed, change).graph()


class _Builder:
    """New values by id of the old ones, and what is kept of these along each axis."""

    def __init__(
        self,
        graph: Graph,
        layers: Collection[Layer],
        channels: Channels,
        removed: Collection[int],
        change: Change,
    ) -> None:
        self.old, self.channels, self.change = graph, channels, change
        self.layers = {id(layer.value): layer for layer in layers}
        self.removed = np.array(sorted(removed), np.int64)
        self.new: dict[int, Value] = {id(v): v for v in graph.inputs.values()}
        self.shifted: set[int] = set()  # ids of new values: sums of a product and its shift

    def graph(self) -> Graph:
        for value in self.old.values():
            if id(value) not in self.new:
                with at(value.where):
                    self.new[id(value)] = self._made(value)
        outputs = {name: self.new[id(value)] for name, value in self.old.outputs.items()}
        return Graph(self.old.inputs, outputs, self.old.name, self.old.state)

    def _kept(self, value: Value) -> list[np.ndarray | None]:
        """Along each axis: which elements stay; None: all of them."""
        if not isinstance(value.type, Type):
            return []
        numbers = self.channels.of(value)
        stays = ~np.isin(numbers, self.removed)
        return [np.flatnonzero(stays) if n > 1 and not stays.all() else None for n in numbers.shape]

    def _shape(self, value: Value) -> tuple[int, ...]:
        return tuple(n if k is None else len(k) for n, k in zip(value.shape, self._kept(value)))

    def _made(self, value: Value) -> Value:
        if value.op is None:
            return value
        if id(value) in self.layers:
            return self._product(self.layers[id(value)])
        kept, args = self._kept(value), [self.new[id(arg)] for arg in value.args]
        same = all(a is b for a, b in zip(args, value.args))
        if same and all(k is None for k in kept):
            return value
        if value.op.kind != "elementwise":
            return self._moved(value, args)
        args = [_thinner(arg, kept) for arg in args]
        if value.op.name == "add" and id(args[0]) in self.shifted and args[1].data is not None:
            product, shift = args[0].args  # one bias instead of two
            args = [product, const(np.asarray(shift.data + args[1].data))]
        return emit(value.op, *args, **value.attrs)

    def _moved(self, value: Value, args: list[Value]) -> Value:
        """What is no product and not elementwise, for what is left."""
        assert value.op is not None
        source, attrs = value.args[0], dict(value.attrs)
        match value.op.name:
            case "reshape" | "broadcast":
                attrs["shape"] = self._shape(value)
            case "slice":
                starts = tuple(
                    start if kept is None else int((kept < start).sum())
                    for start, kept in zip(attrs["starts"], self._kept(source))
                )
                attrs |= {"starts": starts, "sizes": self._shape(value)}
            case "pad":
                low, high = list(attrs["low"]), list(attrs["high"])
                for axis, kept in enumerate(self._kept(value)):
                    if kept is not None:
                        end = attrs["low"][axis] + source.shape[axis]
                        low[axis] = int((kept < attrs["low"][axis]).sum())
                        high[axis] = int((kept >= end).sum())
                attrs |= {"low": tuple(low), "high": tuple(high)}
            case "gather" if value.args[1].data is not None:
                index, axis = value.args[1].data, attrs["axis"]
                places = self._kept(source)[axis]
                if places is not None:
                    index = _taken(index, self._kept(value)[axis : axis + index.ndim])
                    args[1] = const(np.searchsorted(places, index).astype(index.dtype))
        return emit(value.op, *args, **attrs)

    def _product(self, layer: Layer) -> Value:
        value, (data, weights, out) = layer.value, letters(layer)
        x = value.args[layer.data]
        found = self.change(layer, self._filled(x))
        array = layer.weights if found is None else found.weights
        ends = dict(zip(data, self._kept(x))) | dict(zip(out, self._kept(value)))
        array = _taken(array, [ends.get(letter) for letter in weights])
        args = [self.new[id(x)]] * 2
        args[layer.side] = const(array, value.args[layer.side].where)
        made = emit(value.op, *args, **value.attrs)  # type: ignore[arg-type]
        if found is None or not found.shift.any():
            return made
        shift = layer.along_result(matrices(layer)[1].unpack(found.shift[None, None]))
        made = p.add(made, const(_taken(shift, self._kept(value))))
        self.shifted.add(id(made))
        return made

    def _filled(self, value: Value) -> Value:
        """What became of a value, with zeros where channels have gone."""
        made = self.new[id(value)]
        for axis, kept in enumerate(self._kept(value)):
            if kept is not None:
                high = tuple(int(i == axis) for i in range(value.type.rank))
                padded = p.pad(made, low=(0,) * len(high), high=high, value=0.0)
                places = np.full(value.shape[axis], len(kept))
                places[kept] = np.arange(len(kept))
                made = p.gather(padded, const(places), axis=axis)
        return made


def _thinner(value: Value, kept: Sequence[np.ndarray | None]) -> Value:
    """What is kept of a constant; other values as they are."""
    array = None if value.data is None else _taken(value.data, kept)
    return value if array is value.data else const(np.asarray(array), value.where)


def _taken(array: np.ndarray, kept: Sequence[np.ndarray | None]) -> np.ndarray:
    """What is kept of an array that broadcasts to a value."""
    for axis, places in enumerate(kept[max(0, len(kept) - array.ndim) :]):
        if places is not None and array.shape[axis] > 1:
            array = array.take(places, axis)
    return array
