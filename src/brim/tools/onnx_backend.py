"""brim as a backend of the `onnx` package, so that ONNX's own test runner can judge it.

    import onnx.backend.test
    import brim.tools.onnx_backend as backend
    globals().update(onnx.backend.test.BackendTest(backend, __name__).test_cases)

Models are compiled. What brim does not support is raised as `Refused`, which the runner counts as
not implemented; every other error is a failure. Downloading and choosing tests is the runner's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper
from onnx.backend.base import Backend, BackendRep
from onnx.backend.test.runner import BackendIsNotSupposedToImplementIt

import brim
from brim.errors import InputError, UnsupportedError
from brim.frontends.onnx import import_model, read

if TYPE_CHECKING:
    from brim.model import Model


class Refused(UnsupportedError, BackendIsNotSupposedToImplementIt):
    """An UnsupportedError that onnx's test runner understands."""


def _refused(error: UnsupportedError) -> Refused:
    return Refused(error.what, error.why, error.where, error.hint)


class BrimRep(BackendRep):
    """A loaded model, ready to run again and again."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """The outputs for inputs in the model's order (or a dict of them, or a single array).

        Raises Refused for what a symbolic shape only now shows, and BrimError.
        """
        if isinstance(inputs, np.ndarray):
            inputs = [inputs]
        if not isinstance(inputs, Mapping):
            if len(inputs) > len(self.model.inputs):
                raise InputError(f"{len(inputs)} inputs for {self.model!r}")
            inputs = dict(zip(self.model.inputs, inputs))
        try:
            return tuple(self.model.run(inputs).values())
        except UnsupportedError as error:
            raise _refused(error) from error


class BrimBackend(Backend):
    """What onnx's runner, and anyone who speaks its interface, asks of an engine."""

    @classmethod
    def supports_device(cls, device: str) -> bool:
        return device == "CPU"

    @classmethod
    def is_compatible(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> bool:
        """Whether brim converts the model, as far as that shows without shapes for its inputs."""
        if not cls.supports_device(device):
            return False
        try:
            parsed = read(model)
            if all(type.is_static for type in parsed.inputs.values()):
                import_model(parsed)
        except UnsupportedError:
            return False
        return True

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> BrimRep:
        """Checks a model with onnx's checker and compiles it. Raises Refused, BrimError."""
        super().prepare(model, device, **kwargs)
        if not cls.supports_device(device):
            raise InputError(f"there is no device {device!r}", hint="CPU")
        try:
            return BrimRep(brim.load(model.SerializeToString()))
        except UnsupportedError as error:
            raise _refused(error) from error

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[np.dtype, tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """The outputs of one node for arrays in the order of its inputs, left-out ones left out.

        opset_version: of the node's domain; the operator's newest where it is not given.
        """
        super().run_node(node, inputs, device, outputs_info, **kwargs)
        arrays = [np.asarray(x) for x in ([inputs] if isinstance(inputs, np.ndarray) else inputs)]
        names = [name for name in node.input if name]
        schema = onnx.defs.get_schema(node.op_type, node.domain)
        version = kwargs.get("opset_version") or schema.since_version
        graph = helper.make_graph(
            [node],
            "node",
            [
                helper.make_tensor_value_info(
                    name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
                )
                for name, array in zip(names, arrays, strict=True)
            ],
            [onnx.ValueInfoProto(name=name) for name in node.output if name],
        )
        model = helper.make_model_gen_version(
            graph, opset_imports=[helper.make_opsetid(node.domain, version)]
        )
        try:
            return BrimRep(brim.load(model.SerializeToString())).run(arrays)
        except UnsupportedError as error:
            raise _refused(error) from error


# onnx's runner takes a class or a module with these names.
is_compatible = BrimBackend.is_compatible
prepare = BrimBackend.prepare
run_model = BrimBackend.run_model
run_node = BrimBackend.run_node
supports_device = BrimBackend.supports_device
