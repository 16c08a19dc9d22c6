"""Ctrl-C while a command is at work, in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

WITHIN = 10.0  # seconds to end in
CODE = """
import importlib, sys, time
from brim.cli import main
module, function, *line = sys.argv[1:]
def slow(*args, **named):
    print("there", flush=True)
    time.sleep(60)
setattr(importlib.import_module(module), function, slow)
sys.exit(main(line))
"""


def interrupted(line: Sequence[str], module: str, function: str, folder: Path) -> tuple[int, str]:
    """Exit code and stderr of `brim LINE`, run in `folder`, which gets a Ctrl-C when it calls this
    function of a module, as it sees it. Fails where it goes on for long."""
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, module, function, *line],
        cwd=folder,
        env={**os.environ, "BRIM_CACHE": "off", "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "there\n", process.stderr.read()
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=50)
    assert time.monotonic() - start < WITHIN
    return process.returncode, errors
