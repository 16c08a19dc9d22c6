"""The complete table: whoever looks rows up here has imported every file that declares some."""

from brim.frontends.onnx import operators
from brim.frontends.onnx.table import TABLE, Row, find, nearest

__all__ = ["TABLE", "Row", "find", "nearest", "operators"]
