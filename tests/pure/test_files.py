"""Files that appear whole or not at all."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from brim.errors import InputError
from brim.files import remove_unfinished, written


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("lasting", [False, True])
def test_a_file_appears_when_it_is_complete(tmp_path: Path, lasting: bool) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with written(path, lasting=lasting) as temporary:
        temporary.write_text("half")
        assert path.read_text() == "old"
        assert (temporary.parent, temporary.suffix) == (tmp_path, ".txt")
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_what_was_there_stays_if_the_new_file_fails(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail() -> None:
        with written(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_what_the_system_refuses_is_told_with_the_files_name(tmp_path: Path) -> None:
    path = tmp_path / "none" / "a.txt"
    with (
        pytest.raises(InputError, match="a.txt cannot be written") as caught,
        written(path, hint="try another") as temporary,
    ):
        temporary.write_text("new")
    assert (caught.value.why, caught.value.hint) == ("No such file or directory", "try another")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="folder"), written(tmp_path / "folder") as temporary:
        temporary.write_text("new")
    assert names(tmp_path) == ["folder"]


def test_folders_are_made_where_they_are_wanted(tmp_path: Path) -> None:
    path = tmp_path / "some" / "more" / "a.txt"
    with written(path, parents=True) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"


def test_a_file_has_the_rights_that_others_have(tmp_path: Path) -> None:
    """Not those of private temporary files."""
    (tmp_path / "plain").write_text("")
    with written(tmp_path / "ours") as temporary:
        temporary.write_text("")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


KILLED = """
import os, signal, sys
from pathlib import Path
from brim.files import written
with written(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_leaves_is_hidden_and_can_be_removed(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    ran = subprocess.run([sys.executable, "-c", KILLED, str(path)], timeout=60, check=False)
    assert ran.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    (left,) = (name for name in names(tmp_path) if name != "a.txt")
    assert left.startswith(".")
    remove_unfinished(tmp_path, ".png")
    assert left in names(tmp_path)
    remove_unfinished(tmp_path, ".txt")
    assert names(tmp_path) == ["a.txt"]


def test_many_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with written(path) as one, written(path) as other:
        one.write_text("one")
        other.write_text("other")
        assert one != other
    assert path.read_text() == "one"  # whose block ends last
    assert names(tmp_path) == ["a.txt"]
