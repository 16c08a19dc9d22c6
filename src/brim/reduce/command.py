"""Whether a shell command fails on a model: its exit code, and a text in what it prints."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from brim.errors import InputError

PLACE = "{}"  # in a command: where the model's path goes
SHOWN = 2000  # characters of what a command printed that a message repeats
READ = 1 << 24  # bytes of it that are looked at, from the end


@dataclass(frozen=True)
class Ended:
    """How a command ended. code: negative for a signal; None: it took too long. output: what it
    printed, on both streams."""

    code: int | None
    output: str

    def __str__(self) -> str:
        if self.code is None:
            return "ran out of its time"
        if self.code >= 0:
            return f"exit code {self.code}"
        with contextlib.suppress(ValueError):
            return f"signal {signal.Signals(-self.code).name}"
        return f"signal {-self.code}"


@dataclass(frozen=True)
class Command:
    """A command line for `sh`, with {} where the model's path goes. timeout: seconds."""

    line: str
    timeout: float

    def __post_init__(self) -> None:
        if PLACE not in self.line:
            raise InputError(
                f"the command {self.line!r} has no {PLACE}",
                why="that is where the path of the model goes",
                hint="--fails 'brim run {} --input random'",
            )
        if not self.timeout > 0:
            raise InputError(f"{self.timeout} seconds are no time limit")

    def run(self, model: Path) -> Ended:
        """Runs it on a model, in a process group of its own, of which nothing is left running."""
        line = self.line.replace(PLACE, shlex.quote(str(model)))
        with tempfile.TemporaryFile() as output:
            child = subprocess.Popen(
                ["sh", "-c", line],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                code: int | None = child.wait(self.timeout)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()
            output.seek(max(output.seek(0, os.SEEK_END) - READ, 0))
            return Ended(code, output.read().decode("utf-8", "replace"))


@dataclass(frozen=True)
class Failure:
    """The failure that is looked for: how the command ends, and a text that it prints then."""

    ended: Ended
    text: str

    def is_in(self, ended: Ended) -> bool:
        return ended.code == self.ended.code and self.text in ended.output


def failure(ended: Ended, text: str) -> Failure:
    """How the command fails on the whole model. Raises InputError where it does not."""
    printed = ended.output.strip()[-SHOWN:] or "nothing"
    if ended.code == 0:
        raise InputError(
            "the command does not fail on the whole model",
            why=f"it ended with {ended} and printed {printed}",
            hint="a command fails that exits with another code than 0",
        )
    if text not in ended.output:
        raise InputError(
            f"the command fails on the whole model without printing {text!r}",
            why=f"it ended with {ended} and printed {printed}",
        )
    return Failure(ended, text)
