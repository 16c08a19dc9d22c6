"""Addresses, loads and stores of kernels in LLVM IR: affine indices, guards, gathers and lanes.

A `Cell` is one member of the register tile that is computed together: constant offsets along the
tiled axes, and a number of lanes along the vector axis. Addresses are built outermost loop first,
so that the builder hoists each partial sum, and constant offsets come last, where they become
displacements of one shared pointer. How loops and stages are made is in `brim.targets.llvm`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from brim.kernels.ir import At, Bound, Guard, Index, Kernel, Num, Term
from brim.kernels.ranges import Interval
from brim.kernels.traffic import STEPS
from brim.targets import shuffles
from brim.targets.builder import I1, Builder, Value, lanes_of, vector_of
from brim.targets.instructions import memory_type
from brim.types import BOOL, F16, DType

# Bytes of read-only zeros that guarded loads may be pointed at: at most, and for several loops.
_ZEROS, _PAGE = 1 << 14, 1 << 12


@dataclass(frozen=True)
class Point:
    """Where an axis is: a loop's variable (or nothing) plus a constant.

    The variable lies in [0, last] and is a multiple of `multiple`. count: points of the axis, from
    there on, that the register tile covers.
    """

    variable: Value | None = None
    constant: int = 0
    last: int = 0
    multiple: int = 1
    count: int = 1


Env = dict[str, Point]


@dataclass(frozen=True)
class Cell:
    """One member of a register tile. `outer` numbers the kernel's outer point it belongs to.

    active: lanes that count; the others are computed, but neither loaded nor stored.
    """

    offsets: tuple[tuple[str, int], ...] = ()
    lanes: int = 1
    active: int = 1
    outer: int = 0

    def offset(self, axis: str) -> int:
        for name, value in self.offsets:
            if name == axis:
                return value
        return 0


@dataclass(frozen=True)
class Square:
    """Cells at `size` consecutive points of an axis, at most as many as they have lanes."""

    axis: str
    start: int
    size: int

    def cells(self, member: Cell) -> Iterator[Cell]:
        """All its cells, given one."""
        others = tuple(pair for pair in member.offsets if pair[0] != self.axis)
        for offset in range(self.start, self.start + self.size):
            moved = ((self.axis, offset),) if offset else ()
            yield replace(member, offsets=(*others, *moved))


@dataclass(frozen=True)
class State:
    """What holds at one place in the loops: where the axes are, the tile, bounds known to hold.

    Inside of a repeat, which is computed lane by lane: lane: which one; carried: the value so far
    and the interval in which it lies, if known.
    """

    env: Env
    cells: tuple[Cell, ...]
    known: frozenset[Bound] = frozenset()
    lane: int = 0
    carried: tuple[Value, Interval | None] | None = None

    def at(self, axis: str, point: Point) -> State:
        return replace(self, env={**self.env, axis: point})


@dataclass(frozen=True)
class Condition:
    """A guard in force: an i1 for the whole cell, or one for each lane.

    fill: the number that is loaded where an i1 does not hold; in a lane of its own that is 0.
    """

    value: Value
    fill: float = 0

    @property
    def by_lane(self) -> bool:
        return self.value.type != I1


class Access:
    """Builds the memory accesses of one kernel. `vector` is the axis along which lanes run."""

    def __init__(
        self, b: Builder, kernel: Kernel, vector: str | None, bases: dict[str, Value]
    ) -> None:
        self.b = b
        self.kernel = kernel
        self.vector = vector
        self.bases = bases
        self.loads: dict[tuple[str, str, str], Value] = {}

    def forget(self) -> None:
        """Ends the sharing of loads: at the start of each straight piece of code."""
        self.loads = {}

    # ------------------------------------------------------------------ affine indices

    def parts(self, index: Index, env: Env, cell: Cell) -> tuple[list[tuple[Value, int, str]], int]:
        """The variable terms (value, stride, axis), outermost scope first, and the constant."""
        constant = index.offset
        found: list[tuple[Value, int, str]] = []
        for term in index.terms:
            point = env[term.axis]
            rest = point.constant + cell.offset(term.axis)
            if term.block:
                constant += self._blocked(term, point, rest, found)
                continue
            constant += term.stride * rest
            if point.variable is not None and term.stride:
                found.append((point.variable, term.stride, term.axis))
        found.sort(key=lambda part: part[0].depth)
        return found, constant

    def _blocked(
        self, term: Term, point: Point, rest: int, found: list[tuple[Value, int, str]]
    ) -> int:
        b = self.b
        block, axis = term.block, term.axis
        if point.variable is None:
            return rest // block * term.outer + rest % block * term.stride
        if point.multiple % block == 0:
            if term.outer % block == 0:
                found.append((point.variable, term.outer // block, axis))
            else:
                found.append((b.binary("udiv", point.variable, b.index(block)), term.outer, axis))
            return rest // block * term.outer + rest % block * term.stride
        at = b.add(point.variable, b.index(rest))
        found.append((b.binary("udiv", at, b.index(block)), term.outer, axis))
        found.append((b.binary("urem", at, b.index(block)), term.stride, axis))
        return 0

    def straddles(self, index: Index, env: Env, cell: Cell) -> bool:
        """Whether the lanes of a cell do not lie in one block of a blocked term."""
        for term in index.terms:
            if term.block and term.axis == self.vector and cell.lanes > 1:
                point = env[term.axis]
                rest = point.constant + cell.offset(term.axis)
                known = point.variable is None or point.multiple % term.block == 0
                if not known or rest % term.block + cell.active > term.block:
                    return True
        return False

    def integer(self, index: Index, env: Env, cell: Cell) -> Value:
        """The value of an affine index (its first lane's) as an i64."""
        b = self.b
        found, constant = self.parts(index, env, cell)
        total: Value | None = None
        for variable, stride, _ in found:
            part = variable if stride == 1 else b.mul(variable, b.index(stride))
            total = part if total is None else b.add(total, part)
        if total is None:
            return b.index(constant)
        return total if constant == 0 else b.add(total, b.index(constant))

    def known(self, index: Index, env: Env, cell: Cell) -> int | None:
        """The value of an affine index that is one number in all lanes; None: it is not known."""
        found, number = self.parts(index, env, cell)
        alike = cell.lanes == 1 or self.lane_stride(index) == 0
        return number if alike and not found else None

    def ramp(self, index: Index, env: Env, cell: Cell) -> Value:
        """The value of an affine index in every lane (a scalar when the lanes agree)."""
        b, first = self.b, self.integer(index, env, cell)
        stride = self.lane_stride(index)
        if cell.lanes == 1 or stride == 0:
            return first
        steps = b.vector(b.index_type, [lane * stride for lane in range(cell.lanes)])
        return b.add(b.splat(first, cell.lanes), steps)

    def lane_stride(self, index: Index) -> int:
        return index.strides.get(self.vector, 0) if self.vector is not None else 0

    # ------------------------------------------------------------------ guards

    def bounds_hold(
        self, bounds: tuple[Bound, ...], env: Env, cell: Cell, known: frozenset[Bound]
    ) -> Condition | bool:
        """True or False where ranges of the loops decide it, else what to test at run time."""
        b = self.b
        tests: list[Value] = []
        for bound in bounds:
            if bound in known:
                continue
            low, high = self._range(bound.index, env, cell)
            if low >= 0 and high < bound.size:
                continue
            if high < 0 or low >= bound.size:
                return False
            at = self.ramp(bound.index, env, cell)
            if low >= 0 or high < bound.size:
                side = ("slt", bound.size) if low >= 0 else ("sge", 0)
                tests.append(b.icmp(side[0], at, b.const(at.type, side[1])))
            else:
                tests.append(b.icmp("ult", at, b.const(at.type, bound.size)))
        if not tests:
            return True
        width = max(lanes_of(t.type) for t in tests)
        total = b.splat(tests[0], width)
        for test in tests[1:]:
            total = b.and_(total, b.splat(test, width))
        return Condition(total)

    def _range(self, index: Index, env: Env, cell: Cell) -> tuple[int, int]:
        low = high = index.offset
        for term in index.terms:
            point = env[term.axis]
            rest = (point.constant + cell.offset(term.axis)) * term.stride
            spread = [0, point.last * term.stride]
            if term.axis == self.vector:
                lanes = (cell.active - 1) * term.stride
                spread = [min(spread) + min(lanes, 0), max(spread) + max(lanes, 0)]
            low += rest + min(spread)
            high += rest + max(spread)
        return low, high

    def both(self, outer: Condition | None, inner: Condition) -> Condition:
        if outer is None:
            return inner
        width = max(lanes_of(outer.value.type), lanes_of(inner.value.type))
        value = self.b.and_(self.b.splat(outer.value, width), self.b.splat(inner.value, width))
        return Condition(value, inner.fill)

    # ------------------------------------------------------------------ pointers

    def pointer(
        self,
        at: At,
        env: Env,
        cell: Cell,
        condition: Condition | None,
        gathered: list[Value],
        span: int,
    ) -> Value:
        """The address of the first lane; where an i1 condition fails, that of enough fill.

        gathered: element offsets of the gathers. span: elements accessed from there on.
        """
        b = self.b
        dtype = self.kernel.buffers[at.buf].dtype
        element = memory_type(dtype)
        found, constant = self.parts(at.index, env, cell)
        pointer = self.bases[at.buf]
        late: list[tuple[Value, int, str]] = []
        room = span
        if condition is not None:
            # Terms of deeper loops are added after the choice, outside of which it then happens:
            # from the innermost outwards, as long as the zeros stay few.
            for part in reversed(found):
                variable, stride, axis = part
                more = room + self.kernel.sizes[axis] * stride
                if variable.depth <= condition.value.depth or stride < 0:
                    break
                if more * dtype.bytes > (_PAGE if late else _ZEROS):
                    break
                late, room = [part, *late], more
            found = found[: len(found) - len(late)]
        for variable, stride, _ in found:
            pointer = b.gep(pointer, b.multiple(variable, stride), element)
        for offset in gathered:
            pointer = b.gep(pointer, offset, element)
        if condition is None:
            return b.gep(pointer, constant, element)
        count = -(-room * dtype.bytes // 64) * 64 // dtype.bytes
        fill = condition.fill
        others = b.constant_array(element, [fill] * count if fill else count)
        pointer = b.select(condition.value, b.gep(pointer, constant, element), others)
        for variable, stride, _ in late:
            pointer = b.gep(pointer, b.multiple(variable, stride), element)
        return pointer

    # ------------------------------------------------------------------ loads and stores

    def load(
        self,
        at: At,
        env: Env,
        cell: Cell,
        condition: Condition | None,
        gathers: list[Value],
    ) -> Value:
        """The element of each lane (a scalar when the lanes agree); fill where `condition` fails.

        gathers: the clamped indices of the gathers, scalars or vectors.
        """
        b = self.b
        arg = self.kernel.buffers[at.buf]
        element, align = memory_type(arg.dtype), arg.dtype.bytes
        stride = self.lane_stride(at.index)
        by_lane_gather = any(lanes_of(g.type) > 1 for g in gathers)
        offsets = [self._gathered(g, s.stride) for g, s in zip(gathers, at.gathers)]
        constant = arg.role == "const" and condition is None and not gathers
        if cell.lanes == 1 or (stride == 0 and not by_lane_gather):
            if condition is not None and condition.by_lane:
                condition = Condition(b.intrinsic("vector.reduce.or", condition.value, result=I1))
            pointer = self.pointer(at, env, cell, condition, offsets, 1)
            return self._boolean(self._read(pointer, element, align, constant), arg.dtype)
        if by_lane_gather or stride != 1 or self.straddles(at.index, env, cell):
            square = None if condition else self.square(at, env, cell)
            if square is not None:
                return self._load_square(at, env, cell, square)
            if 1 < stride <= STEPS and not by_lane_gather:
                return self._load_steps(at, env, cell, condition, offsets)
            return self._load_lanes(at, env, cell, condition, offsets)
        kind = vector_of(element, cell.lanes)
        packed = any(term.block for term in at.index.terms if term.axis == self.vector)
        mask = None if cell.active == cell.lanes or packed else self._mask(cell)
        if condition is not None and condition.by_lane:
            mask = condition.value if mask is None else b.and_(mask, condition.value)
            condition = None
        pointer = self.pointer(at, env, cell, condition, offsets, cell.lanes)
        return self._boolean(self._read(pointer, kind, align, constant, mask), arg.dtype)

    def load_points(
        self,
        at: At,
        env: Env,
        cell: Cell,
        count: int,
        left: int,
        condition: Condition | None,
    ) -> Value:
        """`count` elements one after another, the same for all lanes; zero from `left` on.

        Where the condition fails, all are its `fill`.
        """
        b, dtype = self.b, self.kernel.buffers[at.buf].dtype
        pointer = self.pointer(at, env, cell, condition, [], left)
        element, kind = memory_type(dtype), vector_of(memory_type(dtype), count)
        if left == count:
            return self._read(pointer, kind, dtype.bytes, False)
        whole, place = b.zero(f"i{count * dtype.bits}"), 0
        while place < left:  # few processors load behind a mask as fast
            size = 1 << (left - place).bit_length() - 1
            bits = self._read(
                b.gep(pointer, place, element), f"i{size * dtype.bits}", dtype.bytes, False
            )
            moved = b.shl(b.cast("zext", bits, whole.type), b.const(whole.type, place * dtype.bits))
            whole, place = b.or_(whole, moved), place + size
        return b.bitcast(whole, kind)

    def load_group(self, at: At, env: Env, cell: Cell, count: int) -> Value:
        """The `count` elements of each lane, which lie side by side in a packed constant."""
        dtype = self.kernel.buffers[at.buf].dtype
        pointer = self.pointer(at, env, cell, None, [], cell.lanes * count)
        kind = vector_of(memory_type(dtype), cell.lanes * count)
        return self._read(pointer, kind, dtype.bytes, True)

    def _mask(self, cell: Cell) -> Value:
        return self.b.vector(I1, [lane < cell.active for lane in range(cell.lanes)])

    def _boolean(self, value: Value, dtype: DType) -> Value:
        return self.b.icmp("ne", value, self.b.zero(value.type)) if dtype == BOOL else value

    def _read(
        self, pointer: Value, kind: str, align: int, constant: bool, mask: Value | None = None
    ) -> Value:
        """A load, or the equal one before it; zero where the mask is."""
        key = (pointer.text, kind, mask.text if mask else "")
        if key not in self.loads:
            if mask is None:
                found = self.b.load(pointer, kind, align, invariant=constant)
            else:
                found = self.b.masked_load(pointer, mask, self.b.zero(kind), align)
            self.loads[key] = found
        return self.loads[key]

    def _gathered(self, index: Value, stride: int) -> Value:
        return index if stride == 1 else self.b.mul(index, self.b.const(index.type, stride))

    def lane_env(self, env: Env, lane: int) -> Env:
        """Where the axes are in one lane of a cell."""
        if self.vector is None or self.vector not in env:
            return env
        point = env[self.vector]
        return {**env, self.vector: replace(point, constant=point.constant + lane)}

    def _lane(
        self,
        at: At,
        env: Env,
        cell: Cell,
        lane: int,
        condition: Condition | None,
        offsets: list[Value],
    ) -> Value:
        b = self.b
        single = Cell(cell.offsets, 1, 1, cell.outer)
        if condition is not None and condition.by_lane:
            condition = Condition(b.extract(condition.value, lane))
        picked = [b.extract(o, lane) for o in offsets]
        return self.pointer(at, self.lane_env(env, lane), single, condition, picked, 1)

    def _load_lanes(
        self, at: At, env: Env, cell: Cell, condition: Condition | None, offsets: list[Value]
    ) -> Value:
        b = self.b
        arg = self.kernel.buffers[at.buf]
        element = memory_type(arg.dtype)
        result = b.zero(vector_of(element, cell.lanes))
        for lane in range(cell.active):
            pointer = self._lane(at, env, cell, lane, condition, offsets)
            result = b.insert(result, b.load(pointer, element, arg.dtype.bytes), lane)
        return self._boolean(result, arg.dtype)

    def _load_steps(
        self, at: At, env: Env, cell: Cell, condition: Condition | None, offsets: list[Value]
    ) -> Value:
        """Lanes a few elements apart: of whole vectors of all that lies between them."""
        b, lanes, step = self.b, cell.lanes, self.lane_stride(at.index)
        arg = self.kernel.buffers[at.buf]
        kind = vector_of(memory_type(arg.dtype), lanes)
        needed = None if cell.active == lanes else self._mask(cell)
        if condition is not None and condition.by_lane:
            needed = condition.value if needed is None else b.and_(needed, condition.value)
            condition = None
        first = self.pointer(at, env, cell, condition, offsets, (lanes - 1) * step + 1)
        vectors = []
        for start in shuffles.starts(lanes, step):
            pointer = b.gep(first, start, memory_type(arg.dtype))
            mask = None
            if needed is not None:
                places = range(start, start + lanes)
                picks = [lanes if place % step else place // step for place in places]
                mask = b.shuffle(needed, b.zero(needed.type), picks)
            vectors.append(self._read(pointer, kind, arg.dtype.bytes, False, mask))
        return self._boolean(shuffles.every(b, vectors, step), arg.dtype)

    # ------------------------------------------------------------------ squares

    def square(self, at: At, env: Env, cell: Cell) -> Square | None:
        """The square of the tile that a cell is in, where memory runs across the vectors."""
        blocked = any(term.block for term in at.index.terms)
        if blocked or at.gathers or self.lane_stride(at.index) in (0, 1):
            return None
        for term in at.index.terms:
            if term.stride == 1 and term.axis != self.vector:
                offset, left = cell.offset(term.axis), env[term.axis].count
                start, size = 0, cell.lanes
                while size > 1:
                    if start + size > left:
                        size //= 2
                    elif offset < start + size:
                        return Square(term.axis, start, size)
                    else:
                        start += size
        return None

    def _row(self, at: At, env: Env, cell: Cell, lane: int, square: Square) -> Value:
        """The address of a square's elements in one lane."""
        first = replace(next(square.cells(cell)), lanes=1, active=1)
        return self.pointer(at, self.lane_env(env, lane), first, None, [], square.size)

    def _load_square(self, at: At, env: Env, cell: Cell, square: Square) -> Value:
        """A cell's column of its square. The others' are made of the same loads and shuffles."""
        b, dtype = self.b, self.kernel.buffers[at.buf].dtype
        kind = vector_of(memory_type(dtype), square.size)
        rows = [b.zero(kind)] * cell.lanes
        for lane in range(cell.active):
            pointer = self._row(at, env, cell, lane, square)
            rows[lane] = self._read(pointer, kind, dtype.bytes, False)
        columns = shuffles.columns(b, rows, 16 // dtype.bytes)
        return self._boolean(columns[cell.offset(square.axis) - square.start], dtype)

    def store_square(
        self, at: At, values: list[Value], env: Env, cell: Cell, square: Square
    ) -> None:
        """Stores the active lanes of all of a square's columns. cell: any of them."""
        b, dtype = self.b, self.kernel.buffers[at.buf].dtype
        kind = vector_of(memory_type(dtype), cell.lanes)
        columns = [b.splat(value, cell.lanes) for value in values]
        if dtype == BOOL:
            columns = [b.cast("zext", column, kind) for column in columns]
        for lane, row in enumerate(shuffles.rows(b, columns, 16 // dtype.bytes)[: cell.active]):
            b.store(row, self._row(at, env, cell, lane, square), dtype.bytes)

    def store(self, at: At, value: Value, env: Env, cell: Cell, gathers: list[Value]) -> None:
        """Stores the active lanes of a value."""
        b = self.b
        arg = self.kernel.buffers[at.buf]
        if arg.dtype == BOOL:
            value = b.cast("zext", value, vector_of("i8", lanes_of(value.type)))
        stride = self.lane_stride(at.index)
        by_lane_gather = any(lanes_of(g.type) > 1 for g in gathers)
        offsets = [self._gathered(g, s.stride) for g, s in zip(gathers, at.gathers)]
        if cell.lanes == 1 or (stride == 0 and not by_lane_gather):
            pointer = self.pointer(at, env, cell, None, offsets, 1)
            b.store(b.extract(value, cell.active - 1), pointer, arg.dtype.bytes)
            return
        value = b.splat(value, cell.lanes)
        if by_lane_gather or stride != 1 or self.straddles(at.index, env, cell):
            for lane in range(cell.active):
                pointer = self._lane(at, env, cell, lane, None, offsets)
                b.store(b.extract(value, lane), pointer, arg.dtype.bytes)
            return
        pointer = self.pointer(at, env, cell, None, offsets, cell.lanes)
        if cell.active == cell.lanes:
            b.store(value, pointer, arg.dtype.bytes)
        else:
            b.masked_store(value, pointer, self._mask(cell), arg.dtype.bytes)


def fill_of(guard: Guard) -> float | None:
    """What a load can give in place of memory where a guard does not hold; None: it cannot."""
    match guard:
        case Guard(value=At(gathers=()), other=Num(number, dtype)):
            return number if number == 0 or dtype not in (BOOL, F16) else None
    return None
