"""Photographs pages of `brim view` for the docs: `python docs/view_pictures.py`.

Needs the extras `onnx`, `pictures` and `browser`, an installed Chromium, and the networks of
`bench/`, which the pages show.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from bench.nets import inception_v3
from brim.tools.view import view
from brim.view import view_page
from tests.browser import Opened, chromium

PICTURES = Path(__file__).with_name("pictures")
COLOURS = 255  # of the palette: 50 to 100 kB a picture


def inception() -> str:
    """The page of Inception-v3."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "inception_v3.onnx"
        path.write_bytes(inception_v3().SerializeToString())
        return view_page(view(path).plain())


def photographs(page: Any) -> dict[str, Image.Image]:
    """What somebody sees who opens the page and looks around, by file name."""
    found = {"view.png": photograph(page)}
    page.locator(".colours select").select_option("predicted")
    found["view-time.png"] = photograph(page)
    page.locator(".colours select").select_option("")
    page.keyboard.press("/")
    page.keyboard.type("conv 5×5")
    for _ in range(3):  # the third found
        page.keyboard.press("Enter")
    page.locator("input[type=search]").clear()
    page.locator("canvas[role=application]").focus()
    found["view-layer.png"] = photograph(page)
    return found


def photograph(page: Any) -> Image.Image:
    page.wait_for_timeout(500)
    shot = Image.open(io.BytesIO(page.screenshot()))
    return shot.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        path = Path(folder) / "view.html"
        path.write_text(inception(), encoding="utf-8")
        opened = Opened(browser, path, viewport={"width": 1400, "height": 900})
        opened.page.wait_for_selector("#view:not([aria-busy])")
        for name, picture in photographs(opened.page).items():
            picture.save(PICTURES / name, optimize=True)
            print(f"{name}: {(PICTURES / name).stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    sys.exit(main())
