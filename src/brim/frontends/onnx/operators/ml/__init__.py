"""The domain ai.onnx.ml: features, linear models, support vectors, trees."""

from brim.frontends.onnx.operators.ml import (
    features,
    labels,
    linear,
    maps,
    svm,
    trees,
)

__all__ = [
    "features",
    "labels",
    "linear",
    "maps",
    "svm",
    "trees",
]
