"""Event files that TensorBoard reads: a number per step, written as training goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from os import PathLike, fspath

from brim.errors import InputError, UnsupportedError

Log = Callable[[int, Mapping[str, float]], None]


@contextmanager
def event_log(folder: str | PathLike[str] | None, step: int = 0) -> Iterator[Log]:
    """Yields `log(step, numbers by name)`; what is written lies in a file of its own in `folder`.

    step: where a resumed training goes on: TensorBoard then leaves out what an earlier file says
    of it and of later ones. folder None: nothing is written. Raises UnsupportedError where
    tensorboardX is not installed, InputError where the folder cannot be made.
    """
    if folder is None:
        yield lambda step, numbers: None
        return
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise UnsupportedError(
            "a log for TensorBoard needs tensorboardX", str(error), hint="pip install 'brim[train]'"
        ) from None
    try:
        writer = SummaryWriter(fspath(folder), purge_step=step or None)
    except OSError as error:
        raise InputError(f"no log can be written to {fspath(folder)}", str(error)) from None

    def log(step: int, numbers: Mapping[str, float]) -> None:
        for name, number in numbers.items():
            writer.add_scalar(name, number, step)

    try:
        yield log
    finally:
        writer.close()
