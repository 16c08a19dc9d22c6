"""What the points of a face mean: the contours among the mesh's 468 points, eyes, key points.

The numbers are the network's own (https://arxiv.org/abs/1907.06724); right and left are the
person's.
"""

from __future__ import annotations

from itertools import pairwise

from brim.vision.results import Skeleton

OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152,
    148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109, 10,
)  # fmt: skip
# Eyes and lips are rings that begin at one corner, run along the lower lid or lip, and come back.
RIGHT_EYE = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246, 33)
LEFT_EYE = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466, 263)
OUTER_LIPS = (
    61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185, 61,
)  # fmt: skip
INNER_LIPS = (
    78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191, 78,
)  # fmt: skip
BROWS = (
    (46, 53, 52, 65, 55), (70, 63, 105, 66, 107), (276, 283, 282, 295, 285),
    (300, 293, 334, 296, 336),
)  # fmt: skip
NOSE = ((168, 6, 197, 195, 5, 4), (48, 115, 220, 45, 4, 275, 440, 344, 278))

# Corners of each eye from the left to the right of an unmirrored picture.
RIGHT_CORNERS, LEFT_CORNERS = (33, 133), (362, 263)
TEMPLES = (234, 454)  # right and left, before the ears
FOREHEAD, NOSE_BASE = 10, 2

# The six points that BlazeFace gives, as means of points of the mesh.
KEY_POINTS = {
    "right_eye": RIGHT_CORNERS,
    "left_eye": LEFT_CORNERS,
    "nose_tip": (4,),
    "mouth": (13, 14),
    "right_tragion": (TEMPLES[0],),
    "left_tragion": (TEMPLES[1],),
}


def _chain(*rows: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    return tuple(pair for row in rows for pair in pairwise(row))


MESH = Skeleton(
    tuple(f"mesh_{n}" for n in range(468)),
    _chain(OVAL, RIGHT_EYE, LEFT_EYE, OUTER_LIPS, INNER_LIPS, *BROWS, *NOSE),
)
IRISES = Skeleton(
    tuple(f"{s}_{part}" for s in ("right", "left") for part in ("iris", "a", "b", "c", "d")),
    _chain((1, 2, 3, 4, 1), (6, 7, 8, 9, 6)),
)
KEYS = Skeleton(tuple(KEY_POINTS), ((0, 1), (0, 2), (1, 2), (2, 3)))
