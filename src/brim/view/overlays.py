"""Numbers to colour a model by: times of kernels, errors of layers."""

from __future__ import annotations

from collections.abc import Sequence

from brim.view.document import Kernel, Overlay


def of_times(kernels: Sequence[Kernel]) -> tuple[Overlay, ...]:
    """What kernels are expected to take, and what they took where that was measured."""
    found = []
    for name, title in (("measured", "measured time"), ("predicted", "predicted time")):
        times = [getattr(kernel, name) for kernel in kernels]
        values = tuple((i, seconds) for i, seconds in enumerate(times) if seconds is not None)
        if values:
            found.append(Overlay(name, title, "s", "kernel", "high", values))
    return tuple(found)
