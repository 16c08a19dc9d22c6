"""Those who run a model: brim's interpreter and machine code, onnxruntime, onnx's reference.

Each takes a model and arrays and gives arrays by name, or raises Refused with its reason.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping

import numpy as np
import onnx
import onnx.shape_inference

from tests.extra.fuzz_models.models import Arrays, element_type, single


class Refused(Exception):
    """An engine does not run this model."""


def interpreter(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> Arrays:
    """brim's import and numpy interpreter."""
    from brim.errors import BrimError
    from brim.frontends.onnx import import_model
    from brim.graph import evaluate

    try:
        return evaluate(import_model(model.SerializeToString()), feeds)
    except BrimError as error:
        raise Refused(f"{type(error).__name__}: {error.what} {error.why}") from None


def compiled(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> Arrays:
    """brim's machine code."""
    import brim
    from brim.errors import BrimError

    try:
        return brim.load(model.SerializeToString()).run(feeds)
    except BrimError as error:
        raise Refused(f"{type(error).__name__}: {error.what} {error.why}") from None


def onnxruntime(
    model: onnx.ModelProto, feeds: Mapping[str, np.ndarray], optimised: bool = True
) -> Arrays:
    """onnxruntime on the CPU, one thread."""
    import onnxruntime as ort

    ort.set_default_logger_severity(4)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    if not optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        wanted = {port.name for port in session.get_inputs()}
        given = {name: array for name, array in feeds.items() if name in wanted}
        results = session.run(None, given)
    except Exception as error:  # its errors have no common base
        raise Refused(" ".join(str(error).split())[:300]) from None
    return _named(model, results)


def plain_onnxruntime(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> Arrays:
    """onnxruntime without its optimisations."""
    return onnxruntime(model, feeds, optimised=False)


def reference(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> Arrays:
    """onnx's ReferenceEvaluator."""
    from onnx.reference import ReferenceEvaluator

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            results = ReferenceEvaluator(model).run(None, dict(feeds))
        except Exception as error:
            raise Refused(f"{type(error).__name__}: {error}"[:300]) from None
    named = _named(model, results)
    if not _types_fit(model, named):
        raise Refused("a result has another type than the standard says")
    return named


def _named(model: onnx.ModelProto, results: list[object]) -> Arrays:
    if any(result is None or isinstance(result, (list, dict)) for result in results):
        raise Refused("a result is no tensor")
    arrays = [np.asarray(result) for result in results]
    arrays = [array.astype(object) if array.dtype.kind in "US" else array for array in arrays]
    return dict(zip((port.name for port in model.graph.output), arrays))


Engine = Callable[[onnx.ModelProto, Mapping[str, np.ndarray]], Arrays]
BRIM: dict[str, Engine] = {"interpreter": interpreter, "compiled": compiled}
PEERS: dict[str, Engine] = {"onnxruntime": onnxruntime, "reference": reference}


def settle(node: onnx.NodeProto, known: Arrays, opset: int, home: str = "") -> Arrays:
    """What a node computes, by the first peer that can, or by brim where no peer can.

    home: this peer has to. Raises Refused where nobody can: such a node is no use in a chain.
    """
    model = single(node, known, opset)
    reasons = []
    for engine in (PEERS[home],) if home else (*PEERS.values(), interpreter):
        try:
            results = engine(model, known)
        except Refused as error:
            reasons.append(str(error))
            continue
        if _shapes_fit(model, results):
            return results
        reasons.append("a result has another shape than the standard says")
    raise Refused(f"{node.op_type}: {' | '.join(reasons)}")


def _types_fit(model: onnx.ModelProto, results: Arrays) -> bool:
    """Whether results have the types that the model declares, or else those that onnx infers."""
    declared = all(port.type.tensor_type.elem_type for port in model.graph.output)
    inferred = model if declared else onnx.shape_inference.infer_shapes(model)
    types = {port.name: port.type.tensor_type.elem_type for port in inferred.graph.output}
    return all(types[name] in (0, element_type(a.dtype)) for name, a in results.items())


def _shapes_fit(model: onnx.ModelProto, results: Arrays) -> bool:
    inferred = onnx.shape_inference.infer_shapes(model)
    for port in inferred.graph.output:
        if port.type.tensor_type.HasField("shape"):
            dims = port.type.tensor_type.shape.dim
            shape = results[port.name].shape
            if len(dims) != len(shape):
                return False
            if any(d.HasField("dim_value") and d.dim_value != n for d, n in zip(dims, shape)):
                return False
    return True
