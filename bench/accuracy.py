"""`python -m bench.accuracy`: what int8 costs on Fashion-MNIST, by brim and by onnxruntime.

All are calibrated with the same training pictures and judged by the same 10,000 test pictures; the
interval is that of the paired difference to the float network. Needs the data set, see
`bench.fashion`, and onnxruntime with onnx for its quantization.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import brim
from bench.fashion import MODEL, SIDE, load
from bench.static_int8 import static_int8
from brim.compress.data import read_data
from brim.compress.metric import Accuracy, Judge
from brim.compress.recipe import Int8, Recipe
from brim.types import F32, Type

BATCH = 100
NOTHING_MORE = Int8("min_max", per_channel=False, equalise=False, correct_bias=False)
# The steps, and what they may lose: 100 points for what shows how much that is.
RECIPES = {
    "brim": (Int8(), 0.01),
    "brim, per tensor": (Int8(per_channel=False), 0.01),
    "brim, per tensor, effort high": (Int8(per_channel=False, effort="high"), 0.01),
    "brim, per tensor, nothing more": (NOTHING_MORE, 1.0),
}


@dataclass(frozen=True)
class Row:
    """What a way of quantizing gave. bytes: of the file that is stored. error: the squared error of
    the logits, relative to their squares in float: less noisy than counted pictures."""

    name: str
    bytes: int
    accuracy: Accuracy
    error: Accuracy


class OnnxRuntime:
    """A model of onnxruntime, to be judged as one of brim's."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        onnxruntime.set_default_logger_severity(3)
        self._session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, Any]:
        names = [output.name for output in self._session.get_outputs()]
        return dict(zip(names, self._session.run(names, dict(feeds))))

    def reset(self) -> None:
        """It remembers nothing."""


def rows(pictures: np.ndarray, folder: Path, wanted: str = "") -> Iterator[Row]:
    """A row for each way whose name holds `wanted`, calibrated with these pictures."""
    shown, labels = load("test")
    types = {"x": Type((BATCH, 1, SIDE, SIDE), F32)}
    floats = brim.load(MODEL)
    by_labels = Judge(floats, read_data({"x": shown, "labels": labels}, types))
    by_logits = Judge(floats, read_data(shown, types))
    for name, (step, max_loss) in RECIPES.items():
        if wanted in name:
            model, _ = brim.quantize(
                MODEL,
                pictures,
                Recipe((step,)),
                max_loss=max_loss,
                shapes={"x": types["x"].dims},
                force=True,
            )
            model.save(path := folder / "fashion.brim")
            yield Row(name, path.stat().st_size, by_labels(model), by_logits(model))
    for name, per_channel in (("onnxruntime", True), ("onnxruntime, per tensor", False)):
        if wanted in name:
            parts = np.array_split(pictures, -(-len(pictures) // BATCH))
            batches = [{"x": part} for part in parts]
            path = static_int8(MODEL, folder / "int8.onnx", "QDQ", batches, per_channel)
            theirs = OnnxRuntime(path)
            yield Row(name, path.stat().st_size, by_labels(theirs), by_logits(theirs))


def main() -> int:
    """Prints a line for each way, or all as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.accuracy", description=__doc__)
    parser.add_argument("--samples", type=int, default=512, help="training pictures to calibrate")
    parser.add_argument("--only", default="", metavar="TEXT", help="ways whose name holds it")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    pictures = load("train")[0][: options.samples]
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for row in rows(pictures, Path(folder), options.only):
            found.append(row)
            if not options.json:
                if len(found) == 1:
                    size = MODEL.stat().st_size / 1e3
                    print(f"{'float':32} {row.accuracy.before:7.2%}  {'':45} {size:6.1f} kB")
                print(line(row), flush=True)
    if options.json:
        print(json.dumps([asdict(row) for row in found], indent=1))
    return 0


def line(row: Row) -> str:
    """A row as people read it; what is lost is in points, with its interval of 95 %."""
    a = row.accuracy
    lost = f"{a.difference * 100:+6.2f} ({a.low * 100:+.2f} to {a.high * 100:+.2f})"
    error = f"error {row.error.after:7.3%}"
    return f"{row.name:32} {a.after:7.2%}  lost {lost:25} {error}  {row.bytes / 1e3:6.1f} kB"


if __name__ == "__main__":
    sys.exit(main())
