"""Augmentation: the same again for the same seeds, and what each kind of it leaves as it is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brim.compress.data import Batch
from brim.errors import InputError
from brim.train.augment import Augment, augmented, check_augment
from brim.types import parse_type

PICTURES = np.random.default_rng(0).uniform(-1, 2, (6, 3, 8, 10)).astype(np.float32)
ALL = Augment(flip=True, crop=0.6, colour=0.3, mixup=0.4)


def batch(pictures: np.ndarray = PICTURES) -> Batch:
    return Batch({"x": pictures}, len(pictures), len(pictures), np.arange(len(pictures)) % 3)


def changed(how: Augment, seeds: Sequence[int], pictures: np.ndarray = PICTURES) -> np.ndarray:
    found = augmented(batch(pictures), how, seeds, 3)
    assert found.feeds["x"].shape == pictures.shape
    assert found.feeds["x"].dtype == np.float32 and found.feeds["x"].flags.c_contiguous
    return found.feeds["x"]


def test_equal_seeds_give_equal_bits_and_others_do_not() -> None:
    first = changed(ALL, (1, 2, 3))
    np.testing.assert_array_equal(first, changed(ALL, (1, 2, 3)))
    for seeds in ((0, 2, 3), (1, 1, 3), (1, 2, 4)):
        assert not np.array_equal(first, changed(ALL, seeds))
    plain = batch()
    assert augmented(plain, Augment(), (1, 2, 3)).feeds["x"] is plain.feeds["x"]


def test_channels_may_be_last() -> None:
    last = np.ascontiguousarray(PICTURES.transpose(0, 2, 3, 1))
    found = changed(ALL, (1, 2, 3), last).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(found, changed(ALL, (1, 2, 3)), atol=1e-6)


def test_flips_are_mirror_images_of_about_half() -> None:
    pictures = np.random.default_rng(1).standard_normal((400, 1, 2, 3)).astype(np.float32)
    found = changed(Augment(flip=True), (0, 1, 0), pictures)
    same = (found == pictures).all((1, 2, 3))
    mirrored = (found == pictures[..., ::-1]).all((1, 2, 3))
    assert (same ^ mirrored).all()
    assert 160 < mirrored.sum() < 240


@given(st.floats(0.1, 1), st.integers(0, 99))
def test_crops_show_a_part_that_is_as_large_as_allowed(crop: float, seed: int) -> None:
    """Of a ramp, a part is a ramp whose slope and ends tell which part it is."""
    size = 64
    ramp = np.broadcast_to(np.arange(size, dtype=np.float32), (5, 1, size, size))
    found = changed(Augment(crop=crop), (seed, 1, 0), np.ascontiguousarray(ramp))
    inner = found[:, 0, 0, 4:-4]
    slopes = np.diff(inner, axis=1)
    side = slopes[:, :1]
    assert (np.abs(slopes - side) < 1e-4).all() or crop == 1
    assert (side >= crop - 1e-4).all() and (side <= 1 + 1e-4).all()
    assert found.min() >= 0 and found.max() <= size - 1
    np.testing.assert_allclose(found, np.broadcast_to(found[:, :, :1], found.shape), atol=1e-4)


def test_crops_keep_constants_and_lie_between_their_pixels() -> None:
    found = changed(Augment(crop=0.3), (0, 1, 0))
    for before, after in zip(PICTURES, found):
        assert after.min() >= before.min() and after.max() <= before.max()
    flat = np.full((2, 3, 5, 5), 0.7, np.float32)
    np.testing.assert_allclose(changed(Augment(crop=0.3), (0, 1, 0), flat), flat, rtol=1e-6)


@given(st.floats(0.1, 50), st.floats(-9, 9))
def test_colours_change_alike_whatever_the_scale_of_numbers(scale: float, offset: float) -> None:
    how = Augment(colour=0.4)
    scaled = (PICTURES * scale + offset).astype(np.float32)
    wanted = changed(how, (0, 1, 0)) * scale + offset
    found = changed(how, (0, 1, 0), scaled)
    np.testing.assert_allclose(found, wanted, atol=1e-4 * (scale + abs(offset)))
    assert np.abs(wanted - scaled).mean() > 0.02 * scale


def test_mixup_mixes_pictures_and_labels_alike() -> None:
    pictures = np.eye(6, dtype=np.float32)
    found = augmented(batch(pictures), Augment(mixup=1.0), (0, 1, 0), 3)
    assert found.labels is not None and found.labels.dtype == np.float32
    np.testing.assert_allclose(found.labels.sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(found.feeds["x"].sum(1), 1, rtol=1e-6)
    own, other = np.diagonal(found.feeds["x"]), np.arange(-1, 5)
    for i in range(6):
        wanted = np.zeros(3)
        wanted[i % 3] += own[i]
        wanted[other[i] % 3] += 1 - own[i]
        np.testing.assert_allclose(found.labels[i], wanted, atol=1e-6)


def test_what_cannot_be_augmented_is_refused() -> None:
    for how in ({"crop": 0.0}, {"crop": 1.1}, {"colour": 1.0}, {"mixup": -1.0}):
        with pytest.raises(InputError, match="out of range"):
            Augment(**how)
    words, bytes_ = {"ids": parse_type("i64[4,16]")}, {"x": parse_type("u8[4,8,8,3]")}
    for inputs in (words, bytes_, {**bytes_, "y": parse_type("f32[4,3,8,8]")}):
        with pytest.raises(InputError, match="one input is pictures"):
            check_augment(Augment(flip=True), inputs)
    with pytest.raises(InputError, match="mixup is for inputs in floats"):
        check_augment(Augment(mixup=0.2), words)
    check_augment(Augment(mixup=0.2), {"x": parse_type("f32[4,7]")})
    check_augment(Augment(), words)
