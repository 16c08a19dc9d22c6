"""What a model remembers from run to run, while it is imported: variables by name.

Operators take effect on variables in the file's order. So each name stands for a value that changes
while a graph is walked; a branch or a loop's body sees those of the graph around it by stand-ins.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from brim.errors import ModelError, UnsupportedError
from brim.frontends.subgraphs import Captures
from brim.graph import Value, const, placeholder
from brim.types import Type


@dataclass(eq=False)
class Variables:
    """For each name: its content before the first run, the value that a graph is given, and the
    value that it leaves. outer: of the graph around it, if there is one; see `inside`."""

    first: dict[str, np.ndarray] = field(default_factory=dict)
    outer: Variables | None = None
    constants: bool = True
    given: dict[str, Value] = field(default_factory=dict)
    left: dict[str, Value] = field(default_factory=dict)

    def read(self, name: str) -> Value:
        """The value of a variable by now. Raises ModelError if it never had one."""
        if name not in self.left:
            self.left[name] = self.given[name] = self._entering(name)
        return self.left[name]

    def _entering(self, name: str) -> Value:
        if self.outer is not None:
            value = self.outer.read(name)
            return value if value.is_const and self.constants else placeholder(value.type, name)
        if name not in self.first:
            raise ModelError(f"variable {name!r} is read before it has a value")
        array = self.first[name]
        return placeholder(Type(tuple(array.shape), const(array).dtype), name)

    def assign(self, name: str, value: Value) -> None:
        """Changes a variable; one that has no value yet was zero. Raises UnsupportedError."""
        if not value.type.is_static or value.dtype.is_object:
            raise UnsupportedError(f"a variable of type {value.type}")
        self.first.setdefault(name, np.zeros(value.shape, value.dtype.numpy))
        if self.read(name).type != value.type:
            was = self.read(name).type
            raise UnsupportedError(f"a variable that is {was} and becomes {value.type}")
        self.left[name] = value

    def inside(self, constants: bool = True) -> Variables:
        """Those of a graph that is a part of this one. constants: it sees values that are known by
        now, not stand-ins for them, which is no help in a loop that changes them."""
        return Variables(self.first, self, constants)

    @property
    def assigned(self) -> list[str]:
        """The names that this graph changes."""
        return [name for name, value in self.left.items() if value is not self.given[name]]

    def captures(self) -> Captures:
        """What this graph reads of the one around it, by stand-ins."""
        assert self.outer is not None
        found = {name: (self.outer.read(name), inner) for name, inner in self.given.items()}
        return {name: pair for name, pair in found.items() if not pair[1].is_const}
