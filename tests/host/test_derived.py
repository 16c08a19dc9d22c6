"""Weights that follow from constants: left out of artifacts, and made again with the same bits."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

import brim
from brim.compiler import compile_graph
from brim.graph import Graph, const, placeholder
from brim.ops import primitive as p
from brim.runtime.artifact import Artifact, open_artifact
from brim.runtime.artifact_save import Card, Function, artifact_parts
from brim.runtime.derived import derived_graph
from brim.text import print_graph
from brim.types import F32, U8, Type
from tests.host.test_artifact import bare, rewritten
from tests.host.test_variants import integer_layer, layer
from tests.networks import normal


def integers() -> Graph:
    random = np.random.default_rng(0)
    weights = np.rint(random.standard_normal((3, 3, 64, 96)) * 30).clip(-127, 127)
    return integer_layer(28, weights.astype(np.int8))


def packed_twice() -> Graph:
    """A matrix that two products read, along both of its axes."""
    x, w = placeholder(Type((8, 96), F32)), const(normal(96, 96))
    a = p.contract(x, w, spec="mk,kn->mn")
    return Graph({"x": x}, {"y": p.contract(p.tanh(a), w, spec="mk,nk->mn")})


GRAPHS = {
    "winograd": lambda: layer(28, 64, 96),
    "winograd of a large window": lambda: layer(28, 48, 64, window=(5, 5)),
    "winograd of integers": integers,
    "packed twice": packed_twice,
}


def feeds_of(graph: Graph) -> dict[str, np.ndarray]:
    (x,) = graph.inputs.values()
    random = np.random.default_rng(1)
    if x.dtype == U8:
        return {"x": random.integers(0, 256, x.shape).astype(np.uint8)}
    return {"x": random.standard_normal(x.shape).astype(np.float32)}


@pytest.mark.parametrize("name", GRAPHS)
def test_a_saved_artifact_holds_constants_once(name: str, tmp_path: Path) -> None:
    graph = GRAPHS[name]()
    feeds, constants = feeds_of(graph), [v.data for v in graph.values() if v.data is not None]
    compiled, model = compile_graph(graph), brim.compile(graph)
    model.save(tmp_path / "m.brim")
    artifact = open_artifact(tmp_path / "m.brim")
    artifact.verify()
    members = artifact._members.items()
    held = sum(m.size for n, m in members if n.endswith(("constants.bin", "weights.bin")))
    assert held < 1.1 * sum(array.nbytes for array in constants) + 4096
    assert compiled.weight_bytes > 1.8 * held
    np.testing.assert_array_equal(artifact.programs[0].weights, compiled.weights)
    loaded = brim.load(tmp_path / "m.brim")
    np.testing.assert_array_equal(loaded.run(feeds)["y"], model.run(feeds)["y"])
    loaded.save(tmp_path / "again.brim")
    assert (tmp_path / "again.brim").read_bytes() == (tmp_path / "m.brim").read_bytes()


@pytest.mark.parametrize("name", GRAPHS)
def test_an_artifact_of_the_cache_holds_all_of_them_and_saves_as_small(
    name: str, tmp_path: Path
) -> None:
    graph = GRAPHS[name]()
    compiled, model = compile_graph(graph), brim.compile(graph)
    model.save(tmp_path / "small.brim")
    types = {n: v.type for n, v in graph.inputs.items()}
    content = b"".join(artifact_parts(Function(Card("graph", types, {"y": None}), [compiled])))
    program = Artifact(memoryview(content), "x").programs[0]
    assert program.body.weights.is_complete
    np.testing.assert_array_equal(program.weights, compiled.weights)
    again, first = program.compiled(), {s.data.tobytes(): s for s in compiled.stored}
    assert len(again.stored) == len(compiled.stored)
    for item in again.stored:
        assert item.offset == first[item.data.tobytes()].offset
    texts = [print_graph(derived_graph(c.derived)[0])[0] for c in (compiled, again)]
    assert texts[0] == texts[1]
    assert [(d.offset, d.packing) for d in again.derived] == [
        (d.offset, d.packing) for d in compiled.derived
    ]


def test_several_programs_share_their_constants(tmp_path: Path) -> None:
    """Though one row and many rows of a product read the weights in other blocks."""
    w = normal(96, 200)

    def product(rows: int) -> Graph:
        x = placeholder(Type((rows, 96), F32))
        return Graph({"x": x}, {"y": p.contract(x, const(w.copy()), spec="mk,kn->mn")})

    model = brim.compile(product(1), functions={"many": product(64)})
    model.save(tmp_path / "m.brim")
    artifact = open_artifact(tmp_path / "m.brim")
    members = artifact._members.items()
    held = sum(m.size for n, m in members if n.endswith(("constants.bin", "weights.bin")))
    assert held < 1.3 * w.nbytes
    loaded = brim.load(tmp_path / "m.brim")
    one, many = feeds_of(product(1)), feeds_of(product(64))
    np.testing.assert_array_equal(loaded.run(one)["y"], model.run(one)["y"])
    want = model.functions["many"].run(many)["y"]
    np.testing.assert_array_equal(loaded.functions["many"].run(many)["y"], want)


def test_it_needs_no_compiler(tmp_path: Path) -> None:
    graph = integers()
    feeds, model = feeds_of(graph), brim.compile(graph)
    model.save(tmp_path / "m.brim")
    np.savez(tmp_path / "io.npz", x=feeds["x"], y=model.run(feeds)["y"])
    ran: subprocess.CompletedProcess[str] = bare(f"""
io = np.load({str(tmp_path / "io.npz")!r})
assert (brim.load({str(tmp_path / "m.brim")!r})(io["x"]) == io["y"]).all()
""")
    assert ran.returncode == 0, ran.stderr


def test_what_weights_follow_from_is_part_of_the_code(tmp_path: Path) -> None:
    """Kernels trust the indices among their weights: who pins the code pins all of them."""
    brim.compile(layer(28, 64, 96)).save(tmp_path / "m.brim")
    artifact = open_artifact(tmp_path / "m.brim")
    for name in ("constants.bin", "program0/derived.txt"):
        data = bytearray(artifact.read(name))
        data[-2] ^= 1
        manifest = json.loads(bytes(artifact._members["manifest.json"].read()))
        manifest["members"][name][1] = hashlib.sha256(data).hexdigest()
        change = {name: bytes(data), "manifest.json": json.dumps(manifest).encode()}
        with pytest.raises(brim.ModelError, match="digest of its code"):
            open_artifact(rewritten(tmp_path / "m.brim", change, tmp_path / "n.brim"))
