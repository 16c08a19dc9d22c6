"""Reads a TFLite file into plain data (`TfliteModel`): structure, types, tensors, all checked.

The `tflite` package holds the schema's classes; nothing of FlatBuffers leaves this file. There is
no verifier for Python: offsets that point anywhere are caught where they are read, and a budget of
items bounds what tables that stand for each other many times can unfold to. No operator is known
here.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from brim.errors import BrimError, ModelError, UnsupportedError
from brim.frontends.tflite.custom import custom_options
from brim.frontends.tflite.metadata import read_metadata
from brim.frontends.tflite.model import (
    Operator,
    Quantization,
    Signature,
    Subgraph,
    Tensor,
    TfliteModel,
    choose,
)
from brim.frontends.tflite.sparsity import densify
from brim.frontends.tflite.tensors import ELEMENTS, tensor_array

IDENTIFIER = b"TFL3"
RANK = 8  # axes that a tensor may have
# What the package's schema does not know yet: an operator, and its options in the union.
OPERATORS = {208: "STABLEHLO_CBRT", 209: "STABLEHLO_CASE"}
CASE_OPTIONS = 23
NEWER = {19: "INT2"}  # element types that a schema of the same version 3 may not name yet
# What a reader of damaged bytes may raise; each means the same.
DAMAGE = (struct.error, ValueError, TypeError, IndexError, OverflowError, MemoryError)


def is_tflite(start: bytes) -> bool:
    """Whether a file that begins with these bytes (8 at least) says that it is TFLite."""
    return start[4:8] == IDENTIFIER


def read(source: Path | str | bytes, name: str = "", signature: str = "") -> TfliteModel:
    """Parses a path or the bytes of a file, as seen by a signature ("": the first).

    Raises ModelError for damaged or contradictory files, UnsupportedError for what brim lacks,
    InputError for a signature that is not there.
    """
    data, label = _content(source)
    label = name or label
    try:
        import tflite
    except ImportError as error:
        raise UnsupportedError(
            "reading TFLite needs the tflite package",
            why=str(error),
            hint="pip install 'brim[tflite]'",
        ) from None
    if not is_tflite(data[:8]):
        raise ModelError("not a TFLite file", why="its identifier is not TFL3", where=label)
    try:
        return _Reader(tflite, data, label).model(signature)
    except BrimError:
        raise
    except DAMAGE as error:
        raise ModelError("the model is damaged", why=repr(error)[:300], where=label) from None


def _content(source: Any) -> tuple[bytes, str]:
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source), "model"
    if not isinstance(source, (str, Path)):
        raise ModelError(
            f"a model cannot be read from {type(source).__name__}", hint="give a path or bytes"
        )
    path = Path(source)
    try:
        return path.read_bytes(), path.name
    except OSError as error:
        raise ModelError(f"cannot read {str(path)!r}", why=str(error)) from None


class _Reader:
    """One file while it is read; `left`: how many more items it may unfold to."""

    def __init__(self, schema: Any, data: bytes, where: str) -> None:
        self.schema, self.data, self.where = schema, data, where
        self.left = 1000 + 2 * len(data)
        self.file = schema.Model.GetRootAs(data, 0)
        self.buffers: dict[int, np.ndarray] = {}

    def model(self, wanted: str) -> TfliteModel:
        if (version := self.file.Version()) != 3:
            raise UnsupportedError(f"schema version {version} is not supported", where=self.where)
        codes = [self._code(code) for code in self._items(self.file, "OperatorCodes")]
        subgraphs = tuple(
            self._subgraph(part, i, codes)
            for i, part in enumerate(self._items(self.file, "Subgraphs"))
        )
        if not subgraphs:
            raise ModelError("the file holds no graph", where=self.where)
        signatures = self._signatures(subgraphs)
        entries = (
            (self._text(m.Name()), self._buffer(m.Buffer()))
            for m in self._items(self.file, "Metadata")
        )
        signature = choose(signatures, wanted, self.where)
        names = (signature.subgraph, list(signature.inputs), list(signature.outputs))
        description = self._text(self.file.Description())
        metadata = read_metadata(self.data, dict(entries), description, names)
        return TfliteModel(
            self.where,
            subgraphs,
            signatures,
            signature,
            MappingProxyType(metadata),
            len(self.data),
        )

    # -------------------------------------------------------------- FlatBuffers

    def _items(self, table: Any, field: str) -> Iterator[Any]:
        """The elements of a vector of tables."""
        get = getattr(table, field)
        for i in range(self._length(table, field)):
            yield get(i)

    def _length(self, table: Any, field: str) -> int:
        length = getattr(table, f"{field}Length")()
        self.left -= length
        if self.left < 0:
            raise ModelError("the model unfolds to absurd sizes", where=self.where)
        return length

    def _numbers(self, table: Any, field: str) -> tuple[int, ...]:
        """A vector of integers."""
        if not self._length(table, field):
            return ()
        found = getattr(table, f"{field}AsNumpy")()
        return tuple(int(n) for n in found)

    def _text(self, raw: bytes | None) -> str:
        return (raw or b"").decode("utf-8", "replace")

    def _buffer(self, number: int) -> np.ndarray:
        """The bytes of a buffer, u8[n]; n 0 for those that hold nothing."""
        if number not in self.buffers:
            if not 0 <= number < self.file.BuffersLength():
                raise ModelError(f"there is no buffer {number}", where=self.where)
            buffer = self.file.Buffers(number)
            start, size = buffer.Offset(), buffer.Size()
            if start > 1:  # of files over 2 GB: the content follows the FlatBuffer
                if start + size > len(self.data):
                    raise ModelError(f"buffer {number} ends after the file", where=self.where)
                found = np.frombuffer(self.data, np.uint8, size, start)
            elif buffer.DataLength():
                found = buffer.DataAsNumpy()
            else:
                found = np.zeros(0, np.uint8)
            self.buffers[number] = found
        return self.buffers[number]

    # -------------------------------------------------------------- operators

    def _code(self, code: Any) -> tuple[str, int, bool]:
        """Name, version, and whether it is a custom operator."""
        number = max(code.DeprecatedBuiltinCode(), code.BuiltinCode())
        names = _names(self.schema.BuiltinOperator)
        name = names.get(number) or OPERATORS.get(number, f"builtin operator {number}")
        if name == "CUSTOM":
            return self._text(code.CustomCode()), code.Version(), True
        return name, code.Version(), False

    def _operator(self, part: Any, codes: list[tuple[str, int, bool]], tensors: int) -> Operator:
        if part.OpcodeIndex() >= len(codes):
            raise ModelError(f"there is no operator code {part.OpcodeIndex()}", where=self.where)
        name, version, custom = codes[part.OpcodeIndex()]
        inside, outside = self._numbers(part, "Inputs"), self._numbers(part, "Outputs")
        between = self._numbers(part, "Intermediates")
        if any(not -1 <= n < tensors for port in (inside, outside, between) for n in port):
            raise ModelError(f"{name} has a tensor that is not there", where=self.where)
        content = None
        if custom:
            content = bytes(self._numbers(part, "CustomOptions"))
        options = self._options(part, name) if content is None else custom_options(content)
        return Operator(name, version, inside, outside, between, options, content)

    def _options(self, part: Any, name: str) -> Mapping[str, Any]:
        """The options of an operator by the schema's field names, numbers and tuples of them."""
        found: dict[str, Any] = {}
        for suffix in ("", "2"):
            unions = _names(getattr(self.schema, f"BuiltinOptions{suffix}"))
            number = getattr(part, f"BuiltinOptions{suffix}Type")()
            kind = unions.get(number, "")
            table = getattr(part, f"BuiltinOptions{suffix}")()
            if number == CASE_OPTIONS and suffix and table is not None:
                found["branch_subgraph_indices"] = self._integers(table)
                continue
            if not kind or kind == "NONE" or table is None:
                continue
            options = getattr(self.schema, kind)()
            options.Init(table.Bytes, table.Pos)
            for field, is_vector in _fields(kind):
                value = self._vector(options, field) if is_vector else getattr(options, field)()
                found[_snake(field)] = value
        return MappingProxyType(found)

    def _integers(self, table: Any) -> tuple[int, ...]:
        """The vector of i32 that is the only field of a table."""
        offset = table.Offset(4)
        length = table.VectorLen(offset) if offset else 0
        self.left -= length
        if self.left < 0:
            raise ModelError("the model unfolds to absurd sizes", where=self.where)
        start = table.Vector(offset) if offset else 0
        return struct.unpack_from(f"<{length}i", table.Bytes, start)

    def _vector(self, options: Any, field: str) -> tuple[Any, ...]:
        get = getattr(options, field)
        return tuple(get(i) for i in range(self._length(options, field)))

    # -------------------------------------------------------------- sub-graphs

    def _subgraph(self, part: Any, number: int, codes: list[tuple[str, int, bool]]) -> Subgraph:
        tensors = tuple(self._tensor(t, i) for i, t in enumerate(self._items(part, "Tensors")))
        inputs, outputs = self._numbers(part, "Inputs"), self._numbers(part, "Outputs")
        if any(not 0 <= n < len(tensors) for n in (*inputs, *outputs)):
            raise ModelError("a port of a graph is no tensor of it", where=self.where)
        operators = tuple(
            self._operator(o, codes, len(tensors)) for o in self._items(part, "Operators")
        )
        name = self._text(part.Name()) or ("main" if number == 0 else f"graph {number}")
        return Subgraph(name, tensors, inputs, outputs, operators)

    def _tensor(self, part: Any, number: int) -> Tensor:
        name = self._text(part.Name()) or f"tensor {number}"
        where = f"{self.where}: {name}"
        kinds = {**NEWER, **_names(self.schema.TensorType)}
        kind = kinds.get(part.Type(), str(part.Type()))
        shape = self._numbers(part, "Shape")
        signature = self._numbers(part, "ShapeSignature") or shape
        if len(shape) > RANK or len(signature) != len(shape) or min((*shape, 0)) < 0:
            raise ModelError(f"shape {shape[:RANK]} makes no sense", where=where)
        raw = self._buffer(part.Buffer())
        data = None
        if raw.size:
            if (sparsity := part.Sparsity()) is not None:
                data = densify(raw, kind, shape, sparsity, self._numbers, where)
            else:
                data = tensor_array(raw, kind, shape, where)
            data.flags.writeable = False
        return Tensor(
            name,
            kind,
            ELEMENTS.get(kind),
            shape,
            signature,
            data,
            self._quantization(part.Quantization(), shape, where),
            bool(part.IsVariable()),
        )

    def _quantization(self, part: Any, shape: tuple[int, ...], where: str) -> Quantization | None:
        if part is None or not part.ScaleLength():
            return None
        if part.DetailsType():
            raise UnsupportedError("custom quantization is not supported", where=where)
        scale = np.array(part.ScaleAsNumpy(), np.float32)
        zero = np.zeros(scale.size, np.int64)
        if part.ZeroPointLength():
            zero = np.array(part.ZeroPointAsNumpy(), np.int64)
        axis = part.QuantizedDimension()
        if zero.size == 1 < scale.size:
            zero = np.repeat(zero, scale.size)
        fits = scale.size == 1 or (0 <= axis < len(shape) and shape[axis] == scale.size)
        if zero.size != scale.size or not fits or not np.isfinite(scale).all():
            raise ModelError(
                f"{scale.size} scales and {zero.size} zero points do not fit shape {shape}",
                where=where,
            )
        return Quantization(scale, zero, axis)

    # -------------------------------------------------------------- signatures

    def _signatures(self, subgraphs: tuple[Subgraph, ...]) -> Mapping[str, Signature]:
        found: dict[str, Signature] = {}
        for part in self._items(self.file, "SignatureDefs"):
            key, number = self._text(part.SignatureKey()), part.SubgraphIndex()
            if number >= len(subgraphs):
                raise ModelError(f"signature {key!r} has no graph", where=self.where)
            graph = subgraphs[number]
            inputs = self._ports(part, "Inputs", graph.inputs)
            outputs = self._ports(part, "Outputs", graph.outputs)
            if key in found or set(inputs.values()) != set(graph.inputs):
                raise ModelError(f"signature {key!r} does not fit its graph", where=self.where)
            found[key] = Signature(key, number, inputs, outputs)
        if not any(s.subgraph == 0 for s in found.values()):  # old files: the names of the tensors
            main = subgraphs[0]
            ports = (_named(main, main.inputs), _named(main, main.outputs))
            found = {"": Signature("", 0, *ports), **found}
        for signature in found.values():
            tensors = subgraphs[signature.subgraph].tensors
            for name, i in (*signature.inputs.items(), *signature.outputs.items()):
                if tensors[i].dtype is None:
                    raise UnsupportedError(
                        f"{name!r} holds {tensors[i].kind}, which no caller can give or take",
                        where=self.where,
                    )
        return MappingProxyType(found)

    def _ports(self, part: Any, field: str, known: tuple[int, ...]) -> Mapping[str, int]:
        found: dict[str, int] = {}
        for port in self._items(part, field):
            name, index = self._text(port.Name()), port.TensorIndex()
            if name in found or index not in known:
                raise ModelError(f"{name!r} of a signature does not fit", where=self.where)
            found[name] = index
        order = {tensor: place for place, tensor in enumerate(known)}
        return MappingProxyType(dict(sorted(found.items(), key=lambda item: order[item[1]])))


def _named(graph: Subgraph, ports: tuple[int, ...]) -> Mapping[str, int]:
    """Tensors by their names; one that two have gets the number of its place."""
    found: dict[str, int] = {}
    for place, i in enumerate(ports):
        name = graph.tensors[i].name
        found[f"{name} at {place}" if name in found else name] = i
    return MappingProxyType(found)


@cache
def _names(enumeration: Any) -> Mapping[int, str]:
    return {n: name for name, n in vars(enumeration).items() if isinstance(n, int)}


@cache
def _fields(kind: str) -> tuple[tuple[str, bool], ...]:
    """The fields of a table by the names of their accessors, and whether each is a vector."""
    import tflite

    methods = [name for name in vars(getattr(tflite, kind)) if name[0].isupper() and name != "Init"]
    vectors = {name.removesuffix("Length") for name in methods if name.endswith("Length")}
    helpers = {f"{v}{suffix}" for v in vectors for suffix in ("Length", "AsNumpy", "IsNone")}
    return tuple(
        (name, name in vectors)
        for name in methods
        if name not in helpers and not name.startswith("GetRootAs") and "BufferHas" not in name
    )


def _snake(name: str) -> str:
    """StrideW -> stride_w, as the schema has it."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
