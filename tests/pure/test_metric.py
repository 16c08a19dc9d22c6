"""Metrics: what is lost, by labels, by a caller's score, and by squared errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from brim.compress import metric
from brim.compress.data import read_data
from brim.compress.metric import Judge, top1
from brim.errors import InputError
from brim.types import parse_type

RANDOM = np.random.default_rng(3)
X = RANDOM.standard_normal((50, 4)).astype(np.float32)


class Net:
    """A model that is a function; it counts its runs, and must be reset before each."""

    def __init__(self, function: Callable[[np.ndarray], Mapping[str, Any]]) -> None:
        self.function, self.runs, self.fresh = function, 0, False

    def reset(self) -> None:
        self.fresh = True

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, Any]:
        assert self.fresh
        self.fresh = False
        self.runs += 1
        return dict(self.function(feeds["x"]))


def same(x: np.ndarray) -> dict[str, np.ndarray]:
    return {"y": x}


def data(labels: np.ndarray | None = None, batch: int = 4) -> Any:
    given = {"x": X} if labels is None else {"x": X, "labels": labels}
    return read_data(given, {"x": parse_type(f"f32[{batch},4]")})


@pytest.mark.parametrize("batch", [1, 4, 50, 64])
def test_accuracy_is_the_share_of_labels_that_are_named(batch: int) -> None:
    labels = X.argmax(1)
    labels[:5] = (labels[:5] + 1) % 4  # 45 of 50 right

    def worse(x: np.ndarray) -> dict[str, np.ndarray]:
        y = x.copy()
        y[(x == X[10]).all(1)] *= -1
        y[(x == X[20]).all(1)] *= -1
        return {"y": y}

    found = Judge(Net(same), data(labels, batch))(Net(worse))
    assert (found.name, found.samples) == ("top-1 accuracy", 50)
    assert found.before == pytest.approx(0.9)
    assert found.after == pytest.approx(0.86)
    assert found.difference == pytest.approx(0.04)
    assert found.low < 0.04 < found.high < 0.2


@pytest.mark.parametrize("shape", [(-1, 4), (-1, 4, 1, 1), (-1, 1, 1, 4)])
def test_axes_of_length_1_do_not_matter(shape: tuple[int, ...]) -> None:
    labels = X.argmax(1)
    np.testing.assert_array_equal(top1({"y": X.reshape(shape)}, labels), np.ones(50))
    np.testing.assert_array_equal(top1({"y": X}, labels[:, None].astype(float)), np.ones(50))


@pytest.mark.parametrize(
    ("outputs", "labels", "message"),
    [
        ({"y": X, "z": X}, np.zeros(50), "one output"),
        ({"y": X}, None, "no labels"),
        ({"y": X[:, :1]}, np.zeros(50), "not one number per class"),
        ({"y": X[:, None].repeat(2, 1)}, np.zeros(50), "not one number per class"),
        ({"y": X}, np.full(50, 4), "label 4 is none of the model's 4 classes"),
        ({"y": X}, np.full(50, -1), "label -1"),
        ({"y": X}, np.full(50, 0.5), "not the numbers of classes"),
        ({"y": X}, np.zeros((50, 4)), "not the numbers of classes"),
        ({"y": X}, np.zeros(49), "50 samples"),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    outputs: dict[str, np.ndarray], labels: np.ndarray | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        top1(outputs, labels)


def test_labels_are_checked_before_anything_is_compressed() -> None:
    with pytest.raises(InputError, match="label 4"):
        Judge(Net(same), data(np.arange(50) % 5))


@pytest.mark.parametrize("batch", [1, 4, 64])
@pytest.mark.parametrize("kept", [0, 400, 1 << 20])
def test_without_labels_the_worst_output_counts(
    batch: int, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metric, "KEPT", kept)

    def two(x: np.ndarray) -> dict[str, np.ndarray]:
        return {"fine": x, "coarse": 2 * x}

    def off(x: np.ndarray) -> dict[str, np.ndarray]:
        return {"fine": x * np.float32(1.001), "coarse": 2 * x + np.float32(0.1)}

    before = Net(two)
    judge = Judge(before, data(batch=batch))
    found = judge(Net(off))
    error = 50 * 4 * 0.01 / (4 * X.astype(float) ** 2).sum()
    assert found.name == "relative squared error of coarse"
    assert (found.before, found.samples) == (0, 50)
    assert found.after == found.difference == pytest.approx(error, rel=1e-4)
    assert 0 <= found.low < found.after < found.high
    again = before.runs
    assert judge(Net(off)) == found
    assert (before.runs == again) == (kept == 1 << 20)


def test_equal_outputs_lose_nothing() -> None:
    def infinite(x: np.ndarray) -> dict[str, np.ndarray]:
        return {"y": np.where(x > 0, x, np.float32(-np.inf)), "n": np.zeros_like(x)}

    found = Judge(Net(infinite), data())(Net(infinite))
    assert (found.difference, found.low, found.high) == (0, 0, 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_outputs_that_are_no_numbers_lose_everything(bad: float) -> None:
    def broken(x: np.ndarray) -> dict[str, np.ndarray]:
        return {"y": np.where(x == X[3, 2], np.float32(bad), x)}

    assert Judge(Net(same), data())(Net(broken)).difference == np.inf


def test_noise_where_nothing_was_loses_everything() -> None:
    def nothing(x: np.ndarray) -> dict[str, np.ndarray]:
        return {"y": np.zeros_like(x)}

    assert Judge(Net(nothing), data())(Net(same)).difference == np.inf


def test_the_interval_holds_the_error_of_other_samples() -> None:
    """Errors of 200 samples, 95 % intervals: of 200 rounds about 190 hold the true quotient."""
    random, inside = np.random.default_rng(4), 0
    for _ in range(200):
        x = random.standard_normal((60, 4)).astype(np.float32) * random.uniform(0.5, 2, (60, 1))
        noise = (0.1 * random.standard_normal(x.shape)).astype(np.float32)
        table = {row.tobytes(): other for row, other in zip(x.astype(np.float32), noise)}
        batches = read_data(x.astype(np.float32), {"x": parse_type("f32[1,4]")})

        def noisy(x: np.ndarray, table: dict = table) -> dict[str, np.ndarray]:
            return {"y": x + table[x[0].tobytes()]}

        found = Judge(Net(same), batches)(Net(noisy))
        inside += found.low <= 0.01 / 1.75 <= found.high  # E[u**2] of u in [0.5, 2] is 1.75
    assert 178 <= inside <= 198


def test_a_callers_score() -> None:
    labels = np.arange(50) / 50

    def closeness(outputs: dict[str, np.ndarray], labels: np.ndarray | None) -> np.ndarray:
        assert labels is not None and len(outputs["y"]) == len(labels)
        return -np.abs(outputs["y"][:, 0] - labels)

    def shifted(x: np.ndarray) -> dict[str, np.ndarray]:
        return {"y": np.full_like(x, 100)}

    found = Judge(Net(same), data(labels), closeness)(Net(shifted))
    assert found.name == "closeness"
    assert found.after == pytest.approx(-(100 - labels.mean()))
    assert found.difference == pytest.approx(found.before - found.after)
    assert found.low < found.difference < found.high


@pytest.mark.parametrize(
    "score",
    [lambda out, _: 1.0, lambda out, _: out["y"][:, 0] * np.nan, lambda out, _: np.ones((2, 2))],
    ids=["one", "nan", "matrix"],
)
def test_scores_that_are_none_are_refused(score: Any) -> None:
    with pytest.raises(InputError, match="one finite number for each sample"):
        Judge(Net(same), data(), score)


def test_models_without_a_batch_have_one_sample_a_run() -> None:
    labels = X.argmax(1)
    batches = read_data(
        [({"x": row, "scale": np.float32(2)}, label) for row, label in zip(X, labels)],
        {"x": parse_type("f32[4]"), "scale": parse_type("f32[]")},
    )
    found = Judge(Net(same), batches)(Net(same))
    assert (found.before, found.after, found.samples) == (1, 1, 50)


def test_text_and_sequences_are_left_out() -> None:
    def mixed(x: np.ndarray) -> dict[str, Any]:
        return {"words": np.array(["a"], object), "y": x}

    assert Judge(Net(mixed), data())(Net(mixed)).difference == 0
    with pytest.raises(InputError, match="no numbers"):
        Judge(Net(lambda x: {"words": np.array(["a"], object)}), data())
