"""The domain com.microsoft: what onnxruntime adds, and what its optimiser and exporters write."""

from brim.frontends.onnx.operators.microsoft import (
    attention,
    data,
    decoder,
    fused,
    quantized,
    refused,
    text,
    weights,
)

__all__ = [
    "attention",
    "data",
    "decoder",
    "fused",
    "quantized",
    "refused",
    "text",
    "weights",
]
