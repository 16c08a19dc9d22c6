"""Where numbers stopped being finite: which layer of a training step made the first of them.

A compiled step only says that its loss or the norm of its slopes is not finite. Here the same step
is interpreted with the same state and batch, and followed back from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from brim.graph import Graph, evaluated, topo

FINITE, INFINITE, NAN = 0, 1, 2


def where_not_finite(
    step: Graph, state: Mapping[str, np.ndarray], batch: Mapping[str, Any]
) -> str | None:
    """The input, the weight or the layer from which the loss or the norm of a step became infinite
    or NaN, such as "net.onnx:Conv_12 (conv)"; None where both are finite.

    step: of `training_step`. state: as it was before that step. batch: data and target. This is
    for a rare case, and slow: numpy computes everything.
    """
    ends = [step.outputs["loss"], step.outputs["norm"]]
    feeds = {**step.state, **state, **batch}
    names = {id(value): name for name, value in step.inputs.items()}
    env = {i: np.asarray(feeds[name]) for i, name in names.items()}
    faults = {i: _fault(array) for i, array in env.items()}
    for value, found in evaluated(ends, env):
        faults[id(value)] = _fault(found)
    culprit = max(ends, key=lambda value: faults[id(value)] > FINITE)
    if faults[id(culprit)] == FINITE:
        return None
    while worse := [a for a in culprit.args if not a.is_const and faults[id(a)] > FINITE]:
        # what is not a number mostly comes from such; what is masked on purpose is infinite
        culprit = max(worse, key=lambda value: faults[id(value)])
    if culprit.op is None:
        name = names[id(culprit)]
        return f"{'weight' if name in step.state else 'input'} {name!r}"
    forward = {id(value) for value in topo(ends[:1])}
    layer = f"{culprit.where} ({culprit.op.name})"
    return layer if id(culprit) in forward else f"slope of {layer}"


def _fault(found: Any) -> int:
    """How bad the worst number of an array, or of several, is."""
    arrays = found if isinstance(found, tuple) else (found,)
    floats = [array for array in arrays if array.dtype.kind == "f"]
    if any(np.isnan(array).any() for array in floats):
        return NAN
    return INFINITE if any(np.isinf(array).any() for array in floats) else FINITE
