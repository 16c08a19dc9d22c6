"""A report made up for tests: every field is set, and every name may be chosen."""

from __future__ import annotations

import numpy as np

from brim.compress.contract import doubts, verdict
from brim.compress.histogram import Histogram
from brim.compress.measure import Speed, Times
from brim.compress.metric import Accuracy
from brim.compress.recipe import Int8, Prune, Recipe, step_text
from brim.compress.report import Layer, Report, Sizes, Stage, distribution


def made_up(
    name: str = "net.onnx",
    layers: int = 12,
    loss: float = 0.004,
    ratio: float = 0.55,
    max_loss: float = 0.01,
    note: str = "1 layer stays in float",
) -> Report:
    """A report on a network of that name, whose layers and machine are named after it, too."""
    random = np.random.default_rng(0)
    rows = tuple(_layer(f"{name}/{i}", i, random) for i in range(layers))
    accuracy = Accuracy(
        name=f"top-1 {name}", before=0.913, after=0.913 - loss, difference=loss,
        low=loss - 0.003, high=loss + 0.004, samples=1200,
    )  # fmt: skip
    speed = Speed(8e-3, 8e-3 * ratio, ratio, ratio - 0.02, ratio + 0.02, 40, 2, f"{name} processor")
    sizes = Sizes(14_200_000, 3_700_000, 14_000_000, 3_600_000)
    recipe = Recipe((Prune(pattern="channels", sparsity=0.25), Int8(keep=(name,))))
    stages = (
        Stage("", 14_000_000, 600_000_000, 0.0),
        Stage(step_text(recipe.steps[0]), 10_000_000, 400_000_000, loss / 4),
        Stage(step_text(recipe.steps[1]), 3_600_000, 400_000_000, loss, (note,)),
    )
    return Report(
        model=name,
        recipe=recipe.to_toml(),
        max_loss=max_loss,
        sizes=sizes,
        accuracy=accuracy,
        speed=speed,
        layers=rows,
        stages=stages,
        verdict=verdict(accuracy, speed, rows, stages, max_loss),
        warnings=(*doubts(accuracy, speed, sizes, max_loss), f"{name} is made up"),
        rest_before=Times(3e-4, 4e-4),
        rest_after=Times(3e-4, 3.5e-4),
    )


def _layer(name: str, number: int, random: np.random.Generator) -> Layer:
    activations, weights = Histogram(), Histogram()
    activations.see(np.maximum(random.standard_normal(5000), -0.2).astype(np.float32))
    weights.see(random.standard_normal(3000).astype(np.float32) * 0.05)
    if number % 5 == 4:
        return Layer(name, "Gemm", "float", before=Times(4e-4, 5e-4), after=Times(4e-4, 5e-4))
    return Layer(
        name,
        "Conv",
        "int8",
        sqnr=float(random.uniform(15, 45)),
        clipped=float(random.uniform(0, 0.01)),
        loss=float(random.uniform(0, 0.002)) if number % 2 else None,
        activations=distribution(activations, (-0.2, 2.5)),
        weights=distribution(weights),
        before=Times(5e-4, float(random.uniform(3e-4, 9e-4))),
        after=Times(2e-4, float(random.uniform(1e-4, 4e-4))),
    )
