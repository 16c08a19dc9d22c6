"""Random ONNX models of nested control flow and sequences, as text; the same for the same number.

Every value is f32[2,3] (or hides that it is), so that any value may be used anywhere. Running the
models is the tests' work.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

DEPTH = 3  # graphs within graphs
SHAPE = (2, 3)
INPUTS = "float[2,3] x, float[2,3] z, int64 n, bool c, bool[2] all, int64 i"


@dataclass(eq=False)
class _Writer:
    """Draws statements; names are never used twice."""

    random: np.random.Generator
    tensors: bool = False  # only: no sequences, no hidden shapes
    count: int = 0
    lines: list[str] = field(default_factory=list)

    def name(self) -> str:
        self.count += 1
        return f"v{self.count}"

    def pick(self, values: list[str]) -> str:
        return values[int(self.random.integers(len(values)))]

    def add(self, text: str) -> str:
        """A statement `NAME = text`; its name."""
        name = self.name()
        self.lines.append(f"{name} = {text}")
        return name

    def block(self, known: list[str], depth: int, results: int) -> tuple[str, list[str]]:
        """The statements of a graph that sees `known`, and which names it gives."""
        outer, self.lines = self.lines, []
        values = list(known)
        for _ in range(int(self.random.integers(1, 4))):
            values.append(self.statement(values, depth))
        found = [self.add(f"Tanh ({self.pick(values[-3:])})") for _ in range(results)]
        text, self.lines = "\n".join(self.lines), outer
        return text, found

    def statement(self, values: list[str], depth: int) -> str:
        kinds = [self.simple, self.simple, self.hidden, self.sequence, self.at_run_time]
        if depth < DEPTH:
            kinds += [self.branch, self.loop, self.loop, self.scan, self.growing]
        if self.tensors:
            others = (self.hidden, self.sequence, self.at_run_time, self.growing)
            kinds = [kind for kind in kinds if kind not in others]
        return kinds[int(self.random.integers(len(kinds)))](values, depth)

    # -------------------------------------------------------------- statements

    def simple(self, values: list[str], depth: int) -> str:
        op = self.pick(["Neg", "Sin", "Abs", "Add", "Sub", "Mul", "Max"])
        arguments = [self.pick(values)] + (
            [self.pick(values)] if len(op) == 3 and op in ("Add", "Sub", "Mul", "Max") else []
        )
        return self.add(f"{op} ({', '.join(arguments)})")

    def hidden(self, values: list[str], depth: int) -> str:
        """A value whose shape nobody knows before the run."""
        return self.add(f"Compress <axis = 0> ({self.pick(values)}, all)")

    def at_run_time(self, values: list[str], depth: int) -> str:
        both = self.add(f"SequenceConstruct ({self.pick(values)}, {self.pick(values)})")
        return self.add(f"SequenceAt ({both}, i)")

    def sequence(self, values: list[str], depth: int) -> str:
        s = self.add(f"SequenceConstruct ({self.pick(values)}, {self.pick(values)})")
        if self.random.random() < 0.5:
            s = self.add(f"SequenceInsert ({s}, {self.pick(values)}, i)")
        if self.random.random() < 0.5:
            s = self.add(f"SequenceErase ({s})")
        whole = self.add(f"ConcatFromSequence <axis = 0, new_axis = 1> ({s})")
        return self.add(f"ReduceMax <keepdims = 0> ({whole}, first)")

    def condition(self, values: list[str]) -> str:
        kind = int(self.random.integers(3))
        if kind == 0:
            return "c"
        if kind == 1:
            return self.pick(["yes", "no"])
        total = self.add(f"ReduceSum <keepdims = 0> ({self.pick(values)})")
        return self.add(f"Greater ({total}, half)")

    def branch(self, values: list[str], depth: int) -> str:
        condition = self.condition(values)
        then, (a,) = self.block(values, depth + 1, 1)
        orelse, (b,) = self.block(values, depth + 1, 1)
        return self.add(
            f"If ({condition}) <then_branch = t () => (float[P,Q] {a}) {{ {then} }},\n"
            f"else_branch = e () => (float[P,Q] {b}) {{ {orelse} }}>"
        )

    def trips(self) -> str:
        return self.pick(["n", "zero", "one", "two", "many"])

    def loop(self, values: list[str], depth: int) -> str:
        carried, again, number = self.name(), self.name(), self.name()
        trips, start = self.trips(), self.pick(["c", "yes", "yes"])
        body, (after, row) = self.block([*values, carried], depth + 1, 2)
        last, rows = self.name(), self.name()
        stop = self.pick([f"Identity ({again})", f"Less ({number}, one)"])
        more = self.name()
        self.lines.append(
            f"{last}, {rows} = Loop <body = b\n"
            f"(int64 {number}, bool {again}, float[2,3] {carried})\n"
            f"=> (bool {more}, float[2,3] {after}, float[2,3] {row}) {{ {body}\n{more} = {stop} }}>"
            f" ({trips}, {start}, {self.pick(values)})"
        )
        total = self.add(f"ReduceSum <keepdims = 0> ({rows}, first)")
        return self.add(f"Add ({last}, {total})")

    def growing(self, values: list[str], depth: int) -> str:
        """A loop that carries a sequence."""
        carried, again, number, more = (self.name() for _ in range(4))
        start = self.add(f"SequenceConstruct ({self.pick(values)})")
        body, (part,) = self.block(values, depth + 1, 1)
        longer = self.name()
        whole = self.add(
            f"Loop <body = b (int64 {number}, bool {again}, seq(float[P,Q]) {carried})\n"
            f"=> (bool {more}, seq(float[P,Q]) {longer}) {{ {body}\n"
            f"{longer} = SequenceInsert ({carried}, {part})\n{more} = Identity ({again}) }}>"
            f" ({self.trips()}, yes, {start})"
        )
        joined = self.add(f"ConcatFromSequence <axis = 0, new_axis = 1> ({whole})")
        return self.add(f"ReduceSum <keepdims = 0> ({joined}, first)")

    def scan(self, values: list[str], depth: int) -> str:
        """Each slice with the state added, and something that both make of the outer values."""
        axis, back = int(self.random.integers(2)), int(self.random.integers(2))
        size = SHAPE[1 - axis]
        state, part, after, row, start = (self.name() for _ in range(5))
        source, outer = self.pick(values), self.pick(values)
        begin = self.add(f"ReduceSum <keepdims = 0> ({outer}, {'first' if axis == 0 else 'last'})")
        result = self.name()
        inner = self.name()
        self.lines.append(
            f"{start}, {result} = Scan <num_scan_inputs = 1, scan_input_axes = [{axis}],\n"
            f"scan_input_directions = [{back}], scan_output_axes = [{axis}],\n"
            f"body = b (float[{size}] {state}, float[{size}] {part}) "
            f"=> (float[{size}] {after}, float[{size}] {row}) {{\n"
            f"{inner} = Sin ({state})\n{after} = Add ({inner}, {part})\n"
            f"{row} = Mul ({after}, {state}) }}> ({begin}, {source})"
        )
        return result


def random_model(number: int, tensors: bool = False) -> bytes:
    """The serialised model of a number. tensors: without sequences and hidden shapes."""
    from onnx import parser

    writer = _Writer(np.random.default_rng(number), tensors)
    body, (y, u) = writer.block(["x", "z"], 0, 2)
    text = f"""<ir_version: 8, opset_import: ["" : 18]>
    g ({INPUTS}) => (float[P,Q] {y}, float[P,Q] {u})
      <int64[1] first = {{0}}, int64[1] last = {{1}}, float half = {{0.5}}, bool yes = {{1}},
       bool no = {{0}}, int64 zero = {{0}}, int64 one = {{1}}, int64 two = {{2}},
       int64 many = {{35}}> {{
      {body}
    }}"""
    return parser.parse_model(text).SerializeToString()


def feeds_of(number: int) -> list[dict[str, Any]]:
    """Inputs for a model: trip counts, conditions and positions of several kinds."""
    random = np.random.default_rng(number)
    return [
        {
            "x": random.standard_normal(SHAPE).astype(np.float32),
            "z": random.standard_normal(SHAPE).astype(np.float32),
            "n": np.array(n),
            "c": np.array(c),
            "all": np.ones(2, bool),
            "i": np.array(i),
        }
        for n, c, i in ((0, True, 0), (1, False, 1), (3, True, -1))
    ]
