"""Random numbers: uniform, normal, classes by their chance, and StableHLO's bits from a state.

The first three are arithmetic on brim's one random operator, so their numbers are of the same
distribution as LiteRT's, not the same; what a seed means is told in `brim.seeds`.
"""

from __future__ import annotations

import math
import zlib

import numpy as np

import brim.ops.primitive as p
from brim.errors import ModelError
from brim.frontends.bounds import bounded, kept
from brim.frontends.tflite.table import Call, operator
from brim.graph import Value, const
from brim.ops.random import DRAWN, classes, random
from brim.types import F64


def _drawn(call: Call, shape: tuple[int, ...], normal: bool = False) -> Value:
    seeds = (call.int("seed", 0), call.int("seed2", 0))
    if math.prod(bounded(shape)) > DRAWN:
        raise ModelError(f"{call.name} of shape {shape} is refused", f"over {DRAWN} elements")
    seed = zlib.crc32(repr(seeds).encode()) if any(seeds) else None
    return random(shape=tuple(shape), normal=normal, seed=seed, stream=call.result().name)


@operator("RANDOM_UNIFORM", "RANDOM_STANDARD_NORMAL")
def numbers(call: Call) -> Value:
    normal = call.name.endswith("NORMAL")
    return p.cast(_drawn(call, call.integers(0), normal), to=call.result_dtype())


@operator("MULTINOMIAL")
def multinomial(call: Call) -> Value:
    logits, count = call[0], call.integer(1)
    if len(logits.shape) != 2 or not logits.shape[1] or count < 1:
        raise ModelError(f"MULTINOMIAL of {count} samples from {logits.type}")
    batch, kinds = logits.shape
    bounded((batch, count, kinds))
    found = classes(p.cast(logits, to=F64), _drawn(call, (batch, count)))
    return p.cast(found, to=call.result_dtype())


# ------------------------------------------------------------------ counter-based generators

_WORD = np.uint64(0xFFFFFFFF)


@operator("STABLEHLO_RNG_BIT_GENERATOR")
def rng_bit_generator(call: Call) -> list[Value]:
    """The next state and random bits, by generators that count (Salmon et al. 2011, "Parallel
    random numbers: as easy as 1, 2, 3")."""
    algorithm = call.choice("algorithm", ("default", "philox", "threefry"), 0)
    tensor, dtype = call.result(1), call.result_dtype(1)
    kept(*tensor.shape)
    (state,) = call.arrays(call[0].shape, tensor.shape)
    words = state.astype(np.uint64).view(np.uint32).astype(np.uint64)
    wanted = math.prod(tensor.shape) * dtype.bytes // 4
    lanes = 2 if algorithm == "threefry" else 4
    if words.size not in ((4,) if lanes == 2 else (4, 6)):
        raise ModelError(f"{call.name} by {algorithm} from a state of {state.size} numbers")
    blocks = -(-wanted // lanes)
    first = int(words[2] | words[3] << np.uint64(32))
    count = np.uint64(first) + np.arange(blocks, dtype=np.uint64)
    counter = [count & _WORD, count >> np.uint64(32)]
    if lanes == 2:
        found = _threefry(words[0], words[1], counter)
    else:
        rest = words[4:] if words.size == 6 else words[:2]
        found = _philox(words[0], words[1], [*counter, *(np.full(blocks, w) for w in rest)])
    bits = np.stack(found, 1).astype(np.uint32).reshape(-1)[:wanted]
    after = state.astype(np.uint64)
    after[1] = np.uint64((first + blocks) % (1 << 64))
    array = bits.view(dtype.numpy).reshape(tensor.shape)
    return [const(after.astype(state.dtype)), const(array)]


def _threefry(k0: np.uint64, k1: np.uint64, counter: list[np.ndarray]) -> list[np.ndarray]:
    """Threefry-2x32 of 20 rounds; 32-bit words in 64 bits."""
    keys = (k0, k1, k0 ^ k1 ^ np.uint64(0x1BD11BDA))
    x, y = (counter[0] + k0) & _WORD, (counter[1] + k1) & _WORD
    for group in range(5):
        for turn in ((13, 15, 26, 6), (17, 29, 16, 24))[group % 2]:
            x = (x + y) & _WORD
            y = ((y << np.uint64(turn)) | (y >> np.uint64(32 - turn))) & _WORD ^ x
        x = (x + keys[(group + 1) % 3]) & _WORD
        y = (y + keys[(group + 2) % 3] + np.uint64(group + 1)) & _WORD
    return [x, y]


def _philox(k0: np.uint64, k1: np.uint64, counter: list[np.ndarray]) -> list[np.ndarray]:
    """Philox-4x32 of 10 rounds; 32-bit words in 64 bits."""
    half = np.uint64(32)
    for _ in range(10):
        first, second = np.uint64(0xD2511F53) * counter[0], np.uint64(0xCD9E8D57) * counter[2]
        counter = [
            second >> half ^ counter[1] ^ k0,
            second & _WORD,
            first >> half ^ counter[3] ^ k1,
            first & _WORD,
        ]
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & _WORD, (k1 + np.uint64(0xBB67AE85)) & _WORD
    return counter
