"""Makes a failing model small: one node if that fails by itself, else fewer nodes; then less data.

Every step keeps what the caller's test says of the model. No engine is known here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import onnx
from onnx import numpy_helper

from tests.extra.fuzz_models.compose import Sample
from tests.extra.fuzz_models.engines import Refused
from tests.extra.fuzz_models.models import Arrays, by_nodes, needed_nodes, opset_of

Fails = Callable[[Sample], bool]
ROUNDS = 40  # shrinking is a convenience, not the aim


def shrink(sample: Sample, fails: Fails) -> Sample:
    """The smallest model found on which `fails` still holds."""
    try:
        for model, feeds in by_nodes(sample.model, sample.feeds):
            part = Sample(model, feeds)
            if fails(part):
                return _smaller(part, fails, _less_data)
    except Refused:
        pass
    return _smaller(_smaller(sample, fails, _fewer_nodes), fails, _less_data)


def _smaller(sample: Sample, fails: Fails, steps: Callable[[Sample], Iterator[Sample]]) -> Sample:
    for _ in range(ROUNDS):
        found = next((candidate for candidate in steps(sample) if fails(candidate)), None)
        if found is None:
            break
        sample = found
    return sample


def _fewer_nodes(sample: Sample) -> Iterator[Sample]:
    """The model with one output, and with only the nodes before one of its values."""
    graph = sample.model.graph
    if len(graph.output) > 1:
        for port in graph.output:
            yield _with_outputs(sample, [port.name])
    for node in graph.node[:-1]:
        yield _with_outputs(sample, [name for name in node.output if name])


def _with_outputs(sample: Sample, names: list[str]) -> Sample:
    """The part of the model that these values need."""
    kept, wanted = needed_nodes(sample.model.graph.node, names)
    model = onnx.ModelProto()
    model.CopyFrom(sample.model)
    known = {port.name: port for port in model.graph.output}
    ports = [known.get(name, onnx.ValueInfoProto(name=name)) for name in names]
    inputs = [port for port in model.graph.input if port.name in wanted]
    constants = [tensor for tensor in model.graph.initializer if tensor.name in wanted]
    for part in ("node", "input", "output", "initializer"):
        model.graph.ClearField(part)
    model.graph.node.extend(kept)
    model.graph.input.extend(inputs)
    model.graph.output.extend(ports)
    model.graph.initializer.extend(constants)
    present = {port.name for port in inputs}
    return Sample(model, {n: a for n, a in sample.feeds.items() if n in present})


def _less_data(sample: Sample) -> Iterator[Sample]:
    """All axes of one extent cut to their first half, in inputs and constants alike."""
    constants = {t.name: numpy_helper.to_array(t) for t in sample.model.graph.initializer}
    extents = {n for a in (*sample.feeds.values(), *constants.values()) for n in a.shape if n > 1}
    for extent in sorted(extents, reverse=True):
        yield _rebuilt(sample, _cut(sample.feeds, extent), _cut(constants, extent))


def _cut(arrays: Arrays, extent: int) -> Arrays:
    return {
        name: array[tuple(slice(extent // 2 if n == extent else n) for n in array.shape)]
        for name, array in arrays.items()
    }


def _rebuilt(sample: Sample, feeds: Arrays, constants: Arrays) -> Sample:
    from tests.extra.fuzz_models.models import make_model

    graph = sample.model.graph
    domains = [o.domain for o in sample.model.opset_import if o.domain]
    model = make_model(graph.node, feeds, constants, {}, opset_of(sample.model), domains)
    model.graph.output.extend(onnx.ValueInfoProto(name=port.name) for port in graph.output)
    return Sample(model, {name: np.ascontiguousarray(array) for name, array in feeds.items()})
