"""The ONNX front end: `read` parses a model once, `import_model` makes a graph for given shapes."""

from brim.frontends.onnx.importer import import_model
from brim.frontends.onnx.model import OnnxModel
from brim.frontends.onnx.reader import read
from brim.frontends.onnx.writer import with_weights

__all__ = ["OnnxModel", "import_model", "read", "with_weights"]
