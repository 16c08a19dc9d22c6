"""What each operator means in brim's graph: a row of the table for every one, a file for a family.

The files here hold the domain ai.onnx; `ml` holds ai.onnx.ml, `microsoft` holds com.microsoft. Rows
exist once their file has been imported: a new file is named in its folder's `__init__`.
"""

from brim.frontends.onnx.operators import (
    attention,
    cast,
    control,
    data,
    index,
    integer,
    loss,
    math,
    matrix,
    media,
    microsoft,
    ml,
    nn,
    old,
    quantized,
    random,
    resize,
    rnn,
    scan,
    sequences,
    shape,
    signal,
    vision,
)

__all__ = [
    "attention",
    "cast",
    "control",
    "data",
    "index",
    "integer",
    "loss",
    "math",
    "matrix",
    "media",
    "microsoft",
    "ml",
    "nn",
    "old",
    "quantized",
    "random",
    "resize",
    "rnn",
    "scan",
    "sequences",
    "shape",
    "signal",
    "vision",
]
