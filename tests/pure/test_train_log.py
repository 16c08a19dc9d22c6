"""The log is what TensorBoard reads: framed records with checksums, numbers by name and step."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

pytest.importorskip("tensorboardX")

from tensorboardX.crc32c import crc32c
from tensorboardX.proto.event_pb2 import Event

from brim.errors import InputError
from brim.train.log import event_log


def events(path: Path) -> list[Event]:
    """The records of an event file: u64 length, its masked CRC-32C, the event, its CRC."""
    content, found = path.read_bytes(), []
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        for part, at in ((content[:8], 8), (content[12 : 12 + length], 12 + length)):
            crc = crc32c(part)
            masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
            assert struct.unpack("<I", content[at : at + 4]) == (masked,)
        found.append(Event.FromString(content[12 : 12 + length]))
        content = content[16 + length :]
    return found


def numbers(path: Path) -> list[tuple[int, str, float]]:
    return [
        (event.step, value.tag, value.simple_value)
        for event in events(path)
        for value in event.summary.value
    ]


def test_numbers_are_logged_by_name_and_step(tmp_path: Path) -> None:
    with event_log(tmp_path / "log") as log:
        log(1, {"loss": 2.5, "rate": 0.125})
        log(2, {"loss": 2.0})
    (file,) = (tmp_path / "log").iterdir()
    assert file.name.startswith("events.out.tfevents.")
    assert numbers(file) == [(1, "loss", 2.5), (1, "rate", 0.125), (2, "loss", 2.0)]
    assert events(file)[0].file_version == "brain.Event:2"
    assert crc32c(b"123456789") == 0xE3069283  # RFC 3720, appendix B.4 names the polynomial


def test_a_resumed_log_says_from_where(tmp_path: Path) -> None:
    with event_log(tmp_path, step=7) as log:
        log(7, {"loss": 1.0})
    (file,) = tmp_path.iterdir()
    assert [e.step for e in events(file) if e.HasField("session_log")] == [7]


def test_no_folder_no_log(tmp_path: Path) -> None:
    with event_log(None) as log:
        log(1, {"loss": 1.0})
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(InputError, match="no log can be written"),
        event_log(tmp_path / "file"),
    ):
        pass
