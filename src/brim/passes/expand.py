"""Expansion: composites become the primitives that their bodies say; lowering knows no others.

    %1: f32[2,8] = softmax(%0) axis=1
-->
    %1: f32[2,1] = reduce(%0) op="max" axes=(1,)
    %2: f32[2,8] = sub(%0, %1)
    %3: f32[2,8] = exp(%2)
    %4: f32[2,1] = reduce(%3) op="add" axes=(1,)
    %5: f32[2,8] = div(%3, %4)

Which variant of a composite is best is not decided here: the caller passes `choose`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from brim.graph import Graph, Op, Value, rewrite, rewrite_values
from brim.ops.registry import VARIANTS, at
from brim.passes.subgraphs import within

Choose = Callable[[Value], Op | None]


def variants(value: Value) -> list[Op]:
    """The registered variants of `value`'s op that are valid for its types, attributes, and
    constants."""
    if value.op is None:
        return []
    types = tuple(arg.type for arg in value.args)
    found = [op for when, op in VARIANTS.get(value.op.name, []) if when(*types, **value.attrs)]
    return [op for op in found if op.proof is None or op.proof(*value.args)]


def expand_value(value: Value, choose: Choose | None = None) -> Value:
    """One composite by its body, or by the variant that `choose` picks; not deeper."""
    op = (choose(value) if choose else None) or value.op
    assert op is not None, f"{value!r} has no op"
    assert op.body is not None, f"{value!r} has no body"
    with at(value.where):
        return op.body(*value.args, **value.attrs)


def expand_certain(graph: Graph, keep: Collection[str] = ()) -> Graph:
    """Replaces the composites that have one body; which is best of the others, a target decides.

    keep: names of composites that stay whole.
    """

    def wanted(value: Value) -> bool:
        return not variants(value) and value.op.name not in keep  # type: ignore[union-attr]

    return _expand(graph, wanted, None)


def expand(
    graph: Graph,
    keep: Collection[str] = (),
    choose: Choose | None = None,
    only: Collection[str] = (),
) -> Graph:
    """Replaces composites by their bodies until only primitives are left.

    keep: names of composites that stay whole. only: if given, just these names are replaced.
    choose: (value) -> a variant from `variants(value)`, or None for the op's own body.
    Sub-graphs of cond and loop are expanded too.
    """

    def wanted(value: Value) -> bool:
        name = value.op.name  # type: ignore[union-attr]
        return name not in keep and (not only or name in only)

    return _expand(graph, wanted, choose)


def _expand(graph: Graph, wanted: Callable[[Value], bool], choose: Choose | None) -> Graph:
    def rule(value: Value) -> Value | None:
        op = value.op
        if op is None:
            return None
        if op.body is None or not wanted(value):
            return within(value, lambda inner: _expand(inner, wanted, choose))
        body = expand_value(value, choose)
        return rewrite_values([body], rule, keep=value.args)[0]

    return rewrite(graph, rule)
