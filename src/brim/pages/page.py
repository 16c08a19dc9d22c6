"""What all pages share: one HTML file that fetches nothing, light and dark, readable on a phone."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Container, Iterable
from html import escape
from pathlib import Path

from brim.figures import printable

STYLE = Path(__file__).with_name("page.css")


def page(title: str, body: Iterable[str], *, style: str = "", script: str = "") -> str:
    """A whole page. title: text; body: parts that are HTML already; empty ones are left out.

    style: CSS after that which all pages share. script: JavaScript, run when the body is there.
    Should something of a model ever get past `safe`, browsers still run nothing of it and fetch
    nothing: the page's policy allows this one script, by its digest.
    """
    if "</script" in script.lower() or "</style" in style.lower():
        raise ValueError("scripts and styles must not end their own element")
    runs = f"<script>{script}</script>\n" if script else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(script)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{safe(title)}</title>\n"
        f"<style>\n{STYLE.read_text(encoding='utf-8')}{style}</style>\n"
        "</head>\n<body>\n<main>\n"
        + "\n".join(filter(None, body))
        + f"\n</main>\n{runs}</body>\n</html>\n"
    )


def _policy(script: str) -> str:
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    if not script:
        return policy
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"{policy}; script-src 'sha256-{digest}'"


def frame(whole: str, title: str, *, scripts: bool = False, height: str = "40em") -> str:
    """A page within a notebook: its styles stay in it, and scripts run only where they are allowed,
    with an origin of their own. title: text that says what it shows. height: CSS."""
    rights = "allow-scripts" if scripts else ""
    return (
        f'<iframe sandbox="{rights}" srcdoc="{escape(whole, quote=True)}" title="{safe(title)}" '
        f'style="width:100%;height:{height};border:0"></iframe>'
    )


def safe(text: str) -> str:
    """Any text as HTML, in elements and in attributes."""
    return escape(printable(text), quote=True)


def card(title: str, content: str, note: str = "") -> str:
    """A framed part with a heading; content and note are HTML already."""
    below = f'<p class="soft">{note}</p>' if note else ""
    return f'<section class="card"><h3>{safe(title)}</h3>{content}{below}</section>'


def bullets(items: Iterable[str]) -> str:
    """A list of what is HTML already."""
    return f"<ul>{''.join(f'<li>{item}</li>' for item in items)}</ul>"


def table(heads: Iterable[str], rows: Iterable[Iterable[str]], numbers: Container[int] = ()) -> str:
    """A table that scrolls by itself where it is too wide. heads: text; rows: cells that are HTML
    already; columns in `numbers` are aligned right."""

    def cells(kind: str, texts: Iterable[str]) -> str:
        parts = []
        for i, text in enumerate(texts):
            number = ' class="number"' if i in numbers else ""
            parts.append(f"<{kind}{number}>{text}</{kind}>")
        return f"<tr>{''.join(parts)}</tr>"

    body = "".join(cells("td", row) for row in rows)
    return f'<div class="scroll"><table>{cells("th", map(safe, heads))}{body}</table></div>'
