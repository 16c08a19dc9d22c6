"""Reading text in pictures with the PP-OCR networks: the kit `Text`, and its parts."""

from brim.vision.text.kit import Lines, Text
from brim.vision.text.reading import Line, read_text

__all__ = ["Line", "Lines", "Text", "read_text"]
