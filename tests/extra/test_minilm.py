"""A sentence encoder with weights of 4 bits: small, and near to what it is in f32."""

from __future__ import annotations

import numpy as np
import pytest

import brim
from bench import minilm

pytestmark = [pytest.mark.network, pytest.mark.slow, pytest.mark.peer("onnx")]


@pytest.fixture(scope="module")
def encoder() -> brim.Model:
    model = brim.load(minilm.encoder().SerializeToString())
    model.compile()
    return model


def test_related_sentences_are_near(encoder: brim.Model) -> None:
    pairs = [[minilm.feed([text]) for text in pair] for pair in minilm.RELATED]
    found = [
        [
            minilm.embedding(encoder.run(f)["last_hidden_state"], f["attention_mask"])[0]
            for f in pair
        ]
        for pair in pairs
    ]
    similarity = np.array([[a @ b for _, b in found] for a, _ in found])
    assert similarity.diagonal().min() > 0.5
    assert similarity[~np.eye(len(found), dtype=bool)].max() < 0.2


def test_four_bits_keep_the_embeddings(encoder: brim.Model) -> None:
    small = minilm.compressed(encoder, minilm.RECIPES["mixed"])
    found = minilm.cosines(encoder, small, minilm.judged())
    assert found.min() >= 0.99
    assert minilm.file_bytes(small) <= 0.20 * minilm.file_bytes(encoder)


def test_calibration_has_not_seen_what_is_judged() -> None:
    seen = {tuple(f["input_ids"][0]) for f in minilm.calibration()}
    assert seen.isdisjoint(tuple(minilm.feed([s])["input_ids"][0]) for s in minilm.judged())
    assert len(seen) == minilm.CALIBRATED
