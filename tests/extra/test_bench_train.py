"""`bench.train` times steps that do the same: losses agree, step after step."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from bench.train import steps

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.peer("torch")
def test_steps_of_both_engines_lose_the_same() -> None:
    ours, theirs = (make() for make in steps("fashion", 4, "momentum", 1).values())
    losses = [(ours(), theirs()) for _ in range(3)]
    for found, wanted in losses:
        assert found == pytest.approx(wanted, rel=1e-3)
    assert len({float(np.float32(found)) for found, _ in losses}) == 3  # weights moved
