"""The `brim` command. Only its entry point is here: one file per group of commands lies beside it.

typer and rich are an extra, so nothing of them is imported before `main` has checked for them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `brim ARGUMENTS` (default: the process's own) and gives its exit code.

    0: done; 1: it failed and said why; 2: the command line was wrong; 130: interrupted.
    """
    try:
        from brim.cli.app import app
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        print(
            f"the command line of brim needs {error.name}, which is not installed\n"
            "  try: pip install 'brim[cli]'",
            file=sys.stderr,
        )
        return 1
    try:
        app(args=arguments, prog_name="brim")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        return 130
    return 0
