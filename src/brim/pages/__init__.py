"""Pages that brim writes for people: one file each, light and dark, without any network."""

from brim.pages.charts import Axis, Boxes, Line, Points, chart, spanning
from brim.pages.page import bullets, card, frame, page, safe, table
from brim.pages.plots import Distribution

__all__ = [
    "Axis",
    "Boxes",
    "Distribution",
    "Line",
    "Points",
    "bullets",
    "card",
    "chart",
    "frame",
    "page",
    "safe",
    "spanning",
    "table",
]
