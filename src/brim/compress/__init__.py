"""Compression with a contract: a model becomes smaller and faster and keeps its accuracy."""

from brim.compress.pipeline import ContractError, quantize
from brim.compress.recipe import Int8, LowRank, Prune, Recipe, Storage, Weights, read_recipe
from brim.compress.report import Report

__all__ = [
    "ContractError",
    "Int8",
    "LowRank",
    "Prune",
    "Recipe",
    "Report",
    "Storage",
    "Weights",
    "quantize",
    "read_recipe",
]
