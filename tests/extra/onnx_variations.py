"""ONNX's official cases, varied: every operator set in which the same node is valid, and every
element type that its schema allows. What they must give is worked out by `theirs`, a peer.

The official suite has each operator in its newest set and mostly in f32 alone.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, shape_inference
from onnx.reference import ReferenceEvaluator

from tests.extra.onnx_suites import Case, load_suite

NEWEST_IR = 10  # of the file formats that onnxruntime reads
NUMBERS = {
    f"tensor({name})": np.dtype(kind)
    for name, kind in (
        ("float", "f4"), ("double", "f8"), ("float16", "f2"), ("bool", "?"),
        ("int8", "i1"), ("int16", "i2"), ("int32", "i4"), ("int64", "i8"),
        ("uint8", "u1"), ("uint16", "u2"), ("uint32", "u4"), ("uint64", "u8"),
    )
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Variation:
    """A one-node model that is like an official case, and what goes in."""

    op: str
    label: str
    model: onnx.ModelProto
    feeds: dict[str, np.ndarray]
    rtol: float
    atol: float


def theirs(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray] | None:
    """What onnxruntime, or else the reference evaluator, makes of a model; None if neither can."""
    data = model.SerializeToString()
    try:
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        return session.run(None, feeds)
    except Exception:  # its bindings raise a dozen kinds
        try:
            return ReferenceEvaluator(model).run(None, feeds)
        except Exception:
            return None


def in_other_sets() -> Iterator[Variation]:
    """Each case under every other operator set whose schema differs and accepts the node."""
    histories = _histories()
    for case in _plain_cases():
        node, current = case.model.graph.node[0], _set_of(case.model)
        schema = onnx.defs.get_schema(node.op_type, current, node.domain)
        for since in histories[node.domain, node.op_type]:
            version = since if node.domain else max(since, 7)
            model = _copy(case.model)
            for opset in model.opset_import:
                opset.version = version
            if since != schema.since_version and _is_valid(model):
                inputs = case.data_sets[0][0]
                label = f"{case.name} in set {version}"
                yield Variation(node.op_type, label, model, inputs, 1e-3, 1e-6)


def in_other_types(most: int) -> Iterator[Variation]:
    """The first `most` cases of each operator, with each type of its schema for each of its T."""
    seen: Counter[str] = Counter()
    for case in _plain_cases():
        node = case.model.graph.node[0]
        seen[node.op_type] += 1
        if node.domain or seen[node.op_type] > most:
            continue
        schema = onnx.defs.get_schema(node.op_type, _set_of(case.model), "")
        for constraint in schema.type_constraints:
            names = [
                name
                for i, name in enumerate(node.input)
                if name and schema.inputs[min(i, len(schema.inputs) - 1)].type_str
                == constraint.type_param_str
            ]  # fmt: skip
            for text in sorted(set(constraint.allowed_type_strs) & set(NUMBERS)):
                varied = _with_type(case, names, NUMBERS[text])
                if names and varied is not None:
                    yield varied


def _with_type(case: Case, names: list[str], dtype: np.dtype) -> Variation | None:
    inputs = case.data_sets[0][0]
    if all(inputs[name].dtype == dtype for name in names):
        return None
    with np.errstate(all="ignore"):
        changed = {name: inputs[name].astype(dtype) for name in names}
    model = _copy(case.model)
    for port in model.graph.input:
        if port.name in changed:
            port.type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(dtype)
    for port in model.graph.output:
        port.ClearField("type")
    typed = _with_types(model)
    if typed is None:
        return None
    rtol, atol = (1e-2, 1e-2) if dtype == np.float16 else (1e-3, 1e-5)
    op, label = model.graph.node[0].op_type, f"{case.name} with {dtype} for {', '.join(names)}"
    return Variation(op, label, typed, {**inputs, **changed}, rtol, atol)


@cache
def _plain_cases() -> list[Case]:
    """Base cases of one node without sub-graphs whose values are arrays of numpy's own numbers."""

    def is_plain(case: Case) -> bool:
        nodes = case.model.graph.node
        values = [v for ins, outs in case.data_sets for v in (*ins.values(), *outs)]
        return (
            len(nodes) == 1
            and not case.is_random
            and not any(a.type == onnx.AttributeProto.GRAPH for a in nodes[0].attribute)
            and all(isinstance(v, np.ndarray) and v.dtype.isbuiltin == 1 for v in values)
            and not any(v.dtype == object for v in values)
        )

    return list(filter(is_plain, load_suite("base")))


@cache
def _histories() -> dict[tuple[str, str], list[int]]:
    found = defaultdict(list)
    for schema in onnx.defs.get_all_schemas_with_history():
        if not schema.deprecated:
            found[schema.domain, schema.name].append(schema.since_version)
    return {key: sorted(sets) for key, sets in found.items()}


def _set_of(model: onnx.ModelProto) -> int:
    domain = model.graph.node[0].domain
    return next(opset.version for opset in model.opset_import if opset.domain == domain)


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy: Any = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.ir_version = min(copy.ir_version, NEWEST_IR)
    return copy


def _is_valid(model: onnx.ModelProto) -> bool:
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError:
        return False
    return _with_types(model) is not None


def _with_types(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """The model with the types of its outputs; None if its inputs have wrong ones."""
    try:
        return shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    except Exception:  # the C++ side raises several kinds
        return None
