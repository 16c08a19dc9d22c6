"""The table of ONNX operators, how a row is written, and what a row's function is given.

    @operator("Softmax", since=13)
    def softmax(call): return math.softmax(call[0], axis=call.axis("axis", -1))

    @host("NonZero")
    def nonzero(call, x): return np.stack(np.nonzero(x)).astype(np.int64)

An `operator` builds brim values and sees only static shapes; it asks for the *contents* of an input
with `call.array`. Where those are not known at import, the node becomes a host step that runs the
same function later, on constants. Only with `dynamic=True` it gets values of unknown shape, too. A
`host` function computes with arrays in any case; of containers it gets and gives lists, dicts and
None. The rows are in the folder `operators`; walking a graph is `importer`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from brim.errors import ModelError, UnsupportedError
from brim.frontends.bounds import front
from brim.frontends.onnx.model import Node, Subgraph
from brim.frontends.onnx.operands import Nothing, Operand, Sequence
from brim.graph import Value
from brim.types import Type, parse_type

REQUIRED: Any = object()
Int: TypeAlias = int  # Call has methods of the same names as these types
Float: TypeAlias = float
NEVER = 1 << 31  # no operator set: a row that holds until a newer one
MICROSOFT = "com.microsoft"  # the domain of what onnxruntime adds: operators/microsoft


class NeedsData(Exception):
    """The contents of an input decide about shapes and are not known before the model runs."""


@dataclass(frozen=True)
class Row:
    """One version of an operator; `on_host`: the function takes and gives arrays.

    dynamic: it takes values of unknown shape and containers while it is imported. types: the types
    of the outputs of a host step, where ONNX's own inference does not know them. storage: it takes
    storage types as they are, because it only moves or converts (see `widening`). until: the last
    operator set of a meaning that a row with an earlier `since` must not have (`operators/old.py`).
    refused: why the operator is known and not converted; its function raises that.
    """

    name: str
    domain: str
    since: int
    function: Callable[..., Any]
    on_host: bool
    dynamic: bool = False
    types: Callable[[Call], Iterable[Type]] | None = None
    storage: bool = False
    until: int = NEVER
    refused: str = ""


TABLE: dict[tuple[str, str], list[Row]] = {}


def _declare(names: tuple[str, ...], since: int, domain: str, **fields: Any) -> Callable:
    def add(function: Callable) -> Callable:
        for name in names:
            rows = TABLE.setdefault((domain, name), [])
            rows.append(Row(name, domain, since, function, **fields))
            rows.sort(key=lambda row: (row.since, -row.until))
            spans = {(row.since, row.until) for row in rows}
            assert len(spans) == len(rows), f"{name} {since} is declared twice"
        return function

    return add


def operator(
    *names: str,
    since: int = 1,
    domain: str = "",
    dynamic: bool = False,
    storage: bool = False,
    types: Callable[[Call], Iterable[Type]] | None = None,
    until: int = NEVER,
) -> Callable:
    """Declares how operators of these names, from operator set `since` on, become values."""
    fields = {"dynamic": dynamic, "storage": storage, "types": types, "until": until}
    return _declare(names, since, domain, on_host=False, **fields)


def host(
    *names: str,
    since: int = 1,
    domain: str = "",
    types: Callable[[Call], Iterable[Type]] | None = None,
) -> Callable:
    """Declares a numpy function (call, *arrays) for operators that run between compiled steps."""
    return _declare(names, since, domain, on_host=True, types=types)


def refuse(*names: str, what: str, why: str, hint: str, domain: str = "") -> None:
    """Declares operators that are not converted on purpose, with what a model's user is told."""

    def function(call: Call) -> Value:
        raise UnsupportedError(f"{call.node.op}: {what}", why, hint=hint)

    _declare(names, 1, domain, on_host=False, refused=f"{what}: {why}")(function)


def find(name: str, domain: str, version: int) -> Row | None:
    """The newest row that is not newer than `version`, nor ended before it."""
    rows = [row for row in TABLE.get((domain, name), ()) if row.since <= version <= row.until]
    return rows[-1] if rows else None


def nearest(name: str, domain: str) -> list[str]:
    """Names in the table that resemble `name`."""
    known = [n for d, n in TABLE if d == domain] or [n for _, n in TABLE]
    return difflib.get_close_matches(name, known, 3)


@dataclass(eq=False)
class Call:
    """What a row's function is given: a node with its operands, read through typed accessors."""

    node: Node
    version: int
    inputs: tuple[Operand, ...]
    scope: Any  # the importer's, for operators with sub-graphs
    read: set[str | Int] = field(default_factory=set)  # names of attributes, numbers of inputs
    results: tuple[Type, ...] = ()  # in a host step: the types of those outputs that are used

    # --- inputs ---

    def __getitem__(self, index: Int) -> Value:
        found = self.get(index)
        if found is None:
            raise ModelError(f"{self.node.op} lacks its input {index}")
        return found

    def get(self, index: Int) -> Value | None:
        """Input `index`, or None where it is left out."""
        found = self.operand(index)
        if isinstance(found, (Sequence, Nothing)):
            kind = "a sequence" if isinstance(found, Sequence) else "empty"
            raise ModelError(f"input {index} of {self.node.op} is {kind}, not a tensor")
        return found

    def operand(self, index: Int) -> Operand:
        """Input `index` as it is: a value, a sequence, an empty optional, or None if left out."""
        self.read.add(index)
        return self.inputs[index] if index < len(self.inputs) else None

    def values(self) -> list[Value]:
        """All inputs of an operator that takes any number of them."""
        return [self[i] for i in range(len(self.inputs))]

    def operands(self, first: Int = 0) -> list[Operand]:
        """All inputs from `first` on, as they are."""
        return [self.operand(i) for i in range(first, len(self.inputs))]

    def array(self, index: Int) -> np.ndarray:
        """The contents of input `index`, known at import. Raises NeedsData."""
        value = self[index]
        if value.data is None:
            raise NeedsData(f"input {index}")
        return value.data

    def int_inputs(self, index: Int) -> tuple[Int, ...]:
        """A one-axis input of integers whose contents are known. Raises NeedsData."""
        array = self.array(index)
        if array.dtype.kind not in "iu":
            raise ModelError(f"input {index} of {self.node.op} holds {array.dtype}, not integers")
        return tuple(int(n) for n in array.ravel())

    def given(self, index: Int) -> bool:
        return self.operand(index) is not None

    def check_inputs(self) -> None:
        """Raises UnsupportedError if there are inputs that the row has not looked at."""
        present = {index for index, operand in enumerate(self.inputs) if operand is not None}
        if left := sorted(present - self.read):
            raise self.unsupported(f"an input {left[0]}", "its meaning is not known")

    def wants(self, index: Int) -> bool:
        """Whether output `index` is used by name."""
        return index < len(self.node.outputs) and bool(self.node.outputs[index])

    # --- attributes ---

    def _attribute(self, name: str, default: Any, kinds: tuple[type, ...]) -> Any:
        self.read.add(name)
        value = self.node.attributes.get(name, default)
        if value is REQUIRED:
            raise ModelError(f"{self.node.op} lacks its attribute {name!r}")
        if value is not None and name in self.node.attributes and not isinstance(value, kinds):
            raise ModelError(f"attribute {name!r} of {self.node.op} has the wrong kind")
        return value

    def int(self, name: str, default: Int | None = REQUIRED) -> Int:
        return self._attribute(name, default, (Int,))

    def flag(self, name: str, default: bool = False) -> bool:
        return bool(self._attribute(name, default, (Int,)))

    def float(self, name: str, default: Float | None = REQUIRED) -> Float:
        """A number; a default is rounded to f32, as one that is written in a model would be."""
        value = self._attribute(name, default, (Float, Int))
        return value if value is None or name in self.node.attributes else Float(np.float32(value))

    def text(self, name: str, default: str | None = REQUIRED) -> str:
        return self._attribute(name, default, (str,))

    def tensor(self, name: str, default: np.ndarray | None = REQUIRED) -> np.ndarray:
        return self._attribute(name, default, (np.ndarray,))

    def declared_type(self, name: str, default: Type | None = REQUIRED) -> Type | None:
        """A type attribute; in a host step it is text."""
        found = self._attribute(name, default, (Type, str))
        return parse_type(found) if isinstance(found, str) else found

    def graph(self, name: str) -> Subgraph:
        return self._attribute(name, REQUIRED, (Subgraph,))

    def ints(self, name: str, default: Iterable[Int] | None = REQUIRED) -> tuple[Int, ...]:
        return self._items(name, default, (Int,))

    def floats(self, name: str, default: Iterable[Float] | None = REQUIRED) -> tuple[Float, ...]:
        return self._items(name, default, (Float, Int))

    def texts(self, name: str, default: Iterable[str] | None = REQUIRED) -> tuple[str, ...]:
        return self._items(name, default, (str,))

    def _items(self, name: str, default: Any, kinds: tuple[type, ...]) -> Any:
        found = self._attribute(name, default, (tuple,))
        if found is None:
            return None
        if not all(issubclass(kind, kinds) for kind in set(map(type, found))):  # lists may be long
            raise ModelError(f"attribute {name!r} of {self.node.op} has the wrong kind")
        return tuple(found)

    def ignore(self, *names: str | Int) -> None:
        """Marks attributes, and inputs by their numbers, that cannot change the result."""
        self.read.update(names)

    def choice(self, name: str, default: str, allowed: Iterable[str]) -> str:
        """A text attribute that must be one of `allowed`. Raises UnsupportedError."""
        value = self.text(name, default)
        if value not in allowed:
            raise self.unsupported(f"{name}={value!r}", f"supported: {', '.join(allowed)}")
        return value

    def axis(self, name: str, default: Int | None = REQUIRED, rank: Int | None = None) -> Int:
        """An axis attribute, counted from the front. rank: of input 0 where not given."""
        return front(self.int(name, default), len(self[0].shape) if rank is None else rank)

    def unsupported(self, what: str, why: str = "") -> UnsupportedError:
        return UnsupportedError(f"{self.node.op} with {what}", why)


def fronts(axes: Iterable[int], rank: int) -> tuple[int, ...]:
    """Distinct axes counted from the front. Raises ModelError."""
    found = tuple(front(axis, rank) for axis in axes)
    if len(set(found)) != len(found):
        raise ModelError(f"axes {tuple(axes)} name one axis of rank {rank} twice")
    return found
