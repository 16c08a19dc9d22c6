"""The step LowRank: a large matrix of weights becomes the product of two thin ones.

    %3 = contract(window(%1), %w)                 # w[k, o]
-->
    %2 = contract(window(%1), %a)                 # a[k, r]
    %3 = add(contract(%2, %b), %shift)            # b[r, o]

The two are the best of their rank for the inputs that the layer reads, not for all there could be:
reduced-rank regression (Izenman 1975). With the covariances C of what is read now, and the weights
m that fit the layer best to what it computed, b are the leading right singular vectors of
C^(1/2) m, and a = m b'.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from brim.compress.matrices import matrices
from brim.compress.moments import Moments, has_moments, moments, read_of
from brim.compress.points import Layer, find_layers
from brim.compress.recipe import LowRank, selects
from brim.compress.refit import fitted, relative_error
from brim.compress.work import Made, Work
from brim.graph import Graph, Value, const
from brim.ops import primitive as p
from brim.ops.registry import at, emit

MOST = 0.75  # of the layer's multiplications: a second kernel reads and writes, too


def low_rank(graph: Graph, step: LowRank, work: Work) -> Made:
    """`graph` with two products in the place of those layers that become a quarter cheaper or more.

    Layers are single products of at most `moments.LARGEST` inputs; a convolution's first product
    keeps its window. Notes name each layer, its rank and the energy of its results that is lost.
    """
    layers = {id(v.value): v for v in find_layers(graph) if selects(step.layers, v.name)}
    new: dict[int, Value] = {id(value): value for value in graph.inputs.values()}
    notes = []
    for value in graph.values():
        if id(value) in new:
            continue
        args = tuple(new[id(arg)] for arg in value.args)
        same = all(a is b for a, b in zip(args, value.args))
        new[id(value)] = value if same else replace(value, args=args)
        layer = layers.get(id(value))
        if layer is None or not _may_split(layer):
            continue
        z, _ = matrices(layer, args[layer.data])
        read = replace(read_of(layer), x=z, wanted=read_of(layer).x)
        known = moments(graph, [read], work)[read.key]
        found = factors(read.form.pack(layer.weights)[0], known, step)
        if found is None:
            continue
        with at(value.where):
            new[id(value)] = _split(layer, args[layer.data], *found, known)
        notes.append(_note(layer, *found, known))
    outputs = {name: new[id(value)] for name, value in graph.outputs.items()}
    made = Graph(graph.inputs, outputs, graph.name, graph.state)
    return Made(made, tuple(notes) or ("no layer becomes cheaper",))


def _may_split(layer: Layer) -> bool:
    """Whether a layer is a single product [k, o], and any rank could be cheap enough."""
    form = matrices(layer)[1]
    _, k, o = form.shape
    return has_moments(layer) and len(form.outputs) == 1 and k + o <= MOST * k * o


def factors(
    weights: np.ndarray, known: Moments, step: LowRank
) -> tuple[np.ndarray, np.ndarray] | None:
    """a f64[k, r] and b f64[r, o]; None where they are not cheap enough. weights: [k, o]."""
    k, o = weights.shape
    everything = fitted(weights, np.ones((k, 1), bool).repeat(o, 1), known, o)
    about = known.centred
    root = np.linalg.cholesky(about.second + about.damping * np.eye(k))
    _, sizes, right = np.linalg.svd(root.T @ everything, full_matrices=False)
    rank = step.rank or rank_of(sizes, step.energy)
    if rank * (k + o) > MOST * k * o or rank >= min(k, o):
        return None
    kept = right[:rank]
    return everything @ kept.T, kept


def rank_of(sizes: np.ndarray, energy: float) -> int:
    """The fewest singular values, largest first, that hold the share `energy` of their squares."""
    squares = np.cumsum(np.square(sizes))
    return 1 + int(np.searchsorted(squares, energy * squares[-1]))


def _split(layer: Layer, x: Value, a: np.ndarray, b: np.ndarray, known: Moments) -> Value:
    """The two products, and the shift of their results."""
    form, weights = matrices(layer)[1], layer.weights
    packed = form.pack(weights)[0]
    column = form.outputs
    thin = replace(form, sizes={**form.sizes, column: a.shape[1]})
    first = const(thin.unpack(a[None]).astype(np.float32), layer.value.args[layer.side].where)
    value, args = layer.value, [x, x]
    args[layer.side] = first
    y, letters = emit(value.op, *args, **value.attrs), form.out  # type: ignore[arg-type]
    inner = next(c for c in "zyxvut" if c not in letters)
    spec = f"{letters.replace(column, inner)},{inner}{column}->{letters}"
    y = p.contract(y, const(b.astype(np.float32)), spec=spec)
    shift = known.wanted @ packed - known.mean @ a @ b
    row = form.unpack(shift[None, None]).astype(np.float32)
    return p.add(y, const(layer.along_result(row)))


def _note(layer: Layer, a: np.ndarray, b: np.ndarray, known: Moments) -> str:
    weights = matrices(layer)[1].pack(layer.weights)[0]
    error = relative_error(weights, a @ b, known)
    return (
        f"{layer.name}: {weights.shape[0]} x {weights.shape[1]} of rank {len(b)}, {error:.2%} lost"
    )
