"""Each builtin operator of TFLite, in each element type and way of its kernel, equals LiteRT.

All cases run through the interpreter of the imported graph, a fixed sample of them compiled; the
slow tests compile all.
"""

from __future__ import annotations

import zlib

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")
pytest.importorskip("tflite")

from ai_edge_litert import schema_py_generated as schema

import brim
from brim.errors import UnsupportedError
from brim.frontends.tflite import import_model, read
from brim.graph import evaluate
from tests.extra.tflite_cases import CASES, NO_KERNEL, Case, Made
from tests.tflite_models import (
    Feed,
    Graph,
    Tensor,
    constant,
    op,
    quantized_outputs,
    run_litert,
    write,
)

pytestmark = pytest.mark.peer("ai_edge_litert")
FLOAT = 1e-5  # relative to the largest number of the tensor
SAMPLED = 40  # one case in so many is compiled in every run
PARAMS = [pytest.param(case, id=f"{case.kind} {case.name}") for case in CASES]


def sampled(case: Case) -> bool:
    return zlib.crc32(f"{case.kind} {case.name}".encode()) % SAMPLED == 0


def ours(array: np.ndarray) -> np.ndarray:
    """LiteRT has bytes where brim has text."""
    if array.dtype != object:
        return array
    texts = [text.decode() for text in array.reshape(-1)]
    return np.array(texts, object).reshape(array.shape)


def interpret(made: Made) -> list[dict[str, np.ndarray]]:
    """The graph's outputs, run after run, with the state that the runs leave."""
    first = made.feeds[0]
    names = list(read(made.model).inputs)
    shapes = {name: x.shape for name, x in zip(names, first.values(), strict=True)}
    graph = import_model(made.model, shapes)
    state = dict(graph.state)
    results = []
    for feed in made.feeds:
        given = dict(zip(names, map(ours, feed.values())))
        found = evaluate(graph, given | state)
        state = {name: found.pop(name) for name in state}
        results.append(found)
    return results


def compiled(made: Made) -> list[dict[str, np.ndarray]]:
    model = brim.load(made.model)
    names = list(model.inputs)
    return [model.run(dict(zip(names, map(ours, feed.values())))) for feed in made.feeds]


def assert_equal(got: np.ndarray, expected: np.ndarray, quantum: bool) -> None:
    """quantum: integers may differ by one."""
    expected = ours(expected)
    if got.dtype.name == "int4":  # LiteRT has int8 for it
        got = got.astype(np.int8)
    assert got.shape == expected.shape
    assert got.dtype == expected.dtype
    if expected.dtype.kind in "fV" or "float" in expected.dtype.name:
        step = FLOAT
        if expected.dtype.itemsize < 4:  # a unit of the last place
            step = float(np.spacing(expected.dtype.type(1)))
        wanted, found = expected.astype(np.float64), got.astype(np.float64)
        special = ~np.isfinite(wanted)
        np.testing.assert_array_equal(found[special], wanted[special])
        wanted, found = wanted[~special], found[~special]
        largest = np.abs(wanted).max(initial=0)
        assert np.abs(found - wanted).max(initial=0) <= step * largest
    elif quantum:
        assert np.abs(got.astype(np.int64) - expected.astype(np.int64)).max(initial=0) <= 1
    else:
        np.testing.assert_array_equal(got, expected)


def assert_alike(got: np.ndarray, expected: np.ndarray) -> None:
    """Random numbers of one distribution: their moments agree within five standard errors."""
    assert got.shape == expected.shape
    assert got.dtype == expected.dtype
    spread = expected.std() / np.sqrt(expected.size)
    assert abs(got.mean() - expected.mean()) <= 5 * np.sqrt(2) * spread
    assert got.std() == pytest.approx(expected.std(), rel=0.1)
    assert len(np.unique(got)) == pytest.approx(len(np.unique(expected)), rel=0.01)


def check(case: Case, results: list[dict[str, np.ndarray]], made: Made) -> None:
    wanted: list[Feed] = list(case.answers(made))
    quanta = quantized_outputs(made.model)
    assert len(results) == len(wanted)
    for found, expected in zip(results, wanted):
        assert len(found) == len(expected)
        for array, (name, theirs) in zip(found.values(), expected.items()):
            if case.judge == "random":
                assert_alike(array, theirs)
            else:
                assert_equal(array, theirs, name in quanta)


@pytest.mark.parametrize("case", PARAMS)
def test_the_interpreter_equals_litert(case: Case) -> None:
    made = case.make()
    check(case, interpret(made), made)


@pytest.mark.parametrize("case", [p for p in PARAMS if sampled(p.values[0])])
def test_compiled_code_equals_litert(case: Case) -> None:
    made = case.make()
    check(case, compiled(made), made)


@pytest.mark.slow
@pytest.mark.parametrize("case", [p for p in PARAMS if not sampled(p.values[0])])
def test_all_compiled_code_equals_litert(case: Case) -> None:
    made = case.make()
    check(case, compiled(made), made)


@pytest.mark.parametrize("kind", ["REAL", "RFFT2D"])
def test_complex_ports_are_refused(kind: str) -> None:
    """brim's numbers are real: complex ones live between operators."""
    complex_, real = Tensor("c", "complex64", (4, 5)), Tensor("x", "float32", (4, 8))
    size = constant("n", np.array([4, 8], np.int32))
    part = Tensor("y", "float32", (4, 5))
    if kind == "REAL":
        graph = Graph([complex_, part], [op("REAL", "c", "y")], "c", "y")
    else:
        graph = Graph([real, size, complex_], [op("RFFT2D", "x n", "c")], "x", "c")
    with pytest.raises(UnsupportedError, match="'c'.*COMPLEX64"):
        import_model(write(graph))


# ------------------------------------------------------------------ the cases themselves


def test_each_builtin_operator_has_cases_or_no_kernel() -> None:
    known = {name for name in vars(schema.BuiltinOperator) if not name.startswith("_")}
    covered = {case.kind for case in CASES}
    assert covered | set(NO_KERNEL) == known
    assert covered & set(NO_KERNEL) == set()


def test_names_of_cases_are_different() -> None:
    assert len({(case.kind, case.name) for case in CASES}) == len(CASES)


def test_a_case_is_the_same_each_time() -> None:
    for case in CASES[::200]:
        first, second = case.make(), case.make()
        assert first.model == second.model
        for left, right in zip(first.feeds, second.feeds):
            for name, array in left.items():
                np.testing.assert_array_equal(array, right[name])


@pytest.mark.slow
@pytest.mark.parametrize("case", [p for p in PARAMS if p.values[0].judge == "equal"])
def test_litert_gives_one_answer(case: Case) -> None:
    """Some of its kernels read memory that nobody wrote; those are no cases."""
    made = case.make()
    for _ in range(3):
        kept = [np.full(1 << n, 0x55, np.uint8) for n in range(4, 20)]  # other memory each time
        for first, second in zip(case.answers(made), case.answers(made)):
            for name, array in first.items():
                np.testing.assert_array_equal(second[name], array)
        del kept


@pytest.mark.parametrize("case", PARAMS[::97])
def test_wrong_numbers_are_seen(case: Case) -> None:
    made = case.make()
    answers = case.answers(made)
    wrong: list[dict[str, np.ndarray]] = [dict(answer) for answer in answers]
    for answer in wrong:
        for name, array in answer.items():
            answer[name] = spoiled(ours(array))
    if all(array.size == 0 for answer in answers for array in answer.values()):
        pytest.skip("nothing to spoil in empty results")
    with pytest.raises(AssertionError):
        check(case, wrong, made)


def spoiled(array: np.ndarray) -> np.ndarray:
    """One element of each array is another one."""
    if not array.size:
        return array
    made = array.copy()
    place = np.unravel_index(array.size // 2, array.shape)
    value = made[place]
    match array.dtype.kind:
        case "b":
            made[place] = not value
        case "O":
            made[place] = f"{value}!"
        case "i" | "u":
            made[place] = value - 2 if value > 2 else value + 2
        case _:
            made[place] = 0 if not np.isfinite(value) else value + np.abs(array).max() * 0.5 + 1
    return made


def test_litert_has_no_kernel_for_those_listed() -> None:
    for kind in NO_KERNEL:
        if kind in ("PLACEHOLDER_FOR_GREATER_OP_CODES", "DELEGATE"):
            continue
        tensors = [Tensor("x", "float32", (1,)), Tensor("y", "float32", (1,))]
        model = write(Graph(tensors, [op(kind, "x", "y")], "x", "y"))
        with pytest.raises((ValueError, RuntimeError)):
            run_litert(model, [{"x": np.zeros(1, np.float32)}])
