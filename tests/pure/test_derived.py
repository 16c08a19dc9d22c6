"""Parts of weights that are left out and made again: what is refused before anything is made."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from brim.errors import ModelError
from brim.graph import NO_ATTRS, Value, const, placeholder
from brim.kernels.pack import Packing
from brim.ops import OPS
from brim.ops import primitive as p
from brim.origins import LEAST, identity, remembered
from brim.runtime.compiled import Derived
from brim.runtime.derived import Weights
from brim.types import F32, Type

BASE = np.arange(64, dtype=np.float32)


def doubled(array: np.ndarray) -> Value:
    """An expression: emitted with a placeholder, which a constant then stands for."""
    x = placeholder(Type(array.shape, F32))
    y = p.mul(x, 2.0)
    return replace(y, args=(const(array), y.args[1]))


def weights(*parts: Derived, stored: int = 128, size: int = 128 + 256) -> Weights:
    return Weights(np.arange(stored, dtype=np.uint8), size, lambda: parts, "here")


def test_parts_go_between_what_is_stored() -> None:
    found = weights(Derived(doubled(BASE), 64, None)).block
    np.testing.assert_array_equal(found[64:320].view(np.float32), BASE * 2)
    np.testing.assert_array_equal(np.delete(found, range(64, 320)), np.arange(128))
    assert found.ctypes.data % 64 == 0


def test_one_value_may_have_two_places() -> None:
    turned = Packing(((8, 1),), 0, 8, 8, 4, 0)
    value = doubled(BASE)
    found = weights(Derived(value, 0, turned), Derived(value, 320, None), size=128 + 512)
    flat = found.block[:256].view(np.float32)
    np.testing.assert_array_equal(turned.unpack(flat), BASE * 2)
    np.testing.assert_array_equal(found.block[320:576].view(np.float32), BASE * 2)
    assert [found.where(offset) for offset in (0, 63, 64)] == [256, 319, 576]


def test_weights_that_are_stored_are_not_made() -> None:
    def never() -> tuple[Derived, ...]:
        raise AssertionError

    stored = np.arange(128, dtype=np.uint8)
    np.testing.assert_array_equal(Weights(stored, 128, never, "here").block, stored)


WIDE = Packing(((8, 1),), 0, 9, 8, 3, 0)


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ([(doubled(BASE), 0, None), (doubled(BASE), 64, None)], "overlap"),
        ([(doubled(BASE), 192, None)], "other weights"),
        ([(doubled(BASE), 32, None)], "overlap"),
        ([(doubled(BASE), 64, None), (doubled(BASE), 320, None)], "other weights"),
        ([(doubled(BASE[:16]), 64, None)], "other weights"),
        ([(doubled(BASE), 64, WIDE)], "packed of more"),
        ([(p.broadcast(doubled(BASE), shape=(1 << 24, 64)), 64, None)], "overlap"),
        (
            [
                (
                    p.reduce(p.broadcast(doubled(BASE), shape=(1 << 24, 64)), op="add", axes=(0,)),
                    64,
                    None,
                )
            ],
            "larger than",
        ),
    ],
)
def test_what_does_not_fit_is_refused(parts: list, why: str) -> None:
    with pytest.raises(ModelError, match="not an intact") as caught:
        _ = weights(*(Derived(*part) for part in parts)).block
    assert why in caught.value.why


def test_only_operations_on_numbers_are_done() -> None:
    drawn = Value(OPS["random"], (), NO_ATTRS, Type((64,), F32))
    with pytest.raises(ModelError) as caught:
        _ = weights(Derived(drawn, 64, None)).block
    assert "follow by random" in caught.value.why


def test_operations_without_a_value_are_typed_errors() -> None:
    outside = Value(
        OPS["gather"],
        (const(BASE), const(np.full((64,), 99))),
        {"axis": 0},
        Type((64,), F32),
    )
    with pytest.raises(ModelError) as caught:
        _ = weights(Derived(outside, 64, None)).block
    assert "has no value" in caught.value.why


# ------------------------------------------------------------------ where constants come from


def test_folded_constants_are_known_by_what_they_follow_from() -> None:
    start = const(np.ones((40, 40), np.float32))
    with remembered() as origins:
        made = p.reshape(p.mul(p.add(start, 1.0), start), shape=(1600,))
        small = p.add(const(np.ones(8, np.float32)), 1.0)
    after = p.add(made, 1.0)
    assert made.data is not None and small.data is not None and after.data is not None
    found = origins.of(made.data)
    assert found is not None and found.op is OPS["reshape"] and found.data is None
    product = found.args[0]
    assert product.op is OPS["mul"] and product.args[0].op is OPS["add"]
    assert product.args[1] is start and product.args[0].args[0] is start
    assert [origins.of(v.data) for v in (start, small, after) if v.data is not None] == [None] * 3
    assert small.data.nbytes < LEAST


def test_memory_that_is_used_again_is_another_constant() -> None:
    with remembered() as origins:
        made = p.add(const(np.ones((64, 64), np.float32)), 1.0)
        assert made.data is not None
        place = identity(made.data)
        del made
        for _ in range(100):
            other = np.ones((64, 64), np.float32)
            if identity(other) == place:
                assert origins.of(other) is None
