"""What an operator is at a glance: its kind, which colours it, and a hint beside its name."""

from __future__ import annotations

from collections.abc import Iterable

from brim.graph import Op, Value
from brim.types import Type

# Of an operator that became several, and of a kernel that fuses several, the first kind counts.
WEIGHT = (
    "control", "product", "norm", "index", "reduce", "host", "activation", "elementwise",
    "quantize", "move", "source", "input", "output", "folded",
)  # fmt: skip

_BY_NAME = {
    "product": "conv conv_transpose conv_i32 matmul_i32 attention sparse_matmul adapted_product",
    "norm": "batch_norm layer_norm rms_norm local_response_norm l2_norm",
    "activation": "relu sigmoid hard_sigmoid hard_swish swish softplus softsign mish gelu"
    " leaky_relu prelu elu selu celu thresholded_relu shrink softmax log_softmax",
    "reduce": "max_pool average_pool lp_pool average_pool_i32 log_sum_exp",
    "quantize": "quantize quantize_float dequantize fake_quant encode decode cast unpack",
    "index": "resample",
}
_NAMED = {name: kind for kind, names in _BY_NAME.items() for name in names.split()}
_BY_KIND = {
    "contract": "product", "scatter": "index", "scan": "reduce", "walk": "index", "tiles": "move",
    "untile": "move", "composite": "elementwise",
}  # fmt: skip

_GUESSES = {
    "norm": ("normalization",),
    "quantize": ("quantize", "cast"),
    "product": ("conv", "gemm", "matmul", "einsum", "attention", "lstm", "gru", "rnn", "connected"),
    "reduce": ("pool", "reduce", "argm", "cumsum", "mean"),
    "index": ("gather", "scatter", "topk", "resize", "suppression", "nonzero", "where"),
    "control": ("if", "loop", "scan", "while"),
    "activation": ("relu", "sigmoid", "softmax", "gelu", "tanh", "clip", "swish", "logistic"),
    "elementwise": (
        "add", "sub", "mul", "div", "pow", "sqrt", "exp", "log", "neg", "abs", "equal", "less",
        "greater", "min", "max", "and", "or", "not", "erf", "sin", "cos",
    ),
    "source": ("constant", "range", "random"),
}  # fmt: skip


def kind_of(op: Op) -> str:
    """The kind of an operator of brim: one of `document.KINDS`."""
    return _NAMED.get(op.name) or _BY_KIND.get(op.kind, op.kind)


def kind_by_name(op: str) -> str:
    """A guess for an operator of a file that was not imported."""
    name = op.lower().replace("_", "")
    return next((kind for kind, words in _GUESSES.items() if any(w in name for w in words)), "move")


def heaviest(kinds: Iterable[str]) -> str:
    """The kind of several operators together."""
    return min(kinds, key=WEIGHT.index, default="folded")


def hint_of(value: Value) -> str:
    """What tells an operator from others of its name: sizes of kernels, strides, axes, results."""
    attrs = value.attrs
    result = value.type.dims if isinstance(value.type, Type) and value.type.is_static else ()
    match value.op.name if value.op is not None else "":
        case "conv" | "conv_transpose" | "conv_i32":
            *window, channels, _ = value.args[1].shape
            depthwise = attrs["groups"] > 1 and channels == 1
            return f"{by(window)}{_stride(attrs)}" + (
                " depthwise" if depthwise else f" → {result[-1]}"
            )
        case "max_pool" | "average_pool" | "lp_pool" | "average_pool_i32":
            return f"{by(attrs['size'])}{_stride(attrs)}"
        case "contract" | "matmul_i32":
            return f"→ {result[-1]}" if result else ""
        case "concat" | "gather" | "cumulate" | "resample" | "softmax" | "log_softmax":
            return f"axis {attrs['axis']}" if "axis" in attrs else ""
        case "reshape":
            return f"→ {by(result)}"
        case "transpose":
            return " ".join(map(str, attrs["perm"]))
        case "cast":
            return f"→ {value.dtype}"
        case "loop" if attrs["length"] is not None:
            return f"{attrs['length']} times"
    return ""


def by(numbers: Iterable[int]) -> str:
    """A shape for people."""
    return "×".join(map(str, numbers))


def _stride(attrs: object) -> str:
    strides = attrs["stride"]  # type: ignore[index]
    if all(n == 1 for n in strides):
        return ""
    return f" /{strides[0]}" if len(set(strides)) == 1 else f" /{by(strides)}"
