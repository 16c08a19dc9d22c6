"""What every test gets: a cache of its own, and skips with a reason for what is not there.

Fixtures of one subject live beside the tests of that subject.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import hypothesis
import pytest

from brim import settings

# How long an example takes says more of the machine than of brim.
hypothesis.settings.register_profile("brim", deadline=None)
hypothesis.settings.load_profile("brim")

# Small and pinned nowhere else: only asked for whether a registry answers.
PROBE = "iniconfig==2.0.0"
PEERS = ("onnxruntime",)


def pytest_configure(config: pytest.Config) -> None:
    """Points BRIM_CACHE at a folder that lives as long as the run; xdist's workers inherit it."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        return
    # Compiled kernels of other versions must not hide a fault of this one. What the zoo has got is
    # digest-checked, so it is shared with other runs.
    folder = Path(tempfile.mkdtemp(prefix="brim-test-cache-"))
    if settings.get("cache") == "off":
        del os.environ["BRIM_CACHE"]
    zoo = settings.cache_directory() / "zoo"
    zoo.mkdir(parents=True, exist_ok=True)
    (folder / "zoo").symlink_to(zoo, target_is_directory=True)
    os.environ["BRIM_CACHE"] = str(folder)
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes are no names: compressed ones may hold the hour, and each worker must see one list."""
    return argname if isinstance(val, bytes) else None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips `network` tests without a registry and `peer` tests without the peer."""
    if item.get_closest_marker("network") and (why := _no_registry()):
        pytest.skip(why)
    if marker := item.get_closest_marker("peer"):
        for name in marker.args or PEERS:
            if importlib.util.find_spec(name) is None:
                pytest.skip(f"{name} is not installed")


@pytest.fixture(autouse=True)
def _own_numbers() -> None:
    """A test's weights and inputs do not depend on the tests before it."""
    if (networks := sys.modules.get("tests.networks")) is not None:
        networks.begin_anew()


@functools.cache
def _no_registry() -> str:
    """Why no package can be got, or an empty text."""
    command = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input", PROBE)
    manner = ("--disable-pip-version-check", "--no-cache-dir", "--retries", "0", "--timeout", "20")
    with tempfile.TemporaryDirectory() as folder:
        try:
            run = subprocess.run(
                (*command, *manner, "-d", folder), capture_output=True, text=True, timeout=120
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"no package registry is reachable: {error}"
    last = (run.stderr.strip().splitlines() or ["pip failed"])[-1]
    return f"no package registry is reachable: {last}" if run.returncode else ""
