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
from brim.ops.registry import primitive
from brim.types import Type, parse_type

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


@primitive("host", _results, _foreign)
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
