"""Many models in child processes: a peer that crashes or hangs ends a child, not the run.

A child announces each model before it starts and its verdict afterwards, a JSON line each. If it
dies in between, the traceback that Python leaves (`faulthandler`) tells in whose code.
"""

from __future__ import annotations

import faulthandler
import json
import os
import subprocess
import sys
import tempfile
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

SECONDS = 180  # for one model with all engines; most take milliseconds
ENGINES = {"interpreter": ("interpreter",), "compiled": ("interpreter", "compiled")}


@dataclass(frozen=True)
class Result:
    """How model number `index` of a seed ended. nodes: operators of it (shrunk, where it failed).

    kind: as in `judge`, and none (nothing could be drawn), peer (a peer crashed or hung), hang, or
    fault (of the fuzzer itself).
    """

    index: int
    kind: str
    who: str = ""
    why: str = ""
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """What to do: models first, first + 1, ... of a seed. folder: where failures are written."""

    seed: int
    count: int
    first: int = 0
    only: str = ""
    engine: str = "interpreter"
    folder: Path | None = None


FAILURES = ("disagree", "crash", "hang", "fault")


def fuzz(
    run: Run, jobs: int = 1, report: Callable[[Result], None] = lambda r: None
) -> list[Result]:
    """All results, in order of their numbers. report: called for each as it comes."""
    results: list[Result] = []
    lock = threading.Lock()

    def work(job: int) -> None:
        for result in _supervise(run, range(run.first + job, run.first + run.count, jobs)):
            with lock:
                results.append(result)
                report(result)

    threads = [threading.Thread(target=work, args=(job,)) for job in range(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(results, key=lambda result: result.index)


def counts(results: list[Result]) -> dict[str, int]:
    """How many ended in which way."""
    return dict(Counter(result.kind for result in results).most_common())


def _supervise(run: Run, numbers: range) -> Iterator[Result]:
    """Runs children one after another until every number has its result."""
    left = list(numbers)
    while left:
        with tempfile.TemporaryFile("w+") as errors:
            child = _start(run, left[0], left[-1] + 1, numbers.step, errors.fileno())
            assert child.stdout is not None
            current = left[0]
            for line in child.stdout:
                data = json.loads(line)
                current = data["index"]
                if "kind" in data:
                    left.remove(current)
                    yield Result(**{**data, "nodes": tuple(data["nodes"])})
            child.wait()
            if current in left:
                left.remove(current)
                errors.seek(0)
                yield _died(current, errors.read())


def _start(run: Run, first: int, end: int, step: int, errors: int) -> subprocess.Popen:
    calm = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "BRIM_JOBS": "1"}
    options = ["--serve", f"{first}:{end}:{step}", "--seed", str(run.seed), "--engine", run.engine]
    options += ["--only", run.only] if run.only else []
    options += ["--folder", str(run.folder)] if run.folder else []
    return subprocess.Popen(
        [sys.executable, "-m", "tests.extra.fuzz_models", *options],
        stdout=subprocess.PIPE,
        stderr=errors,
        env={**os.environ, **calm},
        text=True,
    )


def _died(index: int, log: str) -> Result:
    """A crash or a hang, put down to whoever's code was on top of the Python stack."""
    lines = log.strip().splitlines()
    if any(line.startswith("Traceback") for line in lines):
        return Result(index, "fault", why=" ".join(lines[-4:])[-300:])
    how = "hang" if any(line.startswith("Timeout") for line in lines) else "crash"
    stack = [line.strip() for line in lines if line.strip().startswith("File ")]
    ours = [line for line in stack if "/brim/" in line and "/tests/" not in line]
    peers = [line for line in stack if "onnxruntime" in line or "/onnx/" in line]
    # innermost first: brim's own calls of onnx count as brim's
    guilty = bool(ours) and (not peers or stack.index(ours[0]) < stack.index(peers[0]))
    why = (lines[0] if lines else "died in silence") + " in " + (stack[0] if stack else "?")
    return Result(index, how if guilty or not peers else "peer", why=why[:300])


def serve(run: Run, numbers: range) -> None:
    """The child's side: judges models one after another."""
    from tests.extra.fuzz_models.compose import Sample, sample
    from tests.extra.fuzz_models.judge import judge
    from tests.extra.fuzz_models.shrink import shrink

    warnings.simplefilter("ignore")
    faulthandler.enable()
    engines = ENGINES[run.engine]
    for index in numbers:
        _say({"index": index})
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        drawn = sample(run.seed, index, run.only)
        if drawn is None:
            _say(asdict(Result(index, "none")))
            continue
        verdict = judge(drawn.model, drawn.feeds, engines)
        if verdict.kind in FAILURES:

            def fails(part: Sample, kind: str = verdict.kind) -> bool:
                return judge(part.model, part.feeds, engines).kind == kind

            drawn = shrink(drawn, fails)
            verdict = judge(drawn.model, drawn.feeds, engines)
            if run.folder:
                _write(run, index, drawn, f"{verdict.kind} {verdict.who}: {verdict.why}")
        nodes = tuple(node.op_type for node in drawn.model.graph.node)
        _say(asdict(Result(index, verdict.kind, verdict.who, verdict.why, nodes)))
        faulthandler.cancel_dump_traceback_later()


def _say(message: dict) -> None:
    print(json.dumps(message), flush=True)


def _write(run: Run, index: int, drawn: object, what: str) -> None:
    """A folder with the shrunk model, its inputs, and one line that makes the whole one again."""
    from tests.extra.fuzz_models.compose import Sample

    assert isinstance(drawn, Sample)
    assert run.folder is not None
    folder = run.folder / f"{run.seed}-{run.only or 'any'}-{index}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(drawn.model.SerializeToString())
    np.savez(folder / "inputs.npz", **drawn.feeds)  # type: ignore[arg-type]
    only = f" --only {run.only}" if run.only else ""
    again = f"python -m tests.extra.fuzz_models --seed {run.seed} --first {index} --count 1"
    (folder / "README").write_text(f"{what}\n{again}{only} --engine {run.engine}\n")
