"""`brim train`: a model learns from labelled data and becomes an artifact."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from brim.cli.completion import files, words
from brim.cli.console import Json, Shapes, Signature, Threads, note, output, progress, show_json
from brim.cli.values import parse_numbers, parse_shapes
from brim.errors import InputError
from brim.figures import size


def train(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SRC",
            help="a float .onnx or .tflite file",
            autocompletion=files(".onnx", ".tflite"),
        ),
    ],
    destination: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="FILE",
            help="an artifact (.brim), SRC with other weights (.onnx, .tflite), or .safetensors",
        ),
    ],
    data: Annotated[
        Path,
        typer.Option(
            metavar="PATH",
            help="a folder with a folder of pictures for each class, or an .npz file of arrays by "
            "input name and `labels`",
        ),
    ],
    epochs: Annotated[int, typer.Option(metavar="N", min=1, help="passes through the data")],
    validate: Annotated[
        str | None,
        typer.Option(
            metavar="PATH|SHARE", help="evaluate after each epoch with this, or with 0.1 of --data"
        ),
    ] = None,
    freeze: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="weights that stay as they are: 'backbone.*', '*'"),
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(metavar="N|auto", help="a new last layer of N classes; auto: the folders'"),
    ] = None,
    batch: Annotated[int, typer.Option(metavar="N", min=1, help="samples in a step")] = 32,
    loss: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="cross-entropy, binary, squared, absolute or huber",
            autocompletion=words("cross-entropy", "binary", "squared", "absolute", "huber"),
        ),
    ] = "cross-entropy",
    optimiser: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="sgd (with momentum), adam, adamw or lion",
            autocompletion=words("sgd", "adam", "adamw", "lion"),
        ),
    ] = "adamw",
    rate: Annotated[float, typer.Option(metavar="X", help="how far a step goes")] = 1e-3,
    schedule: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="of the rate: constant, cosine, linear, one-cycle",
            autocompletion=words("constant", "cosine", "linear", "one-cycle"),
        ),
    ] = "cosine",
    warmup: Annotated[
        int, typer.Option(metavar="N", min=0, help="steps in which the rate rises from 0")
    ] = 0,
    decay: Annotated[
        float | None, typer.Option(metavar="X", help="of weights; default: the optimiser's own")
    ] = None,
    clip: Annotated[
        float | None, typer.Option(metavar="X", help="the largest norm that gradients may have")
    ] = None,
    ema: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="the result is a moving average of weights, as 0.999"),
    ] = None,
    flip: Annotated[
        bool, typer.Option("--flip", help="mirror half of the pictures, left and right")
    ] = False,
    crop: Annotated[
        float, typer.Option(metavar="SHARE", help="enlarge random parts of at least this side")
    ] = 1.0,
    colour: Annotated[
        float, typer.Option(metavar="SHARE", help="change brightness, contrast and saturation")
    ] = 0.0,
    mixup: Annotated[
        float, typer.Option(metavar="ALPHA", help="mix pairs of samples, as 0.2")
    ] = 0.0,
    early_stop: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="end after N epochs without a better validation"),
    ] = None,
    checkpoints: Annotated[
        Path | None, typer.Option(metavar="DIR", help="keep what is needed to go on")
    ] = None,
    interval: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="steps between checkpoints; default: an epoch's"),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="go on from the newest of --checkpoints, if there is")
    ] = False,
    skip_damaged: Annotated[
        bool, typer.Option("--skip-damaged", help="or from an older one, if that is damaged")
    ] = False,
    log: Annotated[
        Path | None, typer.Option(metavar="DIR", help="write numbers for TensorBoard")
    ] = None,
    mean: Annotated[
        str, typer.Option(metavar="R,G,B", help="pictures are (0..1 - mean) / std; one number or 3")
    ] = "0",
    std: Annotated[str, typer.Option(metavar="R,G,B", help="see --mean")] = "1",
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="of all that is random")] = 0,
    qat: Annotated[
        bool, typer.Option("--qat", help="train with rounded numbers; integers of 8 bits come out")
    ] = False,
    shapes: Shapes = None,
    threads: Threads = None,
    signature: Signature = "",
    as_json: Json = False,
) -> None:
    """Train a model, a part of it, or a new last layer of it.

    Ctrl-C ends after a step; with --checkpoints the same line and --resume goes on to the numbers
    that it would have given. Numbers that stop being finite end it with exit code 1, and the
    message names the layer; the last checkpoint stays. `brim info SRC --weights` has the names.

    \b
    Examples:
        brim train net.onnx --data pictures/ --epochs 5 --out tuned.brim --validate 0.1
        brim train net.onnx --data pictures/ --epochs 5 --out tuned.brim --head auto --freeze '*'
        brim train net.tflite --data d.npz --epochs 3 --out tuned.brim --freeze 'backbone.*'
        brim train net.onnx --data d.npz --epochs 30 --out tuned.brim --optimiser sgd --rate 0.05
            --checkpoints kept/ --interval 500 --resume --log runs/
    """
    from brim.tools.train import Course, train_file
    from brim.train.augment import Augment
    from brim.train.history import Epoch

    course = Course(
        epochs, batch, tuple(freeze or ()), _head(head), loss, optimiser, rate, schedule, warmup,
        decay, clip, ema, Augment(flip, crop, colour, mixup), _validation(validate), early_stop,
        seed, qat,
    )  # fmt: skip

    def tell(epoch: Epoch) -> None:
        if not as_json:
            output().print(str(epoch), soft_wrap=True)

    with progress(quiet=as_json) as bars:
        outcome = train_file(
            Path(source),
            destination,
            data,
            course,
            mean=parse_numbers("--mean", mean),
            std=parse_numbers("--std", std),
            checkpoints=checkpoints,
            interval=interval,
            resume=resume,
            skip_damaged=skip_damaged,
            log=log,
            shapes=parse_shapes(shapes or []) or None,
            signature=signature,
            threads=threads,
            progress=bars,
            after_epoch=tell,
        )
    if as_json:
        show_json(outcome.as_dict())
    elif outcome.written is not None:
        note(f"{outcome.history.ending}; wrote {destination}, {size(destination.stat().st_size)}")
    else:
        on = "go on with --resume" if checkpoints else "--checkpoints would have kept them"
        note(f"interrupted after {outcome.history.steps} steps: {on}")
    if outcome.written is None:
        raise typer.Exit(130)


def _head(text: str | None) -> int | None:
    """0: none; None: as many classes as there are folders."""
    if text in (None, "auto"):
        return 0 if text is None else None
    if not text.isdigit() or int(text) < 1:
        raise InputError(f"--head {text!r} is no number of classes", hint="--head 10 or auto")
    return int(text)


def _validation(text: str | None) -> Path | float | None:
    """A share, if it is a number, else a path."""
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        return Path(text)
