"""Networks as torch exports them: every parameter is a weight of its name, content and slope."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn

from brim.graph import evaluate
from brim.passes.autodiff import gradient
from brim.train import network
from tests.extra.torch_networks import CASES, NETWORKS

# What the exporters cannot write in this way, and what computes in halves.
LEFT_OUT = {
    "script": {"condition", "shuffled_channels", "sampled_grid", "newer_norms_and_activations"},
    "dynamo": {"encoder_and_decoder", "scripted_loop", "scripted_steps"},
}
HALVES = "half_precision"


def exported(module: nn.Module, inputs: tuple[torch.Tensor, ...], exporter: str) -> bytes:
    """ONNX, by the older exporter in training mode: with norms and dropout as such."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if exporter == "dynamo":
            torch.onnx.export(
                module.eval(), inputs, file, dynamo=True, optimize=False, verbose=False
            )
        else:
            training = torch.onnx.TrainingMode.TRAINING
            torch.onnx.export(
                module.train(), inputs, file, training=training, do_constant_folding=False,
                dynamo=False, opset_version=17,
            )  # fmt: skip
    return file.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "exporter"),
    [case for case in CASES if case[0] not in LEFT_OUT[case[1]] | {HALVES, "counted"}],
)
def test_parameters_are_weights(name: str, exporter: str) -> None:
    torch.manual_seed(0)
    module, inputs, _ = NETWORKS[name]()
    net = network(exported(module, inputs, exporter))
    module.eval()

    arrays, parameters = net.file_weights, dict(module.named_parameters())
    assert parameters.keys() <= net.trained
    for parameter, tensor in parameters.items():
        np.testing.assert_array_equal(arrays[parameter], tensor.detach().numpy())
    assert net.statistics == {
        n for n, _ in module.named_buffers() if n.endswith(("running_mean", "running_var"))
    }

    with torch.no_grad():
        wanted = module(*inputs)
    feeds = {port: tensor.numpy() for port, tensor in zip(net.data, inputs)}
    found = evaluate(net.graph, {**feeds, **net.weights})
    for array, tensor in zip(found.values(), wanted if isinstance(wanted, tuple) else (wanted,)):
        if tensor.is_floating_point():
            near = 1e-5 * float(tensor.abs().max())
            np.testing.assert_allclose(array, tensor.numpy(), 0, near)

    (first, *_) = net.graph.outputs.values()
    if parameters and first.dtype.is_float:
        slopes = gradient(first, [net.graph.inputs[parameter] for parameter in parameters])
        assert [s.shape for s in slopes] == [
            net.weights[parameter].shape for parameter in parameters
        ]
