"""How a row of a front end's table runs, as its source says: what the lists of operators show."""

from __future__ import annotations

import ast
import dis
import inspect
import textwrap
from collections.abc import Collection, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

from brim.ops.registry import OPS

COMPILED = "compiled"
DECIDED = "compiled, or a host step"  # contents that the row needs may be computed by the model
HOST = "a host step"


def runs(function: Any, contents: Collection[str]) -> str:
    """How a row runs. contents: the methods of its call that ask what an input holds."""
    decided = any(asks(f, contents) or _has_host_step(f) for f in functions_of(function))
    return DECIDED if decided else COMPILED


def functions_of(function: Any) -> Iterator[FunctionType]:
    """A row's function and the functions of the front ends that it uses."""
    return _functions(function, set())


def _functions(function: Any, seen: set[Any]) -> Iterator[FunctionType]:
    if isinstance(function, FunctionType) and function not in seen:
        seen.add(function)
        yield function
        for name in _loaded(function.__code__):
            helper = function.__globals__.get(name)
            if getattr(helper, "__module__", "").startswith("brim.frontends"):
                yield from _functions(helper, seen)


def _loaded(code: CodeType) -> Iterator[str]:
    """The globals that code reads: not attributes, so `p.slice` is no `slice` of this file."""
    yield from (i.argval for i in dis.get_instructions(code) if i.opname == "LOAD_GLOBAL")
    for part in code.co_consts:
        if isinstance(part, CodeType):
            yield from _loaded(part)


def _global_names(code: CodeType) -> Iterator[str]:
    """The globals that code reads, and their attributes."""
    yield from code.co_names
    for part in code.co_consts:
        if isinstance(part, CodeType):
            yield from _global_names(part)


def _has_host_step(function: FunctionType) -> bool:
    """Whether it names one of brim's own operators that run on the host, or a module of those."""
    names = set(_global_names(function.__code__))
    found = [function.__globals__[name] for name in names & set(function.__globals__)]
    named = {getattr(thing, "__name__", "") for thing in found if _is_of_ops(thing)}
    of_modules = {
        n for thing in found if isinstance(thing, ModuleType) for n in names & set(vars(thing))
    }
    return any(name in OPS and OPS[name].kind == "host" for name in named | of_modules)


def _is_of_ops(thing: Any) -> bool:
    return getattr(thing, "__module__", "").startswith("brim.ops")


def asks(function: FunctionType, methods: Collection[str]) -> bool:
    """Whether it says `call.array(i)` or the like; `np.array` is another matter."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    return any(
        isinstance(node, ast.Attribute)
        and node.attr in methods
        and isinstance(node.value, ast.Name)
        and node.value.id == "call"
        for node in ast.walk(tree)
    )
