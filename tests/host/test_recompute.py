"""Steps with a limit of memory: it is kept, and they learn the same."""

from __future__ import annotations

import numpy as np
import pytest

import brim
from brim.compiler import arena_bytes, optimise
from brim.errors import InputError
from brim.passes.recompute import choices, recompute
from brim.train.memory import limit_memory
from brim.types import BF16
from tests.pure.test_recompute import FEEDS, LOSS, step


def test_segments_need_less_memory() -> None:
    graph = step()
    sizes = [arena_bytes(optimise(recompute(graph, LOSS, kept))) for kept in choices(graph, LOSS)]
    assert min(sizes) < 0.5 * arena_bytes(graph)


def test_limits_are_kept() -> None:
    graph = step()
    most = arena_bytes(graph)
    assert arena_bytes(limit_memory(graph, most)) == most
    before = len(graph.values())
    for part in (0.9, 0.6):
        made = limit_memory(graph, int(part * most))
        assert arena_bytes(made) <= part * most
        assert len(made.values()) > before  # the smaller, the more is computed again
        before = len(made.values())
    with pytest.raises(InputError, match="the least that was found"):
        limit_memory(graph, 1000)


def test_a_limited_step_learns_the_same() -> None:
    """The same operations on the same numbers; only that a kernel may round a product before it is
    added to, where another does not."""
    graph = step()
    plain = brim.compile(graph)
    most = plain.compile().arena_bytes
    for part in (0.75, 0.5):
        limited = brim.compile(limit_memory(graph, int(most * part)))
        assert limited.compile().arena_bytes <= most * part
        for _ in range(3):
            want, found = plain.run(FEEDS), limited.run(FEEDS)
            np.testing.assert_allclose(found["loss"], want["loss"], rtol=1e-6)
        for name, array in plain.state.items():
            np.testing.assert_allclose(limited.state[name], array, rtol=1e-4, atol=1e-6)
        plain.reset()


def test_16_bits_learn_nearly_the_same() -> None:
    graph = step()
    plain = brim.compile(graph)
    most = plain.compile().arena_bytes
    short = brim.compile(limit_memory(graph, int(most * 0.7), BF16))
    assert short.compile().arena_bytes <= 0.7 * most
    for _ in range(10):
        want, found = plain.run(FEEDS), short.run(FEEDS)
    assert not np.array_equal(found["loss"], want["loss"])
    np.testing.assert_allclose(found["loss"], want["loss"], rtol=1e-3)
