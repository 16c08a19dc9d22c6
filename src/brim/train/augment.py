"""Augmentation: pictures are seen a little different in each epoch, and mixed with one another.

What a batch becomes follows from the seed, the epoch and the batch's number alone: a training that
is resumed sees the same. Works on arrays as the network takes them, of any scale: colours change
relative to each picture's own mean and spread. Sources: crop: Szegedy 2015, arXiv:1409.4842; mixup:
Zhang 2018, arXiv:1710.09412.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import RandomState

from brim.compress.data import Batch
from brim.errors import InputError
from brim.types import Type


@dataclass(frozen=True)
class Augment:
    """flip: half of the pictures become their mirror images, left and right.
    crop: of each picture a part is enlarged to all of it, whose sides are at least this share of
    the picture's, bilinearly; 1 leaves them as they are.
    colour: brightness (in standard deviations), contrast and, with three channels, saturation
    change by up to this share.
    mixup: pairs of samples become weighted means, in labels as well; the weight is from
    Beta(mixup, mixup); 0 mixes nothing. Needs a loss of probabilities.
    """

    flip: bool = False
    crop: float = 1.0
    colour: float = 0.0
    mixup: float = 0.0

    def __post_init__(self) -> None:
        if not (0 < self.crop <= 1 and 0 <= self.colour < 1 and self.mixup >= 0):
            raise InputError(
                f"{self} has numbers out of range",
                why="crop is above 0 up to 1, colour from 0 to less than 1, mixup 0 or more",
            )

    @property
    def of_pictures(self) -> bool:
        """Whether it changes pictures, and not only how they are mixed."""
        return self.flip or self.crop < 1 or self.colour > 0


def check_augment(how: Augment, inputs: Mapping[str, Type]) -> None:
    """Raises InputError where the network's inputs cannot be augmented so."""
    fitting = len(inputs) == 1 and all(_is_picture(type) for type in inputs.values())
    if how.of_pictures and not fitting:
        raise InputError(
            "flip, crop and colour are for networks whose one input is pictures in floats",
            why=", ".join(f"{name} is {type}" for name, type in inputs.items()),
        )
    if how.mixup and not all(type.dtype.is_float for type in inputs.values()):
        raise InputError("mixup is for inputs in floats")


def _is_picture(type: Type) -> bool:
    return (
        type.rank == 4 and type.dtype.is_float and (type.dims[1] in (1, 3) or _is_last(type.dims))
    )


def _is_last(shape: tuple[int, ...]) -> bool:
    """Whether channels are the last axis; as `network_input` tells it."""
    return shape[1] not in (1, 3) and shape[3] in (1, 3)


def augmented(batch: Batch, how: Augment, seeds: Sequence[int], classes: int = 0) -> Batch:
    """A batch as training sees it.

    seeds: the training's, the epoch and the number of the batch in it. classes: of labels that
    mixup turns into probabilities f32[samples, classes].
    """
    random = RandomState(list(seeds))
    feeds, labels = batch.feeds, batch.labels
    if how.of_pictures:
        ((name, pictures),) = feeds.items()
        last = _is_last(pictures.shape)
        pictures = pictures.transpose(0, 3, 1, 2) if last else pictures
        changed = _changed(pictures, how, random)
        changed = changed.transpose(0, 2, 3, 1) if last else changed
        feeds = {name: np.ascontiguousarray(changed, dtype=feeds[name].dtype)}
    if how.mixup:
        assert labels is not None
        weight = random.beta(how.mixup, how.mixup, len(labels))
        probabilities = np.eye(classes, dtype=np.float32)[labels]
        feeds = {name: _mixed(array, weight) for name, array in feeds.items()}
        labels = _mixed(probabilities, weight)
    return replace(batch, feeds=feeds, labels=labels)


def _mixed(array: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Each row with the one before it."""
    weight = weight.reshape(-1, *[1] * (array.ndim - 1)).astype(array.dtype)
    return weight * array + (1 - weight) * np.roll(array, 1, axis=0)


def _changed(x: np.ndarray, how: Augment, random: RandomState) -> np.ndarray:
    """[n, channels, height, width]."""
    n = len(x)
    flips, places = random.uniform(size=n) < 0.5, random.uniform(size=(3, n))
    if how.crop < 1:
        side = how.crop + (1 - how.crop) * places[0]
        for axis, place in ((2, places[1]), (3, places[2])):
            x = _enlarged(x, axis, place * (1 - side), side)
    if how.flip:
        x = np.where(flips[:, None, None, None], x[..., ::-1], x)
    if how.colour:
        bright, contrast, colours = random.uniform(-how.colour, how.colour, (3, n, 1, 1, 1))
        mean, spread = (f(x, axis=(1, 2, 3), keepdims=True) for f in (np.mean, np.std))
        grey = x.mean(axis=1, keepdims=True)
        x = grey + (x - grey) * (1 + colours)
        x = mean + (x - mean) * (1 + contrast) + bright * spread
    return x


def _enlarged(x: np.ndarray, axis: int, start: np.ndarray, side: np.ndarray) -> np.ndarray:
    """Of each sample the part from `start` on of length `side`, shares of the axis, as the whole
    axis: linear between the centres of pixels, as resizing is (half-pixel centres)."""
    size = x.shape[axis]
    at = (start[:, None] + side[:, None] * (np.arange(size) + 0.5) / size) * size - 0.5
    at = np.clip(at, 0, size - 1)
    low = np.minimum(at.astype(np.int64), max(size - 2, 0))
    shape = [len(x), 1, 1, 1]
    shape[axis] = size
    weight = (at - low).astype(x.dtype).reshape(shape)
    first = np.take_along_axis(x, low.reshape(shape), axis)
    second = np.take_along_axis(x, np.minimum(low + 1, size - 1).reshape(shape), axis)
    return first + weight * (second - first)
