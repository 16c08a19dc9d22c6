"""Digests of files are remembered only as long as nothing can have changed."""

from __future__ import annotations

import hashlib
import mmap
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from brim.errors import ModelError
from brim.runtime import digests
from brim.runtime.cache import Cache
from brim.runtime.digests import file_digest, file_state

linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems hash each time")
TICK = 0.05  # seconds; clocks of file systems tick every ten milliseconds or oftener


@pytest.fixture
def known(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "known")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights.bin"
    path.write_bytes(os.urandom(3 << 20))
    return path


@pytest.fixture
def calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as calm at once, so that tests need not wait."""
    monkeypatch.setattr(digests, "CALM", 0.0)


@pytest.fixture
def local(file: Path, calm: None) -> None:
    with file.open("rb") as opened:
        if digests._file_system(opened.fileno()) not in digests.LOCAL:
            pytest.skip("the temporary folder is not on a file system that is relied on")


def true_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def remembered(known: Cache) -> list[str]:
    return [entry.name for entry in known.directory.iterdir()]


def test_it_is_sha256(file: Path, known: Cache) -> None:
    assert file_digest(file) == file_digest(file, known) == true_digest(file)
    with pytest.raises(ModelError, match="cannot read"):
        file_digest(file.with_name("missing"), known)


@linux
def test_what_is_known_is_not_read_again(file: Path, known: Cache, local: None) -> None:
    assert file_digest(file, known) == true_digest(file)
    (key,) = remembered(known)
    known.put(key, b"as remembered")
    assert file_digest(file, known) == "as remembered"
    assert file_digest(file) == true_digest(file)


def _overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"another")


def _overwrite_and_hide(path: Path) -> None:
    """Another content of the same size and time, as `cp -p` or `tar` leave it."""
    before = path.stat()
    path.write_bytes(bytes(before.st_size))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _replace_and_hide(path: Path) -> None:
    before = path.stat()
    new = path.with_name("new")
    new.write_bytes(bytes(before.st_size))
    os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(new, path)


def _write_through_memory(path: Path) -> None:
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as view:
        view[0] ^= 1


@linux
@pytest.mark.parametrize(
    "change", [_overwrite, _overwrite_and_hide, _replace_and_hide, _write_through_memory]
)
def test_a_changed_file_is_read_again(
    file: Path, known: Cache, local: None, change: Callable[[Path], None]
) -> None:
    before = file_digest(file, known)
    time.sleep(TICK)
    change(file)
    assert file_digest(file, known) == true_digest(file) != before


@linux
def test_a_file_that_stays_mapped_may_be_written(file: Path, known: Cache, local: None) -> None:
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 0) as view:
        for number in range(3):
            view[0] = number  # the page is there, and writable, from the first time on
            assert file_digest(file, known) == true_digest(file)
            assert len(remembered(known)) == number + 1
            time.sleep(TICK)


@linux
def test_nothing_is_remembered_without_proof(
    file: Path, known: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert file_digest(file, known) == true_digest(file)  # it was written just now
    monkeypatch.setattr(digests, "CALM", 0.0)
    for name in ("tmpfs", "nfs4", "fuse.sshfs", ""):
        monkeypatch.setattr(digests, "_file_system", lambda _, name=name: name)
        assert file_digest(file, known) == true_digest(file)
    monkeypatch.setattr(digests, "_file_system", lambda _: "ext4")
    monkeypatch.setattr(digests, "_boot", lambda: "")
    assert file_digest(file, known) == true_digest(file)
    assert remembered(known) == []


@linux
def test_a_file_that_changes_meanwhile_is_not_remembered(
    file: Path, known: Cache, local: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = hashlib.file_digest

    def slow(opened: object, name: str) -> object:
        time.sleep(TICK)
        _overwrite_and_hide(file)
        return real(opened, name)  # type: ignore[arg-type]

    monkeypatch.setattr(hashlib, "file_digest", slow)
    file_digest(file, known)
    assert remembered(known) == []


@linux
def test_the_state_is_of_this_start_of_the_system(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with file.open("rb") as opened:
        state = file_state(opened.fileno())
        assert state == file_state(opened.fileno()) != ""
        monkeypatch.setattr(digests, "_boot", lambda: "another")
        assert file_state(opened.fileno()) not in ("", state)
