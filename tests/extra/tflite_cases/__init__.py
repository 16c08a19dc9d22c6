"""The conformance cases of TFLite models: each builtin operator that LiteRT's kernels implement.

Every case stands for what LiteRT computes; those that LiteRT refuses (an element type without a
kernel) are not here. `NO_KERNEL` lists the operators without a case.
"""

from __future__ import annotations

from tests.extra.tflite_cases import (
    arithmetic,
    control,
    convolution,
    custom,
    detectors,
    elementwise,
    movement,
    pictures,
    places,
    pooling,
    products,
    recurrent,
    reduction,
    stablehlo,
)
from tests.extra.tflite_cases.case import Case, Made

KINDS = (
    elementwise,
    arithmetic,
    convolution,
    pooling,
    products,
    movement,
    places,
    reduction,
    pictures,
    recurrent,
    control,
    stablehlo,
    custom,
    detectors,
)
CASES: list[Case] = [case for kind in KINDS for case in kind.CASES]

# Builtin operators of the schema for which LiteRT's own resolver has no kernel, and why.
NO_KERNEL = {
    "CONCAT_EMBEDDINGS": "never had a kernel",
    "CALL": "never had a kernel; converters write its body in its place",
    "DELEGATE": "made by delegates while a model is prepared, never in a file",
    "PLACEHOLDER_FOR_GREATER_OP_CODES": "marks codes above 127, is no operator",
} | {
    f"STABLEHLO_{name}": "StableHLO is legalized to TFLite's own operators before it runs"
    for name in (
        *("LOGISTIC", "DIVIDE", "RESHAPE", "CLAMP", "CONCATENATE", "BROADCAST_IN_DIM"),
        *("CONVOLUTION", "SLICE", "CUSTOM_CALL", "REDUCE", "ABS", "COSINE", "EXPONENTIAL"),
        *("FLOOR", "LOG", "NEGATE", "OR", "POWER", "REMAINDER", "RSQRT", "SELECT", "SUBTRACT"),
        *("TANH", "COMPARE", "CONVERT", "DYNAMIC_SLICE", "DYNAMIC_UPDATE_SLICE", "IOTA"),
        *("DOT_GENERAL", "SORT", "WHILE", "TRANSPOSE", "CBRT"),
    )
}


__all__ = ["CASES", "NO_KERNEL", "Case", "Made"]
