"""ONNX models with bfloat16, float8, float4, and 4- and 2-bit integers, imported and interpreted.

The judge is ONNX's reference evaluator, and its helpers for what files hold.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")

import ml_dtypes
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx.external_data_helper import convert_model_to_external_data
from onnx.reference import ReferenceEvaluator

from brim.errors import BrimError, ModelError, UnsupportedError
from brim.frontends.onnx import import_model
from brim.frontends.onnx.tensors import ELEMENTS, NUMBERS
from brim.graph import evaluate
from brim.types import (
    BF16,
    F8E4M3FN,
    F8E5M2,
    F8E8M0,
    F16,
    F32,
    STORAGE,
    STR,
    DType,
    Type,
    as_numbers,
)
from tests import quantized_cases as cases
from tests.onnx_models import I64, graph, model, node
from tests.storage_numbers import codes, plain

BFLOAT = TensorProto.BFLOAT16


def run(proto: ModelProto, **feeds: Any) -> list[Any]:
    return list(evaluate(import_model(proto.SerializeToString()), feeds).values())


def reference(proto: ModelProto, feeds: dict[str, np.ndarray]) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.asarray(ReferenceEvaluator(proto).run(None, feeds)[0])


def same(got: np.ndarray, wanted: np.ndarray, name: str) -> None:
    assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape), name
    nan = np.isnan(as_numbers(wanted)) & np.isnan(as_numbers(got))
    np.testing.assert_array_equal(plain(got)[~nan], plain(wanted)[~nan], err_msg=name)


# ------------------------------------------------------------------ tensors of a file


def with_tensor(tensor: TensorProto) -> ModelProto:
    """A model that gives one initializer."""
    found = model([node("Identity", "w", "y")], [], [("y", tensor.data_type, None)], opset=25)
    found.graph.initializer.append(tensor)
    return found


@pytest.mark.parametrize("dtype", STORAGE, ids=str)
@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 8])
@pytest.mark.parametrize("raw", [True, False])
def test_initializers(dtype: DType, count: int, raw: bool) -> None:
    array = np.resize(codes(dtype)[::-1], count)
    tensor = numpy_helper.from_array(array, "w")
    if not raw:  # the same bits in 32-bit integers: one for each value, or for each packed byte
        width = 2 if dtype == BF16 else 1
        found = np.frombuffer(tensor.raw_data, f"<u{width}").tolist()
        tensor.ClearField("raw_data")
        tensor.int32_data.extend(found)
    same(numpy_helper.to_array(tensor), array, "onnx reads what was meant")
    same(run(with_tensor(tensor))[0], array, str(dtype))


@pytest.mark.parametrize("dtype", STORAGE, ids=str)
@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("change", [-1, 1])
def test_tensors_of_another_size_are_refused(dtype: DType, raw: bool, change: int) -> None:
    tensor = TensorProto(name="w", data_type=NUMBERS[dtype], dims=[9])
    size = -(-9 * dtype.bits // 8) + change * max(dtype.bits // 8, 1)
    if raw:
        tensor.raw_data = bytes(size)
    else:
        tensor.int32_data.extend([0] * (size // dtype.bytes))
    with pytest.raises(ModelError, match=r"(bytes|values) for shape"):
        import_model(with_tensor(tensor))


@pytest.mark.parametrize("dims", [[1 << 20, 1 << 20], [1 << 62, 4], [-1], [1 << 40, 0, 1 << 40]])
def test_hostile_sizes_of_packed_tensors(dims: list[int]) -> None:
    tensor = TensorProto(name="w", data_type=TensorProto.INT2, dims=dims, raw_data=b"\x1b")
    with pytest.raises(BrimError):
        import_model(with_tensor(tensor))


def test_external_data(tmp_path: Path) -> None:
    import onnx

    array = np.array([[-8, 7, 3], [0, -1, 5], [1, 2, 4]], ml_dtypes.int4)
    found = with_tensor(numpy_helper.from_array(array, "w"))
    convert_model_to_external_data(found, location="w.bin", size_threshold=0)
    onnx.save_model(found, tmp_path / "net.onnx")
    assert (tmp_path / "w.bin").stat().st_size == 5
    same(evaluate(import_model(tmp_path / "net.onnx"), {})["y"], array, "external")


@pytest.mark.parametrize("number", [TensorProto.COMPLEX64, TensorProto.COMPLEX128])
def test_complex_numbers_are_refused(number: int) -> None:
    proto = model([node("Identity", "x", "y")], [("x", number, (2,))], [("y", number, (2,))])
    with pytest.raises(UnsupportedError, match="complex"):
        import_model(proto)


# ------------------------------------------------------------------ conversions


def test_every_cast_is_that_of_the_reference() -> None:
    """Where the reference has no answer (it cannot convert some pairs), ml_dtypes' values are."""
    seen = 0
    for name, source, to, x in cases.casts():
        proto = cases.single("Cast", {"x": (source, x.shape)}, to, 25, to=NUMBERS[to])
        try:
            wanted = reference(proto, {"x": x})
        except Exception:  # numpy has no such cast: by way of f32, which is exact here
            wanted = reference(
                cases.single("Cast", {"x": (F32, x.shape)}, to, 25, to=NUMBERS[to]),
                {"x": as_numbers(x).astype(np.float32)},
            )
        got = run(proto, x=x)[0]
        if to == F8E8M0 and source.name in ("f64", "i64", "u64", "i32", "u32"):
            continue  # the reference rounds to f32 before it rounds up
        same(got, wanted, name)
        seen += 1
    assert seen > 450


def test_casts_that_do_not_saturate() -> None:
    for to in (t for t in STORAGE if t.name.startswith("f8") and t != F8E8M0):
        x = cases.numbers(F32, to)
        proto = cases.single("Cast", {"x": (F32, x.shape)}, to, 25, to=NUMBERS[to], saturate=0)
        same(run(proto, x=x)[0], reference(proto, {"x": x}), str(to))
        like = cases.single(
            "CastLike", {"x": (F32, x.shape), "like": (to, (1,))}, to, 25, saturate=0
        )
        same(run(like, x=x, like=codes(to)[:1])[0], reference(proto, {"x": x}), str(to))


@pytest.mark.parametrize("dtype", STORAGE, ids=str)
def test_text_and_back(dtype: DType) -> None:
    x = codes(dtype)[:: max(1, len(codes(dtype)) // 256)]
    text = cases.single("Cast", {"x": (dtype, x.shape)}, STR, 25, to=TensorProto.STRING)
    written = run(text, x=x)[0]
    proto = model(
        [node("Cast", "x", "y", to=NUMBERS[dtype], saturate=0, round_mode="nearest")],
        [("x", TensorProto.STRING, x.shape)],
        [("y", NUMBERS[dtype], None)],
        opset=25,
    )
    back = run(proto, x=written)[0]
    known = ~np.isnan(as_numbers(x))
    np.testing.assert_array_equal(plain(back)[known], plain(x)[known])


@pytest.mark.parametrize(
    ("text", "to", "wanted"),
    [
        (" 1e3 ", TensorProto.INT32, 1000), ("-7", TensorProto.INT64, -7),
        ("9223372036854775807", TensorProto.INT64, (1 << 63) - 1), ("2.7", TensorProto.UINT8, 2),
        ("+inf", TensorProto.FLOAT, np.inf), ("NaN", TensorProto.DOUBLE, np.nan),
        ("0", TensorProto.BOOL, False), ("1.5", TensorProto.BFLOAT16, 1.5),
    ],
)  # fmt: skip
def test_numbers_in_text(text: str, to: int, wanted: float) -> None:
    proto = model([node("Cast", "x", "y", to=to)], [("x", 8, (1,))], [("y", to, None)], opset=25)
    got = run(proto, x=np.array([text], object))[0]
    assert got.dtype == ELEMENTS[to].numpy
    np.testing.assert_array_equal(as_numbers(got), [wanted])


@pytest.mark.parametrize(
    ("text", "to"),
    [("one", TensorProto.FLOAT), ("", TensorProto.INT8), ("1_0", TensorProto.INT32),
     ("300", TensorProto.UINT8), ("inf", TensorProto.INT32), ("9" * 5000, TensorProto.INT64),
     ("x", TensorProto.BFLOAT16)],
)  # fmt: skip
def test_text_that_is_no_number(text: str, to: int) -> None:
    proto = model([node("Cast", "x", "y", to=to)], [("x", 8, (1,))], [("y", to, None)], opset=25)
    with pytest.raises(BrimError):
        run(proto, x=np.array([text], object))


def test_bits_are_kept() -> None:
    for source, to in ((BF16, F16), (F16, BF16), (cases.I4, cases.U4), (F8E4M3FN, cases.I8)):
        x = codes(source) if source.kind == "n" else codes(BF16).view(np.float16)
        proto = cases.single("BitCast", {"x": (source, x.shape)}, to, 26, to=NUMBERS[to])
        got = run(proto, x=x)[0]
        assert got.dtype == to.numpy
        np.testing.assert_array_equal(got.view(f"u{got.itemsize}"), x.view(f"u{x.itemsize}"))


# ------------------------------------------------------------------ quantization


def test_quantizations_are_those_of_the_reference() -> None:
    for name, proto, feeds in cases.quantizations():
        same(run(proto, **feeds)[0], reference(proto, feeds), name)


def test_dequantizations_are_those_of_the_reference() -> None:
    for name, proto, feeds in cases.dequantizations():
        same(run(proto, **feeds)[0], reference(proto, feeds), name)


def test_the_type_of_the_scale_is_that_of_the_division() -> None:
    """As the text of ONNX says; its reference takes the wider of both types."""
    x, scale = np.float32([26.050613]), ml_dtypes.bfloat16(3.0625)
    ports = {"x": (F32, (1,)), "s": (BF16, ())}
    feeds = {"x": x, "s": np.asarray(scale)}
    plainly = cases.single("QuantizeLinear", ports, cases.U8, 25)
    quotient = (x.astype(ml_dtypes.bfloat16) / scale).astype(np.float32)
    assert run(plainly, **feeds)[0].tolist() == np.rint(quotient).tolist() == [8]
    precise = cases.single("QuantizeLinear", ports, cases.U8, 25, precision=TensorProto.FLOAT)
    assert run(precise, **feeds)[0].tolist() == reference(precise, feeds).tolist() == [9]


def test_scales_that_are_powers_of_two() -> None:
    x, scale = np.float32([[1, 5], [-3, 100]]), np.array([2, 0.5], F8E8M0.numpy)
    ports = {"x": (F32, (2, 2)), "s": (F8E8M0, (2,))}
    feeds = {"x": x, "s": scale}
    quantize = cases.single("QuantizeLinear", ports, cases.I8, 25, output_dtype=TensorProto.INT8)
    assert run(quantize, **feeds)[0].tolist() == [[0, 10], [-2, 127]]
    ports["x"] = (cases.I8, (2, 2))
    back = cases.single("DequantizeLinear", ports, F32, 25, output_dtype=TensorProto.FLOAT)
    assert run(back, x=x.astype(np.int8), s=scale)[0].tolist() == [[2, 2.5], [-6, 50]]


@pytest.mark.parametrize(
    ("scale", "attributes"),
    [((3,), {}), ((6, 3), {"block_size": 5}), ((6, 2), {"block_size": -5}), ((6, 2), {}),
     ((6, 10), {"block_size": 1, "axis": 2}), ((), {"output_dtype": TensorProto.INT64}),
     ((), {"output_dtype": TensorProto.FLOAT16}), ((), {"precision": TensorProto.INT8})],
)  # fmt: skip
def test_quantizations_that_do_not_fit(scale: tuple[int, ...], attributes: dict) -> None:
    ports = {"x": (F32, (6, 10)), "s": (F32, scale)}
    with pytest.raises(BrimError):
        import_model(cases.single("QuantizeLinear", ports, cases.U8, 25, **attributes))


# ------------------------------------------------------------------ bfloat16 is widened


def bfloat(*numbers: float) -> np.ndarray:
    return np.array(numbers, np.float32).astype(ml_dtypes.bfloat16)


def test_each_operator_rounds_once() -> None:
    ports = [(name, BFLOAT, (4,)) for name in ("a", "b", "c")]
    proto = model(
        [node("Add", "a b", "s"), node("Mul", "s c", "y")], ports, [("y", BFLOAT, (4,))], opset=14
    )
    a, b, c = bfloat(1, 1, 256, 3e38), bfloat(2**-9, 2**-8, 1, 3e38), bfloat(3, 3, 3, 1)
    with np.errstate(over="ignore"):
        wide = (a.astype(np.float32) + b.astype(np.float32)).astype(ml_dtypes.bfloat16)
    wanted = (wide.astype(np.float32) * c.astype(np.float32)).astype(ml_dtypes.bfloat16)
    same(run(proto, a=a, b=b, c=c)[0], wanted, "sum and product")


def test_results_of_other_types_stay() -> None:
    x = bfloat(3, -1, 2, 5)
    nodes = [
        node("ArgMax", "x", "i", axis=0), node("Greater", "x x", "g"), node("Shape", "x", "n"),
        node("LayerNormalization", "x w", "y mean deviation", axis=0),
    ]  # fmt: skip
    names = {"i": I64, "g": TensorProto.BOOL, "n": I64, "y": BFLOAT, "mean": 1, "deviation": 1}
    outputs = [(name, number, None) for name, number in names.items()]
    proto = model(nodes, [("x", BFLOAT, (4,))], outputs, {"w": bfloat(1, 1, 1, 1)}, opset=17)
    found = import_model(proto).outputs
    assert [found[name].dtype for name in names] == [ELEMENTS[n] for n in names.values()]
    assert run(proto, x=x)[0].tolist() == [3]


def test_only_bfloat16_is_computed_with() -> None:
    ports = [("x", TensorProto.FLOAT8E4M3FN, (2,))]
    proto = model([node("Relu", "x", "y")], ports, [("y", TensorProto.FLOAT8E4M3FN, (2,))])
    with pytest.raises(UnsupportedError, match="Relu of f8e4m3fn"):
        import_model(proto)


def test_questions_about_float8() -> None:
    """The few operators that take float8 and are no moves: ONNX has no others."""
    x = np.array([np.nan, 1, -np.inf, np.inf], F8E5M2.numpy)
    ports = [("x", NUMBERS[F8E5M2], (4,))]
    outputs = [("n", TensorProto.BOOL, (4,)), ("i", TensorProto.BOOL, (4,))]
    nodes = [node("IsNaN", "x", "n"), node("IsInf", "x", "i", detect_negative=0)]
    found = run(model(nodes, ports, outputs, opset=20), x=x)
    assert [part.tolist() for part in found] == [[True, False, False, False], [False] * 3 + [True]]
    plainly = model([node("Dropout", "x", "y")], ports, [("y", NUMBERS[F8E5M2], (4,))], opset=22)
    same(run(plainly, x=x)[0], x, "nothing is dropped")


def test_caches_of_bfloat16_are_written() -> None:
    cache = codes(BF16)[:24].reshape(2, 4, 3)
    update = codes(BF16)[100:112].reshape(2, 2, 3)
    ports = [("x", BFLOAT, (2, 4, 3)), ("u", BFLOAT, (2, 2, 3)), ("at", I64, (2,))]
    proto = model(
        [node("TensorScatter", "x u at", "y")], ports, [("y", BFLOAT, (2, 4, 3))], opset=24
    )
    got = run(proto, x=cache, u=update, at=np.array([1, 2]))[0]
    wanted = cache.copy()
    wanted[0, 1:3], wanted[1, 2:4] = update
    same(got, wanted, "cache")


def test_shapes_that_depend_on_data() -> None:
    """NonZero, Gather and Add become host steps; so do the casts around the sum."""
    nodes = [node("NonZero", "x", "i"), node("Transpose", "i", "j"), node("GatherND", "x j", "g"),
             node("Add", "g one", "y")]  # fmt: skip
    proto = model(nodes, [("x", BFLOAT, (4,))], [("y", BFLOAT, None)], {"one": bfloat(1)}, opset=14)
    same(run(proto, x=bfloat(0, 2, 0, 256))[0], bfloat(3, 256), "two elements")


def test_control_flow_and_sequences() -> None:
    def branch(op: str) -> Any:
        return graph([node(op, "x", "z")], [], [("z", BFLOAT, (2,))], name=op)

    choice = helper.make_node("If", ["c"], ["y"], then_branch=branch("Neg"),
                              else_branch=branch("Exp"))  # fmt: skip
    proto = model(
        [choice], [("c", TensorProto.BOOL, ()), ("x", BFLOAT, (2,))], [("y", BFLOAT, (2,))]
    )
    same(run(proto, c=np.array(True), x=bfloat(1, -2))[0], bfloat(-1, 2), "then")
    nodes = [node("SequenceConstruct", "x x", "s"), node("ConcatFromSequence", "s", "y", axis=0)]
    proto = model(nodes, [("x", BFLOAT, (2,))], [("y", BFLOAT, (4,))])
    same(run(proto, x=bfloat(1, -2))[0], bfloat(1, -2, 1, -2), "sequence")


@pytest.mark.parametrize("dtype", STORAGE, ids=str)
def test_rows_that_only_move(dtype: DType) -> None:
    number = NUMBERS[dtype]
    nodes = [
        node("Transpose", "x", "t", perm=[1, 0]), node("Reshape", "t shape", "r"),
        node("Concat", "r r", "c", axis=0), node("Slice", "c from to", "s"),
        node("Gather", "s at", "g", axis=0), node("Pad", "g pads", "p"),
        node("Expand", "p big", "e"), node("Where", "mask e e", "w"), node("Squeeze", "w", "y"),
    ]  # fmt: skip
    weights = {
        "shape": np.array([2, 3]), "from": np.array([1]), "to": np.array([4]),
        "at": np.array([2, 0]), "pads": np.array([0, 1, 0, 0]), "big": np.array([1, 2, 4]),
        "mask": np.ones((1, 2, 4), bool),
    }  # fmt: skip
    proto = model(nodes, [("x", number, (3, 2))], [("y", number, None)], weights, opset=21)
    x = np.resize(codes(dtype)[::-1], (3, 2))
    bits = x.view(f"u{x.itemsize}").T.reshape(2, 3)
    rows = np.concatenate([bits, bits])[1:4][[2, 0]]
    got = run(proto, x=x)[0]
    zero = plain(np.zeros((2, 1), np.float32).astype(dtype.numpy))
    np.testing.assert_array_equal(plain(got), np.concatenate([zero, rows], 1))
    assert import_model(proto).outputs["y"].type == Type((2, 4), dtype)
