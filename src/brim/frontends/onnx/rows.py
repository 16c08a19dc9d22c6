"""Imports every file of rows, so that the table is complete."""

from brim.frontends.onnx import (  # noqa: F401
    operators_attention,
    operators_control,
    operators_data,
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
