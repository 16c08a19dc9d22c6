"""What a model file says about itself: it is read, not compiled, and nothing of it is run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from brim.errors import InputError
from brim.model import Shapes
from brim.types import Type

if TYPE_CHECKING:
    from brim.frontends.onnx.model import Node, OnnxModel
    from brim.graph import Graph


@dataclass(frozen=True)
class Description:
    """A model from outside. An output's type is None where the file does not tell it.

    operators: name -> how often, the most frequent first. unsupported: those that brim has not.
    details: what only this format has, such as the versions of its operator sets. usual: shapes of
    inputs with open dimensions, where a caller names none.
    """

    format: str
    name: str
    bytes: int
    weight_bytes: int
    inputs: Mapping[str, Type]
    outputs: Mapping[str, Type | None]
    operators: Mapping[str, int]
    unsupported: tuple[str, ...]
    details: Mapping[str, str]
    usual: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Weight:
    """What training changes. shape: in the file; learned_by: "gradients", "statistics" of the
    batches, or "nothing", as constants that are no parameters."""

    name: str
    shape: tuple[int, ...]
    learned_by: str


def weights_of(path: Path, shapes: Shapes | None = None, signature: str = "") -> list[Weight]:
    """The weights of a model file, as `brim.train.network` names them. shapes: of inputs with open
    dimensions, beside that of the samples. Raises BrimError."""
    from brim.train import network

    if not path.is_file():
        raise InputError(f"there is no file {path}")
    net = network(path, shapes=shapes, batch=1, signature=signature)
    ways = dict.fromkeys(net.trained, "gradients") | dict.fromkeys(net.statistics, "statistics")
    return [
        Weight(name, net.sources[name].shape, ways.get(name, "nothing")) for name in net.weights
    ]


def describe(path: Path, signature: str = "") -> Description:
    """Reads a model file, as seen by a signature ("": the first, or there are none).

    Raises ModelError for a damaged one, InputError for other files.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    if signature and path.suffix.lower() != ".tflite":
        raise InputError(f"{path} has no signatures", hint="only TFLite models have")
    found = _described(path, signature)
    return replace(found, details={**found.details, **_card(path)})


def _described(path: Path, signature: str) -> Description:
    match path.suffix.lower():
        case ".onnx":
            return _onnx(path)
        case ".tflite":
            return _tflite(path, signature)
        case ".brim":
            return _artifact(path)
        case ".graph" | ".txt":
            return _graph(path)
    known = ".onnx, .tflite, .brim and .graph"
    raise InputError(f"{path} is no model that brim reads", hint=f"it reads {known}")


def _card(path: Path) -> dict[str, str]:
    """What the zoo knows of a file of its own: whose it is."""
    from brim import zoo

    bytes_ = path.stat().st_size
    entry = next((e for e in zoo.list() if (e.file_name, e.bytes) == (path.name, bytes_)), None)
    return {} if entry is None else {"zoo": entry.name, "licence": entry.licence}


def _onnx(path: Path) -> Description:
    from brim.frontends.onnx import read
    from brim.frontends.onnx.table import find

    model = read(path)
    operators: Counter[str] = Counter()
    unsupported = set()
    weights = sum(array.nbytes for array in model.initializers.values())
    for node, opsets in _onnx_nodes(model):
        held = (value for value in node.attributes.values() if isinstance(value, np.ndarray))
        weights += sum(array.nbytes for array in held)  # some exporters know no initializers
        name = f"{node.domain}.{node.op}" if node.domain else node.op
        operators[name] += 1
        called = (node.domain, node.op, node.overload) in model.functions
        row = find(node.op, node.domain, opsets.get(node.domain, 1))
        if not called and (row is None or row.refused):
            unsupported.add(name)
    versions = [f"{domain or 'ai.onnx'} {number}" for domain, number in model.opsets.items()]
    return Description(
        "onnx",
        model.name,
        path.stat().st_size,
        weights,
        model.inputs,
        model.outputs,
        dict(operators.most_common()),
        tuple(sorted(unsupported)),
        {"operator sets": ", ".join(versions), **model.metadata},
        model.usual_shapes,
    )


def _tflite(path: Path, signature: str) -> Description:
    from brim.frontends.tflite import operators as rows  # noqa: F401  (declares them)
    from brim.frontends.tflite import read
    from brim.frontends.tflite.table import TABLE, quantization_of

    model = read(path, signature=signature)
    operators = Counter(o.name for graph in model.subgraphs for o in graph.operators)
    tensors = [tensor for graph in model.subgraphs for tensor in graph.tensors]
    constants = {id(tensor.data): tensor.data for tensor in tensors if tensor.data is not None}
    kinds = {t.kind for t in tensors if t.data is None and quantization_of(t)}
    outputs = {name: model.main.tensors[i].type for name, i in model.signature.outputs.items()}
    details = {
        "signatures": ", ".join(filter(None, model.signatures)),
        "quantized to": ", ".join(sorted(kind.lower() for kind in kinds)),
        "sub-graphs": str(len(model.subgraphs)) if len(model.subgraphs) > 1 else "",
    }
    return Description(
        "tflite",
        model.name,
        path.stat().st_size,
        sum(array.nbytes for array in constants.values()),
        model.inputs,
        outputs,
        dict(operators.most_common()),
        tuple(sorted(set(operators) - set(TABLE))),
        {name: text for name, text in details.items() if text} | dict(model.metadata),
        model.usual_shapes,
    )


def _artifact(path: Path) -> Description:
    from brim.runtime.artifact import open_artifact

    artifact = open_artifact(path)
    artifact.verify()
    operators: Counter[str] = Counter()
    details = {"saved by": f"brim {artifact.brim}", "code digest": artifact.code_digest}
    for number, program in enumerate(artifact.programs, 1):
        operators += _graph_operators(program.graph)
        shapes = ", ".join(f"{n}: {program.graph.inputs[n].type}" for n in program.shapes)
        reason = artifact.why_not(program)
        state = f"its graph is compiled: {reason}" if reason else "its code runs here"
        shapes = f"{program.function}: {shapes}" if program.function else shapes
        details[f"program {number}"] = f"{shapes} for {program.target.name}; {state}"
    return Description(
        "brim",
        artifact.name,
        path.stat().st_size,
        sum(program.weight_bytes for program in artifact.programs),
        artifact.inputs,
        artifact.outputs,
        dict(operators.most_common()),
        (),
        {**details, **artifact.metadata},
    )


def _graph(path: Path) -> Description:
    from brim.sources import graph_file

    graph = graph_file(path)
    constants = [value.data for value in graph.values() if value.data is not None]
    return Description(
        "graph",
        graph.name,
        path.stat().st_size,
        sum(array.nbytes for array in constants),
        {name: value.type for name, value in graph.inputs.items()},
        {name: value.type for name, value in graph.outputs.items()},
        dict(_graph_operators(graph).most_common()),
        (),
        {},
    )


def _graph_operators(graph: Graph) -> Counter[str]:
    return Counter(value.op.name for value in graph.values() if value.op is not None)


def _onnx_nodes(model: OnnxModel) -> Iterator[tuple[Node, Mapping[str, int]]]:
    """All nodes, those of sub-graphs and of the model's own functions too, with their versions."""
    from brim.frontends.onnx.model import Subgraph

    def inside(nodes: tuple[Node, ...]) -> Iterator[Node]:
        for node in nodes:
            yield node
            for value in node.attributes.values():
                for part in value if isinstance(value, tuple) else (value,):
                    if isinstance(part, Subgraph):
                        yield from inside(part.nodes)

    for node in inside(model.graph.nodes):
        yield node, model.opsets
    for function in model.functions.values():
        for node in inside(function.nodes):
            yield node, function.opsets
