"""In which order the steps of a lowered graph run: the one that needs little memory.

What each step needs fixes most of the order; the rest decides how long temporaries live. The orders
tried here are demand-driven: from the results backwards, each step as late as something needs it
(so what is computed again for the backward pass of training is computed when that pass gets there),
but at once if it can run and frees at least what it takes (the update of a weight, which ends the
life of a gradient). They differ in which result, and which operand of a step, comes first. To find
the best order is hard in general (Sethi, "Complete register allocation problems", 1975).

A step that writes new state waits for all that read the old one, where that is possible: then the
new one takes its place (`brim.kernels.in_place`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from brim.kernels.steps import HostStep, Lowered, View, accesses

LINE = 64  # bytes: where buffers start
FEW = 3  # how many of the orders are worth a closer look


def orders(lowered: Lowered, state: Collection[str]) -> list[Lowered]:
    """The same steps in the order given, then in few others that seem to need less memory, or as
    little where state may then stay in place."""
    work = _Work(lowered, state)
    given = list(range(len(lowered.steps)))
    found = {tuple(given): work.peak(given)}
    for roots in (work.roots, sorted(work.roots, key=work.depths().__getitem__)):
        for needs in (work.needs, work.largest_first()):
            order = tuple(work.demanded(roots, needs))
            found.setdefault(order, work.peak(order))
    most = found.pop(tuple(given))
    best = sorted((o for o in found if state or found[o] < most), key=found.__getitem__)
    return [
        lowered,
        *(replace(lowered, steps=tuple(lowered.steps[i] for i in o)) for o in best[:FEW]),
    ]


class _Work:
    """Steps by number: what they need, what needs them, and the temporaries they touch.

    needs[i]: numbers of the steps that must run before step i. roots: the steps whose results are
    the graph's, in the order of these. The given order is one that fits.
    """

    def __init__(self, lowered: Lowered, state: Collection[str]) -> None:
        found = [accesses(step) for step in lowered.steps]
        self.needs: list[list[int]] = [[] for _ in found]
        self.users: list[list[int]] = [[] for _ in found]
        self.writers: dict[str, list[int]] = {}
        self.readers: dict[str, list[int]] = {}
        host = -1
        for i, (read, written) in enumerate(found):
            for name in read:
                self._wait(i, self.writers.get(name, ()))
                self.readers.setdefault(name, []).append(i)
            for name in written:
                self._wait(i, (*self.writers.get(name, ()), *self.readers.get(name, ())))
                self.writers.setdefault(name, []).append(i)
            if isinstance(lowered.steps[i], HostStep):  # some draw random numbers, one by one
                self._wait(i, (host,) if host >= 0 else ())
                host = i
        self.size = {
            name: -(-max(buffer.size * buffer.dtype.bytes, 1) // LINE) * LINE
            for name, buffer in lowered.buffers.items()
            if buffer.kind == "temp"
        }
        self.temps = [[n for n in {**r, **w} if n in self.size] for r, w in found]
        self.uses: dict[str, int] = {}
        for name in chain.from_iterable(self.temps):
            self.uses[name] = self.uses.get(name, 0) + 1
        results = [v if isinstance(v, str) else v.buffer for v in lowered.outputs.values()]
        for name in results:
            self.uses[name] = self.uses.get(name, 0) + 1  # nobody ends their life
        for name in state:
            view = lowered.outputs[name]
            if isinstance(view, View):
                self._after_readers(lowered.inputs[name], view.buffer)
        self.roots = [*dict.fromkeys(i for n in results for i in self.writers.get(n, ()))]

    def _wait(self, step: int, others: Iterable[int]) -> None:
        for other in others:
            if other != step and other not in self.needs[step]:
                self.needs[step].append(other)
                self.users[other].append(step)

    def _after_readers(self, old: str, new: str) -> None:
        """What writes a buffer first waits for all that read another, if these can do without."""
        writers = self.writers.get(new, [])
        later, rest = set(writers), list(writers)
        while rest:
            for user in self.users[rest.pop()]:
                if user not in later:
                    later.add(user)
                    rest.append(user)
        for writer in writers[:1]:
            self._wait(writer, (r for r in self.readers.get(old, ()) if r not in later))

    def depths(self) -> list[int]:
        """Of each step how many must run one after another before it."""
        depth = [0] * len(self.needs)
        for i in self._any_order():
            depth[i] = max((depth[n] + 1 for n in self.needs[i]), default=0)
        return depth

    def _any_order(self) -> Iterator[int]:
        waiting = [len(needs) for needs in self.needs]
        ready = [i for i, count in enumerate(waiting) if not count]
        while ready:
            i = ready.pop()
            yield i
            for user in self.users[i]:
                waiting[user] -= 1
                if not waiting[user]:
                    ready.append(user)

    def largest_first(self) -> list[list[int]]:
        """`needs`, ordered so that what takes the most memory on the way to a result comes first
        (Sethi and Ullman 1970, as if the steps were a tree)."""
        # Nobody writes an empty buffer.
        kept = [sum(self.size[n] for n in names if i in self.writers.get(n, ())[:1])
                for i, names in enumerate(self.temps)]  # fmt: skip
        most = [0] * len(self.needs)
        found: list[list[int]] = [[] for _ in self.needs]
        for i in self._any_order():
            found[i] = sorted(self.needs[i], key=lambda n: kept[n] - most[n])
            held = 0
            for n in found[i]:
                most[i] = max(most[i], held + most[n])
                held += kept[n]
            most[i] = max(most[i], held + kept[i])
        return found

    def demanded(self, roots: Sequence[int], needs: Sequence[Sequence[int]]) -> list[int]:
        """Each step as late as its first user lets it, or at once where that frees memory."""
        run = _Run(self)
        for root in chain(roots, range(len(self.needs))):
            stack = [root]
            while stack:
                step = stack[-1]
                if run.is_done[step]:
                    stack.pop()
                    continue
                missing = next((n for n in needs[step] if not run.is_done[n]), None)
                if missing is None:
                    run.do(stack.pop())
                    run.relieve()
                else:
                    stack.append(missing)
        return run.order

    def peak(self, order: Sequence[int]) -> int:
        """The most bytes that live at once in this order."""
        run = _Run(self)
        for step in order:
            run.do(step)
        return run.peak


@dataclass(eq=False)
class _Run:
    """An order in the making: which steps ran, and what lives."""

    work: _Work

    def __post_init__(self) -> None:
        work = self.work
        self.order: list[int] = []
        self.is_done = [False] * len(work.needs)
        self.waiting = [len(needs) for needs in work.needs]
        self.left = dict(work.uses)  # how many uses of a buffer are still to come
        self.live = self.peak = 0
        self.touched: set[str] = set()
        self.near: dict[int, None] = {}  # steps that may have come to free memory

    def do(self, step: int) -> None:
        work = self.work
        self.order.append(step)
        self.is_done[step] = True
        names = work.temps[step]
        self.live += sum(work.size[n] for n in names if n not in self.touched)
        self.peak = max(self.peak, self.live)
        for name in names:
            self.touched.add(name)
            self.left[name] -= 1
            if not self.left[name]:
                self.live -= work.size[name]
            self.near.update(dict.fromkeys(work.readers.get(name, ())))
        for user in work.users[step]:
            self.waiting[user] -= 1
            self.near[user] = None

    def growth(self, step: int) -> int:
        """By how many bytes more live after a step than before it."""
        work = self.work
        found = 0
        for name in work.temps[step]:
            if name not in self.touched:
                found += work.size[name]
            if self.left[name] == 1:
                found -= work.size[name]
        return found

    def relieve(self) -> None:
        """Runs whatever can run and frees at least what it takes, what frees most first."""
        while True:
            ready = [i for i in self.near if not self.is_done[i] and not self.waiting[i]]
            self.near = {}
            if not ready:
                return
            growth = {i: self.growth(i) for i in ready}
            best = min(ready, key=lambda i: (growth[i], i))
            if growth[best] > 0:
                return
            self.near = {i: None for i in ready if i != best}
            self.do(best)
