"""Every error that brim raises on purpose. Each says what happened, why, where, and what to do.

Nothing else is raised at users: a bare KeyError or ValueError that reaches a caller is a bug.
"""

from __future__ import annotations


class BrimError(Exception):
    """Base of all errors. `what` is one line; `why`, `where` and `hint` may be empty."""

    def __init__(self, what: str, why: str = "", where: str = "", hint: str = "") -> None:
        self.what, self.why, self.where, self.hint = what, why, where, hint
        super().__init__(what, why, where, hint)

    def __str__(self) -> str:
        lines = [self.what]
        for label, text in (("because", self.why), ("at", self.where), ("try", self.hint)):
            if text:
                lines.append(f"  {label}: {text}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, str]:
        """The one JSON shape of errors that scripts read."""
        kind = type(self).__name__
        return {
            "error": kind,
            "what": self.what,
            "why": self.why,
            "where": self.where,
            "hint": self.hint,
        }


class ModelError(BrimError):
    """A model file is damaged, malicious or contradicts itself."""


class UnsupportedError(BrimError):
    """A model is fine, but brim cannot convert it; *all* reasons are listed at once."""


class OpError(BrimError):
    """An operator was applied to types or attributes that it does not take."""


class InputError(BrimError):
    """A caller gave a model the wrong names, shapes, types or values."""


class CompileError(BrimError):
    """The compiler could not make code for a kernel; a bug in brim or in the back end."""


class TrustError(BrimError):
    """Native code from elsewhere was about to run without the caller's consent."""


class DownloadError(BrimError):
    """A model or sample file could not be got, or it is not the file that was pinned."""


class TrainingError(BrimError):
    """Training cannot go on: what it computes is not a number any more."""
