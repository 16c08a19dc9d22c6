"""Masks that a network gives for a region, laid on the whole picture."""

from __future__ import annotations

import numpy as np

from brim.pictures import pillow
from brim.vision.regions import Region


def on_picture(mask: np.ndarray, region: Region, width: int, height: int) -> np.ndarray:
    """f32[height, width] from f32[rows, columns] of a region: between its samples in proportion
    (bilinear), beyond the region 0. Raises UnsupportedError where Pillow is not installed."""
    Image = pillow()
    rows, columns = mask.shape
    corners = region.corners()
    left, top = np.clip(np.floor(corners.min(0)), 0, (width, height)).astype(int)
    right, bottom = np.clip(np.ceil(corners.max(0)), 0, (width, height)).astype(int)
    whole = np.zeros((height, width), np.float32)
    if left < right and top < bottom:
        forward = np.vstack([region.matrix(columns, rows), [0, 0, 1]]).astype(np.float64)
        back = np.linalg.inv(forward)[:2]
        back[:, 2] += back[:, :2] @ (left, top)
        part = Image.fromarray(mask).transform(
            (int(right - left), int(bottom - top)), Image.Transform.AFFINE,
            back.ravel().tolist(), Image.Resampling.BILINEAR,
        )  # fmt: skip
        whole[top:bottom, left:right] = part
    return whole
