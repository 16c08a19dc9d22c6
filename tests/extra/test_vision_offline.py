"""Once its models are there, no kit uses the network: it works where there is none, and opens no
socket of any kind, in a process in which that would be an error."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

pytest.importorskip("PIL")

from brim import zoo

pytestmark = pytest.mark.network  # to get the models before
KITS = {
    "Face": "astronaut",
    "Pose": "astronaut",
    "Hands": "hand-fist",
    "Objects": "chelsea",
    "Segment": "astronaut",
    "Classify": "coffee",
    "Text": "page",
}

# A kit in a fresh process: compiled here (no cache of models), then its answer, and which sockets
# were asked for. `subprocess` would hide sockets from the hook, so compiling stays in one process.
LOOK = """
import json, sys
asked = []
def hook(event, arguments):
    if event.startswith("socket.") or event.startswith(("urllib.", "http.", "ftplib.", "smtplib.")):
        asked.append(event)
        raise PermissionError(event)
    if event in ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.system"):
        asked.append(f"{event} {arguments[0]}")
        raise PermissionError(event)
sys.addaudithook(hook)
from brim import vision
kit, picture = sys.argv[1:]
found = getattr(vision, kit)(threads=1).detect(picture)
print(json.dumps({"found": len(found), "asked": asked}))
"""


@cache
def apart() -> tuple[str, ...]:
    """A command that runs another in an empty network namespace, where that is permitted."""
    if shutil.which("unshare"):
        for command in (("unshare", "--net"), ("unshare", "--map-root-user", "--net")):
            if subprocess.run((*command, "true"), capture_output=True).returncode == 0:
                return command
    return ()


@pytest.mark.parametrize("kit", KITS)
def test_kits_need_no_network(kit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for entry in zoo.select(kit.lower()):
        zoo.get(entry.name)
    picture = zoo.get(KITS[kit])
    monkeypatch.setenv("BRIM_JOBS", "1")
    run = subprocess.run(
        (*apart(), sys.executable, "-c", LOOK, kit, str(picture)),
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    said = json.loads(run.stdout)
    assert said["asked"] == []
    assert said["found"] >= 1


def test_the_hook_sees_sockets() -> None:
    """A process that asks for one is stopped: else the test above would say nothing."""
    code = LOOK.split("from brim")[0] + "import socket; socket.socket()"
    run = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True)
    assert run.returncode == 1 and "PermissionError: socket.__new__" in run.stderr


def test_a_namespace_is_empty() -> None:
    if not apart():
        pytest.skip("network namespaces are not permitted here")
    code = "import socket; print([name for _, name in socket.if_nameindex()])"
    run = subprocess.run((*apart(), sys.executable, "-c", code), capture_output=True, text=True)
    assert run.stdout.strip() in ("['lo']", "[]")


def test_missing_models_are_an_error_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is there and nothing can be got: the error says so, and no half file is left."""
    monkeypatch.setenv("BRIM_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    code = "import sys; from brim import vision; vision.Segment()"
    run = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, timeout=120)
    assert run.returncode == 1
    assert "DownloadError: mediapipe==0.10.21 (pypi) could not be downloaded" in run.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
