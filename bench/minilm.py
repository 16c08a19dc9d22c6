"""`python -m bench.minilm`: a sentence encoder in 4 bits, against itself in f32.

all-MiniLM-L6-v2 with the weights of the zoo's `minilm-weights`, written as an ONNX model: BERT with
6 layers of 384 (arXiv:1810.04805, arXiv:2002.10957). The encoder of each way to find 4-bit weights
is compared with the float one on sentences from Python's own manual that calibration has not seen:
the cosine of the embeddings, the size of the file, the time of a run.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from pydoc_data import topics

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

import brim
from brim import zoo
from brim.compress.data import read_data
from brim.compress.metric import Accuracy
from brim.compress.pipeline import STEPS
from brim.compress.recipe import Recipe, Storage, Weights
from brim.compress.work import Work
from brim.graph import Graph
from tests.extra.real_models import RELATED, tokens

LAYERS, HEADS, WIDTH, EPSILON = 6, 12, 384, 1e-12
TOKENS = 64  # of a sentence, most of them padding
CALIBRATED, JUDGED = 96, 58  # pages, sentences
ROUNDS = 20

# Where 4 bits hurt most: what attention sums and its results, what GELU sees, and the last layers.
_HURT = ("attention.self.value", "attention.output.dense", "intermediate.dense")
SENSITIVE = Weights(8, 128, layers=(*(f"*{n}*" for n in _HURT), "*layer.[345].output.dense*"))
RECIPES = {
    "nearest": Recipe((Weights(4, 64),)),
    "hqq": Recipe((Weights(4, 64, symmetric=False, method="hqq"),)),
    "gptq": Recipe((Weights(4, 32, symmetric=False, method="gptq"),)),
    "mixed": Recipe((SENSITIVE, Weights(4, 32, symmetric=False, method="gptq"))),
    "int8": Recipe((Weights(8, 128),)),
    "f16": Recipe((Storage("f16"),)),
}


# ---------------------------------------------------------------------- the network


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The named f32 tensors of a file in Hugging Face's format: a JSON header, then the numbers."""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    found = {}
    for name, tensor in header.items():
        if tensor.get("dtype") == "F32":
            begin, end = (start + offset for offset in tensor["data_offsets"])
            found[name] = np.frombuffer(content[begin:end], "<f4").reshape(tensor["shape"])
    return found


class _Writer:
    """An ONNX graph under construction, with weights by name."""

    def __init__(self, tensors: dict[str, np.ndarray]) -> None:
        self.tensors = tensors
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, TensorProto] = {}

    def const(self, name: str, array: np.ndarray) -> str:
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def add(self, op: str, *inputs: str, **attributes: object) -> str:
        name = f"{op}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def linear(self, x: str, name: str) -> str:
        weight = self.const(f"{name}.weight", self.tensors[f"{name}.weight"].T)
        product = f"{name}.product"
        self.nodes.append(helper.make_node("MatMul", [x, weight], [product], name=name))
        return self.add("Add", product, self.const(f"{name}.bias", self.tensors[f"{name}.bias"]))

    def norm(self, x: str, name: str) -> str:
        parts = [self.const(f"{name}.{n}", self.tensors[f"{name}.{n}"]) for n in ("weight", "bias")]
        return self.add("LayerNormalization", x, *parts, axis=-1, epsilon=EPSILON)

    def rows(self, ids: str, name: str) -> str:
        table = self.const(f"{name}.weight", self.tensors[f"{name}.weight"])
        self.nodes.append(helper.make_node("Gather", [table, ids], [f"{name}.rows"], name=name))
        return f"{name}.rows"


def encoder(batch: int = 1, length: int = TOKENS) -> ModelProto:
    """input_ids, attention_mask, token_type_ids: i64[batch, length] -> f32[batch, length, 384]."""
    net = _Writer(read_safetensors(zoo.get("minilm-weights")))
    heads = net.const("heads", np.array([batch, length, HEADS, WIDTH // HEADS]))
    whole = net.const("whole", np.array([batch, length, WIDTH]))
    position = net.const("position", net.tensors["embeddings.position_embeddings.weight"][:length])
    x = net.add(
        "Add",
        net.rows("input_ids", "embeddings.word_embeddings"),
        net.rows("token_type_ids", "embeddings.token_type_embeddings"),
    )
    x = net.norm(net.add("Add", x, position), "embeddings.LayerNorm")
    mask = net.add("Cast", "attention_mask", to=TensorProto.FLOAT)
    mask = net.add("Sub", net.const("one", np.float32(1)), mask)
    mask = net.add("Mul", mask, net.const("far", np.float32(-1e4)))
    mask = net.add("Unsqueeze", mask, net.const("middle", np.array([1, 2])))
    scale = net.const("scale", np.float32((WIDTH // HEADS) ** -0.5))
    for number in range(LAYERS):
        layer = f"encoder.layer.{number}"
        query, key, value = (
            net.add("Reshape", net.linear(x, f"{layer}.attention.self.{part}"), heads)
            for part in ("query", "key", "value")
        )
        query, value = (net.add("Transpose", part, perm=[0, 2, 1, 3]) for part in (query, value))
        key = net.add("Transpose", key, perm=[0, 2, 3, 1])
        scores = net.add("Mul", net.add("MatMul", query, key), scale)
        seen = net.add("Softmax", net.add("Add", scores, mask), axis=-1)
        seen = net.add("Transpose", net.add("MatMul", seen, value), perm=[0, 2, 1, 3])
        seen = net.linear(net.add("Reshape", seen, whole), f"{layer}.attention.output.dense")
        x = net.norm(net.add("Add", seen, x), f"{layer}.attention.output.LayerNorm")
        wide = net.add("Gelu", net.linear(x, f"{layer}.intermediate.dense"))
        wide = net.linear(wide, f"{layer}.output.dense")
        x = net.norm(net.add("Add", wide, x), f"{layer}.output.LayerNorm")
    net.nodes.append(helper.make_node("Identity", [x], ["last_hidden_state"]))
    given = ("input_ids", "attention_mask", "token_type_ids")
    inputs = [helper.make_tensor_value_info(n, TensorProto.INT64, [batch, length]) for n in given]
    output = helper.make_tensor_value_info(
        "last_hidden_state", TensorProto.FLOAT, [batch, length, WIDTH]
    )
    graph = helper.make_graph(net.nodes, "minilm", inputs, [output], [*net.constants.values()])
    opset = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10)


# ---------------------------------------------------------------------- sentences


@cache
def sentences() -> tuple[str, ...]:
    """Sentences of 40 to 200 letters from Python's own manual, in an order of no meaning."""
    text = " ".join(topics.topics[name] for name in sorted(topics.topics))
    found = re.findall(r"(?<=\.\s)[A-Z][a-z][^.`*|_<>=\[\]{}\"]{38,198}\.(?=\s)", text)
    plain = sorted({" ".join(sentence.split()) for sentence in found})
    return tuple(plain[i] for i in np.random.default_rng(0).permutation(len(plain)))


def feed(texts: Sequence[str], length: int = TOKENS) -> dict[str, np.ndarray]:
    """The encoder's inputs for texts; of longer ones the first tokens."""
    ids, mask = np.zeros((2, len(texts), length), np.int64)
    for i, text in enumerate(texts):
        row = tokens(text)[:length]
        ids[i, : len(row)], mask[i, : len(row)] = row, 1
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def embedding(states: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """f32[texts, 384] of length 1: the average over a sentence's tokens."""
    weight = mask[..., None].astype(np.float32)
    mean = (states * weight).sum(1) / weight.sum(1)
    return mean / np.linalg.norm(mean, axis=1, keepdims=True)


def cosines(one: brim.Model, other: brim.Model, texts: Sequence[str]) -> np.ndarray:
    """Of the embeddings of each text by two encoders."""
    found = []
    for text in texts:
        given = feed([text])
        pair = [
            embedding(m.run(given)["last_hidden_state"], given["attention_mask"])
            for m in (one, other)
        ]
        found.append((pair[0] * pair[1]).sum())
    return np.array(found)


# ---------------------------------------------------------------------- the comparison


def calibration() -> list[dict[str, np.ndarray]]:
    """Pages of the manual that fill all tokens, without the sentences that are judged."""
    text = " ".join(" ".join(topics.topics[name].split()) for name in sorted(topics.topics))
    for sentence in judged():
        text = text.replace(sentence, "")
    words = text.split()
    starts = np.random.default_rng(1).permutation(len(words) // TOKENS)[:CALIBRATED] * TOKENS
    return [feed([" ".join(words[start : start + TOKENS])]) for start in starts]


def judged() -> tuple[str, ...]:
    """Sentences that calibration does not see."""
    return (*sentences()[-JUDGED:], *(text for pair in RELATED for text in pair))


def compressed(model: brim.Model, recipe: Recipe) -> brim.Model:
    """The encoder after all steps of a recipe."""
    inputs = {name: value.type for name, value in model.graph.inputs.items()}
    work = Work(read_data(calibration(), inputs), _no_judge, 1.0)
    graph = model.graph
    for step in recipe.steps:
        graph = STEPS[type(step)](graph, step, work).graph
    return brim.compile(graph)


def _no_judge(graph: Graph) -> Accuracy:
    raise AssertionError("no step here asks for it")


def milliseconds(models: Sequence[brim.Model], given: dict[str, np.ndarray]) -> list[float]:
    """The median run of each, in turns."""
    times: list[list[float]] = [[] for _ in models]
    for _ in range(ROUNDS):
        for model, found in zip(models, times):
            start = time.perf_counter()
            model.run(given)
            found.append(1e3 * (time.perf_counter() - start))
    return [statistics.median(found) for found in times]


def file_bytes(model: brim.Model) -> int:
    """Of the artifact."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.brim"
        model.save(path)
        return path.stat().st_size


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a row for each recipe that is named, or for all."""
    parser = argparse.ArgumentParser(prog="python -m bench.minilm")
    parser.add_argument("recipes", nargs="*", help=f"some of {', '.join(RECIPES)}")
    names = parser.parse_args(arguments).recipes or [*RECIPES]
    model = brim.load(encoder().SerializeToString())
    model.compile()
    whole, one = file_bytes(model), feed(judged()[:1])
    print(f"{len(judged())} sentences, {TOKENS} tokens; f32: {whole / 1e6:.1f} MB")
    print(f"{'recipe':>8} {'least cosine':>12} {'mean':>8} {'size':>7} {'f32 ms':>7} {'ms':>7}")
    for name in names:
        small = compressed(model, RECIPES[name])
        found = cosines(model, small, judged())
        times = milliseconds((model, small), one)
        size = file_bytes(small) / whole
        print(
            f"{name:>8} {found.min():12.4f} {found.mean():8.4f} {size:7.1%}"
            f" {times[0]:7.1f} {times[1]:7.1f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
