"""Signals: Fourier transforms, complex numbers, spectrograms, and what speech models hear."""

from __future__ import annotations

import math

import numpy as np

import brim.ops.primitive as p
from brim.errors import ModelError
from brim.frontends.bounds import bounded, kept
from brim.frontends.tflite.table import Call, Pair, operator
from brim.graph import Value, const
from brim.ops.fourier import fourier
from brim.ops.math import matmul


@operator("RFFT2D")
def rfft2d(call: Call) -> Pair:
    """The last two axes as frequencies, of the last one those that are not negative."""
    x, lengths = call[0], call.integers(1)
    if len(x.shape) < 2 or len(lengths) != 2 or min(lengths) < 1:
        raise ModelError(f"RFFT2D of {x.type} over {lengths}")
    x = _fitted(x, lengths)
    rank = len(x.shape)
    real, imaginary = fourier(x, None, axis=rank - 1, count=lengths[1] // 2 + 1)
    if lengths[0] == 1:
        return Pair(real, imaginary)
    return Pair(*fourier(real, imaginary, axis=rank - 2, count=lengths[0]))


def _fitted(x: Value, lengths: tuple[int, ...]) -> Value:
    """x with zeros behind its last axes, or without their ends, so that they have `lengths`."""
    lead = x.shape[: len(x.shape) - len(lengths)]
    sizes = (*lead, *(min(n, m) for n, m in zip(x.shape[len(lead) :], lengths)))
    x = p.slice(x, starts=(0,) * len(sizes), sizes=sizes, steps=(1,) * len(sizes))
    high = tuple(m - n for n, m in zip(sizes, bounded((*lead, *lengths))))
    return p.pad(x, low=(0,) * len(high), high=high, value=0)


def _complex(call: Call) -> Pair:
    found = call.operand(0)
    if not isinstance(found, Pair):
        raise ModelError(f"{call.name} takes complex numbers")
    return found


@operator("REAL")
def real(call: Call) -> Value:
    return _complex(call).real


@operator("IMAG")
def imag(call: Call) -> Value:
    return _complex(call).imaginary


@operator("COMPLEX_ABS")
def complex_abs(call: Call) -> Value:
    z = _complex(call)
    return p.sqrt(p.add(p.mul(z.real, z.real), p.mul(z.imaginary, z.imaginary)))


# ------------------------------------------------------------------ custom operators for speech


@operator("AudioSpectrogram")
def audio_spectrogram(call: Call) -> Value:
    """Magnitudes[C, frames, frequencies] of samples[T, C] under Hann windows."""
    size, step = call.int("window_size"), call.int("stride")
    if size < 2 or step < 1 or len(call[0].shape) != 2:
        raise ModelError(f"windows of {size} every {step} over {call[0].type}")
    length = 1 << (size - 1).bit_length()
    kept(size, length // 2 + 1)
    hann = 0.5 - 0.5 * np.cos(2 * math.pi / size * np.arange(size))
    samples, channels = call[0].shape
    frames = max((samples - size) // step + 1, 0)
    if not frames:
        return const(np.zeros((channels, 0, length // 2 + 1), np.float32))
    x = p.transpose(call[0], perm=(1, 0))
    x = p.window(x, axes=(1,), size=(size,), stride=(step,), dilation=(1,))
    x = _fitted(p.mul(x, const(hann.astype(np.float32))), (length,))
    a, b = fourier(x, None, axis=2, count=length // 2 + 1)
    power = p.add(p.mul(a, a), p.mul(b, b))
    return power if call.flag("magnitude_squared") else p.sqrt(power)


@operator("Mfcc")
def mfcc(call: Call) -> Value:
    """Cosine transform of the logarithms of mel bands, of a power spectrogram[C, frames, n]."""
    bands, count = call.int("filterbank_channel_count"), call.int("dct_coefficient_count")
    low, high = call.float("lower_frequency_limit"), call.float("upper_frequency_limit")
    rate, n = call.integer(1), call[0].shape[-1]
    if not 1 <= count <= bands or n < 2 or rate <= 0 or not 0 <= low < high:
        raise ModelError(f"{count} coefficients of {bands} bands from {low} to {high} of {rate} Hz")
    kept(n, bands)
    size = p.sqrt(call[0])
    energy = matmul(size, const(_mel_bands(n, bands, rate, (low, high)).astype(np.float32)))
    angle = math.pi / bands * np.outer(np.arange(bands) + 0.5, np.arange(count))
    cosines = math.sqrt(2 / bands) * np.cos(angle)
    logarithms = p.log(p.maximum(energy, 1e-12))
    return matmul(logarithms, const(cosines.astype(np.float32)))


def _mel_bands(n: int, bands: int, rate: int, limits: tuple[float, float]) -> np.ndarray:
    """Weights[n, bands] of overlapping triangles, evenly spread over the mel scale."""

    def mel(hertz: np.ndarray | float) -> np.ndarray:
        return 1127.0 * np.log1p(np.asarray(hertz) / 700.0)

    low, high = (float(mel(limit)) for limit in limits)
    edges = low + (high - low) / (bands + 1) * np.arange(bands + 2)
    step = 0.5 * rate / (n - 1)
    first, last = int(1.5 + limits[0] / step), min(int(limits[1] / step), n - 1)
    weights = np.zeros((n, bands))
    for i in range(first, last + 1):
        at = float(mel(i * step))
        band = int(np.clip(np.searchsorted(edges[1:], at) - 1, -1, bands - 1))
        falling = (edges[band + 2] - at) / (edges[band + 2] - edges[band + 1])
        if band >= 0:
            weights[i, band] += falling
        if band + 1 < bands:
            weights[i, band + 1] += 1 - falling
    return weights
