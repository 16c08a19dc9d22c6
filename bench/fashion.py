"""Fashion-MNIST: 60,000 + 10,000 photos of clothes, 28x28, grey, ten classes (Xiao, Rasul and
Vollgraf 2017, arXiv:1708.07747; MIT licence), and the network of ours that was trained on it.

The files are those of Debian's package dataset-fashion-mnist; another folder that holds them is
named by BRIM_FASHION_MNIST. `bench/train_fashion.py` trains such a network.
"""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Literal

import numpy as np

from brim.errors import InputError

MODEL = Path(__file__).parent / "models" / "fashion_mnist.onnx"
DEBIAN = "/usr/share/datasets/fashion-mnist"
SIDE = 28
PARTS = {"train": ("train", 60_000), "test": ("t10k", 10_000)}


def folder() -> Path:
    """Where the four .gz files are. Raises InputError if they are not there."""
    found = Path(os.environ.get("BRIM_FASHION_MNIST") or DEBIAN)
    if not (found / "t10k-images-idx3-ubyte.gz").is_file():
        raise InputError(
            "there is no Fashion-MNIST",
            where=str(found),
            hint="apt install dataset-fashion-mnist, or set BRIM_FASHION_MNIST to the folder of "
            "its .gz files",
        )
    return found


def load(part: Literal["train", "test"]) -> tuple[np.ndarray, np.ndarray]:
    """Pictures as f32[samples, 1, 28, 28] in 0..1, and labels as i64[samples].

    Raises InputError if the files are not there or not those.
    """
    prefix, samples = PARTS[part]
    pictures = _idx(f"{prefix}-images-idx3-ubyte.gz", (samples, SIDE, SIDE))
    labels = _idx(f"{prefix}-labels-idx1-ubyte.gz", (samples,))
    scaled = pictures[:, None].astype(np.float32)
    scaled /= 255
    return scaled, labels.astype(np.int64)


def _idx(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Bytes of an IDX file: 0, 0, 8 (u8), rank; each dimension as big-endian i32; the data."""
    path = folder() / name
    content = gzip.decompress(path.read_bytes())
    header = bytes([0, 0, 8, len(shape)]) + np.array(shape, ">i4").tobytes()
    if not content.startswith(header) or len(content) != len(header) + np.prod(shape):
        raise InputError(f"{path} is not Fashion-MNIST's", why=f"expected u8{list(shape)}")
    return np.frombuffer(content, np.uint8, offset=len(header)).reshape(shape)
