"""Cases of products: MatMul, Gemm, Einsum, determinants, integer products."""

from __future__ import annotations

import numpy as np

from tests.extra.fuzz_models.draft import Draft, Tensor, Unfit
from tests.extra.fuzz_models.table import case


def _second(d: Draft, a: tuple[int, ...]) -> tuple[int, ...]:
    """A shape that `a` can be multiplied with."""
    n = a[-1]
    if d.chance(0.2):
        return (n,)
    lead = a[:-2][d.integer(0, max(len(a) - 2, 0)) :] if len(a) > 2 else ()
    lead = tuple(1 if d.chance(0.3) else m for m in lead)
    if len(a) == 1 and d.chance(0.3):
        lead = d.shape(0, 2)
    return (*lead, n, d.size())


@case("MatMul")
def matmul(d: Draft, name: str) -> None:
    a = d.take(d.types(name), 1, 4)
    d.add(name, a, d.tensor(_second(d, a.shape), a.dtype))


@case("MatMulInteger")
def matmul_integer(d: Draft, name: str) -> None:
    a = d.take(("uint8", "int8"), 1, 4)
    b = d.tensor(_second(d, a.shape), d.choose(["uint8", "int8"]))
    d.add(name, a, b, *zero_points(d, a, b))


def zero_points(d: Draft, a: Tensor, b: Tensor) -> list[Tensor | None]:
    """For each row of a and each column of b, for all, or none."""
    first = second = None
    if d.chance(0.6):
        shape = (a.shape[-2],) if a.rank == 2 and d.chance(0.3) else ()
        first = d.tensor(shape, a.dtype)
    if d.chance(0.6):
        shape = (b.shape[-1],) if b.rank == 2 and d.chance(0.3) else ()
        second = d.tensor(shape, b.dtype)
    return [first, second]


@case("Gemm")
def gemm(d: Draft, name: str) -> None:
    a = d.take(d.types(name), 2, 2)
    flip_a, flip_b = d.chance(0.4), d.chance(0.4)
    m, k = a.shape[::-1] if flip_a else a.shape
    n = d.size()
    b = d.tensor((n, k) if flip_b else (k, n), a.dtype)
    c = None
    if d.opset < 11 or d.chance(0.7):
        c = d.tensor(d.choose([(m, n), (n,), (1, n), (m, 1), (1,), ()]), a.dtype)
    whole = a.dtype[0] in "ui"
    scale = {k: float(d.integer(1, 3)) if whole else d.number(-2, 2) for k in ("alpha", "beta")}
    more = {k: v for k, v in scale.items() if d.chance()}
    d.add(name, a, b, c, transA=int(flip_a), transB=int(flip_b), **more)


@case("Det")
def det(d: Draft, name: str) -> None:
    n = d.integer(1, 5)
    d.add(name, d.tensor((*d.shape(0, 2), n, n), d.dtype(d.types(name)), plain=True))


@case("Einsum")
def einsum(d: Draft, name: str) -> None:
    sizes = {letter: d.size(zero=False) for letter in "abcdij"}  # onnxruntime divides by zero
    kind = d.dtype(t for t in d.types(name) if t in ("float32", "float64", "int32", "int64"))
    dots = d.chance(0.2)
    dim = d.size(zero=False)
    terms, operands = [], []
    for _ in range(d.integer(1, 3)):
        letters = [d.choose("abcdij") for _ in range(d.integer(0 if dots else 1, 3))]
        shape = [sizes[letter] for letter in letters]
        if dots and d.chance(0.7):
            at = d.integer(0, len(letters))
            letters.insert(at, "...")
            shape.insert(at, 1 if d.chance(0.2) else dim)
        terms.append("".join(letters))
        operands.append(d.tensor(shape, kind, plain=True))
    seen = sorted(set("".join(terms).replace(".", "")))
    equation = ",".join(terms)
    if d.chance(0.8):
        out = "".join(d.subset(seen))
        equation += "->" + ("..." if "..." in equation else "") + out
    if d.chance(0.2):
        equation = equation.replace(",", " , ").replace("->", " -> ")
    total = np.prod([max(n, 1) for n in sizes.values()])
    if total > 40_000:
        raise Unfit("too large")
    d.add(name, *operands, equation=equation)
