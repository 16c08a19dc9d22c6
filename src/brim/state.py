"""What a model remembers from run to run: arrays by name, which all its programs share.

A program is given them and gives new ones, as any other inputs and outputs; who carries them from
one run to the next is this. Which names they are, and their first content, a graph says.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from brim.errors import InputError
from brim.runtime.program import Program, check_array
from brim.types import Type, type_of

Run = Callable[[Mapping[str, Any]], dict[str, Any] | None]


class State:
    """The state of one model; thread-safe: of several runs, each sees what the one before left."""

    def __init__(self) -> None:
        self._first: dict[str, np.ndarray] = {}
        self._now: dict[str, np.ndarray] = {}
        self._lock = threading.Lock()

    def admit(self, first: Mapping[str, np.ndarray]) -> None:
        """Makes room for what a program remembers; what others left under a name it goes on with.

        Raises InputError where another program of the model remembers another type under a name.
        """
        with self._lock:
            for name, array in first.items():
                known, wanted = self._type(name), type_of(array)
                if known not in (None, wanted):
                    raise InputError(
                        f"the state {name!r} is {wanted} for these shapes, {known} so far",
                        why="what a model remembers of inputs of one shape does not fit another",
                        hint="load the model once more for other shapes",
                    )
            for name, array in first.items():
                self._first.setdefault(name, array)
                self._now.setdefault(name, array)

    def _type(self, name: str) -> Type | None:
        return type_of(self._first[name]) if name in self._first else None

    def step(
        self, run: Run, names: Collection[str], feeds: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """One run that is given the state of these names, and leaves it: its other results.

        Where it fails, or gives None, the state stays as it was.
        """
        with self._lock:
            results = run({**feeds, **{name: self._now[name] for name in names}})
            if results is not None:
                self._now.update({name: results.pop(name) for name in names})
        return results

    def contents(self) -> dict[str, np.ndarray]:
        """A copy of everything."""
        with self._lock:
            return {name: array.copy() for name, array in self._now.items()}

    def set(self, contents: Mapping[str, Any]) -> None:
        """Replaces what is named, all or nothing. Raises InputError for what does not fit."""
        with self._lock:
            new = {}
            for name, given in contents.items():
                known = self._type(name)
                if known is None:
                    raise InputError(
                        f"there is no state {name!r}", hint=f"the model remembers {[*self._first]}"
                    )
                new[name] = np.array(check_array(name, given, known))
            self._now.update(new)

    def reset(self) -> None:
        """Everything as before the first run."""
        with self._lock:
            self._now.update(self._first)


class StatefulProgram:
    """A program that remembers `names`, as callers see it: without them."""

    def __init__(self, program: Program, names: Collection[str], state: State) -> None:
        self._program, self._names, self._state = program, names, state

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """As `Program.run`."""
        results = self._state.step(self._program.run, self._names, feeds)
        assert results is not None
        return results

    def quick(self, feeds: Mapping[str, Any]) -> dict[str, Any] | None:
        """As `Program.quick`."""
        if any(name in self._names for name in feeds):
            return None  # no caller gives those
        return self._state.step(self._program.quick, self._names, feeds)
