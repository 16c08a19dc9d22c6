"""Reads text in a picture with the PP-OCR networks: pictures to tensors, tensors to lines of text.

Holds what surrounds the networks: the input tensors, the boxes from the detector's probability map
(differentiable binarization, https://arxiv.org/abs/1911.08947), the crops, the reading order and
the greedy decoding of the recogniser (connectionist temporal classification). It runs no network
itself: an `Engine` is any callable from named arrays to named arrays. Pillow resizes pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import atan2, ceil, cos, pi, sin
from pathlib import Path

import numpy as np

from brim.errors import InputError, ModelError

Engine = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]

# What the networks were trained with.
TEXT_HEIGHT = 48
DETECT_MULTIPLE = 32
ORIENT_WIDTH = 192
PIXEL_THRESHOLD = 0.3
BOX_THRESHOLD = 0.5
UNCLIP_RATIO = 1.6
TURNED_THRESHOLD = 0.9

# A line is padded to one of these widths (pixels), so that an engine that compiles per shape sees
# few shapes. A line longer than the last is squeezed into it (53 times as wide as high).
TEXT_WIDTHS = (320, 480, 640, 960, 1280, 1920, 2560)

# A smaller picture is enlarged to this shorter side (pixels): of 320 to 736 the smallest that read
# every line of a page of 11-pixel letters, skewed by up to 8 degrees either way.
SHORTEST_SIDE = 576
LONGEST_SIDE = 2048  # pixels of the detector's input; bounds the memory that a picture can ask for
SMALLEST_SIDE = 3  # pixels; a smaller spot in the probability map is noise
MOST_BOXES = 1000


@dataclass(frozen=True)
class Line:
    """A line of text. `score` is the mean probability of its characters. `box` holds the corners
    (x, y) in pixels of the picture: top left, top right, bottom right, bottom left of the *text*,
    so an upside-down line begins at the lower right."""

    text: str
    score: float
    box: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Rectangle:
    """A rotated rectangle: centre (x, y), half of width and height, angle in radians (clockwise on
    the screen, within a quarter of pi of the x axis)."""

    centre: tuple[float, float]
    half: tuple[float, float]
    angle: float

    def corners(self) -> np.ndarray:
        """f64[4,2], (x, y) of top left, top right, bottom right, bottom left."""
        along = np.array([cos(self.angle), sin(self.angle)]) * self.half[0]
        down = np.array([-sin(self.angle), cos(self.angle)]) * self.half[1]
        return np.array(self.centre) + np.array(
            [-along - down, along - down, along + down, down - along]
        )


def read_text(
    image: np.ndarray,
    detect: Engine,
    recognise: Engine,
    characters: Sequence[str],
    orient: Engine | None = None,
    shortest_side: int = SHORTEST_SIDE,
) -> list[Line]:
    """The lines of text in a picture, in reading order.

    image: u8[height, width, 3], RGB. `detect` maps x: f32[1,3,H,W] to f32[1,1,H,W]; `recognise`
    maps x: f32[1,3,48,W] to f32[1,T,len(characters)], the first character being the blank;
    `orient` (if given, a page that stands on its head is turned) maps x: f32[1,3,48,192] to
    f32[1,2]. The detector sees the picture enlarged to `shortest_side` pixels at least.
    Raises InputError for another kind of picture, ModelError when a network's output does not fit.
    """
    _check_image(image)
    tensor = detection_input(image, shortest_side)
    probability = _only(detect({"x": tensor}), "the text detector")
    if probability.shape != (1, 1, *tensor.shape[2:]):
        raise ModelError(
            "the text detector's output does not fit its input",
            why=f"expected {(1, 1, *tensor.shape[2:])}, got {probability.shape}",
        )
    scale = np.array(image.shape[1::-1]) / np.array(probability.shape[:1:-1])
    boxes = [upright(rectangle.corners() * scale) for rectangle in find_boxes(probability[0, 0])]
    if orient is not None and _page_is_upside_down(image, boxes, orient):
        boxes = [np.roll(box, 2, axis=0) for box in boxes]
    lines = []
    for box in in_reading_order(boxes):
        tensor = recognition_input(crop_box(image, box))
        text, score = decode(_only(recognise({"x": tensor}), "the text recogniser"), characters)
        if text:
            lines.append(Line(text, score, tuple((float(x), float(y)) for x, y in box)))
    return lines


def read_characters(model: Path | str) -> list[str]:
    """The characters of a recogniser: the index of a class gives its text, the blank ("") first.
    They are in the ONNX file's metadata under `character`. Raises ModelError when they are not."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        metadata = onnx.load(str(model), load_external_data=False).metadata_props
    except (OSError, ValueError, DecodeError) as error:
        raise ModelError("the recogniser cannot be read", str(error), str(model)) from None
    for entry in metadata:
        if entry.key == "character":
            return ["", *entry.value.splitlines(), " "]
    raise ModelError(
        "the recogniser names no characters",
        why="its ONNX metadata has no entry 'character'",
        where=str(model),
        hint="use the PP-OCR recogniser of `brim zoo`",
    )


# ---------------------------------------------------------------- pictures to tensors


def detection_input(image: np.ndarray, shortest_side: int = SHORTEST_SIDE) -> np.ndarray:
    """f32[1,3,H,W] for the detector from u8[height, width, 3]: the shorter side at least
    `shortest_side`, no side longer than LONGEST_SIDE, both multiples of 32."""
    height, width = image.shape[:2]
    ratio = max(1.0, shortest_side / min(height, width))
    ratio = min(ratio, LONGEST_SIDE / max(height, width))
    rows, columns = (
        max(round(side * ratio / DETECT_MULTIPLE), 1) * DETECT_MULTIPLE for side in (height, width)
    )
    return _tensor(_resize(image, rows, columns))


def recognition_input(crop: np.ndarray) -> np.ndarray:
    """f32[1,3,48,W] for the recogniser from a line u8[height, width, 3], W one of TEXT_WIDTHS."""
    needed = ceil(TEXT_HEIGHT * crop.shape[1] / crop.shape[0])
    width = next((w for w in TEXT_WIDTHS if w >= needed), TEXT_WIDTHS[-1])
    return _line_tensor(crop, min(needed, width), width)


def orientation_input(crop: np.ndarray) -> np.ndarray:
    """f32[1,3,48,192] for the orientation network from a line u8[height, width, 3]."""
    needed = ceil(TEXT_HEIGHT * crop.shape[1] / crop.shape[0])
    return _line_tensor(crop, min(needed, ORIENT_WIDTH), ORIENT_WIDTH)


def is_upside_down(crop: np.ndarray, orient: Engine) -> bool:
    """Whether the orientation network is sure that a line u8[height, width, 3] is turned."""
    probability = _only(orient({"x": orientation_input(crop)}), "the orientation network")
    if probability.shape != (1, 2):
        raise ModelError(
            "the orientation network's output does not fit",
            why=f"expected (1, 2), got {probability.shape}",
        )
    return bool(probability[0, 1] > TURNED_THRESHOLD)


def _page_is_upside_down(image: np.ndarray, boxes: Sequence[np.ndarray], orient: Engine) -> bool:
    """Most lines decide for the page: the network sees 48x192 pixels and errs on long lines."""
    votes = [is_upside_down(crop_box(image, box), orient) for box in boxes]
    return 2 * sum(votes) > len(votes)


def _line_tensor(crop: np.ndarray, used: int, width: int) -> np.ndarray:
    padded = np.zeros((1, 3, TEXT_HEIGHT, width), np.float32)
    padded[..., :used] = _tensor(_resize(crop, TEXT_HEIGHT, used))
    return padded


def _tensor(image: np.ndarray) -> np.ndarray:
    """f32[1,3,height,width] within -1..1 from RGB bytes; the networks were trained on BGR."""
    scaled = image[:, :, ::-1].astype(np.float32) / 127.5 - 1
    return np.ascontiguousarray(scaled.transpose(2, 0, 1)[None])


def _resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    from PIL import Image

    if image.shape[:2] == (height, width):
        return image
    picture = Image.fromarray(np.ascontiguousarray(image))
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))


def _check_image(image: np.ndarray) -> None:
    fits = isinstance(image, np.ndarray) and image.ndim == 3 and image.shape[2] == 3
    if not fits or image.dtype != np.uint8 or 0 in image.shape:
        got = f"{image.dtype}{list(image.shape)}" if isinstance(image, np.ndarray) else type(image)
        raise InputError(
            "the picture does not fit the text reader",
            why=f"expected u8[height, width, 3], got {got}",
            hint='np.asarray(PIL.Image.open(path).convert("RGB"))',
        )


# ---------------------------------------------------------------- probability map to boxes


def find_boxes(probability: np.ndarray) -> list[Rectangle]:
    """The rectangles of text in a probability map f32[height, width], in pixels of the map.

    Neighbouring likely pixels form a spot, a spot becomes its smallest rectangle, and that grows,
    because the detector is trained to mark the core of a line only.
    """
    mask = probability > PIXEL_THRESHOLD
    # A 2x2 dilation closes the one-pixel gaps between letters.
    mask[1:] |= mask[:-1].copy()
    mask[:, 1:] |= mask[:, :-1].copy()
    found = []
    for points in spots(mask)[:MOST_BOXES]:
        core = smallest_rectangle(points)
        if 2 * min(core.half) < SMALLEST_SIDE or _mean_within(probability, core) < BOX_THRESHOLD:
            continue
        width, height = 2 * core.half[0], 2 * core.half[1]
        grow = width * height * UNCLIP_RATIO / (2 * (width + height))
        half = (core.half[0] + grow, core.half[1] + grow)
        found.append(Rectangle(core.centre, half, core.angle))
    return found


def spots(mask: np.ndarray) -> list[np.ndarray]:
    """The 8-connected spots of a bool[height, width] as i64[n, 2] arrays of (x, y): the first and
    the last pixel of each of the spot's runs, which hold its outline."""
    row, first, last, label = _labelled_runs(mask)
    order = np.argsort(label, kind="stable")
    cuts = np.flatnonzero(np.diff(label[order])) + 1
    return [
        np.concatenate([np.stack([x[part], row[part]], 1) for x in (first, last)])
        for part in (np.split(order, cuts) if len(order) else [])
    ]


def _labelled_runs(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Horizontal runs of true pixels: row, first column, last column, label of the spot."""
    height, width = mask.shape
    stride = width + 2  # one false pixel on either side: no run goes around the end of a row
    flat = np.zeros((height, stride), np.int8)
    flat[:, 1:-1] = mask
    edges = np.diff(flat.reshape(-1), prepend=np.int8(0))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    # Runs are sorted, so those of the row above that touch a run (diagonally too) are a range.
    low = np.searchsorted(ends, starts - stride, side="left")
    high = np.searchsorted(starts, ends - stride, side="right")
    count = np.maximum(high - low, 0)
    lower = np.repeat(np.arange(len(starts)), count)
    upper = np.repeat(low - (np.cumsum(count) - count), count) + np.arange(count.sum())
    label = _connected(len(starts), lower, upper)
    return starts // stride, starts % stride - 1, ends % stride - 2, label


def _connected(count: int, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """For nodes 0..count-1 joined by pairs (a[i], b[i]): the smallest node of each one's component.

    Roots are hooked to smaller roots and paths are halved, both for all nodes at once, which ends
    after about log2(count) rounds (Shiloach and Vishkin, 1982).
    """
    label = np.arange(count)
    while True:
        root_a, root_b = label[a], label[b]
        if np.array_equal(root_a, root_b):
            return label
        low = np.minimum(root_a, root_b)
        np.minimum.at(label, root_a, low)
        np.minimum.at(label, root_b, low)
        while not np.array_equal(label[label], label):
            label = label[label]


def smallest_rectangle(points: np.ndarray) -> Rectangle:
    """The rectangle of least area around i64[n, 2] points (x, y). One of its sides lies on a side
    of the convex hull, so it is enough to try those directions."""
    hull = _convex_hull(points).astype(np.float64)
    sides = np.roll(hull, -1, axis=0) - hull
    angles = np.arctan2(sides[:, 1], sides[:, 0])
    angles = np.unique((angles + pi / 4) % (pi / 2) - pi / 4)
    along = np.stack([np.cos(angles), np.sin(angles)], 1)
    down = np.stack([-np.sin(angles), np.cos(angles)], 1)
    x, y = hull @ along.T, hull @ down.T
    best = int(np.argmin(np.ptp(x, axis=0) * np.ptp(y, axis=0)))
    x, y = x[:, best], y[:, best]
    middle = (x.min() + x.max()) / 2 * along[best] + (y.min() + y.max()) / 2 * down[best]
    return Rectangle(
        (float(middle[0]), float(middle[1])),
        (float(np.ptp(x)) / 2, float(np.ptp(y)) / 2),
        float(angles[best]),
    )


def _convex_hull(points: np.ndarray) -> np.ndarray:
    """The corners of the convex hull in order (Andrew's monotone chain)."""
    ordered = [(int(x), int(y)) for x, y in np.unique(points, axis=0)]
    if len(ordered) < 3:
        return np.array(ordered)

    def half(sequence: list[tuple[int, int]]) -> list[tuple[int, int]]:
        chain: list[tuple[int, int]] = []
        for x, y in sequence:
            while len(chain) > 1:
                (ax, ay), (bx, by) = chain[-2:]
                if (bx - ax) * (y - ay) > (by - ay) * (x - ax):
                    break
                chain.pop()
            chain.append((x, y))
        return chain[:-1]

    return np.array(half(ordered) + half(ordered[::-1]))


def _mean_within(probability: np.ndarray, rectangle: Rectangle) -> float:
    """Mean probability of the pixels in a rectangle."""
    height, width = probability.shape
    corners = rectangle.corners()
    left, top = np.clip(np.floor(corners.min(0)).astype(int), 0, (width - 1, height - 1))
    right, bottom = np.clip(np.ceil(corners.max(0)).astype(int), 0, (width - 1, height - 1))
    x = np.arange(left, right + 1)[None, :] - rectangle.centre[0]
    y = np.arange(top, bottom + 1)[:, None] - rectangle.centre[1]
    across, downward = cos(rectangle.angle), sin(rectangle.angle)
    inside = (np.abs(x * across + y * downward) <= rectangle.half[0] + 0.5) & (
        np.abs(y * across - x * downward) <= rectangle.half[1] + 0.5
    )
    return float(probability[top : bottom + 1, left : right + 1][inside].mean())


# ---------------------------------------------------------------- boxes to lines


def in_reading_order(boxes: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Boxes f64[4,2] row by row from the top, each row from the left. The page may be skewed: rows
    run along the median direction of the boxes."""
    if not boxes:
        return []
    # The median of the directions' parts, not of their angles: those jump between pi and -pi.
    x, y = np.median([(box[1] - box[0]) / np.linalg.norm(box[1] - box[0]) for box in boxes], axis=0)
    skew = atan2(y, x)
    x_axis, y_axis = np.array([cos(skew), sin(skew)]), np.array([-sin(skew), cos(skew)])
    rows: list[list[np.ndarray]] = []
    for box in sorted(boxes, key=lambda box: float(box.mean(0) @ y_axis)):
        # A box belongs to the row whose last box's middle it covers.
        height = float(np.linalg.norm(box[3] - box[0]))
        if rows and abs(float((rows[-1][-1].mean(0) - box.mean(0)) @ y_axis)) < height / 2:
            rows[-1].append(box)
        else:
            rows.append([box])
    return [box for row in rows for box in sorted(row, key=lambda box: float(box[0] @ x_axis))]


def upright(box: np.ndarray) -> np.ndarray:
    """The corners f64[4,2] in the text's order: a box that is clearly higher than wide holds text
    that runs from the bottom to the top."""
    width, height = (np.linalg.norm(box[i] - box[0]) for i in (1, 3))
    return np.roll(box, 1, axis=0) if height >= 1.5 * width else box


def crop_box(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Cuts the (nearly) rectangular box f64[4,2] out of u8[height, width, 3], its first corner at
    the top left of the result, as many pixels wide and high as the box's sides are long."""
    from PIL import Image

    corners = np.clip(box, 0, image.shape[1::-1])
    columns, rows = (max(round(float(np.linalg.norm(corners[i] - corners[0]))), 1) for i in (1, 3))
    right, down = (corners[1] - corners[0]) / columns, (corners[3] - corners[0]) / rows
    x, y = corners[0]
    cut = Image.fromarray(image).transform(
        (columns, rows),
        Image.Transform.AFFINE,
        (right[0], down[0], x, right[1], down[1], y),
        Image.Resampling.BICUBIC,
    )
    return np.asarray(cut)


def decode(scores: np.ndarray, characters: Sequence[str]) -> tuple[str, float]:
    """Text and mean probability from f32[1,T,len(characters)]: the best class of each step, repeats
    merged, blanks (class 0) dropped."""
    if scores.ndim != 3 or scores.shape[0] != 1 or scores.shape[2] != len(characters):
        raise ModelError(
            "the text recogniser's output does not fit its characters",
            why=f"expected (1, steps, {len(characters)}), got {scores.shape}",
        )
    best = scores[0].argmax(1)
    kept = best != 0
    kept[1:] &= best[1:] != best[:-1]
    if not kept.any():
        return "", 0.0
    text = "".join(characters[i] for i in best[kept])
    return text, float(scores[0].max(1)[kept].mean())


def _only(outputs: dict[str, np.ndarray], who: str) -> np.ndarray:
    if len(outputs) != 1:
        raise ModelError(f"{who} must have one output", why=f"it has {sorted(outputs)}")
    return next(iter(outputs.values()))
