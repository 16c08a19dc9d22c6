"""Models of control flow, sequences and optionals as text, with inputs: one table for all tests.

What they must give is what another engine gives: onnx's reference in `pure`, onnxruntime in
`extra`; `host` compares compiled code with the interpreter. Nothing is run here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Feeds = dict[str, Any]
REFERENCE = frozenset(("reference",))
RUNTIME = frozenset(("onnxruntime",))
BOTH = REFERENCE | RUNTIME
NEITHER: frozenset[str] = frozenset()


@dataclass(frozen=True)
class ControlCase:
    """A graph in ONNX's text form, and feeds for it.

    peers: engines that run it, and rightly. onnx's reference takes a Loop's missing condition for
    false, fails without iterations, stacks scalars as columns, and knows no directions of a Scan.
    """

    name: str
    text: str
    feeds: tuple[Feeds, ...]
    opset: int = 18
    peers: frozenset[str] = BOTH

    @property
    def model(self) -> bytes:
        """The serialised model."""
        from onnx import parser

        head = f'<ir_version: 8, opset_import: ["" : {self.opset}]>'
        return parser.parse_model(f"{head}\n{self.text}").SerializeToString()

    def __str__(self) -> str:
        return self.name


def f32(*values: Any) -> np.ndarray:
    """Numbers as an array; one number as a scalar."""
    return np.array(values[0] if len(values) == 1 else values, np.float32)


def i64(value: Any) -> np.ndarray:
    return np.array(value, np.int64)


def flag(value: bool) -> np.ndarray:
    return np.array(value)


def text(*values: str) -> np.ndarray:
    return np.array(values, object)


def ramp(*shape: int) -> np.ndarray:
    """Distinct numbers, some of them negative."""
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape) - 2.5


DOUBLING = """
  b (int64 i, bool go, float[2] v) => (bool again, float[2] w, float[2] row) {
    w = Add (v, v)
    row = Identity (w)
    again = Identity (go)
  }
"""

CASES = (
    # ------------------------------------------------------------------ Loop: trips and conditions
    ControlCase(
        "loop_trips_and_condition",
        """g (float[2] x, int64 n, bool c) => (float[2] y, float[K,2] rows) {
          y, rows = Loop <body = """
        + DOUBLING
        + """> (n, c, x)
        }""",
        tuple(
            {"x": f32(1, 3), "n": i64(n), "c": flag(c)}
            for n, c in ((3, True), (3, False), (0, True), (1, True))
        ),
        peers=RUNTIME,
    ),
    ControlCase(
        "loop_trips_only",
        """g (float[2] x, int64 n) => (float[2] y, float[K,2] rows) {
          y, rows = Loop <body = """
        + DOUBLING
        + """> (n, , x)
        }""",
        ({"x": f32(1, 3), "n": i64(4)}, {"x": f32(1, 3), "n": i64(0)}),
        peers=RUNTIME,
    ),
    ControlCase(
        "loop_until_a_condition",
        """g (float[2] x, float limit) => (float[2] y, float[K,2] rows, int64[K] numbers) {
          yes = Constant <value = bool {1}> ()
          y, rows, numbers = Loop <body = b (int64 i, bool go, float[2] v)
              => (bool again, float[2] w, float[2] row, int64 number) {
            w = Add (v, v)
            row = Identity (v)
            number = Identity (i)
            largest = ReduceMax <keepdims = 0> (w)
            again = Less (largest, limit)
          }> (, yes, x)
        }""",
        ({"x": f32(1, 3), "limit": f32(100)}, {"x": f32(1, 3), "limit": f32(-1)}),
        peers=RUNTIME,
    ),
    ControlCase(
        "loop_that_stops_before_its_trip_count",
        """g (float[2] x, int64 n) => (float[2] y, float[K,2] rows) {
          yes = Constant <value = bool {1}> ()
          y, rows = Loop <body = b (int64 i, bool go, float[2] v)
              => (bool again, float[2] w, float[2] row) {
            two = Constant <value = int64 {2}> ()
            w = Add (v, v)
            row = Neg (w)
            again = Less (i, two)
          }> (n, yes, x)
        }""",
        tuple({"x": f32(1, 3), "n": i64(n)} for n in (1, 3, 10)),
    ),
    ControlCase(
        "loop_of_known_length_without_iterations",
        """g (float[2,3] x) => (float[2,3] y, float[K,3,2] rows) {
          n = Constant <value = int64 {0}> ()
          y, rows = Loop <body = b (int64 i, bool go, float[2,3] v)
              => (bool again, float[2,3] w, float[3,2] row) {
            w = Exp (v)
            row = Transpose (v)
            again = Identity (go)
          }> (n, , x)
        }""",
        ({"x": ramp(2, 3)},),
        peers=RUNTIME,
    ),
    ControlCase(
        "loop_whose_body_gives_outer_values",
        """g (float[2] x, float[3] z, int64 n) => (float[3] y, float[K,3] rows, float[K,2] more) {
          y, rows, more = Loop <body = b (int64 i, bool go, float[3] v)
              => (bool again, float[3] z2, float[3] z3, float[2] w) <float[2] w = {7.0, 8.0}> {
            z2 = Identity (z)
            z3 = Identity (v)
            again = Identity (go)
          }> (n, , z)
        }""",
        ({"x": f32(1, 3), "z": f32(4, 5, 6), "n": i64(3)},),
        peers=RUNTIME,
    ),
    ControlCase(
        "loop_that_carries_a_growing_value",
        """g (float[2] x, int64 n) => (float[M] y, int64[K] sizes) {
          y, sizes = Loop <body = b (int64 i, bool go, float[M] v)
              => (bool again, float[L] w, int64 size) {
            w = Concat <axis = 0> (v, x)
            s = Shape (w)
            size = Squeeze (s)
            again = Identity (go)
          }> (n, , x)
        }""",
        tuple({"x": f32(1, 3), "n": i64(n)} for n in (0, 1, 4)),
        peers=RUNTIME,
    ),
    ControlCase(
        "loop_that_carries_a_changing_rank",
        """g (float[2] x, int64 n) => (float y) {
          y = Loop <body = b (int64 i, bool go, float v) => (bool again, float w) {
            zero = Constant <value = int64[1] {0}> ()
            w = Unsqueeze (v, zero)
            again = Identity (go)
          }> (n, , x)
        }""",
        tuple({"x": f32(1, 3), "n": i64(n)} for n in (0, 1, 3)),
        peers=RUNTIME,
    ),
    ControlCase(
        "loop_that_collects_rows_of_a_shape_known_at_run_time",
        """g (float[6] x, int64 n) => (float[K,L] rows, float[M] y) {
          y, rows = Loop <body = b (int64 i, bool go, float[6] v)
              => (bool again, float[6] w, float[L] row) {
            zero = Constant <value = float {0.0}> ()
            positive = Greater (v, zero)
            row = Compress <axis = 0> (v, positive)
            w = Add (v, v)
            again = Identity (go)
          }> (n, , x)
        }""",
        ({"x": ramp(6), "n": i64(3)}, {"x": ramp(6), "n": i64(0)}),
        peers=RUNTIME,
    ),
    ControlCase(
        "loop_of_known_length_over_a_shape_known_at_run_time",
        """g (float[6] x) => (float[K,L] rows) {
          n = Constant <value = int64 {3}> ()
          zero = Constant <value = float {0.0}> ()
          positive = Greater (x, zero)
          kept = Compress <axis = 0> (x, positive)
          y, rows = Loop <body = b (int64 i, bool go, float[L] v)
              => (bool again, float[L] w, float[L] row) {
            w = Add (v, kept)
            row = Neg (w)
            again = Identity (go)
          }> (n, , kept)
        }""",
        ({"x": ramp(6)},),
        peers=RUNTIME,
    ),
    ControlCase(
        "loop_nested_with_captures_two_levels_up",
        """g (float[2] x, float[2] z, int64 n) => (float[2] y) <float[2] weight = {0.5, 2.0}> {
          yes = Constant <value = bool {1}> ()
          scaled = Mul (x, weight)
          y = Loop <body = b (int64 i, bool go, float[2] v) => (bool again, float[2] w) {
            w = Loop <body = c (int64 j, bool on, float[2] u) => (bool more, float[2] t) {
              a = Add (u, scaled)
              b2 = Mul (a, weight)
              number = Cast <to = 1> (i)
              d = Add (b2, number)
              t = Add (d, z)
              more = Identity (on)
            }> (n, yes, v)
            again = Identity (go)
          }> (n, yes, x)
        }""",
        tuple({"x": f32(1, 3), "z": f32(-1, 1), "n": i64(n)} for n in (0, 1, 3)),
    ),
    ControlCase(
        "loop_with_if_inside",
        """g (float[4] x, int64 n) => (float[L] y) {
          yes = Constant <value = bool {1}> ()
          y = Loop <body = b (int64 i, bool go, float[M] v) => (bool again, float[L] w) {
            one = Constant <value = int64 {1}> ()
            two = Constant <value = int64 {2}> ()
            rest = Mod (i, two)
            odd = Equal (rest, one)
            w = If (odd) <
              then_branch = t () => (float[L] a) { a = Concat <axis = 0> (v, v) },
              else_branch = e () => (float[L] b2) { b2 = Neg (v) }
            >
            again = Identity (go)
          }> (n, yes, x)
        }""",
        tuple({"x": ramp(4), "n": i64(n)} for n in (0, 1, 2, 5)),
    ),
    ControlCase(
        "loop_after_a_shape_known_at_run_time",
        """g (float[8] scores, float[8,4] boxes) => (float[K,4] y, int64[M] order) {
          limit = Constant <value = float {0.0}> ()
          good = Greater (scores, limit)
          kept = Compress <axis = 0> (boxes, good)
          shape = Shape (kept)
          zero = Constant <value = int64 {0}> ()
          count = Gather <axis = 0> (shape, zero)
          empty = Constant <value = int64[0] {}> ()
          order, y = Loop <body = b (int64 i, bool go, int64[M] seen)
              => (bool again, int64[L] more, float[4] row) {
            box = Gather <axis = 0> (kept, i)
            total = ReduceSum <keepdims = 0> (box)
            none = Constant <value = float {0.0}> ()
            right = Greater (total, none)
            row = If (right) <
              then_branch = t () => (float[4] a) { a = Mul (box, box) },
              else_branch = e () => (float[4] b2) { b2 = Identity (box) }
            >
            axis = Constant <value = int64[1] {0}> ()
            number = Unsqueeze (i, axis)
            more = Concat <axis = 0> (number, seen)
            again = Identity (go)
          }> (count, , empty)
        }""",
        (
            {"scores": ramp(8), "boxes": ramp(8, 4)},
            {"scores": ramp(8) - 100, "boxes": ramp(8, 4)},
            {"scores": ramp(8) + 100, "boxes": ramp(8, 4) - 14},
        ),
        peers=RUNTIME,
    ),
    ControlCase(
        "detector_with_suppression_and_a_loop_over_the_boxes",
        """g (float[1,6,4] boxes, float[1,2,6] scores) => (float[K,4] kept, float[K] areas) {
          most = Constant <value = int64 {3}> ()
          overlap = Constant <value = float {0.5}> ()
          least = Constant <value = float {0.1}> ()
          found = NonMaxSuppression (boxes, scores, most, overlap, least)
          two = Constant <value = int64 {2}> ()
          numbers = Gather <axis = 1> (found, two)
          first = Constant <value = int64[1] {0}> ()
          plain = Squeeze (boxes, first)
          kept = Gather <axis = 0> (plain, numbers)
          shape = Shape (numbers)
          zero = Constant <value = int64 {0}> ()
          count = Gather <axis = 0> (shape, zero)
          start = Constant <value = float {0.0}> ()
          last, areas = Loop <body = b (int64 i, bool go, float sum)
              => (bool again, float more, float area) {
            box = Gather <axis = 0> (kept, i)
            y1, x1, y2, x2 = Split <axis = 0, num_outputs = 4> (box)
            height = Sub (y2, y1)
            width = Sub (x2, x1)
            both = Mul (height, width)
            area = Squeeze (both)
            more = Add (sum, area)
            again = Identity (go)
          }> (count, , start)
        }""",
        tuple(
            {
                "boxes": f32(
                    [
                        [
                            [0, 0, 2, 2],
                            [0, 0, 2, 2.1],
                            [5, 5, 8, 9],
                            [5, 5, 8, 8.5],
                            [0, 9, 1, 11],
                            [3, 3, 4, 4],
                        ]
                    ]
                ),
                "scores": f32([[[0.9, 0.8, low, 0.3, 0.2, 0.05], [0.0, 0.3, 0.2, 0.6, low, 0.0]]]),
            }
            for low in (0.0, 0.7)
        ),
        peers=RUNTIME,
    ),
    # ------------------------------------------------------------------ If
    ControlCase(
        "if_of_different_shapes",
        """g (float[2,3] x, bool c) => (float y, float[M] z) {
          y = If (c) <
            then_branch = t () => (float a) { a = Transpose (x) },
            else_branch = e () => (float b) { b = Flatten <axis = 0> (x) }
          >
          minus = Constant <value = int64[1] {-1}> ()
          flat = Reshape (y, minus)
          z = Exp (flat)
        }""",
        ({"x": ramp(2, 3), "c": flag(True)}, {"x": ramp(2, 3), "c": flag(False)}),
    ),
    ControlCase(
        "if_whose_branches_give_outer_values",
        """g (float[2] x, float[2] z, bool c) => (float[2] y, float[2] u)
            <float[2] w = {5.0, 6.0}> {
          v = Neg (x)
          y, u = If (c) <
            then_branch = t () => (float[2] a, float[2] a2)
              <float[2] a2 = {1.0, 2.0}> { a = Identity (v) },
            else_branch = e () => (float[2] b, float[2] b2) { b = Identity (w) b2 = Add (z, w) }
          >
        }""",
        tuple({"x": f32(1, 3), "z": f32(8, 9), "c": flag(c)} for c in (True, False)),
    ),
    ControlCase(
        "if_within_if",
        """g (float[2] x, bool c, bool d) => (float[2] y) {
          two = Constant <value = float {2.0}> ()
          double = Mul (x, two)
          y = If (c) <
            then_branch = t () => (float[2] a) {
              a = If (d) <
                then_branch = tt () => (float[2] aa) { aa = Add (double, x) },
                else_branch = te () => (float[2] ab) { ab = Mul (double, two) }
              >
            },
            else_branch = e () => (float[2] b) { b = Sub (x, double) }
          >
        }""",
        tuple(
            {"x": f32(1, 3), "c": flag(c), "d": flag(d)}
            for c in (True, False)
            for d in (True, False)
        ),
    ),
    ControlCase(
        "if_on_a_value_of_unknown_shape",
        """g (float[6] x) => (float[L] y) {
          zero = Constant <value = float {0.0}> ()
          positive = Greater (x, zero)
          kept = Compress <axis = 0> (x, positive)
          size = Size (kept)
          two = Constant <value = int64 {2}> ()
          many = Greater (size, two)
          y = If (many) <
            then_branch = t () => (float[L] a) { a = Exp (kept) },
            else_branch = e () => (float[L] b) { b = Concat <axis = 0> (x, kept) }
          >
        }""",
        ({"x": ramp(6)}, {"x": ramp(6) - 3}, {"x": ramp(6) - 30}),
    ),
    ControlCase(
        "if_that_gives_sequences_of_different_lengths",
        """g (float[2,3] x, bool c) => (seq(float[M]) y, int64 n) {
          y = If (c) <
            then_branch = t () => (seq(float[M]) a) { a = SequenceConstruct (x) },
            else_branch = e () => (seq(float[M]) b) {
              b = SplitToSequence <axis = 1, keepdims = 0> (x)
            }
          >
          n = SequenceLength (y)
        }""",
        tuple({"x": ramp(2, 3), "c": flag(c)} for c in (True, False)),
    ),
    ControlCase(
        "if_that_gives_sequences_of_one_length",
        """g (float[2,3] x, bool c) => (float[M,N] z) {
          y = If (c) <
            then_branch = t () => (seq(float[M]) a) { n = Neg (x) a = SequenceConstruct (x, n) },
            else_branch = e () => (seq(float[M]) b) { m = Exp (x) b = SequenceConstruct (m, x) }
          >
          z = ConcatFromSequence <axis = 0> (y)
        }""",
        tuple({"x": ramp(2, 3), "c": flag(c)} for c in (True, False)),
    ),
    # ------------------------------------------------------------------ Scan
    *(
        ControlCase(
            f"scan_{name}_of_{steps}",
            f"""g (float[2] s, float[{shape[0]},{shape[1]}] x, float[{steps},2] z)
                => (float[2] last, float y, float u) {{
              last, y, u = Scan <num_scan_inputs = 2, {attributes}
                  body = b (float[2] v, float[2] a, float[2] c)
                      => (float[2] w, float[2] row, float[3] more) <float[1] one = {{1.0}}> {{
                sum = Add (v, a)
                w = Add (sum, c)
                row = Mul (w, c)
                more = Concat <axis = 0> (a, one)
              }}> (s, x, z)
            }}""",
            (
                {
                    "s": f32(1, -1),
                    "x": ramp(*shape),
                    "z": np.cos(ramp(steps, 2)),
                },
            ),
            # onnx's reference knows neither directions nor output axes, and neither engine a Scan
            # of nothing: onnxruntime crashes
            peers=(NEITHER if not steps else RUNTIME if name != "forward" else BOTH),
        )
        for steps in (0, 1, 5, 40)
        for name, shape, attributes in (
            ("forward", (steps, 2), ""),
            (
                "backward",
                (steps, 2),
                "scan_input_directions = [1, 0], scan_output_directions = [0, 1],",
            ),
            (
                "along_other_axes",
                (2, steps),
                "scan_input_axes = [-1, 0], scan_input_directions = [0, 1], "
                "scan_output_axes = [-1, 1], scan_output_directions = [1, 0],",
            ),
        )
    ),
    ControlCase(
        "scan_without_state",
        """g (float[4,3] x, float[3] z) => (float[4,3] y) {
          y = Scan <num_scan_inputs = 1, body = b (float[3] a) => (float[3] row) {
            row = Add (a, z)
          }> (x)
        }""",
        ({"x": ramp(4, 3), "z": f32(1, 2, 3)},),
        peers=RUNTIME,
    ),
    ControlCase(
        "scan_over_a_shape_known_at_run_time",
        """g (float[6,2] x, float[2] s) => (float[2] last, float[K,2] y, float[2,K] u)
            <int64[1] one = {1}> {
          zero = Constant <value = float {0.0}> ()
          sums = ReduceSum <keepdims = 0> (x, one)
          positive = Greater (sums, zero)
          kept = Compress <axis = 0> (x, positive)
          last, y, u = Scan <
            num_scan_inputs = 1, scan_input_directions = [1], scan_output_directions = [0, 1],
            scan_output_axes = [0, 1],
            body = b (float[2] v, float[2] a) => (float[2] w, float[2] row, float[2] other) {
              w = Add (v, a)
              row = Mul (v, a)
              other = Identity (w)
            }
          > (s, kept)
        }""",
        ({"x": ramp(6, 2), "s": f32(1, 2)}, {"x": ramp(6, 2) + 50, "s": f32(1, 2)}),
        peers=RUNTIME,
    ),
    *(
        ControlCase(
            f"scan_8_{name}",
            f"""g ({"int64[3] n," if lengths else ""} float[3,2] s, float[3,{steps},2] x,
                   float[3,{steps}] z) => (float y, float u, float v) {{
              y, u, v = Scan <num_scan_inputs = 2, directions = {back},
                  body = b (float[2] state, float[2] a, float c)
                      => (float[2] w, float[2] row, float d) {{
                sum = Add (state, a)
                w = Mul (sum, c)
                row = Sub (w, a)
                d = Neg (c)
              }}> ({"n" if lengths else ""}, s, x, z)
            }}""",
            tuple(
                {"s": ramp(3, 2), "x": ramp(3, steps, 2), "z": np.cos(ramp(3, steps)), **more}
                for more in ([{"n": i64(lengths)}] if lengths else [{}])
            ),
            opset=8,
            peers=RUNTIME,
        )
        for name, steps, back, lengths in (
            ("forward", 4, [0, 0], None),
            ("backward", 4, [1, 0], None),
            ("long", 36, [0, 1], None),
            ("of_different_lengths", 4, [0, 0], [4, 1, 3]),
            ("of_different_lengths_backward", 5, [1, 1], [2, 5, 3]),
        )
    ),
)
