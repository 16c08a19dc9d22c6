"""Reports: complete as text, JSON and page; no name of a model gets to do anything in them."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from brim.compress.contract import doubts, most_harmful, slowest, verdict
from brim.compress.histogram import Histogram
from brim.compress.measure import Speed, Times
from brim.compress.metric import Accuracy
from brim.compress.report import BINS, Layer, Sizes, Stage, distribution
from brim.figures import printable
from brim.pages.plots import columns, interval
from tests.compress_reports import made_up
from tests.html_pages import NASTY, Page

PLAIN = Page(made_up("net", 6).to_html())


@given(st.text(min_size=1))
@settings(max_examples=40)
@example(NASTY[0])
@example(NASTY[1])
@example(NASTY[2])
@example(NASTY[3])
@example(NASTY[4])
@example(NASTY[5])
@example(NASTY[6])
@example(NASTY[7])
@example(NASTY[8])
def test_a_name_is_text_and_nothing_else(name: str) -> None:
    """With any name for all that a model names, the page has the tags and attributes of a plain
    one, the names in their places, and is UTF-8."""
    report = made_up(name, 6)
    page = report.to_html()
    page.encode()
    found = Page(page)
    assert found.tags == PLAIN.tags
    assert found.comments == []
    shown = "".join(found.text)
    assert all(printable(layer.name) in shown for layer in report.layers)
    assert printable(name) in found.text


def test_a_page_needs_nothing_else() -> None:
    assert PLAIN.requests() == []
    assert "script" not in {tag for tag, _ in PLAIN.tags}


def test_a_page_is_well_formed() -> None:
    assert PLAIN.left_open() == []


def test_in_a_notebook_the_page_is_a_frame() -> None:
    report = made_up(NASTY[1])
    (first, last) = (Page(report._repr_html_()).tags[i] for i in (0, -1))
    assert (first[0], last[0]) == ("iframe", "/iframe")
    frame = dict(Page(report._repr_html_()).values)
    assert frame["srcdoc"] == report.to_html()
    assert "sandbox" in frame


@pytest.mark.parametrize("name", NASTY)
def test_nothing_controls_a_terminal(name: str) -> None:
    text = str(made_up(name))
    assert all(line.isprintable() for line in text.split("\n"))
    assert printable(name) in text


def test_the_text_says_what_counts(capsys: pytest.CaptureFixture[str]) -> None:
    made_up(layers=3).show()
    text = capsys.readouterr().out
    assert text.splitlines()[:5] == [
        "net.onnx: accepted",
        "  size      14.2 MB of float weights -> artifact of 3.7 MB, 26.1%",
        "  accuracy  top-1 net.onnx 91.3 % -> 90.9 %, "
        "0.4 % lost (0.1 % to 0.8 %, 1200 samples); 1 % allowed",
        "  speed     8 ms -> 4.4 ms, 0.55 of float (0.53 to 0.57); 2 threads of net.onnx processor",
        "  warning   net.onnx is made up",
    ]
    assert "int8" in text and "14.0 MB" in text and "(all else)" in text and " dB" in text


def test_a_long_name_is_shortened_to_its_end() -> None:
    name = f"{'fused;' * 50}model/conv2d"
    report = replace(made_up(), layers=(Layer(name, "CONV_2D", "int8"),))
    (row,) = (line for line in str(report).splitlines() if "CONV_2D" in line)
    assert ";model/conv2d   CONV_2D" in row
    assert len(row) < 120
    assert name in report.to_html() and name in report.to_json()


def test_what_a_step_says_is_shown() -> None:
    assert '\n int8 keep=["net.onnx"]: 1 layer stays in float\n' in str(made_up())


def test_an_error_is_told_without_that_of_float() -> None:
    report = made_up()
    error = Accuracy("squared error", 0.0, 0.003, 0.003, 0.002, 0.004, 64)
    text = str(replace(report, accuracy=error))
    assert "  accuracy  squared error 0.3 % (0.2 % to 0.4 %, 64 samples); 1 % allowed\n" in text


def test_json_has_all_of_it() -> None:
    report = made_up()
    assert json.loads(report.to_json()) == json.loads(json.dumps(asdict(report)))
    endless = replace(report, layers=(Layer("x", "Conv", "int8", sqnr=math.inf),))
    assert json.loads(endless.to_json())["layers"][0]["sqnr"] == "inf"


def test_what_is_not_known_is_no_fault() -> None:
    """Reports without layers, without times, with infinite figures still show."""
    report = made_up()
    speed = Speed(1e-3, 1e-3, 1.0, -math.inf, math.inf, 2, 1, "")
    for changed in (
        replace(report, layers=()),
        replace(report, stages=(), rest_before=None, rest_after=None),
        replace(report, layers=(Layer("x", "Conv", "int8"),)),
        replace(report, layers=(Layer("x", "Conv", "int8", sqnr=math.inf),), speed=speed),
    ):
        assert Page(changed.to_html()).tags[0][0] == "html"
        assert str(changed).startswith("net.onnx: accepted")
        assert json.loads(changed.to_json())


# ---------------------------------------------------------------- the contract


def test_a_loss_is_refused_and_the_worst_layers_are_named() -> None:
    report = made_up(loss=0.011)
    assert not report.accepted
    assert report.verdict.reasons == ("it loses 1.1 % (top-1 net.onnx), 1 % is allowed",)
    losses = {layer.name: layer.loss or 0.0 for layer in report.layers}
    blamed = [losses[each.layer] for each in report.verdict.blame]
    assert blamed == sorted(losses.values(), reverse=True)[:3]
    assert "dB" in report.verdict.blame[0].why


def test_a_step_is_to_blame_if_it_lost_most() -> None:
    report = made_up(loss=0.04)
    stages = (
        Stage("", 100, 1, 0.0),
        Stage("prune sparsity=0.9", 10, 1, 0.03),
        Stage("int8", 3, 1, 0.04),
    )
    found = verdict(report.accuracy, report.speed, report.layers, stages, 0.01)
    assert found.reasons[1] == "3 % of that is lost by the step: prune sparsity=0.9"
    assert found.blame == ()
    swapped = (stages[0], replace(stages[2], loss=0.01), replace(stages[1], loss=0.04))
    found = verdict(report.accuracy, report.speed, report.layers, swapped, 0.01)
    assert len(found.reasons) == 1
    assert len(found.blame) == 3


def test_as_much_as_is_allowed_is_accepted() -> None:
    report = made_up(loss=0.01, max_loss=0.01)
    assert report.accepted
    assert report.verdict.blame == ()
    assert "1200 samples do not prove it: the loss may be up to 1.4 %" in report.warnings[0]


def test_a_loss_that_is_no_number_is_refused() -> None:
    assert not made_up(loss=math.nan).accepted


def test_slower_is_refused_only_beyond_doubt() -> None:
    report = made_up(ratio=1.2)
    assert report.verdict.reasons == ("it takes 1.20 times as long as in float (1.18 to 1.22)",)
    slower = {
        layer.name
        for layer in report.layers
        if layer.before and layer.after and layer.after.measured > layer.before.measured
    }
    assert {each.layer for each in report.verdict.blame} <= slower
    assert slower
    doubtful = made_up(ratio=1.005)
    assert doubtful.accepted
    assert any("neither faster nor slower" in warning for warning in doubtful.warnings)


def test_a_file_that_is_not_smaller_is_told_of() -> None:
    report = made_up()
    grown = Sizes(10, 10, 10, 10)
    assert "it is not smaller than in float" in doubts(
        report.accuracy, report.speed, grown, report.max_loss
    )


def test_layers_that_stay_in_float_are_never_to_blame() -> None:
    layers = (
        Layer("kept", "Conv", "float", sqnr=3.0),
        Layer("bad", "Conv", "int8", sqnr=9.0),
        Layer("good", "Conv", "int8", sqnr=40.0),
        Layer("unknown", "Conv", "int8"),
    )
    assert [layer.name for layer in most_harmful(layers)] == ["bad", "good"]
    report = made_up(loss=0.5)
    found = verdict(report.accuracy, report.speed, layers, report.stages, 0.01)
    assert [each.layer for each in found.blame] == ["bad", "good"]


def test_the_layer_that_adds_most_time_is_slowest() -> None:
    def layer(name: str, before: float, after: float) -> Layer:
        return Layer(name, "Conv", "int8", before=Times(0, before), after=Times(0, after))

    layers = (layer("a", 1.0, 1.1), layer("b", 1.0, 3.0), layer("c", 5.0, 1.0), Layer("d", "", ""))
    assert [each.name for each in slowest(layers)] == ["b", "a"]


# ---------------------------------------------------------------- histograms and plots


@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=300),
    st.floats(1e-3, 1e3),
)
def test_a_distribution_counts_every_number_where_it_lies(
    numbers: list[float], scale: float
) -> None:
    array = (np.array(numbers) * scale).astype(np.float32)
    stream = Histogram()
    stream.see(array)
    found = distribution(stream, (0.0, 1.0))
    assert sum(found.counts) == array.size
    assert 1 <= len(found.counts) <= BINS
    assert found.low <= array.min() and array.max() <= found.high
    edges = np.linspace(found.low, found.high, len(found.counts) + 1)
    inside = [np.sum((array >= a) & (array < b)) for a, b in pairwise(edges)]
    assert list(found.counts) == inside


FINITE = st.floats(-1e12, 1e12)
ANY = FINITE | st.sampled_from((math.nan, math.inf, -math.inf))


@given(ANY, ANY, ANY, FINITE, FINITE)
def test_plots_stay_within_their_picture(
    low: float, middle: float, high: float, limit: float, zero: float
) -> None:
    for picture in (
        interval(low, middle, high, limit, zero),
        columns([("a", (low, middle)), ("b", (None, high))], ("before", "after")),
    ):
        for tag, value in Page(picture).values:
            if tag in ("x", "y", "width", "height"):
                assert value is not None
                assert -20 <= float(value) <= 1020
