"""The roofline of a kernel: how fast it could be on a target, and which roof is above it.

S. Williams, A. Waterman, D. Patterson: "Roofline: an insightful visual performance model", 2009.
A kernel can be no faster than its arithmetic at the peak of the units that do it, nor than the
bytes it has to move at the bandwidth of where they lie: the first cache that holds all of them,
as if whatever ran before had left them there. So it is a bound, on one core.
"""

from __future__ import annotations

from dataclasses import dataclass

from brim.kernels.cost import bits_of
from brim.kernels.dots import DOTS
from brim.kernels.footprint import Footprint, footprint
from brim.kernels.ir import Kernel, Schedule, dtype_of_expr, flops
from brim.targets.target import Target

LEVELS = ("cache 1", "cache 2", "cache 3", "memory")


@dataclass(frozen=True)
class Roof:
    """What one run of a kernel takes at least.

    flops: arithmetic operations, a multiply and add are two. bytes: what it moves. peak: FLOP/s of
    its units. level: where its bytes come from: caches 1 to 3, or 4, memory. bandwidth: bytes/s.
    """

    flops: int
    bytes: Footprint
    peak: float
    level: int
    bandwidth: float

    @property
    def arithmetic_seconds(self) -> float:
        """Under the roof of arithmetic."""
        return self.flops / self.peak

    @property
    def memory_seconds(self) -> float:
        """Under the roof of memory."""
        return self.bytes.total / self.bandwidth

    @property
    def seconds(self) -> float:
        """Under both."""
        return max(self.arithmetic_seconds, self.memory_seconds)

    @property
    def is_memory(self) -> bool:
        """Whether memory is the lower roof."""
        return self.memory_seconds > self.arithmetic_seconds

    @property
    def name(self) -> str:
        """The lower roof."""
        return LEVELS[self.level - 1] if self.is_memory else "arithmetic"

    @property
    def intensity(self) -> float:
        """FLOP per byte."""
        return self.flops / max(self.bytes.total, 1)


def roof_of(kernel: Kernel, schedule: Schedule, target: Target) -> Roof:
    """The roof over one run of a kernel, computed by the instructions that its schedule names."""
    moved = footprint(kernel)
    level = next((i for i, size in enumerate(target.caches, 1) if moved.total <= size), 4)
    bandwidth = target.bandwidth[level - 1] * target.ghz * 1e9
    return Roof(flops(kernel), moved, peak_of(kernel, schedule, target), level, bandwidth)


def peak_of(kernel: Kernel, schedule: Schedule, target: Target) -> float:
    """FLOP/s of one core with the elements that a kernel computes with: floats multiply and add in
    one instruction, dot instructions do so for a group at once, other integers do one by one."""
    widest = max(kernel.stages, key=lambda stage: bits_of(stage.value, kernel))
    each = 2.0 if dtype_of_expr(widest.value, kernel).is_float else 1.0
    lanes = target.lanes(bits_of(widest.value, kernel))
    if schedule.dot is not None:
        dot = DOTS[schedule.dot[1]]
        each, lanes = 2 * dot.group / dot.cost, target.lanes(32)
    return target.ghz * 1e9 * target.fma_issue * lanes * each
