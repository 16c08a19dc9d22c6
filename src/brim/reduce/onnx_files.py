"""ONNX models as the search takes them apart: the file itself, for what fails before any graph.

Values have the names of the file. Shapes and types are those that `onnx.shape_inference` finds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from brim.reduce.extents import smaller_extents
from brim.reduce.search import Edits, Form, Net, resolved

Model: TypeAlias = Any  # onnx.ModelProto
Edit: TypeAlias = Callable[[Model], Model | None]
EXTENTS = ("group", "shape", "hidden_size", "num_heads", "kernel_shape", "num_outputs")
INDICES = 16  # whole numbers of a constant that may be extents: shapes, not tables


def _nodes(model: Model) -> int:
    return _count(model.graph.node) + sum(_count(f.node) for f in model.functions)


def _count(nodes: Iterable[Any]) -> int:
    return sum(1 + sum(_count(graph.node) for graph in _graphs(node)) for node in nodes)


def _graphs(node: Any) -> list[Any]:
    return [attribute.g for attribute in node.attribute if attribute.HasField("g")]


def _key(model: Model) -> bytes:
    return model.SerializeToString(deterministic=True)


def _copy(model: Model) -> Model:
    made = type(model)()
    made.CopyFrom(model)
    return made


# ------------------------------------------------------------------ structure


def _net(model: Model) -> Net[Model]:
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    types = _types(model)
    results = [name for node in graph.node for name in node.output if name]
    inputs = [port.name for port in graph.input if port.name not in constants]
    reads = {n: list(_reads(node)) for node in graph.node for n in node.output if n}
    known = {n: types[n].SerializeToString() if n in types else None for n in (*inputs, *results)}
    for name in {name for names in reads.values() for name in names}:
        known.setdefault(name, None)
    outputs = tuple(port.name for port in graph.output)
    build = partial(_arranged, model, types)
    return Net(inputs, results, reads, known, results, outputs, build)


def _types(model: Model) -> dict[str, Any]:
    """The type of every value of the main graph whose element type and rank are known."""
    found: dict[str, Any] = {}
    _learn(found, (*model.graph.input, *model.graph.value_info, *model.graph.output))
    _learn(found, _inferred(model, strict=False).graph.value_info)
    return found


def _inferred(model: Model, strict: bool) -> Model:
    from onnx import shape_inference

    return shape_inference.infer_shapes(
        model, check_type=strict, strict_mode=strict, data_prop=True
    )


def _learn(found: dict[str, Any], ports: Iterable[Any]) -> None:
    for port in ports:
        kind = port.type.tensor_type
        if kind.elem_type and kind.HasField("shape"):
            found[port.name] = port.type


def _reads(node: Any) -> Iterator[str]:
    """The names that a node takes from its graph: inputs, and those that its sub-graphs read."""
    yield from filter(None, node.input)
    yield from outer_names(node)


def outer_names(node: Any) -> list[str]:
    """Names that a node's sub-graphs take from outside."""
    return list(dict.fromkeys(name for graph in _graphs(node) for name in _outer(graph)))


def _outer(graph: Any) -> list[str]:
    own = {v.name for v in graph.input} | {t.name for t in graph.initializer}
    own |= {name for inner in graph.node for name in inner.output}
    used = [name for inner in graph.node for name in _reads(inner)]
    used += [port.name for port in graph.output]
    return [name for name in dict.fromkeys(used) if name and name not in own]


def _arranged(model: Model, types: dict[str, Any], edits: Edits) -> Model | None:
    """The model with edits: the nodes that its outputs need, and nothing else."""
    from onnx import ValueInfoProto

    replaced = {*edits.cut, *edits.fixed, *edits.instead}
    outputs = list(dict.fromkeys(resolved(edits, name) for name in edits.outputs))
    wanted, kept = set(outputs), []
    for node in reversed(model.graph.node):
        if wanted & set(node.output) - replaced:
            wanted |= {resolved(edits, name) for name in _reads(node)}
            kept.append(_renamed(node, edits, replaced))
    kept.reverse()
    given = {name for node in kept for name in node.output}
    if not given.issuperset(outputs):
        return None
    known = {port.name: port for port in (*model.graph.output, *model.graph.input)}
    cut = [name for name in edits.cut if name in wanted]
    inputs = [port for port in model.graph.input if port.name in wanted]
    inputs += [ValueInfoProto(name=name, type=types[name]) for name in sorted(cut)]
    arrays = {name: _plain(types[name]) for name in edits.fixed if name in wanted}
    if any(array is None for array in arrays.values()):
        return None
    ports = [known.get(name) or ValueInfoProto(name=name, type=types.get(name)) for name in outputs]
    tensors = [tensor for tensor in model.graph.initializer if tensor.name in wanted]
    tensors += [_tensor(array, name) for name, array in sorted(arrays.items()) if array is not None]
    return _made(model, kept, inputs, ports, tensors)


def _made(
    model: Model, nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any],
    tensors: Sequence[Any],
) -> Model:  # fmt: skip
    """A model of these parts, with the functions that its nodes call, and nothing for people."""
    made = type(model)(ir_version=model.ir_version)
    called, left = list(nodes), {(f.domain, f.name): f for f in model.functions}
    while called:
        node = called.pop()
        function = left.pop((node.domain, node.op_type), None)
        if function is not None:
            made.functions.append(function)
            called.extend(function.node)
        called.extend(inner for graph in _graphs(node) for inner in graph.node)
    made.opset_import.extend(model.opset_import)
    made.graph.name = model.graph.name
    made.graph.node.extend(nodes)
    made.graph.input.extend(inputs)
    made.graph.output.extend(outputs)
    made.graph.initializer.extend(tensors)
    return made


def _renamed(node: Any, edits: Edits, replaced: set[Any]) -> Any:
    """A node that reads what stands for its inputs, and gives nothing that is replaced."""
    made = type(node)()
    made.CopyFrom(node)
    made.doc_string = ""
    for i, name in enumerate(node.output):
        if name in replaced:
            made.output[i] = f"{name} before"
    _rename(made, edits, frozenset())
    return made


def _rename(node: Any, edits: Edits, own: frozenset[str]) -> None:
    for i, name in enumerate(node.input):
        if name and name not in own:
            node.input[i] = resolved(edits, name)
    for graph in _graphs(node):
        names = [v.name for v in graph.input] + [t.name for t in graph.initializer]
        names += [name for inner in graph.node for name in inner.output]
        inside = own | set(names)
        for inner in graph.node:
            _rename(inner, edits, inside)
        for port in graph.output:
            if port.name not in inside:
                port.name = resolved(edits, port.name)


def _plain(type: Any) -> np.ndarray | None:
    """Ones of a type, zeros of whole numbers; None where an extent is not known."""
    from onnx import helper

    dims = [dim.dim_value for dim in type.tensor_type.shape.dim if dim.HasField("dim_value")]
    dtype = helper.tensor_dtype_to_np_dtype(type.tensor_type.elem_type)
    if len(dims) != len(type.tensor_type.shape.dim) or dtype.kind == "O":
        return None
    return _plain_array(dims, dtype)


def _plain_array(dims: Sequence[int], dtype: np.dtype) -> np.ndarray:
    return (np.zeros if dtype.kind in "iu" else np.ones)(dims, np.float32).astype(dtype)


def _tensor(array: np.ndarray, name: str) -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)


# ------------------------------------------------------------------ graphs and functions inside


def _lifted(model: Model) -> Iterator[Model]:
    """The model with its functions spelled out; then each graph inside as a model."""
    if model.functions:
        from onnx import inliner

        yield inliner.inline_local_functions(model)
    whole = _inferred(model, strict=False)
    types = _types(model)
    for node in whole.graph.node:
        for graph in _graphs(node):
            found = dict(types)
            _learn(found, (*graph.input, *graph.value_info, *graph.output))
            yield from _visited(model, graph, found)


def _visited(model: Model, graph: Any, types: dict[str, Any]) -> Iterator[Model]:
    from onnx import ValueInfoProto

    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    read = [n for n in _outer(graph) if n not in constants]
    read += [port.name for port in graph.input]
    outputs = [port.name for port in graph.output]
    given = {name for node in graph.node for name in node.output}
    if not all(name in types for name in (*read, *outputs)) or not given.issuperset(outputs):
        return
    ports = {n: ValueInfoProto(name=n, type=types[n]) for n in (*read, *outputs)}
    tensors = [*graph.initializer, *(constants[n] for n in _outer(graph) if n in constants)]
    yield _made(model, graph.node, [ports[n] for n in read], [ports[n] for n in outputs], tensors)


def _inner(model: Model) -> Iterator[tuple[Model, Callable[[Model, Model], Model | None]]]:
    """Graphs inside are reduced as models of their own, or not at all."""
    yield from ()


# ------------------------------------------------------------------ simpler values


def _simpler(model: Model) -> Iterator[Sequence[Edit]]:
    types = _types(model)
    extents = {dim.dim_value for found in types.values() for dim in found.tensor_type.shape.dim} | {
        n for tensor in model.graph.initializer for n in tensor.dims
    }
    for smaller in smaller_extents(extents):
        yield [partial(_resized, each) for each in smaller]
    for place, node in enumerate(model.graph.node):
        for attribute in node.attribute:
            if not _is_required(node, attribute.name, model.opset_import):
                yield [partial(_without_attribute, place, attribute.name)]
        for number in _optional(node, model.opset_import):
            yield [partial(_without_input, place, number)]
    for tensor in model.graph.initializer:
        makes = (_plain_like, np.zeros_like, _first_everywhere, np.round)
        yield [partial(_with_constant, tensor.name, make) for make in makes]


def _schema(node: Any, opsets: Any) -> Any:
    """What `onnx` says about an operator; None about those of others."""
    from onnx import defs

    version = next((o.version for o in opsets if o.domain == node.domain), 0)
    try:
        return defs.get_schema(node.op_type, version, node.domain)
    except defs.SchemaError:
        return None


def _optional(node: Any, opsets: Any) -> list[int]:
    """The places of inputs that may be left out, the last first."""
    schema = _schema(node, opsets)
    ports = schema.inputs if schema else ()
    optional = [i for i, port in enumerate(ports) if port.option == port.option.Optional]
    return [i for i in reversed(optional) if i < len(node.input)]


def _is_required(node: Any, name: str, opsets: Any) -> bool:
    schema = _schema(node, opsets)
    if schema is None or node.op_type == "Constant":
        return True
    return name not in schema.attributes or schema.attributes[name].required


def _plain_like(array: np.ndarray) -> np.ndarray:
    return _plain_array(array.shape, array.dtype)


def _first_everywhere(array: np.ndarray) -> np.ndarray:
    return np.full_like(array, array.reshape(-1)[0])


def _with_constant(
    name: str, make: Callable[[np.ndarray], np.ndarray], model: Model
) -> Model | None:
    """One constant with simpler numbers; None where it is uniform already, or gone."""
    from onnx import numpy_helper

    made = _copy(model)
    for tensor in made.graph.initializer:
        array = numpy_helper.to_array(tensor) if tensor.name == name else np.zeros(0)
        if array.size and array.dtype.kind in "fiub" and (array != array.reshape(-1)[0]).any():
            tensor.CopyFrom(_tensor(make(array), name))
            return made
    return None


def _without_attribute(place: int, name: str, model: Model) -> Model | None:
    made = _copy(model)
    node = made.graph.node[place]
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    if len(kept) == len(node.attribute):
        return None
    del node.attribute[:]
    node.attribute.extend(kept)
    return _checked(made, model)


def _without_input(place: int, number: int, model: Model) -> Model | None:
    """One input of a node left out, and what only that node read."""
    if len(model.graph.node[place].input) <= number or not model.graph.node[place].input[number]:
        return None
    made = _copy(model)
    node = made.graph.node[place]
    node.input[number] = ""
    while node.input and not node.input[-1]:
        node.input.pop()
    read = {name for each in made.graph.node for name in _reads(each)}
    for part in (made.graph.input, made.graph.initializer):
        kept = [each for each in part if each.name in read]
        del part[:]
        part.extend(kept)
    return _checked(made, model)


def _resized(smaller: Mapping[int, int], model: Model) -> Model | None:
    """Smaller extents wherever one is a key: in inputs, constants, shapes and attributes."""
    made = _copy(model)
    for port in made.graph.input:
        for dim in port.type.tensor_type.shape.dim:
            if dim.dim_value in smaller:
                dim.dim_value = smaller[dim.dim_value]
    for node in made.graph.node:
        for attribute in node.attribute:
            if attribute.name == "value" and attribute.HasField("t"):
                _shrink(attribute.t, smaller)
            elif attribute.name in EXTENTS:
                attribute.i = smaller.get(attribute.i, attribute.i)
                attribute.ints[:] = [smaller.get(n, n) for n in attribute.ints]
    for tensor in made.graph.initializer:
        _shrink(tensor, smaller)
    return None if _key(made) == _key(model) else _checked(made, model)


def _shrink(tensor: Any, smaller: Mapping[int, int]) -> None:
    """Cuts a constant; one that may be a shape tells smaller extents, too."""
    from onnx import numpy_helper

    array = numpy_helper.to_array(tensor)
    part = array[tuple(slice(smaller.get(n, n)) for n in array.shape)]
    if part.dtype == np.int64 and part.size <= INDICES:
        told = [smaller.get(n, n) for n in part.reshape(-1).tolist()]
        part = np.array(told, np.int64).reshape(part.shape)
    if part is not array:
        tensor.CopyFrom(_tensor(part, tensor.name))


def _checked(model: Model, before: Model) -> Model | None:
    """The model with the types of its outputs; None if shape inference refuses it, but not the one
    before. That may be the failure that is looked for, but hardly ever is."""
    from onnx.shape_inference import InferenceError

    del model.graph.value_info[:]
    for port in model.graph.output:
        port.type.tensor_type.ClearField("shape")
    try:
        found = _inferred(model, strict=True)
    except InferenceError:
        return None if _is_sound(before) else model
    for port, typed in zip(model.graph.output, found.graph.output):
        port.CopyFrom(typed)
    return model


def _is_sound(model: Model) -> bool:
    from onnx.shape_inference import InferenceError

    try:
        _inferred(model, strict=True)
    except InferenceError:
        return False
    return True


ONNX: Form[Model] = Form(_nodes, _key, _net, _simpler, _lifted, _inner)
