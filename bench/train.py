"""`python -m bench.train`: the time and memory of a step of training beside torch's on the CPU.

A step is forward, backward and update of one batch in the same memory: losses agree, or no time is
told. Both take turns, step by step, and medians are compared; run nothing else meanwhile. Memory is
measured by `bench.train_memory`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

import brim
from bench.train_memory import RATE, Step, memory
from bench.train_nets import NETS, exported, imported, torch_step
from brim import train

OPTIMISERS = {
    "momentum": (
        train.SGD(RATE, momentum=0.9),
        lambda weights: torch.optim.SGD(weights, RATE, momentum=0.9),
    ),
    "adam": (train.Adam(RATE), lambda weights: torch.optim.Adam(weights, RATE)),
}


@dataclass(frozen=True)
class Row:
    """One comparison: seconds of a step, bytes that a process grows by."""

    net: str
    batch: int
    optimiser: str
    threads: int
    seconds: float
    torch_seconds: float
    bytes: int
    torch_bytes: int

    @property
    def ratio(self) -> float:
        return self.seconds / self.torch_seconds


def steps(name: str, batch: int, way: str, threads: int) -> dict[str, Callable[[], Step]]:
    """What makes the step of each engine, of the same network and batch."""
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    net, shape = NETS[name][0]()
    ours = imported(net, batch, shape)
    x, labels = torch.randn(batch, *shape), torch.randint(0, 10, (batch,))
    optimiser, peer = OPTIMISERS[way]

    def brims() -> Step:
        model = brim.compile(
            train.training_step(ours, train.CrossEntropy(), optimiser), threads=threads
        )
        feeds = {"x": x.numpy(), "target": labels.numpy()}
        return lambda: float(model.run(feeds)["loss"])

    def torchs() -> Step:
        updates = peer(net.parameters())
        return torch_step(net.train(), updates, x, labels)

    return {"brim": brims, "torch": torchs}


def compare(name: str, batch: int, way: str, threads: int, seconds: float) -> Row:
    """Steps in turns for so many seconds. Raises ValueError where losses differ."""
    ours, theirs = (make() for make in steps(name, batch, way, threads).values())
    for _ in range(3):
        found, wanted = ours(), theirs()
        if not np.isclose(found, wanted, rtol=1e-2):
            raise ValueError(f"{name}: the loss is {found}, torch's {wanted}")
    times: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[0]) < 5:
        for step, taken in zip((ours, theirs), times):
            start = time.perf_counter()
            step()
            taken.append(time.perf_counter() - start)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, f"{name}.onnx")
        net, shape = NETS[name][0]()
        file.write_bytes(exported(net, batch, shape))
        case = file, name, batch, way, threads
        grown = [memory(engine, *case) for engine in ("brim", "torch")]
    return Row(name, batch, way, threads, *map(statistics.median, times), *grown)


def main() -> int:
    """Prints a line for each network, batch, optimiser and number of threads."""
    parser = argparse.ArgumentParser(prog="python -m bench.train", description=__doc__)
    parser.add_argument("--nets", default=",".join(NETS), help="comma-separated; default all")
    parser.add_argument("--optimisers", default=",".join(OPTIMISERS))
    parser.add_argument("--threads", default="1,2", help="comma-separated numbers")
    parser.add_argument("--seconds", type=float, default=10, help="of each comparison")
    parser.add_argument("--json", action="store_true", help="print a list of rows instead")
    options = parser.parse_args()
    rows = []
    if not options.json:
        print("network   batch optimiser threads     brim    torch ratio     brim  torch")
    for name in options.nets.split(","):
        for batch in NETS[name][1]:
            for way in options.optimisers.split(","):
                for threads in map(int, options.threads.split(",")):
                    row = compare(name, batch, way, threads, options.seconds)
                    rows.append(row)
                    if not options.json:
                        print(_line(row), flush=True)
    if options.json:
        print(json.dumps([asdict(row) | {"ratio": row.ratio} for row in rows], indent=1))
    return 0


def _line(row: Row) -> str:
    return (
        f"{row.net:9} {row.batch:5} {row.optimiser:9} {row.threads:7} "
        f"{row.seconds * 1e3:6.1f}ms {row.torch_seconds * 1e3:6.1f}ms {row.ratio:5.2f}   "
        f"{row.bytes / 2**20:5.0f} MB {row.torch_bytes / 2**20:5.0f} MB"
    )


if __name__ == "__main__":
    sys.exit(main())
