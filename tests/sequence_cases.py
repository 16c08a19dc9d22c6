"""Models of sequences and optionals as text, with inputs; see `control_cases`, which it adds to."""

from __future__ import annotations

from tests.control_cases import RUNTIME, ControlCase, f32, flag, i64, ramp, text

SEQUENCE_CASES = (
    ControlCase(
        "sequence_operators_on_an_input",
        """g (seq(float[M]) s, float[2] x, int64 i) => (seq(float[M]) t, seq(float[M]) u,
            float[K] y, float[L] last, int64 n) {
          t = SequenceInsert (s, x, i)
          u = SequenceErase (t, i)
          y = SequenceAt (t, i)
          minus = Constant <value = int64 {-1}> ()
          last = SequenceAt (t, minus)
          n = SequenceLength (u)
        }""",
        tuple({"s": [f32(1, 2, 3), f32(4)], "x": f32(8, 9), "i": i64(i)} for i in (0, 1, -1, -2)),
    ),
    ControlCase(
        "sequence_of_known_parts_at_a_position_from_outside",
        """g (float[2] x, float[2] z, int64 i) => (float[2] y, seq(float[2]) t, seq(float[2]) u) {
          s = SequenceConstruct (x, z, x)
          y = SequenceAt (s, i)
          t = SequenceErase (s, i)
          u = SequenceInsert (s, z, i)
        }""",
        tuple({"x": f32(1, 2), "z": f32(3, 4), "i": i64(i)} for i in (0, 1, 2, -1, -3)),
    ),
    ControlCase(
        "sequence_of_parts_of_different_shapes_at_a_position_from_outside",
        """g (float[2] x, float[3] z, int64 i) => (float[M] y) {
          s = SequenceConstruct (x, z)
          part = SequenceAt (s, i)
          y = Neg (part)
        }""",
        tuple({"x": f32(1, 2), "z": f32(3, 4, 5), "i": i64(i)} for i in (0, -1)),
    ),
    ControlCase(
        "sequence_passed_on",
        """g (seq(float[M]) s) => (seq(float[M]) t, int64 n) {
          t = Identity (s)
          n = SequenceLength (s)
        }""",
        ({"s": [f32(1, 2), f32(3)]}, {"s": []}),
    ),
    *(
        ControlCase(
            f"split_{name}",
            f"""g (float[5,3] x{port}) => (seq(float[M,N]) s, float[K] y, int64 n) {{
              s = SplitToSequence <axis = {axis}{keep}> (x{given})
              n = SequenceLength (s)
              whole = ConcatFromSequence <axis = {join}, new_axis = {new}> (s)
              minus = Constant <value = int64[1] {{-1}}> ()
              y = Reshape (whole, minus)
            }}""",
            tuple({"x": ramp(5, 3), **more} for more in feeds),
        )
        for name, axis, keep, port, given, join, new, feeds in (
            ("into_ones", 0, "", "", "", 0, 0, ({},)),
            ("into_ones_without_the_axis", 1, ", keepdims = 0", "", "", -1, 1, ({},)),
            ("into_a_size", 0, "", ", int64 n2", ", n2", 0, 0, ({"n2": i64(2)}, {"n2": i64(9)})),
            (
                "into_sizes",
                -1,
                "",
                ", int64[2] n2",
                ", n2",
                -1,
                0,
                ({"n2": i64([1, 2])}, {"n2": i64([3, 0])}),
            ),
        )
    ),
    ControlCase(
        "split_of_a_shape_known_at_run_time",
        """g (float[6] x) => (seq(float[M]) s, float[K,1] y) {
          zero = Constant <value = float {0.0}> ()
          positive = Greater (x, zero)
          kept = Compress <axis = 0> (x, positive)
          s = SplitToSequence (kept)
          y = ConcatFromSequence <axis = 0, new_axis = 1> (s)
        }""",
        ({"x": ramp(6)}, {"x": ramp(6) - 2}),
    ),
    ControlCase(
        "loop_that_fills_a_sequence",
        """g (float[2] x, int64 n) => (seq(float[M]) s, float[K] y) {
          yes = Constant <value = bool {1}> ()
          empty = SequenceEmpty <dtype = 1> ()
          s = Loop <body = b (int64 i, bool go, seq(float[M]) t) => (bool again, seq(float[M]) u) {
            axis = Constant <value = int64[1] {0}> ()
            zero = Constant <value = int64 {0}> ()
            one = Constant <value = int64 {1}> ()
            end = Add (i, one)
            ends = Unsqueeze (end, axis)
            numbers = Range (zero, end, one)
            row = Cast <to = 1> (numbers)
            u = SequenceInsert (t, row)
            again = Identity (go)
          }> (n, yes, empty)
          with = SequenceInsert (s, x)
          y = ConcatFromSequence <axis = 0> (with)
        }""",
        tuple({"x": f32(1, 2), "n": i64(n)} for n in (0, 1, 4)),
    ),
    ControlCase(
        "loop_of_known_length_that_fills_a_sequence",
        """g (float[2] x) => (seq(float[M]) s, float[K] y) {
          yes = Constant <value = bool {1}> ()
          n = Constant <value = int64 {4}> ()
          empty = SequenceEmpty <dtype = 1> ()
          s = Loop <body = b (int64 i, bool go, seq(float[M]) t) => (bool again, seq(float[M]) u) {
            number = Cast <to = 1> (i)
            row = Mul (x, number)
            u = SequenceInsert (t, row)
            again = Identity (go)
          }> (n, yes, empty)
          y = ConcatFromSequence <axis = 0> (s)
        }""",
        ({"x": f32(1, 2)},),
    ),
    ControlCase(
        "loop_that_carries_a_sequence_of_one_length",
        """g (float[2] x, float[3] z, int64 n) => (seq(float[M]) s) {
          yes = Constant <value = bool {1}> ()
          both = SequenceConstruct (x, z)
          s = Loop <body = b (int64 i, bool go, seq(float[M]) t) => (bool again, seq(float[M]) u) {
            zero = Constant <value = int64 {0}> ()
            one = Constant <value = int64 {1}> ()
            first = SequenceAt (t, zero)
            second = SequenceAt (t, one)
            double = Add (first, first)
            minus = Neg (second)
            u = SequenceConstruct (double, minus)
            again = Identity (go)
          }> (n, yes, both)
        }""",
        tuple({"x": f32(1, 2), "z": f32(3, 4, 5), "n": i64(n)} for n in (0, 3)),
    ),
    ControlCase(
        "loop_over_the_parts_of_an_input",
        """g (seq(float[M]) s) => (float[K] sums, float total) {
          yes = Constant <value = bool {1}> ()
          start = Constant <value = float {0.0}> ()
          n = SequenceLength (s)
          total, sums = Loop <body = b (int64 i, bool go, float sum)
              => (bool again, float more, float row) {
            part = SequenceAt (s, i)
            row = ReduceSum <keepdims = 0> (part)
            more = Add (sum, row)
            again = Identity (go)
          }> (n, yes, start)
        }""",
        ({"s": [f32(1, 2), f32(3), f32(4, 5, 6)]}, {"s": []}),
        peers=RUNTIME,
    ),
    ControlCase(
        "if_on_the_length_of_a_sequence",
        """g (seq(float[M]) s, float[2] x) => (seq(float[M]) t) {
          n = SequenceLength (s)
          two = Constant <value = int64 {2}> ()
          short = Less (n, two)
          t = If (short) <
            then_branch = a () => (seq(float[M]) u) { u = SequenceInsert (s, x) },
            else_branch = b () => (seq(float[M]) v) { v = SequenceErase (s) }
          >
        }""",
        tuple({"s": [f32(1, 2)] * n, "x": f32(8, 9)} for n in (0, 1, 2, 3)),
    ),
    ControlCase(
        "if_that_gives_a_captured_sequence",
        """g (float[2] x, float[3] z, bool c) => (seq(float[M]) t, int64 n) {
          s = SequenceConstruct (x, z)
          t = If (c) <
            then_branch = a () => (seq(float[M]) u) { u = Identity (s) },
            else_branch = b () => (seq(float[M]) v) { v = SequenceInsert (s, x) }
          >
          n = SequenceLength (t)
        }""",
        tuple({"x": f32(1, 2), "z": f32(3, 4, 5), "c": flag(c)} for c in (True, False)),
    ),
    ControlCase(
        "map_over_an_input",
        """g (seq(float[M]) s, seq(float[M]) r, float[1] x) => (seq(float[M]) t, seq(int64[1]) u) {
          t, u = SequenceMap <body = b (float[M] a, float[M] c, float[1] d)
              => (float[M] sum, int64[1] shape) {
            product = Mul (c, d)
            sum = Add (a, product)
            shape = Shape (sum)
          }> (s, r, x)
        }""",
        (
            {"s": [f32(1, 2), f32([3])], "r": [f32(5, 6), f32([7])], "x": f32([10])},
            {"s": [], "r": [], "x": f32([10])},
        ),
        peers=RUNTIME,
    ),
    ControlCase(
        "map_over_known_parts_with_an_outer_value",
        """g (float[2] x, float[2] z) => (seq(float[M]) t) {
          s = SequenceConstruct (x, z)
          t = SequenceMap <body = b (float[M] a) => (float[M] sum) { sum = Add (a, x) }> (s)
        }""",
        ({"x": f32(1, 2), "z": f32(3, 4)},),
        peers=RUNTIME,
    ),
    ControlCase(
        "sequence_of_texts",
        """g (seq(string[M]) s, string[2] x) => (seq(string[M]) t, string[K] y) {
          t = SequenceInsert (s, x)
          y = ConcatFromSequence <axis = 0> (t)
        }""",
        ({"s": [text("a"), text("b", "c")], "x": text("d", "e")},),
        peers=RUNTIME,
    ),
    # ------------------------------------------------------------------ optionals
    ControlCase(
        "optional_input",
        """g (optional(float[2]) o, float[2] x) => (bool has, float[2] y) {
          has = OptionalHasElement (o)
          y = If (has) <
            then_branch = a () => (float[2] u) { v = OptionalGetElement (o) u = Add (v, x) },
            else_branch = b () => (float[2] w) { w = Neg (x) }
          >
        }""",
        ({"o": None, "x": f32(1, 2)}, {"o": f32(3, 4), "x": f32(1, 2)}),
        peers=RUNTIME,
    ),
    ControlCase(
        "optional_sequence_input_and_output",
        """g (optional(seq(float[M])) o, float[2] x) => (optional(seq(float[M])) p, int64 n) {
          has = OptionalHasElement (o)
          s = If (has) <
            then_branch = a () => (seq(float[M]) u) { u = OptionalGetElement (o) },
            else_branch = b () => (seq(float[M]) w) { w = SequenceEmpty () }
          >
          t = SequenceInsert (s, x)
          n = SequenceLength (t)
          p = Optional (t)
        }""",
        ({"o": None, "x": f32(1, 2)}, {"o": [f32([3])], "x": f32(1, 2)}),
        peers=RUNTIME,
    ),
    ControlCase(
        "optional_that_a_condition_fills",
        """g (float[2] x, bool c) => (optional(float[2]) o, bool has) {
          o = If (c) <
            then_branch = a () => (optional(float[2]) u) { u = Optional (x) },
            else_branch = b () => (optional(float[2]) w) { w = Optional <type = float[2]> () }
          >
          has = OptionalHasElement (o)
        }""",
        tuple({"x": f32(1, 2), "c": flag(c)} for c in (True, False)),
        peers=RUNTIME,
    ),
    ControlCase(
        "optional_that_a_loop_fills",
        """g (optional(float[2]) o, float[2] x, int64 n) => (optional(float[2]) p) {
          yes = Constant <value = bool {1}> ()
          p = Loop <body = b (int64 i, bool go, optional(float[2]) q)
              => (bool again, optional(float[2]) r) {
            has = OptionalHasElement (q)
            next = If (has) <
              then_branch = a () => (float[2] u) { v = OptionalGetElement (q) u = Add (v, x) },
              else_branch = b () => (float[2] w) { w = Identity (x) }
            >
            r = Optional (next)
            again = Identity (go)
          }> (n, yes, o)
        }""",
        tuple({"o": o, "x": f32(1, 2), "n": i64(n)} for o in (None, f32(5, 5)) for n in (0, 1, 3)),
        peers=RUNTIME,
    ),
)
