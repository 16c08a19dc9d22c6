"""Layout: transposes sink towards the outputs, meet their inverses and vanish: channels-last.

Front ends wrap convolution-like operators of channels-first models in transposes, so that brim's
own operators only know one layout. This pass removes them again:

    %2: f32[1,8,5,5] = transpose(%1) perm=(0, 3, 1, 2)
    %3: f32[1,8,5,5] = maximum(%2, 0.0)
    %4: f32[1,5,5,8] = transpose(%3) perm=(0, 2, 3, 1)
    %5: f32[1,5,5,4] = conv(%4, %w)
-->
    %2: f32[1,5,5,8] = maximum(%1, 0.0)
    %3: f32[1,5,5,4] = conv(%2, %w)

One walk over the graph carries each value as a `View`: some other value, and the permutation still
owed. Operators take views where they can (axes are renamed, constants permuted now), else the debt
is paid with a transpose. Where two debts disagree, or a reshape merges owed axes, there is a
choice: a few policies are tried, and the one that moves the fewest elements wins; if none moves
fewer than before, the graph stays as it is.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np

from brim.graph import Graph, Value, const, placeholder, topo
from brim.ops import primitive as ops
from brim.ops.primitive import inverse, parse_spec
from brim.ops.registry import OPS, at, emit
from brim.passes.simplify import only_units_move
from brim.passes.subgraphs import inside
from brim.types import Shape, Type

Perm = tuple[int, ...]


@dataclass(frozen=True)
class View:
    """Stands for transpose(value, perm): axis i of what is meant is axis perm[i] of `value`."""

    value: Value
    perm: Perm

    @property
    def plain(self) -> bool:
        return self.perm == tuple(range(len(self.perm)))

    @property
    def shape(self) -> Shape:
        return tuple(self.value.shape[p] for p in self.perm)


@dataclass(frozen=True)
class Policy:
    """What to do where there is a choice.

    sink: where debts disagree on equal terms, owe rather than pay. partial: before a reshape that
    merges owed axes, pay only what makes them neighbours. grow: owe through ops that enlarge.
    """

    sink: bool
    partial: bool
    grow: bool


POLICIES = tuple(
    Policy(sink, partial, grow)
    for grow in (True, False)
    for partial in (False, True)
    for sink in (True, False)
)


@dataclass(frozen=True)
class _Walk:
    """One walk: its policy, and the transposes made so far (with their source, kept alive)."""

    policy: Policy
    still: frozenset[int] = frozenset()
    made: dict[tuple, tuple[Value, Value]] = field(default_factory=dict)


def layout(graph: Graph, still: Collection[str] = ()) -> Graph:
    """The graph with as few transposed elements as the policies find; never more than before.

    still: names of inputs that are the same in every run: moving them counts nothing, as moving
    constants does, because a caller does so once.
    """
    graph = inside(graph, layout)
    made: dict[tuple, tuple[Value, Value]] = {}
    fixed = frozenset(id(graph.inputs[name]) for name in still)
    cost = moved_elements(graph, fixed)
    while cost[0]:
        best = None
        for policy in POLICIES:
            candidate = _sink(graph, _Walk(policy, fixed, made))
            found = moved_elements(candidate, fixed)
            if found < cost:
                best, cost = candidate, found
            if best is not None and _only_at_edges(best, fixed):
                break  # the usual end: no policy does better
        if best is None:
            break
        graph = best
    return graph


def moved_elements(graph: Graph, still: frozenset[int] = frozenset()) -> tuple[int, int]:
    """(elements moved by the graph's transposes, number of them); moving axes of size 1 is free."""
    sizes = [value.type.size for value in _moves(graph, still)]
    return sum(sizes), len(sizes)


def _moves(graph: Graph, still: frozenset[int]) -> list[Value]:
    return [
        value
        for value in graph.values()
        if value.op is OPS["transpose"]
        and not only_units_move(value.attrs["perm"], value.args[0].shape)
        and not _is_still(value, still)
    ]


def _is_still(value: Value, still: frozenset[int]) -> bool:
    """Whether a value is the same in every run: a constant, an input that is `still`, moved."""
    while value.op is not None and value.op.name in ("transpose", "reshape"):
        value = value.args[0]
    return value.is_const or id(value) in still


def _only_at_edges(graph: Graph, still: frozenset[int]) -> bool:
    """Whether all transposes that are left read an input or write an output of the graph."""
    ends = {id(value) for value in graph.outputs.values()}
    return all(value.args[0].op is None or id(value) in ends for value in _moves(graph, still))


def _sink(graph: Graph, walk: _Walk) -> Graph:
    views = {id(value): _plain(value) for value in graph.inputs.values()}
    _sink_all(graph.values(), views, walk)
    outputs = {name: _pay(views[id(value)], walk) for name, value in graph.outputs.items()}
    return _absorb_into_contract(Graph(graph.inputs, outputs, graph.name, graph.state))


def _sink_all(values: list[Value], views: dict[int, View], walk: _Walk) -> None:
    for value in values:
        if id(value) not in views:
            if value.op is None:
                views[id(value)] = _plain(value)
            else:
                with at(value.where):
                    views[id(value)] = _sink_value(value, [views[id(a)] for a in value.args], walk)


def _plain(value: Value) -> View:
    known = isinstance(value.type, Type) and value.type.shape is not None
    return View(value, tuple(range(value.type.rank)) if known else ())


# ------------------------------------------------------------------ paying


def _transposed(value: Value, perm: Perm, walk: _Walk) -> Value:
    """transpose(value, perm), as cheap as can be, and once per value."""
    if perm == tuple(range(len(perm))):
        return value
    key = (id(value), perm)
    if key not in walk.made:
        if value.data is None and only_units_move(perm, value.shape):
            result = ops.reshape(value, shape=tuple(value.shape[p] for p in perm))
        else:
            result = _permuted(value, perm)
        walk.made[key] = (value, result)
    return walk.made[key][1]


def _permuted(value: Value, perm: Perm) -> Value:
    if value.data is not None:  # whatever its size: constants are permuted now
        return const(value.data.transpose(perm), value.where)
    return ops.transpose(value, perm=perm)


def _reshaped(value: Value, shape: Shape) -> Value:
    if value.data is not None:
        return const(value.data.reshape(shape), value.where)
    return ops.reshape(value, shape=shape)


def _pay(view: View, walk: _Walk) -> Value:
    """The value that the view stands for."""
    return _transposed(view.value, view.perm, walk)


def _widened(view: View, rank: int) -> View:
    """The view with axes of size 1 in front, as broadcasting implies."""
    extra = rank - len(view.perm)
    if extra == 0:
        return view
    shape = (1,) * extra + view.value.shape
    return View(
        ops.reshape(view.value, shape=shape), (*range(extra), *(p + extra for p in view.perm))
    )


def _aligned(view: View, perm: Perm, walk: _Walk, exact: bool = False) -> Value:
    """The value that transposed by `perm` is what `view` means; up to broadcasting, or `exact`."""
    if view.value.type.size == 1 and not exact:
        return view.value
    wide = _widened(view, len(perm))
    return _transposed(wide.value, tuple(wide.perm[i] for i in inverse(perm)), walk)


def _price(view: View, perm: Perm, walk: _Walk) -> int:
    """Elements that `_aligned` would move."""
    if view.value.type.size == 1 or _is_still(view.value, walk.still):
        return 0
    extra = len(perm) - len(view.perm)
    own = (*range(extra), *(p + extra for p in view.perm))
    needed = tuple(own[i] for i in inverse(perm))
    free = only_units_move(needed, (1,) * extra + view.value.shape)
    return 0 if free else view.value.type.size


def _common(views: list[View], rank: int, walk: _Walk) -> Perm:
    """The debt that a result of `views` should carry: the one that costs least now."""
    identity = tuple(range(rank))
    choices = {identity}
    for view in views:
        extra = rank - len(view.perm)
        if not _is_still(view.value, walk.still):
            choices.add((*range(extra), *(p + extra for p in view.perm)))
    return min(
        choices,
        key=lambda p: (
            sum(_price(v, p, walk) for v in views),
            (p == identity) == walk.policy.sink,
            p,
        ),
    )


# ------------------------------------------------------------------ operators


def _sink_value(value: Value, args: list[View], walk: _Walk) -> View:
    """The view of `value`, given the views of its arguments."""
    op = value.op
    assert op is not None
    owing = any(not view.plain for view in args)
    if op.name == "transpose":
        return View(args[0].value, tuple(args[0].perm[p] for p in value.attrs["perm"]))
    if op.name == "contract" and (owing or any(_flattened(view.value) for view in args)):
        return _plain(_contract(value, args, walk))
    if not owing and not (op.body and any(_flattened(view.value) for view in args)):
        return _apply(value, [view.value for view in args])
    known = isinstance(value.type, Type) and value.type.shape is not None
    if not known or op.kind in ("control", "host"):
        return _apply(value, [_pay(view, walk) for view in args])
    if not walk.policy.grow and value.type.size > max(view.value.type.size for view in args):
        return _apply(value, [_pay(view, walk) for view in args])
    if op.body is not None:
        return _composite(value, args, walk)
    return _primitive(value, args, walk)


def _apply(value: Value, args: list[Value]) -> View:
    same = all(a is b for a, b in zip(args, value.args))
    if not same:
        value = Value(value.op, tuple(args), value.attrs, value.type, value.data, value.where)
    return _plain(value)


def _primitive(value: Value, args: list[View], walk: _Walk) -> View:
    op, attrs, x = value.op, value.attrs, args[0]
    assert op is not None
    back = inverse(x.perm)
    rank = value.type.rank
    match op.name:
        case _ if op.kind == "elementwise":
            perm = _common(args, rank, walk)
            return View(emit(op, *(_aligned(view, perm, walk) for view in args), **attrs), perm)
        case "reduce" | "argreduce" | "cumulate":
            return _with_axes(value, x)
        case "concat":
            perm = _common(args, rank, walk)
            parts = [_aligned(view, perm, walk, True) for view in args]
            return View(ops.concat(*parts, axis=perm[attrs["axis"]]), perm)
        case "slice" | "pad":
            moved = {
                name: tuple(attr[i] for i in back) if isinstance(attr, tuple) else attr
                for name, attr in attrs.items()
            }
            return View(emit(op, x.value, **moved), x.perm)
        case "broadcast":
            wide = _widened(x, rank)
            shape = tuple(value.shape[i] for i in inverse(wide.perm))
            return View(ops.broadcast(wide.value, shape=shape), wide.perm)
        case "window":
            axes = tuple(x.perm[axis] for axis in attrs["axes"])
            perm = (*x.perm, *range(len(x.perm), rank))
            return View(emit(op, x.value, **{**attrs, "axes": axes}), perm)
        case "gather" if args[1].plain:
            return _gather(value, x, args[1].value)
        case "scatter" if args[1].plain:
            perm = _common([x, args[2]], rank, walk)
            target, update = (_aligned(view, perm, walk, True) for view in (x, args[2]))
            axis = perm[attrs["axis"]]
            return View(emit(op, target, args[1].value, update, axis=axis, op=attrs["op"]), perm)
        case "reshape":
            return _reshape(x, value.shape, walk)
    return _apply(value, [_pay(view, walk) for view in args])


def _with_axes(value: Value, x: View) -> View:
    """Operators of one tensor whose attributes `axis` or `axes` name axes of it, which stay."""
    moved = dict(value.attrs)
    if "axis" in moved:
        moved["axis"] = x.perm[moved["axis"]]
    if "axes" in moved:
        moved["axes"] = tuple(sorted(x.perm[axis] for axis in moved["axes"]))
    return View(emit(value.op, x.value, **moved), x.perm)  # type: ignore[arg-type]


def _gather(value: Value, x: View, index: Value) -> View:
    axis = value.attrs["axis"]
    own, extra = x.perm[axis], index.type.rank
    place = [p + extra - 1 if p > own else p for p in x.perm]
    perm = (*place[:axis], *range(own, own + extra), *place[axis + 1 :])
    return View(ops.gather(x.value, index, axis=own), perm)


# ------------------------------------------------------------------ composites


def _composite(value: Value, args: list[View], walk: _Walk) -> View:
    """Whole if it is elementwise or works along axes; by its body if that can carry debts."""
    op = value.op
    assert op is not None
    assert op.body is not None
    stand_ins = [placeholder(arg.type) for arg in value.args]
    body = op.body(*stand_ins, **value.attrs)
    kinds, scalars = _body_kinds(body)
    if kinds == {"elementwise"} and scalars:
        perm = _common(args, value.type.rank, walk)
        return View(emit(op, *(_aligned(v, perm, walk) for v in args), **value.attrs), perm)
    along = kinds <= {"elementwise", "reduce", "scan"} and scalars and len(args) == 1
    names_axes = "axis" in value.attrs or "axes" in value.attrs
    if along and names_axes and value.type.rank == len(args[0].perm):
        return _with_axes(value, args[0])
    if kinds & {"window", "control", "host"}:  # convolutions and pools stay whole
        return _apply(value, [_pay(view, walk) for view in args])
    views = {id(stand_in): view for stand_in, view in zip(stand_ins, args)}
    _sink_all(topo([body]), views, walk)
    return views[id(body)]


def _body_kinds(body: Value) -> tuple[set[str], bool]:
    """Kinds of the primitives in a body ("window" counts by name); are its constants scalars?"""
    kinds: set[str] = set()
    scalars = True
    for value in topo([body]):
        if value.op is None:
            scalars &= not value.is_const or value.type.size == 1
        elif value.op.body is not None:
            inner, inner_scalars = _body_kinds(
                value.op.body(*(placeholder(a.type) for a in value.args), **value.attrs)
            )
            kinds |= inner
            scalars &= inner_scalars
        else:
            kinds.add("window" if value.op.name == "window" else value.op.kind)
    return kinds, scalars


# ------------------------------------------------------------------ reshape


def _groups(old: Shape, new: Shape) -> list[tuple[list[int], list[int]]]:
    """The finest grouping of axes larger than 1 such that each group keeps its elements."""
    a = [i for i, n in enumerate(old) if n != 1]
    b = [j for j, n in enumerate(new) if n != 1]
    groups, i, j = [], 0, 0
    while i < len(a):
        left, right = [a[i]], [b[j]]
        m, n = old[a[i]], new[b[j]]
        i, j = i + 1, j + 1
        while m != n:
            if m < n:
                left.append(a[i])
                m, i = m * old[a[i]], i + 1
            else:
                right.append(b[j])
                n, j = n * new[b[j]], j + 1
        groups.append((left, right))
    return groups


def _reshape(x: View, shape: Shape, walk: _Walk) -> View:
    """Reshapes the value below the view; what it merges must lie together there, or is moved so."""
    if x.value.type.size == 0:
        return _plain(ops.reshape(_pay(x, walk), shape=shape))
    groups = [([x.perm[i] for i in old], new) for old, new in _groups(x.shape, shape)]
    real = [i for i, n in enumerate(x.value.shape) if n != 1]
    place = {axis: position for position, axis in enumerate(real)}
    together = all(
        [place[a] for a in old] == list(range(place[old[0]], place[old[0]] + len(old)))
        for old, _ in groups
    )
    if together or walk.policy.partial:
        groups.sort(key=lambda group: min(place[axis] for axis in group[0]))
    order = [axis for old, _ in groups for axis in old]
    units = [i for i, n in enumerate(x.value.shape) if n == 1]
    value = x.value
    if order != real:
        value = _transposed(value, (*units, *order), walk)
    axes = _with_units([axis for _, new in groups for axis in new], shape)
    return View(ops.reshape(value, shape=tuple(shape[axis] for axis in axes)), inverse(axes))


def _with_units(order: list[int], shape: Shape) -> Perm:
    """All axes of `shape`: those larger than 1 in `order`, each followed by the 1s behind it."""
    followers: dict[int, list[int]] = {}
    leader = -1
    for axis, n in enumerate(shape):
        if n != 1:
            leader = axis
        else:
            followers.setdefault(leader, []).append(axis)
    result = followers.get(-1, [])[:]
    for axis in order:
        result += [axis, *followers.get(axis, [])]
    return tuple(result)


# ------------------------------------------------------------------ contract


def _flattened(value: Value) -> bool:
    """reshape(transpose(x)): a flatten whose order of elements cost a transpose."""
    return (
        value.op is OPS["reshape"] and value.args[0].op is OPS["transpose"] and value.type.size > 0
    )


def _contract(value: Value, args: list[View], walk: _Walk) -> Value:
    """A contraction pays no debts: it renames its letters."""
    la, lb, lo = parse_spec(value.attrs["spec"])
    letters = ["".join(s[i] for i in inverse(v.perm)) for s, v in zip((la, lb), args)]
    a, b = (view.value for view in args)
    la, lb = letters
    fixed = [_is_still(value, walk.still) for value in (a, b)]
    if _flattened(a) and fixed[1] and (found := _unflatten(a, la, b, lb, lo)):
        a, la, b = found
    elif _flattened(b) and fixed[0] and (found := _unflatten(b, lb, a, la, lo)):
        b, lb, a = found
    return ops.contract(a, b, spec=f"{la},{lb}->{lo}")


def _unflatten(
    flat: Value, letters: str, weights: Value, weight_letters: str, out: str
) -> tuple[Value, str, Value] | None:
    """For contract(reshape(transpose(x)), weights): reshape(x), its letters, permuted weights.

    A flattened axis that is summed may run in any order, if the rows of the weights do too.
    """
    moved = flat.args[0]
    x, perm = moved.args[0], moved.attrs["perm"]
    ordered: list[tuple[list[int], list[int]]] = []
    for old, new in _groups(moved.shape, flat.shape):
        axes = [perm[i] for i in old]
        letter = letters[new[0]]
        summed = letter in weight_letters and letter not in out
        if len(new) == 1 and summed and axes != sorted(axes):
            axis = weight_letters.index(letter)
            shape = weights.shape
            inner = tuple(x.shape[a] for a in axes)
            split = _reshaped(weights, (*shape[:axis], *inner, *shape[axis + 1 :]))
            order = [axis + int(i) for i in np.argsort(axes)]
            rest = range(axis + len(axes), split.type.rank)
            weights = _reshaped(_permuted(split, (*range(axis), *order, *rest)), shape)
            axes = sorted(axes)
        ordered.append((axes, new))
    ordered.sort(key=lambda group: group[0][0])
    if [a for axes, _ in ordered for a in axes] != [i for i, n in enumerate(x.shape) if n != 1]:
        return None
    axes_now = _with_units([axis for _, new in ordered for axis in new], flat.shape)
    plain = ops.reshape(x, shape=tuple(flat.shape[axis] for axis in axes_now))
    return plain, "".join(letters[axis] for axis in axes_now), weights


def _absorb_into_contract(graph: Graph) -> Graph:
    """transpose(contract(a, b)) -> contract(a, b) with its output letters in another order.

    Also through a reshape that only adds or drops axes of size 1. Only where nothing else reads the
    contraction and its last axis stays last: stores along another axis would be scattered.
    """
    uses: dict[int, int] = {}
    values = graph.values()
    for value in (*(arg for v in values for arg in v.args), *graph.outputs.values()):
        uses[id(value)] = uses.get(id(value), 0) + 1
    new: dict[int, Value] = {}
    for value in values:
        args = tuple(new[id(arg)] for arg in value.args)
        if value.op is OPS["transpose"] and uses[id(value.args[0])] == 1:
            source = value.args[0]
            through = source.op is OPS["reshape"] and uses[id(source.args[0])] == 1
            product = args[0].args[0] if through else args[0]
            found = None
            if product.op is OPS["contract"]:
                found = _relettered(product, source.shape, value)
            if found is not None:
                new[id(value)] = found
                continue
        same = all(a is b for a, b in zip(args, value.args))
        new[id(value)] = (
            value
            if same
            else Value(value.op, args, value.attrs, value.type, value.data, value.where)
        )
    outputs = {name: new[id(value)] for name, value in graph.outputs.items()}
    return Graph(graph.inputs, outputs, graph.name, graph.state)


def _relettered(product: Value, shape: Shape, transposed: Value) -> Value | None:
    """transpose(reshape(product, shape)) as one contraction, if the reshape only moves 1s."""
    la, lb, lo = parse_spec(product.attrs["spec"])
    if [n for n in shape if n != 1] != [n for n in product.shape if n != 1]:
        return None
    real = iter(letter for letter, n in zip(lo, product.shape) if n != 1)
    letter_of = {axis: next(real) for axis, n in enumerate(shape) if n != 1}
    order = [letter_of[p] for p in transposed.attrs["perm"] if p in letter_of]
    if not order or order[-1] != letter_of[max(letter_of)]:
        return None
    units = [letter for letter, n in zip(lo, product.shape) if n == 1]
    with at(product.where):
        new = ops.contract(*product.args, spec=f"{la},{lb}->{''.join(units + order)}")
        return new if new.shape == transposed.shape else ops.reshape(new, shape=transposed.shape)
