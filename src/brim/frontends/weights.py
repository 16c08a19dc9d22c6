"""The constants of a file that become inputs of its graph, so that they can be trained.

Float arrays with axes are weights, halves too if all that is done with them is to make them f32;
everything else, scalars too, stays a constant. Where a row asks
for the contents of what follows from weights alone (scales of a resize, a shape), these weights are
no weights: they go back to being constants. Both front ends do so; what is done with the weights is
told in `brim.train`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from brim.graph import (
    Graph,
    Value,
    const,
    evaluate_values,
    placeholder,
    rewrite_values,
    substitute,
    topo,
)
from brim.ops.elementwise import cast
from brim.ops.registry import OPS
from brim.types import F16, F32, dtype_of, type_of

T = TypeVar("T")


@dataclass(eq=False)
class Weights:
    """What one import finds. arrays: name -> content, of those that are weights in the end.

    batch: samples of inputs whose first axis is 1 in the file, see `brim.frontends.batch`; None: as
    the file says. narrow: names of constants of 16 bits or less that are computed with. literals:
    names of weights that the file does not hold as such, but writes where they are used.
    """

    batch: int | None = None
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    narrow: dict[int, Value] = field(default_factory=dict)
    literals: set[str] = field(default_factory=set)
    _inputs: dict[str, Value] = field(default_factory=dict)
    _contents: dict[int, np.ndarray] = field(default_factory=dict)  # by the input's id
    _asked: set[int] = field(default_factory=set)

    def value(self, array: np.ndarray, name: str, literal: bool = False) -> Value:
        """What stands for a constant of the file: an input, if it is a weight."""
        if array.dtype == object:
            return const(array, name)
        dtype = dtype_of(array)
        if dtype not in (F32, F16) or not array.ndim or not array.size:
            made = const(array, name)
            if dtype.kind != "b" and dtype.bits <= 16 and array.size > 1:
                self.narrow[id(made)] = made
            return made
        name, content = _free(name, self.arrays), array.astype(np.float32, copy=False)
        made = placeholder(type_of(content), name)
        self.arrays[name], self._inputs[name], self._contents[id(made)] = content, made, content
        self.literals |= {name} if literal else set()
        return made if dtype == F32 else cast(made, to=F16)

    def is_zero_point(self, operand: object) -> None:
        """Tells that a constant says which integer is 0: it is no weight."""
        self.narrow.pop(id(operand), None)

    def content(self, value: object) -> np.ndarray | None:
        """What a weight holds that the file has as such; None for all else."""
        names = (name for name, made in self._inputs.items() if made is value)
        return next((self.arrays[name] for name in names if name not in self.literals), None)

    def batch_of(self, value: Value) -> int | None:
        """The samples of a value where the file counts one; None where it counts right."""
        return None if value.is_const or id(value) in self._contents else self.batch

    def known(self, operands: Iterable[T]) -> tuple[T, ...]:
        """Operands whose contents are asked for: those of weights alone become constants."""
        return tuple(self._known(operand) for operand in operands)  # type: ignore[misc]

    def _known(self, operand: object) -> object:
        if not isinstance(operand, Value) or operand.is_const:
            return operand
        order = topo([operand])
        leaves = [value for value in order if value.op is None and not value.is_const]
        plain = all(v.op is None or v.op.kind not in ("host", "control", "source") for v in order)
        if not plain or not all(id(leaf) in self._contents for leaf in leaves):
            return operand
        self._asked.update(map(id, leaves))
        (found,) = evaluate_values([operand], {id(v): self._contents[id(v)] for v in leaves})
        return const(found, operand.where)

    def settled(self, graph: Graph) -> Graph:
        """The imported graph with the weights that it reads as further inputs."""
        back = {i: const(self._contents[i]) for i in self._asked}
        outputs = substitute(graph.outputs.values(), back)
        outputs = rewrite_values(outputs, self._as_it_is)
        read = {id(value) for value in topo(outputs)}
        inputs, arrays = dict(graph.inputs), self.arrays
        self.arrays = {}
        for name, value in self._inputs.items():
            if id(value) in read:
                free = _free(name, inputs)
                inputs[free], self.arrays[free] = value, arrays[name]
        self.narrow |= {id(v): v.args[0] for v in topo(outputs) if self._is_half(v)}
        return Graph(inputs, dict(zip(graph.outputs, outputs)), graph.name, graph.state)

    def _is_half(self, value: Value) -> bool:
        halved = value.op is OPS["cast"] and value.dtype == F16
        return halved and id(value.args[0]) in self._contents

    def _as_it_is(self, value: Value) -> Value | None:
        """A weight that was stored as halves, where it is made f32 again."""
        whole = value.op is OPS["cast"] and value.dtype == F32 and self._is_half(value.args[0])
        return value.args[0].args[0] if whole else None


def _free(name: str, taken: Collection[str]) -> str:
    """The name, with a number where there is one like it."""
    number, wanted = 1, name or "weight"
    while wanted in taken:
        number, wanted = number + 1, f"{name or 'weight'}.{number + 1}"
    return wanted
