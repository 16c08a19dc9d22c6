"""The step `weights`: constant matrices and tables become small integers, activations stay float.

A product reads the integers themselves (`brim.ops.packed_weights`), and rows of a table are
unpacked after they have been looked up. What is small or added (biases, norms) stays, and so do the
weights of convolutions of more than one pixel, for which Winograd needs them as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from brim.compress.codes import Codes, nearest, small
from brim.compress.gptq import errors_factor, gptq
from brim.compress.hqq import half_quadratic
from brim.compress.moments import moments, read_of
from brim.compress.points import Layer, find_layers
from brim.compress.recipe import Weights, selects
from brim.compress.work import Made, Work
from brim.errors import InputError, UnsupportedError
from brim.graph import Graph, Value, const, rewrite
from brim.ops import primitive as p
from brim.ops.packed_weights import unpack
from brim.ops.primitive import parse_spec
from brim.ops.registry import at
from brim.types import F16, F32

LEAST = 4096  # elements of a constant that is worth it


@dataclass(frozen=True, eq=False)
class Matrix:
    """A constant that a step may store smaller: a layer's weights, or a table of rows.

    value: what reads it, a `contract` or a `gather`. side: which of its arguments it is. axis: of
    the constant, along which its groups lie. layer: None for a table.
    """

    value: Value
    side: int
    axis: int
    layer: Layer | None

    @property
    def data(self) -> np.ndarray:
        found = self.value.args[self.side].data
        assert found is not None
        return found

    @property
    def x(self) -> Value:
        """What the layer multiplies it by, or which rows of the table are looked up."""
        return self.value.args[1 - self.side]

    @property
    def columns(self) -> np.ndarray:
        """The constant as [axis, all others]."""
        return np.moveaxis(self.data, self.axis, 0).reshape(self.data.shape[self.axis], -1)

    def shaped(self, columns: np.ndarray) -> np.ndarray:
        """[n, all others] as the constant's axes, of which `axis` now has n points."""
        others = [n for i, n in enumerate(self.data.shape) if i != self.axis]
        return np.moveaxis(columns.reshape(len(columns), *others), 0, self.axis)


def weights(graph: Graph, step: Weights, work: Work) -> Made:
    """The graph with its large matrices in `step.bits` bits.

    Raises UnsupportedError if the patterns choose none, InputError for constants that are not
    finite. Calibration data is read for GPTQ only.
    """
    chosen = [m for m in matrices(graph) if selects(step.layers, m.value.where)]
    if not chosen:
        raise UnsupportedError(
            "there are no weights to store smaller",
            why=f"no product or table of {LEAST} numbers or more fits {', '.join(step.layers)}",
        )
    found = {_key(m.value, m.side): m for m in chosen}
    coded = _coded(graph, [*found.values()], step, work)
    made = {_key(m.value, m.side): (m, codes) for m, codes in coded}

    def rule(value: Value) -> Value | None:
        for side in range(len(value.args)):
            if (entry := made.get(_key(value, side))) is not None:
                with at(value.where):
                    return _product(value, *entry) if entry[0].layer else _rows(value, *entry)
        return None

    before = sum(matrix.data.nbytes for matrix, _ in made.values())
    after = sum(codes.bytes for _, codes in made.values())
    note = (
        f"{len(made)} constants in {step.bits} bits: {before / 1e6:.1f} MB became {after / 1e6:.1f}"
    )
    return Made(rewrite(graph, rule), (note,), source=graph)


def _key(value: Value, side: int) -> tuple[int, str]:
    """The same for all readers of a constant that read it in the same way."""
    kind = value.op.name if value.op is not None else ""
    return id(value.args[side]), f"{kind} {value.attrs.get('spec', value.attrs.get('axis'))}"


def matrices(graph: Graph) -> list[Matrix]:
    """The constants of at least LEAST elements that products sum over one axis of, and tables."""
    found = []
    for layer in find_layers(graph):
        one = layer.value.op.name == "contract" and len(layer.summed) == 1  # type: ignore[union-attr]
        if one and layer.weights.size >= LEAST:
            found.append(Matrix(layer.value, layer.side, layer.summed[0], layer))
    for value in graph.values():
        if value.op is p.OPS["gather"] and value.args[0].is_const and not value.args[1].is_const:
            table = value.args[0]
            rows = len(table.shape) == 2 and value.attrs["axis"] == 0 and table.dtype == F32
            if rows and table.type.size >= LEAST:
                if not np.isfinite(table.data).all():  # type: ignore[arg-type]
                    raise InputError("a table has NaN or infinity in it", where=value.where)
                found.append(Matrix(value, 0, 1, None))
    return found


# ---------------------------------------------------------------------- codes


def _coded(
    graph: Graph, found: list[Matrix], step: Weights, work: Work
) -> Iterator[tuple[Matrix, Codes]]:
    """Each matrix and its codes."""
    factors: dict[int, np.ndarray] = {}
    if step.method == "gptq":
        reads = {id(m.x): read_of(m.layer, id(m.x)) for m in found if m.layer is not None}
        for key, seen in moments(graph, reads.values(), work).items():
            factors[key] = errors_factor(seen)
    simple = half_quadratic if step.method == "hqq" else nearest
    for number, matrix in enumerate(found, 1):
        columns, group = _padded(matrix.columns, step)
        if matrix.layer is not None and step.method == "gptq":
            yield matrix, gptq(columns, factors[id(matrix.x)], group, step.bits, step.symmetric)
        else:
            yield matrix, simple(columns, group, step.bits, step.symmetric)
        work.tell("weights", number, len(found))


def _padded(columns: np.ndarray, step: Weights) -> tuple[np.ndarray, int]:
    """The columns in whole groups, padded with zeros where they have to be; and the group's size:
    the step's, or the largest even part of a column from half of it on that divides it."""
    length = len(columns)
    fits = [n for n in range(step.group, step.group // 2, -2) if length % n == 0]
    group = fits[0] if fits else min(step.group, length + length % 2)
    return np.pad(columns, ((0, -length % group), (0, 0))), group


def _letters(value: Value, side: int) -> str:
    return parse_spec(value.attrs["spec"])[side]


# ---------------------------------------------------------------------- the graph


def _product(value: Value, matrix: Matrix, codes: Codes) -> Value:
    """The contraction `value` with the matrix's codes, which it unpacks as it loads them."""
    assert matrix.layer is not None
    data = matrix.layer.data
    parts = (p.hold(const(matrix.shaped(codes.stored))), *_grid(matrix, codes, held=True))
    args = list(value.args)
    args[matrix.side] = unpack(*parts, axis=matrix.axis, bits=codes.grid.bits)
    summed = _letters(value, matrix.side)[matrix.axis]
    more = args[matrix.side].shape[matrix.axis] - value.args[matrix.side].shape[matrix.axis]
    if more:
        high = tuple(more if letter == summed else 0 for letter in _letters(value, data))
        args[data] = p.pad(args[data], low=(0,) * len(high), high=high, value=0.0)
    return p.contract(*args, spec=value.attrs["spec"])


def _rows(value: Value, matrix: Matrix, codes: Codes) -> Value:
    """The rows of a table, looked up as codes and unpacked."""
    index = value.args[1]
    parts = (const(matrix.shaped(codes.stored)), *_grid(matrix, codes, held=False))
    found = [p.gather(part, index, axis=0) if part.type.size > 1 else part for part in parts]
    rank = len(value.shape)
    code, scale, zero = (
        _wide(p.reshape(x, shape=(1,) * (rank - len(x.shape)) + x.shape)) for x in found
    )
    rows = unpack(code, scale, zero, axis=rank - 1, bits=codes.grid.bits)
    return p.slice(rows, starts=(0,) * rank, sizes=value.shape, steps=(1,) * rank)


def _grid(matrix: Matrix, codes: Codes, held: bool) -> tuple[Value, Value]:
    """Scale and zero point for the axes of the constant; held: as parts of a product."""
    scale = small(matrix.shaped(codes.grid.scale))
    if codes.grid.symmetric:
        return _wide(p.hold(scale)) if held else scale, const(np.zeros((1, 1), np.float32))
    zero = small(matrix.shaped(codes.grid.zero))
    return (_wide(p.hold(scale)), _wide(p.hold(zero))) if held else (scale, zero)


def _wide(x: Value) -> Value:
    return p.cast(x, to=F32) if x.dtype == F16 else x
