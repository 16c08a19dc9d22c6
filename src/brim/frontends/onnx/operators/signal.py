"""ONNX signal processing: windows, mel bands, Fourier transforms as matrix products."""

from __future__ import annotations

import math

import numpy as np

import brim.ops.primitive as p
from brim.errors import ModelError
from brim.frontends.bounds import bounded, front, ramp
from brim.frontends.onnx.table import Call, NeedsData, host, operator
from brim.frontends.onnx.tensors import element
from brim.graph import Value, const
from brim.ops.fourier import fourier

_COSINES = {
    "HannWindow": (0.5, 0.5, 0.0),
    "HammingWindow": (25 / 46, 21 / 46, 0.0),
    "BlackmanWindow": (0.42, 0.5, 0.08),
}
_LARGEST = 1 << 11  # length of a transform that is still a matrix


@host(*_COSINES)
def cosine_window(call: Call, size: np.ndarray) -> np.ndarray:
    dtype = element(call.int("output_datatype", 1)).numpy
    n = int(size.reshape(-1)[0])
    if not 0 <= n <= 1 << 24:
        raise ModelError(f"a window of {n} elements is refused")
    a, b, c = _COSINES[call.node.op]
    angle = 2 * math.pi * ramp(n) / max(n if call.flag("periodic", True) else n - 1, 1)
    return (a - b * np.cos(angle) + c * np.cos(2 * angle)).astype(dtype)


def _transform(x: Value, axis: int, length: int, inverse: bool, onesided: bool) -> Value:
    """The Fourier transform along `axis` of x[..., 1 or 2] (real, imaginary), as [..., 2]."""
    rank = len(x.shape)
    if x.shape[-1] not in (1, 2):
        raise ModelError(f"the last axis of {x.type} holds real and imaginary part, so 1 or 2")
    n = x.shape[axis]
    if n > length:
        sizes = tuple(length if i == axis else s for i, s in enumerate(x.shape))
        x = p.slice(x, starts=(0,) * rank, sizes=sizes, steps=(1,) * rank)
    elif n < length:
        high = tuple(length - n if i == axis else 0 for i in range(rank))
        x = p.pad(x, low=(0,) * rank, high=high, value=0)
    count = length // 2 + 1 if onesided else length
    if onesided and inverse:
        raise ModelError("a one-sided inverse transform")
    if length > _LARGEST:
        raise ModelError(f"a Fourier transform of {length} elements is refused")

    def component(i: int) -> Value:
        starts = (*(0,) * (rank - 1), i)
        part = p.slice(x, starts=starts, sizes=(*x.shape[:-1], 1), steps=(1,) * rank)
        return p.reshape(part, shape=x.shape[:-1])

    imaginary = component(1) if x.shape[-1] == 2 else None
    a, b = fourier(component(0), imaginary, axis=axis, count=count, inverse=inverse)
    y = p.concat(*(p.reshape(v, shape=(*v.shape, 1)) for v in (a, b)), axis=rank - 1)
    return p.mul(y, 1 / length) if inverse else y


@operator("DFT", since=17)
def dft_17(call: Call) -> Value:
    return _dft(call, call.int("axis", 1))


@operator("DFT", since=20)
def dft(call: Call) -> Value:
    return _dft(call, int(call.array(2).reshape(-1)[0]) if call.given(2) else -2)


def _dft(call: Call, axis: int) -> Value:
    x = call[0]
    axis = front(axis, len(x.shape))
    if axis == len(x.shape) - 1:
        raise ModelError("the axis of a DFT is that of real and imaginary part")
    length = int(call.array(1).reshape(-1)[0]) if call.given(1) else x.shape[axis]
    inverse, onesided = call.flag("inverse"), call.flag("onesided")
    if length < 1:
        raise ModelError(f"a Fourier transform of {length} elements")
    if (length > _LARGEST and not inverse) or (inverse and not onesided):
        return _long(x, axis, length, inverse, onesided)
    if not (inverse and onesided):
        return _transform(x, axis, length, inverse, onesided)
    return _inverse_real(x, axis, length, call)


def _long(x: Value, axis: int, length: int, inverse: bool, onesided: bool) -> Value:
    """A transform by the fast algorithm, which runs on the host. Raises NeedsData."""
    if not x.is_const:
        raise NeedsData("a long or inverse Fourier transform")
    y = _fast(x.data, axis, length, inverse)  # type: ignore[arg-type]
    if not onesided:
        return y
    sizes = tuple(length // 2 + 1 if i == axis else n for i, n in enumerate(y.shape))
    return p.slice(y, starts=(0,) * len(sizes), sizes=sizes, steps=(1,) * len(sizes))


def _fast(x: np.ndarray, axis: int, length: int, inverse: bool) -> Value:
    if x.shape[-1] not in (1, 2):
        raise ModelError(f"the last axis of {x.shape} holds real and imaginary part, so 1 or 2")
    bounded((x.size, length))
    parts = x[..., 0] + 1j * x[..., 1] if x.shape[-1] == 2 else x[..., 0]
    parts = parts.astype(np.complex128 if x.dtype == np.float64 else np.complex64)
    y = (np.fft.ifft if inverse else np.fft.fft)(parts, length, axis=axis)
    return const(np.stack([y.real, y.imag], -1).astype(x.dtype))


def _inverse_real(x: Value, axis: int, length: int, call: Call) -> Value:
    """The real signal [..., 1] of `length` whose one-sided spectrum x is."""
    if not call.given(1):
        length = 2 * (x.shape[axis] - 1)
    half = length // 2 + 1
    if x.shape[axis] < half or x.shape[-1] != 2 or length < 1:
        raise ModelError(f"a one-sided spectrum {x.type} for a signal of {length}")
    rank = len(x.shape)
    index = ramp(length)
    mirrored = index >= half
    sources = const(np.where(mirrored, length - index, index))
    full = p.gather(x, sources, axis=axis)
    signs = np.ones((length, 2))
    signs[mirrored, 1] = -1
    shape = [1] * rank
    shape[axis], shape[-1] = length, 2
    full = p.mul(full, const(signs.reshape(shape).astype(x.dtype.numpy)))
    y = _transform(full, axis, length, True, False)
    return p.slice(y, starts=(0,) * rank, sizes=(*y.shape[:-1], 1), steps=(1,) * rank)


@operator("STFT", since=17)
def stft(call: Call) -> Value:
    signal, step = call[0], int(call.array(1).reshape(-1)[0])
    onesided = call.flag("onesided", True)
    x = signal if len(signal.shape) == 3 else p.reshape(signal, shape=(*signal.shape, 1))
    window = call.get(2)
    if call.given(3):
        length = int(call.array(3).reshape(-1)[0])
    elif window is not None:
        length = window.shape[0]
    else:
        raise ModelError("STFT needs a window or a frame length")
    if step < 1 or length < 1:
        raise ModelError(f"STFT with frames of {length} every {step}")
    if onesided and x.shape[-1] == 2:
        raise ModelError("a one-sided transform of a complex signal")
    frames = p.window(x, axes=(1,), size=(length,), stride=(step,), dilation=(1,))
    frames = p.transpose(frames, perm=(0, 1, 3, 2))
    if window is not None:
        if window.shape != (length,):
            raise ModelError(f"window {window.type} for frames of {length}")
        frames = p.mul(frames, p.reshape(window, shape=(length, 1)))
    if length > _LARGEST:
        return _long(frames, 2, length, False, onesided)
    return _transform(frames, 2, length, False, onesided)


@host("MelWeightMatrix")
def mel_weight_matrix(call: Call, *arrays: np.ndarray) -> np.ndarray:
    dtype = element(call.int("output_datatype", 1)).numpy
    bands, length, rate = (int(a.reshape(-1)[0]) for a in arrays[:3])
    low, high = (float(a.reshape(-1)[0]) for a in arrays[3:5])
    count = length // 2 + 1
    bounded((count, bands))
    if bands < 1 or count * bands > 1 << 24 or rate < 1 or low < 0 or high < low:
        raise ModelError(f"a mel matrix of {count} x {bands} is refused")

    def mel(hertz: float) -> float:
        return 2595 * math.log10(1 + hertz / 700)

    # ONNX's definition divides by the number of edges, not of intervals
    edges = mel(low) + (mel(high) - mel(low)) / (bands + 2) * ramp(bands + 2)
    bins = ((length + 1) * 700 * (10 ** (edges / 2595) - 1) // rate).astype(np.int64)
    left, centre, right = bins[:-2], bins[1:-1], bins[2:]
    at = ramp(count)[:, None]
    rise = np.where(left == centre, 1.0, (at - left) / np.maximum(centre - left, 1))
    fall = (right - at) / np.maximum(right - centre, 1)
    y = np.where((at >= left) & (at <= centre), rise, 0.0)
    return np.where((at >= centre) & (at < right), fall, y).astype(dtype)
