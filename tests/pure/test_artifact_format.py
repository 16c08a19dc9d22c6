"""The format of artifacts, piece by piece: container, records, plans, arrays, trust."""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brim.errors import BrimError, ModelError, TrustError, UnsupportedError
from brim.graph import NO_ATTRS, Value, placeholder
from brim.kernels.pack import Packing
from brim.ops import OPS
from brim.runtime import container, cpu, record, trust
from brim.runtime.container import read_container, write_container
from brim.runtime.npy import read_npy, write_npy
from brim.runtime.plan import Call, HostCall, Loop, Place, Plan, Segment, Temporary, Tensor
from brim.runtime.planfile import KernelShape, read_plan, write_plan
from brim.runtime.record import parse_json
from brim.targets.target import TARGETS
from brim.types import F32, STR, Type

# ------------------------------------------------------------------ container


def packed(*members: tuple[str, bytes]) -> bytes:
    file = io.BytesIO()
    write_container(file, members)
    return file.getvalue()


MEMBERS = (("manifest.json", b"{}"), ("a/b.bin", bytes(range(200))), ("empty", b""))


def test_members_come_back_aligned_and_any_zip_tool_reads_them() -> None:
    content = packed(*MEMBERS)
    found = read_container(memoryview(content), "x")
    assert {name: bytes(m.read()) for name, m in found.items()} == dict(MEMBERS)
    assert all(m.is_intact for m in found.values())
    base = np.frombuffer(content, np.uint8).ctypes.data
    for member in found.values():
        if member.size:
            assert (np.frombuffer(member.raw, np.uint8).ctypes.data - base) % 64 == 0
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        assert file.testzip() is None and file.namelist() == [name for name, _ in MEMBERS]


TEXT = b"%1: f32[1,8] = add(%0, 1.0)\n" * 99


def deflated(*members: tuple[str, bytes]) -> bytes:
    file = io.BytesIO()
    write_container(file, members, deflated=lambda name: name.endswith(".txt"))
    return file.getvalue()


def test_texts_are_deflated_if_that_is_smaller() -> None:
    members = (("a.txt", TEXT), ("noise.txt", b"\x07\xf1"), ("b.bin", TEXT))
    content = deflated(*members)
    found = read_container(memoryview(content), "x")
    assert [m.is_deflated for m in found.values()] == [True, False, False]
    assert len(found["a.txt"].raw) < len(TEXT) / 5
    assert {name: bytes(m.read()) for name, m in found.items()} == dict(members)
    assert all(m.is_intact for m in found.values())
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        assert file.testzip() is None and file.read("a.txt") == TEXT


def test_nothing_unpacks_to_more_than_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    content = deflated(("a.txt", TEXT))
    right, wrong = struct.pack("<I", len(TEXT)), struct.pack("<I", 100)
    (member,) = read_container(memoryview(replaced(content, right, wrong)), "x").values()
    with pytest.raises(ValueError, match="100"):
        member.read()
    assert not member.is_intact
    monkeypatch.setattr(container, "_UNPACKED", 100)
    with pytest.raises(ModelError, match="not an intact"):
        read_container(memoryview(content), "x")


@given(st.integers(0, 40), st.integers(1, 255))
def test_damaged_members_do_not_unpack_to_something_else(position: int, mask: int) -> None:
    (member,) = read_container(memoryview(deflated(("a.txt", TEXT))), "x").values()
    raw = bytearray(member.raw)
    raw[position] ^= mask
    try:
        found = replace(member, raw=memoryview(bytes(raw))).read()
    except ValueError:
        return
    assert len(found) == len(TEXT)  # its digest tells


def test_nothing_is_written_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "LARGEST", 300)
    with pytest.raises(UnsupportedError, match="too large"):
        packed(*MEMBERS)
    monkeypatch.setattr(container, "MEMBERS", 1)
    with pytest.raises(UnsupportedError, match="too large"):
        packed(("a", b""), ("b", b""))


def zipped(*members: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as target:
        for name, data in members:
            target.writestr(zipfile.ZipInfo(name), data, method)
    return file.getvalue()


def replaced(content: bytes, old: bytes, new: bytes, count: int = -1) -> bytes:
    assert old in content and len(old) == len(new)
    return content.replace(old, new, count)


DIRECTORY = packed(*MEMBERS).index(b"PK\x01\x02")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "less than"),
        (b"PK\x03\x04" + bytes(100), "directory"),
        (packed(*MEMBERS) + b"x", "directory"),
        (packed(*MEMBERS)[:-1], "directory"),
        (b"x" + packed(*MEMBERS), "does not fit"),
        (zipped(*MEMBERS), "does not write"),
        (zipped(*MEMBERS, method=zipfile.ZIP_DEFLATED), "does not write"),
        (zipped(*MEMBERS, method=zipfile.ZIP_BZIP2), "compressed in a way"),
        (packed(("a", b"1"), ("a", b"2")), "two members"),
        (replaced(packed(*MEMBERS), b"a/b.bin", b"../.bin"), "not a name"),
        (replaced(packed(*MEMBERS), b"a/b.bin", b"/ab.bin"), "not a name"),
        (replaced(packed(*MEMBERS), b"a/b.bin", b"a\\b.bin"), "not a name"),
        (replaced(packed(*MEMBERS), b"a/b.bin", b"a//.bin"), "not a name"),
        (replaced(packed(*MEMBERS), b"a/b.bin", b"a/b.bim", 1), "two ways"),
        (
            packed(*MEMBERS)[:DIRECTORY] + b"PK\x01\x03" + packed(*MEMBERS)[DIRECTORY + 4 :],
            "is not one",
        ),
    ],
)
def test_other_files_are_refused(content: bytes, why: str) -> None:
    with pytest.raises(ModelError, match="not an intact") as caught:
        read_container(memoryview(content), "x")
    assert re.search(why, caught.value.why), caught.value.why


def test_overlapping_members_are_refused() -> None:
    content = bytearray(packed(*MEMBERS))
    second = content.index(b"PK\x01\x02", DIRECTORY + 1)
    struct.pack_into("<I", content, second + 42, 0)  # the second member's header is the first's
    with pytest.raises(ModelError, match="not an intact"):
        read_container(memoryview(bytes(content)), "x")


def test_a_count_beyond_the_file_is_refused() -> None:
    for count in (4, 5000, 65535):
        content = bytearray(packed(*MEMBERS))
        struct.pack_into("<2H", content, len(content) - 14, count, count)
        with pytest.raises(ModelError, match="not an intact"):
            read_container(memoryview(bytes(content)), "x")


@given(st.integers(0, len(packed(*MEMBERS)) - 1), st.integers(1, 255))
def test_no_damage_is_an_untyped_error(position: int, mask: int) -> None:
    content = bytearray(packed(*MEMBERS))
    content[position] ^= mask
    try:
        found = read_container(memoryview(bytes(content)), "x")
    except ModelError:
        return
    assert len(found) == 3  # what lies in the members, or in their padding, is theirs


# ------------------------------------------------------------------ records


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1]",
        "1",
        '{"a": NaN}',
        '{"a": 1, "a": 2}',
        "[" * 100_000,
        '{"a":' * 5000,
        "\xff",
        '{"a"',
    ],
)
def test_odd_json_is_a_typed_error(text: str) -> None:
    with pytest.raises(ModelError):
        parse_json(text.encode("latin-1"), "x")


def test_records_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "ITEMS", 100)
    with pytest.raises(ModelError, match="absurdly large"):
        parse_json(b'{"a":[' + b"[]," * 100 + b"[]]}", "x")
    monkeypatch.setattr(record, "BYTES", 10)
    with pytest.raises(ModelError, match="absurdly large"):
        parse_json(b'{"a":"' + b"b" * 100 + b'"}', "x")


def test_fields_are_checked_by_type_and_range() -> None:
    fields = parse_json(b'{"n": -1, "t": "a", "b": true, "l": [1], "f": 1e400}', "x")
    for ask in (
        lambda: fields.integer("n"),
        lambda: fields.integer("t"),
        lambda: fields.integer("b"),
        lambda: fields.integer("missing"),
        lambda: fields.text("n"),
        lambda: fields.real("f"),
        lambda: fields.list("l", 2),
        lambda: fields.record("l"),
        lambda: fields.records("l"),
        lambda: record.as_type("f32[99999999999999999]", "x"),
        lambda: record.as_type("f32[N]", "x"),
        lambda: record.as_type("f32[" + "1," * 100 + "1]", "x"),
    ):
        with pytest.raises(ModelError):
            ask()


# ------------------------------------------------------------------ arrays


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.float16(3),
        np.zeros((0, 3), np.int64),
        np.array([True, False]),
        np.arange(4, dtype=np.uint8),
    ],
)
def test_arrays_come_back(array: np.ndarray) -> None:
    found = read_npy(memoryview(write_npy(array)), "x")
    np.testing.assert_array_equal(found, array)
    assert found.dtype == np.asarray(array).dtype and found.shape == np.shape(array)


def test_text_comes_back_and_objects_are_refused() -> None:
    found = read_npy(memoryview(write_npy(np.array(["a", "bß"], object))), "x")
    assert found.dtype == object and list(found) == ["a", "bß"]
    with pytest.raises(UnsupportedError):
        write_npy(np.array([{}], object))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"'<f4'", b"'|O8'"),
        (b"'<f4'", b"'<f9'"),
        (b"(2, 3)", b"(2, 4)"),
        (b"(2, 3)", b"(9**9)"),
        (b"\x93NUMPY\x01", b"\x93NUMPY\x02"),
        (b"False", b"None "),
    ],
)
def test_damaged_arrays_are_refused(old: bytes, new: bytes) -> None:
    content = write_npy(np.arange(6, dtype=np.float32).reshape(2, 3))
    with pytest.raises(ModelError, match="not an intact"):
        read_npy(memoryview(replaced(content, old, new)), "x")


# ------------------------------------------------------------------ packings


@given(
    st.permutations([(3, "a"), (4, "b"), (5, "c")]),
    st.integers(0, 2),
    st.integers(1, 8),
    st.integers(0, 2),
)
def test_packing_and_unpacking_undo_each_other(
    order: list[tuple[int, str]], before: int, block: int, blocked: int
) -> None:
    strides = dict(zip("abc", (20, 5, 1)))
    axes = [(n, strides[name]) for name, n in zip("abc", (3, 4, 5))]
    extent, stride = axes.pop(blocked)
    packing = Packing(
        tuple(axes[::-1] if order[0][1] == "a" else axes), before, extent, stride, block, 0
    )
    source = np.arange(60, dtype=np.float32)
    assert packing.is_lossless(60)
    np.testing.assert_array_equal(packing.unpack(packing.pack(source)), source)


def test_packings_that_lose_elements_are_known() -> None:
    whole = Packing(((3, 20), (4, 5)), 1, 5, 1, 4, 0)
    assert whole.is_lossless(60) and not whole.is_lossless(61)
    assert not replace(whole, offset=1).is_lossless(60)
    assert not replace(whole, axes=((3, 20), (4, 1))).is_lossless(60)
    assert not replace(whole, axes=((3, 40), (4, 5))).is_lossless(60)


# ------------------------------------------------------------------ plans


def small_plan() -> tuple[Plan, list[KernelShape], list[Value]]:
    """x -> kernel 0 -> arena 0; host absolute -> arena 64; kernel 1 (weights) -> y, twice; then
    a loop that reads rows of the weights and writes two halves of the arena in turns."""
    kind = Type((4, 4), F32)
    absolute = Value(OPS["absolute"], (placeholder(kind),), NO_ATTRS, kind, None, "")
    halves = Place("arena", 0, 64, 1, 2)
    steps = (
        Segment((Call(0, (Place("io", 0), Place("arena", 0)), 4, 1e-6),)),
        HostCall(
            absolute,
            (Tensor(Place("arena", 0), kind, (4, 1), 0),),
            Tensor(Place("arena", 64), kind, (4, 1), 0),
        ),
        Segment(
            (
                Call(1, (Place("arena", 64), Place("weights", 0), Place("io", 1)), 4, 1e-6),
                Loop(4, (Call(2, (Place("weights", 0, 16, 0, 4), halves), 1, 1e-8),)),
            )
        ),
    )
    held = (Temporary(0, 64, 0, 1), Temporary(64, 64, 1, 3))
    plan = Plan(steps, {"x": (kind, 0)}, {"y": (kind, 1)}, 128, 128, held)
    shapes = [
        KernelShape(4, (("in", 64), ("out", 64))),
        KernelShape(4, (("in", 64), ("const", 64), ("out", 64))),
        KernelShape(1, (("in", 16), ("out", 64))),
    ]
    return plan, shapes, [absolute]


def written() -> dict:
    plan, shapes, hosts = small_plan()
    return json.loads(json.dumps(write_plan(plan, shapes, hosts)))


def test_plans_come_back() -> None:
    plan, shapes, hosts = small_plan()
    found = read_plan(record.Record(written(), "x"), 64, hosts)
    assert found == (plan, tuple(shapes))


CALL = ("steps", 0, "calls", 0)
HOST = ("steps", 1)
LOOP = ("steps", 2, "calls", 1)


@pytest.mark.parametrize(
    ("path", "new"),
    [
        (("arena_bytes",), 64),
        (("arena_bytes",), -1),
        (("arena_bytes",), 1 << 60),
        (("arena_bytes",), "128"),
        (("inputs", 0, 1), "f32[4,3]"),
        (("inputs", 0, 1), "str[4,4]"),
        (("inputs", 0, 1), "f32[4,999999999999]"),
        (("inputs", 0, 2), 1 << 40),
        (("inputs", 0, 2), 1),
        (("inputs", 0, 2), "x"),
        (("outputs", 0, 2), 0),
        (("outputs", 0, 2), "never"),
        (("outputs", 0, 1), "f32[4,3]"),
        ((*CALL, 0), 3),
        ((*CALL, 0), -1),
        ((*CALL, 1), -1.0),
        ((*CALL, 2, 0, 0), "stack"),
        ((*CALL, 2, 0, 1), 2),
        ((*CALL, 2, 0), ["weights", 64]),
        ((*CALL, 2, 1), ["arena", 65]),
        ((*CALL, 2, 1), ["arena", -1]),
        ((*CALL, 2, 1), ["weights", 0]),
        ((*CALL, 2, 1), ["io", 0]),
        ((*CALL, 2), []),
        (("kernels", 0, "args", 0, 1), 1 << 30),
        (("kernels", 0, "args", 0, 0), "rw"),
        (("kernels", 0, "trips"), -4),
        ((*CALL, 2, 0), ["arena", 0, 64, 0, 1]),
        ((*LOOP, "trips"), 0),
        ((*LOOP, "calls", 0, 2, 0), ["weights", 0, 16, 0, 5]),
        ((*LOOP, "calls", 0, 2, 0), ["weights", 0, 20, 0, 4]),
        ((*LOOP, "calls", 0, 2, 0), ["weights", 0, 16, 0, 0]),
        ((*LOOP, "calls", 0, 2, 0), ["weights", 0, -16, 0, 4]),
        ((*LOOP, "calls", 0, 2, 0), ["weights", 0, 16, 0]),
        ((*LOOP, "calls", 0, 2, 1), ["arena", 0, 64, 1, 3]),
        ((*LOOP, "calls", 0, 2, 1), ["weights", 0, 0, 0, 1]),
        ((*LOOP, "calls", 0), {"trips": 2, "calls": []}),
        ((*HOST, "host"), 1),
        ((*HOST, "args"), []),
        ((*HOST, "args", 0), None),
        ((*HOST, "args", 0), "unknown"),
        ((*HOST, "args", 0, 3), [40, 1]),
        ((*HOST, "args", 0, 3), [-4, 1]),
        ((*HOST, "args", 0, 3), [1 << 61, 1]),
        ((*HOST, "args", 0, 4), 100),
        ((*HOST, "args", 0, 2), "f32[4,5]"),
        ((*HOST, "result", 1), 100),
        ((*HOST, "result", 0), "weights"),
        ((*HOST, "result", 0), "io"),
        (("temporaries", 0), [128, 64, 0, 1]),
        (("temporaries", 0), [0, 64, 2, 1]),
        (("temporaries", 0), [0, 64, 0, 5]),
        (("temporaries", 0), [0, 64, 0]),
    ],
)
def test_plans_that_reach_too_far_are_refused(path: tuple, new: object) -> None:
    hosts = small_plan()[2]
    fields = written()
    place = fields
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = new
    with pytest.raises(ModelError):
        read_plan(record.Record(fields, "x"), 64, hosts)


def test_plans_of_older_artifacts_do_not_tell_what_the_arena_holds() -> None:
    fields = written()
    del fields["temporaries"]
    assert read_plan(record.Record(fields, "x"), 64, small_plan()[2])[0].temporaries == ()


def test_weights_must_be_as_large_as_kernels_expect() -> None:
    with pytest.raises(ModelError, match="contradicts itself"):
        read_plan(record.Record(written(), "x"), 63, small_plan()[2])


def test_text_is_never_given_to_kernels() -> None:
    kind = Type((8,), STR)
    plan = Plan((Segment((Call(0, (Place("io", 0),), 1, 0.0),)),), {"x": (kind, 0)}, {}, 0, 0)
    fields = write_plan(plan, [KernelShape(1, (("in", 64),))], [])
    with pytest.raises(ModelError, match="contradicts itself") as caught:
        read_plan(record.Record(fields, "x"), 0, [])
    assert "text" in caught.value.why


# ------------------------------------------------------------------ processors and trust


def test_rows_of_the_table_say_what_they_need() -> None:
    needs = {name: cpu.required_features(target) for name, target in TARGETS.items()}
    assert "avx2" in needs["x86-64-v3"] and "avx512vl" in needs["x86-64-v4"]
    assert "avx" not in needs["x86-64-v2"] and "dotprod" in needs["cortex-a76"]
    assert needs["wasm32"] is None
    mine = replace(TARGETS["x86-64-v3"], name="host", cpu="znver9", features="+avx512f,-avx2,+pku")
    assert cpu.required_features(mine) == ["avx512f"]
    assert cpu.required_features(replace(mine, name="mine")) is None


def test_code_with_missing_features_stays_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "machine", lambda: "x86_64")
    monkeypatch.setattr(cpu, "processor", lambda: ("old", frozenset(("avx",))))
    assert not cpu.why_not_here("x86_64-unknown-linux-gnu", ["avx"])
    assert "lacks avx2" in cpu.why_not_here("x86_64-unknown-linux-gnu", ["avx", "avx2"])
    assert "aarch64" in cpu.why_not_here("aarch64-unknown-linux-gnu", [])
    assert "not known" in cpu.why_not_here("x86_64-unknown-linux-gnu", None)
    monkeypatch.setattr(cpu, "processor", lambda: None)
    assert "not known" in cpu.why_not_here("x86_64-unknown-linux-gnu", [])


DIGEST = "ab" * 32


def test_seals_belong_to_one_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRIM_CACHE", str(tmp_path / "a"))
    seal = trust.seal(DIGEST)
    assert trust.is_sealed(DIGEST, seal) and seal == trust.seal(DIGEST)
    assert not trust.is_sealed("cd" * 32, seal) and not trust.is_sealed(DIGEST, "")
    assert not trust.is_sealed(DIGEST, "ß")
    assert not trust.require_trust(DIGEST, seal, None) and trust.require_trust(DIGEST, seal, False)
    monkeypatch.setenv("BRIM_CACHE", str(tmp_path / "b"))
    assert not trust.is_sealed(DIGEST, seal)
    assert trust.require_trust(DIGEST, seal, None) and not trust.require_trust(DIGEST, seal, True)
    with pytest.raises(TrustError):
        trust.require_trust(DIGEST, seal, "cd" * 32)
    with pytest.raises(BrimError):
        trust.require_trust(DIGEST, seal, "short")


def test_a_torn_key_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRIM_CACHE", str(tmp_path))
    path = tmp_path / trust.KEY_FILE
    path.write_bytes(b"half")
    path.chmod(0o600)
    assert trust.is_sealed(DIGEST, trust.seal(DIGEST))
    assert [file.name for file in tmp_path.iterdir()] == [trust.KEY_FILE]
