"""`brim compare`: where two ways to compute a model part, and by how much in every layer."""

from brim.tools.compare.compare import Comparison, compare
from brim.tools.compare.page import comparison_page

__all__ = ["Comparison", "compare", "comparison_page"]
