"""Distillation: a small network learns what a large one says, beside what is right.

    both = brim.train.distilling(student, "teacher.onnx")
    tuned, _ = brim.train.fit(both, data, Distillation(temperature=4.0), optimiser, epochs)
    student = student.with_weights(tuned.weights)

The teacher is part of the step, with constant weights: one compiled graph computes both, and no
slopes are computed for it. Hinton 2015, "Distilling the knowledge in a neural network",
arXiv:1503.02531.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from brim.errors import InputError
from brim.graph import Graph, Value, rewrite, substitute
from brim.model import Model
from brim.ops import primitive as p
from brim.ops.registry import at
from brim.train.losses import CrossEntropy, KullbackLeibler, Loss, before_softmax
from brim.train.network import Network, network
from brim.types import Type


@dataclass(frozen=True)
class Distillation:
    """(1 - share) of a loss against labels, and `share` of the divergence from the teacher, for
    outputs of `distilling`: at a temperature, times its square (see `KullbackLeibler`).

    Targets and metrics are those of `loss`.
    """

    loss: Loss = field(default_factory=CrossEntropy)
    temperature: float = 4.0
    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise InputError(f"share is {self.share}", hint="0 < share <= 1")
        KullbackLeibler(self.temperature)

    def target(self, output: Type) -> Type:
        batch, _, *rest = output.dims
        return self.loss.target(Type((batch, *rest), output.dtype))

    def __call__(self, output: Value, target: Value) -> Value:
        student, teacher = (_one(output, index) for index in range(2))
        divergence = p.mul(KullbackLeibler(self.temperature)(student, teacher), self.share)
        if self.share == 1:
            return divergence
        return p.add(divergence, p.mul(self.loss(student, target), 1 - self.share))

    def metrics(self, output: Value, target: Value) -> dict[str, Value]:
        return self.loss.metrics(_one(output, 0), target)


def distilling(student: Network, teacher: Network | Model | str | Path | bytes) -> Network:
    """A network of the student's weights whose output is the student's and the teacher's, stacked
    along axis 1: f32[batch, 2, ...]. Of what ends in softmax, the logits before it.

    teacher: any float model of the same inputs, in order, and of an output of the same shape; its
    batch becomes the student's. Raises InputError where they do not fit.
    """
    if not isinstance(teacher, Network):
        teacher = network(teacher, batch=next(iter(student.data.values())).shape[0])
    constant = rewrite(teacher.with_constants(), _without_dropout)
    mine, theirs = list(student.data.values()), list(constant.inputs.values())
    if [value.type for value in mine] != [value.type for value in theirs]:
        raise InputError(
            f"{teacher.graph.name} takes {[str(v.type) for v in theirs]}, the student "
            f"{[str(v.type) for v in mine]}",
            hint="both have to see the same data",
        )
    replace = {id(a): b for a, b in zip(theirs, mine)}
    (taught,) = substitute([next(iter(constant.outputs.values()))], replace)
    name, own = next(iter(student.graph.outputs.items()))
    if own.type != taught.type:
        raise InputError(
            f"{teacher.graph.name} gives {taught.type}, the student {own.type}",
            hint="the classes have to be the same",
        )
    with at("distillation"):
        axis = own.type.rank - 1
        parts = (before_softmax(value, axis) for value in (own, taught))
        stacked = p.concat(*(p.reshape(v, shape=_stacked(v)) for v in parts), axis=1)
    graph = Graph(student.graph.inputs, {name: stacked}, student.graph.name, student.graph.state)
    return Network(graph, student.weights, student.sources, student.frozen)


def _stacked(value: Value) -> tuple[int, ...]:
    batch, *rest = value.shape
    return (batch, 1, *rest)


def _one(output: Value, index: int) -> Value:
    """The student's (0) or the teacher's part of stacked outputs."""
    batch, _, *rest = output.shape
    starts = (0, index, *(0 for _ in rest))
    part = p.slice(output, starts=starts, sizes=(batch, 1, *rest), steps=(1,) * output.type.rank)
    return p.reshape(part, shape=(batch, *rest))


def _without_dropout(value: Value) -> Value | None:
    return value.args[0] if value.op is not None and value.op.name == "dropout" else None
