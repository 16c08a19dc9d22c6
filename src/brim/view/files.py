"""The nodes of a model file as its format has them: ONNX and TFLite.

What they are, and the types that a file does not tell, come from the graph that they are imported
as: its values carry the name of the node that they came of.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from brim.frontends.onnx import model as onnx
from brim.frontends.tflite import model as tflite
from brim.frontends.tflite.operators.activation import ACTIVATIONS
from brim.frontends.tflite.operators.convolution import PADDING
from brim.graph import Graph, Value
from brim.types import Type
from brim.view.draft import Draft, Scope, Shared, name_of, shown
from brim.view.graphs import layers_of, main_value, size_of
from brim.view.kinds import hint_of, kind_by_name, kind_of

Layers = Mapping[str, list[Value]]  # where-string -> what the node became; empty: not imported
DEEPEST = 8  # sub-graphs and functions within each other that are drawn
CHOICES: Mapping[str, tuple[str, ...]] = {  # of numbers in the file
    "padding": PADDING,
    "fused_activation_function": ACTIVATIONS,
}
DECODERS = ("Cast", "DequantizeLinear", "Identity", "CAST", "DENSIFY", "DEQUANTIZE")
Found = tuple[int, int] | np.ndarray  # what a name stands for: a node and its port, or numbers


def onnx_drafts(model: onnx.OnnxModel, graph: Graph | None, shared: Shared) -> list[Draft]:
    """The nodes of an ONNX model, with its sub-graphs and the functions that it calls. graph: what
    it was imported as; None: it was not."""
    sketch = _Sketch(model.name, layers_of(graph) if graph else {}, shared)
    types = {name: str(type) for name, type in model.inputs.items()}
    if graph:
        types |= {name: str(graph.inputs[name].type) for name in types}
    known: dict[str, Found] = dict(model.graph.initializers)
    _onnx_graph(sketch, model, types, model.graph.nodes, model.outputs, known, ())
    return sketch.drafts


def tflite_drafts(model: tflite.TfliteModel, graph: Graph | None, shared: Shared) -> list[Draft]:
    """The operators of the sub-graph that a TFLite model's signature calls, and of those that it
    calls. graph: what it was imported as; None: it was not."""
    sketch = _Sketch(model.name, layers_of(graph) if graph else {}, shared)
    inputs = {number: name for name, number in model.signature.inputs.items()}
    outputs = {number: name for name, number in model.signature.outputs.items()}
    _tflite_graph(sketch, model, model.main, inputs, outputs, ())
    return sketch.drafts


@dataclass(eq=False)
class _Sketch:
    """The nodes of a file so far."""

    model: str
    layers: Layers
    shared: Shared
    drafts: list[Draft] = field(default_factory=list)
    owners: dict[str, int] = field(default_factory=dict)  # control operators of a name so far

    def port(self, kind: str, name: str, scope: Scope, *types: str) -> Draft:
        self.drafts.append(Draft(kind, kind, name, kind, name, outputs=types, scope=scope))
        return self.drafts[-1]

    def node(self, op: str, label: str, attrs: Mapping[str, str], scope: Scope) -> Draft:
        """A node of the file; kind, hint and resolution are those of what it became."""
        where = self._where(op, label)
        draft = Draft(op, "folded", where, f"file {op}", attrs=attrs, scope=scope)
        if became := self.layers.get(where):
            main = main_value(became)
            assert main.op is not None
            draft.kind, draft.hint = kind_of(main.op), hint_of(main)
            draft.role = "product" if draft.kind == "product" else main.op.name
            draft.size = size_of(main)
            if draft.kind == "elementwise" and kind_by_name(op) in ("activation", "quantize"):
                draft.kind = kind_by_name(op)  # such as Clip, which is a minimum and a maximum
        elif not self.layers and op != "Identity":
            draft.kind = kind_by_name(op)
        self.drafts.append(draft)
        return draft

    def read(self, draft: Draft, position: int, name: str, found: Found | None) -> None:
        """Adds an argument, if there is one."""
        if isinstance(found, tuple):
            draft.inputs.append(found)
        elif found is not None:
            numbers = np.asarray(found)  # a scalar may be bare
            draft.weights.append((position, self.shared.weights.number(numbers, name)))

    def decoded(self, op: str, label: str, given: Sequence[Found | None]) -> np.ndarray | None:
        """The numbers that a node only takes out of their storage, if import leaves nothing of it.
        It is not drawn: what reads it reads these."""
        there = [found for found in given if found is not None]
        if op not in DECODERS or len(there) != 1 or self._where(op, label) in self.layers:
            return None
        return None if isinstance(there[0], tuple) else there[0]

    def _where(self, op: str, label: str) -> str:
        return f"{self.model}: {label} ({op})"

    def result_types(self, draft: Draft, count: int) -> tuple[str, ...]:
        """Types of the results, where they are known: that of a node's only one."""
        last = self.layers.get(draft.where, [])[-1:]
        known = [str(value.type) for value in last if isinstance(value.type, Type)]
        if draft.op in DECODERS and not last:  # it hands on what it is given
            known = [self.drafts[i].outputs[port] for i, port in draft.inputs[:1]]
        return tuple(known) if count == 1 and known else ("",) * count

    def inside(self, draft: Draft, names: Iterable[str]) -> list[Scope]:
        """The sub-graphs that a node owns, given their names."""
        number = self.owners[draft.where] = self.owners.get(draft.where, 0) + 1
        draft.kind = "control"
        for i, name in enumerate(names):
            scope = (*draft.scope, (draft.where, number, i))
            owner = name_of(draft.where) if draft.outputs else draft.op
            draft.bodies.append((scope, f"{name} of {owner}"))
        return [scope for scope, _ in draft.bodies]


# ------------------------------------------------------------------ ONNX


def _onnx_graph(
    sketch: _Sketch,
    model: onnx.OnnxModel,
    inputs: Mapping[str, str],
    nodes: Iterable[onnx.Node],
    outputs: Iterable[str],
    known: dict[str, Found],
    scope: Scope,
) -> None:
    """Draws a graph. inputs: their types. known: what names stand for, those from outside too."""
    for name, type in inputs.items():
        known[name] = (len(sketch.drafts), 0)
        sketch.port("input", name, scope, type)
    for node in _in_order(tuple(nodes), known):
        _onnx_node(sketch, model, node, known, scope)
    for name in outputs:
        sketch.read(sketch.port("output", name, scope), 0, name, known.get(name))


def _onnx_node(
    sketch: _Sketch,
    model: onnx.OnnxModel,
    node: onnx.Node,
    known: dict[str, Found],
    scope: Scope,
) -> None:
    number = len(sketch.drafts)
    label = str(node).removesuffix(f" ({node.op})")
    given = [known.get(name) for name in node.inputs]
    value = node.attributes.get("value") if node.op == "Constant" else None
    numbers = value if isinstance(value, np.ndarray) else sketch.decoded(node.op, label, given)
    if numbers is not None:
        known[node.outputs[0]] = numbers
        return
    draft = sketch.node(node.op, label, shown(node.attributes), scope)
    for position, (name, found) in enumerate(zip(node.inputs, given)):
        sketch.read(draft, position, name, found)
    draft.outputs = sketch.result_types(draft, len(node.outputs))
    graphs = {n: a for n, a in sorted(node.attributes.items()) if isinstance(a, onnx.Subgraph)}
    function = model.functions.get((node.domain, node.op, node.overload))
    if graphs:
        for graph, inner in zip(graphs.values(), sketch.inside(draft, graphs)):
            types = {name: str(type or "") for name, type in graph.inputs.items()}
            seen = {**known, **graph.initializers}
            _onnx_graph(sketch, model, types, graph.nodes, graph.outputs, seen, inner)
    elif function is not None and len(scope) < DEEPEST:
        (inner,) = sketch.inside(draft, ["function"])
        types = dict.fromkeys(function.inputs, "")
        _onnx_graph(sketch, model, types, function.nodes, function.outputs, {}, inner)
    known.update((name, (number, i)) for i, name in enumerate(node.outputs) if name)


def _in_order(nodes: tuple[onnx.Node, ...], known: Mapping[str, Found]) -> list[onnx.Node]:
    """The nodes, each after those it reads, else as in the file; nodes of a cycle come last."""
    makers = {name: node for node in nodes for name in node.outputs if name}
    done: set[int] = set()
    order: list[onnx.Node] = []
    for root in nodes:
        stack = [root]
        entered: set[int] = set()
        while stack:
            node = stack[-1]
            before = [makers[n] for n in _needs(node) if n in makers and n not in known]
            waits = [b for b in before if id(b) not in done and id(b) not in entered]
            if id(node) in done or not waits or id(node) in entered:
                stack.pop()
                if id(node) not in done:
                    done.add(id(node))
                    order.append(node)
            else:
                entered.add(id(node))
                stack += reversed(waits)
    return order


def _needs(node: onnx.Node) -> list[str]:
    """Names that a node reads, those that its sub-graphs read from outside too."""
    names = list(node.inputs)
    rest = [a for a in node.attributes.values() if isinstance(a, onnx.Subgraph)]
    while rest:
        graph = rest.pop()
        for inner in graph.nodes:
            names += inner.inputs
            rest += [a for a in inner.attributes.values() if isinstance(a, onnx.Subgraph)]
        names += graph.outputs
    return names


# ------------------------------------------------------------------ TFLite


def _tflite_graph(
    sketch: _Sketch,
    model: tflite.TfliteModel,
    graph: tflite.Subgraph,
    inputs: Mapping[int, str],
    outputs: Mapping[int, str],
    scope: Scope,
) -> None:
    """Draws a sub-graph. inputs, outputs: numbers of tensors -> names, where callers have some."""
    known: dict[int, Found] = {
        i: tensor.data for i, tensor in enumerate(graph.tensors) if tensor.data is not None
    }
    for number in graph.inputs:
        known[number] = (len(sketch.drafts), 0)
        tensor = graph.tensors[number]
        sketch.port("input", inputs.get(number, tensor.name), scope, _tflite_type(tensor))
    for operator in graph.operators:
        place = len(sketch.drafts)
        results = [graph.tensors[i] for i in operator.outputs]
        label = results[0].name if results else "without results"  # as the importer says
        given = [known.get(i) for i in operator.inputs]
        if (numbers := sketch.decoded(operator.name, label, given)) is not None:
            known[operator.outputs[0]] = numbers
            continue
        draft = sketch.node(operator.name, label, _tflite_attrs(operator, label), scope)
        draft.outputs = tuple(map(_tflite_type, results))
        for position, (number, found) in enumerate(zip(operator.inputs, given)):
            sketch.read(draft, position, graph.tensors[number].name, found)
        _tflite_bodies(sketch, model, operator, draft)
        known.update((number, (place, i)) for i, number in enumerate(operator.outputs))
    for number in graph.outputs:
        name = outputs.get(number, graph.tensors[number].name)
        sketch.read(sketch.port("output", name, scope), 0, name, known.get(number))


def _tflite_bodies(
    sketch: _Sketch, model: tflite.TfliteModel, operator: tflite.Operator, draft: Draft
) -> None:
    called = {
        name.partition("_subgraph")[0]: number
        for name, number in sorted(operator.options.items())
        if "subgraph" in name and isinstance(number, int) and 0 < number < len(model.subgraphs)
    }
    if not called or len(draft.scope) >= DEEPEST:
        return
    for number, inner in zip(called.values(), sketch.inside(draft, called)):
        _tflite_graph(sketch, model, model.subgraphs[number], {}, {}, inner)


def _tflite_attrs(operator: tflite.Operator, label: str) -> dict[str, str]:
    """Its options, and all names of what it was fused of."""
    options = {
        name: dict(enumerate(CHOICES.get(name, ()))).get(value, value)
        if isinstance(value, int)
        else value
        for name, value in operator.options.items()
    }
    return shown(({"name": label} if ";" in label else {}) | options)


def _tflite_type(tensor: tflite.Tensor) -> str:
    """The type as brim writes it, and how its integers stand for numbers."""
    if tensor.dtype is None:
        return tensor.kind.lower()
    found, how = str(tensor.type), tensor.quantization
    if how is None or not how.per_tensor:
        return found if how is None else f"{found} per axis {how.axis}"
    return f"{found} · {float(how.scale[0]):.4g} (q - {int(how.zero[0])})"
