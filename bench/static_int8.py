"""int8 networks as onnxruntime's quantizer makes them: what peers run, and what ours is held to.

Its own guide is followed: batch norms are folded before, weights are signed and have a scale for
each channel, activations are unsigned with a zero point, ranges are the extremes that were seen.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal

import numpy as np

Form = Literal["QDQ", "QOperator"]
Feeds = Mapping[str, np.ndarray]


def static_int8(
    source: Path, target: Path, form: Form, batches: Iterable[Feeds], per_channel: bool = True
) -> Path:
    """`target`: the ONNX file `source` in int8, its ranges those seen on `batches`.

    Form "QDQ" keeps float operators between pairs of QuantizeLinear and DequantizeLinear,
    "QOperator" has QLinearConv and its kin. Raises ModuleNotFoundError without onnxruntime.
    """
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self._left: Iterator[Feeds] = iter(batches)

        def get_next(self) -> dict[str, np.ndarray] | None:
            feeds = next(self._left, None)
            return None if feeds is None else dict(feeds)

    folded = target.with_suffix(".folded.onnx")
    logging.disable(logging.WARNING)  # it recommends, for each file, what is done here
    try:
        quant_pre_process(str(source), str(folded), skip_symbolic_shape=True)
        quantization.quantize_static(
            str(folded),
            str(target),
            Reader(),
            quant_format=quantization.QuantFormat[form],
            per_channel=per_channel,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
    finally:
        logging.disable(logging.NOTSET)
        folded.unlink(missing_ok=True)
    return target
