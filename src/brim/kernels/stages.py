"""The stages of one fused cluster: expressions top-down, stages in the order of their need.

A value is loaded where it is stored, a constant number where it is one, and computed otherwise;
reductions and values shared inside the cluster become stages of their own, read through `Ref`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np

from brim.errors import CompileError
from brim.graph import Value
from brim.kernels.affine import (
    ZERO,
    NeedSplit,
    NotAffine,
    Position,
    axis_index,
    broadcast_position,
    combine,
    row_major,
    through_move,
)
from brim.kernels.fuse import Cluster, Fusion
from brim.kernels.ir import (
    At,
    Do,
    Expr,
    Gather,
    Guard,
    Index,
    Iota,
    Num,
    Reduce,
    Ref,
    Stage,
    subexpressions,
)
from brim.kernels.steps import Fused, View
from brim.kernels.trees import walk
from brim.kernels.winograd import regions, result_stages
from brim.types import F16, F32, I64, DType, dtype_of

# These give one of their arguments, or a whole number that f16 has: no rounding.
EXACT = {"maximum", "minimum", "neg", "absolute", "select", "sign"}
EXACT |= {"floor", "ceil", "trunc", "rint"}
LONG = 24  # subexpressions of what is computed once for several readers
MAX_EXPRESSION = 300  # a larger shared expression is cut by storing a value


def widened(dtype: DType) -> DType:
    """The dtype in which kernels hold values of `dtype`: f16 is computed in f32, and of storage
    types only the carrier's bits are known."""
    return F32 if dtype == F16 else dtype.carrier


def narrow(expr: Expr, dtype: DType) -> Expr:
    """An expression in the computed dtype, as it is stored."""
    if dtype != F16:
        return expr
    match expr:
        case Do("cast", (Do(dtype=inner) as half,)) if inner == F16:
            return half
    return Do("cast", (expr,), F16)


def rounded(expr: Expr, dtype: DType) -> Expr:
    """An f16 value is computed in f32 and rounded to f16, as it would be if it were stored.

    So a fused chain gives the same numbers as its operators one by one.
    """
    return Do("cast", (narrow(expr, F16),), F32) if dtype == F16 else expr


def load(view: View, dtype: DType, index: Index, gathers: tuple[Gather, ...] = ()) -> Expr:
    """The element of a stored tensor of `dtype` at `index`, in the dtype it is computed in."""
    at = At(view.buffer, index, gathers)
    return Do("cast", (at,), F32) if dtype == F16 else at


def build_stages(
    cluster: Cluster, fusion: Fusion, stored: Callable[[Value], View], too_big: set[int]
) -> tuple[tuple[Stage, ...], Fused]:
    """The stages of a cluster and what is fused in it. `stored`: where a value is in memory.

    too_big: gains the ids of values that had better be stored, because expressions grow too large;
    the result is then of no use.
    """
    building = _Stages(cluster, fusion, stored, too_big)
    return building.build(), Fused.of(building.values.values())


@dataclass(frozen=True)
class Tiles:
    """Stages for some tiles of a cluster with Winograd's results, and the loops around them."""

    extents: dict[str, int]
    outer: tuple[str, ...]
    stages: tuple[Stage, ...]
    fused: Fused


def build_tiles(
    cluster: Cluster, fusion: Fusion, stored: Callable[[Value], View], too_big: set[int]
) -> Iterator[Tiles]:
    """The stages of a cluster whose `tiled` is read element by element, for each region of tiles.

    The root's expression is built once for each result of a tile, at that result's position.
    """
    assert cluster.tiled is not None
    value, tile = cluster.tiled, cluster.tiled.attrs["tile"]
    image, y, x, channel = cluster.root_position()  # another operand may have split the channels
    _, height, width = value.attrs["shape"]
    for region in regions(height, width, tile):
        building = _Stages(cluster, fusion, stored, too_big)
        at, extents = [], {a: cluster.extents[a] for i in (image, channel) for a in i.strides}
        for count in (region.rows[1], region.columns[1]):
            name = cluster.new_axis(count)
            at.append(axis_index(name) if count > 1 else ZERO)
            extents |= {name: count} if count > 1 else {}
        row, column = at
        building.stages, results = result_stages(
            value, stored(value.args[0]), (image, row, column), channel, region
        )
        for (p, q), result in results.items():
            offsets = (region.rows[0] * tile[0] + p, region.columns[0] * tile[1] + q)
            for index, here, step, offset in zip((y, x), at, tile, offsets):
                for axis in index.strides:
                    cluster.splits[axis] = combine([(here, step)], offset)
            building.add_result(value, result)
        for axis in (*y.strides, *x.strides):
            del cluster.splits[axis]
        loops = [a for i in (image, row, column, channel) for a in i.strides]
        fused = Fused.of(building.values.values(), value)
        yield Tiles(extents, tuple(loops), tuple(building.stages), fused)


@dataclass(eq=False)
class _Stages:
    cluster: Cluster
    fusion: Fusion
    stored: Callable[[Value], View]
    too_big: set[int]
    stages: list[Stage] = field(default_factory=list)
    refs: dict[tuple[int, Position], Expr] = field(default_factory=dict)
    values: dict[int, Value] = field(default_factory=dict)  # by id: what is computed, in order
    inner: bool = False  # whether the stage being built has axes of its own
    in_kept: bool = False
    guarded: bool = False  # whether what is read may lie outside of its value, behind a guard

    def build(self) -> tuple[Stage, ...]:
        root, cluster = self.cluster.root, self.cluster
        view = self.stored(root)
        own = tuple(cluster.inner_axes())
        self.inner = bool(own)
        out = At(view.buffer, view.index(cluster.root_position()))
        value = self._compute(root, cluster.root_position())
        last = self.stages[-1] if self.stages else None
        if last and not own and value == Ref(last.name, root.dtype):  # nothing after the reduction
            self.stages[-1] = replace(last, out=out)
        else:
            self.stages.append(Stage("out", own, narrow(value, root.dtype), out=out))
        return tuple(self.stages)

    def add_result(self, tiled: Value, result: Expr) -> None:
        """A stage for the root's element at the present position, where `tiled` is `result`."""
        root, position = self.cluster.root, self.cluster.root_position()
        self.refs[(id(tiled), position)] = result
        self.values.setdefault(id(tiled), tiled)
        found = result if root is tiled else self._compute(root, position)
        view = self.stored(root)
        out = At(view.buffer, view.index(position))
        self.stages.append(Stage(f"t{len(self.stages)}", (), narrow(found, root.dtype), out=out))

    def read(self, value: Value, position: Position) -> Expr:
        """The element of `value` at `position`, loaded or computed."""
        cluster = self.cluster
        position = cluster.resolve(position)
        if value.data is not None:
            splat = _splat(value.data)
            if splat is not None:
                return Num(splat, widened(value.dtype))
        if value is cluster.kept and not self.in_kept:
            view = self.stored(cluster.root)
            return load(view, cluster.root.dtype, view.index(cluster.root_position()))
        if value.op is None or id(value) in self.fusion.demanded:
            view = self.stored(value)
            return load(view, value.dtype, view.index(position))
        if id(value) in self.too_big:  # for now, as short as the load that it will be
            return Num(0, widened(value.dtype))
        key = (id(value), position)
        if key in self.refs:
            return self.refs[key]
        if self._is_shared(value, position):
            return self._named(value, position, self._outside(value, position))
        expr = self._compute(value, position)
        return self._named(value, position, expr) if self._is_repeated(value, expr) else expr

    def _is_shared(self, value: Value, position: Position) -> bool:
        """Whether the value becomes a stage of its own: once for each outer point."""
        assert value.op is not None
        if value.op.kind != "elementwise" or self.in_kept or self.guarded:
            return False
        outer = self.cluster.outer
        axes = {t.axis for index in position for t in index.terms}
        if self.inner:
            return outer is not None and axes <= outer and _holds_reduction(value)
        uses = self.fusion.uses.get(id(value), ())
        return sum(u.stage is None and u.cluster is self.cluster for u in uses) > 1

    def _is_repeated(self, value: Value, expr: Expr) -> bool:
        """Whether an expression is long and several values read it: chains of such, as in hashes
        and products of powers, are written out exponentially often else."""
        if self.inner or self.in_kept or self.guarded or self.fusion.counts.get(id(value), 0) < 2:
            return False
        return sum(1 for _ in islice(subexpressions(expr), LONG)) == LONG

    def _outside(self, value: Value, position: Position) -> Expr:
        """The value's expression, of the outer axes alone."""
        inner, self.inner = self.inner, False
        expr = self._compute(value, position)
        self.inner = inner
        return expr

    def _named(self, value: Value, position: Position, expr: Expr) -> Expr:
        """A stage for an expression, which is read by its name from now on."""
        name = f"t{len(self.stages)}"
        self.stages.append(Stage(name, (), expr))
        ref = Ref(name, widened(value.dtype))
        self.refs[(id(value), position)] = ref
        return ref

    def _compute(self, value: Value, position: Position) -> Expr:
        assert value.op is not None
        expr = self._expression(value, position)
        self.values.setdefault(id(value), value)
        return expr

    def _expression(self, value: Value, position: Position) -> Expr:
        assert value.op is not None
        match value.op.kind:
            case "source":
                if value.dtype.is_float:
                    return Do("cast", (Iota(position[0], I64),), widened(value.dtype))
                return Iota(position[0], value.dtype)
            case "move":
                return self._move(value, position)
            case "elementwise":
                return self._elementwise(value, position)
            case "index":
                return self._gather(value, position)
            case "walk":
                return walk(value, position, self.stored)
            case "reduce":
                return self._reduce(value)
            case "contract":
                return self._contract(value)
        raise CompileError(f"no lowering for {value.op.name}", where=value.where)

    def _move(self, value: Value, position: Position) -> Expr:
        source = value.args[0]
        try:
            moved, bounds = through_move(value, position, self.cluster.extents)
        except (NotAffine, NeedSplit):  # the latter on an axis that stays whole
            view = self.stored(source)
            assert view.is_contiguous, "a non-affine reshape reads contiguous memory"
            linear = combine(list(zip(position, row_major(value.shape))), view.offset)
            return load(view, source.dtype, linear)
        before, self.guarded = self.guarded, self.guarded or bool(bounds)
        expr = self.read(source, moved)
        self.guarded = before
        if bounds:
            dtype = widened(value.dtype)
            number = np.asarray(value.attrs["value"]).astype(value.dtype.numpy)
            return Guard(bounds, expr, Num(_number(number, value.dtype), dtype))
        return expr

    def _elementwise(self, value: Value, position: Position) -> Expr:
        assert value.op is not None
        args = [self.read(a, broadcast_position(position, a.shape)) for a in value.args]
        if sum(1 for a in args for _ in subexpressions(a)) > MAX_EXPRESSION:
            computed = [a for a in value.args if a.op and a.op.kind == "elementwise"]
            stored = self.fusion.demanded | self.too_big
            biggest = next((a for a in computed if id(a) not in stored), None)
            if biggest is not None:
                self.too_big.add(id(biggest))
                args[value.args.index(biggest)] = Num(0, widened(biggest.dtype))
        dtype = widened(value.dtype)
        if value.op.name == "bitcast":
            return _bitcast(args[0], value.args[0].dtype, value.dtype)
        if value.op.name != "cast":
            done = Do(value.op.name, tuple(args), dtype)
            return done if value.op.name in EXACT else rounded(done, value.dtype)
        if value.dtype == F16 and value.args[0].dtype != F16:
            return Do("cast", (Do("cast", tuple(args), F16),), F32)
        same = widened(value.args[0].dtype) == dtype
        return args[0] if same else Do("cast", tuple(args), dtype)

    def _gather(self, value: Value, position: Position) -> Expr:
        source, index = value.args
        view, axis, rank = self.stored(source), value.attrs["axis"], len(index.shape)
        base = (*position[:axis], ZERO, *position[axis + rank :])
        found = self.read(index, position[axis : axis + rank])
        gather = Gather(found, view.strides[axis], source.shape[axis])
        return load(view, source.dtype, view.index(base), (gather,))

    def _stage(self, value: Value, expr: Expr, op: str, keep: At | None = None) -> Expr:
        """A reduction's stage; over axes of size 1 there is nothing to reduce, only to compute."""
        axes = tuple(self.cluster.stages[id(value)])
        if not axes and op.startswith("arg"):
            expr = Num(0, I64)
        name = f"t{len(self.stages)}"
        reduce = Reduce(op, axes) if axes else None
        self.stages.append(Stage(name, axes, expr, reduce, keep=keep if axes else None))
        exact = op not in ("add", "mul")
        ref = Ref(name, widened(value.dtype))
        return ref if exact else rounded(ref, value.dtype)

    def _reduction(self, value: Value, build: Callable[[], Expr]) -> Expr:
        key = (id(value), ())
        if key not in self.refs:
            before = self.inner
            self.inner = bool(self.cluster.stages[id(value)])
            self.refs[key] = build()
            self.inner = before
        return self.refs[key]

    def _reduce(self, value: Value) -> Expr:
        def build() -> Expr:
            source = value.args[0]
            position = self.cluster.resolve(self.cluster.opened[id(value)][0])
            op = value.attrs["op"]
            if "axis" in value.attrs:
                op = f"arg{op}" + ("_last" if value.attrs["last"] else "")
            keep = None
            if source is self.cluster.kept:
                view = self.stored(self.cluster.root)
                keep = At(view.buffer, view.index(self.cluster.root_position()))
                self.in_kept = True
            expr = self.read(source, position)
            self.in_kept = False
            return self._stage(value, expr, op, keep)

        return self._reduction(value, build)

    def _contract(self, value: Value) -> Expr:
        def build() -> Expr:
            positions = self.cluster.opened[id(value)]
            a, b = (self.read(v, self.cluster.resolve(p)) for v, p in zip(value.args, positions))
            self._order_axes(value, a, b)
            dtype = widened(value.dtype)
            pair = (
                e if widened(v.dtype) == dtype else Do("cast", (e,), dtype)
                for e, v in zip((a, b), value.args)
            )  # fmt: skip
            return self._stage(value, Do("mul", tuple(pair), dtype), "add")

        return self._reduction(value, build)

    def _order_axes(self, value: Value, a: Expr, b: Expr) -> None:
        """Reduction loops from the widest stride of the first operand to the narrowest.

        Innermost are those whose number is computed with: parts of one byte, loaded once.
        """
        counted = {
            axis
            for part in (*subexpressions(a), *subexpressions(b))
            if isinstance(part, Iota)
            for axis in part.index.strides
        }
        at = next((e for e in subexpressions(a) if isinstance(e, At)), None)
        if at is not None:
            strides = at.index.strides
            self.cluster.stages[id(value)].sort(
                key=lambda axis: (axis in counted, -abs(strides.get(axis, 1 << 60)))
            )


def _holds_reduction(value: Value) -> bool:
    """Whether an inlined elementwise value depends on a reduction of the same kernel."""
    stack, seen = [value], set()
    while stack:
        v = stack.pop()
        if v.op is None or id(v) in seen:
            continue
        seen.add(id(v))
        if v.op.kind in ("reduce", "contract"):
            return True
        if v.op.kind in ("elementwise", "move"):
            stack.extend(v.args)
    return False


def _bitcast(bits: Expr, of: DType, to: DType) -> Expr:
    """The bits of an expression of a value of dtype `of`, as those of one of dtype `to`."""
    if of.carrier == to.carrier:
        return bits
    result = Do("bitcast", (narrow(bits, of),), to)
    return Do("cast", (result,), F32) if to == F16 else result


def _splat(array: np.ndarray) -> float | int | None:
    """The one number that a constant consists of, if it does and it is small enough to look."""
    if array.size == 0 or array.size > 65536:
        return None
    bits = np.ascontiguousarray(array).view(f"u{array.itemsize}")  # 0 and -0 are two numbers
    if not bool((bits == bits.flat[0]).all()):
        return None
    return _number(array.flat[0], dtype_of(array))


def _number(x: np.generic | np.ndarray, dtype: DType) -> float | int:
    """One element as it stands in a kernel: that of a storage type by its carrier's bits."""
    plain = x.view(dtype.carrier.numpy).item()
    return plain if dtype.is_float else int(plain)
