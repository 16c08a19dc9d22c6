"""Head pose, expressions and gestures of faces and hands that are built here, point by point."""

from __future__ import annotations

from math import cos, radians, sin

import numpy as np
import pytest

from brim.vision import face_points as at
from brim.vision.face_geometry import expression, head_pose
from brim.vision.gestures import gesture, straightness
from brim.vision.hands import SKELETON
from brim.vision.pose import HEAT_SIDE, refined

RIGHT, LEFT = at.TEMPLES
MOUTH = {"right": at.OUTER_LIPS[0], "left": at.OUTER_LIPS[10]}


def face(
    eyes: float = 8.0, mouth: float = 0.0, width: float = 50.0, lift: float = 0.0
) -> np.ndarray:
    """A face of 100 pixels between the outer corners of its eyes, seen from the front. eyes, mouth:
    heights of the openings; width: of the mouth; lift: of its corners."""
    points = np.zeros((468, 3))
    points[[RIGHT, LEFT]] = [[-70, 0, 60], [70, 0, 60]]
    points[at.FOREHEAD], points[at.NOSE_BASE] = (0, -80, 0), (0, 40, 0)
    for ring, middle in ((at.RIGHT_EYE, -35), (at.LEFT_EYE, 35)):
        outer = middle - 15 if middle < 0 else middle + 15
        for n in range(9):
            x = outer + (2 * middle - 2 * outer) * n / 8
            points[ring[n]] = (x, eyes / 2 * (0 < n < 8), 0)
            points[ring[-1 - n]] = (x, -eyes / 2 * (0 < n < 8), 0)
    points[MOUTH["right"]], points[MOUTH["left"]] = (
        (-width / 2, 60 - lift, 0),
        (width / 2, 60 - lift, 0),
    )
    lips = [at.INNER_LIPS[n] for n in (0, 5, 10, 15)]
    points[lips] = [[-20, 60, 0], [0, 60 + mouth / 2, 0], [20, 60, 0], [0, 60 - mouth / 2, 0]]
    return points


def about(axis: int, degrees: float) -> np.ndarray:
    """A rotation: of y to z, of z to x, of x to y."""
    a, b = [n for n in range(3) if n != axis][:: -1 if axis == 1 else 1]
    matrix = np.eye(3)
    matrix[a, a] = matrix[b, b] = cos(radians(degrees))
    matrix[b, a], matrix[a, b] = sin(radians(degrees)), -sin(radians(degrees))
    return matrix


@pytest.mark.parametrize("degrees", [-50, -10, 0, 25, 60])
def test_each_turn_of_the_head_alone(degrees: int) -> None:
    """The nose goes to the right of the picture, up, and the crown to the left of the picture."""
    for axis, name, sense in ((1, "yaw", -1), (0, "pitch", -1), (2, "roll", -1)):
        turned = face() @ about(axis, sense * degrees).T
        ahead = about(axis, sense * degrees) @ (0, 0, -1)
        crown = about(axis, sense * degrees) @ (0, -1, 0)
        shown = {"yaw": ahead[0], "pitch": -ahead[1], "roll": -crown[0]}[name]
        assert shown == pytest.approx(sin(radians(degrees)))
        found = head_pose(turned.astype(np.float32))
        for each in ("yaw", "pitch", "roll"):
            assert getattr(found, each) == pytest.approx(degrees * (each == name), abs=0.01)


def test_head_pose_ignores_size_place_and_expression() -> None:
    turn = about(1, 20) @ about(0, 10)
    plain = head_pose(face() @ turn.T)
    other = head_pose(face(0, 30, 80, 9) @ turn.T * 7 + (300, 200, 5))
    assert other.yaw == pytest.approx(plain.yaw)
    assert other.pitch == pytest.approx(plain.pitch)
    assert other.roll == pytest.approx(plain.roll)


def test_openings_are_height_over_width() -> None:
    found = expression(face(eyes=9.0, mouth=20.0))
    assert found.right_eye == pytest.approx(9 / 30)
    assert found.left_eye == pytest.approx(9 / 30)
    assert found.mouth == pytest.approx(20 / 40)
    assert expression(face(eyes=0.0)).right_eye == 0
    winking = face()
    winking[list(at.RIGHT_EYE)] = face(eyes=0.0)[list(at.RIGHT_EYE)]
    found = expression(winking)
    assert found.right_eye == 0
    assert found.left_eye > 0.2


def test_expressions_are_the_same_from_every_side() -> None:
    plain = expression(face(9, 5, 68, 6))
    turned = expression(face(9, 5, 68, 6) @ (about(1, 40) @ about(2, 20)).T * 3 + (50, 60, 0))
    for name in ("right_eye", "left_eye", "mouth", "smile"):
        assert getattr(turned, name) == pytest.approx(getattr(plain, name))


def test_a_smile_is_wide_and_lifted() -> None:
    assert expression(face()).smile == 0
    assert expression(face(width=75, lift=-3)).smile == 0  # a grimace
    assert expression(face(width=50, lift=9)).smile == 0
    assert expression(face(width=75, lift=9)).smile == 1
    assert 0 < expression(face(width=64, lift=5)).smile < 1


def test_a_face_without_extent_has_finite_measures() -> None:
    found = expression(np.zeros((468, 3), np.float32))
    assert found.smile == found.mouth == found.right_eye == 0
    assert np.isfinite(head_pose(np.zeros((468, 3), np.float32)).yaw)


# ---------------------------------------------------------------- hands


def hand(curls: tuple[float, float, float, float, float]) -> np.ndarray:
    """A hand that points upwards, its palm 1 long; each finger's joints bend by `curl` degrees,
    towards the viewer. The thumb points to the right."""
    points = np.zeros((21, 3))
    for finger, curl in enumerate(curls):
        at_first = (
            np.array([0.35, -0.25, 0])
            if finger == 0
            else np.array([0.25 - 0.2 * (finger - 1), -1, 0])
        )
        direction = np.array([0.7, -0.7, 0]) if finger == 0 else np.array([0, -1, 0])
        side = np.array([-0.7, -0.7, 0]) if finger == 0 else np.array([0, 0, -1])
        place, angle = at_first, 0.0
        for joint in range(4):
            points[1 + 4 * finger + joint] = place
            place = place + 0.35 * (cos(radians(angle)) * direction + sin(radians(angle)) * side)
            angle += curl
    return points


STRAIGHT, BENT = 5.0, 95.0
SHOWN = {
    "open": (STRAIGHT,) * 5,
    "fist": (BENT,) * 5,
    "point": (BENT, STRAIGHT, BENT, BENT, BENT),
    "victory": (BENT, STRAIGHT, STRAIGHT, BENT, BENT),
    "": (BENT, BENT, BENT, BENT, STRAIGHT),
}


@pytest.mark.parametrize("name", SHOWN)
@pytest.mark.parametrize("degrees", [0, 90, 200])
def test_gestures_whichever_way_the_hand_points(name: str, degrees: int) -> None:
    points = (hand(SHOWN[name]) @ about(2, degrees).T).astype(np.float32)
    assert gesture(points * 0.08, points * 100 + 300) == name
    mirrored = points * (-1, 1, 1)
    assert gesture(mirrored * 0.08, mirrored * 100 + 300) == name


def test_a_thumb_is_up_only_upwards() -> None:
    points = hand((STRAIGHT, BENT, BENT, BENT, BENT))
    for degrees, name in ((-45, "thumbs_up"), (135, "fist"), (45, "fist")):
        turned = (points @ about(2, degrees).T).astype(np.float32)
        assert gesture(turned, turned * 100 + 300) == name


def test_ok_is_a_ring_of_thumb_and_index() -> None:
    points = hand((STRAIGHT, 60.0, STRAIGHT, STRAIGHT, STRAIGHT))
    points[4] = points[8] + (0.05, 0, 0)
    assert gesture(points, points * 100) == "ok"


def test_a_half_bent_finger_is_neither() -> None:
    points = hand((BENT, 45.0, BENT, BENT, BENT))
    assert gesture(points, points * 100) == ""


def test_straightness() -> None:
    line = np.array([[0, 0, 0], [1, 1, 0], [2, 2, 0], [5, 5, 0]])
    assert straightness(line) == pytest.approx(1)
    assert straightness(np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])) == pytest.approx(
        1 / 3
    )
    assert straightness(np.zeros((4, 3))) == 0


def test_names_of_joints() -> None:
    names = SKELETON.names
    assert len(names) == 21
    assert names[0] == "wrist"
    assert names[1:5] == ("thumb_cmc", "thumb_mcp", "thumb_ip", "thumb_tip")
    assert names[17:] == ("pinky_mcp", "pinky_pip", "pinky_dip", "pinky_tip")


# ---------------------------------------------------------------- heat maps of bodies


def test_points_move_to_the_heat_about_them() -> None:
    heat = np.zeros((HEAT_SIDE, HEAT_SIDE, 3), np.float32)
    heat[20, 30:32, 0] = 0.8  # a spot of two cells
    heat[20, 30, 1] = 0.4  # too weak
    heat[50, 50, 2] = 0.9  # too far
    points = np.array([[122, 78, 1], [122, 78, 2], [122, 78, 3]], np.float32)
    found = refined(points, heat)
    np.testing.assert_allclose(found[0], [122, 80, 1])
    np.testing.assert_array_equal(found[1:], points[1:])


def test_points_outside_are_left_alone() -> None:
    points = np.array([[-3, 5, 0], [300, 5, 0], [5, 256, 0], [0, 0, 0]], np.float32)
    heat = np.ones((HEAT_SIDE, HEAT_SIDE, 4), np.float32)
    np.testing.assert_array_equal(refined(points, heat)[:3], points[:3])
