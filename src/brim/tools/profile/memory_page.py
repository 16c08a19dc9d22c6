"""The arena as a page: a box for each tensor, from its first step to its last, where it lies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, groupby

from brim.figures import duration, size
from brim.pages import Axis, Boxes, Line, card, chart, page, safe, table
from brim.tools.profile.memory import Arena, Held

LARGEST = 20  # tensors in the table

# Both pictures are in the page; which one is seen is up to two radio buttons, without any script.
STYLE = """
.choice > input { margin: 0 0.3rem 0 0; }
.choice > label { margin-right: 1.2rem; }
.choice > .by-step, .choice > .by-time { display: none; }
.choice > #step:checked ~ .by-step, .choice > #time:checked ~ .by-time { display: block; }
.facts { grid-template-columns: repeat(auto-fit, minmax(12rem, 1fr)); margin-bottom: 1rem; }
.places .plot { grid-template-rows: 24rem 1.6rem; }
.bytes .plot { grid-template-rows: 9rem 1.6rem; }
"""

Edges = Callable[[int], float]  # where on the x axis a step begins


def memory_page(arena: Arena, seconds: Sequence[float]) -> str:
    """The whole page. seconds: of each step."""
    name = safe(arena.model)
    if not arena.held:
        nothing = "<p>There are no temporaries that are known.</p>"
        return page(f"{arena.model}: memory", [f"<header><h1>{name}</h1></header>", nothing])
    ends = [0.0, *accumulate(seconds)]
    last = len(arena.steps)
    by_step = _pictures(arena, lambda step: step, Axis("step", 0, last, text=_whole))
    timed = Axis("time", 0, max(ends[-1], 1e-9), text=duration)
    by_time = _pictures(arena, lambda step: ends[min(step, len(ends) - 1)], timed)
    return page(
        f"{arena.model}: memory",
        [
            f"<header><h1>{name}: memory</h1></header>",
            _facts(arena),
            '<section class="card choice">'
            '<input type="radio" name="by" id="step" checked><label for="step">by step</label>'
            '<input type="radio" name="by" id="time"><label for="time">by time</label>'
            f'<div class="by-step">{by_step}</div><div class="by-time">{by_time}</div></section>',
            card("There at the peak", _table(arena, arena.at_peak)),
            card(f"The largest of {len(arena.held)} buffers", _table(arena, _largest(arena))),
        ],
        style=STYLE,
    )


def _whole(number: float) -> str:
    return f"{number:.0f}" if number == int(number) else ""


def _facts(arena: Arena) -> str:
    peak = arena.live[arena.peak]
    facts = [
        ("peak", size(peak), f"of tensors, in {arena.steps[arena.peak]} (step {arena.peak})"),
        ("arena", size(arena.bytes), f"{arena.bytes / max(peak, 1):.0%} of the peak"),
        ("side by side", size(arena.tensor_bytes), "what all tensors would take without reuse"),
        ("weights", size(arena.weight_bytes), "beside the arena"),
    ]
    if arena.inner_bytes:
        facts.append(("sub-graphs", size(arena.inner_bytes), "arenas and weights of their own"))
    cards = "".join(
        card(title, f'<p class="big">{safe(figure)}</p>', safe(text))
        for title, figure, text in facts
    )
    return f'<div class="cards facts">{cards}</div>'


def _pictures(arena: Arena, start: Edges, across: Axis) -> str:
    """Where tensors lie, and how many bytes they are, over the steps."""
    there = set(arena.at_peak)
    up = Axis("place in the arena", 0, max(arena.bytes, 1), text=_size)
    boxes = chart(
        across,
        up,
        [
            Boxes("tensors", list(_boxes(arena.held, there, False, start)), "before"),
            Boxes("there at the peak", list(_boxes(arena.held, there, True, start)), "after"),
        ],
        note="A box is a tensor; side by side in one place, each takes that of the one before.",
    )
    steps = range(len(arena.steps))
    corners = [(edge, arena.live[i]) for i in steps for edge in (start(i), start(i + 1))]
    limit = [(across.low, arena.bytes), (across.high, arena.bytes)]
    live = chart(
        across,
        Axis("bytes of live tensors", 0, max(arena.bytes, 1) * 1.05, text=_size),
        [Line("live", corners, "after"), Line("arena", limit, "limit", dashed=True)],
    )
    return f'<div class="places">{boxes}</div><div class="bytes">{live}</div>'


def _size(number: float) -> str:
    return size(round(number))


def _boxes(
    held: Sequence[Held], there: set[Held], wanted: bool, start: Edges
) -> Iterator[tuple[float, float, float, float, str]]:
    """A box for each tensor: a buffer that is written again and again holds one after the other."""
    for each in held:
        if (each in there) is not wanted:
            continue
        # neighbours of one name write parts of one tensor, or are one layer in several kernels
        tensors = [next(group) for _, group in groupby(each.writers, lambda w: w.where)]
        begins = [each.first, *(writing.step for writing in tensors[1:]), each.last + 1]
        for found, begin, end in zip(tensors, begins, begins[1:]):
            title = f"{found.where}: {size(each.bytes)}, steps {begin} to {end - 1}"
            edges = start(begin), start(end)
            yield *edges, each.offset, each.offset + each.bytes, title


def _largest(arena: Arena) -> list[Held]:
    return sorted(arena.held, key=lambda each: -each.bytes)[:LARGEST]


def _table(arena: Arena, held: Sequence[Held]) -> str:
    rows = (
        (
            safe(_writers(each)),
            size(each.bytes),
            f"{each.first} to {each.last}",
            f"{each.offset:,}",
        )
        for each in held
    )
    return table(("made by", "size", "steps", "offset"), rows, {1, 2, 3})


def _writers(held: Held) -> str:
    names = list(dict.fromkeys(writing.where for writing in held.writers))
    if len(names) > 3:
        return f"{names[0]}, {names[1]}, ... {names[-1]} ({len(names)} in one place)"
    return ", ".join(names)
