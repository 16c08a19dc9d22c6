"""Reads the named weights of a PyTorch file (.pth) as data: no pickle is executed.

A .pth file is a pickle, which is a program for a small stack machine: given to `pickle` it may call
anything. Here its instructions are walked through one by one, and only those that build dicts,
tuples and numbers are followed; of all names that a pickle may call, the one that makes a tensor
out of a storage and the one that makes an ordered dict are known, and nothing is ever called for
them. Knows the format until 1.5 (pickles and storages in a row) and the zip archive since 1.6.
Objects that are no weights (modules, optimisers) are refused.
"""

from __future__ import annotations

import math
import pickletools
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from brim.errors import InputError, ModelError
from brim.graph import Graph, const
from brim.types import Type, type_of

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
LONGEST_PICKLE = 1 << 26  # bytes; what describes a thousand tensors is some tens of kilobytes

STORAGES: dict[str, np.dtype] = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}
TENSOR = "torch._utils _rebuild_tensor_v2"
PARAMETER = "torch._utils _rebuild_parameter"
ORDERED = "collections OrderedDict"
CALLED = {TENSOR, PARAMETER, ORDERED}

# What reading damaged bytes may raise.
DAMAGE = (
    ValueError,
    LookupError,
    EOFError,
    OverflowError,
    RuntimeError,
    TypeError,
    MemoryError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True)
class _Name:
    """What a pickle calls or refers to: `module name`, never looked up."""

    text: str


@dataclass(frozen=True)
class _Storage:
    """Numbers in a row, somewhere in the file. key: their name; count: how many they are."""

    dtype: np.dtype
    key: str
    count: int


@dataclass(frozen=True)
class _Tensor:
    """A view of a storage; `start` and `strides` count elements."""

    storage: _Storage
    start: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Mark:
    """Where a tuple or a dict begins on the stack."""


MARK = _Mark()


@dataclass(frozen=True)
class TorchWeights:
    """A parsed file: read-only arrays by name. It holds no network, so it takes nothing."""

    name: str
    weights: Mapping[str, np.ndarray]
    size: int
    external: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, Type] = field(default_factory=dict)
    usual_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def outputs(self) -> Mapping[str, Type | None]:
        return {name: type_of(array) for name, array in self.weights.items()}


def read(source: Path | str | bytes, name: str = "", signature: str = "") -> TorchWeights:
    """Parses a path or the bytes of a .pth file that holds a dict of tensors.

    Raises ModelError for a file that is damaged, or holds anything else than weights, and
    InputError for a signature, which no such file has.
    """
    where = name or ("weights" if isinstance(source, bytes) else str(source))
    if signature:
        raise InputError(f"the model has no signature {signature!r}", where=where)
    try:
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
        return TorchWeights(where, _weights(data), len(data))
    except OSError as error:
        raise ModelError(f"cannot read {where}", error.strerror or str(error)) from None
    except DAMAGE as error:
        raise ModelError(
            "a file of PyTorch weights cannot be read",
            str(error) or type(error).__name__,
            where,
            "it must hold a dict of tensors: torch.save(model.state_dict(), path)",
        ) from None


def import_model(model: TorchWeights, shapes: Mapping[str, tuple[int, ...]]) -> Graph:
    """A graph without inputs, whose outputs are the weights: what a network is built from."""
    outputs = {name: const(array, name) for name, array in model.weights.items()}
    return Graph({}, outputs, model.name)


def _weights(data: bytes) -> dict[str, np.ndarray]:
    found, numbers = (_packed if data[:2] == b"PK" else _in_a_row)(data)
    named = found.items() if isinstance(found, dict) else ()
    if not named or not all(type(k) is str and type(v) is _Tensor for k, v in named):
        raise ValueError("it holds no dict of tensors")
    return {name: _array(tensor, numbers) for name, tensor in named}


def _array(tensor: _Tensor, numbers: Callable[[_Storage], np.ndarray]) -> np.ndarray:
    shape, strides = tensor.shape, tensor.strides
    if len(shape) != len(strides) or min((tensor.start, *shape, *strides)) < 0:
        raise ValueError(f"a tensor of shape {shape} and strides {strides}")
    last = tensor.start + sum((n - 1) * s for n, s in zip(shape, strides))
    stored = numbers(tensor.storage)
    if 0 in shape:
        return np.empty(shape, stored.dtype)
    if last >= len(stored) or math.prod(shape) > len(stored):
        raise ValueError(f"a tensor of shape {shape} reaches beyond its storage")
    steps = [s * stored.itemsize for s in strides]
    return np.lib.stride_tricks.as_strided(stored[tensor.start :], shape, steps, writeable=False)


# ---------------------------------------------------------------- the two containers


def _packed(data: bytes) -> tuple[Any, Callable[[_Storage], np.ndarray]]:
    """A zip archive: FOLDER/data.pkl, and a file FOLDER/data/KEY for each storage."""
    archive = zipfile.ZipFile(BytesIO(data))
    sizes = {info.filename: info.file_size for info in archive.infolist()}
    (main,) = (name for name in sizes if name.count("/") == 1 and name.endswith("/data.pkl"))
    folder = main.removesuffix("data.pkl")
    if sizes[main] > LONGEST_PICKLE:
        raise ValueError("its pickle is too long")
    if sizes.get(f"{folder}byteorder") and archive.read(f"{folder}byteorder") != b"little":
        raise ValueError("its numbers have their high bytes first")

    def numbers(storage: _Storage) -> np.ndarray:
        name = f"{folder}data/{storage.key}"
        if sizes[name] != storage.count * storage.dtype.itemsize or sizes[name] > len(data):
            raise ValueError(f"storage {storage.key} has {sizes[name]} bytes")
        return np.frombuffer(archive.read(name), storage.dtype)

    return _Machine(BytesIO(archive.read(main))).run(), numbers


def _in_a_row(data: bytes) -> tuple[Any, Callable[[_Storage], np.ndarray]]:
    """Pickles of a magic number, a version, the machine, the weights, the storages' keys in the
    order in which they follow, each after its count."""
    file = BytesIO(data)
    if _Machine(file).run() != MAGIC or _Machine(file).run() != PROTOCOL:
        raise ValueError("it is no file of PyTorch")
    if _Machine(file).run()["little_endian"] is not True:
        raise ValueError("its numbers have their high bytes first")
    machine = _Machine(file)
    found, keys = machine.run(), _Machine(file).run()
    places: dict[str, int] = {}
    at = file.tell()
    for key in keys:
        storage = machine.storages[key]
        if int.from_bytes(data[at : at + 8], "little") != storage.count:
            raise ValueError(f"storage {key} has another length than the tensors say")
        places[key] = at + 8
        at += 8 + storage.count * storage.dtype.itemsize
    if at != len(data):
        raise ValueError(f"it has {len(data)} bytes, {at} are described")
    return found, lambda s: np.frombuffer(data, s.dtype, s.count, places[s.key])


# ---------------------------------------------------------------- the stack machine


class _Machine:
    """Follows one pickle, from where the file stands to behind its end."""

    def __init__(self, file: BytesIO) -> None:
        self.storages: dict[str, _Storage] = {}
        self._file = file
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        """The object that the pickle describes. Raises ValueError for what is not allowed."""
        for opcode, argument, _ in pickletools.genops(self._file):
            self._step(opcode.name, argument)
        (result,) = self._stack
        return result

    def _step(self, name: str, argument: Any) -> None:
        stack = self._stack
        match name:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "BINUNICODE" | "SHORT_BINUNICODE" | "BININT" | "BININT1" | "BININT2" | "LONG1":
                stack.append(argument)
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[name])
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "MARK":
                stack.append(MARK)
            case "TUPLE":
                stack.append(tuple(self._marked()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(name[-1])
                stack.append(tuple(self._pop() for _ in range(count))[::-1])
            case "APPEND":
                last = self._pop()
                self._top(list).append(last)
            case "APPENDS":
                last = self._marked()
                self._top(list).extend(last)
            case "SETITEM":
                value, key = self._pop(), self._pop()
                self._top(dict)[key] = value
            case "SETITEMS":
                last = self._marked()
                self._top(dict).update(zip(last[::2], last[1::2], strict=True))
            case "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = self._top(object)
            case "MEMOIZE":
                self._memo[len(self._memo)] = self._top(object)
            case "BINGET" | "LONG_BINGET":
                stack.append(self._memo[argument])
            case "GLOBAL":
                stack.append(_Name(argument))
            case "STACK_GLOBAL":
                last = self._pop()
                stack.append(_Name(f"{self._pop()} {last}"))
            case "BINPERSID":
                stack.append(self._storage(self._pop()))
            case "REDUCE":
                arguments = self._pop()
                stack.append(_made(self._pop(), arguments))
            case "BUILD":  # the attributes of a dict: `_metadata` of its modules' versions
                self._pop()
                self._top(dict)
            case _:
                raise ValueError(f"its pickle has an instruction {name}")

    def _pop(self) -> Any:
        last = self._stack.pop()
        if last is MARK:
            raise ValueError("its pickle takes more than there is")
        return last

    def _marked(self) -> list[Any]:
        """All above the last mark."""
        above: list[Any] = []
        while (last := self._stack.pop()) is not MARK:
            above.append(last)
        return above[::-1]

    def _top(self, kind: type) -> Any:
        top = self._stack[-1]
        if top is MARK or not isinstance(top, kind):
            raise ValueError(f"its pickle needs a {kind.__name__}, and has {type(top).__name__}")
        return top

    def _storage(self, identity: Any) -> _Storage:
        kind, name, key, _, count, *view = identity
        if kind != "storage" or type(name) is not _Name or any(view):
            raise ValueError(f"its pickle refers to {identity!r}"[:200])
        module, _, storage = name.text.partition(" ")
        if module != "torch" or storage not in STORAGES:
            raise ValueError(f"numbers of type {name.text!r}")
        if type(key) is not str or type(count) is not int or count < 0:
            raise ValueError(f"storage {key!r} of {count!r} numbers"[:200])
        found = _Storage(STORAGES[storage], key, count)
        if self.storages.setdefault(key, found) != found:
            raise ValueError(f"storage {key} is described twice")
        return found


def _made(name: Any, arguments: Any) -> Any:
    """What one of the known functions would have made."""
    if type(name) is not _Name or name.text not in CALLED or type(arguments) is not tuple:
        raise ValueError(f"its pickle calls {getattr(name, 'text', name)!r}"[:200])
    if name.text == ORDERED:
        if arguments:
            raise ValueError("an ordered dict with arguments")
        return {}
    if name.text == PARAMETER:
        tensor = arguments[0]
    else:
        storage, start, shape, strides = arguments[:4]
        numbers = (start, *shape, *strides)
        if type(storage) is not _Storage or not all(type(n) is int for n in numbers):
            raise ValueError("a tensor without a storage")
        tensor = _Tensor(storage, start, tuple(shape), tuple(strides))
    if type(tensor) is not _Tensor:
        raise ValueError("a parameter without a tensor")
    return tensor
