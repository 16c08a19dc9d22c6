"""docs/tour.py runs, quickly, and shows what it promises. Its own assertions check the numbers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TOUR = Path(__file__).parents[2] / "docs" / "tour.py"


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    run = subprocess.run(
        [sys.executable, str(TOUR)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path_factory.mktemp("tour"),
    )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr
    assert run.stderr == ""
    return run.stdout


@pytest.mark.parametrize(
    "line",
    [
        "%10: f32[1,16,16,32] = batch_norm(%5, %6, %7, %8, %9) epsilon=1e-05",  # the graph
        "refused: conv(f32[1,3,16,16], f32[3,3,3,32])",  # a typed error
        "==== 3. after layout",
        '= contract(%3, %4) spec="nhwcij,ijco->nhwo"',  # expanded to primitives
        "reduce add(x3, x4, x5) mul(guard(x0 + x4 - 1 in 16, x1 + x5 - 1 in 16;",  # a fused kernel
        "values became 4 kernels",
        "candidates; the last line is the worst",
        "define void @kernel(",
        "wasm32: ",  # an object for another machine
        "the machine code computes what the interpreter said",
        "arena ",
        "call kernel 0 (io+0, weights+0",
        "<brim.Model tour(x: f32[1,3,16,16]) -> y>",
        "slope: computed",
    ],
)
def test_it_shows(output: str, line: str) -> None:
    assert line in output


def test_it_is_quick(output: str) -> None:
    seconds = float(output.rsplit("The tour took ", 1)[1].split()[0])
    assert seconds < 10 or os.cpu_count() == 1


def test_it_is_about_300_lines() -> None:
    assert 250 <= len(TOUR.read_text().splitlines()) <= 350
