"""Where two computations of one model part: values matched by their place in the source file."""

from brim.divergence.arrange import arranged
from brim.divergence.errors import BOUNDS, Apart, apart, energies
from brim.divergence.first import Compared, First, first, lasting
from brim.divergence.layers import Results, may_agree, pairs, results
from brim.divergence.probes import broken_by_change, broken_by_running, interpreted, probed

__all__ = [
    "BOUNDS",
    "Apart",
    "Compared",
    "First",
    "Results",
    "apart",
    "arranged",
    "broken_by_change",
    "broken_by_running",
    "energies",
    "first",
    "interpreted",
    "lasting",
    "may_agree",
    "pairs",
    "probed",
    "results",
]
