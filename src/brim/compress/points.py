"""Which products of a float graph are computed in integers, and which values are stored as such.

A value is stored where one kernel ends and another begins: before products and pools, where a
residual stream forks, where two products meet. What lies between these points is computed number by
number in the kernel that stores it, and never rounded. Values that are only moved into one another
(concat, max-pool) share a scale, so that nothing has to be scaled again:

    %5 = contract(window(%1), %w)    # a layer; %1 is stored
    %6 = maximum(add(%5, %b), 0.0)   # stored, for the next layer reads it
    %9 = contract(window(pad(%6)), %v)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from brim.graph import Graph, Value, users
from brim.ops.primitive import parse_spec
from brim.ops.winograd import offered
from brim.types import F32, Type

LONGEST = (1 << 30) // (255 * 127)  # so many products of u8 and i8, and a bias, fit an i32
_MOVES = ("reshape", "transpose", "slice", "pad", "window", "broadcast", "concat", "gather")
_PRODUCTS = ("conv", "contract")
_MEET = ("add", "sub", "mul", "maximum", "minimum", "div")
Ints = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Layer:
    """A product of an activation with constant weights: a `conv`, or a `contract`.

    data, side: which argument is the activation, and which the weights. name: the source's node,
    or what else tells it from the graph's others.
    """

    value: Value
    data: int
    side: int
    name: str

    @property
    def weights(self) -> np.ndarray:
        found = self.value.args[self.side].data
        assert found is not None
        return found

    @cached_property
    def summed(self) -> tuple[int, ...]:
        """The axes of the weights that are summed over: they share a scale."""
        rank = self.weights.ndim
        if self.value.op.name == "conv":  # type: ignore[union-attr]
            return tuple(range(rank - 1))
        specs = parse_spec(self.value.attrs["spec"])
        own, out = specs[self.side], specs[2]
        return tuple(i for i, letter in enumerate(own) if letter not in out)

    @property
    def pairs(self) -> int | None:
        """The axis of the weights along which a product takes neighbours together; None: it takes
        none, or is computed in 16 bits anyway, by Winograd's algorithm for integers."""
        if self.value.op.name == "conv":  # type: ignore[union-attr]
            *window, _, _ = self.weights.shape
            return None if offered(tuple(window), whole=True) else self.weights.ndim - 2
        specs = parse_spec(self.value.attrs["spec"])
        own, data, out = specs[self.side], specs[self.data], specs[2]
        is_dense = any(letter in out and letter not in data for letter in own)
        return self.summed[-1] if is_dense else None

    def along_result(self, scale: np.ndarray) -> np.ndarray:
        """Numbers of the weights' rank, one along `summed`, as they broadcast to the result."""
        split, order, joined = self.to_result(scale.shape)
        return scale.reshape(split).transpose(order).reshape(joined)

    def to_result(self, shape: Ints) -> tuple[Ints, Ints, Ints]:
        """`along_result` of a shape as a reshape, a transpose and a reshape."""
        if self.value.op.name == "conv":  # type: ignore[union-attr]
            return (shape[-1],), (0,), (shape[-1],)
        specs = parse_spec(self.value.attrs["spec"])
        own, out = specs[self.side], specs[2]
        kept = [letter for letter in own if letter in out]
        sizes = {letter: shape[own.index(letter)] for letter in kept}
        order = tuple(kept.index(letter) for letter in out if letter in kept)
        joined = tuple(sizes.get(letter, 1) for letter in out)
        return tuple(sizes.values()), order, joined


@dataclass(frozen=True, eq=False)
class Points:
    """layers: in order. groups: stored values, those that share a scale together."""

    layers: tuple[Layer, ...]
    groups: tuple[tuple[Value, ...], ...]

    @property
    def stored(self) -> tuple[Value, ...]:
        return tuple(value for group in self.groups for value in group)


def find_layers(graph: Graph) -> tuple[Layer, ...]:
    """Every product of a graph that could be computed in integers."""
    found: list[Layer] = []
    names: Counter[str] = Counter()
    for value in graph.values():
        if (sides := _sides(value)) is not None:
            name = value.where or value.op.name  # type: ignore[union-attr]
            names[name] += 1
            unique = value.where and names[name] == 1
            found.append(Layer(value, *sides, name if unique else f"{name} {names[name]}"))
    return tuple(found)


def _sides(value: Value) -> tuple[int, int] | None:
    """Which argument of a product is its activation, and which its weights; None: it is none."""
    if value.op is None or value.op.name not in _PRODUCTS or value.dtype != F32:
        return None
    sides = [i for i, arg in enumerate(value.args) if arg.is_const]
    if len(sides) != 1 or not value.type.is_static:
        return None
    layer = Layer(value, 1 - sides[0], sides[0], "")
    w = layer.weights
    terms = int(np.prod([w.shape[i] for i in layer.summed]))
    if not 1 < terms < LONGEST or not np.isfinite(w).all():
        return None
    return layer.data, layer.side


def find_points(graph: Graph, wanted: Callable[[Layer], bool] = lambda layer: True) -> Points:
    """The layers that are `wanted` in integers, and what is stored as integers for them."""
    layers = tuple(layer for layer in find_layers(graph) if wanted(layer))
    return _Search(graph, layers).points()


class _Search:
    """One search: the stored values so far, and which of them share a scale (union-find)."""

    def __init__(self, graph: Graph, layers: tuple[Layer, ...]) -> None:
        self.graph, self.layers = graph, layers
        self.order = graph.values()
        self.position = {id(value): i for i, value in enumerate(self.order)}
        self.users = users(graph)
        self.ends = {id(value) for value in graph.outputs.values()}
        self.among = self._of_layers() & self._for_layers()
        self.stored: dict[int, Value] = {}
        self.tied: dict[int, int] = {}

    def points(self) -> Points:
        if self.layers:
            for layer in self.layers:
                self._store(layer.value.args[layer.data])
            for value in self.order:
                if self._is_among(value) and _is_sum(value) and not self._normalises(value):
                    self._store(_summands(value))
            self._store_forks()
            self._store_meetings()
        groups: dict[int, list[Value]] = {}
        for value in self.order:
            if id(value) in self.stored:
                groups.setdefault(self._find(id(value)), []).append(value)
        return Points(self.layers, tuple(map(tuple, groups.values())))

    # ---------------------------------------------------------- between layers

    def _is_among(self, value: Value) -> bool:
        """Whether a value is computed of integer layers alone, and for such or an output: beside
        layers in floats nothing is rounded that no layer needs rounded."""
        return id(value) in self.among

    def _of_layers(self) -> set[int]:
        found = {id(layer.value) for layer in self.layers}
        for value in self.order:
            sources = [arg for arg in value.args if not arg.is_const]
            if sources and not _is_heavy(value) and all(id(arg) in found for arg in sources):
                found.add(id(value))
        return found

    def _for_layers(self) -> set[int]:
        found, layers = set(self.ends), {id(layer.value) for layer in self.layers}
        for value in reversed(self.order):
            if id(value) in layers or (id(value) in found and not _is_heavy(value)):
                found.update(id(arg) for arg in value.args)
        return found

    # ---------------------------------------------------------- sharing scales

    def _find(self, key: int) -> int:
        while self.tied.get(key, key) != key:
            key = self.tied[key]
        return key

    def _store(self, value: Value) -> None:
        """Stores what `value` is only moved from; all of it with one scale."""
        sources = [root for root in roots(value) if not root.is_const]
        if not all(_is_float(root) for root in sources):
            return
        for root in sources:
            self.stored[id(root)] = root
            self.tied[self._find(id(root))] = self._find(id(sources[0]))

    # ---------------------------------------------------------- forks and meetings

    def _store_forks(self) -> None:
        """Stores what several kernels read, where their ways part."""
        sinks = self._sinks()
        last: dict[frozenset, Value] = {}
        for value in self.order:
            found = sinks.get(id(value), frozenset())
            if len(found) > 1 and _is_float(value) and id(value) not in self.stored:
                last[found] = value
        for found, value in last.items():
            starts = (v for v in self.order if sinks.get(id(v)) == found)
            if self._is_among(value) and any(_is_heavy(v) for v in starts):
                self._store(value)

    def _sinks(self) -> dict[int, frozenset]:
        """id of each value -> ids of the stored values and kernels that need it as it is."""
        found: dict[int, frozenset] = {}
        for value in reversed(self.order):
            if id(value) in self.stored:
                found[id(value)] = frozenset({id(value)})
                continue
            sinks: set[int] = {id(value)} if id(value) in self.ends else set()
            for user in self.users.get(id(value), ()):
                through = _is_light(user) or _is_reduction(user)
                sinks |= found[id(user)] if through else {id(user)}
            found[id(value)] = frozenset(sinks)
        return found

    def _store_meetings(self) -> None:
        """Where two products meet, stores the result of the earlier one: the later one's kernel
        reads it."""
        heavy: dict[int, frozenset[int]] = {}
        for value in self.order:
            if id(value) in self.stored:
                heavy[id(value)] = frozenset()
            elif _is_heavy(value):
                heavy[id(value)] = frozenset({id(value)})
            elif _is_light(value):
                heavy[id(value)] = self._met(value, heavy)
            else:
                heavy[id(value)] = frozenset()

    def _met(self, value: Value, heavy: dict[int, frozenset[int]]) -> frozenset[int]:
        meet = [arg for arg in value.args if heavy.get(id(arg)) and arg.shape == value.shape]
        if value.op.name in _MEET and len(meet) == 2:  # type: ignore[union-attr]
            first, second = sorted(meet, key=lambda arg: self._latest(heavy[id(arg)]))
            if heavy[id(first)].isdisjoint(heavy[id(second)]) and self._may_store(value, first):
                self._store(first)
                return heavy[id(second)]
        return frozenset().union(*(heavy.get(id(arg), frozenset()) for arg in value.args))

    def _latest(self, ids: Iterable[int]) -> int:
        return max(self.position[i] for i in ids)

    def _may_store(self, value: Value, arg: Value) -> bool:
        """Whether `value` leads to something stored: else all is in floats there anyway."""
        return (
            _is_float(arg)
            and self._is_among(arg)
            and any(id(later) in self.stored for later in self._onward(value, _is_light))
        )

    # ---------------------------------------------------------- normalisation

    def _normalises(self, total: Value) -> bool:
        """Whether a sum is combined with what it is a sum of, as in layer norms and softmax."""
        own: set[int] = set()
        stack = [total.args[0]]
        while stack:
            part = stack.pop()
            if id(part) not in own and not part.is_const:
                own.add(id(part))
                stack.extend(part.args if _is_light(part) else ())
        later = list(self._onward(total, lambda v: _is_light(v) or _is_sum(v)))
        behind = {id(total), *map(id, later)}
        return any(id(arg) in own for value in later for arg in value.args if id(arg) not in behind)

    def _onward(self, value: Value, through: Callable[[Value], bool]) -> Iterator[Value]:
        """What is computed of `value` by operators that are let `through`."""
        stack, seen = [value], {id(value)}
        while stack:
            for user in self.users.get(id(stack.pop()), ()):
                if id(user) not in seen and through(user):
                    seen.add(id(user))
                    stack.append(user)
                    yield user


def _is_float(value: Value) -> bool:
    return isinstance(value.type, Type) and value.type.is_static and value.dtype == F32


def _is_heavy(value: Value) -> bool:
    """Whether a value needs a kernel of its own, which others may be fused with."""
    return value.op is not None and value.op.name in _PRODUCTS


def _is_light(value: Value) -> bool:
    return value.op is not None and value.op.kind in ("elementwise", "move")


def _is_reduction(value: Value) -> bool:
    return value.op is not None and value.op.kind == "reduce"


def _is_sum(value: Value) -> bool:
    return value.op is not None and value.op.name == "reduce" and value.attrs["op"] == "add"


def _summands(total: Value) -> Value:
    """What a sum is a sum of: of a weighted one, as of resampled pixels, before the weights."""
    terms = total.args[0]
    if terms.op is not None and terms.op.name == "mul":
        for x, w in (terms.args, terms.args[::-1]):
            axes = [axis - terms.type.rank for axis in total.attrs["axes"]]
            if w.is_const and any(w.type.rank >= -i and w.shape[i] > 1 for i in axes):
                return x
    return terms


def is_move(value: Value) -> bool:
    """Whether a value's numbers are all its first argument's (of a concat: its arguments'), and
    their order by size is kept: as integers they have the same scale."""
    if value.op is None:
        return False
    if value.op.name == "reduce":
        return value.attrs["op"] in ("max", "min")
    return value.op.name in _MOVES


def moved(value: Value) -> tuple[Value, ...]:
    """The arguments of a move that it moves."""
    return value.args if value.op.name == "concat" else value.args[:1]  # type: ignore[union-attr]


def roots(value: Value) -> list[Value]:
    """The values that `value` is only moved from."""
    found: list[Value] = []
    stack, seen = [value], set[int]()
    while stack:
        part = stack.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if is_move(part):
            stack.extend(moved(part))
        else:
            found.append(part)
    return found
