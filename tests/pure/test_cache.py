"""The disk cache: intact entries come back, all else is a miss, and it never breaks a run."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import signal
import sys
import time
import warnings
from pathlib import Path

import pytest

from brim.errors import BrimError, TrustError
from brim.runtime.cache import Cache, default_directory

KEYS = [hashlib.sha256(bytes([i])).hexdigest() for i in range(8)]
linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems read each time")
posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX only")


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def test_what_was_put_comes_back(cache: Cache) -> None:
    for key, data in zip(KEYS, (b"", b"a", os.urandom(100_000)), strict=False):
        assert cache.get(key) is None
        cache.put(key, data)
        assert cache.get(key) == data
    cache.put(KEYS[0], b"other")
    assert Cache(cache.directory).get(KEYS[0]) == b"other"


def test_mapped_entries_are_aligned_and_outlive_their_file(cache: Cache) -> None:
    data = os.urandom(50_000)
    cache.put(KEYS[0], data)
    view = cache.map(KEYS[0])
    assert view is not None
    assert view.readonly
    cache.put(KEYS[0], b"replaced")
    (cache.directory / KEYS[0]).unlink()
    assert view == data


@pytest.mark.parametrize(
    "key", ["", "../../../etc/passwd", "a" * 15, "A" * 32, "0" * 129, "g" * 32]
)
def test_keys_are_hex_digests_only(cache: Cache, key: str) -> None:
    with pytest.raises(BrimError, match="not a cache key"):
        cache.get(key)
    with pytest.raises(BrimError, match="not a cache key"):
        cache.put(key, b"")


def test_damaged_entries_are_misses_and_disappear(cache: Cache) -> None:
    cache.put(KEYS[0], bytes(range(40)))
    path = cache.directory / KEYS[0]
    good = path.read_bytes()
    used = [i for i in range(len(good)) if not (12 <= i < 16 or 56 <= i < 64)]  # not the padding
    damaged = [good[:i] for i in range(len(good))] + [good + b"\0", bytes(len(good))]
    damaged += [good[:i] + bytes([good[i] ^ 1 << i % 8]) + good[i + 1 :] for i in used]
    for content in damaged:
        path.write_bytes(content)
        assert cache.get(KEYS[0]) is None
        assert not path.exists()
    path.write_bytes(good)
    assert cache.get(KEYS[0]) == bytes(range(40))


def test_an_entry_under_another_key_is_a_miss(cache: Cache) -> None:
    cache.put(KEYS[0], b"kernel")
    os.rename(cache.directory / KEYS[0], cache.directory / KEYS[1])
    assert cache.get(KEYS[1]) is None


def test_the_longest_unused_entries_are_evicted(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", limit_bytes=10_000)
    for age, key in enumerate(KEYS[:4]):
        cache.put(key, bytes(2000))
        os.utime(cache.directory / key, (1e9 + age, 1e9 + age))
    assert cache.get(KEYS[0]) is not None  # used again: now the youngest
    for key in KEYS[4:7]:
        cache.put(key, bytes(2000))
        total = sum(f.stat().st_size for f in cache.directory.iterdir())
        assert total <= 10_000
    assert cache.get(KEYS[1]) is None
    assert cache.get(KEYS[2]) is None
    assert cache.get(KEYS[0]) is not None
    assert cache.get(KEYS[6]) is not None
    cache.put(KEYS[7], bytes(20_000))  # larger than everything: not stored, nothing thrown out
    assert cache.get(KEYS[7]) is None
    assert cache.get(KEYS[6]) is not None


def test_abandoned_temporary_files_are_removed(cache: Cache) -> None:
    for name, age in ((".new-1-aa", 7200.0), (".new-2-bb", 5.0)):
        (cache.directory / name).write_bytes(b"x")
        os.utime(cache.directory / name, (time.time() - age,) * 2)
    (cache.directory / "notes.txt").write_text("not ours")
    cache.put(KEYS[0], b"")
    names = {f.name for f in cache.directory.iterdir()}
    assert names == {KEYS[0], ".new-2-bb", "notes.txt"}


def test_an_impossible_directory_warns_once_and_caches_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.warns(RuntimeWarning, match="nothing will be cached"):
        cache = Cache(tmp_path / "file" / "cache")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.put(KEYS[0], b"x")
        assert cache.get(KEYS[0]) is None


def test_a_full_disk_warns_once_and_old_entries_stay(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.put(KEYS[0], b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.warns(RuntimeWarning, match="No space left"):
        cache.put(KEYS[1], b"new")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.put(KEYS[2], b"new")
    assert cache.get(KEYS[0]) == b"old"
    assert cache.get(KEYS[1]) is None
    assert [f.name for f in cache.directory.iterdir()] == [KEYS[0]]


@posix
def test_the_directory_is_private(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache.directory.stat().st_mode & 0o777 == 0o700
    cache.put(KEYS[0], b"code")
    assert (cache.directory / KEYS[0]).stat().st_mode & 0o777 == 0o600
    for mode in (0o777, 0o1777, 0o770):
        cache.directory.chmod(mode)
        with pytest.raises(TrustError, match="others may write"):
            Cache(cache.directory)
    cache.directory.chmod(0o700)
    monkeypatch.setattr(os, "geteuid", lambda: os.stat(cache.directory).st_uid + 1)
    assert cache.get(KEYS[0]) is None  # an entry that someone else owns
    with pytest.raises(TrustError, match="belongs to another user"):
        Cache(cache.directory)


@posix
def test_links_are_not_followed(cache: Cache, tmp_path: Path) -> None:
    cache.put(KEYS[0], b"code")
    os.rename(cache.directory / KEYS[0], tmp_path / "elsewhere")
    (cache.directory / KEYS[0]).symlink_to(tmp_path / "elsewhere")
    assert cache.get(KEYS[0]) is None


LARGE = bytes(2 << 20)


def note(cache: Cache) -> Path:
    return cache.directory / f"{KEYS[0]}.intact"


@linux
def test_a_large_entry_is_not_read_each_time(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    def unread(*_: object) -> bool:
        raise AssertionError("it was read")

    with monkeypatch.context() as patch:
        patch.setattr("brim.runtime.cache._fits", unread)
        cache.put(KEYS[0], LARGE)
        assert cache.get(KEYS[0]) == LARGE
        note(cache).unlink()
        with pytest.raises(AssertionError):
            cache.get(KEYS[0])
    assert cache.get(KEYS[0]) == LARGE  # read, and noted
    monkeypatch.setattr("brim.runtime.cache._fits", unread)
    assert cache.get(KEYS[0]) == LARGE
    monkeypatch.setattr("brim.runtime.digests._boot", lambda: "the next start")
    with pytest.raises(AssertionError):
        cache.get(KEYS[0])


@posix
@pytest.mark.parametrize("noted", ["kept", "missing", "damaged"])
def test_a_large_entry_that_changed_is_a_miss(cache: Cache, noted: str) -> None:
    cache.put(KEYS[0], LARGE)
    path = cache.directory / KEYS[0]
    before = path.stat()
    if noted != "kept":
        note(cache).write_bytes(b"\xff") if noted == "damaged" else note(cache).unlink()
    time.sleep(0.05)
    with path.open("r+b") as file:
        file.seek(1 << 20)
        file.write(b"x")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert cache.get(KEYS[0]) is None
    assert list(cache.directory.iterdir()) == []
    cache.put(KEYS[0], LARGE[:-9], b"in parts.")
    assert cache.get(KEYS[0]) == LARGE[:-9] + b"in parts."


@linux
def test_a_large_entry_that_is_used_stays(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", limit_bytes=7 << 20)
    for age, key in enumerate(KEYS[:3]):
        cache.put(key, LARGE)
        for file in cache.directory.glob(f"{key}*"):
            os.utime(file, (1e9 + age, 1e9 + age))
    assert cache.get(KEYS[0]) is not None  # used again: now the youngest
    assert cache.get(KEYS[0]) is not None
    cache.put(KEYS[3], LARGE)
    left = {file.name.partition(".")[0] for file in cache.directory.iterdir()}
    assert left == {KEYS[0], KEYS[2], KEYS[3]}


def _hammer(directory: Path, seed: int) -> None:
    """Put and check entries for ever; an entry of key i is always i bytes of one seed's noise."""
    draw = random.Random(seed)
    cache = Cache(directory, limit_bytes=150_000)
    while True:
        i = draw.randrange(len(KEYS))
        if draw.random() < 0.5:
            noise = draw.randrange(256)
            cache.put(KEYS[i], bytes([noise]) * (20_000 + i))
        elif (data := cache.get(KEYS[i])) is not None:
            assert len(data) == 20_000 + i
            assert len(set(data)) == 1


@posix
@pytest.mark.parametrize("large", [1 << 20, 1000])
def test_processes_share_it_and_may_be_killed_at_any_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: int
) -> None:
    monkeypatch.setattr("brim.runtime.cache.SMALL", large)
    directory = tmp_path / "cache"
    draw = random.Random(5)
    children: list[int] = []

    def spawn() -> None:
        seed = draw.randrange(1 << 30)
        if not (pid := os.fork()):
            try:
                warnings.simplefilter("error")
                _hammer(directory, seed)
            finally:
                os._exit(1)  # reached by an exception only
        children.append(pid)

    for _ in range(3):
        spawn()
    for _ in range(15):
        time.sleep(draw.uniform(0.01, 0.08))
        victim = children.pop(0)
        os.kill(victim, signal.SIGKILL)
        _, status = os.waitpid(victim, 0)
        assert os.WIFSIGNALED(status), "a child raised"
        spawn()
    for child in children:
        os.kill(child, signal.SIGKILL)
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1]), "a child raised"
    cache = Cache(directory)
    found = [(i, cache.get(key)) for i, key in enumerate(KEYS)]
    assert any(data for _, data in found)
    for i, data in found:
        assert data is None or (len(data) == 20_000 + i and len(set(data)) == 1)


def test_the_default_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", os.path.abspath("home"))
    monkeypatch.delenv("BRIM_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert default_directory() == Path("~/.cache/brim").expanduser()
    monkeypatch.setenv("XDG_CACHE_HOME", os.path.abspath("xdg"))
    assert default_directory() == Path(os.path.abspath("xdg"), "brim")
    monkeypatch.setenv("BRIM_CACHE", "~/mine")
    assert default_directory() == Path("~/mine").expanduser()
