"""The memory plan: buffers alive together never overlap, and the arena is smaller than the sum."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from brim.kernels.lower import lower
from brim.kernels.steps import Buffer
from brim.runtime.entry import FEW, MOST, TASK, WORTH, is_split, task_count
from brim.runtime.plan import ALIGN, Call, allocate, lifetimes
from brim.types import F32
from tests.networks import network

spans = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 10), st.integers(0, 5000)), max_size=40
)


@given(spans)
def test_live_buffers_do_not_overlap(cases: list[tuple[int, int, int]]) -> None:
    buffers = {f"b{i}": Buffer(f"b{i}", F32, size, "temp") for i, (_, _, size) in enumerate(cases)}
    alive = {f"b{i}": (first, first + length) for i, (first, length, _) in enumerate(cases)}
    offsets, total = allocate(buffers, alive)
    assert set(offsets) == set(buffers)
    for a in buffers:
        end = offsets[a] + buffers[a].size * 4
        assert offsets[a] % ALIGN == 0 and end <= total
        for b in buffers:
            together = alive[a][0] <= alive[b][1] and alive[b][0] <= alive[a][1]
            if a < b and together and buffers[a].size and buffers[b].size:
                assert end <= offsets[b] or offsets[b] + buffers[b].size * 4 <= offsets[a]


def test_arena_is_smaller_than_all_tensors() -> None:
    graph, _ = network("attention")
    lowered = lower(graph)
    alive = lifetimes(lowered)
    _, total = allocate(lowered.buffers, alive)
    assert total < sum(lowered.buffers[name].size * 4 for name in alive) * 0.6


@given(st.integers(1, 5000), st.floats(0, 1), st.floats(1e-7, 1e-4))
def test_tasks_are_worth_their_cost(trips: int, seconds: float, fork: float) -> None:
    call = Call(0, (), trips, seconds)
    tasks = task_count(call, fork)
    assert 1 <= tasks <= min(trips, MOST)
    assert tasks <= FEW or seconds / tasks >= TASK * fork
    assert not is_split(call, fork) or trips > 1
    assert is_split(call, fork) == (trips > 1 and seconds >= WORTH * fork)


def test_long_calls_are_shared_evenly() -> None:
    """36 iterations are not dealt out as 2 and 3 at a time: the halves of two threads are equal."""
    assert task_count(Call(0, (), 36, 1e-3), 5e-7) == 36
    assert task_count(Call(0, (), 36, 2e-5), 5e-7) == FEW
