"""SVDF: a layer that filters features along time, a low-rank form of a wider one.

Nakkiran et al., Compressing deep neural networks using a rank-constrained topology, 2015.
"""

from __future__ import annotations

import brim.ops.primitive as p
import brim.ops.quantized as q
from brim.errors import ModelError
from brim.frontends.tflite.arithmetic import linear, requantized
from brim.frontends.tflite.operators.activation import activated
from brim.frontends.tflite.operators.recurrent import matrix, vector
from brim.frontends.tflite.table import Call, operator, quantized
from brim.graph import Value
from brim.types import I32


@operator("SVDF")
def svdf(call: Call) -> Value:
    even = call.flag("asymmetric_quantize_inputs")
    features = matrix(call, [1], even).product(call[0])
    memory = _remembered(call, features)
    filtered = p.mul(memory, vector(call, 2))
    y = _units(call, filtered)
    return activated(call, y if call.get(3) is None else p.add(y, vector(call, 3)))


@quantized("SVDF")
def quantized_svdf(call: Call) -> Value:
    return svdf(call) if call[0].dtype.is_float else _integers(call)


def _integers(call: Call) -> Value:
    """Activations of 8 bits; state and the filters of time of 16. LiteRT knows no activation but
    relu here, and leaves it to the result's zero point."""
    call.ignore("asymmetric_quantize_inputs", "fused_activation_function")
    (unit, zero), (weight, _) = linear(call.tensors[0]), linear(call.tensors[1])
    state = call.tensors[4]
    assert state is not None
    total = q.matmul_i32(call[0], p.transpose(call[1], perm=(1, 0)), zero=zero)
    features = requantized(total, unit * weight, state)
    memory = _remembered(call, features)
    products = p.mul(p.cast(memory, to=I32), p.cast(call[2], to=I32))
    y = _units(call, products)
    y = y if call.get(3) is None else p.add(y, call[3])
    return requantized(y, linear(state)[0] * linear(call.tensors[2])[0], call.result())


def _remembered(call: Call, features: Value) -> Value:
    """The last features of each filter [B, F, M], with the newest at the end; leaves them."""
    filters, length = call[2].shape
    batch = features.shape[0]
    flat = call.state(4)
    if flat.type.size != batch * filters * length or features.shape != (batch, filters):
        raise ModelError(f"a memory of {flat.type} for {filters} filters of {length}")
    memory = p.reshape(flat, shape=(batch, filters, length))
    sizes = (batch, filters, length - 1)
    kept = p.slice(memory, starts=(0, 0, 1), sizes=sizes, steps=(1, 1, 1))
    memory = p.concat(kept, p.reshape(features, shape=(batch, filters, 1)), axis=2)
    call.remember(4, p.reshape(memory, shape=flat.shape))
    return memory


def _units(call: Call, filtered: Value) -> Value:
    """Sums over time and the filters of a unit: [B, F, M] -> [B, F / rank]."""
    rank, (batch, filters, length) = call.int("rank"), filtered.shape
    if rank < 1 or filters % rank:
        raise ModelError(f"{filters} filters of rank {rank}")
    grouped = p.reshape(filtered, shape=(batch, filters // rank, rank * length))
    return p.reshape(p.reduce(grouped, op="add", axes=(2,)), shape=(batch, filters // rank))
