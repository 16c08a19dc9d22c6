"""Networks of torch, exported by both of its ONNX exporters: equal to what torch itself computes.

"script" is the older exporter, of TorchScript; "dynamo" the newer one, which needs onnxscript.
"""

from __future__ import annotations

import io
import logging
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

import brim
from tests.extra.torch_networks import CASES, NETWORKS, Axes

pytestmark = [
    pytest.mark.peer("torch", "onnxscript"),
    pytest.mark.filterwarnings("ignore"),  # the exporters', about themselves
]
# A sample that takes some seconds in every run; the rest, a minute or two, is `slow`.
ALWAYS = {("mobile", "script"), ("encoder", "script"), ("scripted_loop", "script")}


@pytest.fixture(autouse=True)
def _one_way_to_compute() -> Any:
    """torch's fused encoder has no ONNX form; its plain one has. Exporters log what they do."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)
    torch.backends.mha.set_fastpath_enabled(before)


def _exported(net: Any, inputs: tuple, dynamic: tuple[Axes, ...], exporter: str) -> bytes:
    names = [f"x{i}" for i in range(len(inputs))]
    file = io.BytesIO()
    if exporter == "script":
        axes = {name: open_axes for name, open_axes in zip(names, dynamic) if open_axes}
        torch.onnx.export(
            net, inputs, file, dynamo=False, input_names=names, dynamic_axes=axes, opset_version=20
        )
        return file.getvalue()
    open_dims = tuple(dict.fromkeys(axes, torch.export.Dim.DYNAMIC) for axes in dynamic)
    # modules of `Of` take *inputs: for torch that is one argument, a tuple
    shapes = (open_dims,) if hasattr(net, "function") else open_dims
    program = torch.onnx.export(
        net, inputs, dynamo=True, input_names=names, verbose=False,
        dynamic_shapes=shapes if any(dynamic) else None,
    )  # fmt: skip
    program.save(file)
    return file.getvalue()


def _flat(found: Any) -> list[np.ndarray]:
    if isinstance(found, (tuple, list)):
        return [part for parts in found for part in _flat(parts)]
    return [found.numpy()]


@pytest.mark.parametrize(
    ("name", "exporter"),
    [
        pytest.param(*case, marks=() if case in ALWAYS else pytest.mark.slow, id="-".join(case))
        for case in CASES
    ],
)
def test_equal_to_torch(name: str, exporter: str) -> None:
    """Differences up to 1e-5 of the largest number: sums run in another order. f16: 2e-3."""
    torch.manual_seed(0)
    net, inputs, dynamic = NETWORKS[name]()
    net.eval()
    with torch.no_grad():
        wanted = _flat(net(*inputs))
        data = _exported(net, inputs, dynamic, exporter)
    model = brim.load(data)
    found = model.run(dict(zip(model.inputs, (x.numpy() for x in inputs))))
    assert len(found) == len(wanted)
    for number, (got, want) in enumerate(zip(found.values(), wanted)):
        assert got.dtype == want.dtype, number
        assert got.shape == want.shape, number
        close = 2e-3 if want.dtype == np.float16 else 1e-5
        limit = close * max(1.0, float(np.abs(want).max(initial=0)))
        np.testing.assert_allclose(got, want, 0, limit, err_msg=str(number))


@pytest.mark.slow
def test_an_exported_network_for_other_shapes() -> None:
    """One model, exported with an open batch and length, called with several."""
    torch.manual_seed(0)
    net, inputs, dynamic = NETWORKS["encoder"]()
    net.eval()
    model = brim.load(_exported(net, inputs, dynamic, "dynamo"))
    for shape in ((1, 3), (3, 9), (2, 17)):
        ids = torch.randint(0, 50, shape)
        ids[:, 0] = 1  # a row of nothing but padding attends to nothing
        with torch.no_grad():
            wanted = net(ids).numpy()
        np.testing.assert_allclose(model(ids.numpy()), wanted, 0, 1e-5 * np.abs(wanted).max())
