"""Trains a model's file on labelled data: a tuned model comes out, and what was measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from brim import train
from brim.errors import InputError
from brim.model import compile
from brim.tools.destinations import check_destinations
from brim.train.augment import Augment
from brim.train.compressed import made_of
from brim.train.data import Examples, read_examples, split, steps_of
from brim.train.history import Epoch, History
from brim.train.losses import Loss
from brim.train.network import Network
from brim.train.optimisers import Optimiser
from brim.train.schedules import Rate

LOSSES: Mapping[str, Callable[[], Loss]] = {
    "cross-entropy": train.CrossEntropy,
    "binary": train.BinaryCrossEntropy,
    "squared": train.MeanSquared,
    "absolute": train.MeanAbsolute,
    "huber": train.Huber,
}
OPTIMISERS: Mapping[str, Callable[..., Optimiser]] = {
    "sgd": train.SGD,
    "adam": train.Adam,
    "adamw": train.AdamW,
    "lion": train.Lion,
}
SCHEDULES: Mapping[str, Callable[[float, int], Rate]] = {
    "constant": lambda rate, steps: rate,
    "cosine": train.Cosine,
    "linear": train.Polynomial,
    "one-cycle": train.OneCycle,
}
MOMENTUM = 0.9  # of "sgd"


@dataclass(frozen=True)
class Course:
    """How a file is trained; the options of `brim train`.

    freeze: patterns of weights that stay; head: classes of a new last layer, 0: the one there is,
    None: as many as the data has folders. validate: data of its own or the share held back. qat:
    numbers are rounded as integers need it, and integers come out.
    """

    epochs: int
    batch: int = 32
    freeze: tuple[str, ...] = ()
    head: int | None = 0
    loss: str = "cross-entropy"
    optimiser: str = "adamw"
    rate: float = 1e-3
    schedule: str = "cosine"
    warmup: int = 0
    decay: float | None = None
    clip: float | None = None
    ema: float | None = None
    augment: Augment = field(default_factory=Augment)
    validate: Path | float | None = None
    early_stop: int | None = None
    seed: int = 0
    qat: bool = False

    def __post_init__(self) -> None:
        for what, name, known in (
            ("loss", self.loss, LOSSES),
            ("optimiser", self.optimiser, OPTIMISERS),
            ("schedule", self.schedule, SCHEDULES),
        ):
            if name not in known:
                raise InputError(f"there is no {what} {name!r}", hint=f"one of {', '.join(known)}")

    def made_loss(self) -> Loss:
        """The loss of that name."""
        return LOSSES[self.loss]()

    def made_optimiser(self, steps: int) -> Optimiser:
        """For so many steps in all. Raises InputError."""
        rate = SCHEDULES[self.schedule](self.rate, max(steps - self.warmup, 1))
        if self.warmup:
            rate = train.Warmup(self.warmup, rate)
        options = {} if self.decay is None else {"decay": self.decay}
        if self.optimiser == "sgd":
            options["momentum"] = MOMENTUM
        return OPTIMISERS[self.optimiser](rate, **options)


@dataclass(frozen=True)
class Outcome:
    """What came of it. classes: their names, where the data has some; written: the file, None if
    the training was interrupted."""

    history: History
    classes: tuple[str, ...]
    written: Path | None

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        written = None if self.written is None else str(self.written)
        return {**asdict(self.history), "classes": self.classes, "written": written}


def train_file(
    source: Path,
    destination: Path,
    data: Path,
    course: Course,
    *,
    mean: float | Sequence[float] = 0,
    std: float | Sequence[float] = 1,
    checkpoints: Path | None = None,
    interval: int | None = None,
    resume: bool = False,
    skip_damaged: bool = False,
    log: Path | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    signature: str = "",
    threads: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    after_epoch: Callable[[Epoch], None] | None = None,
) -> Outcome:
    """`brim.train.fit` from file to file; see there.

    What is written follows from the destination's name: .brim is an artifact, which takes one
    sample at a time where the model can; the source's own suffix is that file with other weights;
    .safetensors are the weights alone. What can be known to fail is found out before anything is
    computed. Raises BrimError, and leaves no such file, where something is wrong.
    """
    check_destinations(destination, suffixes=(".brim", source.suffix, ".safetensors"))
    if destination.suffix == source.suffix and course.head != 0:
        raise InputError(
            f"a new head has no place in the {source.suffix} file",
            hint="write an artifact: --out tuned.brim",
        )
    if course.qat and destination.suffix != ".brim":
        raise InputError(
            f"integers have no place in a {destination.suffix} file",
            hint="write an artifact: --out tuned.brim",
        )
    if resume and checkpoints is None:
        raise InputError("there is nothing to resume from", hint="say where: --checkpoints DIR")
    for path in (data, course.validate):
        if isinstance(path, Path) and not path.exists():
            raise InputError(
                f"there is no data at {path}",
                hint="give a folder with a folder of pictures per class, or an .npz file",
            )

    def built(batch: int, classes: int) -> Network:
        found = train.network(source, shapes=shapes, batch=batch, signature=signature)
        found = found.freeze(*course.freeze) if course.freeze else found
        return found.replace(classes, seed=course.seed) if classes else found

    def rounded(found: Network) -> Network:
        if not course.qat:
            return found
        return train.quantized(found, data, mean=mean, std=std, threads=threads)

    net = built(course.batch, 0)
    inputs = {name: value.type for name, value in net.data.items()}
    examples = read_examples(data, inputs, mean, std)
    classes = len(examples.classes) if course.head is None else course.head
    if course.head is None and not classes:
        raise InputError(
            "the data does not say how many classes there are", hint="say it: --head 10"
        )
    net = rounded(built(course.batch, classes) if classes else net)
    examples, held = _parts(course, examples, inputs, mean, std)
    tuned, history = train.fit(
        net,
        examples,
        course.made_loss(),
        course.made_optimiser(course.epochs * steps_of(examples)),
        course.epochs,
        validation=held,
        early_stop=course.early_stop,
        augment=course.augment,
        checkpoints=checkpoints,
        interval=interval,
        resume=resume,
        skip_damaged=skip_damaged,
        log=log,
        clip=course.clip,
        ema=course.ema,
        seed=course.seed,
        threads=threads,
        progress=progress,
        after_epoch=after_epoch,
    )
    if history.ending == "interrupted":
        return Outcome(history, examples.classes, None)
    if destination.suffix == ".brim":
        one = rounded(built(1, classes)).with_weights(tuned.weights)
        graph = made_of(one, threads).graph if course.qat else one.with_constants()
        compile(graph, threads=threads, progress=progress).save(destination)
    elif destination.suffix == ".safetensors":
        train.save_weights(tuned, destination)
    else:
        train.export(tuned, source, destination)
    return Outcome(history, examples.classes, destination)


def _parts(
    course: Course,
    examples: Examples,
    inputs: Mapping[str, Any],
    mean: float | Sequence[float],
    std: float | Sequence[float],
) -> tuple[Examples, Examples | None]:
    """What is trained on, and what is evaluated with."""
    if course.validate is None:
        return examples, None
    if isinstance(course.validate, float):
        return split(examples, course.validate, course.seed)
    return examples, read_examples(course.validate, inputs, mean, std, examples.classes)
