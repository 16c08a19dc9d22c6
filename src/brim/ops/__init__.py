"""All operators: importing this package fills OPS. The operators' functions are in its modules."""

from brim.ops import (
    containers,
    control,
    dropout,
    fake_quant,
    host,
    math,
    nn,
    packed_weights,
    primitive,
    quantized,
    random,
    rnn,
    sparse,
    storage,
    trees,
    winograd,
)
from brim.ops.registry import OPS, VARIANTS, at

__all__ = [
    "OPS",
    "VARIANTS",
    "at",
    "containers",
    "control",
    "dropout",
    "fake_quant",
    "host",
    "math",
    "nn",
    "packed_weights",
    "primitive",
    "quantized",
    "random",
    "rnn",
    "sparse",
    "storage",
    "trees",
    "winograd",
]
