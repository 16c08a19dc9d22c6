"""Operators of onnxruntime that brim refuses on purpose, each with its reason and a way out."""

from __future__ import annotations

from brim.frontends.onnx.table import MICROSOFT, refuse

_BLOCKED = ("a file of the domain com.microsoft.nchwc", "its weights are laid out for one machine")
_GENERATION = ("a search for the next words inside the graph", "it runs a whole model in a loop")
_EXPERTS = ("a mixture of experts", "which experts run depends on the data")


def _refuse(names: str, what: tuple[str, str], hint: str, domain: str = MICROSOFT) -> None:
    refuse(*names.split(), what=what[0], why=what[1], hint=hint, domain=domain)


_refuse(
    "ReorderInput ReorderOutput Conv MaxPool AveragePool GlobalMaxPool GlobalAveragePool Upsample",
    _BLOCKED,
    "save the optimised model with the graph optimisation level ORT_ENABLE_EXTENDED, or not at all",
    "com.microsoft.nchwc",
)
_refuse(
    "BeamSearch GreedySearch Sampling WhisperBeamSearch",
    _GENERATION,
    "load the decoder alone and choose the words in your own code",
)
_refuse("MoE QMoE", _EXPERTS, "export the experts one by one")
_refuse(
    "SparseAttention SparseToDenseMatMul",
    ("a sparse layout", "brim has no sparse tensors"),
    "export with dense attention and weights",
)
_refuse(
    "PackedAttention PackedMultiHeadAttention GatedRelativePositionBias RemovePadding "
    "RestorePadding NhwcConv GroupNorm SkipGroupNorm BiasSplitGelu BiasAdd NhwcFusedConv "
    "LongformerAttention DecoderAttention DecoderMaskedSelfAttention QOrderedMatMul",
    ("a fusion for GPUs", "onnxruntime's CPU lacks it, too, so nothing can be compared"),
    "optimise the model for the CPU, or not at all",
)
