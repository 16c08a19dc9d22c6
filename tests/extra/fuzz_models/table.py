"""The table of operators: what can be drawn, from which opset on, and how often.

@case("Selu")
def selu(d: Draft) -> None:
    d.add("Selu", d.take(d.types("Selu")), alpha=d.number(0, 2))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from onnx import defs

from tests.extra.fuzz_models.draft import Draft

Function = Callable[[Draft, str], None]


@dataclass(frozen=True)
class Case:
    """How a node of `name` is drawn. since: first opset in which it exists (7 is our oldest)."""

    name: str
    function: Function
    since: int

    @property
    def group(self) -> str:
        """The file that declares it: operators_<group>.py."""
        return self.function.__module__.rpartition("operators_")[2]


CASES: dict[str, Case] = {}


def case(*names: str, since: int | None = None) -> Callable[[Function], Function]:
    """Declares a function (draft, name) that adds one node of any of these operators."""

    def declare(function: Function) -> Function:
        for name in names:
            assert name not in CASES, f"{name} is declared twice"
            CASES[name] = Case(name, function, since or _first(name))
        return function

    return declare


def _first(name: str) -> int:
    versions = [
        schema.since_version
        for schema in defs.get_all_schemas_with_history()
        if schema.name == name and schema.domain == ""
    ]
    return min(versions)
