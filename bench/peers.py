"""Engines that can be timed, each in a child process of its own, and the protocol to that child.

The child answers JSON lines: requests on standard input, replies on what was its standard output
(stray prints of an engine go to standard error instead). What to measure and how often is not
decided here but in `bench.measure`. An engine is added with one class and one row of ENGINES.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
LIMIT_SECONDS = 300.0  # for one request; a hung engine must not hang the benchmark

Arrays = dict[str, np.ndarray]


class Engine(Protocol):
    """A loaded model; constructing it is the loading that is timed."""

    def __init__(self, model: Path, threads: int) -> None: ...

    @property
    def version(self) -> str: ...

    def run(self, inputs: Arrays) -> Arrays: ...


class Brim:
    """brim as a user calls it."""

    def __init__(self, model: Path, threads: int) -> None:
        import brim

        self._model = brim.load(model, threads=threads)

    @property
    def version(self) -> str:
        import brim

        found: str = brim.__version__  # it takes longer to find than some models to load
        return found

    def run(self, inputs: Arrays) -> Arrays:
        outputs: Arrays = self._model.run(inputs)
        return outputs


class OnnxRuntime:
    """onnxruntime's CPU provider: all graph optimisations, default spinning, one op at a time."""

    def __init__(self, model: Path, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        self.version: str = onnxruntime.__version__
        self._session = onnxruntime.InferenceSession(
            str(model), options, providers=["CPUExecutionProvider"]
        )
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(self, inputs: Arrays) -> Arrays:
        return dict(zip(self._outputs, self._session.run(None, inputs), strict=True))


class OpenVino:
    """OpenVINO's CPU plugin for latency, in f32."""

    def __init__(self, model: Path, threads: int) -> None:
        import openvino

        self.version: str = openvino.__version__.split("-")[0]
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        self._model = openvino.Core().compile_model(str(model), "CPU", options)

    def run(self, inputs: Arrays) -> Arrays:
        found = self._model(inputs)
        return {port.get_any_name(): found[port] for port in self._model.outputs}


class Mnn:
    """MNN's CPU backend, by its converter, which runs once; precision as on desktops, f32."""

    def __init__(self, model: Path, threads: int) -> None:
        import MNN
        import MNN.expr
        import MNN.nn

        self.version: str = MNN.version()
        made = model.with_suffix(".mnn")
        if not made.is_file():
            # Not its command: that reports the conversion to a server, and installs packages.
            convert = "import sys, MNN, _tools; _tools.mnnconvert(sys.argv)"
            names = "--modelFile", str(model), "--MNNModel", str(made)
            _run(sys.executable, "-c", convert, "-f", "ONNX", "--bizCode", "brim", *names)
        self._expr, (self._inputs, self._outputs) = MNN.expr, _ports(model)
        options = {"backend": "CPU", "numThread": threads, "precision": "high"}
        manager = MNN.nn.create_runtime_manager((options,))
        self._net = MNN.nn.load_module_from_file(
            str(made), self._inputs, self._outputs, runtime_manager=manager
        )

    def run(self, inputs: Arrays) -> Arrays:
        plain = self._expr.NCHW
        given = [self._expr.const(inputs[n], list(inputs[n].shape), plain) for n in self._inputs]
        found = [self._expr.convert(y, plain).read() for y in self._net.forward(given)]
        return dict(zip(self._outputs, found, strict=True))


class Ncnn:
    """ncnn on the CPU, by its converter pnnx, which runs once. Models of one input.

    It knows no batch: images are given one after the other.
    """

    def __init__(self, model: Path, threads: int) -> None:
        import ncnn

        self.version: str = ncnn.__version__
        folder = model.with_suffix(".ncnn")  # pnnx writes ten files beside what it reads
        if not folder.is_dir():
            folder.mkdir()
            (folder / "model.onnx").symlink_to(model.resolve())
            pnnx = Path(sys.executable).with_name("pnnx")
            _run(str(pnnx), str(folder / "model.onnx"), "fp16=0")
        made = folder / "model.ncnn.param"
        self._ncnn, (self._inputs, self._outputs) = ncnn, _ports(model)
        self._net = ncnn.Net()
        self._net.opt.num_threads = threads
        self._net.opt.use_fp16_packed = self._net.opt.use_fp16_storage = False
        self._net.opt.use_fp16_arithmetic = self._net.opt.use_bf16_storage = False
        if self._net.load_param(str(made)) or self._net.load_model(str(made.with_suffix(".bin"))):
            raise ValueError("ncnn cannot load what pnnx made")

    def run(self, inputs: Arrays) -> Arrays:
        (images,) = inputs.values()
        found = [self._run_one(image) for image in images]
        return {name: np.stack(rows) for name, rows in zip(self._outputs, zip(*found))}

    def _run_one(self, image: np.ndarray) -> list[np.ndarray]:
        found = []
        with self._net.create_extractor() as extractor:
            extractor.input("in0", self._ncnn.Mat(image).clone())
            for index in range(len(self._outputs)):
                code, output = extractor.extract(f"out{index}")
                if code:
                    raise ValueError(f"ncnn stopped with code {code}")
                found.append(np.array(output))
        return found


class LiteRt:
    """LiteRT on the CPU as `brim bench` runs it. TFLite files only."""

    def __init__(self, model: Path, threads: int) -> None:
        from brim.tools.litert import LiteRt  # not above: where there is no brim, others still run

        self._net = LiteRt(model, threads)
        self.version: str = self._net.version

    def run(self, inputs: Arrays) -> Arrays:
        return self._net.run(inputs)


def _ports(model: Path) -> tuple[list[str], list[str]]:
    """Names of the inputs and outputs of an ONNX file."""
    import onnx

    graph = onnx.load(str(model), load_external_data=False).graph
    return [port.name for port in graph.input], [port.name for port in graph.output]


def _run(*command: str) -> None:
    """Runs a converter that was installed with an engine."""
    subprocess.run(command, check=True, capture_output=True)


# By the name of the module that has to be installed.
ENGINES: dict[str, type[Engine]] = {
    "brim": Brim,
    "onnxruntime": OnnxRuntime,
    "openvino": OpenVino,
    "MNN": Mnn,
    "ncnn": Ncnn,
    "ai_edge_litert": LiteRt,
}


class PeerError(Exception):
    """The engine could not do what was asked; the message says why, with its last words."""


class NotInstalled(PeerError):
    """The engine's package is not there."""


class Peer:
    """The parent's end of one child: start, `ask`, `close`. Usable as a context manager."""

    def __init__(self, engine: str, environment: Mapping[str, str]) -> None:
        """Starts the child. `engine` is a key of ENGINES; `environment` is added to this one's."""
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        self._child = subprocess.Popen(
            [sys.executable, "-m", "bench.peers", engine],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, **environment, "PYTHONPATH": _child_path()},
            # A session of its own: Ctrl-C reaches the parent alone, which then ends the whole
            # group, compile workers of the engine included.
            start_new_session=True,
        )

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, request: str, **arguments: object) -> dict[str, Any]:
        """The child's reply to `request`. Raises PeerError if it failed, died or took too long."""
        assert self._child.stdin
        assert self._child.stdout
        late = threading.Event()

        def end() -> None:
            late.set()
            self._kill()

        timer = threading.Timer(LIMIT_SECONDS, end)
        timer.daemon = True  # an interrupt while it starts leaves it; nobody shall wait for it
        try:
            timer.start()
            print(json.dumps({"request": request, **arguments}), file=self._child.stdin, flush=True)
            line = self._child.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
        if late.is_set():
            raise PeerError(f"{request}: no answer within {LIMIT_SECONDS:.0f} s")
        if not line:
            raise PeerError(f"{request}: {self._last_words()}")
        reply: dict[str, Any] = json.loads(line)
        if "missing" in reply:
            raise NotInstalled(reply["missing"])
        if "failed" in reply:
            raise PeerError(f"{request}: {reply['failed']}")
        return reply

    def close(self) -> None:
        """Ends the child and everything it started."""
        self._kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            assert pipe
            with suppress(BrokenPipeError):
                pipe.close()
        self._log.close()

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)

    def _last_words(self) -> str:
        code = self._child.wait()
        self._log.seek(0)
        words = self._log.read().decode(errors="replace").strip().splitlines()[-3:]
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return " | ".join([f"the process ended with {how}", *words])


def _child_path() -> str:
    """PYTHONPATH under which the child finds `bench` and whatever the parent could import."""
    return os.pathsep.join([str(ROOT), *(entry for entry in sys.path if entry)])


def save_arrays(path: Path, arrays: Arrays) -> list[str]:
    """Stores `arrays` in `path` (.npz) in the order of the names that it returns."""
    np.savez(path, *arrays.values())  # positions, since a tensor may have any name
    return list(arrays)


def load_arrays(path: Path, names: Sequence[str]) -> Arrays:
    """What `save_arrays` stored."""
    with np.load(path, allow_pickle=False) as file:
        return {name: file[f"arr_{index}"] for index, name in enumerate(names)}


def serve(name: str) -> None:
    """The child's loop: one reply per request line until standard input ends."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    state: dict[str, Any] = {}
    for line in sys.stdin:
        try:
            reply = _answer(name, state, json.loads(line))
        except ModuleNotFoundError as error:
            reply = {"missing" if error.name == name else "failed": str(error)}
        except Exception as error:  # whatever the engine raises is the reply
            reply = {"failed": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=replies, flush=True)


def _answer(name: str, state: dict[str, Any], message: dict[str, Any]) -> dict[str, Any]:
    match message["request"]:
        case "load":
            importlib.import_module(name)  # its time is not the model's
            start = time.perf_counter()
            state["engine"] = ENGINES[name](Path(message["model"]), message["threads"])
            seconds = time.perf_counter() - start
            return {"seconds": seconds, "version": state["engine"].version}
        case "run":
            state["inputs"] = load_arrays(Path(message["inputs"]), message["names"])
            outputs = state["engine"].run(state["inputs"])
            return {"names": save_arrays(Path(message["outputs"]), outputs)}
        case "time":
            return _time(state["engine"], state["inputs"], message["runs"])
        case "memory":
            return {"peak_bytes": _peak_bytes()}
    raise ValueError(f"unknown request {message['request']!r}")


def _time(engine: Engine, inputs: Arrays, runs: int) -> dict[str, Any]:
    """Seconds of each run, and how many cores this process kept busy meanwhile."""
    seconds = []
    begin, busy = time.perf_counter(), time.process_time()
    for _ in range(runs):
        start = time.perf_counter()
        engine.run(inputs)
        seconds.append(time.perf_counter() - start)
    busy = time.process_time() - busy
    return {"seconds": seconds, "cores": busy / (time.perf_counter() - begin)}


def _peak_bytes() -> int:
    """Highest resident memory of this process in bytes."""
    # Linux keeps ru_maxrss across exec, so a child of a fat parent starts with the parent's peak;
    # VmHWM belongs to this program alone.
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    serve(sys.argv[1])
