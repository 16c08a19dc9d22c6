"""brim's docstrings, which are plain text with code in backquotes, as Sphinx reads them.

    array: what it holds. shape: its extents, default (1,). Raises InputError for a bad one.

A name of a parameter and a colon begin an entry of a list, `Raises` a paragraph of its own, and
nothing but backquotes is markup.
"""

from __future__ import annotations

import inspect
import re
from contextlib import suppress
from dataclasses import fields, is_dataclass
from typing import Any

import brim

CODE = re.compile(r"(`+[^`]+`+)")
ERRORS = re.compile(r"\b(?:[A-Z][a-z]+)+Error\b")


def as_restructured_text(
    app: object, kind: str, name: str, thing: Any, options: object, lines: list[str]
) -> None:
    """Rewrites `lines`, the docstring of `thing`, in place (Sphinx: autodoc-process-docstring)."""
    names = parameters(thing)
    paragraphs = re.split(r"\n\s*\n", "\n".join(lines).strip("\n"))
    lines[:] = [*"\n\n".join(paragraph(text, names) for text in paragraphs).split("\n"), ""]


def parameters(thing: Any) -> list[str]:
    """What a docstring may explain by name: parameters, fields and attributes."""
    found = [field.name for field in fields(thing)] if is_dataclass(thing) else []
    if inspect.isclass(thing):
        found += [name for name in vars(thing) if not name.startswith("_")]
    with suppress(TypeError, ValueError):  # what has no signature
        found += inspect.signature(thing).parameters
    return found


def paragraph(text: str, names: list[str]) -> str:
    """One paragraph: a list of what it names, if it names something."""
    if text[:1].isspace() or ("\n " in text and not re.match(r"[-*\d]", text)):
        return "::\n\n" + "\n".join(f"    {line}" for line in text.split("\n"))
    if re.match(r"([-*]|\d+\.) ", text):
        return escaped(text)
    text = " ".join(re.sub(r"(?<=\w-)\n\s*", "", text).split())
    known = "|".join(map(re.escape, sorted(names, key=len, reverse=True))) or "(?!)"
    entry = re.compile(
        rf"(?:^|(?<=[.;)] ))`?((?:{known})`?(?:, `?(?:{known})`?)*): |(?=Raises [A-Z`])"
    )
    parts, place, label = [], 0, ""
    outside = (found for found in entry.finditer(text) if _is_closed(text[: found.start()]))
    for found in [*outside, None]:
        end = found.start() if found else len(text)
        if words := text[place:end].strip(" ;"):
            parts.append(f"- {label}{escaped(words)}" if label else escaped(words))
        if found:
            names_of = (found[1] or "").replace("`", "")
            label = f"**{escaped(names_of)}**: " if found[1] else ""
            place = found.end()
    return "\n\n".join(parts)


def _is_closed(text: str) -> bool:
    """Whether every parenthesis that a text opens is closed in it."""
    return text.count("(") == text.count(")")


def _error(found: re.Match[str]) -> str:
    """The name of an error as code; those that brim itself offers are links."""
    return f"`~brim.{found[0]}`" if found[0] in brim.__all__ else f"`{found[0]}`"


def escaped(text: str) -> str:
    """Text whose only markup is code in backquotes; names of errors become code, too."""
    parts = CODE.split(text)
    for i, part in enumerate(parts):
        if i % 2:
            inner = part.strip("`")
            parts[i] = f"`{inner}`" if re.fullmatch(r"[A-Za-z_][\w.]*", inner) else f"``{inner}``"
        else:
            part = re.sub(r"([\\*_|])", r"\\\1", part)
            part = ERRORS.sub(_error, part)
            parts[i] = re.sub(r"^(?=\w)", r"\\ ", part) if i else part  # `Value`s
    return "".join(parts)
