"""`python -m bench.int8`: our int8 against our own f32, and against the int8 of peers.

All of one line ran in alternating rounds; ratios are medians of the ratio within a round, as in
`bench`: a time over that of our int8, above 1 ours is faster. Row "host" uses all that the
processor has. Row "x86-64-v3" is AVX2, without instructions for dot products of bytes: code of ours
for that row, and OpenVINO limited to it; onnxruntime cannot be limited. Weights are random and
ranges those of a few seeded inputs, which speed does not depend on: how far results are from f32 is
told by `bench.fidelity`. Run nothing else meanwhile.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx

import brim
from bench import networks_folder
from bench.measure import Comparison, Entry, Measured, machine, race, random_inputs
from bench.nets import build
from bench.static_int8 import Form, static_int8
from bench.table import live_progress, milliseconds

NETS = (
    "mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "efficientnet_lite0",
    "squeezenet_1_1", "resnet18", "resnet50", "inception_v3",
)  # fmt: skip
ROWS: dict[str, Mapping[str, str]] = {
    "host": {},
    "x86-64-v3": {"BRIM_TARGET": "x86-64-v3", "ONEDNN_MAX_CPU_ISA": "AVX2"},
}
OURS, FLOAT = "int8", "f32"
PEERS: dict[str, tuple[str, Form]] = {
    "onnxruntime QDQ": ("onnxruntime", "QDQ"),
    "onnxruntime QOp": ("onnxruntime", "QOperator"),
    "openvino QDQ": ("openvino", "QDQ"),
}
UNLIMITED = ("onnxruntime",)  # engines without a switch for instructions


def entries(net: Path, row: str, compressed: Path) -> list[Entry]:
    """Who runs network `net` on a row of `ROWS`, our int8 first, from the file `compressed`."""
    limits = ROWS[row]
    found = [Entry(OURS, "brim", compressed, limits), Entry(FLOAT, "brim", net, limits)]
    for label, (engine, form) in PEERS.items():
        if not limits or engine not in UNLIMITED:
            found.append(Entry(label, engine, stored(net, form), limits))
    return found


def compress(net: Path, folder: Path) -> dict[str, Path]:
    """For each row, the file of what `brim.quantize` makes of `net`. All layers are in integers,
    whatever it costs: with random weights no accuracy is to be kept."""
    model, _ = brim.quantize(net, samples(net), max_loss=math.inf, force=True)
    files = {}
    for row in ROWS:
        files[row] = folder / f"{net.stem}.{row}.brim"
        brim.compile(model.graph, target=row).save(files[row])
    return files


def stored(net: Path, form: Form) -> Path:
    """The int8 network of that form beside `net`, made if it is not there yet."""
    path = net.with_suffix(f".{form}.onnx")
    return path if path.exists() else static_int8(net, path, form, samples(net))


def samples(net: Path) -> list[dict[str, np.ndarray]]:
    """Some seeded inputs of `net`."""
    random = np.random.default_rng(7)
    (x,) = onnx.load(net, load_external_data=False).graph.input
    shape = [dimension.dim_value for dimension in x.type.tensor_type.shape.dim]
    return [{x.name: random.standard_normal(shape, np.float32)} for _ in range(4)]


def line(measured: Sequence[Measured], comparisons: Sequence[Comparison]) -> str:
    """Times in ms, and behind each of others its ratio to ours."""
    ratios = {c.peer: f" ({1 / c.ratio:.2f})" for c in comparisons}
    times = {m.label: milliseconds(m.median) for m in measured if m.state == "ok"}
    cells = (times.get(label, "-") + ratios.get(label, "") for label in (OURS, FLOAT, *PEERS))
    return "".join(f"{cell:>17}" for cell in cells)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 if all engines ran and our int8 was the fastest each time; else 1, and why."""
    parser = argparse.ArgumentParser(prog="python -m bench.int8", description=__doc__)
    parser.add_argument("nets", nargs="*", metavar="NET", help=f"default: {', '.join(NETS)}")
    parser.add_argument("--rows", default=",".join(ROWS), help="comma-separated; default all")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--directory", type=Path, default=networks_folder())
    options = parser.parse_args(arguments)
    if unknown := set(options.nets) - set(NETS):
        parser.error(f"{sorted(unknown)} not among {', '.join(NETS)}")
    print(", ".join(f"{name} {value}" for name, value in machine().items()))
    print(f"threads {options.threads}; ms, and in brackets how many times that of our int8")
    print(f"{'':30}" + "".join(f"{label:>17}" for label in (OURS, FLOAT, *PEERS)), flush=True)
    gains: dict[tuple[str, str], list[float]] = {}
    troubles = []
    with live_progress() as progress, TemporaryDirectory(prefix="brim-bench-") as folder:
        for name in options.nets or NETS:
            net = build(name, options.directory)
            progress(f"{name}: brim.quantize")
            files = compress(net, Path(folder))
            for row in options.rows.split(","):
                racing, inputs = entries(net, row, files[row]), random_inputs(net)
                found = race(name, racing, inputs, options.threads, options.rounds, progress)
                print(f"{name:19} {row:10}" + line(*found), flush=True)
                where = f"{name}, {row}"
                troubles += [f"{where}: {m.label} {m.state}: {m.why}" for m in found[0] if m.why]
                for c in found[1]:
                    gains.setdefault((row, c.peer), []).append(1 / c.ratio)
                    if c.ratio > 1:
                        troubles.append(f"{where}: {c.peer} is faster, in {1 / c.ratio:.2f} of it")
    for (row, peer), factors in gains.items():
        mean = statistics.geometric_mean(factors)
        print(f"{row:10} {peer:16} geometric mean {mean:.2f}, the least {min(factors):.2f}")
    for trouble in troubles:
        print(trouble, file=sys.stderr)
    return 1 if troubles else 0


if __name__ == "__main__":
    sys.exit(main())
