"""Lowering: a primitive graph becomes kernels over buffers, following the decisions of `fuse`.

The result, `Lowered`, is flat data: buffers, and steps in execution order. It knows nothing of
machines; schedules are chosen later. A concat is a buffer whose operands are stored in place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from brim.errors import CompileError
from brim.graph import Graph, Value
from brim.kernels import fuse as fusing
from brim.kernels.affine import (
    ZERO,
    NotAffine,
    Position,
    axis_index,
    broadcast_position,
    combine,
    row_major,
    through_move,
)
from brim.kernels.axes import canonical, merge_axes
from brim.kernels.ir import (
    Arg,
    At,
    Bound,
    Do,
    Expr,
    Gather,
    Guard,
    Index,
    Iota,
    Kernel,
    Num,
    Reduce,
    Ref,
    Stage,
    subexpressions,
    unit,
)
from brim.types import BOOL, F16, F32, I64, DType, Type

MAX_EXPRESSION = 300  # a larger shared expression is cut by storing a value


@dataclass(frozen=True)
class Buffer:
    """Memory for `size` elements. kind: input, output, const (then `data`), temp, or host (an object)."""

    name: str
    dtype: DType
    size: int
    kind: str
    data: np.ndarray | None = None


@dataclass(frozen=True)
class View:
    """A tensor inside a buffer; strides and offset in elements."""

    buffer: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0

    @property
    def is_contiguous(self) -> bool:
        return self.strides == row_major(self.shape)

    def index(self, position: Position) -> Index:
        return combine(list(zip(position, self.strides)), self.offset)


@dataclass(frozen=True)
class KernelStep:
    """One kernel and the buffers bound to its args. `ops` and `where` are for people."""

    kernel: Kernel
    buffers: tuple[str, ...]
    ops: tuple[str, ...]
    where: str
    is_move: bool


@dataclass(frozen=True)
class HostStep:
    """One operator run by numpy between kernels. Args are views, or names of host buffers."""

    value: Value
    args: tuple[View | str, ...]
    result: View | str


Step = KernelStep | HostStep


@dataclass(frozen=True)
class Lowered:
    """A whole graph as steps over buffers."""

    buffers: Mapping[str, Buffer]
    steps: tuple[Step, ...]
    inputs: Mapping[str, str]
    outputs: Mapping[str, View | str]


def widened(dtype: DType) -> DType:
    """The dtype in which values of `dtype` are computed: f16 is a storage type."""
    return F32 if dtype == F16 else dtype


def lower(graph: Graph) -> Lowered:
    """Fuses and lowers a graph of primitives. Values that would be recomputed too often are stored."""
    force: set[int] = set()
    while True:
        try:
            return _Lowering(graph, fusing.fuse(graph, frozenset(force))).run()
        except _TooBig as too_big:
            force.add(id(too_big.value))


class _TooBig(Exception):
    def __init__(self, value: Value) -> None:
        self.value = value


@dataclass(eq=False)
class _Lowering:
    graph: Graph
    fusion: fusing.Fusion
    buffers: dict[str, Buffer] = field(default_factory=dict)
    views: dict[int, View | str] = field(default_factory=dict)  # id(value) -> where it is stored
    slots: dict[int, list[View]] = field(default_factory=dict)  # id(concat) -> where its args go
    steps: list[Step] = field(default_factory=list)
    constants: dict[int, str] = field(default_factory=dict)

    def run(self) -> Lowered:
        order = self.graph.values()
        self._place(order)
        for value in order:
            if value.op is None or id(value) not in self.fusion.demanded:
                continue
            if fusing.on_host(value):
                self._host(value)
            elif value.op.name == "concat":
                for arg, slot in zip(value.args, self.slots[id(value)]):
                    if self.views.get(id(arg)) != slot and arg.type.size:
                        self._copy(arg, slot, value.where)
            elif value.type.size:
                self._cluster(value)
        outputs = {name: self._output(name, value) for name, value in self.graph.outputs.items()}
        inputs = {name: self._stored(v).buffer for name, v in self.graph.inputs.items()}
        return Lowered(self.buffers, tuple(self.steps), inputs, outputs)

    # -------------------------------------------------------------- where values live

    def _buffer(self, dtype: DType, size: int, kind: str, data: np.ndarray | None = None) -> str:
        name = f"b{len(self.buffers)}"
        self.buffers[name] = Buffer(name, dtype, size, kind, data)
        return name

    def _fresh(self, type: Type, kind: str) -> View:
        return View(self._buffer(type.dtype, type.size, kind), type.dims, row_major(type.dims))

    def _place(self, order: list[Value]) -> None:
        """Gives every stored value its memory: outputs first, then concats before their operands."""
        for value in self.graph.inputs.values():
            self.views[id(value)] = self._fresh(value.type, "input")
        for value in self.graph.outputs.values():
            fits = value.op is not None and isinstance(value.type, Type) and value.type.is_static
            if fits and id(value) not in self.views and not fusing.on_host(value):
                self.views[id(value)] = self._fresh(value.type, "output")
        for value in reversed(order):
            if value.op is None or id(value) not in self.fusion.demanded:
                continue
            if fusing.on_host(value) and not (
                isinstance(value.type, Type) and value.type.is_static and value.dtype.kind != "s"
            ):
                self.views[id(value)] = self._buffer(BOOL, 0, "host")
                continue
            if id(value) not in self.views:
                self.views[id(value)] = self._fresh(value.type, "temp")
            if value.op.name == "concat":
                self._place_operands(value)

    def _place_operands(self, value: Value) -> None:
        whole = self.views[id(value)]
        assert isinstance(whole, View)
        axis, start, slots = value.attrs["axis"], 0, []
        for arg in value.args:
            slot = View(
                whole.buffer, arg.shape, whole.strides, whole.offset + start * whole.strides[axis]
            )
            start += arg.shape[axis]
            slots.append(slot)
            computed = arg.op is not None and not fusing.on_host(arg) and arg.op.kind != "source"
            free = id(arg) not in self.views and id(arg) not in self.fusion.contiguous
            if computed and free:
                self.views[id(arg)] = slot
        self.slots[id(value)] = slots

    def _stored(self, value: Value) -> View:
        """The view of a stored value; constants get a buffer when they are first read."""
        if value.data is not None:
            key = id(value.data)
            if key not in self.constants:
                flat = value.data.reshape(-1)
                self.constants[key] = self._buffer(value.dtype, value.type.size, "const", flat)
            return View(self.constants[key], value.shape, row_major(value.shape))
        view = self.views[id(value)]
        assert isinstance(view, View)
        return view

    def _output(self, name: str, value: Value) -> View | str:
        """Every output has memory of its own; what is stored elsewhere is copied at the edge."""
        taken = {s.buffer for s in self._outputs_so_far}
        view = self._stored(value) if value.op is None else self.views[id(value)]
        if isinstance(view, str):
            return view
        own = self.buffers[view.buffer].kind == "output" and view.buffer not in taken
        if not own or not view.is_contiguous or view.offset:
            target = self._fresh(value.type, "output")
            if value.type.size:
                self._copy(value, target, f"output {name}")
            view = target
        self._outputs_so_far.append(view)
        return view

    _outputs_so_far: list[View] = field(default_factory=list)

    # -------------------------------------------------------------- steps

    def _host(self, value: Value) -> None:
        args: list[View | str] = []
        for arg in value.args:
            view = self._stored(arg) if arg.op is None else self.views[id(arg)]
            args.append(view)
        self.steps.append(HostStep(value, tuple(args), self.views[id(value)]))

    def _copy(self, value: Value, target: View, where: str) -> None:
        """A standalone copy: only at the edges of the graph, or for a value needed in two places."""
        axes = [(f"x{i}", n) for i, n in enumerate(value.shape) if n != 1]
        names = iter(name for name, _ in axes)
        position = tuple(ZERO if n == 1 else axis_index(next(names)) for n in value.shape)
        source = self._stored(value)
        expr = At(source.buffer, source.index(position))
        out = At(target.buffer, target.index(position))
        stage = Stage("s", (), expr, out=out)
        self._emit(dict(axes), tuple(n for n, _ in axes), (stage,), ("copy",), where, True)

    def _cluster(self, value: Value) -> None:
        assert value.op is not None
        match value.op.kind:
            case "scan":
                self._scan(value)
            case "scatter":
                self._scatter(value)
            case _:
                cluster = self.fusion.clusters[id(value)]
                builder = _Stages(self, cluster)
                stages = builder.build()
                shared = [a for a in cluster.root_axes if a not in cluster.inner_axes()]
                move = all(name in _MOVES for name in builder.ops)
                self._emit(
                    cluster.extents, tuple(shared), stages, tuple(builder.ops), value.where, move
                )

    def _emit(
        self,
        extents: Mapping[str, int],
        outer: tuple[str, ...],
        stages: tuple[Stage, ...],
        ops: tuple[str, ...],
        where: str,
        is_move: bool,
        ordered: tuple[str, ...] = (),
    ) -> None:
        read, written = _touched(stages)
        names = [*dict.fromkeys((*read, *written))]
        args = []
        for name in names:
            buffer = self.buffers[name]
            role = "out" if name in written else "const" if buffer.kind == "const" else "in"
            args.append(Arg(name, buffer.dtype, buffer.size, role))
        used = {a for stage in stages for a in (*outer, *stage.axes)}
        sizes = tuple((a, n) for a, n in extents.items() if a in used)
        kernel = Kernel("kernel", sizes, outer, stages, tuple(args), ordered)
        kernel = canonical(merge_axes(kernel))
        self.steps.append(KernelStep(kernel, tuple(names), ops, where, is_move))

    def _load(self, buffer: str, index: Index, gathers: tuple[Gather, ...] = ()) -> Expr:
        at = At(buffer, index, gathers)
        return Do("cast", (at,), F32) if self.buffers[buffer].dtype == F16 else at

    def _scan(self, value: Value) -> None:
        """A running sum or product: each element follows from the one before, along an ordered axis."""
        attrs, shape = value.attrs, value.shape
        x, y = self._stored(value.args[0]), self._stored(value)
        axis, size = attrs["axis"], shape[attrs["axis"]]
        names = [f"x{i}" for i in range(len(shape))]

        def at(view: View, step: Index) -> Index:
            along = combine([(step, -1)], size - 1) if attrs["reverse"] else step
            return view.index(
                tuple(along if i == axis else axis_index(n) for i, n in enumerate(names))
            )

        here = axis_index(names[axis])
        before = combine([(here, 1)], -1)
        dtype = widened(value.dtype)
        start = Num(unit(attrs["op"], dtype), dtype)
        earlier = Guard((Bound(before, size),), self._load(y.buffer, at(y, before)), start)
        term: Expr = self._load(x.buffer, at(x, before if attrs["exclusive"] else here))
        if attrs["exclusive"]:
            term = Guard((Bound(before, size),), term, start)
        total = Do(attrs["op"], (earlier, term), dtype)
        stage = Stage("s", (), _narrow(total, value.dtype), out=At(y.buffer, at(y, here)))
        others = [n for i, n in enumerate(names) if i != axis]
        extents = dict(zip(names, shape))
        outer = (names[axis], *others)
        self._emit(extents, outer, (stage,), ("cumulate",), value.where, False, (names[axis],))

    def _scatter(self, value: Value) -> None:
        """A copy of x, then the updates in order."""
        x, index, update = value.args
        target, axis = self._stored(value), value.attrs["axis"]
        self._copy(x, target, value.where)
        if not index.type.size or not update.type.size:
            return
        names = [f"x{i}" for i in range(len(update.shape))]
        position = tuple(axis_index(n) for n in names)
        rest = tuple(ZERO if i == axis else p for i, p in enumerate(position))
        where = self._stored(index)
        found = Gather(
            At(where.buffer, where.index((position[axis],))),
            target.strides[axis],
            value.shape[axis],
        )
        source = self._stored(update)
        new = self._load(source.buffer, source.index(position))
        if value.attrs["op"] != "set":
            scalar = {"max": "maximum", "min": "minimum"}.get(value.attrs["op"], value.attrs["op"])
            old = self._load(target.buffer, target.index(rest), (found,))
            new = Do(scalar, (old, new), widened(value.dtype))
        out = At(target.buffer, target.index(rest), (found,))
        stage = Stage("s", (), _narrow(new, value.dtype), out=out)
        others = [n for i, n in enumerate(names) if i != axis]
        extents = dict(zip(names, update.shape))
        outer = (names[axis], *others)
        self._emit(extents, outer, (stage,), ("scatter",), value.where, False, (names[axis],))


_MOVES = {"transpose", "reshape", "broadcast", "slice", "pad", "window", "concat"}


def _narrow(expr: Expr, dtype: DType) -> Expr:
    return Do("cast", (expr,), F16) if dtype == F16 else expr


def _touched(stages: tuple[Stage, ...]) -> tuple[list[str], list[str]]:
    """Names of the buffers that stages read and write, in order of first appearance."""
    read: dict[str, None] = {}
    written: dict[str, None] = {}
    for stage in stages:
        for target in (stage.out, stage.keep):
            if target is not None:
                written[target.buf] = None
                for gather in target.gathers:
                    read.update((e.buf, None) for e in subexpressions(gather.index) if isinstance(e, At))
        read.update((e.buf, None) for e in subexpressions(stage.value) if isinstance(e, At))
    return list(read), list(written)


@dataclass(eq=False)
class _Stages:
    """Builds the stages of one cluster: expressions top-down, stages in order of need."""

    lowering: _Lowering
    cluster: fusing.Cluster
    stages: list[Stage] = field(default_factory=list)
    refs: dict[tuple[int, Position], Expr] = field(default_factory=dict)
    ops: list[str] = field(default_factory=list)
    inner: bool = False  # whether the stage being built has axes of its own
    in_kept: bool = False

    def build(self) -> tuple[Stage, ...]:
        root, cluster = self.cluster.root, self.cluster
        view = self.lowering._stored(root)
        own = tuple(cluster.inner_axes())
        self.inner = bool(own)
        out = At(view.buffer, view.index(cluster.root_position()))
        value = self._compute(root, cluster.root_position())
        self.stages.append(Stage("out", own, _narrow(value, root.dtype), out=out))
        last = self.stages[-1]
        if isinstance(value, Ref) and len(self.stages) > 1 and not own:
            before = self.stages[-2]
            if before.name == value.stage and before.out is None and root.dtype != F16:
                merged = Stage("out", before.axes, before.value, before.reduce, out, before.keep)
                return (*self.stages[:-2], merged)
        return (*self.stages[:-1], last)

    def read(self, value: Value, position: Position) -> Expr:
        """The element of `value` at `position`, loaded or computed."""
        lowering, cluster = self.lowering, self.cluster
        position = cluster.resolve(position)
        if value.data is not None:
            splat = _splat(value.data)
            if splat is not None:
                return Num(splat, widened(value.dtype))
        if value is cluster.kept and not self.in_kept:
            view = lowering._stored(cluster.root)
            return lowering._load(view.buffer, view.index(cluster.root_position()))
        if value.op is None or id(value) in lowering.fusion.demanded:
            view = lowering._stored(value)
            return lowering._load(view.buffer, view.index(position))
        key = (id(value), position)
        if key in self.refs:
            return self.refs[key]
        if self._is_shared(value, position):
            return self._let(value, position)
        return self._compute(value, position)

    def _is_shared(self, value: Value, position: Position) -> bool:
        """Whether the value becomes a stage of its own: once for each outer point."""
        assert value.op is not None
        if value.op.kind != "elementwise" or self.in_kept:
            return False
        outer = self.cluster.outer
        axes = {t.axis for index in position for t in index.terms}
        if self.inner:
            return outer is not None and axes <= outer and _holds_reduction(value)
        here = [u for u in self.lowering.fusion.uses.get(id(value), ()) if u.stage is None]
        return len(here) > 1

    def _let(self, value: Value, position: Position) -> Expr:
        inner, self.inner = self.inner, False
        expr = self._compute(value, position)
        self.inner = inner
        name = f"t{len(self.stages)}"
        self.stages.append(Stage(name, (), expr))
        ref = Ref(name, widened(value.dtype))
        self.refs[(id(value), position)] = ref
        return ref

    def _compute(self, value: Value, position: Position) -> Expr:
        assert value.op is not None
        if value.op.name not in self.ops:
            self.ops.append(value.op.name)
        match value.op.kind:
            case "source":
                return Iota(position[0] if position else ZERO, value.dtype) if (
                    not value.dtype.is_float
                ) else Do("cast", (Iota(position[0], I64),), widened(value.dtype))
            case "move":
                return self._move(value, position)
            case "elementwise":
                return self._elementwise(value, position)
            case "index":
                return self._gather(value, position)
            case "reduce":
                return self._reduce(value)
            case "contract":
                return self._contract(value)
        raise CompileError(f"no lowering for {value.op.name}", where=value.where)

    def _move(self, value: Value, position: Position) -> Expr:
        source = value.args[0]
        try:
            moved, bounds = through_move(value, position, self.cluster.extents)
        except NotAffine:
            view = self.lowering._stored(source)
            assert view.is_contiguous, "a non-affine reshape reads contiguous memory"
            linear = combine(list(zip(position, row_major(value.shape))), view.offset)
            return self.lowering._load(view.buffer, linear)
        expr = self.read(source, moved)
        if bounds:
            dtype = widened(value.dtype)
            return Guard(bounds, expr, Num(_number(value.attrs["value"], dtype), dtype))
        return expr

    def _elementwise(self, value: Value, position: Position) -> Expr:
        assert value.op is not None
        args = [self.read(a, broadcast_position(position, a.shape)) for a in value.args]
        if sum(1 for a in args for _ in subexpressions(a)) > MAX_EXPRESSION:
            computed = [a for a in value.args if a.op and a.op.kind == "elementwise"]
            stored = self.lowering.fusion.demanded
            biggest = next((a for a in computed if id(a) not in stored), None)
            if biggest is not None:
                raise _TooBig(biggest)
        dtype = widened(value.dtype)
        if value.op.name != "cast":
            return Do(value.op.name, tuple(args), dtype)
        if value.dtype == F16 and value.args[0].dtype != F16:
            rounded = Do("cast", tuple(args), F16)
            return Do("cast", (rounded,), F32)
        same = widened(value.args[0].dtype) == dtype
        return args[0] if same else Do("cast", tuple(args), dtype)

    def _gather(self, value: Value, position: Position) -> Expr:
        source, index = value.args
        view, axis, rank = self.lowering._stored(source), value.attrs["axis"], len(index.shape)
        base = (*position[:axis], ZERO, *position[axis + rank :])
        found = self.read(index, position[axis : axis + rank])
        gather = Gather(found, view.strides[axis], source.shape[axis])
        return self.lowering._load(view.buffer, view.index(base), (gather,))

    def _stage(self, value: Value, expr: Expr, op: str, keep: At | None = None) -> Expr:
        axes = tuple(self.cluster.stages[id(value)])
        name = f"t{len(self.stages)}"
        if axes:
            self.stages.append(Stage(name, axes, expr, Reduce(op, axes), keep=keep))
        elif op.startswith("arg"):
            expr = Num(0, I64)
            self.stages.append(Stage(name, (), expr))
        else:
            self.stages.append(Stage(name, (), expr))
        ref = Ref(name, widened(value.dtype))
        return ref

    def _reduction(self, value: Value, build) -> Expr:  # noqa: ANN001
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
                view = self.lowering._stored(self.cluster.root)
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
            self._order_axes(value, a)
            return self._stage(value, Do("mul", (a, b), widened(value.dtype)), "add")

        return self._reduction(value, build)

    def _order_axes(self, value: Value, a: Expr) -> None:
        """Reduction loops from the widest stride of the first operand to the narrowest."""
        at = next((e for e in subexpressions(a) if isinstance(e, At)), None)
        if at is not None:
            strides = at.index.strides
            self.cluster.stages[id(value)].sort(key=lambda axis: -abs(strides.get(axis, 1 << 60)))


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


def _splat(array: np.ndarray) -> float | int | None:
    """The one number that a constant consists of, if it does and it is small enough to look."""
    if array.size == 0 or array.size > 65536:
        return None
    first = array.flat[0]
    if array.size > 1 and not bool((array == first).all()):
        return None
    return _number(first, None)


def _number(x, dtype: DType | None) -> float | int:  # noqa: ANN001
    value = x.item() if hasattr(x, "item") else x
    if isinstance(value, bool):
        return int(value)
    if dtype is not None and not dtype.is_float:
        return int(value)
    return value
