"""Control flow, variables and tables: models of several subgraphs, and state between runs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.extra.tflite_cases.case import Case, Made, several, values
from tests.tflite_models import Graph, Op, Signature, Tensor, constant, op, write

F = "float32"


def cases() -> Iterator[Case]:
    yield from _branches()
    yield from _loops()
    yield from _variables()
    yield from _tables()
    yield from _signatures()


def t(name: str, *shape: int, dtype: str = F) -> Tensor:
    return Tensor(name, dtype, shape)


def _drawn(name: str, *shape: int) -> np.ndarray:
    array: np.ndarray = values(name, F, shape)
    return array


def _branch(kind: str, *shape: int) -> Graph:
    tensors = [t("a", *shape), t("b", *shape), t("c", *shape)]
    return Graph(tensors, [op(kind, "a b", "c")], "a b", "c", kind.lower())


def _branches() -> Iterator[Case]:
    pair = [t("x", 2, 3), t("z", 2, 3), t("y", 2, 3)]
    step = op("IF", "p x z", "y", thenSubgraphIndex=1, elseSubgraphIndex=2)
    given = {"x": _drawn("x", 2, 3), "z": _drawn("z", 2, 3)}
    for predicate in (True, False):
        main = Graph([t("p", dtype="bool"), *pair], [step], "p x z", "y")
        feeds = [{"p": np.array(predicate), **given}]
        graphs = [main, _branch("ADD", 2, 3), _branch("MUL", 2, 3)]
        yield several("IF", f"fed {predicate}", graphs, feeds)
        main = Graph([constant("p", np.array(predicate)), *pair], [step], "x z", "y")
        yield several("IF", f"constant {predicate}", [main, *graphs[1:]], [given])
    main = Graph([t("p", 1, dtype="bool"), *pair], [step], "p x z", "y")
    graphs = [main, _branch("ADD", 2, 3), _branch("MUL", 2, 3)]
    yield several(
        "IF",
        "changes between runs",
        graphs,
        [{"p": np.array([p]), **given} for p in (True, False, True)],
    )
    # Both branches give two results, one of them their input itself.
    swap = Graph([t("a", 2, 3), t("b", 2, 3)], [], "a b", "b a", "swap")
    tensors = [t("a", 2, 3), t("b", 2, 3), t("c", 2, 3)]
    other = Graph(tensors, [op("SUB", "a b", "c")], "a b", "c a", "subtract")
    two = op("IF", "p x z", "y w", thenSubgraphIndex=1, elseSubgraphIndex=2)
    main = Graph([t("p", dtype="bool"), *pair, t("w", 2, 3)], [two], "p x z", "y w")
    for predicate in (True, False):
        yield several(
            "IF",
            f"two results {predicate}",
            [main, swap, other],
            [{"p": np.array(predicate), **given}],
        )
    # An If within an If.
    inner = Graph(
        [constant("q", np.array(False)), t("a", 2, 3), t("b", 2, 3), t("c", 2, 3)],
        [op("IF", "q a b", "c", thenSubgraphIndex=2, elseSubgraphIndex=3)],
        "a b", "c", "inner",
    )  # fmt: skip
    main = Graph(
        [t("p", dtype="bool"), *pair],
        [op("IF", "p x z", "y", thenSubgraphIndex=1, elseSubgraphIndex=2)],
        "p x z",
        "y",
    )
    graphs = [main, inner, _branch("ADD", 2, 3), _branch("MUL", 2, 3)]
    yield several("IF", "nested", graphs, [{"p": np.array(True), **given}])
    case = op("STABLEHLO_CASE", "i x z", "y", branchSubgraphIndices=[1, 2, 3])
    main = Graph([t("i", dtype="int32"), *pair], [case], "i x z", "y")
    graphs = [main, *(_branch(kind, 2, 3) for kind in ("ADD", "MUL", "SUB"))]
    for index in (0, 1, 2, -1, 7):
        yield several(
            "STABLEHLO_CASE", f"branch {index}", graphs, [{"i": np.array(index, np.int32), **given}]
        )


def _loops() -> Iterator[Case]:
    def condition(limit: int, *shape: int) -> Graph:
        tensors = [
            t("i", dtype="int32"),
            t("s", *shape),
            constant("n", np.int32(limit)),
            t("go", dtype="bool"),
        ]
        return Graph(tensors, [op("LESS", "i n", "go")], "i s", "go", "condition")

    body = Graph(
        [t("i", dtype="int32"), t("s", 2, 3), constant("one", np.int32(1)),
         constant("half", np.float32(0.5)), t("j", dtype="int32"), t("h", 2, 3), t("r", 2, 3)],
        [op("ADD", "i one", "j"), op("MUL", "s half", "h"), op("ADD", "h half", "r")],
        "i s", "j r", "body",
    )  # fmt: skip
    loop = op("WHILE", "i x", "n y", condSubgraphIndex=1, bodySubgraphIndex=2)
    main = Graph(
        [t("i", dtype="int32"), t("x", 2, 3), t("n", dtype="int32"), t("y", 2, 3)],
        [loop],
        "i x",
        "n y",
    )
    for start in (0, 4, 9):
        feed = {"i": np.array(start, np.int32), "x": _drawn("x", 2, 3)}
        yield several("WHILE", f"from {start} to 5", [main, condition(5, 2, 3), body], [feed, feed])
    # Each turn makes the tensor longer.
    body = Graph(
        [t("i", dtype="int32"), Tensor("s", F, (1, 2), dims=(-1, 2)), constant("one", np.int32(1)),
         t("j", dtype="int32"), Tensor("r", F, (1, 2), dims=(-1, 2))],
        [op("ADD", "i one", "j"), op("CONCATENATION", "s s", "r", axis=0)],
        "i s", "j r", "body",
    )  # fmt: skip
    main = Graph(
        [t("i", dtype="int32"), t("x", 1, 2), t("n", dtype="int32"),
         Tensor("y", F, (1, 2), dims=(-1, 2))],
        [loop], "i x", "n y",
    )  # fmt: skip
    grown = Graph(
        [t("i", dtype="int32"), Tensor("s", F, (1, 2), dims=(-1, 2)), constant("n", np.int32(3)),
         t("go", dtype="bool")],
        [op("LESS", "i n", "go")], "i s", "go", "condition",
    )  # fmt: skip
    feed = {"i": np.array(0, np.int32), "x": _drawn("x", 1, 2)}
    yield several("WHILE", "grows", [main, grown, body], [feed])
    # A row of a matrix in each turn, as recurrent layers are written.
    body = Graph(
        [t("i", dtype="int32"), t("s", 3), t("m", 4, 3), constant("one", np.int32(1)), t("row", 3),
         t("j", dtype="int32"), t("h", 3), t("r", 3)],
        [op("GATHER", "m i", "row", axis=0), op("ADD", "s row", "h"), op("TANH", "h", "r"),
         op("ADD", "i one", "j")],
        "i s m", "j r m", "body",
    )  # fmt: skip
    test = Graph(
        [t("i", dtype="int32"), t("s", 3), t("m", 4, 3), constant("n", np.int32(4)),
         t("go", dtype="bool")],
        [op("LESS", "i n", "go")], "i s m", "go", "condition",
    )  # fmt: skip
    rows = op("WHILE", "zero x m", "n y k", condSubgraphIndex=1, bodySubgraphIndex=2)
    main = Graph(
        [constant("zero", np.int32(0)), t("x", 3), t("m", 4, 3), t("n", dtype="int32"), t("y", 3),
         t("k", 4, 3)],
        [rows], "x m", "y",
    )  # fmt: skip
    yield several(
        "WHILE", "rows", [main, test, body], [{"x": _drawn("x", 3), "m": _drawn("m", 4, 3)}]
    )


def _variables() -> Iterator[Case]:
    handle = Op("VAR_HANDLE", "", "h", {"container": "", "sharedName": "total"})
    resource = Tensor("h", "resource", ())
    once = Graph(
        [resource, constant("zero", np.zeros((2, 3), np.float32))],
        [handle, op("ASSIGN_VARIABLE", "h zero", "")],
        "", "", "initialise",
    )  # fmt: skip
    tensors = [resource, t("x", 2, 3), t("old", 2, 3), t("y", 2, 3)]
    steps = [
        op("CALL_ONCE", "", "", initSubgraphIndex=1),
        handle,
        op("READ_VARIABLE", "h", "old"),
        op("ADD", "old x", "y"),
        op("ASSIGN_VARIABLE", "h y", ""),
    ]
    main = Graph(tensors, steps, "x", "y")
    feeds = [{"x": _drawn(f"x{i}", 2, 3)} for i in range(3)]
    for kind in ("CALL_ONCE", "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE"):
        yield several(kind, "a running sum", [main, once], feeds)
    # A ring of the last three rows, of int8, as streaming models keep it; read again at the end.
    ring = Op("VAR_HANDLE", "", "h", {"container": "", "sharedName": "ring"})
    once = Graph(
        [resource, constant("start", np.full((1, 3, 2), -7, np.int8))],
        [ring, op("ASSIGN_VARIABLE", "h start", "")],
        "", "", "initialise",
    )  # fmt: skip
    tensors = [
        resource, t("x", 1, 1, 2, dtype="int8"), t("old", 1, 3, 2, dtype="int8"),
        t("all", 1, 4, 2, dtype="int8"), t("new", 1, 3, 2, dtype="int8"),
        t("y", 1, 3, 2, dtype="int8"), constant("b", np.array([0, 1, 0], np.int32)),
        constant("e", np.array([0, 4, 0], np.int32)), constant("s", np.ones(3, np.int32)),
    ]  # fmt: skip
    steps = [
        op("CALL_ONCE", "", "", initSubgraphIndex=1),
        ring,
        op("READ_VARIABLE", "h", "old"),
        op("CONCATENATION", "old x", "all", axis=1),
        op("STRIDED_SLICE", "all b e s", "new", beginMask=5, endMask=5),
        op("ASSIGN_VARIABLE", "h new", ""),
        op("READ_VARIABLE", "h", "y"),
    ]
    feeds = [{"x": values(f"r{i}", "int8", (1, 1, 2), -128, 127)} for i in range(5)]
    yield several("ASSIGN_VARIABLE", "a ring", [Graph(tensors, steps, "x", "y"), once], feeds)
    # Two variables, one assigned twice in a run and read between.
    a, b = (Op("VAR_HANDLE", "", n, {"container": "", "sharedName": n}) for n in "ab")
    once = Graph(
        [Tensor("a", "resource", ()), Tensor("b", "resource", ()),
         constant("zero", np.zeros(3, np.float32))],
        [a, b, op("ASSIGN_VARIABLE", "a zero", ""), op("ASSIGN_VARIABLE", "b zero", "")],
        "", "", "initialise",
    )  # fmt: skip
    tensors = [
        Tensor("a", "resource", ()), Tensor("b", "resource", ()), t("x", 3), t("o", 3), t("p", 3),
        t("q", 3), t("r", 3), t("y", 3),
    ]  # fmt: skip
    steps = [
        op("CALL_ONCE", "", "", initSubgraphIndex=1), a, b,
        op("READ_VARIABLE", "a", "o"), op("ADD", "o x", "p"), op("ASSIGN_VARIABLE", "a p", ""),
        op("READ_VARIABLE", "b", "q"), op("ASSIGN_VARIABLE", "b p", ""),
        op("READ_VARIABLE", "a", "r"), op("SUB", "r q", "y"), op("ASSIGN_VARIABLE", "a y", ""),
    ]  # fmt: skip
    feeds = [{"x": _drawn(f"v{i}", 3)} for i in range(4)]
    yield several("READ_VARIABLE", "two variables", [Graph(tensors, steps, "x", "y"), once], feeds)


def _tables() -> Iterator[Case]:
    pairs = {
        "int64 to string": (np.array([5, 7, 9]), np.array([b"five", b"seven", b"nine"], object)),
        "string to int64": (np.array([b"five", b"seven", b"nine"], object), np.array([5, 7, 9])),
    }
    wanted = {
        "int64 to string": np.array([9, 4, 5, 9]),
        "string to int64": np.array([b"nine", b"four", b"five", b"nine"], object),
    }
    for name, (keys, found) in pairs.items():
        key, value = ("string" if a.dtype == object else "int64" for a in (keys, found))
        default = np.array([b"none"], object) if value == "string" else np.array([-1])
        options = {"tableId": 3, "keyDtype": key, "valueDtype": value}
        table = Op("HASHTABLE", "", "h", options)
        resource = Tensor("h", "resource", (1,))
        once = Graph(
            [resource, constant("k", keys), constant("v", found)],
            [table, op("HASHTABLE_IMPORT", "h k v", "")],
            "", "", "initialise",
        )  # fmt: skip
        tensors = [
            resource, t("x", 4, dtype=key), constant("d", default), t("y", 4, dtype=value),
            t("n", 1, dtype="int64"),
        ]  # fmt: skip
        steps = [
            op("CALL_ONCE", "", "", initSubgraphIndex=1), table,
            op("HASHTABLE_FIND", "h x d", "y"), op("HASHTABLE_SIZE", "h", "n"),
        ]  # fmt: skip
        feed = {"x": wanted[name]}
        for kind in ("HASHTABLE", "HASHTABLE_FIND", "HASHTABLE_IMPORT", "HASHTABLE_SIZE"):
            yield several(kind, name, [Graph(tensors, steps, "x", "y n"), once], [feed, feed])


def _signatures() -> Iterator[Case]:
    main = Graph([t("x", 2), t("y", 2)], [op("NEG", "x", "y")], "x", "y")

    def make() -> Made:
        signature = Signature("serving_default", {"input": "x"}, {"output": "y"})
        model = write(main, signatures=[signature], metadata={"min_runtime_version": b"1.5.0"})
        return Made(model, [{"x": _drawn("x", 2)}])

    yield Case("NEG", "with a signature and metadata", make)


CASES = list(cases())
