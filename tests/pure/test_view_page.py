"""The page of `brim view` without a browser: what is in the file, and where its script is from."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import brim
from brim.view.page import view_page
from tests import view_documents

VIEW = Path(brim.__file__).parent / "view"
SOURCES = VIEW / "web"


def test_the_document_is_in_the_page() -> None:
    document = view_documents.inception(2)
    html = view_page(document)
    packed = re.search(r'<template id="document">([^<]*)</template>', html)
    assert packed is not None
    assert json.loads(gzip.decompress(base64.b64decode(packed[1]))) == document
    assert view_page(document) == html  # the same bytes every time


def test_names_do_not_become_html() -> None:
    document = view_documents.chain(4)
    bad = "</template><script>alert(1)</script><img src=x onerror=alert(2)>"
    document["name"] = document["sources"][1] = bad
    html = view_page(document)
    assert html.count("<script>") == 1
    assert "<img" not in html


def test_numbers_that_are_none_are_refused() -> None:
    document = view_documents.chain(4)
    document["overlays"][0]["values"] = [[1, float("nan")]]
    with pytest.raises(ValueError):
        view_page(document)


def test_the_bundle_names_these_sources() -> None:
    """Without node: somebody changed sources and forgot `make web`, or edited the bundle's head."""
    names = ["build.mjs", "package-lock.json", "package.json", "tsconfig.json"]
    names += [f"src/{path.name}" for path in (SOURCES / "src").iterdir()]
    digest = hashlib.sha256()
    for name in sorted(names):
        digest.update(name.encode() + (SOURCES / name).read_bytes())
    head = (VIEW / "page.js").read_text(encoding="utf-8")[:500]
    assert f"sources {digest.hexdigest()}\n" in head, "run `make web`"
    assert "Contains @dagrejs/dagre" in head
    assert "Permission is hereby granted, free of charge" in head


def test_libraries_are_pinned() -> None:
    packages = json.loads((SOURCES / "package.json").read_text())
    wanted = {**packages["dependencies"], **packages["devDependencies"]}
    locked = json.loads((SOURCES / "package-lock.json").read_text())["packages"]
    for name, version in wanted.items():
        assert re.fullmatch(r"\d+\.\d+\.\d+", version), name
        assert locked[f"node_modules/{name}"]["version"] == version
        assert locked[f"node_modules/{name}"]["integrity"].startswith("sha512-")


@pytest.mark.network
@pytest.mark.slow
def test_the_bundle_follows_from_its_sources(tmp_path: Path) -> None:
    if shutil.which("npm") is None:
        pytest.skip("node is not installed")
    web = tmp_path / "web"
    shutil.copytree(SOURCES, web, ignore=shutil.ignore_patterns("node_modules"))
    subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=web, check=True)
    subprocess.run(["npm", "run", "build"], cwd=web, check=True)
    assert (tmp_path / "page.js").read_bytes() == (VIEW / "page.js").read_bytes()
