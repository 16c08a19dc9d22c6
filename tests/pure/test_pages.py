"""Pages and their charts: axes that tell the truth, names that stay text, nothing fetched."""

from __future__ import annotations

import base64
import hashlib
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brim.pages import Axis, Boxes, Line, Points, chart, page, spanning, table
from brim.pages.charts import ticks
from tests.html_pages import NASTY, Page

ODD = st.sampled_from((0.0, math.nan, math.inf, -math.inf))
ANY = st.floats(-1e30, 1e30, allow_subnormal=False) | st.floats(1e-30, 1e-20) | ODD
POSITIVE = st.floats(1e-12, 1e12)


def test_a_page_runs_its_own_script_and_no_other() -> None:
    found = page("a", ["<p>b</p>"], script="document.title = 'c';")
    digest = (
        "sha256-" + base64.b64encode(hashlib.sha256(b"document.title = 'c';").digest()).decode()
    )
    assert f"script-src '{digest}'" in found
    assert "script-src" not in page("a", ["<p>b</p>"])
    with pytest.raises(ValueError, match="end their own element"):
        page("a", [], script="'</SCRIPT>'")


@given(POSITIVE, st.floats(1.001, 1e15), st.booleans())
def test_numbers_along_an_axis_are_where_they_belong(low: float, times: float, log: bool) -> None:
    axis = Axis("x", low, low * times, log)
    found = ticks(axis)
    assert found == sorted(set(found))
    assert 1 <= len(found) <= 12
    for number in found:
        place = axis.place(number)
        assert place is not None
        assert -1e-6 <= place <= 1 + 1e-6


def test_ticks_are_round_numbers() -> None:
    assert ticks(Axis("x", 0, 10)) == [0, 2, 4, 6, 8, 10]
    assert ticks(Axis("x", -0.3, 0.4)) == pytest.approx([-0.2, 0.0, 0.2, 0.4])
    assert ticks(Axis("x", 0.5, 2e4, log=True)) == [1, 10, 100, 1000, 10000]
    assert ticks(Axis("x", 2, 30, log=True)) == [2, 5, 10, 20]
    assert ticks(Axis("x", 1e-9, 1e9, log=True)) == [1e-9, 1e-6, 1e-3, 1, 1e3, 1e6, 1e9]


@given(st.lists(ANY), st.booleans(), st.booleans())
def test_an_axis_has_room_for_all_that_it_can_show(
    numbers: list[float], log: bool, zero: bool
) -> None:
    axis = spanning("x", numbers, log=log, zero=zero)
    for number in numbers:
        place = axis.place(number)
        shown = math.isfinite(number) and (number > 0 or not log)
        assert (place is not None) == shown
        assert place is None or -1e-9 <= place <= 1 + 1e-9


@pytest.mark.parametrize("ends", [(1, 1), (2, 1), (0, math.inf), (math.nan, 1)])
def test_an_axis_has_two_ends(ends: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="cannot reach"):
        Axis("x", *ends)
    with pytest.raises(ValueError, match="cannot reach"):
        Axis("x", 0, 1, log=True)


@pytest.mark.parametrize("name", NASTY)
def test_names_in_charts_and_tables_are_text(name: str) -> None:
    axis = Axis(name, 0, 1, text=lambda number: name)
    layers = [
        Line(name, [(0, 0), (1, 1)]),
        Points(name, [(0.5, 0.5, name)]),
        Boxes(name, [(0, 1, 0, 1, name)]),
    ]
    found = Page(page(name, [chart(axis, axis, layers, note=name), table([name], [["1"]])]))
    axis = Axis("x", 0, 1, text=lambda number: "x")
    layers = [
        Line("x", [(0, 0), (1, 1)]),
        Points("x", [(0.5, 0.5, "x")]),
        Boxes("x", [(0, 1, 0, 1, "x")]),
    ]
    plain = Page(page("x", [chart(axis, axis, layers, note="x"), table(["x"], [["1"]])]))
    assert found.tags == plain.tags
    assert found.left_open() == plain.requests() == []


def test_marks_lie_where_their_numbers_are() -> None:
    x, y = Axis("x", 1, 100, log=True), Axis("y", 0, 4)
    drawn = chart(x, y, [Points("", [(10, 1, "a"), (0, 1, "never"), (10, math.nan, "never")])])
    assert 'd="M500 750h0"' in drawn
    assert drawn.count('class="mark') == 1
    drawn = chart(x, y, [Boxes("", [(1, 10, 1, 2, "a"), (0, 10, 1, 2, "never")])])
    assert 'd="M0 750H500V500H0Z"' in drawn
    assert drawn.count('class="box') == 1


def test_a_line_has_a_gap_where_nothing_is_known() -> None:
    axis = Axis("x", 0, 4)
    drawn = chart(axis, axis, [Line("", [(0, 0), (1, 1), (2, math.nan), (3, 3), (4, 4)])])
    path = re.search(r'class="line s0" d="([^"]*)"', drawn)
    assert path is not None
    assert path[1] == "M0 1000L250 750M750 250L1000 0"


def test_a_band_surrounds_its_line() -> None:
    axis = Axis("x", 0, 4)
    drawn = chart(axis, axis, [Line("", [(0, 2), (4, 2)], band=[(1, 3), (1, 3)])])
    assert 'd="M0 750L1000 750L1000 250L0 250Z"' in drawn
