"""Cases that go along time: RNN, LSTM, GRU; attention; Fourier transforms and windows."""

from __future__ import annotations

import numpy as np

from tests.extra.fuzz_models.draft import Draft, Tensor, Unfit, element_number
from tests.extra.fuzz_models.table import case

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
ACTIVATIONS = [
    "Relu", "Tanh", "Sigmoid", "Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh",
    "HardSigmoid", "Elu", "Softsign", "Softplus",
]  # fmt: skip


@case(*GATES)
def recurrent(d: Draft, name: str) -> None:
    gates, per = GATES[name], {"RNN": 1, "GRU": 2, "LSTM": 3}[name]
    direction = d.choose([None, "forward", "reverse", "bidirectional"])
    ways = 2 if direction == "bidirectional" else 1
    steps, batch, size, hidden = (d.integer(1, 4) for _ in range(4))
    kind = d.dtype(t for t in d.types(name) if t in ("float32", "float64"))
    layout = d.integer(0, 1) if d.has(name, "layout") and d.chance(0.2) else None

    def turned(shape: tuple[int, ...]) -> tuple[int, ...]:
        return (shape[1], shape[0], *shape[2:]) if layout else shape

    def state() -> Tensor:
        return d.tensor(turned((ways, batch, hidden)), kind, plain=True)

    x = d.tensor(turned((steps, batch, size)), kind, plain=True)
    w = d.tensor((ways, gates * hidden, size), kind, plain=True)
    r = d.tensor((ways, gates * hidden, hidden), kind, plain=True)
    bias = d.tensor((ways, 2 * gates * hidden), kind, plain=True) if d.chance() else None
    lengths = None
    if d.chance(0.3):
        lengths = d.feed(d.rng.integers(1, steps + 1, batch).astype(np.int32))
    first = state() if d.chance() else None
    more: dict = {"hidden_size": hidden, "direction": direction, "layout": layout}
    if d.chance(0.3):
        chosen = [d.choose(ACTIVATIONS) for _ in range(per * ways)]
        more["activations"] = chosen
        if {"Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid", "Elu"} & set(
            chosen
        ):
            more["activation_alpha"] = [d.number(0.1, 1) for _ in chosen]
            more["activation_beta"] = [d.number(0.1, 1) for _ in chosen]
    if d.chance(0.2):
        more["clip"] = d.number(0.2, 3)
    if name == "GRU" and d.chance():
        more["linear_before_reset"] = d.integer(0, 1)
    if name != "LSTM":
        d.add(name, x, w, r, bias, lengths, first, outputs=d.integer(1, 2), **more)
        return
    if d.chance(0.15):
        more["input_forget"] = 1
    cell = state() if d.chance() else None
    peep = d.tensor((ways, 3 * hidden), kind, plain=True) if d.chance(0.3) else None
    d.add(name, x, w, r, bias, lengths, first, cell, peep, outputs=d.integer(1, 3), **more)


@case("Attention")
def attention(d: Draft, name: str) -> None:
    batch, heads, size = d.integer(1, 2), d.integer(1, 3), d.choose([2, 4, 8])
    shared = heads if d.chance(0.6) else 1
    queries, keys, past = d.integer(1, 4), d.integer(1, 5), d.integer(0, 3)
    deep = d.integer(1, 5) if d.chance(0.3) else size
    kind = d.dtype(t for t in d.types(name) if t in ("float32", "float16"))
    flat = d.chance(0.4)

    def operand(count: int, length: int, width: int) -> Tensor:
        shape = (batch, length, count * width) if flat else (batch, count, length, width)
        return d.tensor(shape, kind, plain=True)

    q, k, v = (
        operand(heads, queries, size),
        operand(shared, keys, size),
        operand(shared, keys, deep),
    )
    before: list[Tensor | None] = [None, None]
    if d.chance(0.4):
        before = [
            d.tensor((batch, shared, past, width), kind, plain=True) for width in (size, deep)
        ]
    total = keys + (past if before[0] else 0)
    mask = None
    if d.chance():
        shape = d.choose([(queries, total), (1, 1, queries, total), (batch, heads, queries, total)])
        mask = d.tensor(shape, "bool" if d.chance() else kind, plain=True)
        if mask.dtype == "bool":
            array = mask.array.copy()
            array[..., 0] = True  # a row of nothing has no softmax
            mask = d.feed(array)
    more: dict = {"is_causal": d.choose([None, 0, 1]), "scale": d.choose([None, 0.5])}
    if flat:
        more |= {"q_num_heads": heads, "kv_num_heads": shared}
    if d.chance(0.3):
        more["softcap"] = d.choose([1.0, 3.0])
    outputs = 1
    if before[0]:
        outputs = 3
    if d.chance(0.2):
        outputs, more["qk_matmul_output_mode"] = 4, d.integer(0, 3)
        if not before[0]:
            raise Unfit("the fourth output stands after the present keys")
    d.add(name, q, k, v, mask, *before, outputs=outputs, **more)


@case("RotaryEmbedding")
def rotary(d: Draft, name: str) -> None:
    batch, heads, steps, half = d.integer(1, 2), d.integer(1, 3), d.integer(1, 4), d.integer(1, 3)
    size = 2 * half
    turned = 2 * d.integer(1, half) if d.chance(0.3) else None
    kind = d.dtype(t for t in d.types(name) if t in ("float32", "float16"))
    flat = d.chance(0.4)
    shape = (batch, steps, heads * size) if flat else (batch, heads, steps, size)
    width = (turned or size) // 2
    more: dict = {"interleaved": d.choose([None, 0, 1]), "rotary_embedding_dim": turned}
    if flat or turned:
        more["num_heads"] = heads
    places = None
    table: tuple[int, ...] = (batch, steps, width)
    if d.chance(0.6):
        table = (steps + 3, width)
        places = d.feed(d.rng.integers(0, steps + 3, (batch, steps)).astype(np.int64))
    angles = d.rng.uniform(-3, 3, table)
    cos, sin = (d.feed(f(angles).astype(kind)) for f in (np.cos, np.sin))
    d.add(name, d.tensor(shape, kind, plain=True), cos, sin, places, **more)


@case("DFT")
def dft(d: Draft, name: str) -> None:
    kind = d.dtype(t for t in d.types(name) if t in ("float32", "float64"))
    inverse = d.chance(0.4)
    complex_input = inverse or d.chance(0.4)
    shape = (d.integer(1, 2), *(d.integer(1, 9) for _ in range(d.integer(1, 2))))
    x = d.tensor((*shape, 2 if complex_input else 1), kind, plain=True)
    axis = d.integer(1, len(shape) - 1)
    more: dict = {"inverse": 1 if inverse else d.choose([None, 0])}
    if not complex_input and d.chance():
        more["onesided"] = 1
    length = d.scalar(d.integer(1, 12), "int64") if d.chance(0.4) else None
    if d.opset < 20:
        d.add(name, x, length, axis=axis, **more)
    else:
        given = axis - x.rank if d.chance() else axis
        d.add(name, x, length, d.scalar(given, "int64"), **more)


@case("STFT")
def stft(d: Draft, name: str) -> None:
    frame, step = d.integer(2, 9), d.integer(1, 4)
    n = frame + step * d.integer(0, 4) + d.integer(0, step - 1)
    complex_input = d.chance(0.2)
    kind = d.dtype(t for t in d.types(name) if t in ("float32", "float64"))
    x = d.tensor((d.integer(1, 2), n, 2 if complex_input else 1), kind, plain=True)
    window = d.tensor((frame,), kind, plain=True) if d.chance(0.6) else None
    length = d.scalar(frame, "int64") if window is None or d.chance() else None
    onesided = 0 if complex_input else d.choose([None, 0, 1])
    d.add(name, x, d.scalar(step, "int64"), window, length, onesided=onesided)


@case("HannWindow", "HammingWindow", "BlackmanWindow")
def windows(d: Draft, name: str) -> None:
    size = d.scalar(d.integer(3, 17), d.choose(["int32", "int64"]))
    kind = element_number(d.dtype(("float32", "float64"))) if d.chance() else None
    d.add(name, size, periodic=d.choose([None, 0, 1]), output_datatype=kind)


@case("MelWeightMatrix")
def mel_weights(d: Draft, name: str) -> None:
    rate = d.choose([8000, 16000])
    low, high = d.choose([0.0, 20.0, 125.0]), d.choose([rate / 2, rate / 4])
    values = [
        d.scalar(d.integer(2, 8), "int64"),
        d.scalar(d.choose([16, 64, 128]), "int64"),
        d.scalar(rate, "int64"),
        d.scalar(low, "float32"),
        d.scalar(high, "float32"),
    ]
    d.add(name, *values)
