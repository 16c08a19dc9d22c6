"""The packages that brim uses: which are there, in which versions, and what each is for."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version


@dataclass(frozen=True)
class Package:
    """A package. name: the distribution's; module: what is imported; least: the oldest version that
    works; extra: of brim, that brings it, "" for what must be there; purpose: what it is for."""

    name: str
    module: str
    least: str
    extra: str
    purpose: str


@dataclass(frozen=True)
class Installed:
    """What is there of a package. version: "" where it is missing; fault: why it cannot be
    imported, or used."""

    package: Package
    version: str
    fault: str


PACKAGES = tuple(
    Package(*row)
    for row in (
        ("numpy", "numpy", "2.0", "", "arrays"),
        (
            "llvmlite",
            "llvmlite",
            "0.48",
            "",
            "machine code; not for artifacts made for this device",
        ),
        ("onnx", "onnx", "1.17", "onnx", "reading .onnx files"),
        ("ml_dtypes", "ml_dtypes", "0.5", "onnx", "arrays of bfloat16, float8 and int4"),
        ("typer", "typer", "0.12", "cli", "the brim command"),
        ("rich", "rich", "13", "cli", "its tables and progress"),
        ("pillow", "PIL", "10.1", "pictures", "pictures as inputs"),
        ("tflite", "tflite", "2.18", "tflite", "reading .tflite files"),
        ("flatbuffers", "flatbuffers", "24.3", "tflite", "reading .tflite files"),
        ("google-re2", "re2", "1.1", "text", "models with regular expressions"),
        ("opencv-python-headless", "cv2", "4.8", "video", "brim vision on videos and cameras"),
        ("safetensors", "safetensors", "0.4.3", "train", "checkpoints of training"),
        ("tensorboardX", "tensorboardX", "2.6.2", "train", "logs of training"),
        ("onnxruntime", "onnxruntime", "1.20", "bench", "what ONNX models are compared with"),
        (
            "ai-edge-litert",
            "ai_edge_litert",
            "2.0",
            "bench",
            "what TFLite models are compared with",
        ),
    )
)


def installed() -> tuple[Installed, ...]:
    """All of PACKAGES as they are here; each that is there is imported."""
    return tuple(map(_look, PACKAGES))


def _look(package: Package) -> Installed:
    try:
        found = version(package.name)
    except PackageNotFoundError:
        return Installed(package, "", "")
    if _numbers(found) < _numbers(package.least):
        return Installed(package, found, f"{package.least} is the oldest that works")
    try:
        import_module(package.module)
    except Exception as error:  # whatever a broken installation raises
        return Installed(package, found, f"it cannot be imported: {error!r}"[:300])
    return Installed(package, found, "")


def _numbers(text: str) -> tuple[int, ...]:
    """The leading numbers of a version."""
    found = []
    for part in text.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        found.append(int(digits))
    return tuple(found)
