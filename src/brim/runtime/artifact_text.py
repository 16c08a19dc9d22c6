"""Graphs, host steps and their constants as they stand in an artifact, and back.

Graphs are kept in their text form. A constant that a text refers to by name is found in the packed
weights, unpacked when the graph is wanted; one that no kernel reads, or reads whole, is kept beside
them. Members and manifests are not known here, only their names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

from brim.errors import ModelError
from brim.graph import NO_ATTRS, Graph, Value, placeholder
from brim.origins import LEAST, Identity, identity
from brim.runtime.compiled import Stored
from brim.runtime.plan import aligned
from brim.runtime.record import Record, as_integer, as_list, as_type

if TYPE_CHECKING:
    from brim.kernels.pack import Packing

EXTRA = "constants.bin"
FRONT_ENDS = {"onnx_node": "brim.frontends.onnx"}  # operators that front ends declare


@dataclass(eq=False)
class ConstantWriter:
    """Finds every constant a place: in the weights of a body, or else in a member of its own."""

    places: dict[Any, tuple[str, Stored]]
    key: Callable[[np.ndarray], Any]  # equal for arrays that need one place only
    extra_bytes: int = 0  # of the constants that lie in that member

    @classmethod
    def over(
        cls,
        bodies: Iterable[tuple[str, tuple[Stored, ...]]],
        key: Callable[[np.ndarray], Any] = identity,
    ) -> ConstantWriter:
        """bodies: (name of the weights' member, what is stored there)."""
        places: dict[Any, tuple[str, Stored]] = {}
        for member, stored in bodies:
            for item in stored:
                places.setdefault(key(item.data), (member, item))
        return cls(places, key)

    def table(self, data: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Name -> where it is, for the constants of one text."""
        return {name: self._place(array) for name, array in data.items()}

    def _place(self, array: np.ndarray) -> list[Any]:
        from brim.types import type_of

        key = self.key(array)
        if key not in self.places:
            raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            if raw.size >= LEAST and not raw.any():
                return [str(type_of(array)), None, 0, None]  # as optimisers start
            start = aligned(self.extra_bytes)
            self.places[key] = EXTRA, Stored(array, start, None)
            self.extra_bytes = start + array.nbytes
        member, stored = self.places[key]
        return [str(type_of(array)), member, stored.offset, write_packing(stored.packing)]

    def extra(self) -> memoryview:
        """The content of the member of their own."""
        content = np.zeros(self.extra_bytes, np.uint8)
        for member, stored in self.places.values():
            if member == EXTRA:
                raw = np.ascontiguousarray(stored.data).reshape(-1).view(np.uint8)
                content[stored.offset : stored.offset + raw.size] = raw
        return content.data


class Contents:
    """Tells arrays apart by what they hold."""

    def __init__(self) -> None:
        self._known: dict[Identity, Any] = {}

    def key(self, array: np.ndarray) -> Any:
        """Equal for arrays of one size that hold the same bytes."""
        place = identity(array)
        if place not in self._known:
            raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            self._known[place] = sha256(raw.data).digest(), *place[1:]
        return self._known[place]


@dataclass(eq=False)
class ConstantReader:
    """Arrays of the constants that a table names; each is unpacked once. member: name -> bytes.
    most: bytes that zeros may take, which are not stored."""

    member: Callable[[str], memoryview]
    most: int
    arrays: dict[str, dict[str, Stored]]  # member -> place as text -> what lies there

    def read(self, table: Record) -> dict[str, np.ndarray]:
        """Name -> array. Raises ModelError."""
        return {name: self._read(item, f"{table.where}.{name}") for name, item in table.items()}

    def stored(self, member: str) -> tuple[Stored, ...]:
        """What has been found in a member so far."""
        return tuple(self.arrays.get(member, {}).values())

    def _read(self, item: Any, where: str) -> np.ndarray:
        text, member, offset, packing = as_list(item, where, 4)
        found = self.arrays.setdefault(str(member), {})
        key = repr(item)
        if key not in found:
            type = as_type(text, where)
            if type.dtype.is_object:
                raise ModelError("constants of text stand in the text", where=where)
            offset = as_integer(offset, where)
            if member is None and type.bytes <= self.most:
                zeros = np.zeros(type.dims, type.dtype.numpy)
                zeros.flags.writeable = False
                return found.setdefault(key, Stored(zeros, 0, None)).data
            how = read_packing(packing, where)
            if how is not None and not how.is_lossless(type.size):
                raise ModelError("a packing does not hold its constant", where=where)
            size = type.size if how is None else how.size
            data = self.member(str(member))
            if offset + size * type.dtype.bytes > len(data):
                raise ModelError("a constant lies outside its member", where=where)
            flat = np.frombuffer(data, type.dtype.numpy, size, offset)
            array = (flat if how is None else how.unpack(flat)).reshape(type.dims)
            array.flags.writeable = False
            found[key] = Stored(array, offset, how)
        return found[key].data


def write_packing(packing: Packing | None) -> list[Any] | None:
    """A packing as plain data."""
    if packing is None:
        return None
    p = packing
    axes = [list(axis) for axis in p.axes]
    return [axes, p.before, p.extent, p.stride, p.block, p.offset, p.group, p.shift]


def read_packing(item: Any, where: str) -> Packing | None:
    """What `write_packing` wrote. Raises ModelError for what is none."""
    if item is None:
        return None
    from brim.kernels.pack import Packing

    axes, *rest = as_list(item, where) or [[]]
    if len(rest) == 5:  # before format 3 there were no groups
        rest += [1, 0]
    pairs = [as_list(axis, where, 2) for axis in as_list(axes, where)]
    *numbers, shift = as_list(rest, where, 7)
    before, extent, stride, block, offset, group = (as_integer(n, where) for n in numbers)
    packing = Packing(
        tuple((as_integer(n, where, 1), as_integer(s, where, 1)) for n, s in pairs),
        before,
        extent,
        stride,
        block,
        offset,
        group,
        as_integer(shift, where, -128, 128),
    )
    few = 1 <= len(pairs) <= 32 and 1 <= packing.group <= 4 and 1 <= packing.block <= 1 << 20
    if not few or packing.before > len(pairs) - (packing.group > 1) or not packing.extent:
        raise ModelError("a packing is not possible", where=where)
    return packing


# ------------------------------------------------------------------ graphs


def parse(text: memoryview, data: Mapping[str, np.ndarray], where: str) -> Graph:
    """A graph's text. Raises ModelError."""
    from importlib import import_module

    from brim.text import parse_graph

    try:
        decoded = bytes(text).decode()
    except UnicodeDecodeError as error:
        raise ModelError("a graph is not UTF-8 text", str(error), where) from None
    for operator, module in FRONT_ENDS.items():
        if f"{operator}(" in decoded:
            import_module(module)
    return parse_graph(decoded, data)


def host_graph(values: list[Value]) -> Graph:
    """The host steps' values alone: outputs "0", "1", ...; what they take becomes inputs."""
    new: dict[int, Value] = {}
    inputs: dict[str, Value] = {}
    for number, value in enumerate(values):
        args = []
        for position, arg in enumerate(value.args):
            if arg.data is not None and arg.data.dtype == object:
                args.append(arg)
            elif isinstance(arg.type, tuple):
                args.append(new[id(arg)])  # several results: only another host step gives those
            else:
                label = f"{number}.{position}"
                inputs[label] = placeholder(arg.type)
                args.append(inputs[label])
        attrs = dict(value.attrs) if value.attrs else NO_ATTRS
        new[id(value)] = Value(value.op, tuple(args), attrs, value.type, None, value.where)
    outputs = {str(number): new[id(value)] for number, value in enumerate(values)}
    return Graph(inputs, outputs, "host")


def host_values(graph: Graph, where: str) -> list[Value]:
    """What `host_graph` was made of."""
    values = list(graph.outputs.values())
    if list(graph.outputs) != [str(n) for n in range(len(values))] or any(
        value.op is None for value in values
    ):
        raise ModelError("host steps are not numbered", where=where)
    return values
