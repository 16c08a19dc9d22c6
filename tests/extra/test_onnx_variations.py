"""Official cases in other operator sets and element types: brim means what a peer means.

Some thousand models, so all of it is slow. Every operator on which the peers are not followed is
listed with the reason, and a reason that is no longer needed fails, too.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from brim.errors import BrimError
from tests.extra.onnx_nodes import difference, interpret
from tests.extra.onnx_variations import Variation, in_other_sets, in_other_types, theirs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.peer,
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]
onnxruntime.set_default_logger_severity(4)

OTHER_SETS = {
    "Attention": "onnxruntime 1.32 masks the scores that it shows; the reference agrees with brim",
    "MaxUnpool": "onnxruntime counts indices in the larger output; the official case, as brim",
    "Mod": "floats without fmod are allowed from set 28 on; the reference does not check it",
    "Resize": "align_corners: onnxruntime rounds the size first; the official case does not",
}
OTHER_TYPES = {
    "BatchNormalization": "the reference gives running means the type of the input",
    "CastLike": "what a float out of range becomes is not defined; brim saturates",
    "Gemm": "integers times a fraction are refused; the reference cuts them off",
    "GridSample": "bools are not interpolated; the reference takes them as 0 and 1",
    "MaxUnpool": OTHER_SETS["MaxUnpool"],
    "ReduceL2": "the reference overflows when it squares integers",
    "ReduceSumSquare": "the reference gives u64 for u32",
    "Resize": "integers are cut off, as onnxruntime does; the reference rounds",
    "STFT": "near 0 onnxruntime is less exact; the reference agrees with brim",
    "Shrink": "onnxruntime negates unsigned thresholds; the reference agrees with brim",
}


def faults(variations: Iterable[Variation]) -> dict[str, list[str]]:
    """By operator: where brim gives something else than a peer, or refuses what that computes."""
    found: dict[str, list[str]] = {}
    count = 0
    for case in variations:
        count += 1
        expected = theirs(case.model, case.feeds)
        if expected is None:
            continue
        try:
            got = list(interpret(case.model.SerializeToString(), case.feeds).values())
            text = difference(got, expected, case.rtol, case.atol)
        except BrimError as error:
            text = str(error)
        if text:
            found.setdefault(case.op, []).append(f"{case.label}: {text}")
    assert count > 1000
    return found


def test_other_operator_sets() -> None:
    found = faults(in_other_sets())
    assert {op: texts for op, texts in found.items() if op not in OTHER_SETS} == {}
    assert set(found) == set(OTHER_SETS)


def test_all_element_types() -> None:
    found = faults(in_other_types(most=4))
    assert {op: texts for op, texts in found.items() if op not in OTHER_TYPES} == {}
    assert set(found) == set(OTHER_TYPES)
