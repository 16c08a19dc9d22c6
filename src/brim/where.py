"""Names of places in a source file, as values carry them: "net.onnx: conv1 (Conv)".

Importers write them, passes hand them on, and tools match and show layers by them. They come from
files that nobody vouches for: `figures.printable` before they are shown.
"""

from __future__ import annotations


def layer_of(where: str) -> str:
    """The place without its file: "conv1 (Conv)"; what names no file stays as it is."""
    return where.partition(": ")[2] or where


def split_name(where: str) -> tuple[str, str]:
    """The node's name and its operator out of "net.onnx: conv1 (Conv)"; a bare name is one."""
    name = layer_of(where)
    node, _, op = name.removesuffix(")").rpartition(" (")
    return (node, op) if node and name.endswith(")") else (name, "")
