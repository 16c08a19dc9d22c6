"""brim behind ONNX's own backend interface, judged by ONNX's own runner."""

from __future__ import annotations

import unittest
from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("onnx")

from onnx import helper
from onnx.backend.test import BackendTest

import brim.tools.onnx_backend as backend
from brim.errors import BrimError, InputError, UnsupportedError
from tests.onnx_models import F32, model, node

# onnx's own makers of cases overflow and divide by zero on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

# Random numbers are compared with one generator's; scalars in a sequence break the runner itself.
IMPOSSIBLE = "bernoulli|loop16_seq_none"


def sample(every: int) -> unittest.TestSuite:
    """Every so-manieth test for the CPU; not the large networks, which are `test_real_models`'."""
    cases = BackendTest(backend, __name__).exclude(IMPOSSIBLE).test_cases
    del cases["OnnxBackendRealModelTest"]
    return unittest.TestSuite(list(_cpu_tests(cases))[::every])


def _cpu_tests(cases: dict[str, type[unittest.TestCase]]) -> Iterator[unittest.TestCase]:
    for case in cases.values():
        names = unittest.defaultTestLoader.getTestCaseNames(case)
        yield from (case(name) for name in sorted(names) if name.endswith("_cpu"))


def test_a_sample_of_the_official_suite_passes() -> None:
    result = unittest.TestResult()
    sample(50).run(result)
    assert result.testsRun > 40
    assert result.wasSuccessful(), [*result.failures, *result.errors][:3]
    assert len(result.skipped) < 0.1 * result.testsRun


def test_the_runner_finds_wrong_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: results that are off by a hundredth do not pass."""
    run = backend.BrimRep.run

    def off(self: backend.BrimRep, inputs: object) -> tuple:
        return tuple(y * np.asarray(1.01, y.dtype) for y in run(self, inputs))

    monkeypatch.setattr(backend.BrimRep, "run", off)
    tests = BackendTest(backend, __name__).include("^test_softmax_axis_0_cpu$")
    result = unittest.TestResult()
    unittest.TestSuite(_cpu_tests(tests.test_cases)).run(result)
    assert len(result.failures) == 1


def test_a_model_is_prepared_once_and_run_often() -> None:
    prepared = backend.prepare(
        model([node("Relu", "x", "y")], [("x", F32, ("n",))], [("y", F32, ("n",))])
    )
    for x in (np.array([-1, 2], np.float32), np.array([3], np.float32)):
        expected = np.maximum(x, 0)
        for given in (x, [x], (x,), {"x": x}):
            assert np.array_equal(prepared.run(given)[0], expected)
    with pytest.raises(InputError, match="3 inputs"):
        prepared.run([x, x, x])


def test_a_node_runs_alone() -> None:
    x = np.array([[1, 5, 2]], np.float32)
    top = helper.make_node("TopK", ["x", "k"], ["values", "places"])
    values, places = backend.run_node(top, [x, np.array([2])])
    assert values.tolist() == [[5, 2]] and places.tolist() == [[1, 2]]
    clip = helper.make_node("Clip", ["x", "", "most"], ["y"])
    assert backend.run_node(clip, [x, np.float32(3)])[0].tolist() == [[1, 3, 2]]
    squeeze = helper.make_node("Squeeze", ["x"], ["y"], axes=[0])
    assert backend.run_node(squeeze, x, opset_version=11)[0].shape == (3,)


def test_refusals_are_what_the_runner_understands() -> None:
    own = helper.make_node("Snake", ["x"], ["y"], domain="local")
    unknown = model([own], [("x", F32, (2,))], [("y", F32, (2,))])
    assert not backend.is_compatible(unknown)
    with pytest.raises(unittest.SkipTest) as raised:
        backend.prepare(unknown)
    assert isinstance(raised.value, UnsupportedError)
    assert "local.Snake" in raised.value.what


def test_contradictions_are_no_refusals() -> None:
    """A model that makes no sense fails loudly: brim does not call it unsupported."""
    bad = helper.make_node("Reshape", ["x", "shape"], ["y"])
    with pytest.raises(BrimError, match="cannot become") as raised:
        backend.run_node(bad, [np.ones(6, np.float32), np.array([4])])
    assert not isinstance(raised.value, unittest.SkipTest)


def test_only_the_cpu_is_there() -> None:
    relu = model([node("Relu", "x", "y")], [("x", F32, (2,))], [("y", F32, (2,))])
    assert backend.supports_device("CPU") and not backend.supports_device("CUDA")
    assert backend.is_compatible(relu) and not backend.is_compatible(relu, "CUDA")
    with pytest.raises(InputError, match="CUDA"):
        backend.prepare(relu, "CUDA")
