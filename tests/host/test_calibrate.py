"""`brim calibrate`: prices are measured, saved and picked up, and refused when implausible."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from brim.errors import BrimError
from brim.search import calibrate as module
from brim.targets.target import PRICES, host, prices_file

GOOD = {
    "fma_issue": 1.5,
    "load_issue": 1.25,
    "fma_latency": 5,
    "ghz": 2.125,
    "caches": (16384, 262144, 0),
    "bandwidth": (50.0, 20.0, 10.0, 5.0),
    "fork": 5e-7,
}


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A cache of its own; the machine's row is made anew before and after."""
    monkeypatch.setenv("BRIM_CACHE", str(tmp_path / "cache"))
    host.cache_clear()
    yield tmp_path / "cache"
    monkeypatch.undo()
    host.cache_clear()


def save(**changes: object) -> None:
    path = prices_file()
    assert path is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"cpu": host().cpu, **GOOD, **changes}))
    host.cache_clear()


def test_this_machine(folder: Path) -> None:
    before = host()
    stages = []
    try:
        row = module.calibrate(progress=lambda what, done, total: stages.append((done, total)))
    except BrimError as error:
        if "too busy" not in error.what:
            raise
        pytest.skip(error.what)
    assert host() == row
    assert stages[-1][0] == stages[-1][1]
    assert [p.name for p in folder.iterdir()] == ["prices.json"]
    changed = {name for name, value in asdict(row).items() if value != asdict(before)[name]}
    assert changed <= set(PRICES)
    assert list(row.bandwidth) == sorted(row.bandwidth, reverse=True)


def test_saved_prices_are_used() -> None:
    save()
    assert {name: getattr(host(), name) for name in GOOD} == GOOD


def test_prices_of_another_processor_are_not() -> None:
    default = host()
    save(cpu="another")
    assert host() == default


def test_nothing_is_kept_without_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRIM_CACHE", "off")
    assert prices_file() is None


@pytest.mark.parametrize(
    "change",
    [
        {"ghz": 0},
        {"ghz": "fast"},
        {"ghz": float("nan")},
        {"caches": (1, 2)},
        {"bandwidth": (1, 1, 1, -1)},
        {"fma_issue": None},
        {"fma_latency": [4]},
    ],
)
def test_damaged_files_are_told_and_not_used(change: dict) -> None:
    default = host()
    save(**change)
    with pytest.warns(RuntimeWarning, match="damaged"):
        assert host() == default


@pytest.mark.parametrize("text", ["", "{", "[]", '{"cpu": 1}', "\0" * 99, "[" * 100_000])
def test_nonsense_files(text: str) -> None:
    default = host()
    save()
    path = prices_file()
    assert path is not None
    path.write_text(text)
    if text == '{"cpu": 1}':
        assert host() == default
        return
    with pytest.warns(RuntimeWarning, match="damaged"):
        assert host() == default


@pytest.mark.parametrize("wrong", [{"ghz": 50.0}, {"fma_latency": 0}, {"bandwidth": (1, 1, 1, 0)}])
def test_implausible_figures_are_refused(wrong: dict) -> None:
    module.check_plausible(GOOD)
    with pytest.raises(BrimError, match="not plausible"):
        module.check_plausible(GOOD | wrong)


def test_a_busy_machine_is_refused(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    times = iter(range(1, 10**6))
    monkeypatch.setattr(module, "_seconds", lambda loop, size, data: 1 / 2 ** next(times))
    monkeypatch.setattr(module, "_TRIES", 5)
    with pytest.raises(BrimError, match="too busy"):
        module.calibrate()
    assert not folder.exists()
