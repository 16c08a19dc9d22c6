"""Each real model: its check holds with onnxruntime, and brim equals onnxruntime and passes it.

What the models are, their inputs and checks are in `real_models.py`.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import brim
from brim import zoo
from brim.errors import DownloadError
from brim.frontends.onnx.importer import import_model
from brim.tools.convert import convert_file
from brim.tools.demo import run_demo
from brim.tools.in_double import evaluate_in_double
from tests.extra.real_models import CASES, PAGE_TEXT, Case, Engine, Feed, read_page

onnxruntime = pytest.importorskip("onnxruntime")

pytestmark = pytest.mark.peer
TOLERANCE = 1e-4  # relative to the largest number of the tensor
# Takes logarithms of powers near zero: onnxruntime with and without its own optimisations differs
# from itself by 9e-4 on a tone, so f32 cannot agree to 1e-4; f64 says who is nearer.
ILL_CONDITIONED = {"basic-pitch"}
PARAMS = [
    pytest.param(case, id=case.name, marks=[pytest.mark.network] if case.network else [])
    for case in CASES
]


def their_engine(path: Path) -> Engine:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    options.log_severity_level = 3  # these old files list every weight as an input, too
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda feed: dict(zip(names, session.run(names, feed), strict=True))


def our_engine(path: Path) -> Engine:
    return brim.load(path).run


def relative_error(got: np.ndarray, expected: np.ndarray) -> float:
    assert got.shape == expected.shape
    assert got.dtype == expected.dtype
    assert np.isfinite(got).all()
    largest = float(np.abs(expected).max())
    return float(np.abs(got - expected).max()) / largest if largest else float(np.abs(got).max())


def assert_nearer_to_the_truth(path: Path, feed: Feed, got: Feed, expected: Feed) -> None:
    """Against the same graph in f64, brim's error is no larger than onnxruntime's.

    As the root of the mean square: the largest error is one amplified number, a matter of luck.
    """
    graph = import_model(path, {name: x.shape for name, x in feed.items()})
    for name, truth in evaluate_in_double(graph, feed).items():
        ours, theirs = (np.sqrt(np.mean((x[name] - truth) ** 2)) for x in (got, expected))
        assert ours <= theirs, (name, ours, theirs)


@cache
def offline() -> str:
    """Why packages cannot be downloaded here, or nothing."""
    try:
        zoo.get("page")
    except DownloadError as error:
        return str(error)
    return ""


@pytest.fixture(autouse=True)
def _needs_registry(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("network") and offline():
        pytest.skip(offline())


@pytest.mark.parametrize("case", PARAMS)
def test_the_check_holds_with_onnxruntime(case: Case, tmp_path: Path) -> None:
    engine = their_engine(case.model(tmp_path))
    assert case.feeds()
    case.check(engine)


@pytest.mark.parametrize("case", PARAMS)
def test_the_check_can_fail(case: Case, tmp_path: Path) -> None:
    engine = their_engine(case.model(tmp_path))

    def broken(feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: np.abs(np.roll(x, 5, axis=-1)) * 0.6 for name, x in engine(feed).items()}

    if case.name == "light_densenet121":
        pytest.skip("its outputs mean nothing: constant weights and no softmax")
    with pytest.raises((AssertionError, ValueError)):
        case.check(broken)


@pytest.mark.parametrize("case", PARAMS)
def test_brim_equals_onnxruntime(case: Case, tmp_path: Path) -> None:
    path = case.model(tmp_path)
    ours, theirs = our_engine(path), their_engine(path)
    for feed in case.feeds():
        expected, got = theirs(feed), ours(feed)
        assert list(got) == list(expected)
        if case.name in ILL_CONDITIONED:
            assert_nearer_to_the_truth(path, feed, got, expected)
            continue
        errors = {name: relative_error(got[name], expected[name]) for name in expected}
        assert max(errors.values()) <= TOLERANCE, (errors, {n: x.shape for n, x in feed.items()})
    case.check(ours)


@pytest.mark.network
@pytest.mark.parametrize("make", [their_engine, our_engine])
def test_the_page_is_read(make, tmp_path: Path) -> None:
    @cache
    def engine(name: str) -> Engine:
        (case,) = (case for case in CASES if case.name == name)
        return make(case.model(tmp_path))

    networks = [engine(f"ppocr-{part}") for part in ("detect", "recognise", "orient")]
    for turns in range(4):
        assert read_page(*networks, turns) == list(PAGE_TEXT)


@pytest.mark.network
def test_the_demo_reads_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_demo(tmp_path, threads=2)
    shown = capsys.readouterr().out
    for line in PAGE_TEXT:
        assert line in shown
    for network in ("detect", "orient", "recognise"):
        assert network in shown
    assert "Face" in shown and "468" in shown and "Pose" in shown and "33" in shown
    with Image.open(tmp_path / "page_read.png") as picture:
        assert np.ptp(np.asarray(picture)) == 255
    with Image.open(zoo.get("astronaut")) as photo:
        plain = np.asarray(photo.convert("RGB"), int)
    for name, (left, top, right, bottom) in {
        "face_found.png": (175, 65, 275, 180),
        "pose_found.png": (60, 90, 320, 512),
    }.items():
        with Image.open(tmp_path / name) as picture:
            drawn = np.abs(np.asarray(picture.convert("RGB"), int) - plain).sum(2) > 60
        inside = np.zeros_like(drawn)
        inside[top:bottom, left:right] = True
        assert drawn[inside].mean() > 0.01 and not drawn[~inside].any()


@pytest.mark.network
def test_rounding_that_a_model_amplifies_is_judged_in_double(tmp_path: Path) -> None:
    """magika on noise: onnxruntime and brim differ by 1e-2, and both are as far from f64."""
    feeds = {"bytes": np.random.default_rng(0).integers(0, 2, (1, 2048)).astype(np.int32)}
    made = convert_file(zoo.get("magika"), tmp_path / "magika.brim", lambda types: feeds)
    assert made.amplified and max(made.differences.values()) > TOLERANCE
