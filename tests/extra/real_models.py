"""Real models as cases: how to get one, real input for it, and what it must find in that input.

Holds no engine and no assertion about one engine equalling another; that is
`test_real_models.py`. A case's `check` takes any engine and asserts on the meaning of the result:
text read, speech found, file type named. Weights and samples come from `brim.zoo`, speech
noise and tones are made here.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import unicodedata
import wave
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import onnx
from PIL import Image

import brim
from brim import zoo
from brim.vision.text.boxes import find_boxes
from brim.vision.text.characters import characters_of, decode
from brim.vision.text.lines import crop_box, in_reading_order
from brim.vision.text.reading import is_upside_down, read_text
from brim.vision.text.tensors import detection_input, orientation_input, recognition_input

Engine = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]
Feed = dict[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    """`model` gives the ONNX file, writing a changed copy to the folder if it must; `feeds` the
    inputs whose raw outputs are compared; `check` asserts what an engine finds in real input."""

    name: str
    model: Callable[[Path], Path]
    feeds: Callable[[], list[Feed]]
    check: Callable[[Engine], None]
    network: bool = True


def from_zoo(name: str) -> Callable[[Path], Path]:
    return lambda folder: zoo.get(name)


def picture(name: str) -> np.ndarray:
    """u8[height, width, 3], RGB."""
    return np.asarray(Image.open(zoo.get(name)).convert("RGB"))


# ---------------------------------------------------------------- PP-OCR

PAGE_TEXT = (
    "Region-based segmentation",
    "Let us first determine markers of the coins and the",
    "background. These markers are pixels that we can label",
    "unambiguously as either object or background. Here,",
    "the markers are found at the two extreme parts of the",
    "histogram of grey values:",
    ">>> markers = np.zeros_like(coins)",
)
# Where they are on the page, in pixels: corners from the top left, clockwise.
PAGE_BOXES = np.array(
    [
        [(2, 8), (294, 9), (294, 34), (2, 33)],
        [(1, 42), (380, 44), (379, 66), (1, 65)],
        [(0, 60), (380, 62), (380, 85), (0, 83)],
        [(0, 77), (381, 80), (381, 104), (0, 101)],
        [(0, 93), (382, 96), (381, 123), (0, 120)],
        [(1, 110), (175, 116), (174, 140), (1, 134)],
        [(13, 160), (245, 169), (244, 191), (12, 186)],
    ],
    np.float64,
)


def page_crops() -> list[np.ndarray]:
    page = picture("page")
    return [crop_box(page, corners) for corners in PAGE_BOXES]


def detect_feeds() -> list[Feed]:
    page = picture("page")
    return [{"x": detection_input(page, side)} for side in (192, 320)]


def detect_check(engine: Engine) -> None:
    page = picture("page")
    tensor = detection_input(page, 320)
    (probability,) = engine({"x": tensor}).values()
    scale = np.array(page.shape[1::-1]) / tensor.shape[:1:-1]
    found = [r.corners() * scale for r in find_boxes(probability[0, 0])]
    assert len(found) == len(PAGE_BOXES)
    for box, corners in zip(in_reading_order(found), PAGE_BOXES, strict=True):
        assert np.abs(box - corners).max() < 5


def recognise_feeds() -> list[Feed]:
    crops = page_crops()
    return [{"x": recognition_input(crops[i])} for i in (0, 1)]


def recognise_check(engine: Engine) -> None:
    characters = characters_of(brim.load(zoo.get("ppocr-recognise")).metadata)
    assert len(characters) == 18710
    for crop, expected in zip(page_crops(), PAGE_TEXT, strict=True):
        (scores,) = engine({"x": recognition_input(crop)}).values()
        text, score = decode(scores, characters)
        assert text == expected
        assert score > 0.9


def orient_feeds() -> list[Feed]:
    crop = page_crops()[0]
    both = [orientation_input(crop), orientation_input(crop[::-1, ::-1])]
    return [{"x": x} for x in (*both, np.concatenate(both))]


def orient_check(engine: Engine) -> None:
    # The title and the last two lines; the network itself errs on lines squeezed to half.
    for crop in (page_crops()[i] for i in (0, 5, 6)):
        assert not is_upside_down(crop, engine)
        assert is_upside_down(crop[::-1, ::-1], engine)


def read_page(detect: Engine, recognise: Engine, orient: Engine, turns: int) -> list[str]:
    """The page's lines after it was turned by quarters of a circle, anticlockwise."""
    page = np.ascontiguousarray(np.rot90(picture("page"), turns))
    characters = characters_of(brim.load(zoo.get("ppocr-recognise")).metadata)
    lines = read_text(page, detect, recognise, characters, orient, shortest_side=320)
    return [line.text for line in lines]


# ---------------------------------------------------------------- silero-vad

RATE = 16000
WINDOW, CONTEXT = 512, 64


def speech() -> np.ndarray:
    """f32[samples] within -1..1, 16 kHz."""
    with wave.open(str(zoo.get("speech"))) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 1, 2)
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    return samples.astype(np.float32) / 32768


def speech_probability(engine: Engine, samples: np.ndarray) -> np.ndarray:
    """f64[windows]: the probability of speech in each 32 ms, the state carried along."""
    state = np.zeros((2, 1, 128), np.float32)
    context = np.zeros(CONTEXT, np.float32)
    found = []
    for window in samples[: len(samples) // WINDOW * WINDOW].reshape(-1, WINDOW):
        joined = np.concatenate([context, window])[None]
        out = engine({"input": joined, "state": state, "sr": np.array(RATE, np.int64)})
        state, context = out["stateN"], window[-CONTEXT:]
        found.append(float(out["output"][0, 0]))
    return np.array(found)


def is_speech(windows: int) -> np.ndarray:
    """bool[windows]: what people marked as speech in the sample."""
    marked = np.zeros(windows, bool)
    for line in zoo.get("speech-segments").read_text().splitlines():
        start, length = (float(field) for field in line.split()[3:5])
        marked[round(start * RATE / WINDOW) : round((start + length) * RATE / WINDOW)] = True
    return marked


def silero_feeds() -> list[Feed]:
    samples = speech()
    state = np.random.default_rng(0).normal(0, 0.3, (2, 2, 128)).astype(np.float32)
    rate = np.array(RATE, np.int64)
    second = 8 * RATE
    two = np.stack([samples[s : s + WINDOW + CONTEXT] for s in (RATE, second)])
    narrow = two[:, : (WINDOW + CONTEXT) // 2]
    return [
        {"input": two[1:], "state": np.zeros((2, 1, 128), np.float32), "sr": rate},
        {"input": two[1:], "state": np.ascontiguousarray(state[:, :1]), "sr": rate},
        {"input": two, "state": state, "sr": rate},
        {"input": narrow, "state": state, "sr": np.array(RATE // 2, np.int64)},
    ]


def silero_check(engine: Engine) -> None:
    probability = speech_probability(engine, speech())
    marked = is_speech(len(probability))
    assert (probability[marked] > 0.5).mean() > 0.85
    assert (probability[: 6 * RATE // WINDOW] < 0.5).all(), "the first seconds are silent"
    noise = np.random.default_rng(0).normal(0, 0.05, 2 * RATE).astype(np.float32)
    assert speech_probability(engine, noise).max() < 0.5


# ---------------------------------------------------------------- magika

HTML = b"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Tides</title>
<link rel="stylesheet" href="style.css"></head>
<body><h1>Tides</h1><p>High water at <em>six</em>, low water at noon.</p>
<ul><li><a href="/moon">The moon</a></li><li><a href="/sun">The sun</a></li></ul></body></html>
"""
C_SOURCE = b"""#include <stdio.h>
#include <stdlib.h>

/* Greatest common divisor of two numbers given on the command line. */
static unsigned gcd(unsigned a, unsigned b) {
    while (b != 0) { unsigned t = a % b; a = b; b = t; }
    return a;
}

int main(int argc, char **argv) {
    if (argc != 3) { fprintf(stderr, "usage: %s a b\\n", argv[0]); return EXIT_FAILURE; }
    printf("%u\\n", gcd((unsigned)atoi(argv[1]), (unsigned)atoi(argv[2])));
    return EXIT_SUCCESS;
}
"""


@cache
def labels() -> list[str]:
    return json.loads(zoo.get("magika-labels").read_text())["target_labels_space"]


def files() -> dict[str, bytes]:
    """Label of the type -> the bytes of a real file of it."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("tides.html", HTML)
        archive.writestr("gcd.c", C_SOURCE)
    return {
        "python": Path(__file__).read_bytes(),
        "toml": Path(zoo.__file__).with_name("zoo.toml").read_bytes(),
        "json": zoo.get("minilm-tokens").read_bytes(),
        "onnx": zoo.get("silero-vad").read_bytes(),
        "png": zoo.get("page").read_bytes(),
        "wav": zoo.get("speech").read_bytes(),
        "html": HTML,
        "c": C_SOURCE,
        "zip": packed.getvalue(),
        "gzip": gzip.compress(C_SOURCE, mtime=0),
    }


def magika_input(content: bytes) -> np.ndarray:
    """i32[1,2048]: 1024 bytes of the stripped start and of the stripped end, 256 where none is."""
    block, half, none = 4096, 1024, 256
    start = list(content[:block].lstrip()[:half])
    end = list(content[-block:].rstrip()[-half:])
    padded = start + [none] * (half - len(start)) + [none] * (half - len(end)) + end
    return np.array([padded], np.int32)


def magika_feeds() -> list[Feed]:
    every = [magika_input(content) for content in files().values()]
    return [{"bytes": every[0]}, {"bytes": np.concatenate(every)}]


def magika_check(engine: Engine) -> None:
    named = {}
    for expected, content in files().items():
        (scores,) = engine({"bytes": magika_input(content)}).values()
        named[expected] = labels()[int(scores[0].argmax())]
    assert named == {label: label for label in named}


# ---------------------------------------------------------------- MiniLM

RELATED = (
    ("How do I reset my password?", "I forgot my password and cannot log in."),
    ("A man is playing a guitar.", "Someone plays a musical instrument."),
    ("The cat sleeps on the sofa.", "A kitten is napping on the couch."),
)


@cache
def vocabulary() -> dict[str, int]:
    return json.loads(zoo.get("minilm-tokens").read_text(encoding="utf-8"))["model"]["vocab"]


def tokens(text: str) -> list[int]:
    """WordPiece as in BERT: lower case, no accents, the longest known pieces from the left."""
    known = vocabulary()
    plain = unicodedata.normalize("NFD", text.lower())
    plain = "".join(c for c in plain if unicodedata.category(c) != "Mn")
    found = [known["[CLS]"]]
    for word in re.findall(r"\w+|[^\w\s]", plain):
        pieces: list[int] = []
        start = 0
        while start < len(word):
            prefix = "##" if start else ""
            ends = range(len(word), start, -1)
            end = next((e for e in ends if prefix + word[start:e] in known), None)
            if end is None:
                pieces = [known["[UNK]"]]
                break
            pieces.append(known[prefix + word[start:end]])
            start = end
        found += pieces
    return [*found, known["[SEP]"]]


def minilm_input(*texts: str) -> Feed:
    rows = [tokens(text) for text in texts]
    width = max(map(len, rows))
    ids, mask = np.zeros((2, len(rows), width), np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)], mask[i, : len(row)] = row, 1
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def embed(engine: Engine, *texts: str) -> np.ndarray:
    """f32[texts, 384], each row of length 1."""
    feed = minilm_input(*texts)
    (states,) = engine(feed).values()
    mask = feed["attention_mask"][..., None].astype(np.float32)
    mean = (states * mask).sum(1) / mask.sum(1)
    return mean / np.linalg.norm(mean, axis=1, keepdims=True)


def minilm_feeds() -> list[Feed]:
    return [minilm_input(RELATED[0][0]), minilm_input(*RELATED[0], *RELATED[1])]


def minilm_check(engine: Engine) -> None:
    assert tokens("Naïve tokenizers!") == [101, 15743, 19204, 17629, 2015, 999, 102]
    first = embed(engine, *(a for a, _ in RELATED))
    second = embed(engine, *(b for _, b in RELATED))
    similarity = first @ second.T
    related = similarity.diagonal()
    unrelated = similarity[~np.eye(len(RELATED), dtype=bool)]
    assert related.min() > 0.5
    assert unrelated.max() < 0.2


# ---------------------------------------------------------------- basic-pitch

PITCH_RATE, PITCH_SAMPLES, PITCH_FRAMES = 22050, 43844, 172
NOTES, CONTOUR, ONSETS = (f"StatefulPartitionedCall:{i}" for i in (1, 0, 2))
A4, E5 = 48, 55  # counted from A0 = 27.5 Hz


def tone(*notes: int) -> np.ndarray:
    """f32[1,43844,1]: notes that sound from 0.5 s to 1.5 s, with three harmonics that decay."""
    t = np.arange(PITCH_SAMPLES) / PITCH_RATE
    sound = np.zeros_like(t)
    for note in notes:
        pitch = 27.5 * 2 ** (note / 12)
        for harmonic in (1, 2, 3):
            sound += np.sin(2 * np.pi * pitch * harmonic * t) * 0.3 / harmonic**2
    envelope = np.where((t >= 0.5) & (t < 1.5), np.exp(-(t - 0.5)), 0)
    return (sound * envelope).astype(np.float32)[None, :, None]


def pitch_feeds() -> list[Feed]:
    return [{"serving_default_input_2:0": tone(A4)}, {"serving_default_input_2:0": tone(A4, E5)}]


def pitch_check(engine: Engine) -> None:
    frames_a_second = PITCH_FRAMES / (PITCH_SAMPLES / PITCH_RATE)
    sounding = slice(round(0.6 * frames_a_second), round(1.3 * frames_a_second))
    for played in ((A4,), (A4, E5)):
        out = engine({"serving_default_input_2:0": tone(*played)})
        notes = out[NOTES][0]
        assert notes.shape == (PITCH_FRAMES, 88)
        heard = notes[sounding].mean(0) > 0.4
        assert tuple(np.flatnonzero(heard)) == played
        assert notes[: round(0.4 * frames_a_second)].max() < 0.4, "silence before the tone"
        onset = out[ONSETS][0][:, A4].argmax() / frames_a_second
        assert abs(onset - 0.5) < 0.05


# ---------------------------------------------------------------- centerface

FACE = (181, 58, 270, 178)  # the astronaut's, in pixels: left, top, right, bottom


def centerface_model(folder: Path) -> Path:
    """The file declares shapes that only its exporter used: forget them."""
    model = onnx.load(zoo.get("centerface"))
    weights = {tensor.name for tensor in model.graph.initializer}
    for value in (*model.graph.input, *model.graph.output):
        if value.name in weights:
            continue
        for name, dimension in zip("NCHW", value.type.tensor_type.shape.dim, strict=True):
            if name != "C":
                dimension.dim_param = f"{name}_{value.name.replace('.', '_')}"
    del model.graph.value_info[:]
    path = folder / "centerface.onnx"
    onnx.save(model, path)
    return path


def face_input(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None]).astype(np.float32)


def faces(engine: Engine, image: np.ndarray) -> list[tuple[float, tuple[float, ...]]]:
    """(score, box in pixels) of each peak of the heat map above a half."""
    heat, size, offset, _ = engine({"input.1": face_input(image)}).values()
    found = []
    for y, x in np.argwhere(heat[0, 0] > 0.5):
        if heat[0, 0, y, x] < heat[0, 0, max(y - 3, 0) : y + 4, max(x - 3, 0) : x + 4].max():
            continue
        height, width = np.exp(size[0, :, y, x]) * 4
        middle_y, middle_x = (np.array([y, x]) + offset[0, :, y, x] + 0.5) * 4
        box = (middle_x - width / 2, middle_y - height / 2)
        box += (middle_x + width / 2, middle_y + height / 2)
        found.append((float(heat[0, 0, y, x]), tuple(float(side) for side in box)))
    return found


def centerface_feeds() -> list[Feed]:
    image = picture("astronaut")
    return [{"input.1": face_input(part)} for part in (image, image[:384], image[:256, 64:416])]


def centerface_check(engine: Engine) -> None:
    for image in (picture("astronaut"), picture("astronaut")[:384]):
        ((score, box),) = faces(engine, image)
        assert score > 0.85
        assert np.abs(np.array(box) - FACE).max() < 6, box


# ---------------------------------------------------------------- the topologies in onnx's wheel

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
LIGHT_NAMES = (
    "bvlc_alexnet",
    "densenet121",
    "inception_v1",
    "inception_v2",
    "resnet50",
    "shufflenet",
    "squeezenet",
    "vgg19",
    "zfnet512",
)


def light_feed(name: str) -> Feed:
    graph = onnx.load(LIGHT / f"light_{name}.onnx").graph
    weights = {tensor.name for tensor in graph.initializer}
    (value,) = (v for v in graph.input if v.name not in weights)
    shape = [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
    return {value.name: np.random.default_rng(0).random(shape, np.float32)}


def light_check(name: str, engine: Engine) -> None:
    """Their weights are constants, so there is nothing to recognise: 1000 finite numbers, and
    probabilities where the network ends in a softmax."""
    (out,) = engine(light_feed(name)).values()
    assert out.size == 1000
    assert out.shape[:2] == (1, 1000)
    assert np.isfinite(out).all()
    if name != "densenet121":
        assert abs(out.sum() - 1) < 1e-4


def _light(name: str) -> Case:
    return Case(
        f"light_{name}",
        lambda folder: LIGHT / f"light_{name}.onnx",
        lambda: [light_feed(name)],
        partial(light_check, name),
        network=False,
    )


CASES = (
    Case("ppocr-detect", from_zoo("ppocr-detect"), detect_feeds, detect_check),
    Case("ppocr-recognise", from_zoo("ppocr-recognise"), recognise_feeds, recognise_check),
    Case("ppocr-orient", from_zoo("ppocr-orient"), orient_feeds, orient_check),
    Case("silero-vad", from_zoo("silero-vad"), silero_feeds, silero_check),
    Case("magika", from_zoo("magika"), magika_feeds, magika_check),
    Case("minilm-int8", from_zoo("minilm-int8"), minilm_feeds, minilm_check),
    Case("basic-pitch", from_zoo("basic-pitch"), pitch_feeds, pitch_check),
    Case("centerface", centerface_model, centerface_feeds, centerface_check),
    *map(_light, LIGHT_NAMES),
)
