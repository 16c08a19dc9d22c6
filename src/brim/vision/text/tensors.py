"""Pictures and lines of text as the tensors that the PP-OCR networks take."""

from __future__ import annotations

from math import ceil

import numpy as np

from brim.vision.whole import resized

# What the networks were trained with.
TEXT_HEIGHT = 48
DETECT_MULTIPLE = 32
ORIENT_WIDTH = 192

# A line is padded to one of these widths (pixels), so that an engine that compiles per shape sees
# few shapes. A line longer than the last is squeezed into it (53 times as wide as high).
TEXT_WIDTHS = (320, 480, 640, 960, 1280, 1920, 2560)

# A smaller picture is enlarged to this shorter side (pixels): of 320 to 736 the smallest that read
# every line of a page of 11-pixel letters, skewed by up to 8 degrees either way.
SHORTEST_SIDE = 576
LONGEST_SIDE = 2048  # pixels of the detector's input; bounds the memory that a picture can ask for


def detection_input(image: np.ndarray, shortest_side: int = SHORTEST_SIDE) -> np.ndarray:
    """f32[1,3,H,W] for the detector from u8[height, width, 3]: the shorter side at least
    `shortest_side`, no side longer than LONGEST_SIDE, both multiples of 32."""
    height, width = image.shape[:2]
    ratio = max(1.0, shortest_side / min(height, width))
    ratio = min(ratio, LONGEST_SIDE / max(height, width))
    rows, columns = (
        max(round(side * ratio / DETECT_MULTIPLE), 1) * DETECT_MULTIPLE for side in (height, width)
    )
    return _tensor(resized(image, columns, rows))


def recognition_input(crop: np.ndarray) -> np.ndarray:
    """f32[1,3,48,W] for the recogniser from a line u8[height, width, 3], W one of TEXT_WIDTHS."""
    needed = ceil(TEXT_HEIGHT * crop.shape[1] / crop.shape[0])
    width = next((w for w in TEXT_WIDTHS if w >= needed), TEXT_WIDTHS[-1])
    return _line_tensor(crop, min(needed, width), width)


def orientation_input(crop: np.ndarray) -> np.ndarray:
    """f32[1,3,48,192] for the orientation network from a line u8[height, width, 3]."""
    needed = ceil(TEXT_HEIGHT * crop.shape[1] / crop.shape[0])
    return _line_tensor(crop, min(needed, ORIENT_WIDTH), ORIENT_WIDTH)


def _line_tensor(crop: np.ndarray, used: int, width: int) -> np.ndarray:
    padded = np.zeros((1, 3, TEXT_HEIGHT, width), np.float32)
    padded[..., :used] = _tensor(resized(crop, used, TEXT_HEIGHT))
    return padded


def _tensor(image: np.ndarray) -> np.ndarray:
    """f32[1,3,height,width] within -1..1 from RGB bytes; the networks were trained on BGR."""
    scaled = image[:, :, ::-1].astype(np.float32) / 127.5 - 1
    return np.ascontiguousarray(scaled.transpose(2, 0, 1)[None])
