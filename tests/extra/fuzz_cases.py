"""The ways in which models are damaged. Nothing is loaded here; intact ones are in `fuzz_seeds`.

Each way takes (random, model) and makes one hostile model of it. Everything follows from the
random generator, so that a case is named by its number.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import json
import random
import re
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from brim.ops import OPS
from brim.runtime.container import read_container, write_container
from brim.runtime.trust import code_digest
from tests.extra.fuzz_seeds import Seed, initializer, port


@dataclass(frozen=True)
class Case:
    """One damaged model. `how` names the damage."""

    how: str
    seed: Seed
    main: bytes
    beside: dict[str, bytes]


# ------------------------------------------------------------------ any bytes

NUMBERS = (0, 1, -1, 127, 255, 256, 65535, 1 << 31, (1 << 32) - 1, 1 << 40, (1 << 63) - 1, 1 << 64)


def _flip(rng: random.Random, data: bytearray) -> None:
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        if data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _truncate(rng: random.Random, data: bytearray) -> None:
    del data[rng.randrange(len(data) + 1) :]


def _splice(rng: random.Random, data: bytearray) -> None:
    start, size = rng.randrange(len(data) + 1), rng.choice((1, 4, 30, 300))
    piece = data[start : start + size]
    place = rng.randrange(len(data) + 1)
    data[place : place + rng.choice((0, len(piece)))] = piece


def _remove(rng: random.Random, data: bytearray) -> None:
    start = rng.randrange(len(data) + 1)
    del data[start : start + rng.choice((1, 2, 8, 100))]


def _numbers(rng: random.Random, data: bytearray) -> None:
    """An absurd number, as a varint or as a word."""
    place, value = rng.randrange(len(data) + 1), rng.choice(NUMBERS) & (1 << 64) - 1
    if rng.random() < 0.5:
        piece = _varint(value)
    else:
        piece = struct.pack("<Q", value)[: rng.choice((2, 4, 8))]
    data[place : place + len(piece)] = piece


def _noise(rng: random.Random, data: bytearray) -> None:
    start = rng.randrange(len(data) + 1)
    size = min(rng.choice((4, 40, 400)), len(data) - start)
    data[start : start + size] = rng.randbytes(size)


BYTES = (_flip, _truncate, _splice, _remove, _numbers, _noise)


# ------------------------------------------------------------------ the structure of ONNX


def _graphs(graph: Any) -> list[Any]:
    found = [graph]
    for one in found:
        found.extend(a.g for n in one.node for a in n.attribute if a.HasField("g"))
    return found


def _dims(rng: random.Random, model: Any) -> None:
    tensor = rng.choice(model.graph.initializer)
    big = rng.choice((-1, 0, 1 << 20, 1 << 31, 1 << 40, (1 << 63) - 1))
    if rng.random() < 0.5 and tensor.dims:
        tensor.dims[rng.randrange(len(tensor.dims))] = big
    else:
        del tensor.dims[:]
        tensor.dims.extend([big] * rng.choice((1, 4, 70, 5000)))


def _shapes(rng: random.Random, model: Any) -> None:
    """Data that operators take as shapes, axes or sizes."""
    _integers(rng, model, lambda name: name != "trips")


def _trips(rng: random.Random, model: Any) -> None:
    """Trip counts of loops."""
    _integers(rng, model, lambda name: name == "trips")


def _integers(rng: random.Random, model: Any, wanted: Callable[[str], bool]) -> None:
    inside = [t for t in model.graph.initializer if t.data_location == TensorProto.DEFAULT]
    whole = [t for t in inside if t.data_type == TensorProto.INT64 and wanted(t.name)]
    if not whole:
        _dims(rng, model)
        return
    tensor = rng.choice(whole)
    array = numpy_helper.to_array(tensor).copy().reshape(-1)
    array[rng.randrange(len(array))] = rng.choice((-1, -9, 1 << 20, 1 << 33, 1 << 62, -(1 << 63)))
    tensor.CopyFrom(initializer(tensor.name, array.reshape(tuple(tensor.dims))))


def _edges(rng: random.Random, model: Any) -> None:
    """Names of inputs and outputs mixed up: cycles, missing values, values defined twice."""
    graph = rng.choice(_graphs(model.graph))
    names = [n for node in graph.node for n in (*node.input, *node.output)] + ["", "nowhere"]
    for _ in range(rng.choice((1, 1, 2, 5))):
        node = rng.choice(graph.node)
        side = node.input if rng.random() < 0.6 and node.input else node.output
        if side:
            side[rng.randrange(len(side))] = rng.choice(names)


def _cycle(rng: random.Random, model: Any) -> None:
    nodes = [n for n in model.graph.node if n.input]
    first, last = sorted(rng.sample(range(len(nodes)), 2))
    nodes[first].input[0] = nodes[last].output[0]


def _repeat(rng: random.Random, model: Any) -> None:
    node = rng.choice(model.graph.node)
    for _ in range(rng.choice((1, 3, 2000))):
        model.graph.node.add().CopyFrom(node)


def _nest(rng: random.Random, model: Any) -> bytes:
    """Sub-graphs within sub-graphs, as deep as protobuf's own reader allows, or far deeper."""
    if rng.random() < 0.3:
        data = b""
        for _ in range(rng.choice((40, 300, 3000))):
            for tag in (0x32, 0x2A, 0x0A):  # AttributeProto.g, NodeProto.attribute, GraphProto.node
                data = bytes((tag,)) + _varint(len(data)) + data
        return b"\x3a" + _varint(len(data)) + data  # ModelProto.graph, merged with the first
    inner = helper.make_graph(
        [helper.make_node("Constant", [], ["v"], value_float=1.0)], "g", [], [port("v", 1, [])]
    )
    for _ in range(rng.choice((3, 20, 28))):
        node = helper.make_node("If", ["cond"], ["v"], then_branch=inner, else_branch=inner)
        if rng.random() < 0.9:  # both branches would double the size at every level
            del node.attribute[1].g.node[:]
        inner = helper.make_graph([node], "g", [], [port("v", 1, [])])
    model.graph.node.extend(inner.node)
    model.graph.initializer.append(initializer("cond", np.array(True)))
    model.graph.output.append(port("v", 1, []))
    return b""


def _varint(value: int) -> bytes:
    piece = bytearray()
    while value > 127:
        piece.append(value & 127 | 128)
        value >>= 7
    return bytes((*piece, value))


def _double(rng: random.Random, model: Any) -> None:
    """Sizes that double at every node."""
    name = model.graph.output[0].name
    for i in range(rng.choice((10, 30, 60))):
        kind = rng.choice(("Concat", "Add"))
        attributes = {"axis": 0} if kind == "Concat" else {}
        model.graph.node.append(helper.make_node(kind, [name, name], [f"d{i}"], **attributes))
        name = f"d{i}"
    del model.graph.output[:]
    model.graph.output.append(port(name, 1, None))


def _expand(rng: random.Random, model: Any) -> None:
    """Operators whose result is as large as a number in the file says."""
    size = rng.choice((1 << 16, 1 << 28, 1 << 34, 1 << 50, (1 << 63) - 1))
    source = model.graph.input[0].name
    model.graph.initializer.append(initializer("many", np.array([size], np.int64)))
    model.graph.initializer.append(initializer("some", np.array([size] * 4, np.int64)))
    model.graph.initializer.append(initializer("zero_", np.array(0, np.int64)))
    model.graph.initializer.append(initializer("one_", np.array(1, np.int64)))
    model.graph.initializer.append(initializer("scalar", np.array(size, np.int64)))
    kind, inputs, attributes = rng.choice(
        (
            ("ConstantOfShape", ["many"], {}),
            ("Tile", [source, "some"], {}),
            ("Expand", ["one_", "many"], {}),
            ("Range", ["zero_", "scalar", "one_"], {}),
            ("OneHot", ["zero_", "scalar", "many"], {}),
            ("RandomNormal", [], {"shape": [size]}),
            ("EyeLike", ["some"], {"k": size}),
            ("Pad", [source, "some"], {}),
            ("Resize", [source, "", "", "some"], {}),
            ("HannWindow", ["scalar"], {}),
            ("Upsample", [source, "some"], {}),
        )
    )
    model.graph.node.append(helper.make_node(kind, inputs, ["huge"], **attributes))
    del model.graph.output[:]
    model.graph.output.append(port("huge", 1, None))


def _attributes(rng: random.Random, model: Any) -> None:
    nodes = [n for g in _graphs(model.graph) for n in g.node if n.attribute]
    for _ in range(rng.choice((1, 2, 4))):
        attribute = rng.choice(rng.choice(nodes).attribute)
        value = rng.choice((-1, 0, 3, 1 << 31, 1 << 62, -(1 << 63)))
        match rng.randrange(5):
            case 0:
                attribute.i = value
            case 1 if attribute.ints:
                attribute.ints[rng.randrange(len(attribute.ints))] = value
            case 2:
                attribute.ints.extend([value] * rng.choice((1, 100)))
            case 3:
                attribute.type = rng.randrange(15)
            case 4:
                attribute.name = rng.choice(("axis", "pads", "body", "perm", "to", "k", ""))


def _operators(rng: random.Random, model: Any) -> None:
    names = sorted({s.name for s in onnx.defs.get_all_schemas() if s.domain == ""})
    for _ in range(rng.choice((1, 1, 3))):
        rng.choice(rng.choice(_graphs(model.graph)).node).op_type = rng.choice(names)


def _types(rng: random.Random, model: Any) -> None:
    number = rng.choice((0, 1, 2, 6, 7, 8, 9, 10, 11, 13, 16, 22, 99))
    if rng.random() < 0.5:
        rng.choice(model.graph.initializer).data_type = number
    else:
        rng.choice(model.graph.input).type.tensor_type.elem_type = number


def _inputs(rng: random.Random, model: Any) -> None:
    port = rng.choice((*model.graph.input, *model.graph.output)).type.tensor_type
    if port.shape.dim:
        dim = rng.choice(port.shape.dim)
        dim.dim_value = rng.choice((-1, 0, 1, 1 << 20, 1 << 33, (1 << 63) - 1))
    for _ in range(rng.choice((0, 0, 1, 80))):
        port.shape.dim.add().dim_param = rng.choice(("N", "", "%0", "a b"))


def _external(rng: random.Random, model: Any) -> None:
    """External data that climbs out of the folder or lies about its size."""
    tensor = rng.choice(model.graph.initializer)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    del tensor.external_data[:]
    climbs = (
        "../../../etc/passwd",
        "/etc/passwd",
        "a/../../x",
        "C:\\x",
        "\0",
        "",
        ".",
        "w.bin",
        "link",
    )
    entries = {"location": rng.choice(climbs), "offset": str(rng.choice(NUMBERS))}
    entries["length"] = rng.choice(("1", "x", "-5", str(1 << 62), "1" * 5000))
    for key, value in entries.items():
        if rng.random() < 0.8:
            tensor.external_data.add(key=key, value=value)


def _function(rng: random.Random, model: Any) -> None:
    """A function that calls itself, or two that double each other's work."""
    depth = rng.choice((1, 2, 30))
    for i in range(depth):
        callee = f"f{(i + 1) % depth if rng.random() < 0.5 else i + 1}"
        nodes = [helper.make_node(callee, ["a"], ["b"], domain="d") for _ in range(2)]
        nodes[1].input[0], nodes[1].output[0] = "b", "c"
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("d", 1)]
        model.functions.append(helper.make_function("d", f"f{i}", ["a"], ["c"], nodes, opsets))
    model.opset_import.append(helper.make_opsetid("d", 1))
    source = model.graph.input[0].name
    model.graph.node.append(helper.make_node("f0", [source], ["fun"], domain="d"))
    model.graph.output.append(port("fun", 1, None))


ONNX: tuple[Callable[[random.Random, Any], bytes | None], ...] = (
    _dims, _shapes, _trips, _edges, _cycle, _repeat, _nest, _double, _expand, _attributes,
    _operators, _types, _inputs, _external, _function,
)  # fmt: skip


# ------------------------------------------------------------------ the structure of artifacts


def _members(seed: Seed) -> dict[str, bytes]:
    return {n: bytes(m.read()) for n, m in read_container(memoryview(seed.main), "").items()}


def _written(members: list[tuple[str, bytes]]) -> bytes:
    file = io.BytesIO()
    write_container(file, members)
    return file.getvalue()


def _repaired(members: dict[str, bytes]) -> bytes:
    """With digests that fit: what somebody would send who knows the format."""
    manifest = json.loads(members["manifest.json"])
    digests = {
        name: hashlib.sha256(data).hexdigest()
        for name, data in members.items()
        if name != "manifest.json"
    }
    manifest["members"] = {name: [len(members[name]), digest] for name, digest in digests.items()}
    with contextlib.suppress(
        AttributeError, KeyError, TypeError
    ):  # the damage may be in the manifest
        manifest["code"] = code_digest(manifest["programs"], digests)
    members["manifest.json"] = json.dumps(manifest).encode()
    return _written(list(members.items()))


HOSTILE: tuple[Any, ...] = (
    -1, 0, 1, 63, 65, 1 << 20, 1 << 31, 1 << 40, 1 << 62, 1 << 70, 1.5, 1e308, True, None, "", "x",
    "f32[?]", "str[4]", "f32[0]", "f32[1099511627776]", "arena", "io", "weights", "out", "in",
    "../x", [], [[]], {}, "program0/plan.json", "manifest.json",
)  # fmt: skip


def _places(found: Any, path: tuple = ()) -> list[tuple]:
    """Paths to everything inside a JSON value."""
    keys = found.keys() if isinstance(found, dict) else range(len(found))
    paths = []
    for key in keys:
        paths.append((*path, key))
        if isinstance(found[key], (dict, list)):
            paths += _places(found[key], (*path, key))
    return paths


def _change(rng: random.Random, root: Any) -> None:
    path = rng.choice(_places(root) or [()])
    if not path:
        return
    place = root
    for key in path[:-1]:
        place = place[key]
    old = place[path[-1]]
    match rng.randrange(6):
        case 0:
            del place[path[-1]]
        case 1 if isinstance(place, list):
            place.insert(path[-1], copy.deepcopy(old))
        case 2 if isinstance(old, int):
            place[path[-1]] = old + rng.choice((-64, -4, -1, 1, 4, 64, 1 << 30))
        case 3:
            other = root
            for key in rng.choice(_places(root)):
                other = other[key]
            place[path[-1]] = copy.deepcopy(other)
        case _:
            place[path[-1]] = rng.choice(HOSTILE)


def _json_values(rng: random.Random, seed: Seed) -> bytes:
    """Numbers, types and names of manifest and plans changed, digests repaired."""
    members = _members(seed)
    name = rng.choice([n for n in members if n.endswith(".json")])
    root = json.loads(members[name])
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        _change(rng, root)
    members[name] = json.dumps(root).encode()
    return _repaired(members)


def _json_bombs(rng: random.Random, seed: Seed) -> bytes:
    members = _members(seed)
    name = rng.choice([n for n in members if n.endswith(".json")])
    members[name] = rng.choice(
        (
            b"[" * 500_000,
            b'{"a":' * 50_000,
            b'{"format":' + b"9" * 100_000 + b"}",
            b'{"a":[' + b"[]," * 3_000_000 + b"[]]}",
            b'{"a":"' + b"\\u0000" * 1_000_000 + b'"}',
            b'{"format":1,"format":1}',
            b"null",
            b"\xff\xfe{}",
        )
    )
    if name == "manifest.json":
        return _written(list(members.items()))
    return _repaired(members)


def _contents(rng: random.Random, seed: Seed) -> bytes:
    """Bytes of any member changed, digests repaired; texts by lines and tokens, too."""
    members = _members(seed)
    name = rng.choice([n for n in members if n != "manifest.json"])
    data = bytearray(members[name])
    if name.endswith(".txt") and rng.random() < 0.7:
        members[name] = _text(rng, members[name].decode()).encode()
    else:
        rng.choice(BYTES)(rng, data)
        members[name] = bytes(data)
    return _repaired(members)


def _text(rng: random.Random, text: str) -> str:
    """A graph's text with lines, numbers or names mixed up."""
    lines = text.split("\n")
    match rng.randrange(5):
        case 0:
            lines.insert(rng.randrange(len(lines)), rng.choice(lines))
        case 1:
            del lines[rng.randrange(len(lines))]
        case 2:
            i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
            lines[i], lines[j] = lines[j], lines[i]
        case 3:
            numbers = list(re.finditer(r"[0-9]+", text))
            found = rng.choice(numbers)
            new = str(rng.choice((-1, 0, 1, 2, 99, 1 << 31, 1 << 40, 1 << 62)))
            return text[: found.start()] + new + text[found.end() :]
        case 4:
            names = list(re.finditer(r"= ([a-z_]+)\(", text))
            found = rng.choice(names)
            return text[: found.start(1)] + rng.choice(sorted(OPS)) + text[found.end(1) :]
    return "\n".join(lines)


def _container(rng: random.Random, seed: Seed) -> bytes:
    """Members that repeat, overlap, climb out, are compressed, or more than there are."""
    members = list(_members(seed).items())
    name, data = rng.choice(members)
    match rng.randrange(7):
        case 0:
            members.append((name, data))
        case 1:
            members.append(
                (rng.choice(("../x", "/x", "a/../../x", "a\\b", "", "a//b", "x" * 999)), b"x")
            )
        case 2:
            file = io.BytesIO()
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as target:
                for label, content in members:
                    target.writestr(label, content)
                target.writestr("bomb", bytes(30_000_000))
            return file.getvalue()
        case 3:
            members.extend((f"m{i}", b"") for i in range(3000))
        case 4:
            members.remove((name, data))
        case 5:
            rng.shuffle(members)
        case 6:
            content = bytearray(_written(members))
            start = content.index(b"PK\x01\x02")
            for _ in range(rng.choice((1, 2))):
                place = rng.randrange(start, len(content) - 4)
                struct.pack_into("<I", content, place, rng.choice(NUMBERS) & 0xFFFFFFFF)
            return bytes(content)
    return _written(members)


BRIM: tuple[Callable[[random.Random, Seed], bytes], ...] = (
    _json_values, _json_values, _json_values, _json_bombs, _contents, _contents, _container,
)  # fmt: skip


def case(number: int, seed: int, seeds: list[Seed]) -> Case:
    """The case of a number: the same whenever `seed` and `seeds` are."""
    rng = random.Random(f"{seed}:{number}")
    chosen = rng.choice(seeds)
    if rng.random() < 0.4:
        way = rng.choice(BYTES)
        files = {"": bytearray(chosen.main), **{n: bytearray(d) for n, d in chosen.beside.items()}}
        way(rng, files[rng.choice(list(files))])
        main, *beside = files.values()
        return Case(way.__name__, chosen, bytes(main), dict(zip(chosen.beside, map(bytes, beside))))
    if chosen.suffix == ".brim":
        brim_way = rng.choice(BRIM)
        return Case(brim_way.__name__, chosen, brim_way(rng, chosen), {})
    if chosen.suffix == ".graph":
        return Case("_text", chosen, _text(rng, chosen.main.decode()).encode(), chosen.beside)
    model = onnx.ModelProto.FromString(chosen.main)
    onnx_way = rng.choice(ONNX)
    more = b""
    with contextlib.suppress(ValueError, IndexError):  # this model has nothing of that kind
        more = onnx_way(rng, model) or b""
    return Case(onnx_way.__name__, chosen, model.SerializeToString() + more, chosen.beside)
