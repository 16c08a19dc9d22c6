"""The site that docs/ becomes: it builds without a fault, and what it shows is in it.

Nothing in it asks for anything from elsewhere, and all of its links lead somewhere.
"""

from __future__ import annotations

import importlib.util
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import FunctionType, ModuleType
from urllib.parse import unquote, urlsplit

import pytest

from tests.browser import Opened, chromium

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
LOADS = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src"}


def script(name: str) -> ModuleType:
    """A script of docs/site/ as a module."""
    found = importlib.util.spec_from_file_location(name, DOCS / "site" / f"{name}.py")
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


class Page(HTMLParser):
    """What a page loads, what it leads to, and the names of its places."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.loads, self.links, self.places = path, [], [], {""}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.places |= {given[name] for name in ("id", "name") if name in given}
        if tag in LOADS and LOADS[tag] in given:
            self.loads.append(given[LOADS[tag]])
        if tag == "a" and "href" in given:
            self.links.append(given["href"])


BUILD = script("build")
MODULES = [name for names in BUILD.sections().values() for name in names]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site; Sphinx warns of nothing."""
    for needed in ("sphinx", "myst_parser", "furo"):
        pytest.importorskip(needed)
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, str(DOCS / "site" / "build.py"), str(folder)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout + run.stderr
    return folder


def test_it_is_whole(site: Path) -> None:
    """One test, so that the site is built once, whatever number of processes run tests."""
    pages = {path: Page(path) for path in site.rglob("*.html")}
    assert sorted(missing_pages(site, pages)) == []
    assert sorted(missing_names(site, pages)) == []
    assert sorted(requests(site, pages)) == []
    assert sorted(broken_links(pages)) == []


@pytest.mark.slow
def test_a_browser_searches_it_offline(site: Path) -> None:
    with chromium() as browser:
        for view in ({}, {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"}):
            opened = Opened(browser, site / "index.html", **view)
            page = opened.page
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            page.goto((site / "search.html").as_uri() + "?q=limit_memory")
            page.wait_for_selector("ul.search a[href*='reference/brim.train.html']")
            page.goto((site / "onnx.html").as_uri())
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            assert [url for url in opened.requests if not url.startswith(("file:", "data:"))] == []
            assert opened.faults == []


def missing_pages(folder: Path, pages: dict[Path, Page]) -> Iterator[str]:
    """Pages of docs/, and those that are made, which the site does not have."""
    wanted = [str(path.relative_to(DOCS).with_suffix(".html")) for path in DOCS.rglob("*.md")]
    for name in (*wanted, "tour.html", "bench.html", "changes.html", "search.html"):
        if folder / name not in pages:
            yield name


def missing_names(folder: Path, pages: dict[Path, Page]) -> Iterator[str]:
    """What is public and not in the reference."""
    for name in MODULES:
        for thing, value in BUILD.public(importlib.import_module(name)).items():
            if inspect.isclass(value) or inspect.isfunction(value):
                page = pages.get(folder / "reference" / f"{name}.html")
                if page is None or f"{name}.{thing}" not in page.places:
                    yield f"{name}.{thing}"


def requests(folder: Path, pages: dict[Path, Page]) -> Iterator[str]:
    """What a browser would ask others for."""
    for page in pages.values():
        for target in page.loads:
            if urlsplit(target).netloc or urlsplit(target).scheme not in ("", "data"):
                yield f"{page.path.name}: {target}"
    asks = re.compile(r"""(?:url\(|@import|fetch\()\s*["']?(?:https?:)?//[^"')]*""")
    for path in [*folder.rglob("*.css"), *folder.rglob("*.js"), *pages]:
        yield from (f"{path.name}: {found}" for found in asks.findall(path.read_text("utf-8")))


def broken_links(pages: dict[Path, Page]) -> Iterator[str]:
    """Links within the site that lead nowhere."""
    for page in pages.values():
        for link in (*page.links, *page.loads):
            parts = urlsplit(link)
            target = page.path
            if parts.scheme:
                continue
            if parts.path:
                target = (page.path.parent / unquote(parts.path)).resolve()
            place = unquote(parts.fragment)
            if not target.is_file() or (target in pages and place not in pages[target].places):
                yield f"{page.path.name}: {link}"


def test_a_broken_page_is_found(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text('<img src="//x.org/a.png"><a href="#b">b</a><style>@import "https://y"</style>')
    pages = {path: Page(path)}
    assert len([*requests(tmp_path, pages)]) == 2
    assert {*broken_links(pages)} == {"page.html: //x.org/a.png", "page.html: #b"}
    assert "index.html" in missing_pages(tmp_path, pages)
    assert "brim.load" in missing_names(tmp_path, pages)


@pytest.mark.parametrize("name", MODULES)
def test_all_that_is_public_has_a_docstring(name: str) -> None:
    module = importlib.import_module(name)
    public = BUILD.public(module)
    classes = [value for value in public.values() if inspect.isclass(value)]
    # What a protocol describes needs no other words in each class that follows it.
    described = {m for each in classes if getattr(each, "_is_protocol", False) for m in vars(each)}
    missing = [] if module.__doc__ else [name]
    for thing, value in public.items():
        if inspect.isclass(value) or inspect.isfunction(value):
            doc = value.__doc__ or ""
            if not doc or doc.startswith(f"{thing}("):  # what `dataclass` writes itself
                missing.append(thing)
    for each in classes:
        missing += [f"{each.__name__}.{m}" for m in undocumented(each) if m not in described]
    assert not missing


def undocumented(cls: type) -> Iterator[str]:
    """Public methods and properties of a class without a docstring, of its own or inherited."""
    for name, member in vars(cls).items():
        function = getattr(member, "fget", None) or getattr(member, "func", member)
        function = getattr(function, "__func__", function)
        if isinstance(function, FunctionType) and not name.startswith("_"):
            documented = inspect.getdoc(getattr(cls, name)) or function.__doc__
            if not documented:
                yield name


def test_docstrings_become_lists_of_what_they_name() -> None:
    paragraph = script("docstrings").paragraph
    text = (
        "A model (of b; x: c). x, y: f32[2] each, as `Model`s. size_: of *both*. "
        "Raises InputError for `a+b`."
    )
    assert paragraph(text, ["x", "y", "size_"]).split("\n\n") == [
        "A model (of b; x: c).",
        "- **x, y**: f32[2] each, as `Model`\\ s.",
        r"- **size\_**: of \*both\*.",
        "Raises `~brim.InputError` for ``a+b``.",
    ]
