"""The table of TFLite operators, how a row is written, and what a row's function is given.

    @operator("SOFTMAX")
    def softmax(call):
        return math.softmax(p.mul(call[0], call.float("beta")), axis=-1)

    @operator("RESHAPE", moves=True)      # the same for all element types, quantized or not
    @operator("IF", moves=True, dynamic=True)  # and for inputs without a static shape
    @quantized("CONV_2D")                 # how a row computes where its numbers are quantized

A row without a quantized form computes quantized numbers in float: its inputs are dequantized, its
results quantized, as LiteRT's tables and kernels do for activations. Rows see static shapes only;
they ask for the *contents* of an input with `call.array`. Where those are not known at import, or
an input has no static shape, the operator becomes a host step that runs the same row later, on
constants. The rows are in the folder `operators`; walking a graph is `importer`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from brim.errors import ModelError, UnsupportedError
from brim.frontends.bounds import front
from brim.frontends.tflite.model import Operator, Quantization, Subgraph, Tensor
from brim.graph import Value
from brim.types import DType

Int: TypeAlias = int  # Call has methods of the same names as these types
Float: TypeAlias = float
REQUIRED: Any = object()


Shape: TypeAlias = tuple[int, ...] | None  # None: known only when the model runs


class NeedsData(Exception):
    """A row asks for the contents of an input, which are not known before the model runs.

    shapes: those of the results, as far as they are known.
    """

    def __init__(self, what: str, shapes: tuple[Shape, ...] = ()) -> None:
        super().__init__(what)
        self.shapes = shapes


@dataclass(frozen=True, eq=False)
class Pair:
    """Complex numbers: two values of one type."""

    real: Value
    imaginary: Value


@dataclass(frozen=True)
class Resource:
    """What stands behind a handle: a variable or a table of this name."""

    name: str


Operand: TypeAlias = Value | Pair | Resource | None  # None: an input that is left out
Function: TypeAlias = Callable[["Call"], Any]


@dataclass(frozen=True)
class Row:
    """How an operator becomes values. moves: it takes any element type as it is. dynamic: it takes
    values without a static shape."""

    name: str
    function: Function
    moves: bool = False
    dynamic: bool = False


TABLE: dict[str, Row] = {}
QUANTIZED: dict[str, Function] = {}


def operator(
    *names: str, moves: bool = False, dynamic: bool = False
) -> Callable[[Function], Function]:
    """Declares how operators of these names (the schema's, or custom ones) become values."""

    def add(function: Function) -> Function:
        for name in names:
            assert name not in TABLE, f"{name} is declared twice"
            TABLE[name] = Row(name, function, moves, dynamic)
        return function

    return add


def quantized(*names: str) -> Callable[[Function], Function]:
    """Declares how operators compute where an input or a result is quantized."""

    def add(function: Function) -> Function:
        for name in names:
            assert name not in QUANTIZED, f"{name} is declared twice"
            QUANTIZED[name] = function
        return function

    return add


def nearest(name: str) -> list[str]:
    """Names in the table that resemble `name`."""
    return difflib.get_close_matches(name, TABLE, 3)


@dataclass(eq=False)
class Call:
    """What a row's function is given: an operator with its operands and what the file says of them.

    tensors, results: the file's tensors behind the inputs (None: left out) and outputs.
    """

    operator: Operator
    inputs: tuple[Operand, ...]
    tensors: tuple[Tensor | None, ...]
    results: tuple[Tensor, ...]
    scope: Any  # the importer's: sub-graphs and variables; None in a host step
    read: set[str] = field(default_factory=set)  # names of options

    @property
    def name(self) -> str:
        return self.operator.name

    # --- inputs ---

    def __len__(self) -> Int:
        return len(self.inputs)

    def __getitem__(self, index: Int) -> Value:
        found = self.get(index)
        if found is None:
            raise ModelError(f"{self.name} lacks its input {index}")
        return found

    def get(self, index: Int) -> Value | None:
        """Input `index`, or None where it is left out."""
        found = self.operand(index)
        if isinstance(found, (Pair, Resource)):
            raise ModelError(f"input {index} of {self.name} is no tensor of real numbers")
        return found

    def operand(self, index: Int) -> Operand:
        return self.inputs[index] if index < len(self.inputs) else None

    def values(self) -> list[Value]:
        """All inputs of an operator that takes any number of them."""
        return [self[i] for i in range(len(self.inputs))]

    def array(self, index: Int) -> np.ndarray:
        """The contents of input `index`, known at import. Raises NeedsData."""
        value = self[index]
        if value.data is None:
            raise NeedsData(f"input {index}")
        return value.data

    def arrays(self, *shapes: Shape) -> list[np.ndarray]:
        """The contents of all inputs, for rows that compute with numpy, as host steps do.

        shapes: those of the results, as far as they are known. Raises NeedsData.
        """
        values = self.values()
        if any(value.data is None for value in values):
            raise NeedsData("its inputs", shapes)
        return [value.data for value in values if value.data is not None]

    def handle(self, index: Int) -> str:
        """What stands behind a handle, by its name."""
        found = self.operand(index)
        if not isinstance(found, Resource):
            raise ModelError(f"{self.name} takes a handle")
        return found.name

    def state(self, index: Int) -> Value:
        """What the variable tensor that is input `index` holds. Raises ModelError for others."""
        tensor = self.tensors[index] if index < len(self.tensors) else None
        if tensor is None or not tensor.is_variable:
            raise ModelError(f"input {index} of {self.name} is not what it remembers")
        return self[index]

    def remember(self, index: Int, value: Value) -> None:
        """Leaves a value in that tensor, for the next run."""
        name = self.scope.state_of(self.operator.inputs[index])
        self.scope.variables.assign(name, value)

    def integers(self, index: Int) -> tuple[Int, ...]:
        """An input of integers whose contents are known. Raises NeedsData."""
        array = self.array(index)
        if array.dtype.kind not in "iu":
            raise ModelError(f"input {index} of {self.name} holds {array.dtype}, not integers")
        return tuple(Int(n) for n in array.ravel())

    def integer(self, index: Int) -> Int:
        """An input of one integer. Raises NeedsData."""
        found = self.integers(index)
        if len(found) != 1:
            raise ModelError(f"input {index} of {self.name} holds {len(found)} numbers, not one")
        return found[0]

    # --- what the file says ---

    def quantization(self, index: Int) -> Quantization | None:
        """That of input `index`, if it is a quantized integer."""
        tensor = self.tensors[index] if index < len(self.tensors) else None
        return None if tensor is None else quantization_of(tensor)

    def result(self, index: Int = 0) -> Tensor:
        if index >= len(self.results):
            raise ModelError(f"{self.name} has {len(self.results)} outputs")
        return self.results[index]

    def result_dtype(self, index: Int = 0) -> DType:
        dtype = self.result(index).dtype
        if dtype is None:
            raise ModelError(f"{self.name} gives {self.result(index).kind}")
        return dtype

    @property
    def is_quantized(self) -> bool:
        """Whether an input or a result is quantized."""
        return any(t is not None and quantization_of(t) for t in (*self.tensors, *self.results))

    # --- options ---

    def option(self, name: str, default: Any = REQUIRED) -> Any:
        """An option by the schema's name; operators of old files may have none."""
        self.read.add(name)
        value = self.operator.options.get(name, default)
        if value is REQUIRED:
            raise ModelError(f"{self.name} lacks its option {name!r}")
        return value

    def int(self, name: str, default: Int = REQUIRED) -> Int:
        return Int(self.option(name, default))

    def float(self, name: str, default: Float = REQUIRED) -> Float:
        return Float(self.option(name, default))

    def flag(self, name: str, default: bool = False) -> bool:
        return bool(self.option(name, default))

    def choice(self, name: str, allowed: tuple[str, ...], default: Int = REQUIRED) -> str:
        """An enumeration as one of its names, in the schema's order. Raises ModelError."""
        number = self.int(name, default)
        if not 0 <= number < len(allowed):
            raise ModelError(f"{self.name} has {name}={number}, which is none of {allowed}")
        return allowed[number]

    def numbers(self, name: str) -> tuple[Int, ...]:
        """An option that is a vector of integers; without: ()."""
        return tuple(Int(n) for n in self.option(name, ()))

    def graph(self, name: str) -> Subgraph:
        """The sub-graph whose number an option is."""
        number = self.int(name)
        if self.scope is None:
            raise self.unsupported("a sub-graph", "a step on the host has none")
        found: Subgraph = self.scope.graph_of(number)
        return found

    def ignore(self, *names: str) -> None:
        """Marks options that cannot change the result."""
        self.read.update(names)

    def axis(self, name: str, rank: Int | None = None) -> Int:
        """An axis option, counted from the front. rank: of input 0 where not given."""
        return front(self.int(name), len(self[0].shape) if rank is None else rank)

    def unsupported(self, what: str, why: str = "") -> UnsupportedError:
        return UnsupportedError(f"{self.name} with {what}", why)


def listed(found: Any) -> list[Operand]:
    """What a row gives, as the list of its results."""
    return list(found) if isinstance(found, (tuple, list)) else [found]


def quantization_of(tensor: Tensor) -> Quantization | None:
    """How the integers of a tensor are to be read, if they are quantized."""
    whole = tensor.dtype is not None and tensor.dtype.is_whole
    return tensor.quantization if whole else None


def fronts(axes: Iterable[int], rank: int) -> tuple[int, ...]:
    """Axes counted from the front, each once: TFLite allows to name one twice."""
    return tuple(dict.fromkeys(front(axis, rank) for axis in axes))
