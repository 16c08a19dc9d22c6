"""What became of a model: every kernel, how it was chosen, and how far it is from its roof."""

from brim.tools.explain.facts import Explained, Explanation, Priced, explain

__all__ = ["Explained", "Explanation", "Priced", "explain"]
