"""Training in the engine: any imported model's weights are learned, and it is a model again."""

from brim.train.network import Network, network
from brim.train.weights import Source

__all__ = ["Network", "Source", "network"]
