"""Operators that bring numbers into a range: norms over neighbours, simulated quantization."""

from __future__ import annotations

import numpy as np

import brim.ops.primitive as p
from brim.errors import ModelError
from brim.frontends.tflite.operators.activation import activated, clamp
from brim.frontends.tflite.table import Call, operator
from brim.graph import Value
from brim.ops.fake_quant import fake_quant as rounded
from brim.ops.math import l2_norm
from brim.ops.nn import local_response_norm


@operator("L2_NORMALIZATION")
def l2_normalization(call: Call) -> Value:
    x = call[0]
    size = p.maximum(l2_norm(x, axes=(len(x.shape) - 1,)), 1e-6)
    return activated(call, p.div(x, size))


@operator("LOCAL_RESPONSE_NORMALIZATION")
def local_response_normalization(call: Call) -> Value:
    size = 2 * call.int("radius") + 1
    alpha = call.float("alpha") * size  # LiteRT's is that of a sum, brim's of a mean
    return local_response_norm(
        call[0], size=size, alpha=alpha, beta=call.float("beta"), bias=call.float("bias")
    )


@operator("FAKE_QUANT")
def fake_quant(call: Call) -> Value:
    """x rounded to one of 2**bits numbers between min and max, of which 0 is one."""
    f, bits = np.float32, call.int("num_bits")
    low, high = f(call.float("min")), f(call.float("max"))
    if not 2 <= bits <= 16 or not low <= 0 <= high or low == high:
        raise ModelError(f"FAKE_QUANT to {bits} bits between {low} and {high}")
    if call.flag("narrow_range"):
        raise call.unsupported("narrow_range", "it is for weights, and LiteRT lacks it")
    top = f((1 << bits) - 1)
    scale = (high - low) / top
    zero = np.clip(np.floor(-low / scale + f(0.5)), f(0), top)
    if call.scope.trains:  # the same numbers but for ties and last bits, and slopes pass
        return rounded(call[0], scale, zero, low=0, high=int(top))
    first, last = -zero * scale, (top - zero) * scale
    steps = p.mul(p.sub(clamp(call[0], float(first), float(last)), float(first)), float(1 / scale))
    return p.add(p.mul(p.floor(p.add(steps, 0.5)), float(scale)), float(first))
