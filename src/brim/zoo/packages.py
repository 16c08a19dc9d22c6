"""Downloads a pinned package with the user's own pip or npm: wheels only, no scripts are run."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from brim.errors import DownloadError
from brim.zoo.entries import Entry

# Called with what is happening, bytes done, bytes in total; 0 in total: not known.
Progress = Callable[[str, int, int], None]

# Wheels are chosen for one Python version, not for the running one: we read files, not modules.
WHEEL_PYTHON = "3.11"
LAST_LINES = 8


def download(entry: Entry, folder: Path, progress: Progress) -> Path:
    """The package's archive, in `folder`."""
    what = f"{entry.requirement} ({entry.registry})"
    progress(what, 0, 0)
    last = _run(_command(entry, folder), what, folder, progress)
    archives = [p for p in folder.iterdir() if p.suffix in (".whl", ".tgz")]
    if len(archives) != 1:
        raise DownloadError(
            f"{what} gave no archive",
            why=last or "the package manager said nothing",
            hint="check its settings: nothing but the package itself was asked for",
        )
    return archives[0]


def _command(entry: Entry, folder: Path) -> tuple[str, ...]:
    match entry.registry:
        case "pypi":
            try:
                version = metadata.version("pip")
            except metadata.PackageNotFoundError:
                raise DownloadError(
                    f"{entry.requirement} cannot be downloaded",
                    why=f"this Python has no pip ({sys.executable})",
                    hint="python -m ensurepip",
                ) from None
            # Since 24.1 pip can tell its progress in lines for programs.
            modern = tuple(int(n) for n in re.findall(r"\d+", version)[:2]) >= (24, 1)
            pip = (sys.executable, "-m", "pip", "download", entry.requirement, "--no-deps")
            wheel = ("--only-binary=:all:", "--python-version", WHEEL_PYTHON)
            platform = ("--platform", entry.platform) if entry.platform else ()
            manner = ("--progress-bar", "raw" if modern else "off", "--no-input")
            return (*pip, *wheel, *platform, *manner, "-d", str(folder))
        case "npm":
            npm = shutil.which("npm")
            if npm is None:
                raise DownloadError(
                    f"{entry.requirement} cannot be downloaded",
                    why="there is no npm on the PATH",
                    hint="install Node.js, which carries npm",
                )
            quiet = ("--ignore-scripts", "--no-audit", "--no-fund")
            return (npm, "pack", entry.requirement, *quiet, "--pack-destination", str(folder))


def _run(command: tuple[str, ...], what: str, folder: Path, progress: Progress) -> str:
    """Runs a package manager to its end; returns its last lines. Raises DownloadError."""
    last: deque[str] = deque(maxlen=LAST_LINES)
    try:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise DownloadError(f"{what} cannot be downloaded", why=str(error)) from None
    with process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if found := re.fullmatch(r"Progress (\d+) of (\d+)\s*", line):
                    progress(what, int(found[1]), int(found[2]))
                elif line.strip():
                    last.append(line.strip())
        except BaseException:  # an interrupt must not leave the download running
            process.kill()
            raise
    if process.returncode:
        raise DownloadError(
            f"{what} could not be downloaded",
            why="\n".join(last) or f"exit status {process.returncode}",
            where=" ".join(command),
            hint="is there a network, and does the package index have this version?",
        )
    return "\n".join(last)
