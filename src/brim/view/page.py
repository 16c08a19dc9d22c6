"""The page of `brim view`: one HTML file with a document in it, which `page.js` draws.

`make web` builds `page.js` of the sources in `web/`; it is committed: users of brim need no node.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from brim.pages import page

HERE = Path(__file__).parent


def view_page(document: Mapping[str, Any]) -> str:
    """HTML that shows a document (`view/document.py` says what is in one); it fetches nothing.

    The same document gives the same bytes. Texts of a model lie in base64 until the script makes
    text nodes and pixels of them; they never become HTML.
    """
    text = json.dumps(document, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    packed = base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode("ascii")
    return page(
        f"{document['name']} · brim view",
        (
            '<div id="view" aria-busy="true"></div>',
            f'<template id="document">{packed}</template>',
        ),
        style=(HERE / "page.css").read_text(encoding="utf-8"),
        script=(HERE / "page.js").read_text(encoding="utf-8"),
    )
