"""Dot instructions as data, and which reductions they compute: sums of products of short integers.

An instruction adds `group` products to each i32 lane at once. So a reduction may run along one of
its axes, contiguous in the operand that all lanes share, in steps of `group` points; the other
operand, constant weights, is packed with these points side by side (`brim.kernels.pack`). In a
depthwise convolution the lanes share nothing: there the points of a group lie in as many rows of
lanes, which are interleaved in registers. What one computes is the same number as one product after
the other: integer sums have no order, and where an instruction saturates, the weights have to prove
that it never does. How it is written in LLVM IR is `brim.targets.dots`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from brim.kernels.ir import At, Do, Expr, Guard, Kernel, Num, Schedule, Stage, dtype_of_expr
from brim.targets.target import Target
from brim.types import I8, I16, I32, U8, DType, strided

# 255 times this, and as much below zero, fits 16 bits.
PAIR = 128


@dataclass(frozen=True)
class Dot:
    """lane += sum of shared[j] * own[j] for j < group, exact in i32.

    shared, own: element types of the operand that all lanes share and of each lane's own. adds:
    the instruction adds to the lane itself; else an addition follows. features: any of them, in
    LLVM's spelling, gives a processor of `architecture` the instruction; none: all have it.
    intrinsics: LLVM's name of it for vectors of so many bytes. cost: of one group, in f32
    multiplications and additions of as many lanes. registers: vectors that it needs besides what
    it adds and to what. parts: instructions that share a group; each takes every so many-th point.
    paired: it adds two products in 16 bits, which is exact only for constants that keep to them
    (`Arg.paired`).
    """

    name: str
    architecture: str
    features: tuple[str, ...]
    group: int
    shared: DType
    own: DType
    adds: bool
    intrinsics: Mapping[int, str]
    cost: float
    registers: int = 0
    parts: int = 1
    paired: bool = False

    def shift(self, dtype: DType) -> int | None:
        """What is added to shared elements of `dtype` to make them those of `shared`; None: it
        cannot be done."""
        if self.shared == I16:
            return 0 if dtype in (I8, U8, I16) else None
        if dtype not in (I8, U8):
            return None
        return 0 if dtype == self.shared else 128 if dtype == I8 else -128

    def takes(self, dtype: DType) -> bool:
        """Whether own elements of `dtype` need at most to be widened."""
        if dtype == self.own:
            return self.parts == 1
        return self.own == I16 and dtype in (I8, U8)


_X86 = "x86_64"
_MADD = {16: "x86.sse2.pmadd.wd", 32: "x86.avx2.pmadd.wd", 64: "x86.avx512.pmaddw.d.512"}
DOTS: dict[str, Dot] = {
    dot.name: dot
    for dot in (  # the first that fits is the best
        Dot(
            "vpdpbusd", _X86, ("avx512vnni", "avxvnni"), 4, U8, I8, True,
            {n: f"x86.avx512.vpdpbusd.{8 * n}" for n in (16, 32, 64)}, 1.0,
        ),
        Dot(
            "pmaddubsw", _X86, (), 4, U8, I8, False,
            {16: "x86.ssse3.pmadd.ub.sw.128", 32: "x86.avx2.pmadd.ub.sw",
             64: "x86.avx512.pmaddubs.w.512"}, 1.9, registers=2, paired=True,
        ),
        # of bytes on both sides: four are loaded at once, two of them made words at a time
        Dot("pmaddwd_bytes", _X86, (), 4, U8, I16, False, _MADD, 2.85, registers=3, parts=2),
        Dot(
            "vpdpwssd", _X86, ("avx512vnni", "avxvnni"), 2, I16, I16, True,
            {n: f"x86.avx512.vpdpwssd.{8 * n}" for n in (16, 32, 64)}, 1.0,
        ),
        Dot("pmaddwd", _X86, (), 2, I16, I16, False, _MADD, 1.35, registers=1),
        Dot(
            "usdot", "aarch64", ("i8mm",), 4, U8, I8, True,
            {16: "aarch64.neon.usdot.v4i32.v16i8"}, 1.0,
        ),
        Dot(
            "sdot", "aarch64", ("dotprod",), 4, I8, I8, True,
            {16: "aarch64.neon.sdot.v4i32.v16i8"}, 1.0,
        ),
        Dot(
            "dot_i16x8", "wasm32", ("simd128",), 2, I16, I16, False, {16: "wasm.dot"}, 2.0,
            registers=1,
        ),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Product:
    """One stage's sum of products, as a dot instruction takes it.

    shared, own: its operands, not widened. axis: along which `dot.group` points are taken at once.
    shift: what is added to the shared elements, and so has to be taken off: own's sums times it.
    by_lane: the lanes share no elements: each has its own, which lie side by side.
    """

    dot: Dot
    axis: str
    shared: Expr
    own: At
    shift: int
    by_lane: bool


def find_dot(kernel: Kernel, vector: str | None, target: Target) -> tuple[str, str] | None:
    """The axis and the dot instruction by which a kernel is best computed along `vector`: the first
    that fits, or one of as many points that takes the operand as it is."""
    found: list[Product] = []
    features = {name[1:] for name in target.features.split(",") if name.startswith("+")}
    for dot in DOTS.values():
        has = not dot.features or not features.isdisjoint(dot.features)
        if dot.architecture != target.architecture or not has:
            continue
        for stage in kernel.stages:
            axis = _axis(kernel, stage, vector)
            made = product_of(kernel, stage, vector, (axis, dot.name)) if axis else None
            if made is not None:
                found.append(made)
    if not found:
        return None
    alike = (made for made in found if made.dot.group == found[0].dot.group)
    best = next((made for made in alike if not made.shift), found[0])
    return best.axis, best.dot.name


def product_of(
    kernel: Kernel, stage: Stage, vector: str | None, chosen: tuple[str, str] | None
) -> Product | None:
    """The operands of a stage that a schedule's dot instruction computes; None: not this one."""
    if chosen is None or chosen[0] not in stage.axes:
        return None
    axis, dot = chosen[0], DOTS.get(chosen[1])
    found = _operands(kernel, stage, vector)
    if dot is None or found is None or axis != _axis(kernel, stage, vector):
        return None
    shared, own = found
    shift = dot.shift(dtype_of_expr(shared, kernel))
    if shift is None or not dot.takes(dtype_of_expr(own, kernel)):
        return None
    if dot.paired and not kernel.buffers[own.buf].paired:
        return None
    by_lane = vector in load_of(shared).index.strides
    if by_lane and dot.parts > 1:
        return None
    return Product(dot, axis, shared, own, shift, by_lane)


def paired(kernel: Kernel, constants: Mapping[str, np.ndarray]) -> Kernel:
    """The kernel, of whose constants it is known which are paired: see `is_paired`.

    constants: flat, by the names of their buffers.
    """
    found = {name for name, pairs in _pairs(kernel, constants) if is_paired(pairs)}
    args = tuple(replace(arg, paired=arg.name in found) for arg in kernel.args)
    return replace(kernel, args=args)


def untrue_pairs(kernel: Kernel, constants: Mapping[str, np.ndarray]) -> list[str]:
    """Constants of a kernel, before packing, that it calls paired and that are not."""
    called = {arg.name for arg in kernel.args if arg.paired}
    if not called:
        return []
    found = _pairs(kernel, constants)
    return [name for name, pairs in found if name in called and not is_paired(pairs)]


def _pairs(kernel: Kernel, constants: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """Weights of i8 that a dot instruction may take, its axis last."""
    places = {}
    for stage in kernel.stages:
        for vector in kernel.outer:
            axis, operands = _axis(kernel, stage, vector), _operands(kernel, stage, vector)
            if axis is not None and operands is not None:
                places[operands[1]] = axis
    for own, axis in places.items():
        data, terms = constants.get(own.buf), own.index.terms
        if data is None or data.dtype != np.int8 or any(t.block or t.stride < 0 for t in terms):
            continue
        order = sorted(terms, key=lambda term: term.axis == axis)
        sizes, strides = zip(*((kernel.sizes[t.axis], t.stride) for t in order))
        yield own.buf, strided(data[own.index.offset :], sizes, strides)


def is_paired(weights: np.ndarray) -> bool:
    """Whether x[2j] * w[2j] + x[2j + 1] * w[2j + 1], along the last axis of i8 weights, fits 16
    bits for all x in [0, 255]: so it is where what is positive of each pair sums up to at most
    128, and what is negative down to at least -128."""
    for part in (np.maximum(weights, 0), -np.minimum(weights, 0).astype(np.int16)):
        even, odd = part[..., ::2].astype(np.int16), part[..., 1::2]
        even[..., : odd.shape[-1]] += odd
        if even.max(initial=0) > PAIR:
            return False
    return True


def _axis(kernel: Kernel, stage: Stage, vector: str | None) -> str | None:
    """The reduced axis along which the shared operand of a stage is contiguous; where the lanes
    share nothing, the one with the longest steps: windows overlap along the others."""
    found = _operands(kernel, stage, vector)
    if found is None or stage.reduce is None:
        return None
    shared, own = found
    strides, guarded = load_of(shared).index.strides, _guarded(shared)
    if vector in strides:
        both = [a for a in stage.reduce.axes if a in strides and a in own.index.strides]
        return max(both, key=lambda axis: abs(strides[axis]), default=None)
    for axis in stage.reduce.axes:
        if strides.get(axis) == 1 and axis not in guarded and axis in own.index.strides:
            return axis
    return None


def _operands(kernel: Kernel, stage: Stage, vector: str | None) -> tuple[Expr, At] | None:
    """The operand that all lanes share, or that is contiguous along them, and the constant of each
    lane's own."""
    sums = stage.reduce is not None and stage.reduce.op == "add" and stage.keep is None
    if not sums or vector not in kernel.outer or kernel.ordered:
        return None
    match stage.value:
        case Do("mul", (Do("cast", (x,)), Do("cast", (y,))), dtype) if dtype == I32:
            for shared, own in ((x, y), (y, x)):
                if _is_own(kernel, own, vector) and _is_shared(shared, vector):
                    return shared, own  # type: ignore[return-value]
    return None


def _is_own(kernel: Kernel, expr: Expr, vector: str | None) -> bool:
    if not isinstance(expr, At) or expr.gathers or kernel.buffers[expr.buf].role != "const":
        return False
    return vector in expr.index.strides


def _is_shared(expr: Expr, vector: str | None) -> bool:
    match expr:
        case At(gathers=()):
            return expr.index.strides.get(vector or "", 0) in (0, 1)
        case Guard(value=value, other=Num()):
            free = all(vector not in bound.index.strides for bound in expr.bounds)
            return free and _is_shared(value, vector)
    return False


def load_of(shared: Expr) -> At:
    """The load in a shared operand."""
    while isinstance(shared, Guard):
        shared = shared.value
    assert isinstance(shared, At)
    return shared


def _guarded(shared: Expr) -> set[str]:
    """The axes that the guards of a shared operand look at."""
    found: set[str] = set()
    while isinstance(shared, Guard):
        found.update(axis for bound in shared.bounds for axis in bound.index.strides)
        shared = shared.value
    return found


def dot_of(kernel: Kernel, schedule: Schedule) -> Product | None:
    """What a schedule's dot instruction computes in a kernel; None: it has none."""
    for stage in kernel.stages:
        found = product_of(kernel, stage, schedule.vector, schedule.dot)
        if found is not None:
            return found
    return None
