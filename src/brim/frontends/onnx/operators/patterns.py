"""Regular expressions of models, in RE2's language: without backtracking, no model can hang it."""

from __future__ import annotations

from typing import Any

from brim.errors import ModelError, UnsupportedError


def compiled(pattern: str, op: str) -> Any:
    """The pattern, for an operator `op`. Raises UnsupportedError without RE2, or ModelError."""
    try:
        import re2
    except ImportError as error:
        raise UnsupportedError(
            f"{op} needs the google-re2 package",
            f"{error}; Python's own engine can take time without end",
            hint="pip install 'brim[text]'",
        ) from None
    options = re2.Options()
    options.log_errors = False  # they are raised; RE2 would print them, too
    try:
        return re2.compile(pattern, options)
    except (re2.error, UnicodeError) as error:
        raise ModelError(f"not a pattern: {pattern[:200]!r}", str(error)[:200]) from None
