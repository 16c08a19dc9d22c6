"""Random models: draws a number of nodes from the table and picks the outputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from tests.extra.fuzz_models.draft import Draft, Unfit
from tests.extra.fuzz_models.engines import PEERS
from tests.extra.fuzz_models.rows import CASES

OPSETS = (7, 26)  # oldest and newest that are drawn
TEMPERS = ("plain",) * 6 + ("special", "extreme", "extreme", "limits")
LIMITS = ("elementwise", "shape", "index")  # groups that do not sum: the largest numbers are fair
TRIES = 25  # draws for one node until one fits


@dataclass(frozen=True)
class Sample:
    """A model and arrays for its inputs."""

    model: onnx.ModelProto
    feeds: dict[str, np.ndarray]


def sample(seed: int, index: int, only: str = "") -> Sample | None:
    """Model number `index` of a seed; only: every node is of this operator. None if none fits."""
    rng = np.random.default_rng([seed, index])
    newest = rng.random() < 0.5
    opset = OPSETS[1] if newest else int(rng.integers(OPSETS[0], OPSETS[1] + 1))
    draft = Draft(rng, opset, str(rng.choice(TEMPERS)))
    names = [name for name, row in CASES.items() if row.since <= opset and only in ("", name)]
    if draft.temper == "limits":
        names = [name for name in names if CASES[name].group in LIMITS]
    if not names:
        return None
    # half of the models have one node: most faults show there, and most clearly
    count = 1 if rng.random() < 0.5 else int(rng.integers(2, 31))
    if count > 1 and rng.random() < 0.8:
        draft.home = str(rng.choice(list(PEERS), p=[0.75, 0.25]))
    for _ in range(count):
        if not _add(draft, names):
            break
    return finish(draft)


def _add(draft: Draft, names: list[str]) -> bool:
    for _ in range(TRIES):
        name = draft.choose(names)
        state = (len(draft.nodes), dict(draft.inputs), dict(draft.initializers), dict(draft.values))
        try:
            CASES[name].function(draft, name)
            return True
        except Unfit:
            del draft.nodes[state[0] :]
            draft.inputs, draft.initializers, draft.values = state[1:]
    return False


def finish(draft: Draft) -> Sample | None:
    """The draft with outputs: what nobody reads, mostly, and some of the rest."""
    produced = [name for node in draft.nodes for name in node.output if name in draft.values]
    used = {name for node in draft.nodes for name in node.input}
    outputs = [
        name for name in produced if draft.chance(0.9 if name not in used else 0.15)
    ] or produced[-1:]
    if not outputs:
        return None
    model = draft.model(outputs)
    wanted = {port.name for port in model.graph.input}
    return Sample(model, {n: a for n, a in draft.inputs.items() if n in wanted})
