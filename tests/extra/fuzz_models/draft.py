"""A model in the making: seeded drawing of numbers, shapes and arrays, and nodes added one by one.

Every node is computed at once (by `engines.settle`), so that whatever comes after knows shapes and
contents. No operator is known here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import ml_dtypes
import numpy as np
import onnx
from onnx import defs, helper, numpy_helper

from brim.reduce.onnx_files import outer_names
from tests.extra.fuzz_models.engines import Refused, settle
from tests.extra.fuzz_models.models import element_type, make_model

T = TypeVar("T")
Array = np.ndarray
LARGEST = 4000  # elements of one tensor: interpreters in Python have to finish
FLOATS = ("float32", "float64", "float16")
SIGNED = ("int32", "int64", "int8", "int16")
UNSIGNED = ("uint8", "uint32", "uint64", "uint16")
INTEGERS = SIGNED + UNSIGNED
NUMBERS = FLOATS + INTEGERS
ANY = (*NUMBERS, "bool")
# Types that are moved and converted, hardly ever computed with; their names in numpy and in ONNX.
STORED = {
    "bfloat16": "bfloat16",
    "float8_e4m3fn": "float8e4m3fn",
    "float8_e4m3fnuz": "float8e4m3fnuz",
    "float8_e5m2": "float8e5m2",
    "float8_e5m2fnuz": "float8e5m2fnuz",
    "int4": "int4",
    "uint4": "uint4",
}
COMMON = {"float32": 12, "int64": 4, "float64": 3, "float16": 3, "int32": 3, "uint8": 2, "int8": 2}


class Unfit(Exception):
    """The draw cannot go on: a node that no peer accepts, or no operand that fits."""


@dataclass(frozen=True)
class Tensor:
    """A value of the draft: its name, and what it holds for the draft's inputs."""

    name: str
    array: Array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def rank(self) -> int:
        return self.array.ndim

    @property
    def dtype(self) -> str:
        return "str" if self.array.dtype == object else self.array.dtype.name


@dataclass(eq=False)
class Draft:
    """Nodes, inputs and constants drawn so far. temper: plain, special or extreme numbers."""

    rng: np.random.Generator
    opset: int
    temper: str = "plain"
    home: str = ""  # a peer that has to run every node; else any one will do
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    inputs: dict[str, Array] = field(default_factory=dict)
    initializers: dict[str, Array] = field(default_factory=dict)
    values: dict[str, Tensor] = field(default_factory=dict)
    count: int = 0

    # --- numbers

    def integer(self, low: int, high: int) -> int:
        """low <= n <= high."""
        return int(self.rng.integers(low, high + 1))

    def chance(self, probability: float = 0.5) -> bool:
        return bool(self.rng.random() < probability)

    def choose(self, options: Sequence[T]) -> T:
        return options[self.integer(0, len(options) - 1)]

    def subset(self, options: Sequence[T], least: int = 0) -> list[T]:
        """Some of the options, in any order."""
        count = self.integer(min(least, len(options)), len(options))
        return [options[i] for i in self.rng.permutation(len(options))[:count]]

    def number(self, low: float, high: float) -> float:
        """A number that f32 holds exactly."""
        return float(np.float32(self.rng.uniform(low, high)))

    def axis(self, rank: int) -> int:
        return self.integer(-rank, rank - 1)

    def size(self, zero: bool = True) -> int:
        """An extent: mostly small, sometimes odd for vectors, rarely zero."""
        roll = self.rng.random()
        if roll < 0.02:
            return 0 if zero else 1
        return self.integer(1, 5) if roll < 0.85 else self.choose([7, 8, 9, 13, 16, 17, 19, 33])

    def shape(self, low: int = 0, high: int = 5, zero: bool = True) -> tuple[int, ...]:
        """A shape of `low` to `high` axes."""
        rank = self.integer(low, high)
        shape = [self.size(zero) for _ in range(rank)]
        while math.prod(shape) > LARGEST:
            shape[int(np.argmax(shape))] = self.integer(1, 3)
        return tuple(shape)

    # --- arrays

    def dtype(self, options: Iterable[str]) -> str:
        """One of the element types, the common ones more often."""
        options = tuple(options)
        weights = np.array([COMMON.get(n, 0.3 if n in STORED else 1) for n in options], float)
        return str(self.rng.choice(np.array(options), p=weights / weights.sum()))

    def array(self, shape: Sequence[int], dtype: str, plain: bool = False) -> Array:
        """Contents in the draft's temper; `plain`: finite and small in any case."""
        shape = tuple(shape)
        if dtype == "bool":
            return self.rng.random(shape) < 0.5
        if dtype == "str":
            words = np.array(["a", "b", "ab", "", "Zoë", "x y", "1.5", "-3"], object)
            return np.asarray(words[self.rng.integers(0, len(words), shape)], object)
        if dtype in STORED:
            low, high = (0, 15) if dtype == "uint4" else (-8, 7)
            step = 1 if dtype in ("int4", "uint4") else self.choose([1.0, 2.0, 8.0])
            return (self.rng.integers(low, high + 1, shape) / step).astype(np.dtype(dtype))
        if dtype in INTEGERS:
            return self._integers(shape, np.dtype(dtype), plain)
        return self._floats(shape, dtype, plain)

    def _integers(self, shape: tuple[int, ...], dtype: np.dtype, plain: bool) -> Array:
        info = np.iinfo(dtype)
        array = self.rng.integers(max(info.min, -9), 10, shape).astype(dtype)
        if not plain and self.temper in ("extreme", "limits"):
            ends = np.array([info.min, info.max, info.max - 1, info.max // 2 + 1, 0, 1], dtype)
            chosen = ends[self.rng.integers(0, len(ends), shape)]
            array = np.where(self.rng.random(shape) < 0.4, chosen, array)
        return array

    def _floats(self, shape: tuple[int, ...], dtype: str, plain: bool) -> Array:
        kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
        if self.chance(0.3):
            array = self.rng.integers(-4, 5, shape) / self.choose([1.0, 2.0])
        else:
            array = self.rng.normal(0, self.choose([0.5, 1.0, 3.0]), shape)
        if not plain and self.temper == "special":
            tiny = float(ml_dtypes.finfo(kind).smallest_normal)
            ends = np.array([np.nan, np.inf, -np.inf, -0.0, 0.0, tiny, -tiny, 1.0])
            chosen = ends[self.rng.integers(0, len(ends), shape)]
            array = np.where(self.rng.random(shape) < 0.2, chosen, array)
        if not plain and self.temper in ("extreme", "limits"):
            top = float(ml_dtypes.finfo(kind).max)
            if self.temper == "extreme":  # products of two are finite: what overflows is no test
                top = min(float(np.sqrt(top)) / 64, 1e17)
            ends = np.array([top, -top, top / 2, 40.0, -40.0, 60.0, -90.0, 0.5])
            chosen = ends[self.rng.integers(0, len(ends), shape)]
            array = np.where(self.rng.random(shape) < 0.2, chosen, array)
        with np.errstate(over="ignore"):
            return np.asarray(array).astype(kind)

    # --- values

    def feed(self, array: Array) -> Tensor:
        """An array as an input of the model, an initializer, or a Constant node."""
        roll = self.rng.random()
        if roll < 0.6:
            return self._known(self.inputs, array, "x")
        return self.constant(array)

    def constant(self, array: Array) -> Tensor:
        """An array that is known when the model is read."""
        array = np.asarray(array)
        if self.chance(0.8) or array.dtype == object:
            return self._known(self.initializers, array, "c")
        name = self._name("k")
        proto = numpy_helper.from_array(array, name)
        self.nodes.append(helper.make_node("Constant", [], [name], value=proto))
        return self._keep(name, array)

    def ints(self, values: Iterable[int], dtype: str = "int64") -> Tensor:
        """A list of integers as a tensor: mostly constant, sometimes only known when it runs."""
        array = np.array(list(values), dtype)
        return self.constant(array) if self.chance(0.85) else self._known(self.inputs, array, "i")

    def scalar(self, value: Any, dtype: str) -> Tensor:
        array = np.array(value, dtype)
        return self.constant(array) if self.chance(0.85) else self._known(self.inputs, array, "i")

    def tensor(self, shape: Sequence[int], dtype: str, plain: bool = False) -> Tensor:
        """A value of exactly this type: one that exists, now and then, or a new one."""
        shape = tuple(shape)
        found = [v for v in self.values.values() if v.shape == shape and v.dtype == dtype]
        if found and not plain and self.chance(0.5):
            return self.choose(found)
        return self.feed(self.array(shape, dtype, plain))

    def take(
        self,
        dtypes: Iterable[str],
        low: int = 0,
        high: int = 5,
        fits: Callable[[Tensor], bool] = lambda tensor: True,
        zero: bool = True,
    ) -> Tensor:
        """A value of `low` to `high` axes: often one that exists, else a new one."""
        dtypes = tuple(dtypes)

        def right(v: Tensor) -> bool:
            full = zero or 0 not in v.shape
            return v.dtype in dtypes and low <= v.rank <= high and full and fits(v)

        found = [v for v in self.values.values() if right(v)]
        if found and self.chance(0.85):
            recent = found[-3:] if self.chance(0.7) else found
            return self.choose(recent)
        for _ in range(30):
            shape, dtype = self.shape(low, high, zero), self.dtype(dtypes)
            if fits(Tensor("", np.zeros(shape, bool))):
                return self.feed(self.array(shape, dtype))
        raise Unfit("no shape fits")

    def broadcastable(self, shape: tuple[int, ...], dtype: str) -> Tensor:
        """A value that broadcasts with `shape`, in either direction."""

        def right(v: Tensor) -> bool:
            try:
                full = np.broadcast_shapes(v.shape, shape)
            except ValueError:
                return False
            return v.dtype == dtype and math.prod(full) <= LARGEST

        found = [v for v in self.values.values() if right(v)]
        if found and self.chance(0.4):
            return self.choose(found)
        kept = shape[self.integer(0, len(shape)) :] if self.chance() else shape
        kept = tuple(1 if self.chance(0.3) else n for n in kept)
        if self.chance(0.15) and math.prod(shape) <= 500:
            kept = (self.integer(1, 3), *(1 for _ in range(len(shape) - len(kept))), *kept)
        return self.tensor(kept, dtype)

    def _known(self, group: dict[str, Array], array: Array, letter: str) -> Tensor:
        name = self._name(letter)
        group[name] = array
        return self._keep(name, array)

    def _keep(self, name: str, array: Array) -> Tensor:
        self.values[name] = Tensor(name, array)
        return self.values[name]

    def _name(self, letter: str) -> str:
        self.count += 1
        return f"{letter}{self.count}"

    # --- nodes

    def types(self, op: str, index: int = 0, domain: str = "") -> tuple[str, ...]:
        """Element types that the operator allows for input `index` in the draft's opset.

        `STORED` ones only where text is allowed, too: such an operator does not compute.
        """
        schema = defs.get_schema(op, self.opset, domain)
        ports = schema.inputs
        port = ports[min(index, len(ports) - 1)]
        allowed = set(port.types)
        moved = STORED if "tensor(string)" in allowed else ()
        return tuple(name for name in (*ANY, "str", *moved) if _typestr(name) in allowed)

    def has(self, op: str, attribute: str) -> bool:
        """Whether the operator has an attribute of this name in the draft's opset."""
        return attribute in defs.get_schema(op, self.opset).attributes

    def takes(self, op: str) -> int:
        """How many inputs the operator has in the draft's opset."""
        return len(defs.get_schema(op, self.opset).inputs)

    def add(
        self, op: str, *inputs: Tensor | None, outputs: int = 1, domain: str = "", **attributes: Any
    ) -> list[Tensor]:
        """Adds a node and what it computes. Attributes that are None are left out. Raises Unfit."""
        names = [self._name("v") for _ in range(outputs)]
        given = {name: value for name, value in attributes.items() if value is not None}
        takes = [tensor.name if tensor else "" for tensor in inputs]
        while takes and not takes[-1]:
            takes.pop()
        node = helper.make_node(op, takes, names, domain=domain, **given)
        known = {t.name: t.array for t in inputs if t is not None}
        known |= {name: self.values[name].array for name in outer_names(node)}
        try:
            results = settle(node, known, self.opset, self.home)
        except Refused as error:
            raise Unfit(str(error)) from None
        self.nodes.append(node)
        return [self._keep(name, results[name]) for name in names if name in results]

    def model(self, outputs: Sequence[str]) -> onnx.ModelProto:
        """The model so far with these outputs; what they do not need stays, as dead ends."""
        used = {name for node in self.nodes for name in (*node.input, *outer_names(node))}
        used |= set(outputs)
        inputs = {name: array for name, array in self.inputs.items() if name in used}
        initializers = {name: array for name, array in self.initializers.items() if name in used}
        results = {name: self.values[name].array for name in outputs}
        return make_model(self.nodes, inputs, initializers, results, self.opset)


def _typestr(name: str) -> str:
    text = {"float32": "float", "float64": "double", "str": "string", **STORED}.get(name, name)
    return f"tensor({text})"


def element_number(name: str) -> int:
    """The number ONNX gives an element type, by its numpy name."""
    return element_type(np.dtype(name))
