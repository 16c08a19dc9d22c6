"""Times of layers: every kernel's time is counted once, under the product that it computes."""

from __future__ import annotations

import numpy as np
import pytest

from brim.compress.measure import compare_speed, layer_times
from brim.graph import Graph, Value, placeholder
from brim.model import Model, compile
from brim.ops import primitive as p
from brim.types import F32, Type
from tests.networks import convolution, relu, weight


def named(value: Value, where: str) -> Value:
    return Value(value.op, value.args, value.attrs, value.type, value.data, where)


@pytest.fixture(scope="module")
def model() -> Model:
    """Two convolutions, each with a node behind it that ends its kernel, and a sum."""
    x = placeholder(Type((1, 12, 12, 8), F32))
    a = named(convolution(x, weight(3, 3, 8, 16)), "net: a (Conv)")
    b = named(convolution(named(relu(a), "net: ra (Relu)"), weight(3, 3, 16, 16)), "net: b (Conv)")
    y = named(p.reduce(named(relu(b), "net: rb (Relu)"), op="add", axes=(1, 2)), "net: y (Sum)")
    made = compile(Graph({"x": x}, {"y": y}))
    made.compile()
    return made


def test_each_kernel_is_some_layers(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = model.report().kernels
    seconds = [float(10**i) for i in range(len(rows))]
    monkeypatch.setattr(model, "time_kernels", lambda: seconds)
    found = layer_times(model, ["net: a (Conv)", "net: b (Conv)", "net: gone (Conv)"])
    assert set(found) == {"net: a (Conv)", "net: b (Conv)", ""}
    assert sum(times.measured for times in found.values()) == sum(seconds)
    predicted = sum(times.predicted for times in found.values())
    assert predicted == pytest.approx(model.report().predicted_seconds)
    first = next(i for i, row in enumerate(rows) if "net: ra (Relu)" in row.sources)
    assert rows[first].sources == ("net: a (Conv)", "net: ra (Relu)")
    assert found["net: a (Conv)"].measured == seconds[first]


def test_a_model_is_as_fast_as_itself(model: Model) -> None:
    """The ratio's interval is one, and what is measured is this machine, and these threads."""
    x = np.zeros((1, 12, 12, 8), np.float32)
    found = compare_speed(model, model, {"x": x}, seconds=0.3)
    assert 0 < found.low <= found.ratio <= found.high
    assert found.ratio == pytest.approx(1, abs=0.5)
    assert found.before > 0 and found.after > 0
    assert found.threads == model.threads == 1
    assert found.machine
