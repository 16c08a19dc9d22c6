"""Damaged models, by the thousand: `python -m tests.extra.fuzz_loaders --count 10000 --seed 0`.

Every case is read and imported, and some are compiled and run, in child processes with bounded
memory and time. Success and BrimError are fine; anything else (a signal, another exception, a hang,
a blow-up of memory) is a finding, printed with the number that makes it again:
`python -m tests.extra.fuzz_loaders --only NUMBER --seed 0`. With `--family tflite` the models are
TFLite's, else ONNX models, artifacts and graphs.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import brim
    from tests.extra.fuzz_cases import Case
    from tests.extra.fuzz_seeds import Seed

SECONDS = 30  # for one case; damaged files take milliseconds
MEMORY = 6 << 30  # address space of a child, of which LLVM and the Python libraries take about 2 GB
GROWTH = 1500 << 20  # bytes in use beyond what a child had before
COMPILED = 8  # one case in so many is compiled and run
RUNNING = 5  # seconds: a loop may honestly ask for years
FAMILIES = {  # where cases and intact models come from
    "onnx": ("tests.extra.fuzz_cases", "tests.extra.fuzz_seeds"),
    "tflite": ("tests.extra.fuzz_tflite", "tests.extra.fuzz_tflite"),
}
HUGE = {"_double", "_grow"}  # only compiled: such models may honestly ask for terabytes


@dataclass(frozen=True)
class Finding:
    """A case that ended badly."""

    number: int
    how: str
    what: str


def main() -> int:
    """Runs cases, prints findings; the exit code says whether there were any."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--family", choices=FAMILIES, default="onnx")
    parser.add_argument("--only", type=int, help="one case, in this process, with its traceback")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        end = options.first + options.count
        _serve(options.serve, options.first, end, options.seed, options.family)
        return 0
    if options.only is not None:
        return _one(options.only, options.seed, options.family)
    counts, findings = fuzz(options.count, options.seed, options.first, options.family)
    print(json.dumps(counts, indent=1))
    for finding in findings:
        print(f"{finding.number} {finding.how}: {finding.what}")
    print(f"{sum(counts.values())} cases, {len(findings)} findings")
    return bool(findings)


def fuzz(
    count: int, seed: int, first: int = 0, family: str = "onnx"
) -> tuple[dict[str, int], list[Finding]]:
    """How cases ended, by kind; and the findings."""
    counts: Counter[str] = Counter()
    findings: list[Finding] = []
    with tempfile.TemporaryDirectory() as folder:
        at, end = first, first + count
        while at < end:
            for number, how, ended, detail in _child(Path(folder), at, end, seed, family):
                counts[ended] += 1
                if ended == "finding":
                    findings.append(Finding(number, how, detail))
                    print(f"finding: {number} {how}: {detail}", file=sys.stderr, flush=True)
                at = number + 1
    return dict(sorted(counts.items())), findings


def _child(
    folder: Path, first: int, end: int, seed: int, family: str
) -> Iterator[tuple[int, str, str, str]]:
    """Runs cases in one child until it dies or is done: (number, how, how it ended, detail)."""
    command = [sys.executable, "-m", "tests.extra.fuzz_loaders", "--serve", str(folder)]
    command += ["--first", str(first), "--count", str(end - first), "--seed", str(seed)]
    command += ["--family", family]
    calm = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "BRIM_JOBS": "1"}
    environment = {**os.environ, **calm, "BRIM_CACHE": str(folder / "cache")}
    errors = folder / "stderr"
    with errors.open("w+b") as log:
        child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, env=environment, text=True
        )
        assert child.stdout is not None
        current: tuple[int, str] | None = None
        while line := _line(child, 120 if current is None else SECONDS):
            number, how, ended, detail = json.loads(line)
            if ended:
                yield number, how, ended, detail
            current = None if ended else (number, how)
        code = child.poll()
        if code is None:
            child.kill()
            child.wait()
        log.seek(0, os.SEEK_END)
        size = log.tell()
        log.seek(max(size - 2000, 0))
        said = log.read().decode("utf-8", "replace")
    if current is not None:
        ended = f"no answer within {SECONDS} s" if code is None else f"exit code {code}"
        yield (*current, "finding", f"{ended}: {said.strip()[-300:]}")
    elif code:
        raise RuntimeError(f"the child did not start: {said}")


def _line(child: subprocess.Popen[str], seconds: float) -> str:
    """The next line of the child; empty when it ends or takes too long."""
    assert child.stdout is not None
    ready, _, _ = select.select([child.stdout], [], [], seconds)
    line = child.stdout.readline() if ready else ""
    if ready and not line:
        child.wait()
    return line


# ------------------------------------------------------------------ in the child


def _serve(folder: Path, first: int, end: int, seed: int, family: str) -> None:
    cases, known = import_module(FAMILIES[family][0]), _seeds(folder, family)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Written lines must reach the parent one by one, before the case can end the process.
    out = os.fdopen(os.dup(1), "w", buffering=1)
    for number in range(first, end):
        made = cases.case(number, seed, known)
        how = f"{made.seed.name} {made.how}"
        out.write(json.dumps([number, how, "", ""]) + "\n")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        start = time.perf_counter()
        ended, detail = _judged(made, folder / "case", number % COMPILED == 0)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
        if ended != "finding" and grown > GROWTH:
            ended, detail = "finding", f"took {grown >> 20} MiB and ended with {ended} {detail}"
        if ended != "finding" and time.perf_counter() - start > SECONDS / 2:
            ended, detail = "finding", f"took {time.perf_counter() - start:.0f} s: {ended} {detail}"
        out.write(json.dumps([number, how, ended, detail]) + "\n")


def _seeds(folder: Path, family: str) -> list[Seed]:
    """The seeds, made once for all children of a run."""
    from tests.extra.fuzz_seeds import Seed

    seeds = import_module(FAMILIES[family][1]).seeds
    kept = folder / "seeds.json"
    if not kept.is_file():
        found = [
            [s.name, _text(s.main), s.code, {n: _text(d) for n, d in s.beside.items()}]
            for s in seeds(folder)
        ]
        kept.write_text(json.dumps(found))
    return [
        Seed(
            name, base64.b64decode(data), {n: base64.b64decode(d) for n, d in beside.items()}, code
        )
        for name, data, code, beside in json.loads(kept.read_text())
    ]


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _judged(made: Case, folder: Path, run: bool) -> tuple[str, str]:
    from brim.errors import BrimError

    try:
        _load(made, folder, run)
    except BrimError as error:
        try:
            text = str(error)
        except Exception as other:
            return "finding", f"the message of {type(error).__name__} raises {other!r}"
        return type(error).__name__, text[:200]
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)[-3:]
        places = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames))
        return "finding", f"{type(error).__name__}: {str(error)[:200]} ({places})"
    return "success", ""


def _load(made: Case, folder: Path, run: bool) -> None:
    """Reads and imports a case; with `run` compiles and runs it once on zeros."""
    folder.mkdir(exist_ok=True)
    path = folder / made.seed.name
    path.write_bytes(made.main)
    for name, data in made.beside.items():
        (folder / name).write_bytes(data)
    try:
        if made.seed.suffix == ".brim":
            _load_artifact(made, path, run)
        elif made.seed.suffix == ".graph":
            _load_graph(path, run)
        elif made.seed.suffix == ".tflite":
            _load_tflite(path, run, made.how not in HUGE)
        else:
            _load_onnx(path, run, made.how not in HUGE)
    finally:
        for name in (path.name, *made.beside):
            (folder / name).unlink()


def _load_onnx(path: Path, compiled: bool, run: bool) -> None:
    import brim
    from brim.frontends.onnx import import_model, read

    model = read(path)
    shapes = {
        name: tuple(n if isinstance(n, int) else 1 for n in type.shape or ())
        for name, type in model.inputs.items()
    }
    import_model(model, shapes)
    if compiled:
        loaded = brim.load(path, shapes=shapes)
        if run:
            _run(loaded, shapes)


def _load_tflite(path: Path, compiled: bool, run: bool) -> None:
    import brim
    from brim.frontends.tflite import import_model, read

    model = read(path)
    import_model(model)
    if compiled:
        loaded = brim.load(path)
        if run:
            _run(loaded, dict(model.usual_shapes))


def _load_graph(path: Path, run: bool) -> None:
    import brim
    from brim.sources import graph_file

    graph = graph_file(path)
    if run:
        _run(brim.load(path), {name: value.shape for name, value in graph.inputs.items()})


def _load_artifact(made: Case, path: Path, run: bool) -> None:
    import brim
    from brim.errors import TrustError
    from brim.runtime.artifact import open_artifact

    artifact = open_artifact(path)
    artifact.verify()
    for program in artifact.programs:
        _ = program.weights  # some of which follow from constants: that is bounded for any file
        # The pin of the intact artifact: native code and plans that differ from it are not run.
        try:
            artifact.load(program, trust=made.seed.code)
        except TrustError:
            continue
        model = brim.load(path, trust=made.seed.code, shapes=dict(program.shapes))
        _run(model, dict(program.shapes))
    if run:
        for program in artifact.programs:
            model = brim.load(path, trust=False, shapes=dict(program.shapes))
            _run(model, dict(program.shapes))


def _run(model: brim.Model, shapes: dict) -> None:
    import numpy as np

    from brim.errors import InputError

    def stop(*_: object) -> None:
        raise TimeoutError

    feeds = {}
    for name, type in model.inputs.items():
        if int(np.prod([max(n, 1) for n in shapes[name]], dtype=np.float64)) > 1 << 24:
            raise InputError("this input is larger than the test's memory")
        if type.dtype.kind == "s":
            feeds[name] = np.full(shapes[name], "", object)
        else:
            feeds[name] = np.zeros(shapes[name], type.dtype.numpy)
    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, RUNNING)
    try:
        model.run(feeds)
    except TimeoutError:
        pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _one(number: int, seed: int, family: str) -> int:
    """One case here, so that its traceback shows."""
    case = import_module(FAMILIES[family][0]).case
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(BRIM_CACHE=f"{folder}/cache", BRIM_JOBS="1")
        made = case(number, seed, _seeds(Path(folder), family))
        print(made.seed.name, made.how, len(made.main), "bytes")
        _load(made, Path(folder) / "case", number % COMPILED == 0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
