"""Makes a small .brim artifact of a float model's file, if it keeps the contract."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import brim
from brim.compress import ContractError, Recipe, Report, quantize
from brim.errors import InputError
from brim.files import write_text
from brim.tools.destinations import check_destinations


def quantize_file(
    source: Path,
    destination: Path,
    data: Path,
    recipe: Recipe,
    *,
    max_loss: float,
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
    samples: int | None = None,
    page: Path | None = None,
    force: bool = False,
    shapes: Mapping[str, Sequence[int]] | None = None,
    threads: int | None = None,
    signature: str = "",
    progress: Callable[[str, int, int], None] | None = None,
) -> Report:
    """`quantize` from file to file; see there. page: where the report goes as HTML, whatever the
    verdict is.

    What can be known to fail is found out before anything is computed. Raises BrimError, and leaves
    no artifact behind, where something is wrong; ContractError where the contract is missed, unless
    `force`.
    """
    check_destinations(destination, *([page] if page else []))
    if not data.exists():
        raise InputError(
            f"there is no data at {data}", hint="give a folder of pictures, or an .npz or .npy file"
        )
    model = brim.load(
        source, threads=threads, shapes=shapes, progress=progress, signature=signature
    )
    try:
        compressed, report = quantize(
            model,
            data,
            recipe,
            max_loss=max_loss,
            shapes=shapes,
            mean=mean,
            std=std,
            samples=samples,
            threads=threads,
            progress=progress,
            force=force,
        )
    except ContractError as error:
        if page:
            write_text(page, error.report.to_html())
        raise
    if page:
        write_text(page, report.to_html())
    compressed.save(destination)
    return report
