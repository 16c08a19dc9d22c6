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
from brim.runtime.in_place import InPlace, Pair
from brim.runtime.memory import aligned_bytes
from brim.runtime.program import Program, check_array
from brim.types import Type, type_of

Run = Callable[[Mapping[str, Any]], dict[str, Any] | None]


class State:
    """The state of one model; thread-safe: of several runs, each sees what the one before left.

    Each name has two arrays: `turn` says which of them holds the content, see `InPlace`.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.turn = 0
        self.pairs: dict[str, Pair] = {}
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
                if name not in self.pairs:
                    self._first[name], self.pairs[name] = array, (_like(array), _like(array))
                    self._now(name)[...] = array

    def _type(self, name: str) -> Type | None:
        return type_of(self._first[name]) if name in self._first else None

    def _now(self, name: str) -> np.ndarray:
        return self.pairs[name][self.turn]

    def step(
        self, run: Run, names: Collection[str], feeds: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """One run that is given the state of these names, and leaves it: its other results.

        Where it fails, or gives None, the state stays as it was.
        """
        with self.lock:
            results = run({**feeds, **{name: self._now(name) for name in names}})
            if results is not None:
                for name in names:
                    self._now(name)[...] = results.pop(name)
        return results

    def contents(self) -> dict[str, np.ndarray]:
        """A copy of everything."""
        with self.lock:
            return {name: self._now(name).copy() for name in self.pairs}

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
            for name, array in new.items():
                self._now(name)[...] = array

    def reset(self) -> None:
        """Everything as before the first run."""
        with self.lock:
            for name, array in self._first.items():
                self._now(name)[...] = array


def _like(array: np.ndarray) -> np.ndarray:
    """Room for such an array, from the start of a cache line."""
    return aligned_bytes(array.nbytes).view(array.dtype).reshape(array.shape)


class StatefulProgram:
    """A program that remembers `names`, as callers see it: without them."""

    def __init__(self, program: Program, names: Collection[str], state: State) -> None:
        self._program, self._names, self._state = program, names, state
        with state.lock:
            pairs = {name: state.pairs[name] for name in names}
        self._in_place = InPlace(program, pairs) if program.ports is not None else None

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """As `Program.run`."""
        results = self._state.step(self._program.run, self._names, feeds)
        assert results is not None
        return results

    def quick(self, feeds: Mapping[str, Any]) -> dict[str, Any] | None:
        """As `Program.quick`."""
        state, in_place = self._state, self._in_place
        if in_place is None:
            return None
        with state.lock:
            if len(state.pairs) != len(self._names):
                return None  # other programs remember more, and all take turns together
            results = in_place.run(feeds, state.turn)
            if results is not None:
                state.turn = 1 - state.turn
        return results
