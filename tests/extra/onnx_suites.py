"""The official test data of ONNX as plain cases: node tests, their expansions, models on disk.

`base`: single nodes. `expanded`: the same nodes written out as the functions that define them.
`pytorch`: models that PyTorch's first exporters wrote. `simple`: small models. The data is that of
the installed `onnx` package, nothing is downloaded. Running them is `onnx_nodes`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

SUITES = {
    "base": "single nodes",
    "expanded": "the same nodes, written out as the functions that define them",
    "pytorch": "models converted from PyTorch",
    "simple": "small models",
}
_FOLDERS = {"pytorch": ("pytorch-converted", "pytorch-operator"), "simple": ("simple",)}
# Their numbers are drawn: a case's own are those of one generator, and no other engine has them.
_RANDOM = {
    "Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
    "RandomUniformLike",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Case:
    """A model, what goes in and what must come out (arrays, lists, dicts or None), by its rules.

    data_sets: pairs (inputs by name, outputs in order). is_random: the numbers are drawn.
    """

    name: str
    suite: str
    model: onnx.ModelProto
    data_sets: tuple[tuple[dict[str, Any], list[Any]], ...]
    rtol: float
    atol: float

    @property
    def is_random(self) -> bool:
        return any(_is_drawn(node) for node in self.model.graph.node)


def _is_drawn(node: onnx.NodeProto) -> bool:
    """Dropout draws when its third input says that it is in training."""
    return node.op_type in _RANDOM or (node.op_type == "Dropout" and len(node.input) > 2)


@cache
def load_suite(suite: str) -> tuple[Case, ...]:
    """All cases of a suite in the order of their names."""
    found = _node_cases(suite) if suite in ("base", "expanded") else _disk_cases(suite)
    return tuple(sorted(found, key=lambda case: case.name))


def _node_cases(suite: str) -> Iterator[Case]:
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's, about the overflows that some cases are made of
        cases = collect_testcases(None)
    for case in cases:
        if ("_expanded" in case.name) == (suite == "expanded"):
            names = _input_names(case.model)
            sets = [
                (dict(zip(names, map(_plain, inputs))), [_plain(value) for value in outputs])
                for inputs, outputs in case.data_sets
            ]
            yield Case(case.name, suite, case.model, tuple(sets), case.rtol, case.atol)


def _disk_cases(suite: str) -> Iterator[Case]:
    from onnx.backend.test.loader import load_model_tests

    for folder in _FOLDERS[suite]:
        for case in load_model_tests(kind=folder):
            path = Path(case.model_dir)
            model = onnx.load(path / "model.onnx")
            names = _input_names(model)
            inputs = [port.type for port in model.graph.input]
            outputs = [port.type for port in model.graph.output]
            sets = [
                (dict(zip(names, _values(data, "input", inputs))), _values(data, "output", outputs))
                for data in sorted(path.glob("test_data_set_*"))
            ]
            yield Case(case.name, suite, model, tuple(sets), case.rtol, case.atol)


def _input_names(model: onnx.ModelProto) -> list[str]:
    """What a caller gives: in old files every weight is listed among the inputs, too."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [port.name for port in model.graph.input if port.name not in weights]


def _values(folder: Path, what: str, types: list[onnx.TypeProto]) -> list[Any]:
    """The contents of input_0.pb, input_1.pb, ..."""
    return [
        _value((folder / f"{what}_{i}.pb").read_bytes(), types[i])
        for i in range(len(list(folder.glob(f"{what}_*.pb"))))
    ]


def _value(data: bytes, type: onnx.TypeProto) -> Any:
    match type.WhichOneof("value"):
        case "sequence_type":
            return numpy_helper.to_list(onnx.SequenceProto.FromString(data))
        case "optional_type":
            return numpy_helper.to_optional(onnx.OptionalProto.FromString(data))
        case _:
            return numpy_helper.to_array(onnx.TensorProto.FromString(data))


def _plain(value: Any) -> Any:
    """Node cases hold arrays or, for types that numpy lacks, serialised tensors."""
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return np.asarray(value) if isinstance(value, np.generic) else value
