"""Small seeded TensorFlow networks of the kinds that people export, each with inputs: data only.

A network is a function from nothing to (function of tensors, inputs, shapes); in `shapes`, None
leaves an axis open. Converting and comparing is in `test_tensorflow_models`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

Shape = tuple[int | None, ...]
Network = tuple[Callable[..., Any], tuple[np.ndarray, ...], tuple[Shape, ...]]
NETWORKS: dict[str, Callable[[], Network]] = {}
L = tf.keras.layers


def network(function: Callable[[], Network]) -> Callable[[], Network]:
    NETWORKS[function.__name__] = function
    return function


def _numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def _trained(model: tf.keras.Model) -> tf.keras.Model:
    """Norms with moments that are not 0 and 1, as after training."""
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, L.BatchNormalization):
            layer.set_weights([random.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    return model


# ------------------------------------------------------------------ Keras


@network
def convolutions() -> Network:
    model = tf.keras.Sequential([
        tf.keras.Input((18, 20, 3)),
        L.Conv2D(8, 3, strides=2, padding="same", use_bias=False), L.BatchNormalization(),
        L.ReLU(6), L.DepthwiseConv2D(3, padding="same", depth_multiplier=2), L.BatchNormalization(),
        L.Activation("swish"), L.SeparableConv2D(12, 3, activation="elu"),
        L.MaxPooling2D(2, padding="same"), L.ZeroPadding2D(((1, 0), (2, 1))),
        L.Conv2D(6, (1, 3), dilation_rate=2), L.LeakyReLU(0.2), L.PReLU(),
        L.AveragePooling2D(2, strides=1, padding="same"), L.GlobalAveragePooling2D(),
        L.Dropout(0.5), L.Dense(10, activation="softmax"),
    ])  # fmt: skip
    return _trained(model), (_numbers(2, 18, 20, 3),), ((None, 18, 20, 3),)


@network
def upwards() -> Network:
    inputs = tf.keras.Input((8, 10, 4))
    low = L.Conv2D(6, 3, strides=2, padding="same", activation="relu")(inputs)
    high = L.Conv2DTranspose(4, 3, strides=2, padding="same")(low)
    wide = L.UpSampling2D(2, interpolation="bilinear")(L.Concatenate()([inputs, high]))
    near = L.UpSampling2D((1, 2))(L.Cropping2D(((1, 1), (0, 2)))(wide))
    found = L.Conv2DTranspose(2, (2, 3), strides=(1, 2), padding="valid")(near)
    model = tf.keras.Model(inputs, L.Conv2D(1, 1, activation="sigmoid")(found))
    return model, (_numbers(1, 8, 10, 4),), ((1, 8, 10, 4),)


@network
def attention_to_channels() -> Network:
    inputs = tf.keras.Input((8, 8, 8))
    squeezed = L.GlobalMaxPooling2D(keepdims=True)(inputs)
    weights = L.Conv2D(8, 1, activation="hard_sigmoid")(L.Conv2D(2, 1, activation="mish")(squeezed))
    excited = L.Multiply()([inputs, weights])
    summed = L.Add()([excited, L.LayerNormalization()(inputs), L.UnitNormalization()(inputs)])
    model = tf.keras.Model(inputs, L.Reshape((4, -1))(L.Permute((3, 1, 2))(summed)))
    return model, (_numbers(2, 8, 8, 8),), ((None, 8, 8, 8),)


@network
def volumes() -> Network:
    model = tf.keras.Sequential([
        tf.keras.Input((6, 7, 8, 2)), L.Conv3D(4, (1, 3, 2), padding="same"), L.MaxPooling3D(2),
        L.Conv3DTranspose(3, 2, strides=2), L.GroupNormalization(3), L.Flatten(), L.Dense(4),
    ])  # fmt: skip
    return model, (_numbers(1, 6, 7, 8, 2),), ((1, 6, 7, 8, 2),)


@network
def recurrent() -> Network:
    model = tf.keras.Sequential([
        tf.keras.Input((7, 5)),
        L.Bidirectional(L.LSTM(6, return_sequences=True)), L.GRU(4, return_sequences=True),
        L.GRU(4, reset_after=False, return_sequences=True), L.SimpleRNN(3, activation="relu"),
        L.Dense(2, activation="tanh"),
    ])  # fmt: skip
    return model, (_numbers(2, 7, 5),), ((2, 7, 5),)


@network
def recurrent_of_any_length() -> Network:
    model = tf.keras.Sequential([
        tf.keras.Input((None, 5)), L.LSTM(6, return_sequences=True), L.LSTM(4, go_backwards=True),
    ])  # fmt: skip
    return model, (_numbers(2, 9, 5),), ((None, None, 5),)


@network
def text_classifier() -> Network:
    model = tf.keras.Sequential([
        tf.keras.Input((12,), dtype="int32"), L.Embedding(100, 16),
        L.Conv1D(8, 3, padding="causal"), L.SpatialDropout1D(0.1), L.GlobalMaxPooling1D(),
        L.Dense(16, "relu"), L.Dense(3, "softmax"),
    ])  # fmt: skip
    words = np.random.default_rng(0).integers(0, 100, (2, 12)).astype(np.int32)
    return model, (words,), ((None, 12),)


def _gelu(x: tf.Tensor) -> tf.Tensor:
    return tf.nn.gelu(x, approximate=True)  # tf2onnx knows no Erfc, of which the exact one is made


@network
def transformer() -> Network:
    inputs = tf.keras.Input((6, 8))
    seen = L.MultiHeadAttention(2, 4)(inputs, inputs, use_causal_mask=True)
    normed = L.LayerNormalization()(L.Add()([inputs, seen]))
    fed = L.Dense(8)(L.Dense(16, activation=_gelu)(normed))
    model = tf.keras.Model(inputs, L.LayerNormalization()(L.Add()([normed, fed])))
    return model, (_numbers(2, 6, 8),), ((None, 6, 8),)


# ------------------------------------------------------------------ plain TensorFlow


@network
def resizes() -> Network:
    def run(x: tf.Tensor) -> Any:
        image = tf.image
        return (
            image.resize(x, (9, 14)), image.resize(x, (4, 5), method="nearest"),
            image.resize(x, (12, 16), method="bilinear"), image.resize(x, (3, 4), method="nearest"),
            tf.compat.v1.image.resize_bilinear(x, (9, 13), align_corners=True),
            tf.compat.v1.image.resize_nearest_neighbor(x, (12, 16)),
            tf.nn.depth_to_space(x, 2), tf.nn.space_to_depth(x, 2),
            image.flip_left_right(x), image.central_crop(x, 0.5),
            image.rgb_to_grayscale(x[..., :3]),
        )  # fmt: skip

    return run, (_numbers(1, 6, 8, 4),), ((1, 6, 8, 4),)


@network
def while_loop() -> Network:
    def run(x: tf.Tensor, n: tf.Tensor) -> Any:
        def step(i: tf.Tensor, y: tf.Tensor) -> Any:
            return i + 1, tf.where(y > 4, y * 0.5, y * y + 0.25)

        return tf.while_loop(lambda i, y: i < n, step, (tf.constant(0), x))

    return run, (_numbers(3, 4), np.array(7, np.int32)), ((3, 4), ())


@network
def condition() -> Network:
    def run(x: tf.Tensor) -> tf.Tensor:
        total = tf.reduce_sum(x)
        return tf.cond(total > 0, lambda: tf.nn.softmax(x), lambda: x - tf.reduce_max(x))

    return run, (_numbers(3, 4),), ((None, 4),)


@network
def while_with_rows() -> Network:
    def run(x: tf.Tensor) -> tf.Tensor:
        rows = tf.TensorArray(tf.float32, size=tf.shape(x)[0])
        for i in tf.range(tf.shape(x)[0]):
            rows = rows.write(i, tf.cumsum(x[i]) * tf.cast(i, tf.float32))
        return rows.stack()

    return run, (_numbers(5, 3),), ((None, 3),)


@network
def indexing() -> Network:
    def run(x: tf.Tensor, i: tf.Tensor) -> Any:
        values, places = tf.math.top_k(x, 2)
        return (
            values, places, tf.gather(x, i, axis=1), tf.gather_nd(x, i[:, None]),
            tf.scatter_nd([[0], [3], [2]], x, (4, 5)), x[:, ::-2], x[..., tf.newaxis], x[1:, 2:4],
            tf.one_hot(i, 4), tf.tile(x, (2, 1)), tf.reverse(x, (0,)), tf.where(x > 0, x, 0.1),
            tf.boolean_mask(x, x[:, 0] > -9), tf.argsort(x, axis=1), tf.sort(x, axis=0),
            tf.roll(x, 1, 0), tf.reshape(tf.transpose(x), (tf.shape(x)[1], -1)),
            tf.linalg.band_part(x, 1, 1), tf.pad(x, ((1, 0), (2, 1)), "SYMMETRIC"),
            tf.pad(x, ((1, 0), (2, 1)), "REFLECT"), tf.stack([x, x], 1), tf.split(x, 5, 1)[2],
            tf.unstack(x)[1], tf.math.segment_sum(x, i), tf.sequence_mask([1, 3], 4),
            tf.range(tf.shape(x)[0]), tf.strided_slice(x, [0, 1], [3, 5], [2, 2]),
        )  # fmt: skip

    places = np.array([0, 1, 1], np.int32)
    return run, (_numbers(3, 5), places), ((3, 5), (3,))


@network
def elementwise() -> Network:
    def run(x: tf.Tensor) -> Any:
        a, m = tf.abs(x) + 0.1, tf.math
        return (
            m.rsqrt(a), m.square(x), m.erf(x), m.floormod(x, 0.7), x // 0.3, m.sinh(x),
            m.squared_difference(x, a), m.atan2(x, a), m.softplus(x), m.reduce_logsumexp(x, 1),
            m.reduce_std(x, 0), m.cumsum(x, 1, exclusive=True, reverse=True), m.is_nan(x),
            tf.nn.l2_normalize(x, 1), tf.nn.moments(x, 0), tf.clip_by_value(x, -0.5, 0.5),
            m.reduce_prod(x), m.argmax(x, 1), tf.einsum("ij,kj->ik", x, a), m.sign(x),
            tf.round(x * 3), m.reduce_any(x > 1, 1), tf.cast(a * 5, tf.int32) // 2,
            tf.cast(a, tf.float64) / 3, m.divide_no_nan(x, x - x), tf.nn.log_softmax(x),
            tf.linalg.matmul(x, a, transpose_b=True), tf.nn.selu(x),
        )  # fmt: skip

    return run, (_numbers(4, 5),), ((None, 5),)
