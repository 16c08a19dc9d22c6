"""Storage types in machine code: every cast and quantization equals the interpreter, bit for bit.

All cases of a kind are one graph, so that they cost one compilation.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")

import ml_dtypes

import brim
from brim.errors import InputError
from brim.frontends.onnx import import_model
from brim.frontends.onnx.tensors import NUMBERS
from brim.graph import Graph, evaluate, placeholder
from brim.ops import primitive as p
from brim.ops.quantized import dequantize
from brim.ops.storage import convert, decode
from brim.runtime.artifact import open_artifact
from brim.types import BF16, F16, F32, F64, I4, I8, STORAGE, DType, Type, as_numbers
from tests import quantized_cases as cases
from tests.onnx_models import model, node
from tests.storage_numbers import codes, plain


def same(got: np.ndarray, wanted: np.ndarray, name: str) -> None:
    assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape), name
    nan = np.isnan(as_numbers(wanted)) & np.isnan(as_numbers(got))
    np.testing.assert_array_equal(plain(got)[~nan], plain(wanted)[~nan], err_msg=name)


def check(parts: list[tuple[str, object, dict]]) -> None:
    proto, feeds = cases.together(parts)  # type: ignore[arg-type]
    wanted = evaluate(import_model(proto.SerializeToString()), feeds)
    got = brim.load(proto.SerializeToString()).run(feeds)
    for number, (name, _, _) in enumerate(parts):
        same(got[f"y{number}"], wanted[f"y{number}"], name)


def casts() -> list[tuple[str, object, dict]]:
    return [
        (name, cases.single("Cast", {"x": (a, x.shape)}, b, 25, to=NUMBERS[b]), {"x": x})
        for name, a, b, x in cases.casts()
    ]


ALL = {
    "casts": casts,
    "quantizations": lambda: list(cases.quantizations()),
    "dequantizations": lambda: list(cases.dequantizations()),
}


@pytest.mark.parametrize("kind", ALL)
def test_some_conversions(kind: str) -> None:
    check(ALL[kind]()[::11])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ALL)
def test_all_conversions(kind: str) -> None:
    check(ALL[kind]())


def test_f64_becomes_f16_in_one_rounding() -> None:
    half = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float64)
    middle = (half[1:] + half[:-1]) / 2
    ends = [65519.999999, 65520, 1e300, np.inf, -np.inf, np.nan, 5e-324, -0.0]
    x = np.concatenate(
        [middle, np.nextafter(middle, 0), np.nextafter(middle, 1e300), -middle, ends]
    )
    value = placeholder(Type(x.shape, F64))
    got = brim.compile(Graph({"x": value}, {"y": p.cast(value, to=F16)})).run({"x": x})["y"]
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(got, x.astype(np.float16))


@pytest.mark.parametrize("dtype", STORAGE, ids=str)
def test_moves_and_artifacts(dtype: DType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that takes, holds and gives a storage type; saved, tested by itself, and loaded."""
    x = placeholder(Type((4, 6), dtype))
    table = brim.graph.const(np.resize(codes(dtype), (8, 6)))
    y = p.concat(p.transpose(x, perm=(1, 0)), p.transpose(table, perm=(1, 0)), axis=1)
    graph = Graph({"x": x}, {"y": y, "same": x, "real": decode(y, to=F32)})
    fed = {"x": np.resize(codes(dtype)[::-1], (4, 6))}
    built = brim.compile(graph)
    wanted = evaluate(graph, fed)
    built.save(tmp_path / "net.brim")
    open_artifact(tmp_path / "net.brim").self_test(trust=True)
    again = brim.load(tmp_path / "net.brim", trust=True)
    for name in wanted:
        same(built.run(fed)[name], wanted[name], name)
        same(again.run(fed)[name], wanted[name], name)
    assert built.inputs["x"] == Type((4, 6), dtype)
    monkeypatch.setenv("BRIM_DUMP", str(tmp_path))
    brim.compile(graph)
    (dump,) = tmp_path.glob("**/00_import.graph")
    same(brim.load(dump).run(fed)["y"], wanted["y"], "from a dump")
    with pytest.raises(InputError, match=f"the model wants {dtype.numpy}"):
        built.run({"x": fed["x"].astype(np.float32)})


def test_bfloat16_network() -> None:
    """A convolution and a product in bf16: what the interpreter gives, within one rounding."""
    rng = np.random.default_rng(0)

    def weights(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) / 4).astype(ml_dtypes.bfloat16)

    nodes = [
        node("Conv", "x w", "c", kernel_shape=[3, 3]), node("Relu", "c", "r"),
        node("Flatten", "r", "f"), node("MatMul", "f m", "p"), node("Softmax", "p", "y"),
    ]  # fmt: skip
    proto = model(
        nodes, [("x", NUMBERS[BF16], (2, 3, 6, 6))], [("y", NUMBERS[BF16], (2, 5))],
        {"w": weights(4, 3, 3, 3), "m": weights(64, 5)},
    )  # fmt: skip
    feeds = {"x": weights(2, 3, 6, 6)}
    wanted = evaluate(import_model(proto), feeds)["y"]
    got = brim.load(proto.SerializeToString()).run(feeds)["y"]
    assert got.dtype == wanted.dtype == ml_dtypes.bfloat16
    np.testing.assert_allclose(as_numbers(got), as_numbers(wanted), rtol=2**-7)


def test_conversions_fuse() -> None:
    """bf16 arithmetic and int4 weights by blocks are one kernel each, and vectors."""
    a, b = (placeholder(Type((64, 64), BF16)) for _ in range(2))
    total = convert(p.add(decode(a, to=F32), decode(b, to=F32)), BF16)
    (kernel,) = brim.compile(Graph({"a": a, "b": b}, {"y": total})).report().kernels
    assert "lanes 1;" not in kernel.schedule
    x = placeholder(Type((64, 64), I4))
    scale, zero = placeholder(Type((64, 2), F32)), placeholder(Type((64, 2), I4))

    def blocks(value: brim.graph.Value) -> brim.graph.Value:
        apart = p.broadcast(p.reshape(value, shape=(64, 2, 1)), shape=(64, 2, 32))
        return p.reshape(apart, shape=(64, 64))

    y = dequantize(x, blocks(scale), blocks(zero))
    (kernel,) = brim.compile(Graph({"x": x, "s": scale, "z": zero}, {"y": y})).report().kernels
    assert "lanes 1;" not in kernel.schedule
    assert I4.carrier == I8
