"""Command-line text to arrays and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from brim.cli.values import parse_inputs, parse_shapes, save_arrays
from brim.errors import InputError
from brim.types import F32, STORAGE, DType, Type, parse_type

IMAGE = {"x": parse_type("f32[1,3,4,6]")}


def one(text: str, type: str, **more: object) -> np.ndarray:
    return parse_inputs([text], {"x": parse_type(type)}, **more)["x"]


def test_shapes() -> None:
    assert parse_shapes(["x=1x3x8", "a=b=2", "s="]) == {"x": (1, 3, 8), "a=b": (2,), "s": ()}


@pytest.mark.parametrize("text", ["x", "=3", "x=1x", "x=-1", "x=axb", "x=1,2"])
def test_bad_shapes_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="not a shape"):
        parse_shapes([text])


@pytest.mark.parametrize(
    ("text", "type", "wanted"),
    [
        ("x=3", "i64[]", 3),
        ("x=1.5", "f32[2,2]", [[1.5, 1.5], [1.5, 1.5]]),
        ("x=1,2,3", "i32[3]", [1, 2, 3]),
        ("x=1,2,3,4", "f32[2,2]", [[1, 2], [3, 4]]),
        ("x=[[1,2],[3,4]]", "u8[2,2]", [[1, 2], [3, 4]]),
        ("x=[true,false]", "bool[2]", [True, False]),
        ("5,6", "i64[n]", [5, 6]),
        ("x=one,two", "str[2]", ["one", "two"]),
        ("x=-inf", "f32[1]", [-np.inf]),
        ("x=1.5,-2", "bf16[2]", [1.5, -2]),
        ("x=-8,7", "i4[2]", [-8, 7]),
        ("x=3", "f8e5m2[1]", [3]),
    ],
)
def test_numbers(text: str, type: str, wanted: object) -> None:
    array = one(text, type)
    assert array.dtype == parse_type(type).dtype.numpy
    np.testing.assert_array_equal(array, np.array(wanted, array.dtype))


@pytest.mark.parametrize(
    ("text", "type", "message"),
    [
        ("x=300", "u8[1]", "does not fit into u8"),
        ("x=8", "i4[1]", "does not fit into i4"),
        ("x=0.5", "u2[1]", "not whole"),
        ("x=-1", "u32[1]", "does not fit into u32"),
        ("x=1.5", "i32[1]", "not whole"),
        ("x=cat.txt", "f32[1]", "neither numbers nor a file"),
        ("x=[[1],[2,3]]", "f32[3]", "not a regular array"),
        ("y=1", "f32[1]", "names no input"),
        ("x=random", "f32[n]", "no shape for input x"),
        ("x=random", "str[1]", "not drawn at random"),
        ("x=nothing.npy", "f32[1]", "not a readable .npy"),
    ],
)
def test_bad_values_say_why(text: str, type: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        one(text, type)


def test_missing_inputs_are_all_named() -> None:
    types = {"a": parse_type("f32[2]"), "b": parse_type("i64[1]")}
    with pytest.raises(InputError, match=r"a: f32\[2\], b: i64\[1\]"):
        parse_inputs([], types)


def test_an_input_given_twice_is_refused() -> None:
    with pytest.raises(InputError, match="twice"):
        parse_inputs(["x=1", "x=2"], {"x": parse_type("f32[1]")})


def test_names_may_hold_equals_signs_and_prefixes() -> None:
    types = {"a": parse_type("i64[]"), "a=b": parse_type("i64[]")}
    assert parse_inputs(["a=b=7", "a=1"], types) == {"a": 1, "a=b": 7}


def test_random_inputs_are_the_same_every_time() -> None:
    types = {"x": parse_type("f32[n,3]"), "i": parse_type("i64[4]"), "u": parse_type("u8[999]")}
    first, second = (parse_inputs([], types, {"x": (2, 3)}, fill=True) for _ in range(2))
    assert all(np.array_equal(first[name], second[name]) for name in types)
    assert first["x"].shape == (2, 3)
    assert set(first["i"]) <= {0, 1}
    assert first["u"].max() > 200


def test_npy_files_must_have_the_right_type(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(3.0, dtype=np.float32))
    np.testing.assert_array_equal(one(f"x={tmp_path}/x.npy", "f32[3]"), [0, 1, 2])
    with pytest.raises(InputError, match="holds float32, the model takes float64"):
        one(f"x={tmp_path}/x.npy", "f64[3]")


def test_damaged_npy_files_are_refused(tmp_path: Path) -> None:
    whole = tmp_path / "x.npy"
    np.save(whole, np.zeros(1000, np.float32))
    np.save(tmp_path / "pickled.npy", np.array([{}], object), allow_pickle=True)
    (tmp_path / "short.npy").write_bytes(whole.read_bytes()[:500])
    (tmp_path / "lying.npy").write_bytes(whole.read_bytes().replace(b"(1000,)", b"(9999,)"))
    (tmp_path / "empty.npy").write_bytes(b"")
    for name in ("pickled", "short", "lying", "empty"):
        with pytest.raises(InputError, match="not a readable .npy"):
            one(f"x={tmp_path}/{name}.npy", "f32[1000]")


@pytest.mark.parametrize("layout", ["f32[1,3,4,6]", "f32[1,4,6,3]", "u8[1,4,6,3]", "f32[n,3,h,w]"])
def test_pictures(tmp_path: Path, layout: str) -> None:
    image = pytest.importorskip("PIL.Image")
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    image.fromarray(pixels).save(tmp_path / "p.png")
    array = one(f"x={tmp_path}/p.png", layout)
    type = parse_type(layout)
    wanted = pixels[None] if type.shape[3] == 3 else pixels.transpose(2, 0, 1)[None]
    if type.dtype.is_float:
        wanted = wanted.astype(np.float32) / 255
    assert array.dtype == type.dtype.numpy
    np.testing.assert_array_equal(array, wanted)


def test_pictures_are_resized_and_made_grey(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    image.new("RGB", (9, 7), (255, 255, 255)).save(tmp_path / "p.png")
    array = one(f"x={tmp_path}/p.png", "f32[1,1,4,6]")
    np.testing.assert_array_equal(array, np.ones((1, 1, 4, 6), np.float32))


@pytest.mark.parametrize("type", ["f32[3,4]", "f32[2,3,4,6]", "i64[1,3,4,6]", "f32[1,5,4,6]"])
def test_pictures_that_do_not_fit_are_refused(tmp_path: Path, type: str) -> None:
    image = pytest.importorskip("PIL.Image")
    image.new("RGB", (6, 4)).save(tmp_path / "p.png")
    with pytest.raises(InputError, match="does not fit"):
        one(f"x={tmp_path}/p.png", type)


def test_a_damaged_picture_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("PIL.Image")
    (tmp_path / "p.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    with pytest.raises(InputError, match="picture is damaged|no picture could be read"):
        parse_inputs([f"x={tmp_path}/p.png"], IMAGE)


def test_outputs_stay_in_their_folder_under_distinct_names(tmp_path: Path) -> None:
    names = ["../up", "a/b", "a_b", "", "..", "/etc/passwd"]
    folder = tmp_path / "deep" / "out"
    files = save_arrays({name: np.full(2, i) for i, name in enumerate(names)}, folder)
    assert sorted(files.values()) == sorted(folder.iterdir())
    for i, name in enumerate(names):
        np.testing.assert_array_equal(np.load(files[name]), [i, i])


def test_text_outputs_need_no_pickle(tmp_path: Path) -> None:
    files = save_arrays({"t": np.array(["one", "three"], object)}, tmp_path)
    assert np.load(files["t"], allow_pickle=False).tolist() == ["one", "three"]


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(file: object, array: np.ndarray, allow_pickle: bool) -> None:
        if array[0]:
            raise KeyboardInterrupt

    monkeypatch.setattr(np, "save", fail)
    with pytest.raises(KeyboardInterrupt):
        save_arrays({"a": np.zeros(1), "b": np.ones(1)}, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", STORAGE, ids=str)
def test_files_of_storage_types(dtype: DType, tmp_path: Path) -> None:
    """Written as plain integers; read from these and from what numpy itself writes."""
    array = parse_inputs(["x=random"], {"x": Type((3, 5), dtype)})["x"]
    assert array.dtype == dtype.numpy
    (file,) = save_arrays({"x": array}, tmp_path).values()
    assert np.load(file).dtype == dtype.carrier.numpy
    if dtype.is_whole:
        np.testing.assert_array_equal(np.load(file), array.astype(np.int8))
    np.save(tmp_path / "own.npy", array.view(f"V{array.itemsize}"))
    for path in (file, tmp_path / "own.npy"):
        again = parse_inputs([f"x={path}"], {"x": Type((3, 5), dtype)})["x"]
        assert again.dtype == dtype.numpy
        assert again.tobytes() == array.tobytes()


def test_files_of_other_types_for_storage_types(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.float32([1, 2]))
    with pytest.raises(InputError, match="holds float32, the model takes bfloat16"):
        parse_inputs([f"x={tmp_path / 'x.npy'}"], {"x": parse_type("bf16[2]")})
    np.save(tmp_path / "x.npy", np.int8([1, 50]))
    with pytest.raises(InputError, match="do not fit into i4"):
        parse_inputs([f"x={tmp_path / 'x.npy'}"], {"x": parse_type("i4[2]")})


def test_the_bare_word_random_fills_what_no_text_names() -> None:
    types = {"a": Type((2, 3), F32), "b": Type((), F32)}
    found = parse_inputs(["random", "b=7"], types)
    assert found["a"].shape == (2, 3)
    assert found["b"] == 7
    assert parse_inputs(["random"], {}) == {}
