"""Small seeded torch networks of the kinds that people export, each with inputs: data for a test.

A network is a function from nothing to (module, inputs, dynamic): `dynamic` names, for each input,
the axes that stay open. `@only("dynamo")` marks what just one exporter can export. Exporting and
comparing is in `test_torch_models`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Axes = dict[int, str]
Network = tuple[nn.Module, tuple[Tensor, ...], tuple[Axes, ...]]
Maker = Callable[[], Network]
EXPORTERS = ("script", "dynamo")
NETWORKS: dict[str, Maker] = {}
CASES: list[tuple[str, str]] = []  # name, exporter


def only(*exporters: str) -> Callable[[Maker], Maker]:
    def declare(function: Maker) -> Maker:
        NETWORKS[function.__name__] = function
        CASES.extend((function.__name__, exporter) for exporter in exporters)
        return function

    return declare


network = only(*EXPORTERS)


class Of(nn.Module):
    """A function of tensors as a module; `parts` are the layers that it uses."""

    def __init__(self, function: Callable[..., Any], *parts: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.function = function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*self.parts, *inputs)


BATCH: Axes = {0: "batch"}


# ------------------------------------------------------------------ pictures


@network
def convolutions() -> Network:
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 12, (3, 1), padding=(1, 0), dilation=1), nn.LeakyReLU(0.1),
        nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(12, 10), nn.LogSoftmax(1),
    )  # fmt: skip
    return net, (torch.randn(2, 3, 33, 30),), (BATCH,)


class Residual(nn.Module):
    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inside, outside, 3, stride, 1, bias=False), nn.BatchNorm2d(outside),
            nn.ReLU(), nn.Conv2d(outside, outside, 3, 1, 1, bias=False), nn.BatchNorm2d(outside),
        )  # fmt: skip
        self.skip = nn.Sequential(
            nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside)
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.skip(x))


@network
def residual() -> Network:
    return nn.Sequential(Residual(4, 8, 2), Residual(8, 8, 1)), (torch.randn(2, 4, 14, 14),), ({},)


class Mobile(nn.Module):
    """MobileNetV3's block: expand, depthwise, squeeze and excite, project."""

    def __init__(self) -> None:
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(8, 24, 1), nn.BatchNorm2d(24), nn.Hardswish())
        self.depth = nn.Sequential(
            nn.Conv2d(24, 24, 5, 1, 2, groups=24), nn.BatchNorm2d(24), nn.Hardswish()
        )
        self.squeeze = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(24, 6, 1), nn.ReLU6(), nn.Conv2d(6, 24, 1),
            nn.Hardsigmoid(),
        )  # fmt: skip
        self.project = nn.Sequential(nn.Conv2d(24, 8, 1), nn.BatchNorm2d(8))

    def forward(self, x: Tensor) -> Tensor:
        y = self.depth(self.expand(x))
        return x + self.project(y * self.squeeze(y))


@network
def mobile() -> Network:
    return Mobile(), (torch.randn(1, 8, 12, 12),), ({2: "height", 3: "width"},)


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 8, 3, padding=1)
        self.deep = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(16, 8, 3, stride=2, padding=1, output_padding=1)
        self.out = nn.Conv2d(16, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        high = F.elu(self.down(x))
        low = F.silu(self.deep(high))
        return torch.sigmoid(self.out(torch.cat([high, self.up(low)], 1)))


@network
def unet() -> Network:
    return UNet(), (torch.randn(1, 3, 16, 20),), (BATCH,)


@network
def transposed_convolutions() -> Network:
    def run(a: nn.Module, b: nn.Module, c: nn.Module, x: Tensor, y: Tensor, z: Tensor) -> Any:
        return a(x), b(y), c(z)

    net = Of(
        run,
        nn.ConvTranspose2d(6, 4, 4, stride=2, padding=1, groups=2, dilation=1),
        nn.ConvTranspose1d(3, 5, 3, stride=3, dilation=2, output_padding=1),
        nn.Conv3d(2, 4, (1, 3, 2), padding=(0, 1, 0)),
    )
    inputs = (torch.randn(2, 6, 5, 7), torch.randn(1, 3, 8), torch.randn(1, 2, 4, 5, 6))
    return net, inputs, ({}, {}, {})


@network
def shuffles() -> Network:
    def run(x: Tensor) -> Any:
        y = F.pixel_shuffle(x, 2)
        return y, F.pixel_unshuffle(y, 2), torch.roll(y, (1, -2), (2, 3))

    return Of(run), (torch.randn(1, 8, 4, 6),), (BATCH,)


@only("dynamo")
def shuffled_channels() -> Network:
    def run(x: Tensor) -> Any:
        return F.channel_shuffle(x, 4), F.interpolate(x, size=(10, 7), mode="nearest-exact")

    return Of(run), (torch.randn(1, 8, 4, 6),), ({},)


@network
def resizes() -> Network:
    def run(x: Tensor) -> Any:
        def to(mode: str, **options: Any) -> Tensor:
            return F.interpolate(x, mode=mode, **options)

        return (
            to("nearest", scale_factor=2), to("nearest", size=(5, 11)),
            to("bilinear", scale_factor=1.5), to("bilinear", size=(9, 4), align_corners=True),
            to("bicubic", scale_factor=2), to("bicubic", size=(9, 13), align_corners=True),
            to("area", size=(3, 4)),
        )  # fmt: skip

    return Of(run), (torch.randn(1, 2, 6, 8),), ({},)


@network
def resize_to_another() -> Network:
    def run(x: Tensor, y: Tensor) -> Tensor:
        return F.interpolate(x, size=y.shape[2:], mode="bilinear") + y

    axes = {2: "height", 3: "width"}
    return Of(run), (torch.randn(1, 2, 6, 8), torch.randn(1, 2, 12, 16)), ({}, axes)


@network
def sampled_grid() -> Network:
    def run(x: Tensor, theta: Tensor) -> Any:
        grid = F.affine_grid(theta, [2, 3, 5, 6], align_corners=False)
        return tuple(
            F.grid_sample(x, grid, mode, padding, align_corners=align)
            for mode, padding, align in (
                ("bilinear", "zeros", False), ("nearest", "border", False),
                ("bicubic", "reflection", True), ("bilinear", "reflection", False),
            )
        )  # fmt: skip

    theta = torch.tensor([[[0.9, 0.2, 0.1], [-0.3, 1.1, 0.2]], [[1.5, 0.0, -0.4], [0.1, 0.8, 0.3]]])
    return Of(run), (torch.randn(2, 3, 6, 7), theta), ({}, {})


@network
def pools() -> Network:
    def run(x: Tensor) -> Any:
        return (
            F.adaptive_avg_pool2d(x, (2, 3)), F.adaptive_max_pool2d(x, (4, 1)),
            F.max_pool2d(x, 3, stride=2, ceil_mode=True), F.lp_pool2d(x.abs(), 2, 2),
            F.avg_pool2d(x, (2, 3), stride=(2, 1), padding=(1, 1), ceil_mode=True),
            F.max_pool2d(x, 2, dilation=2, return_indices=True)[1],
            F.pad(x, (1, 2, 0, 1), "reflect"), F.pad(x, (2, 1, 1, 0), "replicate"),
            F.pad(x, (1, -1, 2, 0), value=3.0), F.unfold(x, 3, padding=1),
        )  # fmt: skip

    return Of(run), (torch.randn(2, 3, 8, 6),), ({},)


# ------------------------------------------------------------------ norms and activations


@network
def norms() -> Network:
    def run(*given: Any) -> Any:
        *layers, x = given
        return tuple(layer(x) for layer in layers)

    layers = (
        nn.GroupNorm(3, 6), nn.InstanceNorm2d(6, affine=True), nn.LayerNorm((5, 4)),
        nn.LayerNorm(4, elementwise_affine=False), nn.BatchNorm2d(6),
        nn.LocalResponseNorm(3), nn.GroupNorm(6, 6, affine=False),
    )  # fmt: skip
    for layer in layers:
        for part in layer.parameters():
            nn.init.uniform_(part, 0.5, 1.5)
    return Of(run, *layers), (torch.randn(2, 6, 5, 4),), (BATCH,)


@only("dynamo")
def newer_norms_and_activations() -> Network:
    def run(norm: nn.Module, x: Tensor) -> Any:
        return norm(x), F.threshold(x, 0.1, -2.0), x.trunc(), x.frac(), torch.special.expm1(x)

    return Of(run, nn.RMSNorm(4)), (torch.randn(2, 6, 5, 4),), (BATCH,)


@network
def activations() -> Network:
    names = (
        "relu", "relu6", "elu", "selu", "celu", "leaky_relu", "gelu", "silu", "mish", "hardtanh",
        "hardswish", "hardsigmoid", "softplus", "softsign", "tanh", "sigmoid", "logsigmoid",
        "tanhshrink", "softshrink", "hardshrink",
    )  # fmt: skip

    def run(prelu: nn.Module, x: Tensor) -> Any:
        more = prelu(x), F.gelu(x, approximate="tanh"), F.glu(x, 1)
        return (*(getattr(F, name)(x) for name in names), *more, F.softmax(x, 1), F.softmin(x, 0))

    return Of(run, nn.PReLU(6)), (torch.randn(3, 6, 4) * 3,), (BATCH,)


# ------------------------------------------------------------------ sequences


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 6, num_layers=2, bidirectional=True, batch_first=True)
        self.gru = nn.GRU(12, 4, bidirectional=True, batch_first=True)
        self.rnn = nn.RNN(8, 3, nonlinearity="relu", batch_first=True)

    def forward(self, x: Tensor) -> Any:
        y, (h, c) = self.lstm(x)
        y, g = self.gru(y)
        y, r = self.rnn(y)
        return y, h, c, g, r


@network
def recurrent() -> Network:
    return Recurrent(), (torch.randn(2, 7, 5),), ({},)


@only("script")
def recurrent_of_any_length() -> Network:
    net = nn.GRU(5, 6)
    return net, (torch.randn(7, 2, 5),), ({0: "steps"},)


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, norm_first=True)
        self.words = nn.Embedding(50, 16, padding_idx=0)
        self.places = nn.Embedding(32, 16)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 50)

    def forward(self, ids: Tensor) -> Tensor:
        places = torch.arange(ids.shape[1], device=ids.device)
        x = self.words(ids) + self.places(places)
        return self.head(self.layers(x, src_key_padding_mask=ids == 0))


@network
def encoder() -> Network:
    ids = torch.randint(1, 50, (2, 9))
    ids[1, 6:] = 0
    return Encoder(), (ids,), ({0: "batch", 1: "steps"},)


@only("script")
def encoder_and_decoder() -> Network:
    def run(net: nn.Module, source: Tensor, target: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(5)
        return net(source, target, tgt_mask=mask)

    net = nn.Transformer(16, 2, 1, 1, 32, batch_first=True, activation="gelu")
    return Of(run, net), (torch.randn(2, 7, 16), torch.randn(2, 5, 16)), ({}, {})


@network
def attention() -> Network:
    def run(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Any:
        return (
            F.scaled_dot_product_attention(q, k, v),
            F.scaled_dot_product_attention(q, k, v, attn_mask=mask),
            F.scaled_dot_product_attention(q, k, v, is_causal=True),
            F.scaled_dot_product_attention(q, k, v, attn_mask=mask > 0, scale=0.3),
        )

    q, k, v = (torch.randn(2, 3, 5, 8) for _ in range(3))
    mask = torch.randn(5, 5) + 2 * torch.eye(5)
    mask = mask.abs() * torch.where(torch.eye(5) > 0, 1.0, torch.sign(mask))
    return Of(run), (q, k, v, mask), ({}, {}, {}, {})


@network
def convolutions_of_sequences() -> Network:
    net = nn.Sequential(
        nn.Conv1d(4, 8, 3, padding="same", dilation=2), nn.GELU(),
        nn.Conv1d(8, 8, 5, padding=2, padding_mode="circular"), nn.MaxPool1d(2),
        nn.Upsample(scale_factor=2), nn.AdaptiveAvgPool1d(5),
    )  # fmt: skip
    return net, (torch.randn(1, 4, 20),), (BATCH,)


# ------------------------------------------------------------------ moving numbers about


@network
def products() -> Network:
    def run(x: Tensor, y: Tensor) -> Any:
        return (
            torch.einsum("bij,bjk->bik", x, y), torch.einsum("bij,bkj->bik", x, x),
            torch.einsum("bii->bi", x @ y), torch.einsum("bij,bjk->", x, y),
            torch.bmm(x, y), x[0] @ y[0], torch.matmul(x, y[0]), torch.baddbmm(x @ y, x, y),
            torch.outer(x[0, 0], y[0, :, 0]), torch.tensordot(x, y, ([2], [1])),
            torch.linalg.norm(x, dim=1), torch.cumsum(x, 1), x.logsumexp(2),
            x.std(1), x.var(dim=(0, 2), unbiased=False), F.cosine_similarity(x, x.flip(0)),
        )  # fmt: skip

    return Of(run), (torch.randn(2, 3, 4), torch.randn(2, 4, 3)), ({}, {})


@network
def indexing() -> Network:
    def run(x: Tensor, i: Tensor) -> Any:
        y = x.clone()
        y[:, 1] = 7.0
        z = x.clone()
        z[0, ::2, 1:3] = x[1, ::2, :2]
        w = x.clone()
        w[i, 0] = -1.0
        return (
            x[i], x[:, i], x[i, :, i], x[..., -1], x[None, :, 1:], x.flip(1), y, z, w,
            x.index_select(2, i), x.gather(1, i.view(2, 1, 1).expand(2, 2, 4)),
            x.scatter(1, i.view(2, 1, 1).expand(2, 1, 4), 5.0),
            torch.zeros(4, 4).scatter_add(0, i.view(1, 2).expand(1, 2), x[0, :1, :2]),
            x.index_add(0, i, x), torch.where(x > 0, x, -x * 2), x.masked_fill(x < 0, 0.25),
            x.gather(1, x.argsort(1)), x.repeat(1, 2, 1), x.tile(2),
            x.repeat_interleave(3, 1), x.unbind(1)[1], torch.stack([x, x], 1), x.chunk(2, 2)[1],
            x.tril(), x.triu(1), torch.diagonal(x, 0, 1, 2), F.one_hot(i, 4), x.movedim(0, 2),
        )  # fmt: skip

    return Of(run), (torch.randn(2, 3, 4), torch.tensor([1, 0])), ({}, {})


@network
def orders() -> Network:
    def run(x: Tensor) -> Any:
        return (
            *x.topk(2, 1), *x.topk(1, 0, largest=False), *x.sort(2, descending=True),
            *x.max(1), *x.min(2, keepdim=True), x.argmax(), x.argmin(1), x.amax((0, 2)),
            torch.clamp(x, -0.5, 0.75), torch.maximum(x, x.flip(0)), x.sign(), x.round(),
            x.floor(), x.ceil(), x % 0.7, x.remainder(-0.3), torch.fmod(x, 0.7), x.prod(1),
        )  # fmt: skip

    return Of(run), (torch.randn(2, 3, 4),), (BATCH,)


@network
def counted() -> Network:
    def run(x: Tensor) -> Any:
        found = torch.nonzero(x > 0)
        return found, x[x > 0.5], x[x < 0].sum()

    return Of(run), (torch.randn(3, 5),), ({},)


@network
def elementwise() -> Network:
    def run(x: Tensor) -> Any:
        a = x.abs() + 0.1
        return (
            x.exp(), a.log(), a.log2(), a.log10(), a.log1p(), a.sqrt(), a.rsqrt(), x.sin(), x.cos(),
            x.tan(), (x / 5).asin(), (x / 5).acos(), x.atan(), a.pow(1.7), x**2, x.erf(), 2**x,
            a.reciprocal(), torch.atan2(x, a), x.square(), torch.addcmul(x, a, a, value=0.5), -x,
            torch.lerp(x, a, 0.3), (a * 10).int() // 3, (x * 10).int() % 4, x.logsumexp(0),
            torch.div(x, 0.3, rounding_mode="floor"), x.to(torch.int64), x.double() / 3,
            (x > 0) & (a > 1),
            (x > 0).float(), ~(x > 0), x.clamp(min=0.1).sum(), x.mean(1), x.minimum(a) - 1.5,
        )  # fmt: skip

    return Of(run), (torch.randn(3, 4),), ({},)


# ------------------------------------------------------------------ control flow


class Halving(nn.Module):
    """Halves until all is small: how often depends on the numbers."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        count = torch.zeros(1, dtype=torch.int64)
        while bool((x.abs() > 1).any()):
            x = x / 2
            count = count + 1
        if bool(count[0] % 2 == 0):
            x = x + 1
        return x, count


@only("script")
def scripted_loop() -> Network:
    return torch.jit.script(Halving()), (torch.randn(3, 4) * 9,), ({0: "n"},)


class Steps(nn.Module):
    """A row for each step, and as many steps as the input has."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        state = torch.zeros(x.shape[1], 4)
        rows: list[Tensor] = []
        for i in range(x.shape[0]):
            state = torch.tanh(self.cell(state) + x[i])
            rows.append(state)
        return torch.stack(rows)


@only("script")
def scripted_steps() -> Network:
    return torch.jit.script(Steps()), (torch.randn(5, 2, 4),), ({0: "steps"},)


class Choice(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cond(x.sum() > 0, lambda x: x.sin(), lambda x: x * 2 - 1, (x,))


@only("dynamo")
def condition() -> Network:
    return Choice(), (torch.randn(3, 4) - 1,), ({},)


# ------------------------------------------------------------------ other types


@network
def half_precision() -> Network:
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(200, 4))
    return net.half(), (torch.randn(1, 3, 5, 5).half(),), ({},)


@network
def fake_quantized() -> Network:
    def run(conv: nn.Module, x: Tensor) -> Tensor:
        x = torch.fake_quantize_per_tensor_affine(x, 0.05, 10, 0, 255)
        weight = torch.fake_quantize_per_channel_affine(
            conv.weight, torch.tensor([0.01, 0.02, 0.03, 0.015]),
            torch.zeros(4, dtype=torch.int32), 0, -128, 127,
        )  # fmt: skip
        return F.conv2d(x, weight, conv.bias)

    return Of(run, nn.Conv2d(3, 4, 3)), (torch.randn(1, 3, 6, 6),), ({},)
