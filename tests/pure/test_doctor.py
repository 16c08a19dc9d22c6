"""What `brim doctor` looks at: packages, settings, control groups. Compiling is in tests/host."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

from brim.tools import machine
from brim.tools.doctor import (
    arithmetic_findings,
    machine_findings,
    package_findings,
    setting_findings,
)
from brim.tools.machine import Limits, limits
from brim.tools.packages import PACKAGES, Installed, installed

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def test_packages_are_those_of_the_project_file() -> None:
    project = tomllib.loads(PROJECT.read_text())["project"]
    wanted = {"": project["dependencies"], **project["optional-dependencies"]}
    for package in PACKAGES:
        assert f"{package.name}>={package.least}" in wanted[package.extra]
    for extra in ("", "onnx", "cli", "pictures", "tflite", "text", "video", "train"):
        listed = {package.name for package in PACKAGES if package.extra == extra}
        assert listed == {line.partition(">=")[0] for line in wanted[extra]}


def test_what_is_there_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {each.package.name: each for each in installed()}
    assert found["numpy"].version and not found["numpy"].fault
    versions = {"numpy": "1.26.4", "onnx": "1.17.0rc1", "rich": "13"}
    monkeypatch.setattr("brim.tools.packages.version", lambda name: versions.get(name, "999"))

    def broken(name: str) -> None:
        raise TypeError("Descriptors cannot be created directly")

    monkeypatch.setattr("brim.tools.packages.import_module", broken)
    found = {each.package.name: each for each in installed()}
    assert "oldest" in found["numpy"].fault
    assert "Descriptors" in found["onnx"].fault and "Descriptors" in found["rich"].fault


def test_packages_that_must_be_there() -> None:
    whole = [Installed(package, package.least, "") for package in PACKAGES]
    assert list(package_findings(tuple(whole))) == []
    gone = [Installed(package, "", "") for package in PACKAGES]
    assert [f.what.split()[0] for f in package_findings(tuple(gone))] == ["numpy", "llvmlite"]
    (found,) = package_findings((Installed(PACKAGES[2], "1.17", "broken"),))
    assert found.is_problem and "brim[onnx]" in found.hint


def test_settings_that_nobody_reads_are_wrong_or_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {
        "BRIM_THREAD": "2",
        "BRIM_JOBS": "two",
        "BRIM_CHECK": "1",
        "BRIM_SEED": "1",
        "X": "",
    }
    for name, text in environment.items():
        monkeypatch.setenv(name, text)
    found = {f.what.partition(":")[0]: f for f in setting_findings(environment)}
    assert found["nothing reads the environment variable BRIM_THREAD"].hint == "BRIM_THREADS?"
    assert [f.is_problem for f in found.values()] == [False, True, False]
    assert "BRIM_CHECK=1" in found and len(found) == 3


V2 = {
    "proc/self/cgroup": "0::/box/app\n",
    "sys/fs/cgroup/box/cpu.max": "150000 100000\n",
    "sys/fs/cgroup/box/app/cpu.max": "max 100000\n",
    "sys/fs/cgroup/box/app/memory.max": "268435456\n",
    "sys/fs/cgroup/box/memory.max": "max\n",
}
V1 = {
    "proc/self/cgroup": "4:memory:/box\n3:cpu,cpuacct:/box\n1:name=systemd:/\n",
    "sys/fs/cgroup/cpu/box/cpu.cfs_quota_us": "50000\n",
    "sys/fs/cgroup/cpu/box/cpu.cfs_period_us": "100000\n",
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
    "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
    "sys/fs/cgroup/memory/box/memory.limit_in_bytes": "9223372036854771712\n",
}


@pytest.mark.parametrize(
    ("files", "wanted"),
    [(V2, Limits(1.5, 1 << 28)), (V1, Limits(0.5, None)), ({}, Limits(None, None))],
)
def test_limits_of_control_groups(files: Mapping[str, str], wanted: Limits, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert limits(tmp_path) == wanted


def test_what_the_system_says(tmp_path: Path) -> None:
    assert machine.memory_bytes(tmp_path) is None and machine.governor(tmp_path) == ""
    files = {
        "proc/meminfo": "MemTotal:       1000 kB\nMemFree: 10 kB\nMemAvailable:    500 kB\n",
        "proc/cpuinfo": "flags : fpu hypervisor avx2\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert machine.memory_bytes(tmp_path) == (1000 << 10, 500 << 10)
    assert machine.governor(tmp_path) == "powersave"
    assert machine.is_virtual(tmp_path)


def test_threads_that_a_container_holds_up() -> None:
    hints = [finding.hint for finding in machine_findings(Limits(1.5, 1 << 28), 8)]
    assert any("BRIM_THREADS=1" in hint for hint in hints)
    assert any("BRIM_JOBS=1" in hint for hint in hints)
    assert not [f for f in machine_findings(Limits(None, None), 8) if "threads" in f.what]


def test_arithmetic_is_that_of_the_standard() -> None:
    assert list(arithmetic_findings()) == []
