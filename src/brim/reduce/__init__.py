"""Failing models made small, by delta debugging: graphs, and ONNX files as they are.

`delta` and `search` know neither format, `graphs` and `onnx_files` say how each is taken apart,
`command` asks a shell command whether a model still fails. Files and printing are not here.
"""

from brim.reduce.graphs import GRAPHS
from brim.reduce.onnx_files import ONNX
from brim.reduce.search import Form, reduced

__all__ = ["GRAPHS", "ONNX", "Form", "reduced"]
