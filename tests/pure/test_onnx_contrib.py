"""onnxruntime's own operators without onnxruntime: refusals, unknown shapes, and forms that its CPU
has not, which equal those that it has.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")

from brim.errors import UnsupportedError
from brim.frontends.onnx import import_model
from brim.graph import evaluate
from tests.onnx_models import BOOL, model, node
from tests.onnx_models import F32 as FLOAT

MICROSOFT = "com.microsoft"
INT = 6  # i32
RNG = np.random.default_rng(0)


def contrib(nodes: list[Any], inputs: list[Any], outputs: str, weights: Any = None) -> Any:
    """A model of f32 outputs that knows onnxruntime's domain."""
    found = model(nodes, inputs, [(name, FLOAT, None) for name in outputs.split()], weights)
    for domain in (MICROSOFT, "com.microsoft.nchwc"):
        opset = found.opset_import.add()
        opset.domain, opset.version = domain, 1
    return found


def run(found: Any, **feeds: np.ndarray) -> list[np.ndarray]:
    return list(evaluate(import_model(found), feeds).values())


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    ("op", "domain", "reason"),
    [
        ("ReorderInput", "com.microsoft.nchwc", "one machine.*ORT_ENABLE_EXTENDED"),
        ("BeamSearch", "com.microsoft", "load the decoder alone"),
        ("QMoE", "com.microsoft", "mixture of experts"),
        ("GroupNorm", "com.microsoft", "fusion for GPUs"),
    ],
)
def test_operators_are_refused_with_their_reason(op: str, domain: str, reason: str) -> None:
    found = contrib([node(op, "x", "y", domain=domain)], [("x", FLOAT, (2, 3))], "y")
    with pytest.raises(UnsupportedError, match=reason):
        import_model(found)


def test_unknown_shapes_make_host_steps() -> None:
    nodes = [
        node("Compress", "x keep", "rows", axis=0),
        node("FastGelu", "rows", "y", domain=MICROSOFT),
        node("SkipLayerNormalization", "rows rows scale", "z _ _ sum", domain=MICROSOFT),
    ]
    inputs = [("x", FLOAT, (4, 8)), ("keep", BOOL, (4,))]
    scale = np.linspace(1, 2, 8, dtype=np.float32)
    found = contrib(nodes, inputs, "y z sum", {"scale": scale})
    x, keep = normal(4, 8), np.array([True, False, True, True])
    y, z, total = run(found, x=x, keep=keep)
    r = x[keep].astype(np.float64)
    wanted = r / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (r + 0.044715 * r**3)))
    np.testing.assert_allclose(y, wanted, atol=1e-6)
    np.testing.assert_allclose(total, 2 * r, atol=1e-6)
    centred = 2 * r - (2 * r).mean(1, keepdims=True)
    wanted = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-12) * scale
    np.testing.assert_allclose(z, wanted, atol=1e-5)


def attention(inputs: list[tuple[str, np.ndarray | None]], **attributes: Any) -> np.ndarray:
    """MultiHeadAttention of 3 heads; inputs in order, None for those left out."""
    names = " ".join("_" if array is None else name for name, array in inputs)
    ports = [(name, FLOAT, array.shape) for name, array in inputs if array is not None]
    found = contrib(
        [node("MultiHeadAttention", names, "y", domain=MICROSOFT, num_heads=3, **attributes)],
        ports,
        "y",
    )
    return run(found, **{name: array for name, array in inputs if array is not None})[0]


def test_packed_projections_equal_separate_ones() -> None:
    query, key, value = (normal(2, 5, 3, 4) for _ in range(3))
    flat = [x.reshape(2, 5, 12) for x in (query, key, value)]
    bias = normal(36)
    wanted = attention([("q", flat[0]), ("k", flat[1]), ("v", flat[2]), ("b", bias)])
    packed = np.stack([query, key, value], axis=3)
    found = attention([("q", packed), ("k", None), ("v", None), ("b", bias)])
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    pairs = np.stack([key, value], axis=3)
    found = attention([("q", flat[0]), ("k", pairs), ("v", None), ("b", bias)])
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_a_length_that_is_not_known_makes_a_host_step() -> None:
    arrays = {"q": normal(2, 1, 64), "k": normal(2, 1, 32), "v": normal(2, 1, 32)}
    arrays |= {"past_k": normal(2, 2, 5, 16), "past_v": normal(2, 2, 5, 16)}
    arrays["last"] = np.array([5, 3], np.int32)
    total = {"total": np.array(6, np.int32)}
    outputs = "y present_k present_v"
    heads = {"num_heads": 4, "kv_num_heads": 2}
    names = " ".join([*arrays, *total])
    step = node("GroupQueryAttention", names, outputs, domain=MICROSOFT, **heads)
    ports = [(name, INT if name == "last" else FLOAT, a.shape) for name, a in arrays.items()]
    wanted = run(contrib([step], ports, outputs, total), **arrays)
    assert [a.shape for a in wanted] == [(2, 1, 64), (2, 2, 6, 16), (2, 2, 6, 16)]
    np.testing.assert_array_equal(wanted[1][1, :, 3], arrays["k"][1].reshape(2, 16))
    assert not wanted[1][1, :, 4:].any()
    found = run(contrib([step], [*ports, ("total", INT, ())], outputs), **arrays, **total)
    for a, b in zip(found, wanted):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("whole", [False, True])
def test_constant_weights_of_a_few_bits_stay_small(bits: int, whole: bool) -> None:
    rows, blocks, block = 6, 4, 32
    codes = RNG.integers(0, 256, (rows, blocks, block * bits // 8)).astype(np.uint8)
    scale = RNG.uniform(0.5, 2, (rows, blocks)).astype(np.float32)
    zero = RNG.integers(0, 256, (rows, blocks * bits // 8)).astype(np.uint8)
    sizes = {"N": rows, "K": blocks * block, "block_size": block, "bits": bits}
    names = "x codes scale zero" if whole else "x codes scale"
    step = node("MatMulNBits", names, "y", domain=MICROSOFT, **sizes)
    constants = {"codes": codes, "scale": scale, "zero": zero}
    found = contrib([step], [("x", FLOAT, (1, blocks * block))], "y", constants)
    graph = import_model(found)
    stored = sum(v.data.nbytes for v in graph.values() if v.data is not None)
    assert stored < codes.nbytes + 2 * scale.nbytes + 100
    x = normal(1, blocks * block)
    numbers = codes if bits == 8 else np.stack([codes & 15, codes >> 4], -1)
    numbers = numbers.reshape(rows, blocks, block).astype(np.float32)
    points = np.full((rows, blocks), 1 << (bits - 1))
    if whole:
        points = zero if bits == 8 else np.stack([zero & 15, zero >> 4], -1)
    real = (numbers - points.reshape(rows, blocks, 1)) * scale[..., None]
    (y,) = run(found, x=x)
    np.testing.assert_allclose(y, x @ real.reshape(rows, -1).T, 1e-5, 1e-2)
