"""Speed of brim against its peers: seeded networks and the command that times engines on them.

`python -m bench` compares, `python -m bench.nets` lists the networks. Tests are not here.
"""

from __future__ import annotations

import os
from pathlib import Path


def networks_folder() -> Path:
    """Where the networks are kept: brim-bench in $XDG_CACHE_HOME, else in ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "brim-bench"
