"""Checkpoints: whole or not at all, every bit of them, and damage is told, never read."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("safetensors")

from brim.errors import InputError, ModelError
from brim.train import checkpoints
from brim.train.checkpoints import Checkpoint

STATE = {
    "conv.weight": np.random.default_rng(0).standard_normal((4, 3, 3)).astype(np.float32),
    "conv.weight/mean": np.array([np.nan, np.inf, -0.0, 1e-45], np.float32),
    "step": np.array(7, np.int64),
    "none": np.zeros((0, 3), np.float32),
    "\u00fc/\u2207": np.arange(3),
}


def saved(folder: Path, step: int = 7) -> Path:
    record = {"epoch": 2, "loss": 0.1 + 0.2}
    return checkpoints.save(folder, Checkpoint(step, STATE, record, {"seed": "3"}))


def test_what_is_saved_comes_back_to_the_bit(tmp_path: Path) -> None:
    found = checkpoints.load(saved(tmp_path))
    assert found.step == 7 and found.settings == {"seed": "3"}
    assert found.record == {"epoch": 2, "loss": 0.1 + 0.2}
    assert found.state.keys() == STATE.keys()
    for name, array in STATE.items():
        got = found.state[name]
        assert (got.shape, got.dtype) == (array.shape, array.dtype)
        assert got.tobytes() == array.tobytes()


def test_others_read_it(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    found = load_file(saved(tmp_path))
    np.testing.assert_array_equal(found["conv.weight"], STATE["conv.weight"])


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    assert checkpoints.newest(tmp_path) is None
    assert checkpoints.newest(tmp_path / "nowhere") is None
    for step in (5, 10, 20, 1_000_000_000):
        saved(tmp_path, step)
    checkpoints.save_best(tmp_path, Checkpoint(10, STATE))
    names = [path.name for path in checkpoints.listed(tmp_path)]
    assert [name[:7] for name in names] == ["step-00", "step-00", "step-10"]
    newest = checkpoints.newest(tmp_path)
    assert newest is not None and newest.step == 1_000_000_000
    assert checkpoints.load(tmp_path / checkpoints.BEST).step == 10
    assert len(list(tmp_path.iterdir())) == 4


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.data())
def test_damage_is_told(tmp_path: Path, data: st.DataObject) -> None:
    """Any byte that changes, and any end that is missing."""
    whole = saved(tmp_path).read_bytes()
    bad = bytearray(whole)
    if data.draw(st.booleans()):
        bad[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    else:
        del bad[data.draw(st.integers(0, len(whole) - 1)) :]
    path = tmp_path / "step-000000007.safetensors"
    path.write_bytes(bad)
    refused = None
    try:
        found = checkpoints.load(path)
    except ModelError as error:
        refused = error
    if refused is None:  # white space of the header: nothing that counts has changed
        assert found.step == 7
        assert all(found.state[name].tobytes() == STATE[name].tobytes() for name in STATE)
    else:
        assert "is damaged" in refused.what and refused.where == str(path)


def test_the_one_before_is_taken_only_if_told_so(tmp_path: Path) -> None:
    saved(tmp_path, 5)
    saved(tmp_path, 6).write_bytes(b"nothing")
    with pytest.raises(ModelError, match="step-000000006") as error:
        checkpoints.newest(tmp_path)
    assert "skip_damaged" in error.value.hint
    found = checkpoints.newest(tmp_path, skip_damaged=True)
    assert found is not None and found.step == 5
    for path in checkpoints.listed(tmp_path):
        path.write_bytes(b"nothing")
    with pytest.raises(ModelError, match="step-000000006"):
        checkpoints.newest(tmp_path, skip_damaged=True)


def test_what_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        saved(tmp_path / "file")
    path = saved(tmp_path)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        checkpoints.save(tmp_path, Checkpoint(7, {}, {"not JSON": object()}))
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", path.name]


WRITER = """
import sys, itertools
from pathlib import Path
import numpy as np
from brim.train.checkpoints import Checkpoint, save
state = {"w": np.zeros(1 << 16, np.float32)}
for step in itertools.count():
    state["w"][:] = step
    save(Path(sys.argv[1]), Checkpoint(step, state), keep=2)
    print(step, flush=True)
"""


def test_a_writer_that_is_killed_leaves_whole_checkpoints(tmp_path: Path) -> None:
    for round_ in range(4):
        folder = tmp_path / str(round_)
        child = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        for _ in range(3):
            last = int(child.stdout.readline())
        time.sleep(0.003 * round_)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        rest = child.stdout.read().split("\n")[:-1]
        last = int(rest[-1]) if rest else last
        found = checkpoints.newest(folder)
        assert found is not None and found.step >= last
        assert (found.state["w"] == found.step).all()
        saved(folder, found.step + 1)
        assert [path for path in folder.iterdir() if path.name.startswith(".")] == []
