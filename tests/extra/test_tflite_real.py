"""The real TFLite models of the zoo equal LiteRT end to end: vision, pitch, wake words, tiny twins.

LiteRT has two sets of kernels, its own and XNNPACK's, which round differently, and networks amplify
that. brim may differ from LiteRT's own kernels by 1e-5 of the largest number, or by one quantum, or
by as much as XNNPACK does. Where a network of floats differs by more, f64 says who is nearer to the
truth. The last layers of classifiers hide much: quantized ones are compared layer by layer, too.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import flatbuffers
import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")
pytest.importorskip("tflite")

from ai_edge_litert import schema_py_generated as schema

import brim
from brim import zoo
from brim.errors import UnsupportedError
from brim.frontends.tflite import import_model
from brim.graph import evaluate
from brim.tools.in_double import evaluate_in_double
from tests.tflite_models import Feed, run_litert

pytestmark = [pytest.mark.peer("ai_edge_litert"), pytest.mark.network]
REFUSED = "face-mesh-attention"
MODELS = [e.name for e in zoo.list() if e.file_name.endswith(".tflite") and e.name != REFUSED]
QUANTIZED = ("tiny-", "wake-")  # but for their twins in float, which agree anyway
STREAMS = [name for name in MODELS if name.startswith("wake-")]
MASKS = ("person-mask", "person-mask-wide")
# The largest takes some seconds to compile; one of each kind runs in every test run.
QUICK = ("face-detect", "person-mask", "tiny-resnet8", "tiny-autoencoder", "tiny-magic-wand")
STEPS = 12
FLOAT = 1e-5


@cache
def astronaut() -> np.ndarray:
    """f32[512, 512, 3] from 0 to 1."""
    pictures = pytest.importorskip("PIL.Image")
    picture = pictures.open(zoo.get("astronaut")).convert("RGB")
    return np.asarray(picture, np.float32) / 255


def as_builtin(model: bytes) -> bytes:
    """Convolution2DTransposeBias as the builtin operator, whose bias LiteRT knows as well."""
    parts = schema.ModelT.InitFromPackedBuf(model)
    graph = parts.subgraphs[0]
    (code,) = (i for i, c in enumerate(parts.operatorCodes) if c.customCode)
    parts.operatorCodes[code] = schema.OperatorCodeT(
        67, None, 3, schema.BuiltinOperator.TRANSPOSE_CONV
    )
    (step,) = (o for o in graph.operators if o.opcodeIndex == code)
    shape = graph.tensors[step.outputs[0]].shape
    parts.buffers.append(
        schema.BufferT(data=np.frombuffer(shape.astype(np.int32).tobytes(), np.uint8))
    )
    size = schema.TensorT(np.array([4], np.int32), schema.TensorType.INT32, len(parts.buffers) - 1)
    graph.tensors.append(size)
    pixels, weights, bias = step.inputs
    step.inputs = np.array([len(graph.tensors) - 1, weights, pixels, bias], np.int32)
    _, stride_w, stride_h = np.frombuffer(bytes(step.customOptions), np.int32)
    options = schema.TransposeConvOptionsT(schema.Padding.SAME, int(stride_w), int(stride_h))
    step.builtinOptionsType, step.customOptions = schema.BuiltinOptions.TransposeConvOptions, None
    step.builtinOptions = options
    return packed(parts)


def packed(parts: schema.ModelT) -> bytes:
    builder = flatbuffers.Builder(1024)
    builder.Finish(parts.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def feeds(model: brim.Model, count: int) -> list[Feed]:
    """Real pixels for networks of pictures, else noise over the whole range."""
    rng = np.random.default_rng(0)
    drawn: list[Feed] = []
    for _ in range(count):
        feed = {}
        for name, type in model.inputs.items():
            shape = tuple(n if isinstance(n, int) else 1 for n in type.shape or ())
            if type.dtype.is_whole:
                low, high = (0, 256) if type.dtype.name[0] == "u" else (-128, 128)
                feed[name] = rng.integers(low, high, shape).astype(type.dtype.numpy)
            elif shape[-1] == 3 and len(shape) == 4:
                rows, columns = (np.arange(n) * 512 // n for n in shape[1:3])
                feed[name] = astronaut()[rows][:, columns][None]
            else:
                feed[name] = rng.uniform(-1, 1, shape).astype(np.float32)
        drawn.append(feed)
    return drawn


def distance(got: Feed, expected: Feed) -> float:
    """Largest difference: in quanta of integers, of floats in parts of FLOAT of the largest."""
    worst = 0.0
    for mine, theirs in zip(got.values(), expected.values(), strict=True):
        assert mine.shape == theirs.shape
        assert mine.dtype == theirs.dtype
        apart = np.abs(mine.astype(np.float64) - theirs.astype(np.float64)).max()
        assert np.isfinite(apart)
        if theirs.dtype.kind == "f":
            apart /= FLOAT * np.abs(theirs).max()
        worst = max(worst, float(apart))
    return worst


def check(name: str) -> None:
    content = zoo.get(name).read_bytes()
    model = brim.load(content)
    given = feeds(model, STEPS if name in STREAMS else 1)
    peer = as_builtin(content) if name in MASKS else content
    ports = dict(zip(model.inputs, names_of_inputs(peer), strict=True))
    asked = [{ports[key]: array for key, array in feed.items()} for feed in given]
    expected, others = run_litert(peer, asked), run_litert(peer, asked, "default")
    for feed, theirs, other in zip(given, expected, others, strict=True):
        got = model.run(feed)
        apart, allowed = distance(got, theirs), max(1.0, distance(other, theirs))
        if apart > allowed and not name.startswith(QUANTIZED):
            truth = evaluate_in_double(import_model(content), dict(feed))
            apart, *both = (error(run, truth) for run in (got, theirs, other))
            allowed = max(both)
        assert apart <= allowed


def names_of_inputs(model: bytes) -> list[str]:
    graph = schema.ModelT.InitFromPackedBuf(model).subgraphs[0]
    return [graph.tensors[i].name.decode() for i in graph.inputs]


def error(got: Feed, truth: Feed) -> float:
    """Root mean square over all outputs, each in parts of its largest number.

    The largest error is one amplified number, a matter of luck.
    """
    parts = [
        np.mean((mine - true) ** 2) / np.abs(true).max() ** 2
        for mine, true in zip(got.values(), truth.values(), strict=True)
    ]
    return float(np.sqrt(np.mean(parts)))


@pytest.mark.parametrize("name", QUICK)
def test_equal_to_litert(name: str) -> None:
    check(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in MODELS if n not in QUICK])
def test_all_equal_to_litert(name: str) -> None:
    check(name)


def layer_by_layer(content: bytes) -> bytes:
    """The model with the result of each of its operators as an output."""
    parts = schema.ModelT.InitFromPackedBuf(content)
    (graph,) = parts.subgraphs
    graph.outputs = np.array([step.outputs[0] for step in graph.operators], np.int32)
    parts.signatureDefs = []
    return packed(parts)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow])
        for name in MODELS
        if name.startswith("tiny-") and not name.endswith("-f32")
    ],
)
def test_each_layer_is_equal(name: str) -> None:
    """In the interpreter: compiled code fuses layers where nobody looks between them."""
    content = layer_by_layer(zoo.get(name).read_bytes())
    (feed,) = feeds(brim.load(content), 1)
    graph = import_model(content, {key: array.shape for key, array in feed.items()})
    (theirs,), (other,) = run_litert(content, [feed]), run_litert(content, [feed], "default")
    for key, array in evaluate(graph, feed).items():
        layer = {key: array}, {key: theirs[key]}, {key: other[key]}
        assert distance(*layer[:2]) <= max(1.0, distance(layer[2], layer[1])), key


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_begins_anew_with_each_model(name: str) -> None:
    """What a model remembers is its own: another one, loaded alike, gives its first answers."""
    first, second = brim.load(zoo.get(name)), brim.load(zoo.get(name))
    given = feeds(first, 3)
    answers = [first.run(feed) for feed in given]
    for feed, answer in zip(given, answers):
        for key, array in second.run(feed).items():
            np.testing.assert_array_equal(array, answer[key])


def test_operators_that_nobody_implements_are_named() -> None:
    with pytest.raises(UnsupportedError) as caught:
        brim.load(Path(zoo.get(REFUSED)))
    for operator in ("Landmarks2TransformMatrix", "TransformTensorBilinear", "TransformLandmarks"):
        assert operator in str(caught.value)
