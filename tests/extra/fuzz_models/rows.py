"""The complete table: whoever looks cases up here has imported every file that declares some."""

from tests.extra.fuzz_models import (
    operators_control,
    operators_elementwise,
    operators_index,
    operators_matrix,
    operators_nn,
    operators_quantized,
    operators_reduce,
    operators_sequence,
    operators_shape,
    operators_vision,
)
from tests.extra.fuzz_models.table import CASES, Case

__all__ = [
    "CASES",
    "Case",
    "operators_control",
    "operators_elementwise",
    "operators_index",
    "operators_matrix",
    "operators_nn",
    "operators_quantized",
    "operators_reduce",
    "operators_sequence",
    "operators_shape",
    "operators_vision",
]
