"""Turns a parsed ONNX model into a brim graph: names to values, node by node, for given shapes.

Nodes are visited by need (dead ones never), in an order that this file finds; cycles are refused.
What cannot be converted is collected and reported all at once. No operator is known here: rows come
from `table`, sub-graph operators use the `Scope` that they are handed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from brim.errors import BrimError, InputError, ModelError, UnsupportedError
from brim.frontends.onnx.host import host_step, run_row
from brim.frontends.onnx.infer import result_types
from brim.frontends.onnx.model import Function, Node, OnnxModel, Reference, Subgraph
from brim.frontends.onnx.reader import read
from brim.frontends.onnx.rows import find, nearest
from brim.frontends.onnx.table import LARGEST, Call, NeedsData, Operand
from brim.graph import Graph, Value, const, placeholder
from brim.ops.registry import at
from brim.types import STR, Dim, Type, type_of

NODES = 300_000  # nodes that one import may visit, unrolled loops and inlined functions included
CALLS = 64  # how deep functions and branches may nest
# Operators that only pass values on, or decide themselves what to do with unknown shapes.
_THROUGH = {
    "If", "Loop", "Scan", "Identity", "OptionalHasElement", "Optional", "OptionalGetElement",
    "SequenceConstruct", "SequenceInsert", "SequenceAt", "SequenceErase", "SequenceLength",
}  # fmt: skip
_POISON: Any = object()  # stands for the results of a node that could not be converted


@dataclass
class _Budget:
    """What one import has spent; against models that are small files and endless work."""

    nodes: int
    bytes: int

    def node(self) -> None:
        self.nodes -= 1
        if self.nodes < 0:
            raise ModelError(f"the model unfolds to more than {NODES} nodes")

    def constant(self, value: Value) -> None:
        if value.data is not None and value.data.dtype != object:
            self.bytes -= value.data.nbytes
            if self.bytes < 0:
                raise ModelError("the model's constants unfold to absurd sizes")


@dataclass(frozen=True)
class _Context:
    """What all nodes of one import share."""

    name: str
    opsets: Mapping[str, int]
    functions: Mapping[tuple[str, str], Function]
    reasons: list[str]
    budget: _Budget
    depth: int = 0


@dataclass(eq=False)
class Scope:
    """The names that a graph sees: its own, then its parent's.

    captures: for a sub-graph that must be closed, the parent's values that it uses, each with the
    placeholder that stands for it inside; None for graphs that may use outer values directly.
    """

    context: _Context
    parent: Scope | None = None
    captures: dict[str, tuple[Value, Value]] | None = None
    values: dict[str, Operand] = field(default_factory=dict)

    def find(self, name: str) -> Operand:
        if name in self.values:
            return self.values[name]
        if self.parent is None:
            raise ModelError(f"nothing computes {name!r}")
        outer = self.parent.find(name)
        if self.captures is None or outer is _POISON:
            return outer
        inner = self._capture(name, outer)
        self.values[name] = inner
        return inner

    def _capture(self, name: str, outer: Operand) -> Operand:
        if isinstance(outer, tuple):
            return tuple(self._capture(f"{name}#{i}", part) for i, part in enumerate(outer))
        if outer is None or outer.is_const:
            return outer
        assert self.captures is not None
        inner = placeholder(outer.type, name)
        self.captures[name] = (outer, inner)
        return inner

    def inline(self, graph: Subgraph, arguments: Iterable[Operand] = ()) -> list[Operand]:
        """The results of a sub-graph as part of this one."""
        return _run_graph(Scope(_deeper(self.context), self), graph, arguments)

    def closed(
        self, graph: Subgraph, arguments: Iterable[Operand] = ()
    ) -> tuple[list[Operand], dict[str, tuple[Value, Value]]]:
        """The results of a sub-graph that uses outer values only through placeholders: both."""
        scope = Scope(_deeper(self.context), self, {})
        results = _run_graph(scope, graph, arguments)
        return results, scope.captures or {}

    def is_poisoned(self, operands: Iterable[Operand]) -> bool:
        return any(operand is _POISON for operand in operands)


def import_model(
    source: Path | str | bytes | OnnxModel | Any,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    constants: Mapping[str, np.ndarray] | None = None,
) -> Graph:
    """The graph of an ONNX model (path, bytes, ModelProto, or what `read` gave), all shapes fixed.

    shapes: for each input with symbolic dimensions, its shape; an initializer that is also an
    input becomes an input when it is named here. constants: inputs that are always this array.
    Raises InputError for shapes that are missing or do not fit, ModelError for damaged models, and
    UnsupportedError naming everything at once that cannot be converted.
    """
    model = source if isinstance(source, OnnxModel) else read(source)
    context = _Context(
        model.name, model.opsets, model.functions, [], _Budget(NODES, (2 << 30) + 4 * model.size)
    )
    scope = Scope(context)
    inputs = _bind_inputs(model, scope, dict(shapes or {}), dict(constants or {}))
    found = _run_nodes(scope, model.graph)
    if context.reasons:
        raise _all_reasons(context.reasons, model.name)
    outputs: dict[str, Value] = {}
    for name, operand in zip(model.outputs, found):
        if not isinstance(operand, Value):
            raise UnsupportedError(f"output {name!r} is no tensor but a sequence", where=model.name)
        outputs[name] = operand
    return Graph(inputs, outputs, Path(model.name).stem or "graph")


def _all_reasons(reasons: list[str], where: str) -> UnsupportedError:
    distinct = sorted(set(reasons))
    shown = distinct[:50] + ([f"and {len(distinct) - 50} more"] if len(distinct) > 50 else [])
    return UnsupportedError(
        f"{len(distinct)} things in this model are not supported: {'; '.join(shown)}", where=where
    )


def _bind_inputs(
    model: OnnxModel, scope: Scope, shapes: dict[str, Any], constants: dict[str, Any]
) -> dict[str, Value]:
    graph = model.graph
    unknown = (set(shapes) | set(constants)) - set(graph.inputs)
    if unknown:
        raise InputError(
            f"there is no input {sorted(unknown)}",
            where=model.name,
            hint=f"the model takes {list(model.inputs)}",
        )
    inputs: dict[str, Value] = {}
    missing: list[str] = []
    for name, declared in graph.inputs.items():
        if name in constants:
            array = np.asarray(constants[name])
            fixed = _fixed(name, declared or type_of(array), tuple(array.shape))
            scope.values[name] = const(array.astype(fixed.dtype.numpy, copy=False), name)
        elif name in graph.initializers and name not in shapes:
            continue
        elif declared is None:
            raise UnsupportedError(f"input {name!r} is no tensor", where=model.name)
        elif name in shapes or declared.is_static:
            fixed = _fixed(name, declared, tuple(shapes.get(name, declared.shape or ())))
            inputs[name] = scope.values[name] = placeholder(fixed, name)
        else:
            missing.append(f"{name}: {declared}")
    if missing:
        raise InputError(
            f"shapes are missing for {'; '.join(missing)}",
            why="these inputs have dimensions that the model leaves open",
            where=model.name,
            hint="give shapes={'input': (1, 3, 224, 224), ...}",
        )
    return inputs


def _fixed(name: str, declared: Type, shape: tuple[int, ...]) -> Type:
    fits = declared.shape is None or (
        len(declared.shape) == len(shape)
        and all(isinstance(want, Dim) or want == have for want, have in zip(declared.shape, shape))
    )
    if not fits or any(not isinstance(n, (int, np.integer)) or n < 0 for n in shape):
        raise InputError(f"shape {shape} does not fit input {name!r}: {declared}")
    fixed = Type(tuple(int(n) for n in shape), declared.dtype)
    if fixed.size > LARGEST:
        raise InputError(f"input {name!r} of shape {shape} is absurdly large")
    return fixed


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
            scope.values[name] = const(array, name)
    return _run(scope, graph.nodes, tuple(graph.outputs))


def _run(scope: Scope, nodes: tuple[Node, ...], outputs: tuple[str, ...]) -> list[Operand]:
    for node in _order(nodes, outputs, scope):
        scope.context.budget.node()
        results = _import_node(scope, node)
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
            reason = f"{error.what} ({error.why})" if error.why else error.what
            hint = f", {error.hint}" if error.hint else ""
            context.reasons.append(f"{reason}{hint}")
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
    function = context.functions.get((node.domain, node.op))
    if function is not None:
        return _call_function(scope, node, function, operands)
    version = context.opsets.get(node.domain, 0)
    row = find(node.op, node.domain, version)
    if row is None:
        raise _unknown(node, version)
    call = Call(node, version, operands, scope)
    if not row.on_host and (node.op in _THROUGH or not _is_dynamic(operands)):
        try:
            found = row.function(call)
        except NeedsData:
            found = None
        if found is not None:
            results = list(found) if isinstance(found, (tuple, list)) else [found]
            if not any(_is_text_step(result) for result in results):
                return _checked(context, call, results)
    return _host(context, call, row)


def _is_dynamic(operands: Iterable[Operand]) -> bool:
    """Whether a tensor among the operands has no static type, or is text that is not constant."""
    return any(
        isinstance(o, Value) and (not o.type.is_static or (o.dtype is STR and not o.is_const))
        for o in operands
    )


def _is_text_step(operand: Operand) -> bool:
    return (
        isinstance(operand, Value)
        and operand.type.dtype is STR
        and operand.op is not None
        and operand.op.kind not in ("host", "control")
    )


def _host(context: _Context, call: Call, row: Any) -> list[Operand]:
    node, operands = call.node, call.inputs
    if any(isinstance(operand, tuple) for operand in operands):
        raise UnsupportedError(f"{node.op} on a sequence when shapes depend on data")
    if any(isinstance(value, Subgraph) for value in node.attributes.values()):
        raise UnsupportedError(f"{node.op} with a sub-graph when shapes depend on data")
    if row.on_host and all(o is None or o.is_const for o in operands):  # type: ignore[union-attr]
        return _checked(context, call, run_row(row, call))
    return host_step(node, call.version, operands, result_types(node, call.version, operands))  # type: ignore[arg-type,return-value]


def _checked(context: _Context, call: Call, results: list[Operand]) -> list[Operand]:
    left = set(call.node.attributes) - call.read
    if left:
        raise UnsupportedError(f"{call.node.op} with attributes {sorted(left)}")
    if len(results) < len(call.node.outputs):
        extra = [name for name in call.node.outputs[len(results) :] if name]
        if extra:
            raise UnsupportedError(f"{call.node.op} with {len(call.node.outputs)} outputs")
    for result in results:
        if isinstance(result, Value):
            context.budget.constant(result)
            if result.type.is_static and result.type.size > LARGEST:
                raise ModelError(f"a result of {result.type} is absurdly large")
    return results


def _unknown(node: Node, version: int) -> UnsupportedError:
    name = f"{node.domain}.{node.op}" if node.domain else node.op
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
