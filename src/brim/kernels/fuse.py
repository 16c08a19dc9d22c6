"""Fusion: which values of a primitive graph are stored, and which vanish into their users' kernels.

Values are visited from the outputs to the inputs. A value joins the one cluster that uses it when
that costs no repeated work; otherwise it is stored and becomes the root of a cluster of its own.
Data movement is never a cluster by itself: it is an index map, applied where its result is read
(or, before a contraction, where its argument is stored). This file decides; `lower.py` builds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from brim.graph import Graph, Value
from brim.kernels.affine import (
    ZERO,
    NeedSplit,
    NotAffine,
    Position,
    axis_index,
    broadcast_position,
    combine,
    covers,
    substitute,
    through_move,
)
from brim.kernels.ir import Bound, Index
from brim.kernels.loops import is_compiled
from brim.ops.primitive import parse_spec
from brim.types import Type

EXPENSIVE = {"exp", "log", "tanh", "erf", "sin", "cos", "atan", "atan2", "power", "sqrt", "mod"}
EXPENSIVE |= {"descend", "follow"}
CHEAP_INTEGER = {"cast", "sub"}  # conversions of quantized operands, redone at each load
REDUCTIONS = {"reduce", "contract"}  # kinds
BARRIERS = {"host", "control"}


# Rows of a product that read one held constant; for more of them it is unpacked once, to memory.
# Measured for 4 bits: fused 1.03 to 1.2 times f32 at 4 to 8 rows, stored 1.06 to 1.2 from 16 on.
_ROWS = 12


def on_host(value: Value) -> bool:
    """Whether numpy computes this value: shapes that depend on data, objects, control flow."""
    assert value.op is not None
    if is_compiled(value):
        return False
    if value.op.kind in BARRIERS or not isinstance(value.type, Type):
        return True
    return value.dtype.is_object


# Operations that are repeated rather than have their result stored; for how many an expensive one
# counts: an exponential takes as long as a store and a load of memory that no cache holds.
# Bytes below which nothing is gained: a cache holds them.
_MOST, _DEAR, _LITTLE = 10, 6, 1 << 14

# Operations nested in one expression: lowering, hashing and parsing them are recursions.
MAX_DEPTH = 64


@dataclass(eq=False)
class Cluster:
    """A kernel in the making: the root's axes, those shared by all stages, and axis splits."""

    root: Value
    start: Position = ()  # the root's position, one axis a dimension
    extents: dict[str, int] = field(default_factory=dict)
    root_axes: list[str] = field(default_factory=list)
    outer: set[str] | None = None  # None: nothing has fixed it yet (then all root axes are outer)
    splits: dict[str, Index] = field(default_factory=dict)
    whole: set[str] = field(
        default_factory=set
    )  # never split: an argmax counts along them, tiles divide them
    stages: dict[int, list[str]] = field(default_factory=dict)  # id(reduction) -> its own axes
    opened: dict[int, tuple[Position, ...]] = field(default_factory=dict)  # where it reads its args
    contracts: int = 0
    kept: Value | None = None  # stored unreduced in the output while a reduction reads it
    tiled: Value | None = None  # Winograd's results, which are made a tile at a time

    def new_axis(self, extent: int) -> str:
        name = f"x{len(self.extents)}"
        self.extents[name] = extent
        return name

    def split(self, axis: str, inner: int) -> None:
        """Replaces `axis` by (outer, inner of the given size) everywhere."""
        high, low = self.new_axis(self.extents[axis] // inner), self.new_axis(inner)
        self.splits[axis] = combine([(axis_index(high), inner), (axis_index(low), 1)])
        for axes in (self.root_axes, *self.stages.values()):
            if axis in axes:
                at = axes.index(axis)
                axes[at : at + 1] = [high, low]
        if self.outer is not None and axis in self.outer:
            self.outer = self.outer - {axis} | {high, low}

    def resolve(self, position: Position) -> Position:
        return tuple(substitute(i, self.splits) for i in position)

    def inner_axes(self) -> list[str]:
        """The root's axes that are not shared by all stages."""
        return [] if self.outer is None else [a for a in self.root_axes if a not in self.outer]

    def root_position(self) -> Position:
        return self.resolve(self.start)


@dataclass(frozen=True)
class Use:
    """One place where a value is read: in which cluster, at which stage (None: the root's)."""

    cluster: Cluster
    stage: Value | None
    position: Position
    guarded: bool


@dataclass(eq=False)
class Fusion:
    """What was decided: clusters by id(root); values stored; concat slots are made by `lower`."""

    clusters: dict[int, Cluster] = field(default_factory=dict)
    demanded: set[int] = field(default_factory=set)
    contiguous: set[int] = field(default_factory=set)  # read as flat memory under another shape
    uses: dict[int, list[Use]] = field(default_factory=dict)
    depth: dict[int, int] = field(default_factory=dict)  # of operations around it in one expression
    held: frozenset[int] = frozenset()  # what follows from held constants alone
    again: frozenset[int] = frozenset()  # what each of several users computes for itself
    split: set[int] = field(default_factory=set)  # stored only because it has several users
    counts: dict[int, int] = field(default_factory=dict)  # of readers of each value


def fuse(graph: Graph, force: frozenset[int] = frozenset()) -> Fusion:
    """Decides what is stored. `force`: ids of values that must be, whatever the rules say."""
    order = graph.values()
    first = _fused(graph, order, force, frozenset())
    again = _cheaper_again(order, first)
    return _fused(graph, order, force, again) if again else first


def _fused(
    graph: Graph, order: list[Value], force: frozenset[int], again: frozenset[int]
) -> Fusion:
    fusion = Fusion(held=_held(order), again=again)
    counts = fusion.counts
    for value in order:
        for arg in value.args:
            counts[id(arg)] = counts.get(id(arg), 0) + 1
    fusion.demanded.update(id(v) for v in graph.outputs.values())
    for value in reversed(order):
        _visit(fusion, value, counts, force)
    return fusion


def _visit(fusion: Fusion, value: Value, counts: dict[int, int], force: frozenset[int]) -> None:
    uses = fusion.uses.get(id(value), [])
    demanded = id(value) in fusion.demanded or id(value) in force
    if not uses and not demanded:
        return
    if value.op is None:
        return
    if value.op.kind in BARRIERS or on_host(value) or value.op.name == "concat":
        fusion.demanded.update(id(a) for a in value.args)
        fusion.demanded.add(id(value))
        return
    if value.op.kind == "source" and not demanded:
        return
    too_deep = fusion.depth.get(id(value), 0) > MAX_DEPTH
    stays = demanded or too_deep
    if stays or not (
        _unpacks(fusion, value, uses)
        or _recomputes(fusion, value, uses)
        or _joins(value, uses, counts)
    ):
        if not stays:
            fusion.split.add(id(value))
        fusion.demanded.add(id(value))
        fusion.depth[id(value)] = 0
        cluster = Cluster(value)
        cluster.root_axes = [cluster.new_axis(n) for n in value.shape if n != 1]
        names = iter(list(cluster.root_axes))
        cluster.start = tuple(ZERO if n == 1 else axis_index(next(names)) for n in value.shape)
        fusion.clusters[id(value)] = cluster
        uses = [Use(cluster, None, cluster.start, False)]
    _pass_on(fusion, value, uses)


def _held(order: list[Value]) -> frozenset[int]:
    """Ids of held constants, and of what is computed from them element by element."""
    known: set[int] = set()  # what follows from constants at all
    found: set[int] = set()
    for value in order:
        kind = value.op.kind if value.op is not None else "const" if value.is_const else "input"
        steps = kind in ("elementwise", "move") and all(id(arg) in known for arg in value.args)
        if kind in ("const", "source") or steps:
            known.add(id(value))
            is_hold = value.op is not None and value.op.name == "hold"
            if is_hold or any(id(arg) in found for arg in value.args):
                found.add(id(value))
    return frozenset(found)


def _unpacks(fusion: Fusion, value: Value, uses: list[Use]) -> bool:
    """Whether few rows of a product read a held constant: each takes it apart as it loads it."""
    most = _ROWS * value.type.size
    return id(value) in fusion.held and all(
        use.stage is not None and use.stage.op.kind == "contract" and _evaluations(use) <= most  # type: ignore[union-attr]
        for use in uses
    )


def _recomputes(fusion: Fusion, value: Value, uses: list[Use]) -> bool:
    return id(value) in fusion.again and all(_evaluations(u) <= value.type.size for u in uses)


def _cheaper_again(order: list[Value], fusion: Fusion) -> frozenset[int]:
    """Ids of stored values that are a few operations on one stored tensor of their size, and small
    ones: each user reads that tensor instead, for as long. So a normalised layer is not stored
    beside what it is made of until the backward pass."""
    stored, found = set(fusion.demanded), set()
    work: dict[int, int] = {}  # operations in the expression of a value that is not stored
    leaves: dict[int, frozenset[int]] = {}
    size = {id(value): value.type.bytes for value in order if not _is_open(value)}
    for value in order:
        key = id(value)
        if value.op is None or value.op.kind not in ("elementwise", "move") or key not in size:
            continue
        work[key] = int(value.op.kind == "elementwise")
        leaves[key] = frozenset()
        for arg in value.args:
            inside = id(arg) in leaves and id(arg) not in stored
            work[key] += work[id(arg)] if inside else 0
            leaves[key] |= leaves[id(arg)] if inside else {id(arg)}
        if value.op.kind == "move" and value.op.name != "broadcast":
            work[key] = _MOST + 1
        if value.op.name in EXPENSIVE:
            work[key] += _DEAR
        large = [leaf for leaf in leaves[key] if size.get(leaf, 0) * 8 > size[key]]
        same = len(large) == 1 and size[large[0]] == size[key] >= _LITTLE
        if key in fusion.split and work[key] <= _MOST and same:
            stored.discard(key)
            rest = [value]
            while rest:  # and all that its expression is made of
                part = rest.pop()
                if id(part) in leaves and id(part) not in stored and id(part) not in found:
                    found.add(id(part))
                    rest += part.args
    return frozenset(found)


def _is_open(value: Value) -> bool:
    """Whether the memory that a value takes is not known before the graph runs."""
    return not isinstance(value.type, Type) or not value.type.is_static or value.dtype.is_object


def _evaluations(use: Use) -> int:
    """How often an expression at this place is computed."""
    cluster = use.cluster
    axes = set(cluster.root_axes)
    if use.stage is not None:
        shared = cluster.outer if cluster.outer is not None else axes
        axes = shared | set(cluster.stages[id(use.stage)])
    return math.prod(cluster.extents[a] for a in axes)


def _joins(value: Value, uses: list[Use], counts: dict[int, int]) -> bool:
    """Whether `value` is computed inside the cluster of its users."""
    assert value.op is not None
    kind = value.op.kind
    if kind == "move":
        return not _store_after_move(value, uses, counts)
    cluster = uses[0].cluster
    if any(u.cluster is not cluster for u in uses) or value.type.size == 0:
        return False
    if kind in REDUCTIONS:
        return _reduction_joins(value, uses, cluster)
    if kind == "index" and _picks_terms(value, uses):
        return True
    if kind in ("elementwise", "index", "walk"):
        return _elementwise_joins(value, uses, cluster, counts)
    if kind == "untile":
        return _tiles_join(uses, cluster)
    return False  # scan, scatter, tiles: kernels of their own


def _tiles_join(uses: list[Use], cluster: Cluster) -> bool:
    """Whether Winograd's results are read where they arise, element by element, by an epilogue."""
    if cluster.stages or cluster.outer is not None or cluster.tiled is not None:
        return False
    plain = not any(u.guarded or u.stage is not None for u in uses)
    return plain and not cluster.splits and _same_position(uses) == cluster.start


def _store_after_move(value: Value, uses: list[Use], counts: dict[int, int]) -> bool:
    """A transpose or reshape between a computation and a contraction: store its result, moved.

    The computation then writes in the order in which the contraction wants to read.
    """
    if not any(u.stage is not None and _evaluations(u) > value.type.size for u in uses):
        return False
    step = value
    while step.op is not None and step.op.name in ("transpose", "reshape"):
        if counts.get(id(step), 0) != 1 and step is not value:
            return False
        step = step.args[0]
    computed = step.op is not None and step.op.kind in ("elementwise", "reduce", "contract")
    return step is not value and computed and counts.get(id(step), 0) == 1


def _same_position(uses: list[Use]) -> Position | None:
    first = uses[0].cluster.resolve(uses[0].position)
    if any(u.cluster.resolve(u.position) != first for u in uses[1:]):
        return None
    return first


def _reduction_joins(value: Value, uses: list[Use], cluster: Cluster) -> bool:
    position = _same_position(uses)
    if position is None or any(u.guarded for u in uses):
        return False
    outer = covers(position, value.shape, cluster.extents)
    if outer is None or not outer <= set(cluster.root_axes):
        return False
    assert value.op is not None
    if cluster.tiled is not None:
        return False
    if cluster.contracts or (value.op.kind == "contract" and cluster.stages):
        return False
    if value.op.kind == "contract" and outer != set(cluster.root_axes):
        return False  # one accumulator for each element that is stored
    return cluster.outer is None or cluster.outer == outer


def _picks_terms(value: Value, uses: list[Use]) -> bool:
    """Whether a float contraction sums over what is looked up by constant numbers: a sparse
    product, whose kernel loads nothing else."""
    index, axis = value.args[1], value.attrs["axis"]
    if not index.is_const or not value.dtype.is_float:
        return False
    for use in uses:
        if use.stage is None or use.stage.op is None or use.stage.op.kind != "contract":
            return False
        summed = set(use.cluster.stages[id(use.stage)])
        position = use.cluster.resolve(use.position)[axis : axis + len(index.shape)]
        if use.guarded or summed.isdisjoint(t.axis for i in position for t in i.terms):
            return False
    return True


def _elementwise_joins(
    value: Value, uses: list[Use], cluster: Cluster, counts: dict[int, int]
) -> bool:
    assert value.op is not None
    staged = cluster.contracts > 0 or any(u.stage is not None for u in uses)
    if staged and _narrows(value) and _ends_contraction(value, counts):
        return False  # stored small by the contraction, of which it is no inner part
    contexts = {id(u.stage) for u in uses}
    if all(_evaluations(u) <= value.type.size for u in uses):
        if len(contexts) == 1:
            return True
        if _ends_contraction(value, counts):
            return False  # stored once by the contraction, read by every stage
        if value.op.name not in EXPENSIVE:
            return len(contexts) <= 3
        return _keep(value, uses, cluster)
    if value.op.name in CHEAP_INTEGER and not value.dtype.is_float and not _narrows(value):
        return all(u.stage is not None and u.stage.op.kind == "contract" for u in uses)  # type: ignore[union-attr]
    if cluster.tiled is not None:
        return False
    # once for each outer point, because it follows from a reduction (1 / sqrt(variance + eps))
    position = _same_position(uses)
    if position is None or any(u.guarded for u in uses):
        return False
    outer = covers(position, value.shape, cluster.extents)
    if outer is None or not outer <= set(cluster.root_axes):
        return False
    if cluster.outer is None and _follows_reduction(value):
        cluster.outer = outer
    return cluster.outer == outer


def _narrows(value: Value) -> bool:
    """Whether it is a conversion to a type of fewer bytes."""
    assert value.op is not None
    return value.op.name == "cast" and value.dtype.bytes < value.args[0].dtype.bytes


def _is_packed(value: Value) -> bool:
    """Whether it is what was computed, in a type of fewer bytes."""
    while value.op is not None and value.op.name == "bitcast":
        (value,) = value.args
    return value.op is not None and value.op.name == "cast" and _narrows(value)


def _follows_reduction(value: Value) -> bool:
    while value.op is not None and value.op.kind == "elementwise":
        computed = [a for a in value.args if a.op is not None]
        if len(computed) != 1:
            return False
        value = computed[0]
    return value.op is not None and value.op.kind == "reduce"


def _ends_contraction(value: Value, counts: dict[int, int]) -> bool:
    """Whether the value is a contraction's epilogue: elementwise over it, used nowhere else."""
    stack = list(value.args)
    while stack:
        v = stack.pop()
        if v.op is None or v.type.size != value.type.size or counts.get(id(v), 0) > 1:
            continue
        if v.op.kind == "contract":
            return True
        if v.op.kind in ("elementwise", "move"):
            stack.extend(v.args)
    return False


def _keep(value: Value, uses: list[Use], cluster: Cluster) -> bool:
    """softmax's exponentials: written to the output while they are summed, and read back."""
    root = cluster.root
    if len(uses) != 2 or cluster.kept is not None or value.dtype != root.dtype:
        return False
    if value.dtype.is_float and value.dtype.bits < 32:  # computed in f32, which has no room there
        return False
    stage = next((u.stage for u in uses if u.stage is not None), None)
    if stage is None or stage.op is None or stage.op.name != "reduce" or stage.args[0] is not value:
        return False
    if sum(u.stage is None for u in uses) != 1 or any(u.guarded for u in uses):
        return False
    position = _same_position(uses)
    if position is None:
        return False
    if covers(position, value.shape, cluster.extents) != set(cluster.root_axes):
        return False
    cluster.kept = value
    return True


def _pass_on(fusion: Fusion, value: Value, uses: list[Use]) -> None:
    """Tells the arguments of a value where they are read."""
    assert value.op is not None

    def add(
        arg: Value,
        use: Use,
        position: Position,
        guarded: bool = False,
        stage: Value | None = None,
    ) -> None:
        found = Use(use.cluster, stage or use.stage, position, use.guarded or guarded)
        known = fusion.uses.setdefault(id(arg), [])
        if found not in known:  # computed once; else y = y * tanh(y) n times were 2**n uses
            known.append(found)
        depth = fusion.depth.get(id(value), 0) + 1
        fusion.depth[id(arg)] = max(depth, fusion.depth.get(id(arg), 0))

    match value.op.kind:
        case "move":
            if value.op.name == "hold" and _is_packed(value.args[0]):
                fusion.demanded.add(id(value.args[0]))  # or nothing would be smaller
            for use in uses:
                moved = _moved(value, use)
                if moved is None:  # read as contiguous memory under another shape
                    fusion.demanded.add(id(value.args[0]))
                    fusion.contiguous.add(id(value.args[0]))
                else:
                    add(value.args[0], use, moved[0], bool(moved[1]))
        case "elementwise":
            for use in uses:
                position = use.cluster.resolve(use.position)
                for arg in value.args:
                    add(arg, use, broadcast_position(position, arg.shape))
        case "reduce":
            use = uses[0]
            add(value.args[0], use, _open_reduce(value, use), stage=value)
        case "contract":
            use = uses[0]
            for arg, position in zip(value.args, _open_contract(value, use)):
                add(arg, use, position, stage=value)
        case "index":
            fusion.demanded.add(id(value.args[0]))
            axis, rank = value.attrs["axis"], len(value.args[1].shape)
            for use in uses:
                position = use.cluster.resolve(use.position)
                add(value.args[1], use, position[axis : axis + rank])
        case "scan" | "scatter" | "walk" | "tiles":
            fusion.demanded.update(id(a) for a in value.args)
        case "untile":
            fusion.demanded.add(id(value.args[0]))
            cluster = uses[0].cluster
            cluster.tiled = value
            cluster.whole.update(t.axis for i in cluster.start[1:3] for t in i.terms)


def _moved(value: Value, use: Use) -> tuple[Position, tuple[Bound, ...]] | None:
    while True:
        try:
            position = use.cluster.resolve(use.position)
            return through_move(value, position, use.cluster.extents)
        except NeedSplit as need:
            if need.axis in use.cluster.whole:
                return None
            use.cluster.split(need.axis, need.inner)
        except NotAffine:
            return None


def _fix_outer(value: Value, use: Use) -> None:
    cluster = use.cluster
    position = cluster.resolve(use.position)
    cluster.outer = covers(position, value.shape, cluster.extents)
    assert cluster.outer is not None


def _open_reduce(value: Value, use: Use) -> Position:
    """Starts a stage for a reduction; gives the position at which its argument is read.

    Loop axes of the root stage are taken again where the sizes agree, so that a value read by both
    has one and the same position.
    """
    _fix_outer(value, use)
    cluster = use.cluster
    free = cluster.inner_axes()
    position = list(cluster.resolve(use.position))
    axes = value.attrs["axes"] if "axes" in value.attrs else (value.attrs["axis"],)
    mine: list[str] = []
    for axis in axes:
        extent = value.args[0].shape[axis]
        if extent == 1:
            continue
        name = next((a for a in free if cluster.extents[a] == extent), None)
        if name is None:
            name = cluster.new_axis(extent)
        else:
            free.remove(name)
        mine.append(name)
        position[axis] = axis_index(name)
    if "axis" in value.attrs:
        cluster.whole.update(mine)
    cluster.stages[id(value)] = mine
    cluster.opened[id(value)] = (tuple(position),)
    return tuple(position)


def _open_contract(value: Value, use: Use) -> tuple[Position, Position]:
    """Starts a stage for a contraction; gives the positions at which its arguments are read."""
    _fix_outer(value, use)
    cluster = use.cluster
    cluster.contracts += 1
    la, lb, lo = parse_spec(value.attrs["spec"])
    at = dict(zip(lo, cluster.resolve(use.position)))
    mine: list[str] = []
    for letters, arg in ((la, value.args[0]), (lb, value.args[1])):
        for letter, extent in zip(letters, arg.shape):
            if letter not in at:
                if extent == 1:
                    at[letter] = ZERO
                    continue
                name = cluster.new_axis(extent)
                mine.append(name)
                at[letter] = axis_index(name)
    cluster.stages[id(value)] = mine
    positions = tuple(at[c] for c in la), tuple(at[c] for c in lb)
    cluster.opened[id(value)] = positions
    return positions
