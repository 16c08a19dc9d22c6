"""Differential fuzzing: random valid ONNX models through brim, onnxruntime and onnx's reference.

    python -m tests.extra.fuzz_models --count 20000 --seed 0

`operators_*.py` say how a node of each ONNX operator is drawn (one function each: the place to add
one), `draft` composes nodes to a model, `engines` runs it, `judge` compares, `known` lists what
others get wrong, `shrink` makes failures small, `runner` keeps it all alive in child processes.
"""
