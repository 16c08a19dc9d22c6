"""The page of `brim view` in Chromium: what people see and do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from brim.view.page import view_page
from tests import view_documents
from tests.browser import Opened, chromium

READY = "#view:not([aria-busy])"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """Opens a document; at the end nothing was fetched, thrown or complained about."""
    opened: list[Opened] = []

    def open_document(document: dict[str, Any], **options: Any) -> Any:
        path = tmp_path / "view.html"
        path.write_text(view_page(document), encoding="utf-8")
        options = {"reduced_motion": "reduce"} | options
        opened.append(Opened(browser, path, **options))
        opened[-1].page.wait_for_selector(READY)
        return opened[-1].page

    yield open_document
    for one in opened:
        assert [url for url in one.requests if not url.startswith("file://")] == []
        assert len(one.requests) == 1
        assert one.faults == []
        one.page.close()


def rest(page: Any) -> None:
    """Until what moves has come to rest, and is drawn; most tests ask for no motion."""
    moves = page.evaluate("!matchMedia('(prefers-reduced-motion: reduce)').matches")
    page.wait_for_timeout(350 if moves else 40)


def looks(page: Any) -> str:
    script = "document.querySelector('canvas[role=application]').toDataURL()"
    return str(page.evaluate(script))


def heading(page: Any) -> str:
    return str(page.locator("aside h2").inner_text())


@pytest.mark.slow  # an absolute time
def test_it_opens_at_once(show: Any) -> None:
    page = show(view_documents.inception(11))
    assert page.evaluate("performance.now()") < 2000
    assert page.locator("h1").inner_text() == "inception of 11 modules"
    colours = page.evaluate(
        """() => {
            const canvas = document.querySelector("canvas[role=application]");
            const pen = canvas.getContext("2d");
            const { data } = pen.getImageData(0, 0, canvas.width, canvas.height);
            return new Set(new Uint32Array(data.buffer)).size;
        }"""
    )
    assert colours > 50  # boxes, lines and texts, not an empty sheet


def test_the_first_view_shows_all_of_it(show: Any) -> None:
    """Which is why a long network stands in columns."""
    page = show(view_documents.inception(11))
    assert page.locator(".minimap").is_hidden()  # there is nothing elsewhere
    page.keyboard.press("e")
    rest(page)
    assert page.locator(".minimap").is_visible()
    page.keyboard.press("0")
    rest(page)
    assert page.locator(".minimap").is_hidden()


def test_search_goes_from_layer_to_layer(show: Any) -> None:
    document = view_documents.inception(3)
    page = show(document)
    before = looks(page)
    page.keyboard.press("/")
    page.keyboard.type("concat axis")
    assert page.locator("#found li").count() == 3
    assert page.locator(".drop .note").inner_text() == "3 found"
    page.keyboard.press("Enter")
    rest(page)
    assert heading(page) == "concat"
    first = page.locator("aside .source").inner_text()
    page.keyboard.press("Enter")
    assert page.locator("aside .source").inner_text() != first
    assert looks(page) != before
    page.keyboard.press("Escape")
    assert page.locator("input[type=search]").input_value() == ""


@pytest.mark.slow
def test_what_is_not_there_is_not_found(show: Any) -> None:
    page = show(view_documents.chain(8))
    page.keyboard.press("/")
    page.keyboard.type("nosuchlayer")
    assert page.locator("#found li").count() == 0
    assert "Nothing" in page.locator(".drop .note").inner_text()


def test_details_of_a_layer(show: Any) -> None:
    page = show(view_documents.inception(2))
    page.keyboard.press("/")
    page.keyboard.type("conv")
    page.keyboard.press("Enter")
    rest(page)
    text = page.locator("aside").inner_text()
    for part in ("stride", "(2, 2)", "f32[1,64,56,56]", "f32[64,64,3,3]", "tile n:8 m:16", "22 µs"):
        assert part in text, part
    assert page.locator("aside svg.histogram").count() == 2
    page.locator("aside section", has_text="Gives").locator("button.link").first.click()
    rest(page)
    assert heading(page) == "batchnorm"
    page.keyboard.press("Escape")
    assert heading(page) == "inception of 2 modules"


def test_blocks_open_and_close(show: Any) -> None:
    page = show(view_documents.inception(8))
    page.keyboard.press("/")
    page.keyboard.type("mixed_3")
    page.keyboard.press("Enter")
    rest(page)
    closed = looks(page)
    page.locator("aside").get_by_role("button", name="Open block").click()
    rest(page)
    assert page.locator("aside").get_by_text("Close block").count() == 1
    assert looks(page) != closed
    page.locator("canvas[role=application]").focus()
    page.keyboard.press("Enter")
    rest(page)
    assert page.locator("aside").get_by_text("Open block").count() == 1
    assert looks(page) == closed  # back where it was


def test_a_double_click_opens_what_is_under_it(show: Any) -> None:
    page = show(view_documents.inception(8), reduced_motion="no-preference")
    page.keyboard.press("/")
    page.keyboard.type("mixed_3")
    page.keyboard.press("Enter")  # now in the middle of what the panel leaves free
    rest(page)
    footer = page.locator("footer").bounding_box()
    aside = page.locator("aside").bounding_box()
    legend = page.locator(".colours").bounding_box()
    left = legend["x"] + legend["width"]
    page.mouse.dblclick((left + aside["x"]) / 2, 52 + (footer["y"] - 52) / 2)
    rest(page)
    assert page.locator("aside").get_by_text("Close block").count() == 1


def test_arrows_walk_along_the_graph(show: Any) -> None:
    page = show(view_documents.chain(10))
    names = []
    for _ in range(3):
        page.keyboard.press("ArrowDown")
        names.append(heading(page))
    assert names == ["input", "conv", "relu"]
    page.keyboard.press("ArrowUp")
    assert heading(page) == "conv"


def test_the_slider_keeps_the_place(show: Any) -> None:
    page = show(view_documents.inception(6))
    page.keyboard.press("/")
    page.keyboard.type("concat")
    for _ in range(4):
        page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    rest(page)
    name = page.locator("aside .source").inner_text()
    box = {"x": 300, "y": 380, "width": 330, "height": 60}
    before = page.screenshot(clip=box)
    page.locator("canvas[role=application]").focus()
    page.keyboard.press("]")
    rest(page)
    assert page.locator(".stages b").inner_text() == "batchnorm"
    assert "gone" in page.locator(".stages .change").inner_text()
    assert page.locator("aside .source").inner_text() == name  # still selected ...
    assert page.locator("aside h2").inner_text() == "concat"
    page.keyboard.press("[")
    rest(page)
    assert page.screenshot(clip=box) == before  # ... and where it was
    page.locator(".stages input").fill("2")
    assert "nothing changed" in page.locator(".stages .change").inner_text()


def test_colours_by_time_and_by_error(show: Any) -> None:
    page = show(view_documents.inception(4))
    kinds = looks(page)
    page.locator(".colours select").select_option("measured")
    rest(page)
    times = looks(page)
    assert "ms" in page.locator(".colours .ends").inner_text()
    assert page.locator("aside .row .value").first.inner_text().startswith("539 µs")
    page.keyboard.press("Escape")
    page.locator(".colours select").select_option("error")
    rest(page)
    ends = page.locator(".colours .ends span").all_inner_texts()
    worst = float(ends[1].split()[0])
    assert worst < float(ends[0].split()[0])  # decibels: the low ones are bad
    assert len({kinds, times, looks(page)}) == 3


@pytest.mark.slow
def test_a_kind_stands_out(show: Any) -> None:
    page = show(view_documents.chain(12))
    before = looks(page)
    page.locator(".colours button", has_text="products").click()
    rest(page)
    assert looks(page) != before
    page.locator(".colours button", has_text="products").click()
    page.mouse.move(5, 400)
    rest(page)
    assert looks(page) == before


def test_names_of_a_model_are_only_text(show: Any) -> None:
    document = view_documents.inception(2)
    bad = '<img src="x" onerror="alert(1)"><script>alert(2)</script>'
    document["name"] = bad
    document["sources"] = [bad] * len(document["sources"])
    document["blocks"][1]["name"] = bad
    document["facts"] = [[bad, bad]]
    for node in document["stages"][0]["nodes"]:
        node["op"], node["attrs"], node["hint"] = bad, {bad: bad}, bad
    page = show(document)
    page.keyboard.press("/")
    page.keyboard.type("img")
    page.keyboard.press("Enter")
    rest(page)
    assert page.locator("img").count() == 0
    assert page.locator("#view script").count() == 0
    assert heading(page) == bad
    assert page.title() == f"{bad} · brim view"


@pytest.mark.parametrize("operators", [0, 2])
def test_hardly_a_model(show: Any, operators: int) -> None:
    document = view_documents.chain(2)
    for stage in document["stages"]:
        stage["nodes"] = stage["nodes"][:operators]
    page = show(document)
    page.keyboard.press("ArrowDown")
    assert heading(page) == (document["name"] if not operators else "input")


def test_a_damaged_document_says_so(browser: Any, tmp_path: Path) -> None:
    html = view_page(view_documents.chain(4))
    path = tmp_path / "damaged.html"
    path.write_text(re.sub(r'(<template id="document">.{40})', r"\1AAAA", html))
    opened = Opened(browser, path)
    opened.page.wait_for_selector(READY)
    assert "cannot be shown" in opened.page.locator("[role=alert]").inner_text()
    opened.page.close()


@pytest.mark.slow
def test_on_a_phone(show: Any) -> None:
    page = show(
        view_documents.inception(11),
        viewport={"width": 390, "height": 800},
        color_scheme="dark",
        has_touch=True,
    )
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    before = looks(page)
    page.keyboard.press("/")
    page.keyboard.type("concat")
    page.keyboard.press("Enter")
    rest(page)
    sheet = page.locator("aside").bounding_box()
    assert sheet["y"] > 400  # below the picture, not on all of it
    assert looks(page) != before


@pytest.mark.slow
def test_two_fingers(show: Any) -> None:
    page = show(view_documents.inception(6), viewport={"width": 390, "height": 800}, has_touch=True)
    looked = [looks(page)]
    touch = page.context.new_cdp_session(page)
    for apart in (40, 60, 90, 130):
        fingers = [{"x": 195 - apart, "y": 400, "id": 0}, {"x": 195 + apart, "y": 400, "id": 1}]
        kind = "touchStart" if apart == 40 else "touchMove"
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    rest(page)
    looked.append(looks(page))
    assert page.locator("aside").is_hidden()  # nothing was tapped
    assert page.evaluate("window.visualViewport.scale") == 1  # the picture grew, not the page
    assert looked[0] != looked[1]


@pytest.mark.slow
def test_five_thousand_nodes_move_smoothly(show: Any) -> None:
    page = show(view_documents.inception(150, rooms=10), reduced_motion="no-preference")
    assert page.evaluate("performance.now()") < 4000
    page.keyboard.press("e")  # all blocks open
    page.keyboard.press("0")  # and in view
    rest(page)
    for _ in range(3):
        page.keyboard.press("+")
        rest(page)
        page.evaluate(
            """() => {
                window.times = [];
                const note = (now) => { window.times.push(now); requestAnimationFrame(note); };
                requestAnimationFrame(note);
            }"""
        )
        page.mouse.move(500, 400)
        page.mouse.down()
        for i in range(40):
            page.mouse.move(500 + 4 * (i % 20), 400 - 4 * (i % 20))
        page.mouse.up()
        times = page.evaluate("window.times")
        frames = [after - before for before, after in pairwise(times)]
        assert len(frames) > 10
        assert median(frames) < 50  # ms; 17 on an idle machine
