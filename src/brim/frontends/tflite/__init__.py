"""The TFLite front end: `read` parses a model once, `import_model` makes a graph of a signature."""

from brim.frontends.tflite.importer import import_model
from brim.frontends.tflite.model import TfliteModel
from brim.frontends.tflite.reader import read
from brim.frontends.tflite.writer import with_weights

__all__ = ["TfliteModel", "import_model", "read", "with_weights"]
