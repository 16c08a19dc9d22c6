"""Models that go on learning where they run: a training step beside the results, and deltas."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

import brim
from brim.errors import InputError, ModelError
from brim.graph import Graph, evaluate, placeholder
from brim.ops import math as maths
from brim.ops import nn
from brim.ops import primitive as p
from brim.runtime.artifact import open_artifact
from brim.state import StatefulProgram
from brim.train import (
    SGD,
    Adam,
    CrossEntropy,
    Network,
    Optimiser,
    Source,
    apply_delta,
    on_device,
    save_delta,
    training_step,
)
from brim.types import F32, Type, type_of
from tests.host.test_artifact import bare, manifest_of, rewritten


def picture_network(batch: int) -> Network:
    """A convolution of 3x3, and a classifier behind it."""
    random = np.random.default_rng(7)
    weights = {
        "conv": random.normal(size=(3, 3, 16, 24)) / 8,
        "head": random.normal(size=(24, 5)) / 5,
        "bias": random.normal(size=5),
    }
    weights = {name: array.astype(np.float32) for name, array in weights.items()}
    x = placeholder(Type((batch, 14, 14, 16), F32))
    w = {name: placeholder(type_of(array), name) for name, array in weights.items()}
    around = {"stride": (1, 1), "dilation": (1, 1), "low": (1, 1), "high": (1, 1), "groups": 1}
    seen = maths.relu(nn.conv(x, w["conv"], **around))
    seen = p.mul(p.reduce(seen, op="add", axes=(1, 2)), 1 / 196)
    y = p.add(maths.matmul(p.reshape(seen, shape=(batch, 24)), w["head"]), w["bias"])
    sources = {name: Source(array.shape) for name, array in weights.items()}
    return Network(Graph({"x": x, **w}, {"y": y}, "pictures"), weights, sources)


def learner(optimiser: Optimiser, *frozen: str, **options: object) -> brim.Model:
    net = picture_network(6)
    step = training_step(net.freeze(*frozen), CrossEntropy(), optimiser, **options)  # type: ignore[arg-type]
    return on_device(picture_network(1), step)


def batches(count: int = 4) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(3)
    return [
        {
            "x": random.normal(size=(6, 14, 14, 16)).astype(np.float32),
            "target": random.integers(0, 5, 6),
        }
        for _ in range(count)
    ]


PICTURE = np.random.default_rng(4).normal(size=(1, 14, 14, 16)).astype(np.float32)
KINDS = {"last layer": (SGD(0.1), "conv"), "all of Adam": (Adam(0.01),)}


@pytest.mark.parametrize("name", KINDS)
def test_results_follow_the_weights_that_a_step_changes(name: str, tmp_path: Path) -> None:
    model = learner(*KINDS[name])
    model.save(tmp_path / "m.brim")
    loaded = brim.load(tmp_path / "m.brim")
    assert list(loaded.inputs) == ["x"] and list(loaded.functions) == ["train_step"]
    step, before = loaded.functions["train_step"], loaded(PICTURE)
    state = dict(training_step(picture_network(6).freeze(*KINDS[name][1:]), CrossEntropy(),
                               KINDS[name][0]).state)  # fmt: skip
    np.testing.assert_array_equal(before, model(PICTURE))
    for batch in batches():
        want, got = model.functions["train_step"].run(batch), step.run(batch)
        assert got.keys() == want.keys() >= {"loss", "norm", "accuracy"}
        assert all((got[key] == want[key]).all() for key in want)
        np.testing.assert_array_equal(loaded(PICTURE), model(PICTURE))
    after = loaded(PICTURE)
    assert not np.allclose(before, after)
    assert loaded.state.keys() == state.keys() and loaded.state["step"] == 4
    weights = {n: loaded.state.get(n, a) for n, a in picture_network(1).weights.items()}
    meant = evaluate(picture_network(1).graph, {"x": PICTURE, **weights})["y"]
    np.testing.assert_allclose(after, meant, rtol=1e-4, atol=1e-5)
    loaded.reset()
    np.testing.assert_array_equal(loaded(PICTURE), before)


def test_moving_averages_give_the_results(tmp_path: Path) -> None:
    learner(SGD(0.5), "conv", ema=0.5).save(tmp_path / "m.brim")
    model = brim.load(tmp_path / "m.brim")
    for batch in batches(2):
        model.functions["train_step"].run(batch)
    state = model.state
    weights = {n: state.get(f"{n}/average", a) for n, a in picture_network(1).weights.items()}
    assert not np.allclose(weights["head"], state["head"])
    meant = evaluate(picture_network(1).graph, {"x": PICTURE, **weights})["y"]
    np.testing.assert_allclose(model(PICTURE), meant, rtol=1e-4, atol=1e-5)


def test_it_learns_without_llvm_to_the_same_bits(tmp_path: Path) -> None:
    model = learner(Adam(0.01))
    model.save(tmp_path / "m.brim")
    given = batches()
    for batch in given:
        model.functions["train_step"].run(batch)
    state = {f"state {name}": array for name, array in model.state.items()}
    fed = {f"{key}{i}": array for i, batch in enumerate(given) for key, array in batch.items()}
    np.savez(tmp_path / "io.npz", **fed, **state, y=model(PICTURE), picture=PICTURE)
    ran = bare(f"""
io = np.load({str(tmp_path / "io.npz")!r})
model = brim.load({str(tmp_path / "m.brim")!r})
for i in range({len(given)}):
    model.functions["train_step"].run({{"x": io[f"x{{i}}"], "target": io[f"target{{i}}"]}})
assert all((array == io["state " + name]).all() for name, array in model.state.items())
assert (model(io["picture"]) == io["y"]).all()
from brim.train import save_delta
save_delta(model, {str(tmp_path / "m.delta")!r})
""")
    assert ran.returncode == 0, ran.stderr
    again = brim.load(tmp_path / "m.brim")
    apply_delta(again, tmp_path / "m.delta")
    np.testing.assert_array_equal(again(PICTURE), model(PICTURE))


def test_frozen_weights_are_stored_once(tmp_path: Path) -> None:
    """Of both functions, though each packs them in its own way."""
    model = learner(SGD(0.1), "conv")
    model.save(tmp_path / "m.brim")
    artifact = model.artifact or brim.load(tmp_path / "m.brim").artifact
    assert artifact is not None
    artifact.verify()
    own = sum(array.nbytes for array in picture_network(1).weights.values())
    members = artifact._members.items()
    held = sum(m.size for n, m in members if n.endswith(("constants.bin", "weights.bin")))
    assert held < 1.3 * own + 4096
    assert artifact.self_test().keys() >= {"y", "loss", "norm"}
    loaded = brim.load(tmp_path / "m.brim")
    loaded.save(tmp_path / "again.brim")
    assert (tmp_path / "again.brim").read_bytes() == (tmp_path / "m.brim").read_bytes()


def test_slots_that_begin_with_zeros_take_no_place(tmp_path: Path) -> None:
    plain, adam = learner(SGD(0.1)), learner(Adam(0.1))
    sizes = []
    for model in (plain, adam):
        model.save(tmp_path / "m.brim")
        artifact = brim.load(tmp_path / "m.brim").artifact
        assert artifact is not None
        members = artifact._members.items()
        sizes.append(sum(m.size for n, m in members if n.endswith(("s.bin", "weights.bin"))
                         and "objects" not in n))  # fmt: skip
    assert sizes[1] < 1.2 * sizes[0]


def test_results_copy_no_weights() -> None:
    """State that a program only reads stays where it is, though others remember more."""
    model = learner(Adam(0.1))
    model.functions["train_step"].run(batches(1)[0])
    ops = {op for kernel in model.report().kernels for op in kernel.ops}
    assert ops and "copy" not in ops
    assert isinstance(program := model._last().carrying, StatefulProgram)
    assert program.quick({"x": PICTURE}) is not None


def test_programs_stay_those_of_their_function(tmp_path: Path) -> None:
    model = learner(SGD(0.1), "conv")
    model.save(tmp_path / "m.brim")
    artifact = open_artifact(tmp_path / "m.brim")
    assert [program.function for program in artifact.programs] == ["", "train_step"]
    manifest = manifest_of(tmp_path / "m.brim")
    manifest["programs"][1]["function"] = ""
    change: dict[str, bytes | None] = {"manifest.json": json.dumps(manifest).encode()}
    with pytest.raises(ModelError, match="digest of its code"):
        open_artifact(rewritten(tmp_path / "m.brim", change, tmp_path / "n.brim"))
    with pytest.raises(InputError, match="was not made for"):
        brim.load(tmp_path / "m.brim", shapes={"x": (6, 14, 14, 16)})


def test_what_does_not_fit_together_is_refused() -> None:
    step = training_step(picture_network(6), CrossEntropy(), SGD(0.1))
    net = picture_network(1)
    other = Network(net.graph, {}, {})
    with pytest.raises(InputError, match="trains no weight"):
        on_device(other, step)
    x, w = net.graph.inputs["x"], placeholder(Type((4, 4), F32))
    odd = Graph({"x": x, "head": w}, {"y": p.mul(w, 2.0)})
    with pytest.raises(InputError, match="'head'"):
        on_device(Network(odd, {"head": np.zeros((4, 4), np.float32)}, {}), step)


# ------------------------------------------------------------------ deltas


@pytest.fixture
def trained(tmp_path: Path) -> brim.Model:
    """A last layer that has learned from two batches."""
    learner(SGD(0.1), "conv").save(tmp_path / "m.brim")
    model = brim.load(tmp_path / "m.brim")
    for batch in batches(2):
        model.functions["train_step"].run(batch)
    return model


def test_a_delta_holds_what_has_changed(trained: brim.Model, tmp_path: Path) -> None:
    size = save_delta(trained, tmp_path / "m.delta")
    assert size == os.path.getsize(tmp_path / "m.delta") < (24 * 5 + 5) * 4 + 512
    again = brim.load(tmp_path / "m.brim")
    again.functions["train_step"].run(batches(1)[0])
    apply_delta(again, tmp_path / "m.delta")
    np.testing.assert_array_equal(again(PICTURE), trained(PICTURE))
    safetensors = pytest.importorskip("safetensors.numpy")
    found = safetensors.load_file(tmp_path / "m.delta")
    assert found.keys() == {"head", "bias"}
    np.testing.assert_array_equal(found["head"], trained.state["head"])
    trained.reset()
    assert save_delta(trained, tmp_path / "none.delta") < 512
    apply_delta(again, tmp_path / "none.delta")
    np.testing.assert_array_equal(again(PICTURE), trained(PICTURE))


def test_a_delta_belongs_to_one_artifact(trained: brim.Model, tmp_path: Path) -> None:
    save_delta(trained, tmp_path / "m.delta")
    learner(SGD(0.2), "conv").save(tmp_path / "other.brim")
    other = brim.load(tmp_path / "other.brim")
    before = other(PICTURE)
    with pytest.raises(InputError, match="another artifact"):
        apply_delta(other, tmp_path / "m.delta")
    np.testing.assert_array_equal(other(PICTURE), before)
    with pytest.raises(InputError, match="not loaded from an artifact"):
        save_delta(learner(SGD(0.1)), tmp_path / "n.delta")
    with pytest.raises(InputError, match="cannot be read"):
        apply_delta(trained, tmp_path / "missing.delta")


def test_damaged_deltas_are_typed_errors(trained: brim.Model, tmp_path: Path) -> None:
    save_delta(trained, tmp_path / "m.delta")
    content = (tmp_path / "m.delta").read_bytes()
    random, before = np.random.default_rng(0), trained.state
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert header["__metadata__"].keys() == {"base", "digest"}
    cases = [content[:n] for n in (0, 7, 8, 100, len(content) - 1)] + [content + b"x"]
    for _ in range(200):
        damaged = bytearray(content)
        damaged[random.integers(len(content))] ^= 1 << random.integers(8)
        cases.append(bytes(damaged))
    for damaged in cases:
        (tmp_path / "n.delta").write_bytes(damaged)
        with pytest.raises((ModelError, InputError)):
            apply_delta(trained, tmp_path / "n.delta")
    assert all((before[name] == array).all() for name, array in trained.state.items())


def test_a_delta_appears_whole_or_not_at_all(trained: brim.Model, tmp_path: Path) -> None:
    with pytest.raises(brim.BrimError, match="cannot be written"):
        save_delta(trained, tmp_path / "nowhere" / "m.delta")
    save_delta(trained, tmp_path / "m.delta")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
