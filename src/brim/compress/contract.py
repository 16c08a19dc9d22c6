"""The contract: what a compressed model must hold to be accepted, and who is to blame if not.

It may lose at most `max_loss` of its metric, and it may not be slower than it was in float.
docs/why/024 says why the estimate decides about the loss, and the interval about the speed.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from brim.compress.measure import Speed
from brim.compress.metric import Accuracy
from brim.compress.report import FLOAT, Blame, Layer, Sizes, Stage, Verdict
from brim.figures import duration, percent

BLAMED = 3  # layers named for each fault


def verdict(
    accuracy: Accuracy,
    speed: Speed,
    layers: Sequence[Layer],
    stages: Sequence[Stage],
    max_loss: float,
) -> Verdict:
    """The verdict. A loss or a speed that is not a number is not accepted.

    Layers are to blame for a loss if the last step, which they were looked at after, lost most of
    it; else the step is that did.
    """
    reasons: list[str] = []
    blame: list[Blame] = []
    if not accuracy.difference <= max_loss:
        reasons.append(
            f"it loses {percent(accuracy.difference)} ({accuracy.name}), "
            f"{percent(max_loss)} is allowed"
        )
        step, lost = costliest(stages)
        if step is stages[-1]:
            blame += [Blame(layer.name, _harm(layer)) for layer in most_harmful(layers)[:BLAMED]]
        else:
            reasons.append(f"{percent(lost)} of that is lost by the step: {step.step}")
    if speed.is_slower:
        reasons.append(
            f"it takes {speed.ratio:.2f} times as long as in float "
            f"({speed.low:.2f} to {speed.high:.2f})"
        )
        blame += [Blame(layer.name, _delay(layer)) for layer in slowest(layers)[:BLAMED]]
    return Verdict(not reasons, tuple(reasons), tuple(blame))


def doubts(accuracy: Accuracy, speed: Speed, sizes: Sizes, max_loss: float) -> tuple[str, ...]:
    """What a user should know of a model that is accepted: a line each."""
    found = []
    if accuracy.difference <= max_loss < accuracy.high:
        found.append(
            f"{accuracy.samples} samples do not prove it: the loss may be up to "
            f"{percent(accuracy.high)}, more than the {percent(max_loss)} allowed"
        )
    if speed.low <= 1 <= speed.high:
        found.append(
            "it is neither faster nor slower than in float: "
            f"{speed.low:.2f} to {speed.high:.2f} of the time"
        )
    if sizes.after >= sizes.before:
        found.append("it is not smaller than in float")
    return tuple(found)


def costliest(stages: Sequence[Stage]) -> tuple[Stage, float]:
    """The step that lost most of the metric, and how much; the last one where that is not known."""
    found = (stages[-1], 0.0)
    for before, after in pairwise(stages):
        if before.loss is not None and after.loss is not None:
            lost = after.loss - before.loss
            found = (after, lost) if lost > found[1] else found
    return found


def most_harmful(layers: Sequence[Layer]) -> list[Layer]:
    """Compressed layers, those first that cost most of the metric; where that was not measured,
    those of the least SQNR."""
    known = [layer for layer in layers if layer.loss is not None or layer.sqnr is not None]
    return sorted((layer for layer in known if layer.form != FLOAT), key=_rank)


def slowest(layers: Sequence[Layer]) -> list[Layer]:
    """The layers that take longer than in float, those first that add most."""
    found = []
    for layer in layers:
        if layer.before and layer.after and layer.after.measured > layer.before.measured:
            found.append((layer.after.measured - layer.before.measured, layer))
    return [layer for _, layer in sorted(found, key=lambda pair: -pair[0])]


def _rank(layer: Layer) -> tuple[float, float]:
    loss = -layer.loss if layer.loss is not None else 0.0
    return loss, layer.sqnr if layer.sqnr is not None else 0.0


def _harm(layer: Layer) -> str:
    parts = []
    if layer.loss is not None:
        parts.append(f"alone it costs {percent(layer.loss)}")
    if layer.sqnr is not None:
        parts.append(f"SQNR {layer.sqnr:.1f} dB")
    if layer.clipped is not None:
        parts.append(f"{percent(layer.clipped)} of its inputs are clipped")
    return ", ".join(parts)


def _delay(layer: Layer) -> str:
    assert layer.before is not None and layer.after is not None
    return f"takes {duration(layer.after.measured)}, {duration(layer.before.measured)} in float"
