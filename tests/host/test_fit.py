"""The training loop: what it learns, what it leaves behind, how it goes on, and what it refuses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("safetensors")

from brim.compiler import arena_bytes
from brim.errors import InputError, ModelError, TrainingError
from brim.graph import Graph, Value, const, placeholder
from brim.ops import math as maths
from brim.ops import primitive as p
from brim.train import SGD, Adam, CrossEntropy, MeanSquared, Network, checkpoints, network
from brim.train.augment import Augment
from brim.train.features import halves
from brim.train.fit import fit
from brim.train.history import Epoch
from brim.train.layers import Layers
from brim.train.metrics import evaluate
from brim.train.step import training_step
from brim.types import BF16, F32, DType, Type

ROWS, FEATURES, CLASSES = 8, 6, 3


def net(rows: int = ROWS, narrow: int = 0) -> Network:
    """x: f32[rows,6] -> ReLU(x @ first + shift) (@ middle, if narrow) @ last: f32[rows,3]."""
    random = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> Value:
        return const(random.standard_normal(shape).astype(np.float32) * 0.5, name)

    x = placeholder(Type((rows, FEATURES), F32))
    hidden = p.contract(x, weight("first", FEATURES, 16), spec="ni,io->no")
    hidden = maths.relu(p.add(hidden, weight("shift", 16)))
    if narrow:
        hidden = p.contract(hidden, weight("middle", 16, narrow), spec="ni,io->no")
    scores = p.contract(hidden, weight("last", narrow or 16, CLASSES), spec="ni,io->no")
    return network(Graph({"x": x}, {"y": scores}, "net"))


def task(count: int = 203, seed: int = 1) -> dict[str, np.ndarray]:
    """Points of three classes, which a plane cannot tell apart."""
    x = np.random.default_rng(seed).standard_normal((count, FEATURES)).astype(np.float32)
    radius = np.square(x[:, :3]).sum(1)
    return {"x": x, "labels": np.digitize(radius, [1.5, 3.5])}


DATA, HELD = task(), task(100, 2)
Fit = Callable[..., Any]


def train(**options: Any) -> Any:
    given: dict[str, Any] = {
        "network": net(), "data": DATA, "loss": CrossEntropy(), "optimiser": Adam(1e-2),
        "epochs": 3, "threads": 1,
    }  # fmt: skip
    return fit(**{**given, **options})


def same(a: Network, b: Network) -> bool:
    return a.weights.keys() == b.weights.keys() and all(
        a.weights[name].tobytes() == b.weights[name].tobytes() for name in a.weights
    )


def test_it_learns_and_tells_what_it_measured() -> None:
    seen: list[Epoch] = []
    bars: list[tuple[str, int, int]] = []
    tuned, history = train(
        epochs=20, validation=HELD, after_epoch=seen.append, progress=lambda *bar: bars.append(bar)
    )
    assert history.ending == "finished" and history.steps == 20 * (203 // ROWS)
    assert list(history.epochs) == seen and [each.number for each in seen] == [*range(1, 21)]
    first, last = history.epochs[0], history.epochs[-1]
    assert last.loss < first.loss / 2 and last.metrics["accuracy"] > 0.8
    assert last.validation is not None and last.validation.samples == 100
    assert bars[0] == ("epoch 1 of 20", 1, 25) and bars[-1] == ("epoch 20 of 20", 25, 25)
    assert f"epoch 20: loss {last.loss:.4f}" in str(last)

    # what was measured is what the network that came out does
    x = np.concatenate([HELD["x"], HELD["x"][:4]])
    model = tuned.model()
    scores = np.concatenate([model(x[i : i + ROWS]) for i in range(0, 104, ROWS)])[:100]
    named = scores.argmax(1) == HELD["labels"]
    assert last.validation.metrics["accuracy"] == pytest.approx(named.mean())
    shifted = scores - scores.max(1, keepdims=True)
    log = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    loss = -log[np.arange(100), HELD["labels"]].mean()
    assert last.validation.loss == pytest.approx(loss, rel=1e-4)


def test_the_same_seed_gives_the_same_bits_and_another_does_not() -> None:
    once, _ = train()
    assert same(once, train()[0])
    assert not same(once, train(seed=1)[0])


def test_frozen_weights_stay() -> None:
    before = net().freeze("first")
    tuned, _ = train(network=before)
    assert same(replace(tuned, weights={"first": tuned.weights["first"]}),
                replace(before, weights={"first": before.weights["first"]}))  # fmt: skip
    assert not np.array_equal(tuned.weights["last"], before.weights["last"])


def test_frozen_layers_in_front_are_computed_once_and_nothing_else_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = net(narrow=4)
    frozen = deep.freeze("first", "shift", "middle")
    cut = halves(frozen)
    assert cut is not None and set(cut.back.weights) == {"last"}
    assert [*cut.front.inputs] == ["x"] and cut.back.data.keys() == cut.front.outputs.keys()
    for other in (deep, deep.freeze("last"), deep.freeze("middle"), net().freeze("first", "shift")):
        assert halves(other) is None  # nothing in front, or it is wider than the data

    bars: list[str] = []
    options = {"network": frozen, "validation": HELD, "optimiser": SGD(0.1)}
    tuned, history = train(
        **options, checkpoints=tmp_path, progress=lambda stage, *_: bars.append(stage)
    )
    assert bars[0] == "frozen layers, validation" and bars[13] == "frozen layers"
    assert len(bars) == 26 + 13 + 3 * 25
    assert same(train(**options, checkpoints=tmp_path)[0], tuned)
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules[fit.__module__], "halves", lambda network: None)
        whole, known = train(**options)
    for name in frozen.weights:
        np.testing.assert_allclose(tuned.weights[name], whole.weights[name], atol=1e-5)
    assert history.epochs[2].loss == pytest.approx(known.epochs[2].loss, rel=1e-5)
    assert history.epochs[2].validation.loss == pytest.approx(known.epochs[2].validation.loss)


def test_averages_are_what_is_evaluated_and_returned() -> None:
    plain, _ = train(epochs=1)
    averaged, history = train(epochs=1, ema=0.9, validation=HELD)
    assert not same(plain, averaged)
    assert evaluate(averaged, HELD, CrossEntropy()) == history.epochs[0].validation


def test_validation_may_be_a_share_of_the_data() -> None:
    _, history = train(epochs=1, validation=0.25)
    assert history.epochs[0].validation.samples == 51
    assert history.epochs[0].steps == 152 // ROWS


def test_early_stop_gives_the_best_weights(tmp_path: Path) -> None:
    """The rate is so large that the loss grows again: the best epoch's weights are those of a
    training that ended with it."""
    few = {name: array[:24] for name, array in DATA.items()}
    options = {"data": few, "validation": HELD, "optimiser": Adam(3e-2)}
    best, history = train(epochs=60, early_stop=2, checkpoints=tmp_path, **options)
    assert history.ending == "stopped early" and history.best is not None
    assert len(history.epochs) == history.best + 2
    losses = [each.validation.loss for each in history.epochs]
    assert min(losses) == losses[history.best - 1]
    assert same(best, train(epochs=history.best, **options)[0])
    assert checkpoints.load(tmp_path / checkpoints.BEST).record["best"] == history.best
    again, known = train(epochs=60, early_stop=2, checkpoints=tmp_path, **options)
    assert same(again, best) and known == history


@pytest.mark.parametrize("how", [{"mixup": 0.4}, {}], ids=["mixup", "plain"])
def test_a_training_that_is_resumed_gives_the_same_bits(tmp_path: Path, how: dict) -> None:
    """Stopped in the middle of an epoch, as Ctrl-C does it."""
    options = {"validation": HELD, "augment": Augment(**how), "interval": 7, "ema": 0.9}
    whole, history = train(**options)

    def stop(stage: str, done: int, total: int) -> None:
        if (stage, done) == ("epoch 2 of 3", 11):
            signal.raise_signal(signal.SIGINT)

    part, partial = train(checkpoints=tmp_path, progress=stop, **options)
    assert partial.ending == "interrupted" and partial.steps == 25 + 11
    assert not same(part, whole)
    assert checkpoints.listed(tmp_path)[-1].name == "step-000000036.safetensors"
    rest, after = train(checkpoints=tmp_path, **options)
    assert same(rest, whole) and after.ending == "finished"
    assert [replace(e, seconds=0) for e in after.epochs] == [
        replace(e, seconds=0) for e in history.epochs
    ]
    assert same(train(checkpoints=tmp_path, **options)[0], whole)  # there is nothing left to do
    more, _ = train(checkpoints=tmp_path, **options, epochs=4)
    assert same(more, train(**options, epochs=4)[0])


@pytest.mark.parametrize("kept", [F32, BF16])
def test_a_limit_of_memory_is_kept(tmp_path: Path, kept: DType) -> None:
    """It learns the same, nearly, and goes on from its checkpoints, not from those of others."""
    layers = Layers()
    y = layers.input("x", (64, FEATURES))
    for number in range(6):
        y = maths.tanh(layers.dense(y, f"{number}", 32))
    deep = {"network": layers.network(layers.dense(y, "last", CLASSES)), "data": task(640)}
    room = arena_bytes(training_step(deep["network"], CrossEntropy(), Adam(1e-2))) * 8 // 10
    options = {**deep, "memory": room, "kept": kept}
    limited, history = train(checkpoints=tmp_path, **options)
    _, wanted = train(**deep)
    assert history.epochs[-1].loss == pytest.approx(wanted.epochs[-1].loss, rel=1e-2)
    assert history.epochs[-1].loss < history.epochs[0].loss
    assert same(train(checkpoints=tmp_path, **options)[0], limited)
    with pytest.raises(InputError, match="another training"):
        train(**deep, checkpoints=tmp_path)
    with pytest.raises(InputError, match="does not fit into 1,000 bytes"):
        train(**deep, memory=1000)
    with pytest.raises(InputError, match="needs a limit"):
        train(kept=BF16)


def test_ctrl_c_twice_ends_at_once() -> None:
    def stop(stage: str, done: int, total: int) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(progress=stop)
    assert signal.getsignal(signal.SIGINT) is before
    assert not [thread for thread in threading.enumerate() if thread.name == "brim data"]


KILLED = """
import os, signal, sys
from tests.host.test_fit import train
def kill(stage, done, total):
    if (stage, done) == (sys.argv[2], int(sys.argv[3])):
        os.kill(os.getpid(), signal.SIGKILL)
train(checkpoints=sys.argv[1], interval=10, progress=kill)
"""


@pytest.mark.parametrize(
    ("stage", "done"),
    [("epoch 1 of 3", 13), pytest.param("epoch 3 of 3", 25, marks=pytest.mark.slow)],
)
def test_a_process_that_is_killed_loses_at_most_an_interval(
    tmp_path: Path, stage: str, done: int
) -> None:
    root = Path(__file__).parents[2]
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(root / "src"), str(root)])}
    child = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), stage, str(done)], env=env, timeout=100
    )
    assert child.returncode == -signal.SIGKILL
    found = checkpoints.newest(tmp_path)
    seen = (int(stage[6]) - 1) * 25 + done
    assert found is not None and seen - 10 <= found.step < seen
    assert same(train(checkpoints=tmp_path, interval=10)[0], train()[0])


# ---------------------------------------------------------------- what is wrong


def test_a_loss_that_is_no_number_stops_and_names_the_layer(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"is (nan|inf) in step") as error:
        train(optimiser=SGD(1e18), checkpoints=tmp_path, interval=1)
    assert "comes from" in error.value.why and "None" not in error.value.why
    assert "clip=1.0" in error.value.hint
    kept = checkpoints.newest(tmp_path)
    assert kept is not None and all(np.isfinite(a).all() for a in kept.state.values())
    assert f"step-{kept.step:09d}" in error.value.hint


def test_wrong_data_is_told_before_anything_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[fit.__module__], "compile", None)
    bad = {**DATA, "labels": np.where(np.arange(203) == 77, 3, DATA["labels"])}
    with pytest.raises(InputError, match="label 3 is none of the network's 3 classes") as error:
        train(data=bad)
    assert error.value.where == "sample 77 of the mapping"
    with pytest.raises(InputError, match="label 3 is none"):
        train(validation=bad)
    with pytest.raises(InputError, match=r"the data is \[203, 5\]"):
        train(data={**DATA, "x": DATA["x"][:, :5]})
    with pytest.raises(InputError, match="no training data"):
        train(data={name: array[:0] for name, array in DATA.items()})
    with pytest.raises(InputError, match="7 samples do not fill a batch of 8"):
        train(data={name: array[:7] for name, array in DATA.items()})
    with pytest.raises(InputError, match="no labels"):
        train(data=DATA["x"])
    with pytest.raises(InputError, match="do not fit the loss"):
        train(loss=MeanSquared())
    with pytest.raises(InputError, match="pictures"):
        train(augment=Augment(flip=True))
    with pytest.raises(InputError, match="mixup is for networks"):
        train(loss=MeanSquared(), augment=Augment(mixup=0.2), data={**DATA, "labels": DATA["x"]})
    with pytest.raises(InputError, match="early_stop needs validation"):
        train(early_stop=1)
    with pytest.raises(InputError, match="cannot be held back"):
        train(validation=1.5)
    for name in ("epochs", "interval", "early_stop"):
        with pytest.raises(InputError, match=f"{name} is 0"):
            train(**{name: 0})


def test_checkpoints_of_another_training_are_refused(tmp_path: Path) -> None:
    train(epochs=1, checkpoints=tmp_path)
    for other, said in (
        ({"optimiser": Adam(1e-3)}, "optimiser was Adam"),
        ({"seed": 1}, "seed was 0, is 1"),
        ({"data": task(203, 5)}, "samples was 203"),
        ({"network": net(16)}, r"f32\[8,6\]"),
        ({"network": net().freeze("first")}, "trained was 3 weights"),
        ({"clip": 1.0}, "clip was None, is 1.0"),
    ):
        with pytest.raises(InputError, match="of another training") as error:
            train(epochs=2, checkpoints=tmp_path, **other)
        assert pytest.importorskip("re").search(said, error.value.why), error.value.why
    with pytest.raises(InputError, match="holds a training already"):
        train(checkpoints=tmp_path, resume=False)


def test_a_damaged_checkpoint_is_told_and_passed_over_only_if_wanted(tmp_path: Path) -> None:
    whole, _ = train(checkpoints=tmp_path)
    last = checkpoints.listed(tmp_path)[-1]
    last.write_bytes(last.read_bytes()[:-1])
    with pytest.raises(ModelError, match="is damaged"):
        train(checkpoints=tmp_path)
    assert same(train(checkpoints=tmp_path, skip_damaged=True)[0], whole)


def test_errors_while_data_is_read_reach_the_caller(tmp_path: Path) -> None:
    x = DATA["x"].copy()
    x[150] = np.nan
    with pytest.raises(InputError, match="holds nan") as error:
        train(data={**DATA, "x": x}, checkpoints=tmp_path)
    assert error.value.where == "sample 150 of the mapping"
