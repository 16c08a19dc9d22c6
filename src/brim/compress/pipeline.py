"""The way from a float model and data to a compressed model and its report, in one function.

    load -> read data -> the recipe's steps, one after another -> judge, time, weigh -> verdict

What a step does is in its own file; what the verdict is made of is in `contract`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

from brim.compress.contract import doubts, verdict
from brim.compress.data import Batches, Data, read_data
from brim.compress.int8 import int8
from brim.compress.layers import described
from brim.compress.low_rank import low_rank
from brim.compress.measure import compare_speed
from brim.compress.metric import Accuracy, Judge, Score
from brim.compress.prune import prune
from brim.compress.recipe import (
    Int8,
    LowRank,
    Prune,
    Recipe,
    Step,
    Storage,
    Weights,
    step_text,
)
from brim.compress.report import Report, Sizes, Stage
from brim.compress.storage import storage
from brim.compress.weights import weights
from brim.compress.work import Made, Progress, Work
from brim.errors import BrimError
from brim.graph import Graph, visible
from brim.model import Model, compile, load
from brim.ops.primitive import parse_spec
from brim.passes.sparse import sparsify

CALIBRATION = 256  # samples that scales are made of
HELD_BACK = 32  # so many others at least, or the same ones judge

STEPS: Mapping[type[Step], Callable[[Graph, Any, Work], Made]] = {
    Int8: int8,
    Prune: prune,
    LowRank: low_rank,
    Weights: weights,
    Storage: storage,
}


class ContractError(BrimError):
    """A compressed model misses its contract. model, report: what was made, and all about it."""

    def __init__(self, model: Model, report: Report) -> None:
        blame = "; ".join(f"{each.layer}: {each.why}" for each in report.verdict.blame)
        super().__init__(
            f"{report.model} compressed misses its contract: {'; '.join(report.verdict.reasons)}",
            why=f"to blame are {blame}" if blame else "",
            hint="keep these layers in float, allow a larger loss, give more and better data, "
            "or force it",
        )
        self.model, self.report = model, report


def quantize(
    model: Model | str | Path | bytes,
    data: Data,
    recipe: Recipe | None = None,
    *,
    metric: Score | None = None,
    max_loss: float = 0.01,
    samples: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
    threads: int | None = None,
    progress: Progress | None = None,
    force: bool = False,
) -> tuple[Model, Report]:
    """A smaller, faster model that keeps its accuracy, and the report that says so.

    model: a float model, or what `brim.load` takes; shapes: of its inputs, where they are open.
    data: what the model will see: a folder of pictures, an .npz file, arrays, an iterable (see
    `read_data`; mean, std: of pictures' pixels in 0..1). recipe: what is done (default: `Int8`).
    metric: (outputs, labels) -> the score of each sample; default: top-1 accuracy where the data
    has labels, else the squared error of the outputs relative to the squared float outputs.
    max_loss: how much of it may be lost (0.01: a point, or 1 %). samples: use about so many of the
    data, evenly spread; of data that does not say how much there is, the first ones.

    The result computes for the shapes that it was made for. Raises ContractError, which holds model
    and report, if the loss is larger or the model slower than in float, unless `force`; InputError
    for data that does not fit; UnsupportedError for models that a step cannot compress.
    """
    recipe = recipe or Recipe()
    if not isinstance(model, Model):
        model = load(model, threads=threads, shapes=shapes, progress=progress)
    model.compile(shapes)
    source = model.graph
    inputs = {name: value.type for name, value in visible(source.inputs, source.state).items()}
    batches = read_data(data, inputs, mean, std)
    steps = [(step_text(step), partial(_done, step)) for step in recipe.steps]
    return contracted(
        model,
        batches if samples is None else some(batches, samples),
        steps,
        recipe.to_toml(),
        metric=metric,
        max_loss=max_loss,
        threads=threads,
        progress=progress,
        force=force,
    )


def _done(step: Step, graph: Graph, work: Work) -> Made:
    return STEPS[type(step)](graph, step, work)


def contracted(
    model: Model,
    batches: Batches,
    steps: Sequence[tuple[str, Callable[[Graph, Work], Made]]],
    recipe: str,
    *,
    metric: Score | None,
    max_loss: float,
    threads: int | None,
    progress: Progress | None,
    force: bool,
) -> tuple[Model, Report]:
    """What steps make of a model's graph, compiled, and its report; else as `quantize`.

    model: compiled. steps: what a report calls them, and what they do. recipe: their text.
    """
    calibrating, judging = shares(batches)
    judge = Judge(model, judging, metric)

    def judged(graph: Graph) -> Accuracy:
        return judge(compile(graph, threads=threads))

    work = Work(calibrating, judged, max_loss, threads, progress)
    graph, made = model.graph, Made(model.graph)
    stages = [_stage("", graph, 0.0, ())]
    for number, (text, step) in enumerate(steps, 1):
        made = step(graph, work)
        graph = made.graph
        loss = judged(graph).difference if number < len(steps) else None  # see _report
        stages.append(_stage(text, graph, loss, made.notes))
    compressed = compile(graph, threads=threads, progress=progress)
    compressed.metadata = {**model.metadata, "recipe": recipe}
    report = _report(model, compressed, judge, recipe, made, tuple(stages), work)
    if not report.accepted and not force:
        raise ContractError(compressed, report)
    return compressed, report


# ---------------------------------------------------------------------- data


def some(batches: Batches, samples: int) -> Batches:
    """At least so many samples of the data, and at most a batch more; all if there are fewer."""
    count = -(-samples // max(next(batches.batches()).count, 1))
    total = batches.total
    if total is None:
        return batches.first(count)
    return batches.chosen(lambda number: number * count % total < count)


def shares(batches: Batches) -> tuple[Batches, Batches]:
    """What scales are made of, evenly from all of the data where its size is known; and what
    judges: all the rest, or everything where that is too little."""
    rows = max(next(batches.batches()).count, 1)
    most = max(CALIBRATION // rows, 1)
    if batches.total is None:
        return batches.first(most), batches
    step = max(batches.total // most, 2)
    if (batches.total - -(-batches.total // step)) * rows < HELD_BACK:
        return batches, batches
    return (
        batches.chosen(lambda number: number % step == 0),
        batches.chosen(lambda number: number % step != 0),
    )


# ---------------------------------------------------------------------- the report


def _report(
    before: Model,
    after: Model,
    judge: Judge,
    recipe: str,
    made: Made,
    stages: tuple[Stage, ...],
    work: Work,
) -> Report:
    accuracy = judge(after)
    stages = (*stages[:-1], replace(stages[-1], loss=accuracy.difference))
    feeds = next(iter(work.batches))
    speed = compare_speed(before, after, feeds, progress=work.tell)
    layers, rest = described(before, after, made, work)
    weights = (stages[0].bytes, stages[-1].bytes)
    sizes = Sizes(stages[0].bytes, _artifact_bytes(after), *weights)
    return Report(
        model=before.name,
        recipe=recipe,
        max_loss=work.max_loss,
        sizes=sizes,
        accuracy=accuracy,
        speed=speed,
        layers=layers,
        stages=stages,
        verdict=verdict(accuracy, speed, layers, stages, work.max_loss),
        warnings=doubts(accuracy, speed, sizes, work.max_loss),
        rest_before=rest[0],
        rest_after=rest[1],
    )


def _stage(step: str, graph: Graph, loss: float | None, notes: tuple[str, ...]) -> Stage:
    stored = sparsify(graph)
    return Stage(step, constant_bytes(stored), product_flops(stored), loss, notes)


def constant_bytes(graph: Graph) -> int:
    """Bytes of all constants of a graph."""
    arrays = {id(v.data): v.data for v in graph.values() if v.data is not None}
    return sum(array.nbytes for array in arrays.values())


def product_flops(graph: Graph) -> int:
    """Multiplications and additions of all products of a graph."""
    total = 0
    for value in graph.values():
        if value.op is None or value.op.name not in ("conv", "contract", "sparse_matmul"):
            continue
        if value.op.name == "conv":
            terms = prod(value.args[1].shape[:-1])
        elif value.op.name == "sparse_matmul":
            terms = value.args[1].shape[1]
        else:
            *specs, out = parse_spec(value.attrs["spec"])
            sizes = {c: n for arg, spec in zip(value.args, specs) for c, n in zip(spec, arg.shape)}
            terms = prod(n for letter, n in sizes.items() if letter not in out)
        total += 2 * value.type.size * terms
    return total


def _artifact_bytes(model: Model) -> int:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.brim"
        model.save(path)
        return path.stat().st_size
