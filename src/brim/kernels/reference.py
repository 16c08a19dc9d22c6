"""Runs a lowered graph with the kernel interpreter: what the compiled program must equal.

Slow and exact; used by tests and by `BRIM_CHECK=1`. No code is generated here.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from brim.containers import box, unbox
from brim.errors import InputError
from brim.graph import apply_numpy
from brim.kernels.interpret import interpret
from brim.kernels.steps import HostStep, KernelStep, LoopStep, Lowered, Moving, View
from brim.types import strided


def read_view(buffers: Mapping[str, Any], view: View) -> np.ndarray:
    """The tensor that a view shows, as a numpy view of the flat buffer."""
    flat = buffers[view.buffer]
    strides = tuple(s * flat.itemsize for s in view.strides)
    return strided(flat[view.offset :], view.shape, strides)


def _run_kernel(
    step: KernelStep,
    buffers: Mapping[str, Any],
    moving: Mapping[str, Moving] = MappingProxyType({}),
    iteration: int = 0,
) -> None:
    bound = {}
    for arg, name in zip(step.kernel.args, step.buffers):
        if name in moving:
            part = moving[name]
            first = part.stride * ((part.first + part.step * iteration) % part.period)
            flat = buffers[part.buffer][first : first + arg.size]
        else:
            flat = buffers[name]
        bound[arg.name] = flat.view(arg.dtype.numpy)
    if interpret(step.kernel, bound):
        raise InputError("an index is out of range", where=step.fused.where)


def run_lowered(lowered: Lowered, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Executes every step in order; feeds, which stay as they are, and results are arrays by name.

    A step that finds a bad index raises InputError at once.
    """
    buffers: dict[str, Any] = {}
    for name, buffer in lowered.buffers.items():
        if buffer.data is not None:
            buffers[name] = buffer.data
        elif buffer.kind != "host":
            buffers[name] = np.zeros(buffer.size, buffer.dtype.numpy)
    results = {v.buffer for v in lowered.outputs.values() if isinstance(v, View)}
    for name, buffer_name in lowered.inputs.items():
        boxed = lowered.buffers[buffer_name].dtype.kind == "o"
        given = box(feeds[name]) if boxed else feeds[name]
        copied = np.array if buffer_name in results else np.ascontiguousarray
        buffers[buffer_name] = copied(given).reshape(-1)
    for step in lowered.steps:
        match step:
            case KernelStep():
                _run_kernel(step, buffers)
            case LoopStep():
                for iteration in range(step.trips):
                    for inner in step.steps:
                        _run_kernel(inner, buffers, step.moving, iteration)
            case HostStep():
                args = [
                    buffers[a] if isinstance(a, str) else read_view(buffers, a) for a in step.args
                ]
                result = apply_numpy(step.value, args)
                if isinstance(step.result, str):
                    buffers[step.result] = result
                else:
                    read_view(buffers, step.result)[...] = result
    return {
        name: unbox(buffers[v]) if isinstance(v, str) else read_view(buffers, v).copy()
        for name, v in lowered.outputs.items()
    }
