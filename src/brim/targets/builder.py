"""A small builder of LLVM IR text: values, instructions, loops. It knows no kernels and no targets.

Values are immutable pairs of text and LLVM type ("float", "<8 x i32>", "ptr", ...). Two things are
done while building, because the short pass list of `brim.targets.objects` does neither: every pure
instruction is placed in the outermost scope (function, loop, branch) that knows its operands, and
is built only once there. So callers write addresses where they use them; the builder hoists and
shares them. It therefore may compute things that are not needed at run time: pure instructions
must not trap (integer division needs a divisor that is made safe first).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache


class Value:
    """An SSA value or a constant: its text in the module, its LLVM type, the scope it lives in."""

    __slots__ = ("depth", "text", "type")

    def __init__(self, text: str, type: str, depth: int = 0) -> None:
        self.text = text
        self.type = type
        self.depth = depth

    def __repr__(self) -> str:
        return f"{self.type} {self.text}"


@cache
def lanes_of(type: str) -> int:
    """Number of lanes of a type; 1 for scalars."""
    return int(type[1:].split(" ", 1)[0]) if type[0] == "<" else 1


@cache
def scalar_of(type: str) -> str:
    """The element type of a vector type; a scalar type itself."""
    return type[1:-1].split(" x ")[1] if type[0] == "<" else type


@cache
def vector_of(scalar: str, lanes: int) -> str:
    """The type of `lanes` elements of a scalar type; the scalar type itself for 1 lane."""
    return scalar if lanes == 1 else f"<{lanes} x {scalar}>"


def with_scalar(type: str, scalar: str) -> str:
    """A type of as many lanes as `type` with another element type."""
    return vector_of(scalar, lanes_of(type))


@cache
def suffix(type: str) -> str:
    """How intrinsic names spell a type: f32, v8f32, i1, p0."""
    scalar = {"half": "f16", "float": "f32", "double": "f64", "ptr": "p0"}.get(
        scalar_of(type), scalar_of(type)
    )
    return scalar if type[0] != "<" else f"v{lanes_of(type)}{scalar}"


def float_text(value: float, scalar: str) -> str:
    """An exact LLVM constant of a float (hex form). `value` is rounded to `scalar` first."""
    if scalar == "half":
        return f"0xH{struct.unpack('<H', struct.pack('<e', value))[0]:04X}"
    if scalar == "float":
        try:
            value = struct.unpack("<f", struct.pack("<f", value))[0]
        except OverflowError:
            value = float("inf") if value > 0 else float("-inf")
    return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"


class _Scope:
    """An open region of the function: text so far, its current block, what was built in it."""

    __slots__ = ("block", "lines", "loops", "memo")

    def __init__(self, block: str) -> None:
        self.block = block
        self.lines: list[str] = []
        self.memo: dict[str, Value] = {}
        self.loops = False  # whether it has any


class Loop:
    """A loop being built: set `next` to the carried values' new values before it closes.

    stop: an i1 that ends the loop early, if set. multiples: of the index, by factor.
    """

    __slots__ = ("carried", "index", "multiples", "next", "results", "stop")

    def __init__(self, index: Value, carried: list[Value]) -> None:
        self.index = index
        self.carried = carried
        self.next: list[Value] = carried
        self.stop: Value | None = None
        self.multiples: dict[int, Value] = {}
        self.results: list[Value] = carried


I64, I1, PTR = "i64", "i1", "ptr"


class Builder:
    """Builds the text of one function `void name(parameters)` and the module around it.

    fma: whether the target multiplies and adds in one instruction (else `fma` is fmul and fadd).
    nan_extremes: scalar types whose maximum and minimum give NaN if either operand is NaN.
    index_type: of addresses' parts and loop counters, as wide as the target's pointers.
    lacks: instructions that the target has not: "half" (conversion), "rounding" (floor, rint, ...),
    "nearest" (f32 to the nearest i32), "long" (division and conversion of 64-bit integers).
    """

    def __init__(
        self,
        name: str,
        parameters: Sequence[tuple[str, str]],
        fma: bool = True,
        nan_extremes: Sequence[str] = (),
        lacks: Sequence[str] = (),
        index_type: str = "i64",
    ) -> None:
        self.name = name
        self.fused = fma
        self.nan_extremes = nan_extremes
        self.lacks = lacks
        self.index_type = index_type
        self.parameters = parameters
        self.declarations: dict[str, str] = {}
        self.globals: dict[str, str] = {}
        self._count = 0
        self._scopes = [_Scope("entry")]
        self._open: dict[str, Loop] = {}

    # ------------------------------------------------------------------ constants

    def const(self, type: str, value: float | int) -> Value:
        """A constant; vectors get the same value in all lanes. Floats are exact (hex form)."""
        scalar = scalar_of(type)
        if scalar in ("float", "double", "half"):
            text = float_text(float(value), scalar)
        elif scalar == I1:
            text = "true" if value else "false"
        else:
            text = str(int(value))
        return Value(text if scalar is type or type[0] != "<" else f"splat ({scalar} {text})", type)

    def vector(self, scalar: str, values: Sequence[float | int]) -> Value:
        """A constant vector with a value for each lane (of one lane: a scalar)."""
        if len(values) == 1:
            return self.const(scalar, values[0])
        items = ", ".join(repr(self.const(scalar, v)) for v in values)
        return Value(f"<{items}>", vector_of(scalar, len(values)))

    def i64(self, value: int) -> Value:
        return Value(str(value), I64)

    def index(self, value: int) -> Value:
        return Value(str(value), self.index_type)

    def poison(self, type: str) -> Value:
        return Value("poison", type)

    def zero(self, type: str) -> Value:
        return Value("zeroinitializer" if type[0] == "<" else self.const(type, 0).text, type)

    def constant_array(
        self, scalar: str, values: Sequence[float | int] | int, align: int = 64
    ) -> Value:
        """A read-only array in the module (as a ptr): given values, or that many zeros."""
        if isinstance(values, int):
            body = f"[{values} x {scalar}] zeroinitializer"
        else:
            items = ", ".join(repr(self.const(scalar, v)) for v in values)
            body = f"[{len(values)} x {scalar}] [{items}]"
        text = f"private unnamed_addr constant {body}, align {align}"
        if text not in self.globals:
            self.globals[text] = f"@{self.name}.{len(self.globals)}"
        return Value(self.globals[text], PTR)

    # ------------------------------------------------------------------ the core

    def _name(self) -> str:
        self._count += 1
        return f"%v{self._count}"

    def pure(self, type: str, text: str, *operands: Value) -> Value:
        """The value of a pure instruction, placed in the outermost scope that can have it."""
        depth = 0
        for operand in operands:
            if operand.depth > depth:
                depth = operand.depth
        scope = self._scopes[depth]
        found = scope.memo.get(text)
        if found is None:
            found = scope.memo[text] = Value(self._name(), type, depth)
            scope.lines.append(f"{found.text} = {text}")
        return found

    def here(self, type: str, text: str) -> Value:
        """The value of an instruction that must stay where it is written."""
        value = Value(self._name(), type, len(self._scopes) - 1)
        self._scopes[-1].lines.append(f"{value.text} = {text}")
        return value

    def effect(self, text: str) -> None:
        """An instruction without a value."""
        self._scopes[-1].lines.append(text)

    def declare(self, name: str, result: str, types: Sequence[str]) -> None:
        self.declarations[name] = f"declare {result} @{name}({', '.join(types)})"

    def intrinsic(
        self, name: str, *args: Value, result: str = "", overload: str = "", flags: str = ""
    ) -> Value:
        """A pure LLVM intrinsic: `intrinsic("floor", x)` calls llvm.floor.<type of x>.

        result: its type, if not that of the first argument. overload: its name's suffix, likewise.
        """
        result = result or args[0].type
        full = f"llvm.{name}.{overload or suffix(args[0].type)}"
        if full not in self.declarations:
            self.declare(full, result, [a.type for a in args])
        listed = ", ".join([f"{a.type} {a.text}" for a in args])
        return self.pure(
            result, f"call {flags}{' ' if flags else ''}{result} @{full}({listed})", *args
        )

    # ------------------------------------------------------------------ arithmetic

    def binary(self, op: str, a: Value, b: Value, flags: str = "") -> Value:
        """Any LLVM instruction of two operands of one type: `binary("fadd", a, b)`."""
        space = " " if flags else ""
        return self.pure(a.type, f"{op} {flags}{space}{a.type} {a.text}, {b.text}", a, b)

    def fadd(self, a: Value, b: Value, flags: str = "") -> Value:
        return self.binary("fadd", a, b, flags)

    def fsub(self, a: Value, b: Value, flags: str = "") -> Value:
        return self.binary("fsub", a, b, flags)

    def fmul(self, a: Value, b: Value, flags: str = "") -> Value:
        return self.binary("fmul", a, b, flags)

    def fdiv(self, a: Value, b: Value, flags: str = "") -> Value:
        return self.binary("fdiv", a, b, flags)

    def fneg(self, a: Value) -> Value:
        return self.pure(a.type, f"fneg {a.type} {a.text}", a)

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """a * b + c, rounded once where the target can."""
        return self.intrinsic("fma", a, b, c) if self.fused else self.fadd(self.fmul(a, b), c)

    def add(self, a: Value, b: Value) -> Value:
        return self.binary("add", a, b)

    def sub(self, a: Value, b: Value) -> Value:
        return self.binary("sub", a, b)

    def mul(self, a: Value, b: Value) -> Value:
        return self.binary("mul", a, b)

    def multiple(self, index: Value, factor: int) -> Value:
        """factor * index. Of an innermost loop's index it is counted, not multiplied."""
        loop = self._open.get(index.text)
        if loop is None or factor in (1, 2):  # addresses have small factors for nothing
            return index if factor == 1 else self.mul(index, self.index(factor))
        if factor not in loop.multiples:
            loop.multiples[factor] = Value(self._name(), index.type, index.depth)
        return loop.multiples[factor]

    def and_(self, a: Value, b: Value) -> Value:
        return self.binary("and", a, b)

    def or_(self, a: Value, b: Value) -> Value:
        return self.binary("or", a, b)

    def xor(self, a: Value, b: Value) -> Value:
        return self.binary("xor", a, b)

    def not_(self, a: Value) -> Value:
        return self.binary("xor", a, self.const(a.type, 1 if scalar_of(a.type) == I1 else -1))

    def shl(self, a: Value, b: Value) -> Value:
        return self.binary("shl", a, b)

    def lshr(self, a: Value, b: Value) -> Value:
        return self.binary("lshr", a, b)

    def ashr(self, a: Value, b: Value) -> Value:
        return self.binary("ashr", a, b)

    def icmp(self, predicate: str, a: Value, b: Value) -> Value:
        """predicate: eq ne slt sle sgt sge ult ule ugt uge."""
        return self.pure(
            with_scalar(a.type, I1), f"icmp {predicate} {a.type} {a.text}, {b.text}", a, b
        )

    def fcmp(self, predicate: str, a: Value, b: Value) -> Value:
        """predicate: oeq olt ... one ord (false on NaN), ueq ult ... une uno (true on NaN)."""
        return self.pure(
            with_scalar(a.type, I1), f"fcmp {predicate} {a.type} {a.text}, {b.text}", a, b
        )

    def select(self, condition: Value, a: Value, b: Value) -> Value:
        text = f"select {condition.type} {condition.text}, {a.type} {a.text}, {b.type} {b.text}"
        return self.pure(a.type, text, condition, a, b)

    def cast(self, op: str, a: Value, type: str) -> Value:
        """op: bitcast trunc zext sext fptrunc fpext sitofp uitofp fptosi fptoui ptrtoint."""
        return a if a.type == type else self.pure(type, f"{op} {a.type} {a.text} to {type}", a)

    def bitcast(self, a: Value, type: str) -> Value:
        return self.cast("bitcast", a, type)

    # ------------------------------------------------------------------ vectors

    def splat(self, a: Value, lanes: int) -> Value:
        """A scalar in all lanes; a vector or 1 lane: unchanged."""
        if lanes == 1 or a.type[0] == "<":
            return a
        type = vector_of(a.type, lanes)
        if a.text[0] != "%" and a.text[0] != "@":
            return Value(f"splat ({a.type} {a.text})", type)
        one = self.pure(type, f"insertelement {type} poison, {a.type} {a.text}, i64 0", a)
        text = f"shufflevector {type} {one.text}, {type} poison, <{lanes} x i32> zeroinitializer"
        return self.pure(type, text, one)

    def extract(self, a: Value, lane: int) -> Value:
        """One lane; of a scalar, the scalar itself."""
        if a.type[0] != "<":
            return a
        return self.pure(scalar_of(a.type), f"extractelement {a.type} {a.text}, i64 {lane}", a)

    def insert(self, a: Value, item: Value, lane: int) -> Value:
        text = f"insertelement {a.type} {a.text}, {item.type} {item.text}, i64 {lane}"
        return self.pure(a.type, text, a, item)

    def shuffle(self, a: Value, b: Value, mask: Sequence[int]) -> Value:
        """Lanes of a (0, 1, ...) and b (after them) by number; -1: any."""
        listed = ", ".join([f"i32 {i}" if i >= 0 else "i32 poison" for i in mask])
        text = f"shufflevector {a.type} {a.text}, {b.type} {b.text}, <{len(mask)} x i32> <{listed}>"
        return self.pure(vector_of(scalar_of(a.type), len(mask)), text, a, b)

    # ------------------------------------------------------------------ memory

    def gep(self, pointer: Value, index: Value | int, type: str) -> Value:
        """The address `index` elements of `type` after `pointer`."""
        if isinstance(index, int):
            if index == 0:
                return pointer
            index = self.index(index)
        text = f"getelementptr {type}, ptr {pointer.text}, {index!r}"
        return self.pure(PTR, text, pointer, index)

    def load(self, pointer: Value, type: str, align: int, invariant: bool = False) -> Value:
        """invariant: nothing writes there and it is always readable, so the load may be hoisted."""
        text = f"load {type}, ptr {pointer.text}, align {align}"
        return self.pure(type, text, pointer) if invariant else self.here(type, text)

    def store(self, value: Value, pointer: Value, align: int) -> None:
        self.effect(f"store {value.type} {value.text}, ptr {pointer.text}, align {align}")

    def prefetch(self, pointer: Value) -> None:
        """Asks the second cache to fetch a line; any address is allowed."""
        self.declare("llvm.prefetch.p0", "void", [PTR, "i32", "i32", "i32"])
        self.effect(f"call void @llvm.prefetch.p0(ptr {pointer.text}, i32 0, i32 2, i32 1)")

    def masked_load(self, pointer: Value, mask: Value, other: Value, align: int) -> Value:
        """Lanes where mask holds are loaded, the rest come from `other`; they are not accessed."""
        type = other.type
        name = f"llvm.masked.load.{suffix(type)}.p0"
        self.declare(name, type, [PTR, mask.type, type])
        return self.here(
            type,
            f"call {type} @{name}(ptr align {align} {pointer.text}, {mask.type} {mask.text}, "
            f"{type} {other.text})",
        )

    def masked_store(self, value: Value, pointer: Value, mask: Value, align: int) -> None:
        name = f"llvm.masked.store.{suffix(value.type)}.p0"
        self.declare(name, "void", [value.type, PTR, mask.type])
        self.effect(
            f"call void @{name}({value.type} {value.text}, ptr align {align} {pointer.text}, "
            f"{mask.type} {mask.text})"
        )

    # ------------------------------------------------------------------ control flow

    @contextmanager
    def loop(
        self,
        begin: Value,
        end: Value,
        step: int = 1,
        carried: Sequence[Value] = (),
        certain: bool = False,
    ) -> Iterator[Loop]:
        """for index in range(begin, end, step), with values carried from one round to the next.

        certain: begin < end is known. After the `with` block, `results` are the last values.
        """
        outer = self._scopes[-1]
        depth = len(self._scopes)
        label = f"L{self._next_label()}"
        inner = _Scope(label)
        for scope in self._scopes:
            scope.loops = True
        self._scopes.append(inner)
        loop = Loop(
            Value(self._name(), begin.type, depth),
            [Value(self._name(), v.type, depth) for v in carried],
        )
        self._open[loop.index.text] = loop
        yield loop
        del self._open[loop.index.text]
        self._scopes.pop()
        counted = self._count_multiples(loop, inner, outer, begin, step)
        following = self._name()
        again = self._name()
        inner.lines.append(f"{following} = add nsw {loop.index!r}, {step}")
        inner.lines.append(f"{again} = icmp slt {end.type} {following}, {end.text}")
        if loop.stop is not None:
            going = self._name()
            inner.lines.append(f"{going} = select i1 {loop.stop.text}, i1 false, i1 {again}")
            again = going
        inner.lines.append(f"br i1 {again}, label %{label}, label %{label}.end")
        before = outer.block
        if certain:
            outer.lines.append(f"br label %{label}")
        else:
            enter = self._name()
            outer.lines.append(f"{enter} = icmp slt {begin!r}, {end.text}")
            outer.lines.append(f"br i1 {enter}, label %{label}, label %{label}.end")
        outer.lines.append(f"{label}:")
        pairs = [(loop.index, begin.text, following), *counted]
        pairs += [
            (c, v.text, n.text) for c, v, n in zip(loop.carried, carried, loop.next, strict=True)
        ]
        for phi, first, later in pairs:
            outer.lines.append(
                f"{phi.text} = phi {phi.type} [ {first}, %{before} ], [ {later}, %{inner.block} ]"
            )
        outer.lines += inner.lines
        outer.lines.append(f"{label}.end:")
        outer.block = f"{label}.end"
        if certain:
            loop.results = [Value(n.text, n.type, max(depth - 1, 0)) for n in loop.next]
        else:
            loop.results = [
                self.here(
                    n.type,
                    f"phi {n.type} [ {v.text}, %{before} ], [ {n.text}, %{inner.block} ]",
                )
                for v, n in zip(carried, loop.next, strict=True)
            ]

    def _count_multiples(
        self, loop: Loop, inner: _Scope, outer: _Scope, begin: Value, step: int
    ) -> list[tuple[Value, str, str]]:
        """Makes the multiples of a closing loop's index: its further counters (phi, first, later).

        Around other loops they would only take registers; there they are multiplied.
        """
        found = []
        for factor, value in loop.multiples.items():
            if inner.loops:
                inner.lines.insert(0, f"{value.text} = mul {loop.index!r}, {factor}")
                continue
            later = self._name()
            inner.lines.append(f"{later} = add {value!r}, {step * factor}")
            if begin.text[0] == "%":
                first = self._name()
                outer.lines.append(f"{first} = mul {begin!r}, {factor}")
            else:
                first = str(int(begin.text) * factor)
            found.append((value, first, later))
        return found

    @contextmanager
    def when(self, condition: Value) -> Iterator[None]:
        """The block runs where the i1 `condition` holds."""
        outer = self._scopes[-1]
        label = f"L{self._next_label()}"
        inner = _Scope(label)
        self._scopes.append(inner)
        yield
        self._scopes.pop()
        outer.lines.append(f"br i1 {condition.text}, label %{label}, label %{label}.end")
        outer.lines.append(f"{label}:")
        outer.lines += inner.lines
        outer.lines.append(f"br label %{label}.end")
        outer.lines.append(f"{label}.end:")
        outer.block = f"{label}.end"

    def _next_label(self) -> int:
        self._count += 1
        return self._count

    # ------------------------------------------------------------------ the module

    def module(self, triple: str, layout: str = "", attributes: str = "") -> str:
        """The text of the whole module; call it once, at the end."""
        (scope,) = self._scopes
        listed = ", ".join(f"{type} {name}" for name, type in self.parameters)
        return "\n".join(
            [
                f'target datalayout = "{layout}"' if layout else "",
                f'target triple = "{triple}"',
                *(f"{name} = {text}" for text, name in self.globals.items()),
                *self.declarations.values(),
                f"define void @{self.name}({listed}) {attributes} {{",
                "entry:",
                *scope.lines,
                "ret void",
                "}",
                "",
            ]
        )
