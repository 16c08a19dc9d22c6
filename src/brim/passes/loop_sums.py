"""Sums over all iterations of a loop, taken out of it as far as they are linear.

    sum over t of transpose(contract(s_t, h_t))  -->  transpose(contract(s, h)), one product over
                                                      the rows s[T, ..], h[T, ..] of all iterations

This is how the cotangent of a weight that a loop reads in every iteration becomes one product after
the loop. What is not linear is added up inside. The loops themselves are in `loop_gradient`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from brim.graph import Value, placeholder
from brim.ops import primitive as ops
from brim.ops.control import row_number
from brim.ops.movement import turned
from brim.types import Type

_VIEWS = ("reshape", "transpose", "slice", "broadcast", "cast")
_LINEAR = (*_VIEWS, "add", "sub", "neg", "hold", "concat", "pad", "contract")
Entries = dict[int, tuple[Value, Value]]  # id of a value of the loop -> it, and what stands for it


@dataclass(eq=False)
class Sums:
    """Sums of values of an iteration, as values after the loop.

    length: of the loop. iteration: its number. varying: ids of the values that are not the same in
    all iterations. known: ids of those whose rows can be stacked by the loop before. given: values
    whose rows are there, by id. What is asked of the loops is collected, each with a placeholder
    for it: saved: rows of a known value; stacked: rows of another; added: a sum.
    """

    length: int
    iteration: Value
    varying: Collection[int]
    known: Collection[int]
    given: Mapping[int, Value]
    saved: Entries = field(default_factory=dict)
    stacked: Entries = field(default_factory=dict)
    added: Entries = field(default_factory=dict)

    def of(self, value: Value) -> Value:
        """The sum of `value`: where it is linear in its arguments, of sums of these."""
        if self.is_same(value):
            return ops.mul(value, self.length)
        found = self._linear(value) if value.op is not None else None
        return _entry(self.added, value, value.type) if found is None else found

    def is_same(self, value: Value) -> bool:
        """Whether a value is the same in all iterations."""
        return id(value) not in self.varying

    def _linear(self, value: Value) -> Value | None:
        assert value.op is not None
        name, args, attrs = value.op.name, value.args, value.attrs
        same = [self.is_same(arg) for arg in args]
        if name in _VIEWS or name in ("add", "sub", "neg", "hold", "concat"):
            return ops.apply(name, *map(self.of, args), **attrs)
        if name == "pad" and attrs["value"] == 0:
            return ops.pad(self.of(args[0]), **attrs)
        if name == "reduce" and attrs["op"] == "add":
            inner = args[0].op
            return (
                ops.reduce(self.of(args[0]), **attrs) if inner and inner.name in _LINEAR else None
            )
        if name == "mul" and any(same):
            a, b = (args[1], args[0]) if same[0] else args
            return ops.mul(self.of(a), b)
        if name in ("div", "gather") and same[1]:
            return ops.apply(name, self.of(args[0]), args[1], **attrs)
        if name == "contract":
            return self._product(value, same)
        if name == "scatter" and attrs["op"] == "add" and same[0]:
            return self._placed(value)
        return None

    def _product(self, value: Value, same: list[bool]) -> Value | None:
        (a, b), spec = value.args, value.attrs["spec"]
        if any(same):
            sums = (x if is_same else self.of(x) for x, is_same in zip((a, b), same))
            return ops.contract(*sums, spec=spec)
        if value.type.size < min(a.type.size, b.type.size):  # less to add up than to stack
            return None
        left, right, out = ops.parse_spec(spec)
        t = next(letter for letter in "tuvwxyzabcdefghijklmnopqrs" if letter not in spec)
        return ops.contract(self.rows(a), self.rows(b), spec=f"{t}{left},{t}{right}->{out}")

    def _placed(self, value: Value) -> Value:
        """What each iteration adds at places of a tensor, added at all these places at once."""
        start, index, update = value.args
        axis, count, rank = value.attrs["axis"], index.shape[0], len(update.shape)
        rows = ops.transpose(
            self.rows(update), perm=(*range(1, axis + 1), 0, *range(axis + 1, rank + 1))
        )
        shape = (*update.shape[:axis], self.length * count, *update.shape[axis + 1 :])
        rows, size = ops.reshape(rows, shape=shape), start.shape[axis]
        order = self._order(index)
        if order and size >= self.length and start.data is not None and not start.data.any():
            rows = rows if order > 0 else turned(rows, axis)
            high = tuple(size - self.length if i == axis else 0 for i in range(rank))
            return ops.pad(rows, low=(0,) * rank, high=high, value=0) if max(high) else rows
        places = ops.reshape(self.rows(index), shape=(self.length * count,))
        return ops.scatter(ops.mul(start, self.length), places, rows, axis=axis, op="add")

    def rows(self, value: Value) -> Value:
        """`value` of all iterations [length, *shape], in the order of `iteration`."""
        shape = (self.length, *value.shape)
        if self.is_same(value):
            return ops.broadcast(ops.reshape(value, shape=(1, *value.shape)), shape=shape)
        if id(value) in self.given:
            return self.given[id(value)]
        if value.op is not None and value.op.name == "gather" and value.attrs["axis"] == 0:
            whole, index = value.args
            order = self._order(index)
            if order and not index.shape and self.is_same(whole) and whole.shape == shape:
                return whole if order > 0 else turned(whole, 0)
        if value.op is not None and value.op.name in _VIEWS and self._is_there(value.args[0]):
            return _view(value, self.rows(value.args[0]))
        return _entry(
            self.saved if id(value) in self.known else self.stacked, value, Type(shape, value.dtype)
        )

    def _order(self, index: Value) -> int:
        """1 for the number of the iteration, -1 for that from the end, 0 for other indices."""
        orders = {(0, 1): 1, (self.length - 1, -1): -1}
        return orders.get(row_number(index, self.iteration) or (0, 0), 0)

    def save(self, value: Value) -> Value:
        """The rows of a known value."""
        return _entry(self.saved, value, Type((self.length, *value.shape), value.dtype))

    def _is_there(self, value: Value) -> bool:
        """Whether rows of a value, or of what it is a view of, are there without more work."""
        while value.op is not None and value.op.name in _VIEWS:
            value = value.args[0]
        return id(value) in self.known or id(value) in self.given

    def of_rows(self, value: Value) -> Value | None:
        """The sum of an added value, if rows that are stacked anyway give it."""
        if id(value) in self.stacked:
            rows = self.stacked[id(value)][1]
            return ops.reshape(ops.reduce(rows, op="add", axes=(0,)), shape=value.shape)
        if value.op is None or value.op.name != "reduce" or id(value.args[0]) not in self.stacked:
            return None
        axes = (0, *(axis + 1 for axis in value.attrs["axes"]))
        rows = self.stacked[id(value.args[0])][1]
        return ops.reshape(ops.reduce(rows, op="add", axes=axes), shape=value.shape)


def _entry(entries: Entries, value: Value, type: Type) -> Value:
    return entries.setdefault(id(value), (value, placeholder(type)))[1]


def _view(value: Value, rows: Value) -> Value:
    """The rows of a view, from the rows of what it is a view of."""
    assert value.op is not None
    attrs, count = value.attrs, rows.shape[0]
    match value.op.name:
        case "reshape":
            return ops.reshape(rows, shape=(count, *attrs["shape"]))
        case "transpose":
            return ops.transpose(rows, perm=(0, *(axis + 1 for axis in attrs["perm"])))
        case "slice":
            starts, sizes, steps = (attrs[name] for name in ("starts", "sizes", "steps"))
            return ops.slice(rows, starts=(0, *starts), sizes=(count, *sizes), steps=(1, *steps))
        case "broadcast":
            ones = (1,) * (len(value.shape) + 1 - len(rows.shape))
            rows = ops.reshape(rows, shape=(count, *ones, *rows.shape[1:]))
            return ops.broadcast(rows, shape=(count, *value.shape))
    return ops.cast(rows, **attrs)
