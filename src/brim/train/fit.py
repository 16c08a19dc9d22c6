"""The training loop: batches go through the step graph, epoch by epoch, until enough is enough.

    net = brim.train.network("model.onnx", shapes={"x": (32, 3, 224, 224)})
    net, history = brim.train.fit(net, "pictures", CrossEntropy(), AdamW(1e-3), epochs=5)
    net.model().save("tuned.brim")

Everything that can be known to fail is found out before the first step. The state of a training is
that of its step graph and a few numbers; both are in every checkpoint, so that a training which was
killed goes on to the same bits.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

from brim.errors import InputError
from brim.model import Model, compile
from brim.train.augment import Augment, check_augment
from brim.train.data import Data, Examples, read_examples, split, steps_of, with_targets
from brim.train.features import features_of, halves
from brim.train.history import Epoch, History
from brim.train.log import event_log
from brim.train.loop import Material, Progress, Run, interrupts
from brim.train.losses import CrossEntropy, Loss
from brim.train.memory import limit_memory
from brim.train.metrics import classes_of, evaluation
from brim.train.network import Network
from brim.train.optimisers import Optimiser
from brim.train.step import training_step
from brim.types import F32, DType


def fit(
    network: Network,
    data: Data | Examples,
    loss: Loss,
    optimiser: Optimiser,
    epochs: int,
    *,
    validation: Data | Examples | float | None = None,
    early_stop: int | None = None,
    augment: Augment | None = None,
    checkpoints: str | PathLike[str] | None = None,
    interval: int | None = None,
    resume: bool = True,
    skip_damaged: bool = False,
    log: str | PathLike[str] | None = None,
    clip: float | None = None,
    clip_value: float | None = None,
    accumulate: int = 1,
    ema: float | None = None,
    memory: int | None = None,
    kept: DType = F32,
    mean: float | Sequence[float] = 0,
    std: float | Sequence[float] = 1,
    seed: int = 0,
    threads: int | None = None,
    progress: Progress | None = None,
    after_epoch: Callable[[Epoch], None] | None = None,
) -> tuple[Network, History]:
    """The network with the weights that were learned, and what was measured meanwhile.

    The batch is the first axis of the network's inputs. data: see `read_examples`, as are mean and
    std; the samples that do not fill a batch are left out, others in each epoch. clip, clip_value,
    accumulate, ema: see `training_step`; with `ema` it is the averages that are evaluated and
    returned. memory: of the bytes that a step computes in, at most so many, and what is kept for
    the backward pass is then of the type `kept`: see `limit_memory`.

    validation: data of its own, or the share of `data` that is held back; evaluated after each
    epoch. early_stop: ends the training after so many epochs in which the validation loss was no
    less than before, and gives the weights of the best one; without, those of the last.

    checkpoints: a folder; one is written every `interval` steps and after each epoch, the newest
    three and the best one stay. resume: goes on from the newest one there, if there is one, to
    exactly the numbers that an uninterrupted training would have given (on one thread, or as many);
    False refuses a folder that holds any. skip_damaged: goes on from an older one if the newest is
    damaged. log: a folder for TensorBoard. progress(stage, done, total), after_epoch(epoch): called
    as training goes on.

    Where nothing changes the samples (no `augment`), what frozen layers in front make of them is
    computed once and kept in memory, unless it takes more room than the samples.

    Ctrl-C ends the training after the step, with a checkpoint; `History.ending` tells. Raises
    InputError before the first step for whatever is wrong with data and options, and for a
    checkpoint of another training; ModelError for a damaged one; TrainingError, which names the
    layer, where the loss is not a number: the last checkpoint stays.
    """
    if kept != F32 and memory is None:
        raise InputError(
            "kept needs a limit of memory", hint="memory=1 << 30, or what the machine can spare"
        )
    for name, count in {"epochs": epochs, "early_stop": early_stop, "interval": interval}.items():
        if count is not None and count < 1:
            raise InputError(f"{name} is {count}", hint="1 or more")
    if early_stop is not None and validation is None:
        raise InputError(
            "early_stop needs validation", hint="validation=0.1 holds back a tenth of the data"
        )
    augment = augment or Augment()
    material = _material(network, data, loss, validation, augment, seed, mean, std)
    cut = halves(network) if augment == Augment() else None
    inner = network if cut is None else cut.back
    options = {"clip": clip, "clip_value": clip_value, "accumulate": accumulate, "ema": ema}
    graph = training_step(inner, material.loss, optimiser, **options, seed=seed)  # type: ignore[arg-type]
    if memory is not None:
        graph = limit_memory(graph, memory, kept)
        options |= {"memory": memory, "kept": kept.name}  # type: ignore[dict-item]
    judge = None
    if material.held is not None:
        judge = compile(evaluation(inner, loss), threads=threads)
    run = Run(
        inner, material, graph, compile(graph, threads=threads), judge, ema is not None,
        _settings(network, material, {"optimiser": optimiser, **options}),
        None if checkpoints is None else Path(checkpoints),
    )  # fmt: skip
    run.resume(resume, skip_damaged)
    if cut is not None and run.epoch <= epochs:
        run.material = _featured(material, compile(cut.front, threads=threads), progress)
    with event_log(log, run.steps) as write, interrupts() as interrupted:
        ending = run.go(epochs, early_stop, interval, write, interrupted, progress, after_epoch)
    weights = run.weights
    if early_stop is not None and ending != "interrupted":
        weights = run.best_weights or weights
    return network.with_weights(weights), run.history(ending)


def _material(
    network: Network,
    data: Data | Examples,
    loss: Loss,
    validation: Data | Examples | float | None,
    augment: Augment,
    seed: int,
    mean: float | Sequence[float],
    std: float | Sequence[float],
) -> Material:
    """What is trained with, all of it checked. Raises InputError."""
    inputs = {name: value.type for name, value in network.data.items()}
    output = next(iter(network.graph.outputs.values())).type
    target, classes = loss.target(output), classes_of(loss, output)
    check_augment(augment, inputs)
    in_steps = loss
    if augment.mixup:
        if not isinstance(loss, CrossEntropy) or not classes or output.rank != 2:
            raise InputError("mixup is for networks that name one class, and CrossEntropy")
        in_steps = replace(loss, soft=True)
    examples, held = read_examples(data, inputs, mean, std), None
    if isinstance(validation, float | int):
        examples, held = split(examples, validation, seed)
    elif validation is not None:
        held = read_examples(validation, inputs, mean, std, examples.classes)
    held = None if held is None else with_targets(held, target, classes)
    examples = with_targets(examples, target, classes)
    steps_of(examples)
    return Material(examples, held, in_steps, classes, augment, seed)


def _featured(material: Material, front: Model, progress: Progress | None) -> Material:
    """With what the frozen layers make of the samples, once for all epochs."""

    def made(examples: Examples, stage: str) -> Examples:
        def tell(done: int, total: int) -> None:
            if progress is not None:
                progress(stage, done, total)

        return features_of(front, examples, tell)

    held = None if material.held is None else made(material.held, "frozen layers, validation")
    return replace(material, examples=made(material.examples, "frozen layers"), held=held)


def _settings(network: Network, material: Material, options: Mapping[str, Any]) -> dict[str, str]:
    """What decides the numbers that a training gives, as text."""
    examples = material.examples
    assert examples.labels is not None
    trained = sorted(network.trained)
    known = {
        "network": network.graph.name,
        "inputs": ", ".join(f"{name}: {type}" for name, type in examples.types.items()),
        "trained": f"{len(trained)} weights, {_digest(repr(trained).encode())}",
        "samples": f"{len(examples)}, {_digest(examples.labels[examples.numbers].tobytes())}",
        "loss": repr(material.loss),
        "augment": repr(material.augment),
        "seed": repr(material.seed),
    }
    return known | {name: repr(option) for name, option in options.items()}


def _digest(content: bytes) -> str:
    return f"{zlib.crc32(content):08x}"
