"""Training in the engine: any imported model's weights are learned, and it is a model again."""

from brim.train.augment import Augment
from brim.train.compressed import compressed
from brim.train.data import Examples, read_examples, shuffled
from brim.train.delta import apply_delta, save_delta
from brim.train.distil import Distillation, distilling
from brim.train.exports import export, save_weights
from brim.train.finite import where_not_finite
from brim.train.fit import fit
from brim.train.history import Epoch, History
from brim.train.layers import Layers
from brim.train.losses import (
    BinaryCrossEntropy,
    Contrastive,
    CrossEntropy,
    Huber,
    KullbackLeibler,
    Loss,
    MeanAbsolute,
    MeanSquared,
    Triplet,
)
from brim.train.memory import limit_memory
from brim.train.metrics import Scores, evaluate
from brim.train.network import Network, network
from brim.train.on_device import on_device
from brim.train.optimisers import SGD, Adam, AdamW, Lion, Optimiser
from brim.train.pruning import pruned
from brim.train.qat import quantized
from brim.train.schedules import Cosine, OneCycle, Polynomial, Rate, Schedule, Steps, Warmup
from brim.train.step import training_step
from brim.train.weights import Source

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Augment",
    "BinaryCrossEntropy",
    "Contrastive",
    "Cosine",
    "CrossEntropy",
    "Distillation",
    "Epoch",
    "Examples",
    "History",
    "Huber",
    "KullbackLeibler",
    "Layers",
    "Lion",
    "Loss",
    "MeanAbsolute",
    "MeanSquared",
    "Network",
    "OneCycle",
    "Optimiser",
    "Polynomial",
    "Rate",
    "Schedule",
    "Scores",
    "Source",
    "Steps",
    "Triplet",
    "Warmup",
    "apply_delta",
    "compressed",
    "distilling",
    "evaluate",
    "export",
    "fit",
    "limit_memory",
    "network",
    "on_device",
    "pruned",
    "quantized",
    "read_examples",
    "save_delta",
    "save_weights",
    "shuffled",
    "training_step",
    "where_not_finite",
]
