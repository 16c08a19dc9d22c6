"""Blocks of a network: a screenful at every level, made of names where they tell, else of shape."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from brim.view.blocks import AT_MOST, Item, blocks_of
from brim.view.document import Block

Net = list[Item]


def chain(net: Net, start: int, *ops: str, module: str = "", size: str = "") -> int:
    """Adds operators that read each other; the position of the last."""
    for op in ops:
        kind = "product" if op == "conv" else "activation"
        net.append(Item(f"{module}{op}_{len(net)}", op, kind, size, (start,)))
        start = len(net) - 1
    return start


def join(net: Net, op: str, *args: int, module: str = "") -> int:
    net.append(Item(f"{module}{op}_{len(net)}", op, "elementwise", "", args))
    return len(net) - 1


def resnet(blocks: int, named: bool = False) -> Net:
    net: Net = []
    last = chain(net, -1, "conv", "relu", module="/stem/" if named else "")
    for i in range(blocks):
        module = f"/layer/layer.{i}/" if named else ""
        inner = chain(net, last, "conv", "relu", "conv", module=module)
        last = chain(net, join(net, "add", last, inner, module=module), "relu", module=module)
    chain(net, last, "pool", "conv", module="/head/" if named else "")
    return net


def random_net(count: int, seed: int) -> Net:
    """Operators that read one, two or three others, most of them near."""
    random = np.random.default_rng(seed)
    net: Net = []
    for i in range(count):
        reach = 4 if random.random() < 0.9 else i + 1
        args = {max(-1, i - 1 - int(n)) for n in random.integers(0, reach, random.integers(1, 4))}
        op, kind = (("conv", "product"), ("relu", "activation"), ("add", "elementwise"))[i % 3]
        net.append(Item(f"n{i}", op, kind, f"{64 >> (4 * i // count)}×8", tuple(args)))
    return net


def unet(depth: int) -> Net:
    net: Net = []
    last, kept = -1, []
    for level in range(depth):
        last = chain(net, last, *["conv", "relu"] * 6, size=f"{256 >> level}×{256 >> level}")
        kept.append(last)
    for level in reversed(range(depth)):
        last = join(net, "concat", last, kept[level])
        last = chain(net, last, *["conv", "relu"] * 6, size=f"{256 >> level}×{256 >> level}")
    return net


NETS = {
    "flat residual": resnet(16),
    "named residual": resnet(16, named=True),
    "very deep": resnet(100),
    "u-net": unet(5),
    "one": resnet(0)[:1],
    "empty": [],
    **{f"random {seed}": random_net(30 + 150 * seed, seed) for seed in range(4)},
}


@pytest.mark.parametrize("name", NETS)
def test_every_level_is_a_screenful(name: str) -> None:
    blocks, places = blocks_of(NETS[name])
    parts = Counter([*places, *(block.parent for block in blocks)])
    assert all(count <= AT_MOST for count in parts.values())
    assert all(parts[i] >= 2 for i in range(len(blocks))), "a block of one part says nothing"
    assert all(block.parent is None or block.parent < i for i, block in enumerate(blocks))
    assert len(places) == len(NETS[name])


@pytest.mark.parametrize("name", [name for name in NETS if "named" not in name])
def test_blocks_that_follow_from_structure_have_no_cycles(name: str) -> None:
    """Two blocks of a level never need each other: then the picture flows one way."""
    net = NETS[name]
    blocks, places = blocks_of(net)
    for level in (None, *range(len(blocks))):
        sides = [_side(place, level, item, blocks) for item, place in enumerate(places)]
        needs: dict[object, set[object]] = {side: set() for side in sides if side is not None}
        for item, side in enumerate(sides):
            found = {sides[arg] for arg in net[item].args if arg >= 0} - {side, None}
            if side is not None:
                needs[side] |= found
        while free := [side for side, found in needs.items() if not found]:
            for side in free:
                del needs[side]
            for found in needs.values():
                found.difference_update(free)
        assert needs == {}


def _side(place: int | None, level: int | None, item: int, blocks: Sequence[Block]) -> object:
    """In which part of a level an item lies: a block's number, the item itself, or in none."""
    part: object = f"item {item}"
    while place != level:
        if place is None:
            return None
        part, place = place, blocks[place].parent
    return part


def test_names_of_modules_are_kept() -> None:
    net = resnet(12, named=True)
    blocks, places = blocks_of(net)
    names = {block.name for block in blocks}
    assert {"stem", "head", "layer.0", "layer.11"} <= names
    inside = [net[i].name for i, place in enumerate(places) if blocks[place or 0].name == "layer.3"]
    assert len(inside) == 5 and all("/layer.3/" in name for name in inside)


def test_a_name_that_all_share_is_no_block() -> None:
    net = [Item(f"model/{i.name.lstrip('/')}", *_rest(i)) for i in resnet(3, named=True)]
    assert "model" not in {block.name for block in blocks_of(net)[0]}


def _rest(item: Item) -> tuple[str, str, str, tuple[int, ...]]:
    return item.op, item.kind, item.size, item.args


def test_flat_residual_blocks_are_found_and_are_alike() -> None:
    blocks, _ = blocks_of(resnet(12))
    residual = [block for block in blocks if block.name.startswith("residual")]
    assert len(residual) == 12
    assert len({block.alike for block in residual}) == 1
    assert residual[0].alike is not None


def test_what_repeats_becomes_units() -> None:
    """A transformer in short: two residual blocks with a norm behind each, again and again."""
    net: Net = []
    last = -1
    for _ in range(12):
        for inside in (["conv", "softmax", "conv"], ["conv", "gelu", "conv", "scale"]):
            last = join(net, "add", last, chain(net, last, *inside))
            last = chain(net, last, "norm")
    blocks, _ = blocks_of(net)
    units = [block for block in blocks if block.name.startswith("unit") and block.parent is None]
    assert len(units) == 12 and len({unit.alike for unit in units}) == 1


def test_resolutions_divide_a_picture_network() -> None:
    net: Net = []
    last = -1
    for size in ("112×112", "56×56", "28×28", "14×14"):
        for op in ["conv", "relu"] * 5:
            last = chain(net, last, op, size=size if op == "conv" else "")
            last = chain(net, last, "relu")
    assert [b.name for b in blocks_of(net)[0] if b.parent is None] == [
        "112×112", "56×56", "28×28", "14×14"
    ]  # fmt: skip


def test_a_mask_that_all_layers_read_connects_nothing() -> None:
    net: Net = [Item("mask", "cast", "quantize", "", (-1,))]
    last = -2
    for _ in range(20):
        inner = chain(net, last, "conv")
        last = join(net, "add", join(net, "mul", inner, 0), last)
    blocks, _ = blocks_of(net)
    assert sum(block.name.startswith("residual") for block in blocks) >= 19


def test_what_follows_from_no_input_stands_beside_its_reader() -> None:
    net: Net = []
    last = -1
    for i in range(30):
        net.append(Item(f"scale_{i}", "mul", "elementwise", "", ()))
        last = join(net, "conv", last, len(net) - 1)
    net = [*net[0::2], *[Item(i.name, i.op, i.kind, "", ()) for i in net[1::2]]]
    order = {i: i // 2 if i % 2 == 0 else 30 + i // 2 for i in range(60)}
    for i in range(30):
        args = (order[2 * i - 1] if i else -1, order[2 * i])
        net[30 + i] = Item(net[30 + i].name, "conv", "product", "", args)
    blocks, places = blocks_of(net)
    assert blocks and places[:30] == places[30:]


def test_the_work_grows_as_the_network_does() -> None:
    """Ten times the layers take about ten times as long, and come out the same each time."""
    seconds = []
    for count in (200, 2000):
        net = random_net(count, 7)
        start = time.process_time()
        first = blocks_of(net)
        seconds.append(time.process_time() - start)
        assert blocks_of(net) == first
    assert seconds[1] < 50 * seconds[0]
