"""The parser of kernels and schedules: its grammar is told in `brim.kernels.text`, which prints.

A tokenizer and a recursive descent. Nothing is evaluated; names must be declared before their use;
nesting, depth and size of expressions are bounded. All mistakes are ModelErrors with their line.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, NoReturn, TypeVar

from brim.errors import ModelError
from brim.kernels.ir import (
    Arg,
    At,
    Bound,
    Carried,
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
    Repeat,
    Schedule,
    Stage,
    Term,
)
from brim.ops.primitive import OPS
from brim.types import COMPUTED, DTYPES, F32, I8, DType

MAX_NESTING = 40  # of parentheses in one expression
MAX_DEPTH = 240  # of expressions, through names too: Python compares them by recursion
MAX_SIZE = 100_000  # of one expression written out in full
ROLES = ("in", "out", "const")
REDUCTIONS = (
    *("add", "mul", "max", "min", "and", "or"),
    *("argmax", "argmin", "argmax_last", "argmin_last"),
)

_T = TypeVar("_T")

_TOKEN = re.compile(
    r"(?P<mark>//|[-+*%{}()\[\]<,;:@=])"
    r"|(?P<space>[ \t\r]+|\#[^\n]*)"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_.]*)"
    r"|(?P<number>(?:\d+\.\d+(?:e[+-]?\d+)?|\d+e[+-]?\d+|\d+))"
    r"|(?P<line>\n)"
)


class _Token(NamedTuple):
    kind: str
    text: str
    line: int


def _tokens(text: str) -> list[_Token]:
    tokens, at, line = [], 0, 1
    for found in _TOKEN.finditer(text):
        start, end = found.span()
        if start > at:  # what no token matches was skipped
            break
        at, kind = end, found.lastgroup
        if kind == "line":
            line += 1
        elif kind != "space":
            tokens.append(_Token(str(kind), found[0], line))
    if at < len(text):
        raise ModelError(f"unexpected character {text[at]!r}", where=f"line {line}")
    tokens.append(_Token("end", "the end", line))
    return tokens


class _Typed(NamedTuple):
    """A parsed expression and its dtype; its depth and size as if no part were shared."""

    expr: Expr
    dtype: DType
    depth: int = 1
    size: int = 1


def _typed(expr: Expr, dtype: DType, parts: Sequence[_Typed]) -> _Typed:
    """An expression made of `parts`."""
    depth = 1 + max((part.depth for part in parts), default=0)
    return _Typed(expr, dtype, depth, 1 + sum(part.size for part in parts))


@dataclass
class _Parser:
    tokens: list[_Token]
    at: int = 0
    axes: dict[str, int] = field(default_factory=dict)
    args: dict[str, Arg] = field(default_factory=dict)
    stages: dict[str, Stage] = field(default_factory=dict)
    lets: dict[str, _Typed] = field(default_factory=dict)

    # ---- tokens

    def fail(self, what: str) -> NoReturn:
        """Refuses the text at the last token that was read."""
        raise ModelError(what, where=f"line {self.tokens[max(self.at - 1, 0)].line}")

    def peek(self, text: str) -> bool:
        return self.tokens[self.at].text == text

    def take(self, text: str) -> bool:
        found = self.peek(text)
        self.at += found
        return found

    def expect(self, text: str) -> None:
        if not self.take(text):
            self.fail(f"expected {text!r}, found {self.tokens[self.at].text[:40]!r}")

    def name(self, what: str) -> str:
        token = self.tokens[self.at]
        if token.kind != "name":
            self.fail(f"expected {what}, found {token.text[:40]!r}")
        self.at += 1
        return token.text

    def integer(self) -> int:
        sign = -1 if self.take("-") else 1
        token = self.tokens[self.at]
        if not token.text.isdigit():
            self.fail(f"expected a whole number, found {token.text[:40]!r}")
        if len(token.text) > 20:
            self.fail(f"a number of {len(token.text)} digits")
        self.at += 1
        return sign * int(token.text)

    def size(self) -> int:
        value = self.integer()
        if not 0 <= value < 1 << 62:
            self.fail(f"{value} is not a size")
        return value

    def dtype(self) -> DType:
        name = self.name("a dtype")
        found = DTYPES.get(name)
        if found not in COMPUTED:
            self.fail(f"{name!r} is not a dtype of kernels")
        return found

    def separated(self, item: Callable[[], _T], end: str) -> tuple[_T, ...]:
        """item, item, ... up to the mark `end`, which is taken."""
        items: list[_T] = []
        while not self.take(end):
            if items:
                self.expect(",")
            items.append(item())
        return tuple(items)

    def names(self, known: Iterable[str] | None = None) -> tuple[str, ...]:
        """Distinct axes up to the end of the line (so that an axis may be called `in`)."""
        line = self.tokens[self.at - 1].line
        found: list[str] = []
        while self.tokens[self.at].line == line and self.tokens[self.at].kind == "name":
            found.append(self.name("an axis") if known is None else self.known(known, "an axis"))
        return self.distinct(found, "an axis")

    def known(self, known: Iterable[str], what: str) -> str:
        name = self.name(f"the name of {what}")
        if name not in known:
            self.fail(f"{name!r} is not the name of {what}")
        return name

    def distinct(self, names: Iterable[str], what: str) -> tuple[str, ...]:
        names = tuple(names)
        if len(set(names)) != len(names):
            self.fail(f"the name of {what} occurs twice in {' '.join(names)}")
        return names

    def axis(self) -> str:
        return self.known(self.axes, "an axis")

    def pairs(self, known: Iterable[str] | None = None) -> tuple[tuple[str, int], ...]:
        """name=size name=size ..."""
        found: list[tuple[str, int]] = []
        while self.tokens[self.at + 1].text == "=" and self.tokens[self.at].kind == "name":
            axis = self.name("an axis") if known is None else self.known(known, "an axis")
            self.expect("=")
            found.append((axis, self.size()))
        self.distinct((axis for axis, _ in found), "an axis")
        return tuple(found)

    # ---- kernels

    def kernel(self) -> Kernel:
        self.expect("kernel")
        name = self.name("a kernel's name")
        self.expect("{")
        self.expect("axes")
        extent = self.pairs()
        self.axes = dict(extent)
        self.expect("outer")
        outer = self.names(self.axes)
        ordered = self.names(self.axes) if self.take("ordered") else ()
        while self.tokens[self.at].text in ROLES:
            arg = Arg(*self.arg())
            if arg.name in self.args:
                self.fail(f"buffer {arg.name!r} is declared twice")
            self.args[arg.name] = arg
        while not self.take("}"):
            stage = self.stage(outer)
            if stage.name in self.stages:
                self.fail(f"stage {stage.name!r} is declared twice")
            self.stages[stage.name] = stage
        self.end()
        stages, args = tuple(self.stages.values()), tuple(self.args.values())
        return Kernel(name, extent, outer, stages, args, ordered)

    def end(self) -> None:
        if self.tokens[self.at].kind != "end":
            self.fail(f"unexpected {self.tokens[self.at].text[:40]!r} after the closing brace")

    def arg(self) -> tuple[str, DType, int, str, int | None, bool]:
        role = self.name("a role")
        name, dtype = self.name("the name of a buffer"), self.dtype()
        self.expect("[")
        size = self.size()
        self.expect("]")
        below = self.size() if self.take("<") else None
        if below is not None and not (role == "const" and (dtype.is_integer or dtype == F32)):
            self.fail("only of constant integers and f32 a bound is known")
        paired = bool(self.take("paired"))
        if paired and not (role == "const" and dtype == I8):
            self.fail("only constants of i8 are paired")
        return name, dtype, size, role, below, paired

    def stage(self, outer: tuple[str, ...]) -> Stage:
        self.lets = {}
        while self.take("let"):
            number = self.let_name()
            if number in self.lets:
                self.fail(f"%{number} is named twice")
            self.expect("=")
            self.lets[number] = self.expr(0)
        self.expect("stage")
        name = self.name("a stage's name")
        self.expect("(")
        axes = self.distinct(self.separated(self.axis, ")"), "an axis")
        if set(axes) & set(outer):
            self.fail(f"stage {name} has an outer axis among its own")
        self.expect("=")
        reduce = None
        if self.peek("reduce") and self.tokens[self.at + 1].kind == "name":
            self.at += 1
            op = self.known(REDUCTIONS, "a reduction")
            self.expect("(")
            over = self.distinct(self.separated(self.axis, ")"), "an axis")
            if not set(over) <= set(axes) or (op.startswith("arg") and len(over) != 1):
                self.fail(f"stage {name} cannot reduce over {', '.join(over)}")
            reduce = Reduce(op, over)
        value = self.expr(0)
        keep = self.place() if self.take("keep") else None
        out = self.place() if self.take("out") else None
        return Stage(name, axes, value.expr, reduce, out, keep)

    def place(self) -> At:
        buf = self.known(self.args, "a buffer")
        return self.load(buf, 0).expr  # type: ignore[return-value]

    def let_name(self) -> str:
        self.expect("%")
        return str(self.size())

    # ---- expressions

    def expr(self, nesting: int) -> _Typed:
        """One expression inside `nesting` others."""
        if nesting > MAX_NESTING:
            self.fail(f"expressions are nested deeper than {MAX_NESTING}: name them by let")
        token = self.tokens[self.at]
        if token.text == "%":
            name = self.let_name()
            if name not in self.lets:
                self.fail(f"%{name} has no value yet")
            typed = self.lets[name]
        elif token.text == "@":
            self.at += 1
            stage = self.known(self.stages, "an earlier stage")
            self.expect(":")
            dtype = self.dtype()
            typed = _Typed(Ref(stage, dtype), dtype)
        elif token.kind == "name" and self.tokens[self.at + 1].text == "[":
            typed = self.load(self.known(self.args, "a buffer"), nesting)
        elif token.kind == "number" or token.text in ("-", "inf", "nan"):
            typed = self.number()
        elif token.text == "guard":
            typed = self.guard(nesting)
        elif token.text == "repeat":
            typed = self.repeat(nesting)
        elif token.text == "carried":
            self.at += 1
            self.expect(":")
            dtype = self.dtype()
            typed = _Typed(Carried(dtype), dtype)
        elif token.text == "iota":
            self.at += 1
            self.expect("(")
            index = self.index()
            self.expect(")")
            self.expect(":")
            dtype = self.dtype()
            typed = _Typed(Iota(index, dtype), dtype)
        else:
            typed = self.operation(nesting)
        if typed.depth > MAX_DEPTH or typed.size > MAX_SIZE:
            self.fail(f"an expression has {typed.size} parts, {typed.depth} deep")
        return typed

    def number(self) -> _Typed:
        sign = -1 if self.take("-") else 1
        token = self.tokens[self.at]
        self.at += 1
        self.expect(":")
        dtype = self.dtype()
        if dtype.is_float and (token.kind == "number" or token.text in ("inf", "nan")):
            return _Typed(Num(math.copysign(float(token.text), sign), dtype), dtype)
        if not token.text.isdigit() or len(token.text) > 20:
            self.fail(f"{token.text[:40]!r} is not a number of dtype {dtype}")
        value = sign * int(token.text)
        low = -(1 << dtype.bits - 1) if dtype.kind == "i" else 0
        if not low <= value < (2 if dtype.kind == "b" else low + (1 << dtype.bits)):
            self.fail(f"{value} is out of the range of {dtype}")
        return _Typed(Num(value, dtype), dtype)

    def operation(self, nesting: int) -> _Typed:
        op = self.name("an expression")
        if op not in OPS or OPS[op].kind != "elementwise":
            self.fail(f"{op!r} is not an elementwise operation")
        self.expect("(")
        args = self.separated(lambda: self.expr(nesting + 1), ")")
        if not args:
            self.fail(f"{op} needs an argument")
        dtype = self.dtype() if self.take(":") else args[-1].dtype
        return _typed(Do(op, tuple(arg.expr for arg in args), dtype), dtype, args)

    def guard(self, nesting: int) -> _Typed:
        self.expect("guard")
        self.expect("(")
        bounds = self.separated(self.bound, ";")
        value = self.expr(nesting + 1)
        self.expect(";")
        other = self.expr(nesting + 1)
        self.expect(")")
        if value.dtype != other.dtype:
            self.fail(f"a guard chooses between {value.dtype} and {other.dtype}")
        return _typed(Guard(bounds, value.expr, other.expr), value.dtype, (value, other))

    def repeat(self, nesting: int) -> _Typed:
        self.expect("repeat")
        self.expect("(")
        start = self.expr(nesting + 1)
        self.expect(";")
        step = self.expr(nesting + 1)
        self.expect(";")
        times = self.size()
        self.expect(")")
        if start.dtype != step.dtype:
            self.fail(f"a repeat makes {step.dtype} of {start.dtype}")
        if not times:
            self.fail("a repeat without a single step")
        return _typed(Repeat(start.expr, step.expr, times), start.dtype, (start, step))

    def bound(self) -> Bound:
        index = self.index()
        self.expect("in")
        return Bound(index, self.size())

    def load(self, buf: str, nesting: int) -> _Typed:
        """The address after the name of a buffer, in brackets."""
        self.expect("[")
        gathers: list[Gather] = []
        parts: list[_Typed] = []
        index = Index() if self.at_gather() else self.index()
        while self.at_gather():
            self.at += 2
            inner = self.expr(nesting + 1)
            if not inner.dtype.is_integer:
                self.fail(f"a gather by {inner.dtype}")
            parts.append(inner)
            self.expect("<")
            size = self.size()
            self.expect(")")
            self.expect("*")
            gathers.append(Gather(inner.expr, self.integer(), size))
            if not self.take("+"):
                break
        self.expect("]")
        return _typed(At(buf, index, tuple(gathers)), self.args[buf].dtype, parts)

    def at_gather(self) -> bool:
        return self.peek("gather") and self.tokens[self.at + 1].text == "("

    def index(self) -> Index:
        """axis*stride + axis//block*outer + axis%block*stride - offset."""
        terms: list[Term] = []
        sign = -1 if self.take("-") else 1
        while True:
            if self.tokens[self.at].kind == "number":
                offset = sign * self.integer()
                self.take("+")  # a gather may follow
                break
            terms.append(self.term(sign))
            offset = 0
            sign = -1 if self.peek("-") else 1
            if not (self.take("+") or self.take("-")) or self.at_gather():
                break
        self.distinct((term.axis for term in terms), "an axis")
        return Index(tuple(terms), offset)

    def term(self, sign: int) -> Term:
        axis = self.axis()
        if not self.take("//"):
            return Term(axis, sign * (self.integer() if self.take("*") else 1))
        block = self.size()
        self.expect("*")
        outer = self.integer()
        self.expect("+")
        self.expect(axis)
        self.expect("%")
        if self.size() != block or block == 0 or sign < 0:
            self.fail(f"the two halves of blocked axis {axis!r} do not fit")
        self.expect("*")
        return Term(axis, self.integer(), block, outer)

    # ---- schedules

    def schedule(self) -> Schedule:
        self.expect("schedule")
        self.expect("{")
        self.expect("order")
        order = self.names()
        self.expect(";")
        vector = None
        if self.take("vector"):
            vector = self.name("an axis")
            self.expect(";")
        self.expect("lanes")
        lanes = self.size()
        self.expect(";")
        self.expect("tile")
        tile = self.pairs()
        self.expect(";")
        self.expect("unroll")
        unroll = self.names()
        dot = None
        if self.take(";"):
            self.expect("dot")
            dot = self.name("an axis"), self.name("a dot instruction")
        self.expect("}")
        self.end()
        return Schedule(order, vector, lanes, tile, unroll, dot)


def parse_kernel(text: str) -> Kernel:
    """Reads what `print_kernel` prints. Raises ModelError with the line of the first mistake."""
    return _Parser(_tokens(text)).kernel()


def parse_schedule(text: str) -> Schedule:
    """Reads what `print_schedule` prints. Raises ModelError."""
    return _Parser(_tokens(text)).schedule()
