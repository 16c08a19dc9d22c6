"""Documents for the page of `brim view`, as `view/document.py` describes them, without a model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

KINDS = {
    "conv": "product",
    "batchnorm": "norm",
    "relu": "activation",
    "add": "elementwise",
    "concat": "move",
    "pool": "reduce",
    "input": "input",
    "output": "output",
}
TYPE = "f32[1,64,56,56]"


@dataclass
class Drawn:
    """A document that grows operator by operator."""

    blocks: list[dict[str, Any]] = field(default_factory=list)
    nodes: list[dict[str, Any]] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)

    def block(self, name: str, parent: int | None = None, alike: int | None = None) -> int:
        self.blocks.append({"name": name, "parent": parent, "alike": alike})
        return len(self.blocks) - 1

    def put(self, op: str, *inputs: int, block: int | None = None, hint: str = "") -> int:
        """An operator that reads these nodes; its number."""
        number = len(self.nodes)
        name = self.blocks[block]["name"] if block is not None else "net"
        self.sources.append(f"{name}/{op}_{number}")
        self.nodes.append(
            {
                "op": op,
                "kind": KINDS[op],
                "key": number,
                "source": number,
                "block": block,
                "inputs": [[i, 0] for i in inputs],
                "outputs": [] if op == "output" else [TYPE],
                "attrs": {"stride": "(2, 2)", "pads": "(1, 1, 1, 1)"} if op == "conv" else {},
                "weights": [[1, 0], [2, 1]] if op == "conv" else [],
                "kernel": number if op == "conv" else None,
                "hint": hint or ("3×3 /2 → 64" if op == "conv" else ""),
            }
        )
        return number

    def document(self, name: str) -> dict[str, Any]:
        """Three stages: as built, without norms, and the same once more."""
        conv = [i for i, node in enumerate(self.nodes) if node["op"] == "conv"]
        folded = list(without(self.nodes, "batchnorm"))
        return {
            "version": 1,
            "name": name,
            "facts": [["format", "synthetic"], ["operators", str(len(self.nodes))]],
            "sources": self.sources,
            "blocks": self.blocks,
            "weights": [
                weight("weight", "f32[64,64,3,3]", [1, 4, 40, 300, 5000, 9000, 700, 60, 9, 2]),
                weight("bias", "f32[64]", [3, 9, 20, 30, 25, 8, 1]),
            ],
            "stages": [
                {"name": "file", "title": "the file", "why": "", "same": None, "nodes": self.nodes},
                {
                    "name": "batchnorm",
                    "title": "batchnorm",
                    "why": "norms become part of the convolutions before them",
                    "same": None,
                    "nodes": folded,
                },
                {"name": "expand", "title": "expand", "why": "", "same": 1, "nodes": []},
            ],
            "kernels": [
                {
                    "ops": ["conv", "relu"],
                    "where": self.sources[i],
                    "schedule": "tile n:8 m:16\nvector n",
                    "predicted": 1e-5 * (1 + i % 7),
                    "measured": 1.1e-5 * (1 + i % 7),
                    "flops": 231211008,
                    "bytes": 1605632,
                    "times": 1,
                }
                for i in range(len(self.nodes))
            ],
            "overlays": [
                {
                    "name": "measured",
                    "title": "measured time",
                    "unit": "s",
                    "by": "kernel",
                    "bad": "high",
                    "values": [[i, 1.1e-5 * (1 + i % 7) ** 2] for i in conv],
                },
                {
                    "name": "error",
                    "title": "quantization error",
                    "unit": "dB",
                    "by": "source",
                    "bad": "low",
                    "values": [[i, 60.0 - i % 45] for i in conv],
                },
            ],
        }


def without(nodes: list[dict[str, Any]], op: str) -> Iterator[dict[str, Any]]:
    """The nodes without those of one input that are op; who read these reads what they read."""
    number: dict[int, int] = {}
    kept = 0
    for i, node in enumerate(nodes):
        if node["op"] == op:
            number[i] = number[node["inputs"][0][0]]
            continue
        number[i] = kept
        kept += 1
        yield {**node, "inputs": [[number[j], port] for j, port in node["inputs"]]}


def weight(name: str, form: str, counts: list[int]) -> dict[str, Any]:
    return {
        "name": name,
        "type": form,
        "bytes": 4 * sum(counts),
        "low": -0.31,
        "high": 0.42,
        "mean": 0.001,
        "zeros": 0.02,
        "counts": counts,
        "values": None,
        "sampled": False,
    }


def layer(net: Drawn, x: int, block: int | None) -> int:
    """Convolution, norm, activation."""
    for op in ("conv", "batchnorm", "relu"):
        x = net.put(op, x, block=block)
    return x


def inception(modules: int, branches: int = 4, rooms: int = 0) -> dict[str, Any]:
    """A stem and modules of branches that grow longer; rooms: modules in each block around them."""
    net = Drawn()
    x = net.put("input")
    stem = net.block("stem")
    for _ in range(3):
        x = layer(net, x, stem)
    x = net.put("pool", x, hint="3×3 /2")
    around = None
    for module in range(modules):
        if rooms and module % rooms == 0:
            around = net.block(f"part_{module // rooms}", alike=1)
        room = net.block(f"mixed_{module}", around, alike=0)
        ends = []
        for branch in range(branches):
            end = x if branch else net.put("pool", x, block=room, hint="3×3 /1")
            for _ in range(1 + branch):
                end = layer(net, end, room)
            ends.append(end)
        x = net.put("concat", *ends, block=room, hint="axis 1")
    net.put("output", net.put("pool", x, hint="global"))
    return net.document(f"inception of {modules} modules")


def chain(length: int) -> dict[str, Any]:
    """One layer after the other, in no block."""
    net = Drawn()
    x = net.put("input")
    for i in range(length - 2):
        x = net.put("relu" if i % 2 else "conv", x)
    net.put("output", x)
    return net.document(f"chain of {length}")


def residual(stages: int, length: int) -> dict[str, Any]:
    """Blocks that add what enters them to what they compute."""
    net = Drawn()
    x = net.put("input")
    for stage in range(stages):
        outer = net.block(f"layer{stage}", alike=0)
        for i in range(length):
            room = net.block(f"layer{stage}/{i}", outer, alike=1)
            y = layer(net, layer(net, x, room), room)
            x = net.put("relu", net.put("add", y, x, block=room), block=room)
    net.put("output", net.put("pool", x))
    return net.document(f"residual net of {stages} stages")
