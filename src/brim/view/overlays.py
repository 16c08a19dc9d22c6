"""Numbers to colour a model by: times of kernels, errors of layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from brim.view.document import Kernel, Overlay
from brim.where import layer_of, split_name

BEST, WORST = 140.0, -20.0  # dB: beyond what f32 tells apart from equal, and all is lost


def of_times(kernels: Sequence[Kernel]) -> tuple[Overlay, ...]:
    """What kernels are expected to take, and what they took where that was measured."""
    found = []
    for name, title in (("measured", "measured time"), ("predicted", "predicted time")):
        times = [getattr(kernel, name) for kernel in kernels]
        values = tuple((i, seconds) for i, seconds in enumerate(times) if seconds is not None)
        if values:
            found.append(Overlay(name, title, "s", "kernel", "high", values))
    return tuple(found)


def of_errors(errors: Mapping[str, float], sources: Iterable[str]) -> tuple[Overlay, ...]:
    """Signal to quantization noise of layers, in dB. errors: by what `where.layer_of` calls one, or
    by its bare name, as compression reports do. sources: where-strings, in their order."""
    found = []
    for number, where in enumerate(sources):
        sqnr = errors.get(layer_of(where), errors.get(split_name(where)[0]))
        if sqnr is not None and where:
            found.append((number, min(max(sqnr, WORST), BEST)))
    title = "error: signal to noise"
    return (Overlay("error", title, "dB", "source", "low", tuple(found)),) if found else ()
