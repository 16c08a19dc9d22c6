"""What Sphinx is told. `docs/site/build.py` collects the pages and starts it."""

from __future__ import annotations

import builtins
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from docstrings import as_restructured_text
from docutils.nodes import document
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx

import brim

project, author, copyright = "brim", "the brim authors", "the brim authors; Apache-2.0"
release = brim.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "index"
smartquotes = False

myst_enable_extensions = ["deflist", "html_image"]
myst_heading_anchors = 3
highlight_language = "text"  # blocks that name no language are drawings and shell lines

# A name in backquotes is linked if the reference has it, else it is set as code.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = "brim"
html_static_path = ["style.css"]
html_css_files = ["style.css"]
html_copy_source = html_show_sourcelink = False
html_show_search_summary = False  # it would be fetched, which pages opened as files may not
html_use_index = False
html_domain_indices = False
pygments_style, pygments_dark_style = "tango", "github-dark"
_LIGHT = {"color-brand-primary": "#1d4ed8", "color-brand-content": "#1d4ed8"}
_DARK = {"color-brand-primary": "#6ea0ff", "color-brand-content": "#6ea0ff"}
html_theme_options = {
    "light_css_variables": _LIGHT,
    "dark_css_variables": _DARK,
    "footer_icons": [],
    "top_of_page_buttons": [],
}


def without_builtins(app: Sphinx, page: document) -> None:
    """`bytes` in a signature is Python's type, not the property of that name."""
    for link in [*page.findall(pending_xref)]:
        if link["reftype"] == "class" and link["reftarget"] in vars(builtins):
            link.replace_self(link.children)


def with_short_navigation(
    app: Sphinx, name: str, template: str, context: dict[str, Any], page: document | None
) -> None:
    """Only the part that a page belongs to is open: all parts on all pages take half the build."""
    if whole := context.get("toctree"):
        context["toctree"] = lambda **options: whole(**{**options, "collapse": True})


def setup(app: Sphinx) -> None:
    app.connect("html-page-context", with_short_navigation, priority=400)  # before furo's, 500
    app.connect("doctree-read", without_builtins)
    app.connect("autodoc-process-docstring", as_restructured_text)
