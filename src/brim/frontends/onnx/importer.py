"""Turns a parsed ONNX model into a brim graph: names to values, node by node, for given shapes.

Nodes are visited by need (dead ones never), in an order that this file finds; cycles are refused.
What cannot be converted is collected and reported all at once. No operator is known here: rows come
from `table`, sub-graph operators use the `Scope` that they are handed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from brim.errors import BrimError, ModelError, UnsupportedError
from brim.frontends.bounds import CALLS, LARGEST, Budget, all_reasons, reason_of
from brim.frontends.onnx.host import host_step, run_row
from brim.frontends.onnx.infer import result_types
from brim.frontends.onnx.model import Function, Node, OnnxModel, Reference, Subgraph
from brim.frontends.onnx.operands import (
    Operand,
    Sequence,
    as_value,
    map_values,
    values_of,
)
from brim.frontends.onnx.ports import bind_inputs, bind_output, opened_inputs
from brim.frontends.onnx.qdq import in_operator_form
from brim.frontends.onnx.reader import read
from brim.frontends.onnx.rows import find, nearest
from brim.frontends.onnx.table import Call, NeedsData
from brim.frontends.onnx.widening import needs_widening, widened
from brim.frontends.subgraphs import Captures
from brim.frontends.weights import Weights
from brim.graph import Graph, Value, const, placeholder
from brim.ops.registry import at
from brim.types import STR

OWN_SET = 18  # the operator set of nodes that rows add
_POISON: Any = object()  # stands for the results of a node that could not be converted


@dataclass(frozen=True)
class _Context:
    """What all nodes of one import share."""

    name: str
    opsets: Mapping[str, int]
    functions: Mapping[tuple[str, str, str], Function]
    reasons: list[str]
    budget: Budget
    weights: Weights | None = None
    depth: int = 0
    times: int = 1  # how often the loops around spell out what is imported now


@dataclass(eq=False)
class Scope:
    """The names that a graph sees: its own, then its parent's.

    captures: for a sub-graph that must be closed, the parent's values that it uses, by id, each
    with its placeholder inside; None for graphs that may use outer values directly.
    """

    context: _Context
    parent: Scope | None = None
    captures: Captures | None = None
    values: dict[str, Operand] = field(default_factory=dict)

    def find(self, name: str) -> Operand:
        if name in self.values:
            return self.values[name]
        if self.parent is None:
            raise ModelError(f"nothing computes {name!r}")
        outer = self.parent.find(name)
        if self.captures is None or outer is _POISON:
            return outer
        self.values[name] = self.capture(outer, name)
        return self.values[name]

    def capture(self, outer: Operand, name: str) -> Operand:
        """What stands for an operand of the parent inside a closed sub-graph; constants do."""
        return map_values(outer, lambda value: self._capture(value, name))

    def _capture(self, outer: Value, name: str) -> Value:
        if outer.is_const:
            return outer
        assert self.captures is not None
        known = self.captures.setdefault(id(outer), (outer, placeholder(outer.type, name)))
        return known[1]

    @property
    def trains(self) -> bool:
        """Whether the graph is imported to be trained: with its weights as inputs."""
        return self.context.weights is not None

    def batch_of(self, value: Value) -> int | None:
        """The samples of a value where the file counts one; None where it counts right."""
        return None if self.context.weights is None else self.context.weights.batch_of(value)

    def constant(self, array: np.ndarray, name: str, literal: bool = False) -> Value:
        """What stands for a constant: of the main graph, it may be a weight that is an input."""
        weights = self._weights
        return const(array, name) if weights is None else weights.value(array, name, literal)

    def is_zero_point(self, name: str) -> None:
        """Tells that a constant says which integer is 0, and is no weight."""
        if self._weights is not None:
            self._weights.is_zero_point(self.find(name))

    def copy(self, found: Operand, name: str) -> Operand:
        """What stands for a copy: of a weight, one of its own. Exporters store equal weights once,
        for all layers that start with ones or zeros."""
        content = None if self._weights is None else self._weights.content(found)
        return found if content is None else self.constant(content, name)

    @property
    def _weights(self) -> Weights | None:
        """What takes in weights, in the main graph."""
        inside = self.context.depth or self.parent is not None
        return None if inside else self.context.weights

    @property
    def times(self) -> int:
        """How often the loops around spell out what is imported now."""
        return self.context.times

    def inline(
        self, graph: Subgraph, arguments: Iterable[Operand] = (), times: int = 1
    ) -> list[Operand]:
        """The results of a sub-graph as part of this one, for a loop that does so `times` times."""
        context = replace(_deeper(self.context), times=self.times * times)
        return _run_graph(Scope(context, self), graph, arguments)

    def closed(self, make: Callable[[Scope], list[Operand]]) -> tuple[list[Operand], Captures]:
        """What `make` gives in a scope that sees outer values only as placeholders: both."""
        inner = Scope(self.context, self, {})
        return make(inner), inner.captures or {}

    def apply(self, op: str, *operands: Operand, **attributes: Any) -> Operand:
        """The result of one more ONNX operator: compiled or a host step, as its operands demand."""
        node = Node(op, "", op, ("x",) * len(operands), ("y",), attributes)
        self.context.budget.node()
        return _apply(self, node, operands, OWN_SET)[0]

    def is_poisoned(self, operands: Iterable[Operand]) -> bool:
        return any(operand is _POISON for operand in operands)


def import_model(
    source: Path | str | bytes | OnnxModel | Any,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    constants: Mapping[str, np.ndarray] | None = None,
    weights: Weights | None = None,
) -> Graph:
    """The graph of an ONNX model (path, bytes, ModelProto, or what `read` gave), all shapes fixed.

    shapes: for each input with symbolic dimensions, its shape; an initializer that is also an
    input becomes an input when it is named here. constants: inputs that are always this array.
    weights: takes in the weights, which become inputs after the others, for training; and says how
    many samples inputs take whose first axis is 1.
    Raises InputError for shapes that are missing or do not fit, ModelError for damaged models, and
    UnsupportedError naming everything at once that cannot be converted.
    """
    model = source if isinstance(source, OnnxModel) else read(source)
    if weights is None:  # no slope passes through integers
        model = in_operator_form(model)
    context = _Context(
        model.name, model.opsets, model.functions, [], Budget.of(model.size), weights
    )
    scope = Scope(context)
    opens = weights is not None and weights.batch is not None
    declared = opened_inputs(model) if opens else model
    inputs, scope.values = bind_inputs(declared, shapes or {}, constants or {})
    found = _run_nodes(scope, model.graph)
    if context.reasons:
        raise all_reasons(context.reasons, model.name)
    outputs = {
        name: bind_output(operand, model, name) for name, operand in zip(model.outputs, found)
    }
    graph = Graph(inputs, outputs, Path(model.name).stem or "graph")
    return graph if weights is None else weights.settled(graph)


# ------------------------------------------------------------------ graphs


def _deeper(context: _Context) -> _Context:
    if context.depth >= CALLS:
        raise ModelError(f"functions and sub-graphs nest deeper than {CALLS}")
    return replace(context, depth=context.depth + 1)


def _run_graph(scope: Scope, graph: Subgraph, arguments: Iterable[Operand]) -> list[Operand]:
    arguments = list(arguments)
    if len(arguments) != len(graph.inputs):
        raise ModelError(
            f"sub-graph {graph.name!r} takes {len(graph.inputs)} inputs, not {len(arguments)}"
        )
    scope.values.update(zip(graph.inputs, arguments))
    return _run_nodes(scope, graph)


def _run_nodes(scope: Scope, graph: Subgraph) -> list[Operand]:
    for name, array in graph.initializers.items():
        if name not in scope.values:
            scope.values[name] = scope.constant(array, name)
    return _run(scope, graph.nodes, tuple(graph.outputs))


def _run(scope: Scope, nodes: tuple[Node, ...], outputs: tuple[str, ...]) -> list[Operand]:
    for node in _order(nodes, outputs, scope):
        scope.context.budget.node()
        results = _import_node(scope, node)
        if scope.trains and node.op == "Constant" and not node.domain:
            (found,) = map(as_value, results)
            assert found.data is not None
            results = [scope.constant(found.data, node.outputs[0], literal=True)]
        if node.op in ("QuantizeLinear", "DequantizeLinear") and len(node.inputs) > 2:
            scope.is_zero_point(node.inputs[2])
        if scope.trains and node.op == "Identity" and not node.domain:
            results = [scope.copy(results[0], node.outputs[0])]
        scope.values.update((n, r) for n, r in zip(node.outputs, results) if n)
    return [scope.find(name) for name in outputs]


def _order(nodes: tuple[Node, ...], outputs: tuple[str, ...], scope: Scope) -> list[Node]:
    """The nodes that `outputs` need, each after those it needs. Raises ModelError on cycles."""
    producer: dict[str, Node] = {}
    for node in nodes:
        for name in node.outputs:
            if name and (name in producer or name in scope.values):
                raise ModelError(f"{name!r} is computed twice", where=scope.context.name)
            if name:
                producer[name] = node
    order: list[Node] = []
    state: dict[int, bool] = {}  # id(node) -> finished
    for root in outputs:
        if root not in producer or id(producer[root]) in state:
            continue
        state[id(producer[root])] = False
        stack = [(producer[root], iter(_needs(producer[root])))]
        while stack:
            node, names = stack[-1]
            for name in names:
                before = producer.get(name)
                if before is None or state.get(id(before)):
                    continue
                if id(before) in state:
                    raise ModelError(
                        "the graph has a cycle", where=f"{scope.context.name}: {before}"
                    )
                state[id(before)] = False
                stack.append((before, iter(_needs(before))))
                break
            else:
                stack.pop()
                state[id(node)] = True
                order.append(node)
    return order


def _needs(node: Node) -> list[str]:
    """Names that a node takes from its graph: inputs, and what its sub-graphs use from outside."""
    names = list(node.inputs)
    for value in node.attributes.values():
        if isinstance(value, Subgraph):
            names.extend(_free(value))
    return names


def _free(graph: Subgraph) -> list[str]:
    own = set(graph.inputs) | set(graph.initializers)
    own.update(name for node in graph.nodes for name in node.outputs)
    used = [name for node in graph.nodes for name in _needs(node)]
    return [name for name in (*used, *graph.outputs) if name not in own]


# ------------------------------------------------------------------ nodes


def _import_node(scope: Scope, node: Node) -> list[Operand]:
    context = scope.context
    where = f"{context.name}: {node}"
    with at(where):
        try:
            return _convert(scope, node)
        except UnsupportedError as error:
            context.reasons.append(reason_of(error))
            return [_POISON] * len(node.outputs)
        except BrimError as error:
            if not error.where:
                raise type(error)(error.what, error.why, where, error.hint) from None
            raise
        except NeedsData as error:
            raise ModelError(
                "contents are needed that are not known", why=str(error), where=where
            ) from None
        except MemoryError:
            raise ModelError("not enough memory", where=where) from None
        except Exception as error:  # nothing a damaged model does may leak as a bare error
            raise ModelError(
                "the node contradicts itself", why=repr(error)[:300], where=where
            ) from error


def _convert(scope: Scope, node: Node) -> list[Operand]:
    context = scope.context
    operands = tuple(scope.find(name) if name else None for name in node.inputs)
    if scope.is_poisoned(operands):
        return [_POISON] * len(node.outputs)
    function = context.functions.get((node.domain, node.op, node.overload))
    if function is not None:
        return _call_function(scope, node, function, operands)
    return _apply(scope, node, operands, context.opsets.get(node.domain, 0))


def _apply(scope: Scope, node: Node, operands: tuple[Operand, ...], version: int) -> list[Operand]:
    context = scope.context
    row = find(node.op, node.domain, version)
    if row is None:
        raise _unknown(node, version)
    if needs_widening(row, operands):
        run = partial(_apply, scope, node, version=version)
        return widened(node, version, operands, run, scope.apply)
    call = Call(node, version, operands, scope)
    if not row.on_host and (row.dynamic or not _is_dynamic(operands)):
        try:
            found = row.function(call)
        except NeedsData:
            found = None
        if found is not None:
            if not row.dynamic:
                call.check_inputs()
            results = list(found) if isinstance(found, (tuple, list)) else [found]
            if not any(_is_text_step(result) for result in results):
                return _checked(context, call, results)
    if context.weights is not None and (known := context.weights.known(operands)) != operands:
        return _apply(scope, node, known, version)
    return _host(context, call, row)


def _is_dynamic(operands: Iterable[Operand]) -> bool:
    """Whether an operand has no static type, or is text or a container that is not constant."""
    return any(
        isinstance(o, Value) and (not o.type.is_static or (o.dtype.is_object and not o.is_const))
        for o in operands
    )


def _is_text_step(operand: Operand) -> bool:
    if isinstance(operand, Sequence):
        return any(map(_is_text_step, operand.parts))
    return (
        isinstance(operand, Value)
        and operand.type.dtype is STR
        and operand.op is not None
        and operand.op.kind not in ("host", "control")
    )


def _host(context: _Context, call: Call, row: Any) -> list[Operand]:
    node = call.node
    operands = [None if operand is None else as_value(operand) for operand in call.inputs]
    if any(isinstance(value, Subgraph) for value in node.attributes.values()):
        raise UnsupportedError(f"{node.op} with a sub-graph when shapes depend on data")
    types = list(row.types(call)) if row.types else None
    boxed = types is not None and any(type.dtype.kind == "o" for type in types)
    if row.on_host and not boxed and all(o is None or o.is_const for o in operands):
        return _checked(context, call, run_row(row, call))
    types = types or result_types(node, call.version, operands)
    return list(host_step(node, call.version, operands, types))


def _checked(context: _Context, call: Call, results: list[Operand]) -> list[Operand]:
    left = set(call.node.attributes) - call.read
    if left:
        raise UnsupportedError(f"{call.node.op} with attributes {sorted(left)}")
    if len(results) < len(call.node.outputs):
        extra = [name for name in call.node.outputs[len(results) :] if name]
        if extra:
            raise UnsupportedError(f"{call.node.op} with {len(call.node.outputs)} outputs")
    for result in results:
        for value in values_of(result):
            context.budget.constant(value)
            if value.type.is_static and value.type.size > LARGEST:
                raise ModelError(f"a result of {value.type} is absurdly large")
    return results


def _unknown(node: Node, version: int) -> UnsupportedError:
    name = f"{node.domain}.{node.op}" if node.domain else node.op
    if not version:
        return UnsupportedError(
            f"operator {name}", f"the model imports no operator set {node.domain or 'ai.onnx'}"
        )
    near = nearest(node.op, node.domain)
    return UnsupportedError(
        f"operator {name} (set {version})", hint=f"similar: {', '.join(near)}" if near else ""
    )


# ------------------------------------------------------------------ functions


def _call_function(
    scope: Scope, node: Node, function: Function, operands: tuple[Operand, ...]
) -> list[Operand]:
    if len(operands) > len(function.inputs) or len(node.outputs) > len(function.outputs):
        raise ModelError(f"function {function.name!r} takes {len(function.inputs)} inputs")
    unknown = sorted(set(node.attributes) - set(function.attributes))
    if unknown:
        raise ModelError(f"function {function.name!r} has no attribute {unknown[0]!r}")
    given = {**function.attributes, **node.attributes}
    given = {name: value for name, value in given.items() if value is not None}
    context = replace(_deeper(scope.context), opsets={**scope.context.opsets, **function.opsets})
    inner = Scope(context)
    padded = operands + (None,) * (len(function.inputs) - len(operands))
    inner.values.update(zip(function.inputs, padded))
    nodes = tuple(_substitute(part, given) for part in function.nodes)
    return _run(inner, nodes, function.outputs)


def _substitute(node: Node, given: Mapping[str, Any]) -> Node:
    """`node` with references to the function's attributes replaced by what the caller gave."""
    attributes: dict[str, Any] = {}
    for name, value in node.attributes.items():
        if isinstance(value, Reference):
            if value.name in given:
                attributes[name] = given[value.name]
        elif isinstance(value, Subgraph):
            inner = tuple(_substitute(part, given) for part in value.nodes)
            attributes[name] = replace(value, nodes=inner)
        else:
            attributes[name] = value
    return replace(node, attributes=attributes)
