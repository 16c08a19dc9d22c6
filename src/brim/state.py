"""What a model remembers from run to run: arrays by name, which all its programs share.

A program is given them and gives new ones, as any other inputs and outputs; who carries them from
one run to the next is this. Which names they are, and their first content, a graph says.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping
from itertools import repeat
from typing import Any

import numpy as np

from brim.errors import InputError
from brim.runtime.in_place import InPlace
from brim.runtime.memory import aligned_bytes
from brim.runtime.program import Program, check_array
from brim.types import Type, type_of

Run = Callable[[Mapping[str, Any]], dict[str, Any]]


class State:
    """The state of one model; thread-safe: of several runs, each sees what the one before left."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.arrays: dict[str, np.ndarray] = {}
        self._first: dict[str, np.ndarray] = {}

    def admit(self, first: Mapping[str, np.ndarray]) -> None:
        """Makes room for what a program remembers; what others left under a name it goes on with.

        Raises InputError where another program of the model remembers another type under a name.
        """
        with self.lock:
            for name, array in first.items():
                known, wanted = self._type(name), type_of(array)
                if known not in (None, wanted):
                    raise InputError(
                        f"the state {name!r} is {wanted} for these shapes, {known} so far",
                        why="what a model remembers of inputs of one shape does not fit another",
                        hint="load the model once more for other shapes",
                    )
            for name, array in first.items():
                if name not in self.arrays:
                    self._first[name], self.arrays[name] = array, _copy(array)

    def _type(self, name: str) -> Type | None:
        return type_of(self._first[name]) if name in self._first else None

    def step(self, run: Run, names: Collection[str], feeds: Mapping[str, Any]) -> dict[str, Any]:
        """One run that is given the state of these names, and leaves it: its other results.

        Where it fails, or Ctrl-C ends it, the state stays as it was.
        """
        with self.lock:
            results = run({**feeds, **{name: self.arrays[name] for name in names}})
            self._write({name: results.pop(name) for name in names})
        return results

    def _write(self, new: Mapping[str, np.ndarray]) -> None:
        """All of it or nothing: one call into C, which no signal interrupts."""
        old = [self.arrays[name] for name in new]
        deque(map(np.ndarray.__setitem__, old, repeat(...), new.values()), maxlen=0)

    def contents(self) -> dict[str, np.ndarray]:
        """A copy of everything."""
        with self.lock:
            return {name: array.copy() for name, array in self.arrays.items()}

    def set(self, contents: Mapping[str, Any]) -> None:
        """Replaces what is named, all or nothing. Raises InputError for what does not fit."""
        with self.lock:
            new = {}
            for name, given in contents.items():
                known = self._type(name)
                if known is None:
                    raise InputError(
                        f"there is no state {name!r}", hint=f"the model remembers {[*self._first]}"
                    )
                new[name] = check_array(name, given, known)
            self._write(new)

    def reset(self) -> None:
        """Everything as before the first run."""
        with self.lock:
            self._write(self._first)


def _copy(array: np.ndarray) -> np.ndarray:
    """Such an array, from the start of a cache line."""
    copy = aligned_bytes(array.nbytes).view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


class StatefulProgram:
    """A program that remembers `names`, as callers see it: without them."""

    def __init__(self, program: Program, names: Collection[str], state: State) -> None:
        self._program, self._names, self._state = program, names, state
        kept = program.ports is not None and program.plan.state.keys() == set(names)
        self._in_place = InPlace(program, state.arrays) if kept else None

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """As `Program.run`, for inputs of the names that it takes."""
        if self._in_place is None:
            return self._state.step(self._program.run, self._names, feeds)
        types = {name: type for name, (type, _) in self._program.plan.inputs.items()}
        results = self.quick({n: check_array(n, given, types[n]) for n, given in feeds.items()})
        assert results is not None
        return results

    def quick(self, feeds: Mapping[str, Any]) -> dict[str, Any] | None:
        """As `Program.quick`."""
        if self._in_place is None:
            return None
        with self._state.lock:
            return self._in_place.run(feeds)
