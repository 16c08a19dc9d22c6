"""Steps that run on the host in Python: foreign operators, values whose shape is found at run time.

What a foreign operator computes is known to its front end; this file only carries its description
through graphs and files, and finds the front end when the step runs.
"""

from __future__ import annotations

from copy import deepcopy
from importlib import import_module
from typing import Any

import numpy as np

from brim.containers import fits, is_box
from brim.errors import ModelError
from brim.graph import Value, const
from brim.ops.indexing import positions_along
from brim.ops.primitive import item, reshape, scatter
from brim.ops.registry import OPS, emit, primitive
from brim.types import I64, Type, parse_type

# By name, not by import: operators must not depend on front ends. Each has run(arrays, **attrs).
_RUNNERS = {"onnx": "brim.frontends.onnx.host", "tflite": "brim.frontends.tflite.host"}


def _results(*types: Type, results: tuple[str, ...], **attrs: Any) -> Any:
    found = tuple(parse_type(text) for text in results)
    if not found:
        raise ModelError("a host step without results")
    return found[0] if len(found) == 1 else found


def _foreign(
    *arrays: np.ndarray, format: str, results: tuple[str, ...], **attrs: Any
) -> np.ndarray | tuple[np.ndarray, ...]:
    if format not in _RUNNERS:
        raise ModelError(f"nothing runs operators of format {format!r}")
    types = tuple(map(parse_type, results))
    run = import_module(_RUNNERS[format]).run
    parts = tuple(np.asarray(part) for part in run(arrays, results=types, **attrs))
    for part, wanted in zip(parts, types, strict=True):
        # a wrong guess about types must never become wrong numbers
        if wanted.dtype.kind == "o":
            if not is_box(part) or not fits(part.item(), wanted.dtype):
                raise ModelError(f"{attrs.get('op')} did not give a {wanted.dtype}")
        elif part.dtype != wanted.dtype.numpy or wanted.shape not in (None, part.shape):
            raise ModelError(f"{attrs.get('op')} gave {part.dtype}{part.shape} instead of {wanted}")
    return parts[0] if len(parts) == 1 else parts


# Their first result is elements of their first input, at the indices that are their second result,
# along the attribute `axis`, or the last one.
_CHOICES = (("onnx", "TopK"), ("tflite", "TOPK_V2"))


def chooses(value: Value) -> bool:
    """Whether a foreign operator only chooses elements, so that it has a gradient."""
    return (value.attrs["format"], value.attrs["op"]) in _CHOICES


def _chosen_grad(given: Any, y: Value, *inputs: Value, **attrs: Any) -> list:
    """To each element the cotangents of the places where it was chosen."""
    g, (x, *others) = given[0] if isinstance(given, list) else given, inputs
    if not isinstance(y.type, tuple):  # the indices were not wanted
        results = (*attrs["results"], str(Type(y.type.shape, I64)))
        y = emit(OPS["foreign"], *inputs, **{**attrs, "wanted": (True, True), "results": results})
    axis = dict(attrs["attributes"]).get("axis", -1) % len(x.shape)
    places = positions_along(item(y, index=1), x.shape, axis)
    zeros = const(np.zeros(x.type.size, g.dtype.numpy))
    flat = scatter(zeros, places, reshape(g, shape=places.shape), axis=0, op="add")
    return [reshape(flat, shape=x.shape), *(None for _ in others)]


@primitive("host", _results, _foreign, _chosen_grad)
def foreign(*inputs, format, op, domain, version, present, wanted, attributes, tensors, results):
    """One operator of another format, run on the host by its front end.

    present: which of its inputs are given. wanted: which outputs are used. attributes: (name,
    plain value) pairs. tensors: names of tensor attributes, whose values are the last inputs.
    results: one type as text for each wanted output, f32[?] where the shape depends on data.
    """


def _fail(*arrays: np.ndarray, what: str, why: str, results: tuple[str, ...]) -> Any:
    raise ModelError(what, why)


@primitive("host", _results, _fail)
def fail(*, what, why, results):
    """Raises ModelError when it runs: a branch without sense, which is wrong only if taken."""


@primitive("host", lambda x: x, deepcopy, lambda g, y, x: [g])
def pass_on(x):
    """x itself, as a copy: how what no kernel can copy reaches an output, or a second one."""


@primitive("host", lambda x: Type(None, x.dtype), lambda x: x)
def forget_shape(x):
    """x itself, as a value whose shape is only known at run time."""
