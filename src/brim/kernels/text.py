"""Kernels and schedules as text, printed and parsed: for people, for dumps, and as cache keys.

    kernel scale {
      axes h=56 c=64 i=3
      outer h c
      in x f32[3712]
      out y f32[3584]
      stage s(i) = reduce add(i) guard(h + i - 1 in 56; x[h*64 + i*64 + c - 64]; 0.0:f32)
      stage d() = mul(@s:f32, 0.5:f32)
        out y[h*64 + c]
    }

An operation carries its dtype (`cast(x[c]):f32`) where that differs from its last argument's.
`c in 56` means 0 <= c < 56. A blocked term is `o//8*512 + o%8*1`, a gather `gather(EXPR < 9)*64`.
Equal kernels print equally: what a stage uses twice (however Python shared it) or nests deeply gets
a name by `let`. `repeat(START; STEP; 8)` is START, replaced 8 times by STEP, in which `carried:i32`
is the value so far. `const x u8[9] < 4` says that all nine are known to lie below 4, `paired` what
`brim.kernels.dots` says of that. Parsing never evaluates anything, bounds depth and size, and
raises ModelError with the line.
"""

from __future__ import annotations

from brim.kernels.ir import (
    At,
    Carried,
    Do,
    Expr,
    Guard,
    Index,
    Iota,
    Kernel,
    Num,
    Ref,
    Repeat,
    Schedule,
    Stage,
)
from brim.kernels.parse import MAX_NESTING, parse_kernel, parse_schedule

__all__ = ["parse_kernel", "parse_schedule", "print_kernel", "print_schedule"]


def print_kernel(kernel: Kernel) -> str:
    """The text of a kernel; `parse_kernel` gives an equal one back."""
    axes = " ".join(f"{axis}={size}" for axis, size in kernel.extent)
    lines = [f"kernel {kernel.name} {{", f"  axes {axes}", f"  outer {' '.join(kernel.outer)}"]
    if kernel.ordered:
        lines.append(f"  ordered {' '.join(kernel.ordered)}")
    for arg in kernel.args:
        known = "" if arg.below is None else f" < {arg.below}"
        known += " paired" if arg.paired else ""
        lines.append(f"  {arg.role} {arg.name} {arg.dtype.name}[{arg.size}]{known}")
    for stage in kernel.stages:
        _print_stage(stage, kernel, lines)
    lines.append("}\n")
    return "\n".join(lines)


def print_schedule(schedule: Schedule) -> str:
    """The text of a schedule, in one line; `parse_schedule` gives an equal one back."""
    parts = ["schedule", "{", "order", *schedule.order, ";"]
    if schedule.vector is not None:
        parts += ["vector", schedule.vector, ";"]
    parts += ["lanes", str(schedule.lanes), ";"]
    parts += ["tile", *(f"{axis}={points}" for axis, points in schedule.tile), ";"]
    parts += ["unroll", *schedule.unroll]
    if schedule.dot is not None:
        parts += [";", "dot", *schedule.dot]
    parts.append("}\n")
    return " ".join(parts).replace(" ;", ";")


class _Shared:
    """Numbers the distinct expressions of one stage and counts their uses; then prints them."""

    def __init__(self, kernel: Kernel) -> None:
        self.buffers = kernel.buffers
        self.by_id: dict[int, int] = {}
        self.by_key: dict[tuple, int] = {}
        self.nodes: list[tuple[Expr, tuple[int, ...], str]] = []  # expression, parts, dtype
        self.uses: list[int] = []

    def number(self, expr: Expr) -> int:
        """The number of an expression; equal expressions get the same one."""
        found = self.by_id.get(id(expr))
        if found is not None:
            self.uses[found] += 1
            return found
        kids: tuple[int, ...] = ()
        key: tuple
        match expr:
            case At(buf, index, gathers):
                dtype = self.buffers[buf].dtype.name
                kids = tuple(self.number(gather.index) for gather in gathers)
                steps = tuple((gather.stride, gather.size) for gather in gathers)
                key = (buf, _index(index), steps, kids)
            case Do(op, args, result):
                dtype = result.name
                kids = tuple(map(self.number, args))
                key = (op, dtype, kids)
            case Num(_, result):
                dtype = result.name
                key = (_number(expr), dtype)
            case Guard(bounds, value, other):
                kids = (self.number(value), self.number(other))
                dtype = self.nodes[kids[0]][2]
                key = (tuple((_index(bound.index), bound.size) for bound in bounds), kids)
            case Ref(stage, result):
                dtype = result.name
                key = ("@", stage, dtype)
            case Iota(index, result):
                dtype = result.name
                key = ("iota", _index(index), dtype)
            case Carried(result):
                dtype = result.name
                key = ("carried", dtype)
            case Repeat(start, step, times):
                kids = (self.number(start), self.number(step))
                dtype = self.nodes[kids[0]][2]
                key = ("repeat", times, kids)
        number = self.by_key.setdefault(key, len(self.nodes))
        if number == len(self.nodes):
            self.nodes.append((expr, kids, dtype))
            self.uses.append(0)
        else:  # its children were counted for the first occurrence already
            for kid in kids:
                self.uses[kid] -= 1
        self.uses[number] += 1
        self.by_id[id(expr)] = number
        return number

    def texts(self, lines: list[str]) -> list[str]:
        """The text of every node; named ones are added to `lines` first."""
        texts: list[str] = []
        nesting: list[int] = []
        named = 0
        for (expr, kids, dtype), uses in zip(self.nodes, self.uses):
            match expr:
                case At():
                    text = _at(expr, [texts[kid] for kid in kids])
                case Do(op):
                    text = f"{op}({', '.join([texts[kid] for kid in kids])})"
                    if not kids or self.nodes[kids[-1]][2] != dtype:
                        text += f":{dtype}"
                case Num():
                    text = f"{_number(expr)}:{dtype}"
                case Guard(bounds):
                    inside = ", ".join(f"{_index(b.index)} in {b.size}" for b in bounds)
                    text = f"guard({inside}; {texts[kids[0]]}; {texts[kids[1]]})"
                case Ref(stage):
                    text = f"@{stage}:{dtype}"
                case Iota(index):
                    text = f"iota({_index(index)}):{dtype}"
                case Carried():
                    text = f"carried:{dtype}"
                case Repeat(times=times):
                    text = f"repeat({texts[kids[0]]}; {texts[kids[1]]}; {times})"
            depth = 1 + max([nesting[kid] for kid in kids], default=0)
            if kids and (uses > 1 or depth == MAX_NESTING):
                lines.append(f"  let %{named} = {text}")
                text = f"%{named}"
                named += 1
                depth = 1
            texts.append(text)
            nesting.append(depth)
        return texts


def _print_stage(stage: Stage, kernel: Kernel, lines: list[str]) -> None:
    shared = _Shared(kernel)
    value = shared.number(stage.value)
    places = {"keep": stage.keep, "out": stage.out}
    kids = {
        word: tuple(shared.number(gather.index) for gather in place.gathers)
        for word, place in places.items()
        if place is not None
    }
    texts = shared.texts(lines)
    reduce = f"reduce {stage.reduce.op}({', '.join(stage.reduce.axes)}) " if stage.reduce else ""
    lines.append(f"  stage {stage.name}({', '.join(stage.axes)}) = {reduce}{texts[value]}")
    for word, place in places.items():
        if place is not None:
            lines.append(f"    {word} {_at(place, [texts[kid] for kid in kids[word]])}")


def _at(at: At, gathered: list[str]) -> str:
    if not gathered:
        return f"{at.buf}[{_index(at.index)}]"
    parts = [f"gather({g} < {one.size})*{one.stride}" for g, one in zip(gathered, at.gathers)]
    if at.index.terms or at.index.offset:
        parts.insert(0, _index(at.index))
    return f"{at.buf}[{' + '.join(parts)}]"


def _number(num: Num) -> str:
    return repr(float(num.value)) if num.dtype.kind == "f" else str(int(num.value))


def _index(index: Index) -> str:
    text = ""
    for term in index.terms:
        if term.block:
            block = term.block
            part = f"{term.axis}//{block}*{term.outer} + {term.axis}%{block}*{term.stride}"
            text += f" + {part}" if text else part
            continue
        size = abs(term.stride)
        part = term.axis if size == 1 else f"{term.axis}*{size}"
        if text:
            text += f" - {part}" if term.stride < 0 else f" + {part}"
        else:
            text = f"-{part}" if term.stride < 0 else part
    if not text:
        return str(index.offset)
    if index.offset:
        text += f" - {-index.offset}" if index.offset < 0 else f" + {index.offset}"
    return text
