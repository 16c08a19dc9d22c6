"""The conformance table on this machine's code: every row, compiled, equals numpy.

All rows of an operator are one graph, so that an operator costs one compilation.
"""

from __future__ import annotations

import numpy as np
import pytest

import brim
from brim.graph import Graph, Value, evaluate, placeholder
from brim.ops import OPS
from brim.ops.registry import emit
from tests.conformance import CASES
from tests.storage_numbers import plain


@pytest.mark.parametrize("name", sorted(CASES))
def test_compiled_equals_numpy(name: str) -> None:
    inputs: dict[str, Value] = {}
    outputs: dict[str, Value] = {}
    feeds: dict[str, np.ndarray] = {}
    for row, case in enumerate(CASES[name]):
        args = []
        for column, (type_, array) in enumerate(zip(case.types(), case.arrays())):
            key = f"x{row}_{column}"
            inputs[key], feeds[key] = placeholder(type_), array
            args.append(inputs[key])
        outputs[f"y{row}"] = emit(OPS[name], *args, **case.attrs)
    graph = Graph(inputs, outputs, name)
    found, wanted = brim.compile(graph).run(feeds), evaluate(graph, feeds)
    for row, case in enumerate(CASES[name]):
        a, b = found[f"y{row}"], wanted[f"y{row}"]
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        a, b = plain(a), plain(b)
        if b.dtype.kind == "f":
            near = {2: 4e-3, 4: 1e-5, 8: 1e-10}[b.dtype.itemsize]
            np.testing.assert_allclose(a, b, rtol=near, atol=near, err_msg=str(case))
        else:
            np.testing.assert_array_equal(a, b, err_msg=str(case))
