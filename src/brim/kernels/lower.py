"""Lowering: a primitive graph becomes kernels over buffers, following the decisions of `fuse`.

The result, `Lowered`, is flat data: buffers, and steps in execution order. It knows nothing of
machines; schedules are chosen later. A concat is a buffer whose operands are stored in place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from brim.errors import CompileError
from brim.graph import NO_ATTRS, Graph, Value
from brim.kernels import fuse as fusing
from brim.kernels.affine import ZERO, axis_index, row_major
from brim.kernels.axes import canonical, merge_axes
from brim.kernels.dots import paired
from brim.kernels.ir import Arg, At, Kernel, Repeat, Stage, dtype_of_expr, subexpressions
from brim.kernels.loops import is_compiled, loop_body, place_loop
from brim.kernels.sequential import InOrder, running, updates
from brim.kernels.stages import build_stages, build_tiles
from brim.kernels.steps import Buffer, Fused, HostStep, KernelStep, Lowered, Step, View
from brim.kernels.winograd import input_stages
from brim.ops.registry import OPS
from brim.types import BOOL, F32, I8, I64, U8, DType, Type


def lower(graph: Graph) -> Lowered:
    """Fuses and lowers a graph of primitives. Values that would be computed often are stored."""
    force: set[int] = set()
    while True:
        lowering = _Lowering(graph, fusing.fuse(graph, frozenset(force)))
        lowered = lowering.run()
        if not lowering.too_big:
            return lowered
        force |= lowering.too_big


@dataclass(eq=False)
class _Lowering:
    graph: Graph
    fusion: fusing.Fusion
    buffers: dict[str, Buffer] = field(default_factory=dict)
    views: dict[int, View | str] = field(default_factory=dict)  # id(value) -> where it is stored
    slots: dict[int, list[View]] = field(default_factory=dict)  # id(concat) -> where its args go
    steps: list[Step] = field(default_factory=list)
    constants: dict[int, str] = field(default_factory=dict)
    written: set[str] = field(default_factory=set)  # output buffers that an output has taken
    too_big: set[int] = field(default_factory=set)  # ids of values that should have been stored
    loops: dict[int, tuple[View, ...]] = field(default_factory=dict)  # id(loop) -> its results

    def run(self) -> Lowered:
        order = self.graph.values()
        self._place(order)
        for value in order:
            if value.op is None or id(value) not in self.fusion.demanded:
                continue
            if is_compiled(value):
                self._loop(value)
            elif fusing.on_host(value):
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

    def _apart(self, type: Type) -> View:
        """Temporary memory for [P, N, C] that is read at all P at once. They are an odd number of
        cache lines apart, or would compete for few sets: 7 us instead of 17 for a 13x13 layer."""
        line = 64 // type.dtype.bytes
        step = (-(-type.dims[1] * type.dims[2] // line) | 1) * line
        buffer = self._buffer(type.dtype, type.dims[0] * step, "temp")
        return View(buffer, type.dims, (step, type.dims[2], 1))

    def _place(self, order: list[Value]) -> None:
        """Gives every stored value memory: outputs first, then concats before their operands."""
        tiled = {id(v) for v in order if v.op and v.op.kind == "tiles"}
        tiled |= {id(v.args[0]) for v in order if v.op and v.op.kind == "untile"}
        for value in self.graph.inputs.values():
            self.views[id(value)] = self._fresh(value.type, "input")
        for value in self.graph.outputs.values():
            fits = value.op is not None and isinstance(value.type, Type) and value.type.is_static
            apart = fits and (is_compiled(value) or fusing.on_host(value))
            if fits and not apart and id(value) not in self.views:
                self.views[id(value)] = self._fresh(value.type, "output")
        for value in reversed(order):
            if value.op is None or id(value) not in self.fusion.demanded or is_compiled(value):
                continue
            if fusing.on_host(value) and not (
                isinstance(value.type, Type) and value.type.is_static and not value.dtype.is_object
            ):
                self.views[id(value)] = self._buffer(BOOL, 0, "host")
                continue
            if id(value) not in self.views:
                apart = id(value) in tiled and id(value) not in self.fusion.contiguous
                made = self._apart(value.type) if apart else self._fresh(value.type, "temp")
                self.views[id(value)] = made
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
            computed = arg.op is not None and arg.op.kind not in (*fusing.BARRIERS, "source")
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
        view = self._stored(value) if value.op is None else self.views[id(value)]
        if view in self.written or (value.dtype.is_object and isinstance(view, View)):
            view = self._pass_on(value, view)
        if isinstance(view, str):
            self.written.add(view)
            return view
        own = self.buffers[view.buffer].kind == "output" and view.buffer not in self.written
        if not own or not view.is_contiguous or view.offset:
            target = self._fresh(value.type, "output")
            if value.type.size:
                self._copy(value, target, f"output {name}")
            view = target
        self.written.add(view.buffer)
        return view

    # -------------------------------------------------------------- steps

    def _host(self, value: Value) -> None:
        args: list[View | str] = []
        for arg in value.args:
            view = self._stored(arg) if arg.op is None else self.views[id(arg)]
            args.append(view)
        self.steps.append(HostStep(value, tuple(args), self.views[id(value)]))

    def _loop(self, value: Value) -> None:
        """A loop that kernels run, or one of its results."""
        assert value.op is not None
        if value.op.name == "item":
            self.views[id(value)] = self.loops[id(value.args[0])][value.attrs["index"]]
            return
        carried = value.attrs["carried"]
        captured = [self._contiguous(arg) for arg in value.args[2 + carried :]]
        body = loop_body(value)
        placed = place_loop(value, body, lower(body.graph), captured, f"b{len(self.buffers)}.")
        self.buffers.update(placed.buffers)
        for arg, start in zip(value.args[2:], placed.starts):
            if arg.type.size:
                self._copy(arg, start, value.where)
        self.steps.append(placed.step)
        self.loops[id(value)] = placed.results
        if isinstance(value.type, Type):
            (self.views[id(value)],) = placed.results

    def _contiguous(self, value: Value) -> str:
        """A buffer that holds a stored value and nothing else."""
        view = self._stored(value)
        if view.is_contiguous and not view.offset:
            return view.buffer
        own = self._fresh(value.type, "temp")
        if value.type.size:
            self._copy(value, own, value.where)
        return own.buffer

    def _pass_on(self, value: Value, source: View | str) -> str:
        """A copy of what no kernel can copy: text, containers, values of unknown shape."""
        step = Value(OPS["pass_on"], (value,), NO_ATTRS, value.type, None, value.where)
        name = self._buffer(BOOL, 0, "host")
        self.steps.append(HostStep(step, (source,), name))
        return name

    def _copy(self, value: Value, target: View, where: str) -> None:
        """A standalone copy: only at the graph's edges, or for a value needed in two places."""
        axes = [(f"x{i}", n) for i, n in enumerate(value.shape) if n != 1]
        names = iter(name for name, _ in axes)
        position = tuple(ZERO if n == 1 else axis_index(next(names)) for n in value.shape)
        source = self._stored(value)
        expr = At(source.buffer, source.index(position))
        out = At(target.buffer, target.index(position))
        stage = Stage("s", (), expr, out=out)
        self._emit(
            dict(axes), tuple(n for n, _ in axes), (stage,), Fused(("copy",), where, (where,)), True
        )

    def _cluster(self, value: Value) -> None:
        assert value.op is not None
        if value.op.kind == "scan":
            self._in_order(value, running(value, self._stored(value.args[0]), self._stored(value)))
        elif value.op.kind == "scatter":
            self._copy(value.args[0], self._stored(value), value.where)
            if value.args[1].type.size and value.args[2].type.size:
                index, update = (self._stored(arg) for arg in value.args[1:])
                self._in_order(value, updates(value, index, update, self._stored(value)))
        elif value.op.kind == "tiles":
            axes, stages = input_stages(value, self._stored(value.args[0]), self._stored(value))
            self._emit(axes, tuple(axes), stages, Fused.of([value]), False)
        elif (cluster := self.fusion.clusters[id(value)]).tiled is not None:
            for part in build_tiles(cluster, self.fusion, self._stored, self.too_big):
                if not self.too_big:
                    self._emit(part.extents, part.outer, part.stages, part.fused, False)
        else:
            stages, fused = build_stages(cluster, self.fusion, self._stored, self.too_big)
            if self.too_big:
                return
            shared = tuple(a for a in cluster.root_axes if a not in cluster.inner_axes())
            is_move = all(name in _MOVES for name in fused.ops)
            self._emit(cluster.extents, shared, stages, fused, is_move)

    def _in_order(self, value: Value, loops: InOrder) -> None:
        assert value.op is not None
        fused, stages = Fused.of([value]), (loops.stage,)
        self._emit(loops.extents, loops.outer, stages, fused, False, loops.outer[:1])

    def _emit(
        self,
        extents: Mapping[str, int],
        outer: tuple[str, ...],
        stages: tuple[Stage, ...],
        fused: Fused,
        is_move: bool,
        ordered: tuple[str, ...] = (),
    ) -> None:
        read, written = _touched(stages)
        names = [*dict.fromkeys((*read, *written))]
        args, bounded = [], _looked_up(stages)
        if any(self.buffers[name].dtype in (I8, U8) for name in written):
            bounded.update(name for name in read if self.buffers[name].dtype == F32)
        for name in names:
            buffer = self.buffers[name]
            role = "out" if name in written else "const" if buffer.kind == "const" else "in"
            below = _below(buffer.data) if name in bounded else None
            args.append(Arg(name, buffer.dtype.carrier, buffer.size, role, below))
        used = {a for stage in stages for a in (*outer, *stage.axes)}
        sizes = tuple((a, n) for a, n in extents.items() if a in used)
        kernel = Kernel("kernel", sizes, outer, stages, tuple(args), ordered)
        _check_stores(kernel)
        kernel = canonical(merge_axes(kernel))
        held = {arg.name: self.buffers[name].data for arg, name in zip(kernel.args, names)}
        kernel = paired(kernel, {name: data for name, data in held.items() if data is not None})
        self.steps.append(KernelStep(kernel, tuple(names), fused, is_move))


# What is said of f32 constants that are neither infinite nor NaN, but not below 1.
_LARGE = 1 << 61

_MOVES = {"transpose", "reshape", "broadcast", "slice", "pad", "window", "concat", "hold"}


def _check_stores(kernel: Kernel) -> None:
    """A store of another width than its buffer's would write beyond it: never emit one."""
    for stage in kernel.stages:
        dtype = dtype_of_expr(stage.value, kernel)
        stored = I64 if stage.reduce and stage.reduce.is_arg else dtype
        for at, found in ((stage.out, stored), (stage.keep, dtype)):
            if at is not None and kernel.buffers[at.buf].dtype != found:
                raise CompileError(
                    f"stage {stage.name} stores {found} into a buffer of "
                    f"{kernel.buffers[at.buf].dtype}",
                    hint="this is a bug in brim's lowering; please report it",
                )


def _looked_up(stages: tuple[Stage, ...]) -> set[str]:
    """Names of the buffers that indices of gathers are made of (a repeat's are, as a rule)."""
    found: set[str] = set()
    for part in (part for stage in stages for part in subexpressions(stage.value)):
        inside = [gather.index for gather in part.gathers] if isinstance(part, At) else []
        for index in [part] if isinstance(part, Repeat) else inside:
            found.update(e.buf for e in subexpressions(index) if isinstance(e, At))
    return found


def _below(data: np.ndarray | None) -> int | None:
    """The least bound above a constant's integers, where none is negative. Of f32 numbers only one
    of two, so that layers that differ in their numbers stay equal."""
    if data is None or not data.size or not (data.dtype.kind in "iu" or data.dtype == np.float32):
        return None
    if data.dtype.kind == "f":
        most = float(np.abs(data).max())
        return 1 if most < 1 else _LARGE if most < _LARGE else None
    if data.min() < 0:
        return None
    return int(data.max()) + 1


def _touched(stages: tuple[Stage, ...]) -> tuple[list[str], list[str]]:
    """Names of the buffers that stages read and write, in order of first appearance."""
    read: dict[str, None] = {}
    written: dict[str, None] = {}
    for stage in stages:
        for target in (stage.out, stage.keep):
            if target is not None:
                written[target.buf] = None
                for gather in target.gathers:
                    inside = subexpressions(gather.index)
                    read.update((e.buf, None) for e in inside if isinstance(e, At))
        read.update((e.buf, None) for e in subexpressions(stage.value) if isinstance(e, At))
    return list(read), list(written)
