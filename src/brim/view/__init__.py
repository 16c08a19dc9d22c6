"""A model's structure as a page: its document here, the drawing in the browser."""

from brim.view.document import Document
from brim.view.page import view_page

__all__ = ["Document", "view_page"]
