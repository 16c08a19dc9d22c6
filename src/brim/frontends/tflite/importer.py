"""Turns a parsed TFLite model into a brim graph, operator by operator, for given shapes.

Operators are visited in the file's order, which is the order in which they take effect on
variables. What cannot be converted is collected and reported all at once. No operator is known
here: rows come from `table`; sub-graph operators and variables use the `Scope` they are handed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from brim.errors import BrimError, InputError, ModelError, UnsupportedError
from brim.frontends.batch import opened
from brim.frontends.bounds import CALLS, LARGEST, Budget, all_reasons, reason_of
from brim.frontends.tflite import operators  # noqa: F401  (declares the rows)
from brim.frontends.tflite.arithmetic import in_float
from brim.frontends.tflite.host import host_step
from brim.frontends.tflite.model import Operator, Subgraph, Tensor, TfliteModel
from brim.frontends.tflite.reader import read
from brim.frontends.tflite.table import (
    QUANTIZED,
    TABLE,
    Call,
    NeedsData,
    Operand,
    Pair,
    Row,
    Shape,
    listed,
    nearest,
)
from brim.frontends.tflite.variables import Variables
from brim.frontends.weights import Weights
from brim.graph import Graph, Value, const, placeholder
from brim.ops.registry import at
from brim.types import I8, STR, Type

_POISON: Any = object()  # stands for the results of an operator that could not be converted


class _Unknown(Exception):
    """The results of a sub-graph follow from an operator that could not be converted."""


@dataclass(frozen=True)
class _Context:
    """What all operators of one import share."""

    model: TfliteModel
    reasons: list[str]
    budget: Budget
    variables: Variables
    weights: Weights | None = None
    tables: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    depth: int = 0


@dataclass(eq=False)
class Scope:
    """A sub-graph while it is converted: its tensors by number."""

    context: _Context
    graph: Subgraph
    values: dict[int, Operand] = field(default_factory=dict)

    @property
    def variables(self) -> Variables:
        return self.context.variables

    @property
    def tables(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Keys and values of what was filled so far, by its handle's name."""
        return self.context.tables

    def operand(self, number: int) -> Operand:
        if number < 0:
            return None
        if number not in self.values:
            tensor = self.graph.tensors[number]
            if tensor.data is not None:
                self.values[number] = self._constant(tensor.data, tensor.name)
            elif tensor.is_variable and tensor.dtype is not None:
                name = self.state_of(number)
                self.variables.first.setdefault(name, _cleared(tensor))
                return self.variables.read(name)  # not kept: an operator may change it
            elif 0 in tensor.shape and tensor.dtype is not None:
                self.values[number] = const(np.zeros(tensor.shape, tensor.dtype.numpy))
            else:
                raise ModelError(f"nothing computes {tensor.name!r}")
        return self.values[number]

    @property
    def trains(self) -> bool:
        """Whether the graph is imported to be trained: with its weights as inputs."""
        return self.context.weights is not None

    def batch_of(self, value: Value) -> int | None:
        """The samples of a value where the file counts one; None where it counts right."""
        return None if self.context.weights is None else self.context.weights.batch_of(value)

    def _constant(self, array: np.ndarray, name: str) -> Value:
        """What stands for a constant: of the main graph, it may be a weight that is an input."""
        if self.context.weights is None or self.context.depth:
            return const(array, name)
        return self.context.weights.value(array, name)

    def state_of(self, number: int) -> str:
        """The name of what a variable tensor remembers."""
        graph = self.context.model.subgraphs.index(self.graph)
        return f"{self.graph.tensors[number].name} ({graph}.{number})"

    def graph_of(self, number: int) -> Subgraph:
        graphs = self.context.model.subgraphs
        if not 0 <= number < len(graphs):
            raise ModelError(f"there is no sub-graph {number}")
        return graphs[number]

    def call(self, number: int, arguments: Iterable[Operand]) -> list[Operand]:
        """The results of a sub-graph for these inputs, as a part of this graph.

        Raises _Unknown where one follows from what is not supported, which has been noted then.
        """
        context, graph = self.context, self.graph_of(number)
        if context.depth >= CALLS:
            raise ModelError(f"sub-graphs nest deeper than {CALLS}")
        inner = Scope(replace(context, depth=context.depth + 1), graph)
        results = _run(inner, arguments)
        if any(result is _POISON for result in results):
            raise _Unknown
        return results

    def inside(self, variables: Variables) -> Scope:
        """A scope for what is closed: it sees variables only by `variables`."""
        return Scope(replace(self.context, variables=variables), self.graph)


def import_model(
    source: Path | str | bytes | TfliteModel,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    weights: Weights | None = None,
) -> Graph:
    """The graph of a TFLite model (path, bytes, or what `read` gave), all shapes fixed.

    shapes: those of inputs with open dimensions; without, they are those of the file's own example.
    weights: takes in the weights, which become inputs after the others, for training; and says how
    many samples inputs take whose first axis is 1.
    Raises InputError for shapes that do not fit, ModelError for damaged models, and
    UnsupportedError naming everything at once that cannot be converted.
    """
    model = source if isinstance(source, TfliteModel) else read(source)
    context = _Context(model, [], Budget.of(model.size), Variables(), weights)
    opens = weights is not None and weights.batch is not None
    inputs = _inputs(model, shapes or {}, opens)
    scope = Scope(context, model.main)
    arguments = [inputs[name] for name in _by_number(model)]
    _run(scope, arguments)
    found = {name: scope.operand(i) for name, i in model.signature.outputs.items()}
    if context.reasons:
        raise all_reasons(context.reasons, model.name)
    outputs = {}
    for name, operand in found.items():
        if not isinstance(operand, Value):
            raise UnsupportedError(f"output {name!r} is no tensor of real numbers")
        outputs[name] = operand
    variables = context.variables
    name_of = {name: _free(name, (*inputs, *outputs)) for name in variables.given}
    inputs |= {name_of[name]: value for name, value in variables.given.items()}
    outputs |= {name_of[name]: variables.left[name] for name in name_of}
    state = {name_of[name]: variables.first[name] for name in name_of}
    graph = Graph(inputs, outputs, Path(model.name).stem or "graph", state)
    return graph if weights is None else weights.settled(graph)


def _free(name: str, taken: Collection[str]) -> str:
    """The name of a variable as state, where inputs and outputs may have the same."""
    while name in taken:
        name = f"state {name}"
    return name


def _cleared(tensor: Tensor) -> np.ndarray:
    """What a variable tensor holds before the first run: bytes of 0, or of the zero point in i8."""
    zero = int(tensor.quantization.zero[0]) if tensor.dtype == I8 and tensor.quantization else 0
    return np.full(tensor.shape, zero, tensor.dtype.numpy)  # type: ignore[union-attr]


def _by_number(model: TfliteModel) -> list[str]:
    """The names of the inputs in the order of the sub-graph's."""
    names = {number: name for name, number in model.signature.inputs.items()}
    return [names[number] for number in model.main.inputs]


def _inputs(
    model: TfliteModel, shapes: Mapping[str, tuple[int, ...]], opens: bool
) -> dict[str, Value]:
    if unknown := set(shapes) - set(model.inputs):
        raise InputError(
            f"there is no input {sorted(unknown)}",
            where=model.name,
            hint=f"the model takes {list(model.inputs)}",
        )
    found = {}
    for name, declared in model.inputs.items():
        shape = tuple(shapes.get(name, model.usual_shapes[name]))
        declared_shape = (opened(declared) if opens else declared).shape or ()
        fits = len(shape) == len(declared_shape) and all(
            n >= 0 and (not isinstance(want, int) or want == n)
            for n, want in zip(shape, declared_shape)
        )
        fixed = Type(tuple(int(n) for n in shape), declared.dtype)
        if not fits or fixed.size > LARGEST:
            raise InputError(f"shape {shape} does not fit input {name!r}: {declared}")
        found[name] = placeholder(fixed, name)
    return found


# ------------------------------------------------------------------ operators


def _run(scope: Scope, arguments: Iterable[Operand]) -> list[Operand]:
    arguments = list(arguments)
    if len(arguments) != len(scope.graph.inputs):
        raise ModelError(f"sub-graph {scope.graph.name!r} takes {len(scope.graph.inputs)} inputs")
    scope.values.update(zip(scope.graph.inputs, arguments))
    for operator in scope.graph.operators:
        scope.context.budget.node()
        results = _import_operator(scope, operator)
        scope.values.update(zip(operator.outputs, results))
    return [scope.operand(number) for number in scope.graph.outputs]


def _import_operator(scope: Scope, operator: Operator) -> list[Operand]:
    context = scope.context
    tensors = scope.graph.tensors
    label = tensors[operator.outputs[0]].name if operator.outputs else "without results"
    where = f"{context.model.name}: {label} ({operator.name})"
    with at(where):
        try:
            return _convert(scope, operator)
        except _Unknown:
            return [_POISON] * len(operator.outputs)
        except UnsupportedError as error:
            context.reasons.append(reason_of(error))
            return [_POISON] * len(operator.outputs)
        except BrimError as error:
            if not error.where:
                raise type(error)(error.what, error.why, where, error.hint) from None
            raise
        except MemoryError:
            raise ModelError("not enough memory", where=where) from None
        except Exception as error:  # nothing a damaged model does may leak as a bare error
            raise ModelError(
                "the operator contradicts itself", why=repr(error)[:300], where=where
            ) from error


def _convert(scope: Scope, operator: Operator) -> list[Operand]:
    row = TABLE.get(operator.name)
    if row is None:
        near = nearest(operator.name)
        kind = "operator" if operator.custom is None else "custom operator"
        hint = f"similar: {', '.join(near)}" if near else ""
        raise UnsupportedError(f"{kind} {operator.name}", hint=hint)
    operands = tuple(map(scope.operand, operator.inputs))
    if any(operand is _POISON for operand in operands):
        return [_POISON] * len(operator.outputs)
    tensors = scope.graph.tensors
    results = tuple(tensors[number] for number in operator.outputs)
    given = tuple(tensors[n] if n >= 0 else None for n in operator.inputs)
    call = Call(operator, operands, given, results, scope)
    shapes: tuple[Shape, ...] = ()
    if row.dynamic or not any(map(_is_dynamic, operands)):
        try:
            return _checked(scope.context, call, compute(row, call))
        except NeedsData as needed:
            shapes = needed.shapes
    weights = scope.context.weights
    if weights is not None and (known := weights.known(operands)) != operands:
        call = Call(operator, known, given, results, scope)
        return _checked(scope.context, call, compute(row, call))
    return list(host_step(call, shapes))


def _is_dynamic(operand: Operand) -> bool:
    """Whether it has no static type, or is text that is not constant."""
    match operand:
        case Value():
            text = operand.type.dtype == STR and not operand.is_const
            return text or not operand.type.is_static
        case Pair():
            return _is_dynamic(operand.real)
    return False


def compute(row: Row, call: Call) -> list[Operand]:
    """What a row gives for a call: in its quantized form, as it is, or in float between both.

    A row that moves numbers does so with both parts of complex ones; one that does not computes
    those of storage types (bf16) as floats.
    """
    if row.moves:
        if not any(isinstance(operand, Pair) for operand in call.inputs):
            return listed(row.function(call))
        parts = (_part(row, call, "real"), _part(row, call, "imaginary"))
        return [Pair(a, b) for a, b in zip(*parts, strict=True)]
    if call.is_quantized and row.name in QUANTIZED:
        return listed(QUANTIZED[row.name](call))
    return in_float(row.function, call)


def _part(row: Row, call: Call, name: str) -> list[Value]:
    """What a row gives for one part of complex inputs."""
    inputs = tuple(getattr(x, name) if isinstance(x, Pair) else x for x in call.inputs)
    found = listed(row.function(replace(call, inputs=inputs)))
    return [value for value in found if isinstance(value, Value)]


def _checked(context: _Context, call: Call, results: list[Operand]) -> list[Operand]:
    options = call.operator.options
    left = [
        name for name in options if name not in call.read and options[name] not in (0, (), None)
    ]
    if left:
        raise UnsupportedError(f"{call.name} with {', '.join(f'{n}={options[n]}' for n in left)}")
    if len(results) < len(call.results):
        raise UnsupportedError(f"{call.name} with {len(call.results)} outputs")
    for result, tensor in zip(results, call.results):
        if isinstance(result, Value):
            context.budget.constant(result)
            _check_type(result, tensor, call)
    return results


def _check_type(result: Value, tensor: Tensor, call: Call) -> None:
    if result.dtype != tensor.dtype:
        raise ModelError(f"{call.name} gives {result.type} where the file says {tensor.kind}")
    if result.type.is_static and result.type.size > LARGEST:
        raise ModelError(f"a result of {result.type} is absurdly large")
