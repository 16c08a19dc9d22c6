"""All operators: importing this package fills OPS. The operators' functions are in its modules."""

from brim.ops import control, host, math, nn, primitive, quantized, rnn
from brim.ops.registry import OPS, VARIANTS, at

__all__ = [
    "OPS",
    "VARIANTS",
    "at",
    "control",
    "host",
    "math",
    "nn",
    "primitive",
    "quantized",
    "rnn",
]
