"""What notebooks show: ports, figures, structure; in frames, so that nothing gets out of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import brim
from brim.graph import Graph, placeholder
from brim.ops import primitive as p
from brim.tools.explain import explain
from brim.train.history import Epoch, History
from brim.train.metrics import Scores
from brim.types import F32, Type
from tests.html_pages import NASTY, Page
from tests.networks import weight


def network(name: str = "net") -> Graph:
    x = placeholder(Type((4, 8), F32))
    return Graph({name: x}, {"y": p.tanh(p.contract(x, weight(8, 16), spec="mk,kn->mn"))}, name)


def framed(html: str) -> tuple[Page, list[Page]]:
    """What stands in the notebook itself, and the pages in frames."""
    shown = Page(html)
    return shown, [Page(value or "") for name, value in shown.values if name == "srcdoc"]


def history(name: str = "accuracy", validated: bool = True) -> History:
    def epoch(number: int) -> Epoch:
        held = Scores(64, 0.5 / number, {name: 0.8}) if validated else None
        return Epoch(number, 10, 1.0, 1 / number, {name: 1 - 0.5 / number}, 1e-3, held)

    return History(tuple(map(epoch, (1, 2, 3))), 3 if validated else None, 30, "finished")


def test_a_model_shows_ports_figures_and_structure() -> None:
    model = brim.compile(network())
    shown, (structure,) = framed(model._repr_html_())
    text = " ".join(shown.text)
    assert "f32[4,8]" in text and "f32[4,16]" in text
    assert f"{len(model.report().kernels)} kernels for host" in text
    assert "default-src 'none'" in structure.source
    assert any(tag == "template" for tag, _ in structure.tags)


def test_a_model_with_open_shapes_waits(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    port = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    ports = [port(name, 1, ["n"]) for name in "xy"]
    made = onnx.helper.make_model(onnx.helper.make_graph([node], "g", ports[:1], ports[1:]))
    onnx.save(made, tmp_path / "open.onnx")
    model = brim.load(tmp_path / "open.onnx")
    shown, frames = framed(model._repr_html_())
    assert "compiled when it is called" in " ".join(shown.text) and not frames
    model(np.ones(3, np.float32))
    assert len(framed(model._repr_html_())[1]) == 1


def test_a_graph_shows_what_is_in_it() -> None:
    shown, (structure,) = framed(network()._repr_html_())
    told = " ".join(shown.text)
    assert "1 contract" in told and "1 tanh" in told
    assert structure.left_open() == []


def test_reports_show_themselves() -> None:
    model = brim.compile(network())
    shown, _ = framed(model.report()._repr_html_())
    assert "predicted" in shown.text
    _, (page,) = framed(explain(model)._repr_html_())
    assert page.requests() == page.left_open() == []


def test_a_training_shows_its_curves() -> None:
    _, (page,) = framed(history()._repr_html_())
    text = " ".join(page.text)
    assert page.requests() == page.left_open() == []
    assert "3 epochs, 30 steps, finished; epoch 3 is the best" in text
    assert "accuracy" in text and "validation" in text
    _, (page,) = framed(history(validated=False)._repr_html_())
    assert "validation" not in " ".join(page.text)
    empty = History((), None, 0, "interrupted")
    assert "0 epochs" in " ".join(framed(empty._repr_html_())[1][0].text)


@pytest.mark.parametrize("name", NASTY)
def test_names_stay_text(name: str) -> None:
    """In the notebook and in its frames."""
    for made, plain in (
        (network(name), network()),
        (brim.compile(network(name)), brim.compile(network())),
        (history(name), history("x")),
    ):
        nasty, inside = framed(made._repr_html_())
        good, within = framed(plain._repr_html_())
        assert nasty.tags == good.tags
        assert [page.tags for page in inside] == [page.tags for page in within]


def test_frames_have_an_origin_of_their_own() -> None:
    for made in (brim.compile(network()), network(), history()):
        shown = Page(made._repr_html_())
        rights = [value for name, value in shown.values if name == "sandbox"]
        assert rights and all(right in ("", "allow-scripts") for right in rights)


@pytest.mark.slow
def test_notebooks_keep_what_is_shown(tmp_path: Path) -> None:
    """Run and converted by Jupyter's own tools."""
    nbformat, nbconvert = (pytest.importorskip(name) for name in ("nbformat", "nbconvert"))
    pytest.importorskip("ipykernel")
    from nbconvert.preprocessors import ExecutePreprocessor

    (tmp_path / "g.graph").write_text(
        'graph g\ninput %0: f32[4] "x"\n%1: f32[4] = tanh(%0)\noutput %1 "y"\n'
    )
    code = "import brim\nbrim.load('g.graph')"
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    ExecutePreprocessor(timeout=120).preprocess(book, {"metadata": {"path": str(tmp_path)}})
    (found,) = book.cells[0].outputs
    assert "f32[4]" in found.data["text/html"]
    page, _ = nbconvert.HTMLExporter().from_notebook_node(book)
    assert "srcdoc=" in page
    json.dumps(book)
