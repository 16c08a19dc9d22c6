"""All stages of a model: the file, the imported graph, that after every pass, and the kernels."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from brim.compiler import PIPELINE, Scheduled, optimise
from brim.graph import Graph
from brim.passes.subgraphs import inside
from brim.view.document import Kernel, Stage
from brim.view.draft import Draft, Shared
from brim.view.graphs import graph_drafts
from brim.view.kernels import computed_by, kernel_drafts, kernels_of

MOST = 100_000  # nodes of all stages


@dataclass(eq=False)
class Stages:
    """The stages of a document in the making."""

    shared: Shared = field(default_factory=Shared)
    stages: list[Stage] = field(default_factory=list)
    count: int = 0  # of nodes

    def add(self, name: str, title: str, why: str, drafts: Sequence[Draft]) -> None:
        """Adds a stage; the first one decides about the blocks."""
        if not self.stages:
            self.shared.split(drafts)
        nodes = tuple(self.shared.nodes(drafts))
        same = next((i for i, stage in enumerate(self.stages) if stage.nodes == nodes), None)
        self.count += 0 if same is not None else len(nodes)
        self.stages.append(Stage(name, title, why, () if same is not None else nodes, same))

    def passes(self, graph: Graph) -> Graph:
        """Adds a graph as it is, and after every pass; gives what the last one does, with its
        sub-graphs optimised, too. Of a very large graph only what the last one does is added."""
        drafts = graph_drafts(graph, self.shared)
        self.add("import", "imported", "operators of brim, as the front end made them", drafts)
        for number, (name, run) in enumerate(PIPELINE, 1):
            graph = run(graph)
            drafts = graph_drafts(graph, self.shared)
            if self.count + len(drafts) <= MOST or number == len(PIPELINE):
                self.add(name, name.replace("_", " "), idea_of(run), drafts)
        return inside(graph, optimise)

    def kernels(self, made: Scheduled, seconds: Sequence[float]) -> tuple[Kernel, ...]:
        """Adds what the compiler makes of an optimised graph; all nodes learn their kernels."""
        self.add(
            "settle",
            "variants settled",
            "composites are replaced by the cheapest of their bodies on this target",
            graph_drafts(made.settled, self.shared),
        )
        self.stages = [
            replace(stage, nodes=tuple(computed_by(stage.nodes, made.rows, self.shared.sources)))
            for stage in self.stages
        ]
        drafts = kernel_drafts(made, self.shared)
        self.add("kernels", "kernels", "what is fused into one loop nest is one node", drafts)
        return tuple(kernels_of(made.rows, made.lowered, seconds))


def idea_of(run: Callable) -> str:
    """What a pass is for: the first sentence of its file, of which it is the only one."""
    text = sys.modules[run.__module__].__doc__ or run.__doc__ or ""
    return " ".join(text.split("\n\n")[0].split())
