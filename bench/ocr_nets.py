"""The two networks of PP-OCRv6 small (PaddleOCR): where text is in a picture, and what a line says.

Topologies as in the ONNX files of rapidocr 3.10.0 (batch norm folded into the convolutions), with
seeded weights. The recogniser's attention multiplies by three matrices where the file has one of
their joint width.
"""

from __future__ import annotations

from onnx import ModelProto

from bench.sketch import Sketch, Stride, Tensor

NECK_SLOPE = 0.2  # of the gates of channel attention; 1/6 in the backbone
CHARACTERS = 18710  # with the blank of CTC
CORNER = (0, 0, 1, 1)  # what keeps the size under a 2x2 window


def ppocr_detect(batch: int = 1, size: int = 640) -> ModelProto:
    """PP-OCRv6 small detector: the probability, pixel by pixel, of being text.

    A pyramid of four levels, with channel attention beside a shortcut (RSE-FPN) and 7x7 depthwise
    convolutions; the head of DB (Liao 2019, arXiv:1911.08947): two transposed convolutions.
    """
    net = Sketch("ppocr_detect")
    x = _stem(net, net.input("input", (batch, 3, size, size), 1), 24)
    levels = [_pairs(net, x, 1)]
    for channels, pairs in ((96, 1), (192, 2), (384, 1)):
        levels.append(_pairs(net, _downsample(net, levels[-1], channels, 2), pairs))

    def attended(y: Tensor) -> Tensor:
        return net.add(y, net.squeeze_excite(y, y.channels // 4, NECK_SLOPE))

    sides = [attended(net.conv(y, 96, 1)) for y in levels]
    for index in (2, 1, 0):  # from the smallest map to the largest
        sides[index] = net.add(sides[index], net.resize(sides[index + 1], 2))
    smooth = []
    for index, side in enumerate(sides):
        y = attended(net.conv(net.conv(side, 96, 7, groups=96, bias=True), 24, 1))
        smooth.append(net.resize(y, 2**index) if index else y)
    y = net.relu(net.conv(net.concat(*reversed(smooth)), 24, 3, bias=True))
    y = net.relu(net.conv_transpose(y, 24, 2, 2))
    return net.finish(net.sigmoid(net.conv_transpose(y, 1, 2, 2)), (batch, 1, size, size))


def ppocr_recognise(batch: int = 1) -> ModelProto:
    """PP-OCRv6 small recogniser of a line 48 x 320: convolutions, two layers of attention, CTC.

    The neck is SVTR's (Du 2022, arXiv:2205.00159). Probability of 18,710 characters at 40 places.
    """
    net = Sketch("ppocr_recognise")
    x = _stem(net, net.input("input", (batch, 3, 48, 320), 1), 48)
    # Only the height is halved from here on: a column stays one place in the text.
    x = _block(net, _pairs(net, x, 1), excite=False)
    x = _pairs(net, _downsample(net, x, 192, (2, 1)), 3)
    x = _pairs(net, _downsample(net, x, 384, (2, 1)), 1)
    x = net.average_pool(x, (3, 2), (3, 2), pad=0)  # one row of 40 columns

    def layer(y: Tensor) -> Tensor:
        return net.swish(net.batch_norm(y))

    shortcut, y = layer(net.conv(x, 120, 1)), layer(net.conv(x, 120, 1))
    y = net.add(y, layer(net.conv(y, 120, (1, 7), groups=120)))
    columns = 40
    y = net.transpose(net.reshape(y, (batch, 120, columns)), (0, 2, 1))
    for _ in range(2):
        y = net.add(y, net.attention(net.layer_norm(y), 8, batch, columns))
        y = net.add(y, net.linear(net.swish(net.linear(net.layer_norm(y), 240)), 120))
    y = net.transpose(net.layer_norm(y), (0, 2, 1))
    y = net.add(net.reshape(y, (batch, 120, 1, columns)), shortcut)
    y = net.transpose(net.reshape(y, (batch, 120, columns)), (0, 2, 1))
    return net.finish(net.softmax(net.linear(y, CHARACTERS)), (batch, columns, CHARACTERS))


def _stem(net: Sketch, x: Tensor, channels: int) -> Tensor:
    """Two strided convolutions; between them a pooled branch beside two of 2x2 (HGNetV2's stem)."""
    x = net.relu(net.conv(x, channels, 3, 2, bias=True))
    y = net.relu(net.conv(x, channels // 2, 2, pad=CORNER, bias=True))
    y = net.relu(net.conv(y, channels, 2, pad=CORNER, bias=True))
    y = net.concat(net.max_pool(x, 2, 1, CORNER), y)
    y = net.relu(net.conv(y, channels, 3, 2, bias=True))
    return net.relu(net.conv(y, 2 * channels, 1, bias=True))


def _pairs(net: Sketch, x: Tensor, count: int) -> Tensor:
    """`count` times two blocks, the first with channel attention."""
    for _ in range(count):
        x = _block(net, _block(net, x, excite=True), excite=False)
    return x


def _block(net: Sketch, x: Tensor, excite: bool) -> Tensor:
    """Depthwise 3x3, channel attention where `excite`, then the products."""
    x = net.conv(x, x.channels, 3, groups=x.channels, bias=True)
    return _feed_forward(net, net.squeeze_excite(x, x.channels // 4) if excite else x)


def _feed_forward(net: Sketch, x: Tensor) -> Tensor:
    """x plus two 1x1 convolutions of it, twice as wide in between."""
    y = net.gelu(net.conv(x, 2 * x.channels, 1, bias=True))
    return net.add(x, net.conv(y, x.channels, 1, bias=True))


def _downsample(net: Sketch, x: Tensor, channels: int, stride: Stride) -> Tensor:
    x = net.conv(x, x.channels, 3, stride, groups=x.channels, bias=True)
    return net.conv(net.gelu(net.conv(x, channels, 1, bias=True)), channels, 1, bias=True)
