"""Benchmarks with several settings, and since: what is measured, what counts as slower."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from brim.cli.values import parse_counts, parse_shape_lists
from brim.errors import BrimError, InputError
from brim.figures import json_text
from brim.tools.bench import Timed
from brim.tools.since import Kept, Times, compare, document, read
from brim.tools.sweep import Point, Setting, settings, shapes_of
from brim.tools.sweep_page import sweep_page, varied
from brim.types import F32, Dim, Type
from tests.html_pages import NASTY, Page

N = Dim("batch")


def timed(rounds: tuple[float, ...], engine: str = "brim") -> Timed:
    return Timed(engine, "1", 0.1, 0.01, 10, rounds, min(rounds), 1 << 20, 1e-3)


def kept(rounds: dict[Setting, tuple[float, ...]], yardstick: float = 1.0) -> Kept:
    times = {setting: Times(found, yardstick) for setting, found in rounds.items()}
    return Kept("net.onnx", "d" * 64, "a processor", "1.0", times)


# ------------------------------------------------------------------ settings


def test_settings_are_all_combinations() -> None:
    found = settings([1, 2], [1, 4], [{"x": (1, 3)}, {"x": (1, 5)}])
    assert len(found) == len(set(found)) == 8
    assert str(found[0]) == "1 thread, batch 1, x=1x3"
    assert settings([2], [], []) == [Setting(2)]


def test_the_batch_is_the_first_axis_of_all_inputs_that_share_it() -> None:
    inputs = {
        "x": Type((N, 3, Dim("h")), F32),
        "mask": Type((N, 7), F32),
        "scale": Type((Dim("other"),), F32),
        "bias": Type((4,), F32),
    }
    setting = Setting(1, 8, (("x", (1, 3, 9)),))
    assert shapes_of(setting, inputs, {}) == {"x": (8, 3, 9), "mask": (8, 7)}
    usual = {"x": (1, 3, 5)}
    assert shapes_of(Setting(1, 2), inputs, usual) == {"x": (2, 3, 5), "mask": (2, 7)}
    assert shapes_of(Setting(1), inputs, usual) == {}
    with pytest.raises(InputError, match="shape of input 'x' is open"):
        shapes_of(Setting(1, 2), inputs, {})
    with pytest.raises(InputError, match="batch cannot be changed"):
        shapes_of(Setting(1, 2), {"x": Type((1, 3), F32)}, {})


def test_shapes_in_one_place_go_together() -> None:
    found = parse_shape_lists(["ids=1x16,1x32", "mask=1x16,1x32", "one="])
    assert found == [
        {"ids": (1, 16), "mask": (1, 16), "one": ()},
        {"ids": (1, 32), "mask": (1, 32), "one": ()},
    ]
    assert parse_shape_lists([]) == [{}]
    for bad in (["x"], ["x=1x3,a"], ["x=1,2,3", "y=1,2"]):
        with pytest.raises(InputError):
            parse_shape_lists(bad)


@pytest.mark.parametrize("text", ["", "0", "1,", "a", "1,-2", "1.5"])
def test_counts_are_whole_numbers(text: str) -> None:
    assert parse_counts("--batch", "1,4,4", 1) == [1, 4]
    with pytest.raises(InputError, match="--batch"):
        parse_counts("--batch", text, 1)


# ------------------------------------------------------------------ since


ONE = Setting(1)


def rounds(seed: int, median: float = 1e-3, noise: float = 0.02) -> tuple[float, ...]:
    random = np.random.default_rng(seed)
    return tuple((median * np.exp(noise * random.standard_normal(7))).tolist())


def test_the_same_program_is_rarely_called_slower() -> None:
    pairs = [(kept({ONE: rounds(i)}), kept({ONE: rounds(i + 1000)})) for i in range(200)]
    changes = [compare(*pair).changes[0] for pair in pairs]
    assert sum(c.is_slower(1.0) for c in changes) <= 16  # 2.5 % are meant; medians are few
    assert sum(c.low <= 1.0 <= c.high for c in changes) >= 175
    assert not any(c.is_slower(1.05) for c in changes)


@pytest.mark.parametrize("noise", [0.001, 0.02])
def test_a_slower_program_is_found(noise: float) -> None:
    before = kept({ONE: rounds(1, noise=noise)})
    (change,) = compare(before, kept({ONE: rounds(2, 1.2e-3, noise)})).changes
    assert change.ratio == pytest.approx(1.2, abs=0.05)
    assert change.is_slower(1.1) and not change.is_slower(1.3)
    assert change.low < change.ratio < change.high
    (change,) = compare(before, kept({ONE: rounds(2, 0.8e-3, noise)})).changes
    assert change.high < 1.0


def test_what_the_machine_explains_is_no_change_of_the_program() -> None:
    before = kept({ONE: rounds(1)})
    slower = compare(before, kept({ONE: rounds(2, 1.2e-3)}, yardstick=1.2))
    assert slower.changes[0].drift == pytest.approx(1.2)
    assert not slower.changes[0].is_slower(1.05)
    hidden = compare(before, kept({ONE: rounds(2)}, yardstick=0.8))
    assert hidden.changes[0].high > 1.2 and not hidden.changes[0].is_slower(1.05)


def test_what_else_differs_is_told() -> None:
    two = Setting(2)
    now = replace(kept({ONE: rounds(1), two: rounds(2)}), machine="another", digest="e" * 64)
    found = compare(kept({ONE: rounds(1), Setting(4): rounds(3)}), now)
    assert [c.setting for c in found.changes] == [ONE]
    assert set(found.unmatched) == {two, Setting(4)}
    assert len(found.notes) == 2 and "another" in found.notes[1]
    with pytest.raises(InputError, match="no setting in common"):
        compare(kept({ONE: rounds(1)}), kept({two: rounds(1)}))


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    setting = Setting(2, 4, (("x", (1, 3, 224)), ("y", ())))
    whole = kept({ONE: rounds(1), setting: rounds(2)}, 0.003)
    (tmp_path / "b.json").write_text(json_text(document(whole)))
    assert read(tmp_path / "b.json") == whole


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", 2),
        ("format", "1"),
        ("model", 3),
        ("settings", {}),
        ("settings", [{}]),
    ],
)
def test_files_of_other_kinds_are_refused(key: str, value: object, tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    path.write_text(json.dumps({**document(kept({ONE: rounds(1)})), key: value}))
    with pytest.raises(BrimError):
        read(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("threads", 0),
        ("batch", "x"),
        ("shapes", {"x": 3}),
        ("shapes", {"x": [-1]}),
        ("rounds_seconds", []),
        ("rounds_seconds", ["x"]),
        ("rounds_seconds", [1.0, 0.0]),
        ("yardstick_seconds", 0.0),
        ("yardstick_seconds", -1.0),
    ],
)
def test_settings_that_are_none_are_refused(key: str, value: object, tmp_path: Path) -> None:
    whole = document(kept({ONE: rounds(1)}))
    whole["settings"][0][key] = value
    (tmp_path / "b.json").write_text(json.dumps(whole))
    with pytest.raises(BrimError):
        read(tmp_path / "b.json")


# ------------------------------------------------------------------ the page


def points(name: str = "x") -> list[Point]:
    return [
        Point(Setting(threads, batch, ((name, (1, 3)),)), timed(rounds(batch, batch * 1e-3)))
        for batch in (1, 4, 8)
        for threads in (1, 2)
    ]


def test_the_page_has_a_line_for_each_series() -> None:
    page = Page(sweep_page("net", points(), "a processor"))
    assert page.left_open() == page.requests() == []
    lines = [value for name, value in page.values if name == "class" and value]
    assert sum(value.startswith("line ") for value in lines) == 4  # two threads, two pictures
    assert "samples / s" in page.text and "1 thread, batch 4, x=1x3" in page.text


def test_what_varies_goes_along_the_axis() -> None:
    assert varied([p.setting for p in points()])[0] == "batch"
    assert varied([Setting(1), Setting(2)])[0] == "threads"
    label, of = varied([Setting(1, None, (("x", (2, 3)),)), Setting(1, None, (("x", (2, 5)),))])
    assert label == "numbers in the inputs" and of(Setting(1, None, (("x", (2, 5)),))) == 10


def test_a_peer_is_a_line_of_its_own() -> None:
    both = [replace(p, theirs=timed(p.ours.rounds, "onnxruntime")) for p in points()]
    text = Page(sweep_page("net", both, "")).text
    assert any("onnxruntime, 2 threads" in part for part in text)


@pytest.mark.parametrize("nasty", NASTY)
def test_names_of_models_are_text(nasty: str) -> None:
    plain = Page(sweep_page("net", points(), ""))
    found = Page(sweep_page(nasty, points(nasty), nasty))
    assert found.tags == plain.tags and found.comments == []
