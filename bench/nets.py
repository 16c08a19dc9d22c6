"""The twelve networks that brim is timed on: exact public topologies with seeded random weights.

Each builder takes a batch, and most the height and width of their square images; it returns an ONNX
model; `build` stores it; `python -m bench.nets` prints the size of each beside the published one.
There are no trained weights: speed depends on the topology alone.
"""

from __future__ import annotations

import hashlib
import inspect
import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from onnx import ModelProto, TensorProto, shape_inference

from bench import ocr_nets, sketch
from bench.ocr_nets import ppocr_detect, ppocr_recognise
from bench.sketch import Kernel, Sketch, Tensor

CLASSES = 1000


def mobilenet_v1(batch: int = 1, size: int = 224) -> ModelProto:
    """MobileNetV1 1.0 224 (Howard 2017, arXiv:1704.04861), ReLU6 as in its reference code."""
    net = Sketch("mobilenet_v1")

    def layer(x: Tensor, channels: int, kernel: int, stride: int = 1, groups: int = 1) -> Tensor:
        return net.relu6(net.batch_norm(net.conv(x, channels, kernel, stride, groups=groups)))

    x = layer(net.input("input", (batch, 3, size, size), 1), 32, 3, 2)
    for channels, stride in (
        (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2),
        (512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1),
    ):  # fmt: skip
        x = layer(layer(x, x.channels, 3, stride, groups=x.channels), channels, 1)
    return _classify(net, batch, net.flatten(net.global_average(x)))


def mobilenet_v2(batch: int = 1, size: int = 224) -> ModelProto:
    """MobileNetV2 1.0 224 (Sandler 2018, arXiv:1801.04381), as in torchvision."""
    net = Sketch("mobilenet_v2")

    def layer(x: Tensor, channels: int, kernel: int, stride: int = 1, groups: int = 1) -> Tensor:
        return net.relu6(net.batch_norm(net.conv(x, channels, kernel, stride, groups=groups)))

    def block(x: Tensor, channels: int, stride: int, expansion: int) -> Tensor:
        wide = x.channels * expansion
        y = layer(x, wide, 1) if expansion != 1 else x
        y = layer(y, wide, 3, stride, groups=wide)
        y = net.batch_norm(net.conv(y, channels, 1))
        return net.add(x, y) if stride == 1 and channels == x.channels else y

    x = layer(net.input("input", (batch, 3, size, size), 1), 32, 3, 2)
    for expansion, channels, repeats, stride in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2),
        (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    ):  # fmt: skip
        for index in range(repeats):
            x = block(x, channels, stride if index == 0 else 1, expansion)
    return _classify(net, batch, net.flatten(net.global_average(layer(x, 1280, 1))))


def mobilenet_v3_large(batch: int = 1, size: int = 224) -> ModelProto:
    """MobileNetV3-large 1.0 224 (Howard 2019, arXiv:1905.02244), as in torchvision."""
    net = Sketch("mobilenet_v3_large")
    relu, swish = net.relu, net.hard_swish
    Activation = Callable[[Tensor], Tensor]

    def normed(x: Tensor, channels: int, kernel: int, stride: int = 1, groups: int = 1) -> Tensor:
        return net.batch_norm(net.conv(x, channels, kernel, stride, groups=groups))

    def block(
        x: Tensor, kernel: int, wide: int, channels: int, excite: bool, act: Activation, step: int
    ) -> Tensor:
        y = act(normed(x, wide, 1)) if wide != x.channels else x
        y = act(normed(y, wide, kernel, step, groups=wide))
        if excite:
            y = net.squeeze_excite(y, _multiple_of_8(wide / 4))
        y = normed(y, channels, 1)
        return net.add(x, y) if step == 1 and channels == x.channels else y

    x = swish(normed(net.input("input", (batch, 3, size, size), 1), 16, 3, 2))
    for row in (
        (3, 16, 16, False, relu, 1), (3, 64, 24, False, relu, 2), (3, 72, 24, False, relu, 1),
        (5, 72, 40, True, relu, 2), (5, 120, 40, True, relu, 1), (5, 120, 40, True, relu, 1),
        (3, 240, 80, False, swish, 2), (3, 200, 80, False, swish, 1),
        (3, 184, 80, False, swish, 1), (3, 184, 80, False, swish, 1),
        (3, 480, 112, True, swish, 1), (3, 672, 112, True, swish, 1),
        (5, 672, 160, True, swish, 2), (5, 960, 160, True, swish, 1), (5, 960, 160, True, swish, 1),
    ):  # fmt: skip
        x = block(x, *row)
    x = net.flatten(net.global_average(swish(normed(x, 960, 1))))
    return _classify(net, batch, swish(net.gemm(x, 1280)))


def efficientnet_lite0(batch: int = 1, size: int = 224) -> ModelProto:
    """EfficientNet-Lite0 224 (Tan 2019, arXiv:1905.11946), as in its repository: no excitation."""
    net = Sketch("efficientnet_lite0")

    def layer(x: Tensor, channels: int, kernel: int, stride: int = 1, groups: int = 1) -> Tensor:
        return net.relu6(net.batch_norm(net.conv(x, channels, kernel, stride, groups=groups)))

    def block(x: Tensor, channels: int, kernel: int, stride: int, expansion: int) -> Tensor:
        wide = x.channels * expansion
        y = layer(x, wide, 1) if expansion != 1 else x
        y = layer(y, wide, kernel, stride, groups=wide)
        y = net.batch_norm(net.conv(y, channels, 1))
        return net.add(x, y) if stride == 1 and channels == x.channels else y

    x = layer(net.input("input", (batch, 3, size, size), 1), 32, 3, 2)
    for expansion, channels, repeats, stride, kernel in (
        (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3),
        (6, 112, 3, 1, 5), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3),
    ):  # fmt: skip
        for index in range(repeats):
            x = block(x, channels, kernel, stride if index == 0 else 1, expansion)
    return _classify(net, batch, net.flatten(net.global_average(layer(x, 1280, 1))))


def squeezenet_1_1(batch: int = 1, size: int = 224) -> ModelProto:
    """SqueezeNet 1.1 (Iandola 2016, arXiv:1602.07360), as in torchvision."""
    net = Sketch("squeezenet_1_1")

    def layer(x: Tensor, channels: int, kernel: int, stride: int = 1, pad: int = 0) -> Tensor:
        return net.relu(net.conv(x, channels, kernel, stride, pad, bias=True))

    def fire(x: Tensor, squeezed: int, expanded: int) -> Tensor:
        small = layer(x, squeezed, 1)
        return net.concat(layer(small, expanded, 1), layer(small, expanded, 3, pad=1))

    x = layer(net.input("input", (batch, 3, size, size), 1), 64, 3, 2)
    for stage in (
        ((16, 64), (16, 64)),
        ((32, 128), (32, 128)),
        ((48, 192), (48, 192), (64, 256), (64, 256)),
    ):
        x = net.max_pool(x, 3, 2, ceil=True)
        for squeezed, expanded in stage:
            x = fire(x, squeezed, expanded)
    x = net.global_average(layer(x, CLASSES, 1))
    return net.finish(net.flatten(x), (batch, CLASSES))


def resnet18(batch: int = 1, size: int = 224) -> ModelProto:
    """ResNet-18 (He 2015, arXiv:1512.03385), as in torchvision."""
    return _resnet("resnet18", batch, size, _basic_block, (2, 2, 2, 2))


def resnet50(batch: int = 1, size: int = 224) -> ModelProto:
    """ResNet-50 v1.5 (stride in the 3x3 convolution), as in torchvision."""
    return _resnet("resnet50", batch, size, _bottleneck, (3, 4, 6, 3))


def inception_v3(batch: int = 1, size: int = 299) -> ModelProto:
    """Inception-v3, 299x299 (Szegedy 2015, arXiv:1512.00567), torchvision's, no aux head."""
    net = Sketch("inception_v3")

    def layers(x: Tensor, *rows: tuple[int, Kernel]) -> Tensor:
        for channels, kernel in rows:
            x = net.relu(net.batch_norm(net.conv(x, channels, kernel)))
        return x

    def unpadded(x: Tensor, channels: int, stride: int) -> Tensor:
        return net.relu(net.batch_norm(net.conv(x, channels, 3, stride, pad=0)))

    def pooled(x: Tensor, channels: int) -> Tensor:
        return layers(net.average_pool(x, 3, 1, pad=1), (channels, 1))

    def block_a(x: Tensor, pool_channels: int) -> Tensor:
        return net.concat(
            layers(x, (64, 1)),
            layers(x, (48, 1), (64, 5)),
            layers(x, (64, 1), (96, 3), (96, 3)),
            pooled(x, pool_channels),
        )

    def block_b(x: Tensor) -> Tensor:
        double = unpadded(layers(x, (64, 1), (96, 3)), 96, 2)
        return net.concat(unpadded(x, 384, 2), double, net.max_pool(x, 3, 2))

    def block_c(x: Tensor, inner: int) -> Tensor:
        row, column = (1, 7), (7, 1)
        return net.concat(
            layers(x, (192, 1)),
            layers(x, (inner, 1), (inner, row), (192, column)),
            layers(x, (inner, 1), (inner, column), (inner, row), (inner, column), (192, row)),
            pooled(x, 192),
        )

    def block_d(x: Tensor) -> Tensor:
        single = unpadded(layers(x, (192, 1)), 320, 2)
        double = unpadded(layers(x, (192, 1), (192, (1, 7)), (192, (7, 1))), 192, 2)
        return net.concat(single, double, net.max_pool(x, 3, 2))

    def block_e(x: Tensor) -> Tensor:
        def fork(y: Tensor) -> Tensor:
            return net.concat(layers(y, (384, (1, 3))), layers(y, (384, (3, 1))))

        single, double = layers(x, (384, 1)), layers(x, (448, 1), (384, 3))
        return net.concat(layers(x, (320, 1)), fork(single), fork(double), pooled(x, 192))

    x = unpadded(net.input("input", (batch, 3, size, size), 1), 32, 2)
    x = net.max_pool(layers(unpadded(x, 32, 1), (64, 3)), 3, 2)
    x = net.max_pool(unpadded(layers(x, (80, 1)), 192, 1), 3, 2)
    for pool_channels in (32, 64, 64):
        x = block_a(x, pool_channels)
    x = block_b(x)
    for inner in (128, 160, 160, 192):
        x = block_c(x, inner)
    x = block_e(block_e(block_d(x)))
    return _classify(net, batch, net.flatten(net.global_average(x)))


def transformer(batch: int = 1) -> ModelProto:
    """Encoder of 6 layers, 384 wide, 12 heads, 128 positions, FFN 1536, post-norm as in BERT."""
    positions, width, inner, heads = 128, 384, 1536, 12
    net = Sketch("transformer")
    x = net.input("input", (batch, positions, width), 2)
    for _ in range(6):
        x = net.layer_norm(net.add(net.attention(x, heads, batch, positions), x))
        y = net.linear(net.gelu(net.linear(x, inner)), width)
        x = net.layer_norm(net.add(y, x))
    return net.finish(x, (batch, positions, width))


def blazeface(batch: int = 1, size: int = 128) -> ModelProto:
    """BlazeFace for the front camera (Bazarevsky 2019, arXiv:1907.05047): table 4 and its anchors.

    Two anchors at each place of the first map and six of the second: a score and 16 numbers (a box
    and six points) of each, joined as in MediaPipe.
    """
    net = Sketch("blazeface")
    strided = (1, 1, 2, 2)  # a 5x5 window of stride 2 halves the size: TensorFlow's padding

    def block(x: Tensor, stride: int, *widths: int) -> Tensor:
        """A single block has one width; a double one two, the first of its bottleneck."""
        y, step = x, stride
        for index, channels in enumerate(widths):
            pad = strided if step == 2 else None
            y = net.relu(y) if index else y
            y = net.conv(y, y.channels, 5, step, pad, groups=y.channels, bias=True)
            y, step = net.conv(y, channels, 1, bias=True), 1
        if stride == 2:
            x = net.max_pool(x, 2, 2)
        if x.channels < y.channels:
            x = net.pad_channels(x, y.channels)
        return net.add_relu(y, x)

    x = net.input("input", (batch, 3, size, size), 1)
    x = net.relu(net.conv(x, 24, 5, 2, strided, bias=True))
    for stride, *widths in ((1, 24), (1, 24), (2, 48), (1, 48), (1, 48), (2, 24, 96), (1, 24, 96)):
        x = block(x, stride, *widths)
    first = block(x, 1, 24, 96)
    x = block(first, 2, 24, 96)
    second = block(block(x, 1, 24, 96), 1, 24, 96)

    def head(numbers: int) -> tuple[Tensor, tuple[int, int, int]]:
        parts, rows = [], 0
        for y, anchors, shrunk in ((first, 2, size // 8), (second, 6, size // 16)):
            y = net.transpose(net.conv(y, anchors * numbers, 1, bias=True), (0, 2, 3, 1))
            parts.append(net.reshape(y, (batch, shrunk * shrunk * anchors, numbers)))
            rows += shrunk * shrunk * anchors
        return net.concat(*parts), (batch, rows, numbers)

    return net.finish_all({"scores": head(1), "boxes": head(16)})


NETS: dict[str, Callable[..., ModelProto]] = {
    builder.__name__: builder
    for builder in (
        mobilenet_v1,
        mobilenet_v2,
        mobilenet_v3_large,
        efficientnet_lite0,
        squeezenet_1_1,
        resnet18,
        resnet50,
        inception_v3,
        transformer,
        blazeface,
        ppocr_detect,
        ppocr_recognise,
    )
}

# Millions of multiply-accumulates and parameters as published: torchvision's weight tables for six
# (Inception-v3 less its aux head), the paper and Keras for MobileNetV1; the transformer and the
# products of EfficientNet-Lite0 (407 in its repository, which counts more than products) by hand,
# as BlazeFace by its table; PP-OCR's are those of its files.
PUBLISHED = {
    "mobilenet_v1": (569, 4_231_976),
    "mobilenet_v2": (301, 3_504_872),
    "mobilenet_v3_large": (217, 5_483_032),
    "efficientnet_lite0": (385, 4_652_008),
    "squeezenet_1_1": (349, 1_235_496),
    "resnet18": (1814, 11_689_512),
    "resnet50": (4089, 25_557_032),
    "inception_v3": (5713, 23_834_568),
    "transformer": (1434, 10_646_784),
    "blazeface": (34, 71_176),
    "ppocr_detect": (4333, 2_453_353),
    "ppocr_recognise": (1092, 5_266_910),
}


def resizable(name: str) -> bool:
    """Whether network `name` takes images of any size. Raises KeyError for an unknown name."""
    return "size" in inspect.signature(NETS[name]).parameters


def build(name: str, directory: Path, batch: int = 1, size: int | None = None) -> Path:
    """Path of network `name` as an ONNX file in `directory`, written if it is not there yet.

    `size` is the height and width of its images, by default the published one. The file's name
    carries a digest of the builders' source, so a changed topology is never mixed up with a stored
    one. Raises KeyError for an unknown name, TypeError for a size where `resizable` says no.
    """
    builder = NETS[name]
    chosen = {"batch": batch} if size is None else {"batch": batch, "size": size}
    files = (__file__, ocr_nets.__file__, sketch.__file__)
    source = repr(sorted(chosen.items())).encode() + b"".join(
        Path(file).read_bytes() for file in files
    )
    path = directory / f"{name}-{hashlib.sha256(source).hexdigest()[:8]}.onnx"
    if not path.exists():
        directory.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=directory, prefix=path.stem, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(builder(**chosen).SerializeToString())
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    return path


def multiply_accumulates(model: ModelProto) -> int:
    """Multiply-accumulates of all convolutions and matrix products, from the inferred shapes."""
    graph = shape_inference.infer_shapes(model, strict_mode=True).graph
    shapes = {weight.name: tuple(weight.dims) for weight in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        shapes[value.name] = tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
    total = 0
    for node in graph.node:
        match node.op_type:
            case "Conv":
                points, terms = node.output[0], math.prod(shapes[node.input[1]][1:])
            case "ConvTranspose":
                points, terms = node.input[0], math.prod(shapes[node.input[1]][1:])
            case "MatMul" | "Gemm":
                points, terms = node.output[0], shapes[node.input[0]][-1]
            case _:
                continue
        total += math.prod(shapes[points]) * terms
    return total


def parameters(model: ModelProto) -> int:
    """Trainable numbers: float initializers but scalars, running statistics, factors of resizes."""
    return sum(
        math.prod(weight.dims)
        for weight in model.graph.initializer
        if weight.data_type == TensorProto.FLOAT
        and weight.dims
        and not weight.name.startswith(("running_", "factors"))
    )


def _resnet(
    name: str,
    batch: int,
    size: int,
    block: Callable[[Sketch, Tensor, int, int], Tensor],
    repeats: tuple[int, ...],
) -> ModelProto:
    net = Sketch(name)
    x = net.conv(net.input("input", (batch, 3, size, size), 1), 64, 7, 2)
    x = net.max_pool(net.relu(net.batch_norm(x)), 3, 2, pad=1)
    for stage, count in enumerate(repeats):
        for index in range(count):
            x = block(net, x, 64 << stage, 2 if stage and not index else 1)
    return _classify(net, batch, net.flatten(net.global_average(x)))


def _basic_block(net: Sketch, x: Tensor, channels: int, stride: int) -> Tensor:
    y = net.relu(net.batch_norm(net.conv(x, channels, 3, stride)))
    y = net.batch_norm(net.conv(y, channels, 3))
    return net.add_relu(y, _shortcut(net, x, channels, stride))


def _bottleneck(net: Sketch, x: Tensor, channels: int, stride: int) -> Tensor:
    y = net.relu(net.batch_norm(net.conv(x, channels, 1)))
    y = net.relu(net.batch_norm(net.conv(y, channels, 3, stride)))
    y = net.batch_norm(net.conv(y, 4 * channels, 1))
    return net.add_relu(y, _shortcut(net, x, 4 * channels, stride))


def _shortcut(net: Sketch, x: Tensor, channels: int, stride: int) -> Tensor:
    if x.channels == channels:
        return x
    return net.batch_norm(net.conv(x, channels, 1, stride))


def _classify(net: Sketch, batch: int, x: Tensor) -> ModelProto:
    return net.finish(net.gemm(x, CLASSES), (batch, CLASSES))


def _multiple_of_8(channels: float) -> int:
    """Nearest multiple of 8, at least 8, that loses no more than a tenth (MobileNet's rule)."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8


def _print_table() -> None:
    print(
        f"{'network':20}{'nodes':>6}{'MMAC':>8}{'published':>11}{'parameters':>13}{'published':>13}"
    )
    for name, builder in NETS.items():
        model = builder()
        mega, count = PUBLISHED[name]
        print(
            f"{name:20}{len(model.graph.node):6}{multiply_accumulates(model) / 1e6:8.0f}{mega:11}"
            f"{parameters(model):13,}{count:13,}"
        )


if __name__ == "__main__":
    _print_table()
