"""Weights of PyTorch files: read as data, whole or not at all, and nothing in them is executed."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brim.errors import InputError, ModelError
from brim.frontends.torch_weights import MAGIC, import_model, read

NUMBERS = np.arange(24, dtype=np.float32)
TABLE = np.arange(6, dtype=np.int64)


@dataclass(frozen=True)
class Call:
    name: str
    arguments: tuple


@dataclass(frozen=True)
class Name:
    text: str


@dataclass(frozen=True)
class Reference:
    identity: tuple


def instructions(value: Any) -> bytes:
    """A pickle's instructions for a value, without its end."""
    match value:
        case Call(name, arguments):
            return instructions(Name(name)) + instructions(arguments) + b"R"
        case Name(text):
            return b"c" + text.replace(" ", "\n").encode() + b"\n"
        case Reference(identity):
            return instructions(identity) + b"Q"
        case dict():
            pairs = b"".join(instructions(k) + instructions(v) for k, v in value.items())
            return b"}(" + pairs + b"u"
        case tuple():
            return b"(" + b"".join(map(instructions, value)) + b"t"
        case _:
            return pickle.dumps(value, 2)[2:-1]


def pickled(value: Any) -> bytes:
    return b"\x80\x02" + instructions(value) + b"."


def storage(kind: str, key: str, count: int) -> Reference:
    return Reference(("storage", Name(f"torch {kind}"), key, "cpu", count, None))


def tensor(source: Any, start: Any, shape: Any, strides: Any) -> Call:
    hooks = Call("collections OrderedDict", ())
    return Call("torch._utils _rebuild_tensor_v2", (source, start, shape, strides, False, hooks))


STATE = {
    "a": tensor(storage("FloatStorage", "0", 24), 4, (2, 3), (3, 1)),
    "turned": tensor(storage("FloatStorage", "0", 24), 0, (4, 6), (1, 4)),
    "scalar": tensor(storage("LongStorage", "1", 6), 5, (), ()),
    "none": tensor(storage("LongStorage", "1", 6), 0, (0, 3), (3, 1)),
}


def in_a_row(state: Any = STATE, order: Any = True, after: bytes = b"") -> bytes:
    """The format until 1.5."""
    head = [MAGIC, 1001, {"little_endian": order}]
    file = b"".join(pickle.dumps(part, 2) for part in head) + pickled(state)
    stored = {
        key: n for key, n in (("1", TABLE), ("0", NUMBERS)) if f"'{key}', 'cpu'" in repr(state)
    }
    file += pickle.dumps([*stored], 2)
    for numbers in stored.values():
        file += len(numbers).to_bytes(8, "little") + numbers.tobytes()
    return file + after


def packed(
    state: Any = STATE, numbers: bytes = NUMBERS.tobytes(), order: bytes = b"little"
) -> bytes:
    """The format since 1.6."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("net/data.pkl", pickled(state))
        archive.writestr("net/byteorder", order)
        archive.writestr("net/data/0", numbers)
        archive.writestr("net/data/1", TABLE.tobytes())
    return file.getvalue()


FORMATS = [in_a_row, packed]


@pytest.mark.parametrize("made", FORMATS)
def test_tensors_are_views_of_storages(made: Callable[..., bytes], tmp_path: Path) -> None:
    (tmp_path / "net.pth").write_bytes(made())
    model = read(tmp_path / "net.pth")
    found = model.weights
    assert list(found) == ["a", "turned", "scalar", "none"]
    np.testing.assert_array_equal(found["a"], NUMBERS[4:10].reshape(2, 3))
    np.testing.assert_array_equal(found["turned"], NUMBERS.reshape(6, 4).T)
    assert found["scalar"] == 5 and found["scalar"].dtype == np.int64
    assert found["none"].shape == (0, 3)
    assert not any(array.flags.writeable for array in found.values() if array.size)
    graph = import_model(model, {})
    assert not graph.inputs and [*graph.outputs] == [*found]
    np.testing.assert_array_equal(graph.outputs["turned"].data, found["turned"])
    with pytest.raises(InputError, match="no signature"):
        read(made(), signature="serving")


@pytest.mark.parametrize("made", FORMATS)
@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"a": tensor(storage("FloatStorage", "0", 24), 20, (2, 3), (3, 1))}, "beyond its storage"),
        (
            {"a": tensor(storage("FloatStorage", "0", 24), 0, (99, 99), (0, 0))},
            "beyond its storage",
        ),
        ({"a": tensor(storage("FloatStorage", "0", 24), 0, (2, 3), (-3, 1))}, "strides"),
        ({"a": tensor(storage("FloatStorage", "0", 24), 0, (2, 3), (1,))}, "strides"),
        ({"a": tensor(storage("FloatStorage", "0", 24), 0, ("2",), (1,))}, "without a storage"),
        ({"a": tensor(NUMBERS.tobytes().hex(), 0, (2,), (1,))}, "without a storage"),
        ({"a": tensor(storage("FloatStorage", "0", 23), 0, (2,), (1,))}, "."),
        ({"a": tensor(storage("QInt8Storage", "0", 24), 0, (2,), (1,))}, "QInt8Storage"),
        ({"a": tensor(Reference(("module", "x")), 0, (2,), (1,))}, "."),
        ({"a": 3}, "no dict of tensors"),
        ({}, "no dict of tensors"),
        (("a", STATE["a"]), "no dict of tensors"),
        ({"a": Call("torch.nn Linear", (3, 4))}, "calls 'torch.nn Linear'"),
        ({"a": Call("collections OrderedDict", (((("a", 1),),)))}, "with arguments"),
    ],
)
def test_what_is_no_dict_of_sound_tensors_is_refused(
    made: Callable[..., bytes], state: Any, message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        read(made(state))


@pytest.mark.parametrize("made", FORMATS)
def test_nothing_in_a_pickle_is_called(made: Callable[..., bytes], tmp_path: Path) -> None:
    trace = tmp_path / "called"
    bad = {"a": Call("os system", (f"touch {trace}",))}
    with pytest.raises(ModelError, match="calls 'os system'"):
        read(made(bad))
    for code in (
        b"\x80\x02cos\nsystem\n.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
        b"(ios\nabort\n.",
    ):
        with pytest.raises(ModelError):
            read(in_a_row().replace(pickled(STATE), code))
    assert not trace.exists()


def test_other_byte_orders_and_lengths_are_refused() -> None:
    for file in (in_a_row(order=False), packed(order=b"big")):
        with pytest.raises(ModelError, match="high bytes first"):
            read(file)
    with pytest.raises(ModelError, match="are described"):
        read(in_a_row(after=b"\0"))
    with pytest.raises(ModelError, match="storage 0 has 92 bytes"):
        read(packed(numbers=NUMBERS[1:].tobytes()))
    with pytest.raises(ModelError, match="cannot read /nowhere"):
        read("/nowhere/net.pth")


@pytest.mark.parametrize("made", FORMATS)
def test_a_cut_file_is_refused(made: Callable[..., bytes]) -> None:
    whole = made()
    for length in range(len(whole)):
        with pytest.raises(ModelError):
            read(whole[:length])


@pytest.mark.parametrize("made", FORMATS)
@settings(max_examples=500, deadline=None)
@given(st.data())
def test_damage_is_refused_or_gives_arrays(made: Callable[..., bytes], data: st.DataObject) -> None:
    """Never a crash, and never an array larger than the file."""
    damaged = bytearray(made())
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        damaged[place] = data.draw(st.integers(0, 255))
    try:
        found = read(bytes(damaged)).weights
    except ModelError:
        return
    assert all(array.nbytes <= len(damaged) for array in found.values())


@settings(max_examples=1000, deadline=None)
@given(
    st.lists(
        st.sampled_from(sorted(b"(tRQ}us.0N\x88\x89K\x01q\x00h]ae)b\x85\x86\x87X")), max_size=40
    )
)
def test_any_instructions_are_followed_or_refused(code: list[int]) -> None:
    file = in_a_row().replace(pickled(STATE), b"\x80\x02" + bytes(code) + b".")
    with pytest.raises(ModelError):
        read(file)


@pytest.mark.peer("torch")
@pytest.mark.parametrize("new", [False, True])
def test_torchs_own_files_are_read(new: bool) -> None:
    torch = pytest.importorskip("torch")
    layers = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).half()
    state = layers.state_dict() | {"turned": torch.arange(12).reshape(3, 4).T}
    file = io.BytesIO()
    torch.save(state, file, _use_new_zipfile_serialization=new)
    found = read(file.getvalue()).weights
    assert list(found) == list(state)
    for name, array in found.items():
        np.testing.assert_array_equal(array, state[name].numpy())
    file = io.BytesIO()
    torch.save(layers, file, _use_new_zipfile_serialization=new)
    with pytest.raises(ModelError, match="dict of tensors"):
        read(file.getvalue())
