"""Times a model by brim and, if wanted, by another engine: `brim bench` without its printing.

Each engine lives in a child process of its own, and rounds alternate between them, so that a busy
machine slows both alike; ratios are taken within a round. The child's side of the protocol (JSON
lines on standard input and output) is the second half of this file: `python -m brim.tools.bench`.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from brim.errors import BrimError, InputError
from brim.settings import SETTINGS
from brim.tools.judge import TOLERANCE, differences, quantized_outputs
from brim.tools.litert import LiteRt
from brim.tools.peers import Arrays

ROUNDS = 7
ROUND_SECONDS = 0.25  # a round repeats the model for about so long
YARDSTICKS = 10  # in a round
WARM_UP_RUNS = 3
_WORK = bytes(1 << 20)
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Timed:
    """One engine; times in seconds. `load` found an empty cache, `load_again` what that left.

    `rounds` holds the median of each round, `fastest` the shortest single run. `yardstick`: of a
    fixed piece of work that no engine changes, done between the rounds; it tells how fast the
    machine was meanwhile.
    """

    engine: str
    version: str
    load: float
    load_again: float
    runs: int
    rounds: tuple[float, ...]
    fastest: float
    peak_bytes: int
    yardstick: float

    @property
    def median(self) -> float:
        """Seconds of one run, the median over rounds."""
        return statistics.median(self.rounds)

    @property
    def noise(self) -> float:
        """Half of the distance between the quartiles of the rounds, as a share of the median."""
        low, high = np.quantile(self.rounds, (0.25, 0.75)).tolist()
        return (high - low) / 2 / self.median


@dataclass(frozen=True)
class Versus:
    """brim against a peer: ratio of times (below 1: brim is faster), median and quartiles.

    `difference` is the largest relative one of any output.
    """

    peer: str
    ratio: float
    low: float
    high: float
    difference: float

    @property
    def agrees(self) -> bool:
        """Whether the outputs differ by no more than `TOLERANCE`."""
        return self.difference <= TOLERANCE


def bench(
    model: Path,
    feeds: Mapping[str, np.ndarray],
    shapes: Mapping[str, Sequence[int]] | None = None,
    threads: int = 1,
    peer: str | None = None,
    progress: Progress = lambda stage, done, total: None,
    signature: str = "",
) -> tuple[Timed, Timed | None, Versus | None]:
    """brim's times on `model` with inputs `feeds`; with `peer`, the peer's and the comparison.

    Raises InputError for an unknown or missing peer, and BrimError with an engine's last words.
    """
    engines = ["brim"] if peer is None else ["brim", _known(peer, model)]
    with tempfile.TemporaryDirectory(prefix="brim-bench-") as folder, ExitStack() as stack:
        scratch = Path(folder)
        np.savez(scratch / "inputs.npz", *feeds.values())  # by position: names may be any text
        children, sheets = [], []
        for engine in engines:
            progress(f"{engine} loads", 0, 0)
            child = stack.enter_context(_Child(engine, scratch))
            request = {"model": str(model.resolve()), "threads": threads, "shapes": shapes}
            request |= {"signature": signature} if signature else {}
            first = child.ask("load", **request)
            sheet = _Sheet(engine, first["version"], first["seconds"])
            sheet.load_again = child.ask("load", **request)["seconds"]
            sheet.outputs = child.run(list(feeds), scratch)
            warm = child.ask("time", runs=WARM_UP_RUNS)["seconds"]
            sheet.runs = max(1, math.ceil(ROUND_SECONDS / min(warm)))
            children.append(child)
            sheets.append(sheet)
        for number in range(ROUNDS):
            progress("rounds", number, ROUNDS)
            pairs = list(zip(children, sheets))
            for child, sheet in pairs if number % 2 == 0 else reversed(pairs):
                seconds = child.ask("time", runs=sheet.runs)["seconds"]
                sheet.rounds.append(statistics.median(seconds))
                sheet.fastest = min(sheet.fastest, *seconds)
                sheet.yardsticks += child.ask("yardstick")["seconds"]
        timed = [
            sheet.final(child.ask("memory")["peak_bytes"]) for child, sheet in zip(children, sheets)
        ]
    if peer is None:
        return timed[0], None, None
    ratios = [a / b for a, b in zip(timed[0].rounds, timed[1].rounds)]
    low, ratio, high = np.quantile(ratios, (0.25, 0.5, 0.75)).tolist()
    found = differences(sheets[0].outputs, sheets[1].outputs, quantized_outputs(model))
    apart = max(found.values(), default=0.0)
    return timed[0], timed[1], Versus(peer, ratio, low, high, apart)


def _known(peer: str, model: Path) -> str:
    if peer not in ENGINES or peer == "brim":
        names = [name for name in ENGINES if name != "brim"]
        raise InputError(f"no peer is called {peer!r}", hint=f"--vs {' or '.join(names)}")
    reads = ENGINES[peer].reads
    if model.suffix.lower() != reads:
        raise InputError(
            f"{peer} does not read {model.suffix or model.name}", hint=f"give the {reads} file"
        )
    return peer


@dataclass
class _Sheet:
    """What is noted of one engine while it is measured."""

    engine: str
    version: str
    load: float
    load_again: float = math.nan
    runs: int = 1
    rounds: list[float] = field(default_factory=list)
    yardsticks: list[float] = field(default_factory=list)
    fastest: float = math.inf
    outputs: Arrays = field(default_factory=dict)

    def final(self, peak_bytes: int) -> Timed:
        return Timed(
            self.engine, self.version, self.load, self.load_again, self.runs,
            tuple(self.rounds), self.fastest, peak_bytes, statistics.median(self.yardsticks),
        )  # fmt: skip


class _Child:
    """The parent's end of one engine's process."""

    def __init__(self, engine: str, scratch: Path) -> None:
        self.engine = engine
        self._log = (scratch / f"{engine}.log").open("w+b")
        # A module of this package finds its way through the environment, installed or not.
        path = os.pathsep.join(entry for entry in sys.path if entry)
        cache = {SETTINGS["cache"].env: str(scratch / f"{engine}.cache")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "brim.tools.bench", engine],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, "PYTHONPATH": path, **cache},
            # Ctrl-C reaches the parent alone, which then ends the child and all that it started.
            start_new_session=True,
        )

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()
        self._log.close()

    def ask(self, request: str, **arguments: Any) -> dict[str, Any]:
        """The reply to a request. Raises BrimError with what the child says, or last said."""
        assert self._process.stdin is not None and self._process.stdout is not None
        line = ""
        with suppress(BrokenPipeError):
            message = {"request": request, **arguments}
            print(json.dumps(message), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            words = self._log.read().decode(errors="replace").strip().splitlines()[-3:]
            raise BrimError(
                f"{self.engine} died while it was asked to {request}",
                why=f"exit code {self._process.wait()}; " + " | ".join(words),
            )
        reply: dict[str, Any] = json.loads(line)
        if "failed" in reply:
            raise BrimError(f"{self.engine} cannot {request} the model", why=reply["failed"])
        if "missing" in reply:
            raise InputError(
                f"{self.engine} is not installed", hint=f"pip install {reply['missing']}"
            )
        return reply

    def run(self, inputs: list[str], scratch: Path) -> Arrays:
        """The outputs for the inputs stored in `scratch`."""
        file = scratch / f"{self.engine}.npz"
        names = self.ask("run", folder=str(scratch), names=inputs, file=str(file))["names"]
        with np.load(file, allow_pickle=False) as stored:
            return {name: stored[f"arr_{i}"] for i, name in enumerate(names)}


# ---------------------------------------------------------------- the child


class Brim:
    """brim as a user calls it."""

    module, reads = "brim", ""  # any

    def __init__(
        self,
        model: str,
        threads: int,
        shapes: Mapping[str, Sequence[int]] | None,
        signature: str = "",
    ) -> None:
        import brim

        self.version = brim.__version__
        self._model = brim.load(model, threads=threads, shapes=shapes, signature=signature)

    def run(self, feeds: Arrays) -> Arrays:
        """Outputs by name."""
        return self._model.run(feeds)


class OnnxRuntime:
    """onnxruntime's CPU provider with all its graph optimisations."""

    module, reads = "onnxruntime", ".onnx"

    def __init__(
        self, model: str, threads: int, shapes: Mapping[str, Sequence[int]] | None
    ) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.version = onnxruntime.__version__
        self._session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )
        self._names = [output.name for output in self._session.get_outputs()]

    def run(self, feeds: Arrays) -> Arrays:
        """Outputs by name."""
        return dict(zip(self._names, map(np.asarray, self._session.run(None, feeds))))


# module: what has to be installed; reads: files of this suffix
ENGINES: dict[str, type[Brim] | type[OnnxRuntime] | type[LiteRt]] = {
    "brim": Brim,
    "onnxruntime": OnnxRuntime,
    "litert": LiteRt,
}


def serve(engine: str) -> None:
    """Answers one request per line until standard input ends."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what an engine prints must not look like a reply
    state: dict[str, Any] = {}
    for line in sys.stdin:
        try:
            reply = _answer(ENGINES[engine], state, json.loads(line))
        except ModuleNotFoundError as error:
            missing = error.name == ENGINES[engine].module
            reply = {"missing": error.name} if missing else {"failed": str(error)}
        except Exception as error:  # whatever an engine raises is the reply
            reply = {"failed": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=replies, flush=True)


def _answer(engine: Any, state: dict[str, Any], message: dict[str, Any]) -> dict[str, Any]:
    match message["request"]:
        case "load":
            __import__(engine.module)  # not the model's time
            start = time.perf_counter()
            state["engine"] = engine(**{k: v for k, v in message.items() if k != "request"})
            seconds = time.perf_counter() - start
            return {"seconds": seconds, "version": state["engine"].version}
        case "run":
            with np.load(Path(message["folder"]) / "inputs.npz", allow_pickle=False) as stored:
                state["feeds"] = {n: stored[f"arr_{i}"] for i, n in enumerate(message["names"])}
            outputs = state["engine"].run(state["feeds"])
            np.savez(message["file"], *outputs.values())
            return {"names": list(outputs)}
        case "time":
            return {"seconds": [_seconds(state) for _ in range(message["runs"])]}
        case "yardstick":
            return {"seconds": [_yardstick() for _ in range(YARDSTICKS)]}
        case "memory":
            return {"peak_bytes": _peak_bytes()}
    raise ValueError(f"unknown request {message['request']!r}")


def _seconds(state: dict[str, Any]) -> float:
    start = time.perf_counter()
    state["engine"].run(state["feeds"])
    return time.perf_counter() - start


def _yardstick() -> float:
    start = time.perf_counter()
    hashlib.blake2b(_WORK).digest()
    return time.perf_counter() - start


def _peak_bytes() -> int:
    """Highest resident memory of this process in bytes; 0 where the system does not tell."""
    try:
        # Linux keeps ru_maxrss across exec; VmHWM belongs to this program alone.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        import resource
    except (OSError, ImportError):
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    serve(sys.argv[1])
