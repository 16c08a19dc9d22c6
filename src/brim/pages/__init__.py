"""Pages that brim writes for people: one file each, light and dark, without any network."""

from brim.pages.page import bullets, card, page, safe
from brim.pages.plots import Distribution

__all__ = ["Distribution", "bullets", "card", "page", "safe"]
