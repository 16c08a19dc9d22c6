"""What a process grows by that trains a network, of one engine: the bench's process of its own.

It has trained a tiny network before, so that libraries, their code and their threads count for
neither engine. What counts is all that this network adds, at the peak of its steps: its weights and
slots, all in between, and what is left of making the step. brim's network is in a file, as torch
is not loaded beside it. Linux only.
"""

from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

Step = Callable[[], float]  # which gives the loss
RATE = 1e-3


def memory(engine: str, file: Path, name: str, batch: int, way: str, threads: int) -> int:
    """Bytes that a process grows by, which makes one engine's step and takes some.

    file: the network as ONNX, which brim trains; name: of the network in `train_nets`, for torch.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=_grow, args=(there, engine, file, name, batch, way, threads))
    child.start()
    there.close()
    grown = here.recv()
    child.join()
    return grown


def _grow(
    result: Connection, engine: str, file: Path, name: str, batch: int, way: str, threads: int
) -> None:
    tiny, step = {"brim": _brims, "torch": _torchs}[engine](file, name, batch, way, threads)
    tiny()()
    del tiny
    gc.collect()
    start = _status("VmRSS")
    made = step()
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak is that of the steps from here on
    for _ in range(3):
        made()
    result.send(_status("VmHWM") - start)


Makers = tuple[Callable[[], Step], Callable[[], Step]]  # of a tiny network's step; of the one's


def _brims(file: Path, name: str, batch: int, way: str, threads: int) -> Makers:
    import brim
    from brim import train
    from brim.train.layers import averaged

    def step(net: train.Network) -> Step:
        optimiser = train.SGD(RATE, momentum=0.9) if way == "momentum" else train.Adam(RATE)
        graph = train.training_step(net, train.CrossEntropy(), optimiser)
        model = brim.compile(graph, threads=threads)
        (x,) = net.data.values()
        feeds = {"x": _inputs(x.shape), "target": np.zeros(x.shape[0], np.int64)}
        return lambda: float(model.run(feeds)["loss"])

    def tiny() -> Step:
        layers = train.Layers()
        y = layers.conv(layers.input("x", (2, 8, 8, 3)), "first", 4, size=3)
        return step(layers.network(layers.dense(averaged(y), "last", 10)))

    return tiny, lambda: step(train.network(file))


def _torchs(file: Path, name: str, batch: int, way: str, threads: int) -> Makers:
    import torch
    from torch import nn

    from bench.train_nets import NETS, torch_step

    torch.set_num_threads(threads)

    def step(net: nn.Module, *shape: int) -> Step:
        weights = net.train().parameters()
        momentum = way == "momentum"
        updates = (
            torch.optim.SGD(weights, RATE, momentum=0.9)
            if momentum
            else torch.optim.Adam(weights, RATE)
        )
        x, labels = torch.from_numpy(_inputs(shape)), torch.zeros(shape[0], dtype=torch.int64)
        return torch_step(net, updates, x, labels)

    def tiny() -> Step:
        layers = nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10)
        return step(nn.Sequential(*layers), 2, 3, 8, 8)

    def whole() -> Step:
        net, shape = NETS[name][0]()
        return step(net, batch, *shape)

    return tiny, whole


def _inputs(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def _status(key: str) -> int:
    """A size in bytes that Linux tells of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (found,) = (line.split()[1] for line in lines if line.startswith(f"{key}:"))
    return int(found) * 1024
