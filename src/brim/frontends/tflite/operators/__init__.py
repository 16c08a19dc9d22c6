"""The rows of the table: importing this package declares them."""

from brim.frontends.tflite.operators import (
    convolution,
    elementwise,
    movement,
    pooling,
    quantized_elementwise,
    quantized_products,
    quantized_reductions,
    reduction,
    resize,
    state,
)

__all__ = [
    "convolution",
    "elementwise",
    "movement",
    "pooling",
    "quantized_elementwise",
    "quantized_products",
    "quantized_reductions",
    "reduction",
    "resize",
    "state",
]
