"""Products whose weights are changed by a small product beside them: LoRA.

Hu 2021, "LoRA: low-rank adaptation of large language models", arXiv:2106.09685. Which products are
adapted, and how the change gets into the weights in the end, is told in `brim.train.adapters`.
"""

from __future__ import annotations

from brim.errors import OpError
from brim.graph import Value
from brim.ops.primitive import add, contract, mul, parse_spec
from brim.ops.registry import composite


def change(a: Value, b: Value, *, spec: str, scale: float) -> Value:
    """What adapters add to the weights of `contract(x, w, spec)`: scale * a b, of w's type."""
    _, letters, _ = parse_spec(spec)
    (inner, outer, _), r = _letters(spec), _free(spec)
    return mul(contract(a, b, spec=f"{inner}{r},{r}{outer}->{letters}"), scale)


@composite()
def adapted_product(x, w, a, b, *, spec, scale):
    """contract(x, w, spec) + scale * (x a) b for a[summed..., rank] and b[rank, results...].

    Equals the product with w + scale * a b; but the slope of w, which is frozen, is not needed.
    """
    inner, outer, kept = _letters(spec)
    (left, _, out), r = parse_spec(spec), _free(spec)
    low = contract(x, a, spec=f"{left},{inner}{r}->{kept}{r}")
    y = contract(low, b, spec=f"{kept}{r},{r}{outer}->{out}")
    return add(contract(x, w, spec=spec), mul(y, scale))


def _letters(spec: str) -> tuple[str, str, str]:
    """Letters of the weights that are summed over, their others, and those of x in the result."""
    left, right, out = parse_spec(spec)
    if set(left) & set(right) & set(out):
        raise OpError(f"{spec!r} is a product for each of several, which has no common weights")
    inner = "".join(c for c in right if c in left)
    outer = "".join(c for c in right if c in out)
    return inner, outer, "".join(c for c in left if c in out)


def _free(spec: str) -> str:
    return next(c for c in "rabcdefghijklmnopqstuvwxyz" if c not in spec)
