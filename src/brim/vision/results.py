"""What kits find: boxes, landmarks and masks of one shape for all kits, and what they convert to.

Positions are in pixels of the upright picture: (0, 0) is the upper left corner of its upper left
pixel, so a pixel's centre lies at halves. `normalised` gives the same in widths and heights of the
picture. Everything is frozen, and its arrays are read-only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from brim.errors import UnsupportedError

DECIMALS = 4  # of numbers in JSON: pixels and scores are not known better


class Size(NamedTuple):
    """Of a picture, in pixels."""

    width: int
    height: int


@dataclass(frozen=True)
class Box:
    """An upright rectangle in pixels; it may reach beyond the picture."""

    left: float
    top: float
    right: float
    bottom: float
    picture: Size

    @property
    def width(self) -> float:
        """In pixels."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """In pixels."""
        return self.bottom - self.top

    @property
    def normalised(self) -> tuple[float, float, float, float]:
        """left, top, right, bottom in widths and heights of the picture."""
        width, height = self.picture
        return self.left / width, self.top / height, self.right / width, self.bottom / height

    def to_numpy(self) -> np.ndarray:
        """f32[4]: left, top, right, bottom in pixels."""
        return np.array([self.left, self.top, self.right, self.bottom], np.float32)


@dataclass(frozen=True)
class Skeleton:
    """What landmarks mean: a name for each, and the pairs that a drawing joins by lines."""

    names: tuple[str, ...]
    lines: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Named points. pixels: f32[n,3], x and y in pixels, z (depth, smaller is nearer, 0 where a
    network gives none) in the same unit; visibility: f32[n], the probability that a point is in the
    picture and not hidden, None where the network does not tell."""

    pixels: np.ndarray
    skeleton: Skeleton
    picture: Size
    visibility: np.ndarray | None = None

    def __post_init__(self) -> None:
        freeze(self.pixels, self.visibility)

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, name: str) -> np.ndarray:
        """f32[3]: the point of that name, in pixels. Raises KeyError."""
        try:
            return self.pixels[self.skeleton.names.index(name)]
        except ValueError:
            raise KeyError(name) from None

    @property
    def normalised(self) -> np.ndarray:
        """f32[n,3]: x and z in widths, y in heights of the picture."""
        width, height = self.picture
        return self.pixels / np.array([width, height, width], np.float32)

    @property
    def box(self) -> Box:
        """The smallest box around all points."""
        left, top = self.pixels[:, :2].min(0)
        right, bottom = self.pixels[:, :2].max(0)
        return Box(float(left), float(top), float(right), float(bottom), self.picture)


@dataclass(frozen=True, eq=False, kw_only=True)
class Found:
    """One thing in a picture. score: 0..1, how sure the network is; mask: f32[height, width] of the
    whole picture, the probability that a pixel belongs to the thing; corners: f32[4,2] of a box
    that is turned with the thing, x and y in pixels, from its own upper left clockwise."""

    label: str
    score: float
    box: Box
    landmarks: Landmarks | None = None
    mask: np.ndarray | None = None
    corners: np.ndarray | None = None

    def __post_init__(self) -> None:
        freeze(self.mask, self.corners)

    @property
    def shown(self) -> tuple[Landmarks, ...]:
        """The landmarks that a drawing shows; without any it shows the box."""
        return () if self.landmarks is None else (self.landmarks,)


F = TypeVar("F", bound=Found)


@dataclass(frozen=True, eq=False)
class Results(Sequence[F], Generic[F]):
    """All that a kit found in one picture, the surest first: a sequence of `Found`s.

    picture: size of the upright picture. labels: all that `Found.label` can be, in the order of
    class numbers, which start at 0 (at 1 in COCO). skeleton: of their landmarks, where they have.
    """

    picture: Size
    found: tuple[F, ...]
    labels: tuple[str, ...]
    skeleton: Skeleton | None = None

    def __len__(self) -> int:
        return len(self.found)

    def __getitem__(self, index: Any) -> Any:
        return self.found[index]

    def __iter__(self) -> Iterator[F]:
        return iter(self.found)

    def draw(self, image: Any) -> Any:
        """A new Pillow image: the picture (as `read_picture` takes it) with all that was found."""
        from brim.vision.draw import draw

        return draw(image, self)

    def as_dict(self) -> dict[str, Any]:
        """Everything, as JSON has it: arrays are lists, masks are COCO's run lengths."""
        return {
            "picture": {"width": self.picture.width, "height": self.picture.height},
            "found": [_plain(each) for each in self.found],
        }

    def to_json(self) -> str:
        """`as_dict` as one JSON document."""
        return json.dumps(self.as_dict())

    def to_numpy(self) -> dict[str, np.ndarray]:
        """boxes f32[n,4] (left, top, right, bottom in pixels), scores f32[n], classes i64[n]; where
        the kit gives them landmarks f32[n,k,3] and masks f32[n,height,width]."""
        boxes = [each.box.to_numpy() for each in self.found]
        arrays: dict[str, np.ndarray] = {
            "boxes": np.array(boxes, np.float32).reshape(-1, 4),
            "scores": np.array([each.score for each in self.found], np.float32),
            "classes": np.array([self.labels.index(each.label) for each in self.found], np.int64),
        }
        points = [each.landmarks.pixels for each in self.found if each.landmarks is not None]
        masks = [each.mask for each in self.found if each.mask is not None]
        if self.skeleton is not None:
            count = len(self.skeleton.names)
            arrays["landmarks"] = np.array(points, np.float32).reshape(-1, count, 3)
        if masks:
            arrays["masks"] = np.stack(masks)
        return arrays

    def to_coco(self, file_name: str = "", image_id: int = 1) -> dict[str, Any]:
        """A COCO data set of this one picture: images, categories and annotations, whose boxes are
        [x, y, width, height], keypoints [x, y, v] with v 2 (visible) or 1, masks run lengths."""
        width, height = self.picture
        return {
            "images": [{"id": image_id, "file_name": file_name, "width": width, "height": height}],
            "categories": [self._category(n) for n in range(len(self.labels))],
            "annotations": [
                {"id": n + 1, "image_id": image_id, **self._annotation(each)}
                for n, each in enumerate(self.found)
            ],
        }

    def _category(self, number: int) -> dict[str, Any]:
        category: dict[str, Any] = {"id": number + 1, "name": self.labels[number]}
        if self.skeleton is not None:
            category["keypoints"] = list(self.skeleton.names)
            category["skeleton"] = [[a + 1, b + 1] for a, b in self.skeleton.lines]
        return category

    def _annotation(self, each: Found) -> dict[str, Any]:
        box = each.box
        annotation: dict[str, Any] = {
            "category_id": self.labels.index(each.label) + 1,
            "bbox": [_rounded(n) for n in (box.left, box.top, box.width, box.height)],
            "area": _rounded(box.width * box.height),
            "iscrowd": 0,
            "score": _rounded(each.score),
        }
        if each.landmarks is not None:
            points = each.landmarks
            shown = np.ones(len(points)) if points.visibility is None else points.visibility
            annotation["num_keypoints"] = len(points)
            annotation["keypoints"] = [
                number
                for (x, y, _), v in zip(points.pixels, shown)
                for number in (_rounded(x), _rounded(y), 2 if v > 0.5 else 1)
            ]
        if each.mask is not None:
            annotation["segmentation"] = run_lengths(each.mask > 0.5)
            annotation["area"] = int((each.mask > 0.5).sum())
        return annotation

    def to_supervision(self) -> Any:
        """`supervision.Detections`. Raises UnsupportedError where that is not installed."""
        try:
            import supervision
        except ImportError as error:
            raise UnsupportedError(
                "converting needs supervision", str(error), hint="pip install supervision"
            ) from None
        arrays = self.to_numpy()
        masks = arrays.get("masks")
        return supervision.Detections(
            xyxy=arrays["boxes"],
            confidence=arrays["scores"],
            class_id=arrays["classes"],
            mask=None if masks is None else masks > 0.5,
            data={"class_name": np.array([each.label for each in self.found], np.str_)},
        )


def freeze(*arrays: np.ndarray | None) -> None:
    """Sets arrays read-only."""
    for array in arrays:
        if array is not None:
            array.flags.writeable = False


def run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """COCO's uncompressed run lengths of a bool[height, width], column by column: how many false
    pixels come first, then how many true ones, and so on."""
    column = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(column)) + 1
    first = [0] if column[:1].any() else []
    counts = np.diff([*first, 0, *edges, len(column)])
    return {"size": [int(n) for n in mask.shape], "counts": [int(n) for n in counts]}


def _rounded(number: Any) -> float:
    return round(float(number), DECIMALS)


def _plain(value: Any) -> Any:
    """A value as JSON has it. What is the same for all is left out: how landmarks are named, and
    how large the picture is."""
    if isinstance(value, np.ndarray):
        return np.round(value.astype(np.float64), DECIMALS).tolist()
    if is_dataclass(value) and not isinstance(value, type):
        named = {f.name: getattr(value, f.name) for f in fields(value)}
        return {
            name: run_lengths(part > 0.5) if name == "mask" else _plain(part)
            for name, part in named.items()
            if part is not None and name not in ("skeleton", "picture")
        }
    if isinstance(value, (tuple, list)):
        return [_plain(each) for each in value]
    if isinstance(value, (float, np.floating)):
        return _rounded(value)
    return value
