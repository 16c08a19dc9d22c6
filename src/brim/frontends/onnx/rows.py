"""The complete table: whoever looks rows up here has imported every file that declares some."""

from brim.frontends.onnx import (
    operators_attention,
    operators_control,
    operators_data,
    operators_index,
    operators_integer,
    operators_loss,
    operators_math,
    operators_matrix,
    operators_nn,
    operators_quantized,
    operators_resize,
    operators_rnn,
    operators_shape,
    operators_signal,
    operators_vision,
)
from brim.frontends.onnx.table import TABLE, Row, find, nearest

__all__ = [
    "TABLE",
    "Row",
    "find",
    "nearest",
    "operators_attention",
    "operators_control",
    "operators_data",
    "operators_index",
    "operators_integer",
    "operators_loss",
    "operators_math",
    "operators_matrix",
    "operators_nn",
    "operators_quantized",
    "operators_resize",
    "operators_rnn",
    "operators_shape",
    "operators_signal",
    "operators_vision",
]
