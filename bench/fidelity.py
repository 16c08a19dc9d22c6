"""`python -m bench.fidelity`: how close int8 networks stay to f32 ones on real photos.

The networks of the zoo that look at pictures: kinds of things, faces, bodies, hands, people. Each
is brought to int8 by `brim.quantize` and by onnxruntime's static quantizer (min-max ranges, a scale
for each channel), from the same calibration pictures; then both are compared with f32 on others.
Photos are the zoo's, scikit-learn's where it is installed, and those in folders named by --photos.
Of what a network looks at (photos, faces, bodies, hands) every second one calibrates and the others
test, in views that are moved, scaled, turned, mirrored and lit; if there is but one, it does both.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import groupby
from math import pi
from pathlib import Path

import numpy as np
import onnx
from PIL import Image

import brim
from bench.static_int8 import static_int8
from bench.twin import twin
from brim import vision, zoo
from brim.graph import Graph
from brim.pictures import read_picture
from brim.sources import front_end
from brim.vision.detector import Anchors, overlaps
from brim.vision.efficientnet import efficientnet_lite0
from brim.vision.regions import Region, letterbox, turn

Outputs = Mapping[str, np.ndarray]
Subject = tuple[np.ndarray, Region]  # a photo, and where in it the network shall look
PICTURES = "astronaut", "chelsea", "coffee", "camera", "hand-pointing", "hand-hook", "hand-fist"
LOGITS = 0.0  # of one half


@dataclass(frozen=True)
class Task:
    """A network of the zoo, how pixels 0..255 become its numbers (low..high), whom it looks at, and
    what is judged: score(f32 outputs, int8 outputs) of one view."""

    network: str
    side: int
    low: float
    high: float
    subjects: str
    measure: str
    score: Callable[[Outputs, Outputs], float]
    less_is_better: bool = False


def same_kind(want: Outputs, got: Outputs) -> float:
    return float(np.argmax(want["logits"]) == np.argmax(got["logits"]))


def drift(output: str, rows: int, columns: int) -> Callable[[Outputs, Outputs], float]:
    """Mean distance in the picture plane of points that are the first two of each row."""

    def score(want: Outputs, got: Outputs) -> float:
        a, b = (found[output].reshape(rows, columns)[:, :2] for found in (want, got))
        return float(np.linalg.norm(a - b, axis=1).mean())

    return score


def mask_overlap(output: str, level: float) -> Callable[[Outputs, Outputs], float]:
    """Intersection over union of what lies above `level`."""

    def score(want: Outputs, got: Outputs) -> float:
        a, b = (found[output] > level for found in (want, got))
        return float((a & b).sum() / (a | b).sum()) if (a | b).any() else 1.0

    return score


def box_overlap(boxes: str, scores: str, anchors: Anchors) -> Callable[[Outputs, Outputs], float]:
    """Intersection over union of the surest boxes, 0 if only one network is sure of any."""

    def best(found: Outputs) -> np.ndarray | None:
        number = int(found[scores].reshape(-1).argmax())
        if found[scores].reshape(-1)[number] < LOGITS:
            return None
        (u, v), row = anchors.centres()[number], found[boxes][0, number]
        middle, half = np.array([u + row[0], v + row[1]]), row[2:4] / 2
        return np.stack([middle - half, middle + half])

    def score(want: Outputs, got: Outputs) -> float:
        a, b = best(want), best(got)
        if a is None or b is None:
            return float(a is b)
        return float(overlaps(a, b[None])[0])

    return score


FACES = Anchors(128, ((8, 2), (16, 6)))
BODIES = Anchors(224, ((8, 2), (16, 2), (32, 6)))
PALMS = Anchors(192, ((8, 2), (16, 6)))
TASKS = (
    Task("efficientnet-lite0", 224, -127 / 128, 1.0, "photos", "same kind", same_kind),
    Task("face-detect", 128, -1.0, 1.0, "near faces", "box IoU",
         box_overlap("regressors", "classificators", FACES)),
    Task("face-mesh", 192, 0.0, 1.0, "faces", "drift px", drift("conv2d_21", 468, 3), True),
    Task("pose-detect", 224, -1.0, 1.0, "near bodies", "box IoU",
         box_overlap("Identity", "Identity_1", BODIES)),
    Task("pose-landmarks", 256, 0.0, 1.0, "bodies", "drift px", drift("Identity", 39, 5), True),
    Task("pose-landmarks", 256, 0.0, 1.0, "bodies", "mask IoU", mask_overlap("Identity_2", LOGITS)),
    Task("palm-detect", 192, 0.0, 1.0, "near hands", "box IoU",
         box_overlap("Identity", "Identity_1", PALMS)),
    Task("hand-landmarks", 224, 0.0, 1.0, "hands", "drift px", drift("Identity", 21, 3), True),
    Task("person-mask", 256, 0.0, 1.0, "near bodies", "mask IoU",
         mask_overlap("activation_10", 0.5)),
)  # fmt: skip


# ---------------------------------------------------------------- pictures


def photos(folders: Sequence[Path]) -> Iterator[np.ndarray]:
    """The zoo's pictures, scikit-learn's where it is installed, and all in `folders`."""
    paths = [zoo.get(name) for name in PICTURES]
    if (found := find_spec("sklearn")) is not None and found.origin:
        paths += sorted((Path(found.origin).parent / "datasets" / "images").glob("*.jpg"))
    for folder in folders:
        paths += sorted(p for p in folder.iterdir() if p.suffix in (".jpg", ".png"))
    return map(read_picture, paths)


class Subjects:
    """Whom tasks look at, found by the kits in f32."""

    def __init__(self, pictures: Sequence[np.ndarray]) -> None:
        self.pictures = pictures
        self.found: dict[str, list[Subject]] = {}

    def __call__(self, kind: str) -> list[Subject]:
        if kind not in self.found:
            near, _, name = kind.rpartition(" ")
            found = [(x, r) for x in self.pictures for r in _REGIONS[name](x)]
            self.found[kind] = [(x, r.square(2.5)) for x, r in found] if near else found
        return self.found[kind]


def _middle(picture: np.ndarray) -> list[Region]:
    height, width = picture.shape[:2]
    side = min(width, height) * 0.8
    return [replace(letterbox(width, height), width=side, height=side)]


def _faces(picture: np.ndarray) -> list[Region]:
    return [_square(face.box, 1.5) for face in _kit("Face").detect(picture)]


def _bodies(picture: np.ndarray) -> list[Region]:
    return [_square(pose.box, 1.25) for pose in _kit("Pose").detect(picture)]


def _hands(picture: np.ndarray) -> list[Region]:
    found = []
    for hand in _kit("Hands").detect(picture):
        points = hand.landmarks.pixels
        upwards = turn(points[0], points[9], pi / 2)  # from the wrist to the middle finger
        found.append(replace(_square(hand.box, 1.6), angle=upwards))
    return found


_KITS: dict[str, vision.Face | vision.Pose | vision.Hands] = {}
_REGIONS = {"photos": _middle, "faces": _faces, "bodies": _bodies, "hands": _hands}


def _kit(name: str):
    if name not in _KITS:
        _KITS[name] = getattr(vision, name)()
    return _KITS[name]


def _square(box: vision.Box, margin: float) -> Region:
    width, height = box.right - box.left, box.bottom - box.top
    x, y = (box.left + box.right) / 2, (box.top + box.bottom) / 2
    return Region(x, y, width, height).square(margin)


def views(subjects: Sequence[Subject], task: Task, count: int, seed: int) -> list[np.ndarray]:
    """`count` network inputs f32[1,side,side,3], of the subjects in turn."""
    random, found = np.random.default_rng(seed), []
    for number in range(count):
        picture, region = subjects[number % len(subjects)]
        scale = random.uniform(0.85, 1.2)
        seen = region.moved(*random.uniform(-0.08, 0.08, 2)).square(scale)
        mirrored = -1 if task.subjects == "photos" and random.random() < 0.5 else 1
        seen = replace(
            seen, width=mirrored * seen.width, angle=seen.angle + random.uniform(-0.15, 0.15)
        )
        matrix = seen.matrix(task.side, task.side).ravel().tolist()
        size, affine = (task.side, task.side), Image.Transform.AFFINE
        small = Image.fromarray(picture).transform(size, affine, matrix, Image.Resampling.BILINEAR)
        light = (np.asarray(small) / 255.0) ** random.uniform(0.7, 1.4)
        found.append((task.low + (task.high - task.low) * light[None]).astype(np.float32))
    return found


# ---------------------------------------------------------------- networks


def graph_of(name: str) -> Graph:
    """The zoo's network as its file or builder has it, before any pass."""
    path = zoo.get(name)
    reader = front_end(path)
    graph = reader.import_model(reader.read(path), {})
    if graph.inputs:
        return graph
    weights = {n: v.data for n, v in graph.outputs.items() if v.data is not None}
    return efficientnet_lite0(weights)


def ours(graph: Graph, samples: Sequence[Mapping[str, np.ndarray]]) -> Callable[[dict], Outputs]:
    """brim's int8: what `brim.quantize` makes by default, though it may miss its contract."""
    return brim.quantize(brim.compile(graph), samples, force=True)[0].run


def theirs(graph: Graph, samples: Sequence[Mapping[str, np.ndarray]]) -> Callable[[dict], Outputs]:
    """onnxruntime's int8, from the network's twin in ONNX."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "f32.onnx"
        onnx.save(twin(graph), source)
        made = static_int8(source, Path(folder) / "int8.onnx", "QDQ", samples)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(made, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda feeds: dict(zip(names, session.run(None, feeds)))


class Error:
    """Energy of the noise over that of the signal, over all views; the mean over outputs."""

    def __init__(self) -> None:
        self.sums: dict[str, np.ndarray] = {}

    def see(self, want: Outputs, got: Outputs) -> None:
        for name, y in want.items():
            pair = np.array([np.square(got[name] - y).sum(), np.square(y).sum()], np.float64)
            self.sums[name] = self.sums.get(name, 0) + pair

    def mean(self) -> float:
        return float(np.mean([noise / max(signal, 1e-30) for noise, signal in self.sums.values()]))


@dataclass(frozen=True)
class Row:
    """What was found of a task: scores, means over views, and errors of ours and onnxruntime's."""

    task: Task
    scores: tuple[float, float]
    errors: tuple[float, float]

    @property
    def is_worse(self) -> bool:
        ours, theirs = self.scores
        lost = ours > theirs if self.task.less_is_better else ours < theirs
        return lost or self.errors[0] > self.errors[1]

    def __str__(self) -> str:
        scores = "".join(f"{score:9.3f}" for score in self.scores)
        errors = f"{self.errors[0]:12.2%}{self.errors[1]:8.2%}{' <' if self.is_worse else ''}"
        return f"{self.task.network:20}{self.task.measure:>10}{scores}{'':4}{errors}"


def rows(tasks: Sequence[Task], known: Sequence[Subject], calibrate: int, test: int) -> list[Row]:
    """What is found of tasks of one network, which look at the same."""
    graph = graph_of(tasks[0].network)
    (name,) = graph.inputs
    samples = [{name: x} for x in views(known[::2], tasks[0], calibrate, seed=1)]
    plain = brim.compile(graph)
    contestants = ours(graph, samples), theirs(graph, samples)
    errors, scores = (Error(), Error()), []
    for x in views(known[1::2] or known, tasks[0], test, seed=2):
        want = plain.run({name: x})
        found = [run({name: x}) for run in contestants]
        for noise, got in zip(errors, found):
            noise.see(want, got)
        scores.append([[task.score(want, got) for got in found] for task in tasks])
    means = np.mean(scores, axis=0).tolist()
    pair = errors[0].mean(), errors[1].mean()
    return [Row(task, tuple(mean), pair) for task, mean in zip(tasks, means)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 if ours is the closer one by every measure, else 1."""
    parser = argparse.ArgumentParser(prog="python -m bench.fidelity", description=__doc__)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help="default: all")
    parser.add_argument("--photos", type=Path, nargs="*", default=[], metavar="FOLDER")
    parser.add_argument("--calibrate", type=int, default=32, help="views")
    parser.add_argument("--test", type=int, default=64, help="views")
    options = parser.parse_args(arguments)
    if unknown := set(options.networks) - {task.network for task in TASKS}:
        parser.error(f"unknown: {sorted(unknown)}")
    subjects = Subjects(list(photos(options.photos)))
    print(f"{'network':20}{'measure':>10}{'ours':>9}{'ort':>9}{'':4}{'error: ours':>12}{'ort':>8}")
    worse = 0
    for network, group in groupby(TASKS, key=lambda task: task.network):
        if options.networks and network not in options.networks:
            continue
        tasks = list(group)
        known = subjects(tasks[0].subjects)
        if not known:
            print(f"{network:20} no {tasks[0].subjects} in these photos", flush=True)
            continue
        for row in rows(tasks, known, options.calibrate, options.test):
            worse += row.is_worse
            print(row, flush=True)
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
