"""Layers that Keras has slower, test-time augmentation, and what most networks here repeat."""

from collections.abc import Callable, Iterator, Mapping

import keras
import tensorflow as tf

from common.models import kernels


class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Keras's batch normalisation over the last axis, computed by TensorFlow's fused kernel.

    Keras 3 builds the same numbers from elementwise operations; the one kernel (oneDNN, cuDNN)
    reads and writes the activations fewer times. While it learns from images whose channels do not fill a processor's
    vectors, ``kernels.normalize`` is faster still, and takes its place. Arguments and weights are those of
    ``keras.layers.BatchNormalization``, which takes its place in saved files (``portable``).

    After a ``FoldingConv2D`` whose ``fold`` was given this layer, it returns its inputs unchanged while it does not
    learn.

    Shapes: (batch, features) or (batch, height, width, channels), float32, bfloat16 or float16; any other
    shape or axis, masks, ``synchronized`` and ``renorm`` go the way of Keras.

    Source: Ioffe and Szegedy 2015, arXiv:1502.03167;
    https://www.tensorflow.org/api_docs/python/tf/raw_ops/FusedBatchNormV3.
    """

    is_folded = False

    def call(self, inputs, training=None, mask=None):
        if self.is_folded and not self.trainable:
            return inputs
        rank = len(inputs.shape)
        special = self.synchronized or getattr(self, "renorm", False)  # renorm: newer versions of Keras
        if special or mask is not None or rank not in (2, 4) or self.axis not in (-1, rank - 1):
            return super().call(inputs, training=training, mask=mask)

        update = bool(training) and self.trainable
        channels = inputs.shape[-1]
        scale = tf.convert_to_tensor(self.gamma) if self.scale else tf.ones([channels])
        offset = tf.convert_to_tensor(self.beta) if self.center else tf.zeros([channels])
        nothing = tf.constant([], tf.float32)
        if update and rank == 4 and not kernels.on_gpu() and not kernels.fills_vectors(channels):
            scale, offset = tf.cast(scale, tf.float32), tf.cast(offset, tf.float32)
            outputs, mean, variance = kernels.normalize(inputs, scale, offset, self.epsilon)
            self._move(self.moving_mean, mean)
            self._move(self.moving_variance, variance)
            return outputs
        images = inputs if rank == 4 else inputs[:, None, None, :]
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=images,
            scale=tf.cast(scale, tf.float32),
            offset=tf.cast(offset, tf.float32),
            mean=nothing if update else tf.cast(self.moving_mean, tf.float32),
            variance=nothing if update else tf.cast(self.moving_variance, tf.float32),
            epsilon=self.epsilon,
            is_training=update,
        )
        if update:
            # The kernel returns the unbiased variance; Keras keeps the biased one.
            count = tf.cast(tf.size(images) // channels, tf.float32)
            self._move(self.moving_mean, mean)
            self._move(self.moving_variance, variance * ((count - 1.0) / count))
        return outputs if rank == 4 else outputs[:, 0, 0, :]

    def _move(self, statistic, value):
        statistic.assign(statistic * self.momentum + value * (1.0 - self.momentum))


class Conv2D(keras.layers.Conv2D):
    """Keras's 2-D convolution, faster on processors where its stride is 1.

    Arguments and weights are those of ``keras.layers.Conv2D``, which takes its place in saved files (``portable``).

    Shapes: images (batch, height, width, channels), float32, bfloat16 or float16.
    """

    def call(self, inputs):
        is_plain = self.activation is keras.activations.linear and self.strides == self.dilation_rate == (1, 1)
        if kernels.on_gpu() or not is_plain or self.groups > 1:
            return super().call(inputs)
        outputs = kernels.convolve(inputs, tf.convert_to_tensor(self.kernel), self.padding)
        return kernels.add_bias(outputs, tf.convert_to_tensor(self.bias)) if self.use_bias else outputs


class FoldingConv2D(keras.layers.Conv2D):
    """Keras's 2-D convolution, which computes the batch normalisation behind it, too, while that does not learn.

    It is then a fixed scale and offset of each channel, which multiply the kernel and join the bias: convolution,
    bias and the ReLU behind them become one kernel of oneDNN's, forward and backward, and the activations between
    them are never stored. The kernel's gradient is what it would be otherwise. Weights are those of
    ``keras.layers.Conv2D``, which takes its place in saved files (``portable``), and arguments are, too, but for
    ``activation``, ``dilation_rate``, ``groups`` and ``use_bias``, which stay at their defaults.

    Shapes: images (batch, height, width, channels), float32, bfloat16 or float16.

    Source: Jacob et al. 2017, arXiv:1712.05877, section 3.2.
    """

    _behind: Callable[[], FusedBatchNormalization] | None = None

    def fold(self, normalization: FusedBatchNormalization) -> None:
        """Says which batch normalisation takes this layer's outputs; no other layer may take them.

        Raises:
            ValueError: arguments of either layer that are not at their defaults and would be left out.
        """
        is_plain = self.activation is keras.activations.linear and self.dilation_rate == (1, 1) and self.groups == 1
        if not (is_plain and self.use_bias and normalization.scale and normalization.center):
            raise ValueError(f"{self.name} and {normalization.name} are not of the kind that can be folded")
        normalization.is_folded = True
        self._behind = lambda: normalization  # not the layer itself, whose weights Keras would count as this one's

    def add_weight(self, *arguments, **options):
        return super().add_weight(*arguments, **{**options, "autocast": False})  # folded in float32

    def call(self, inputs):
        kernel, bias = tf.convert_to_tensor(self.kernel), tf.convert_to_tensor(self.bias)
        if self._behind and not (behind := self._behind()).trainable:
            scale = behind.gamma * tf.math.rsqrt(behind.moving_variance + behind.epsilon)
            kernel, bias = kernel * scale, (bias - behind.moving_mean) * scale + behind.beta
        kernel, bias = (tf.cast(each, self.compute_dtype) for each in (kernel, bias))
        return kernels.add_bias(tf.nn.conv2d(inputs, kernel, self.strides, self.padding.upper()), bias)


class WithTestTimeAugmentation(keras.Model):
    """A network of images whose output, outside of training, is the mean over each image and its mirror image.

    Arguments are those of ``keras.Model``, with one input (batch, height, width, channels) and one output.

    Source: Krizhevsky et al. 2012, "ImageNet Classification with Deep Convolutional Neural Networks", section 4.1.
    """

    def call(self, inputs, training=None, mask=None):
        outputs = super().call(inputs, training=training, mask=mask)
        if training:
            return outputs
        return (outputs + super().call(inputs[:, :, ::-1], training=training, mask=mask)) / 2


def flat_layers(model: keras.Model) -> Iterator[keras.Layer]:
    """The layers in their order, those of a network in the network in its place."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from flat_layers(layer)
        else:
            yield layer


def activate(x):
    """Batch normalisation, then ReLU; the shape stays."""
    return keras.layers.ReLU()(FusedBatchNormalization()(x))


def with_layers(model: keras.Model, kinds: Mapping[type, type]) -> keras.Model:
    """The network and its weights, with each layer whose class is a key of ``kinds`` made one of the class it maps to.

    Subclasses of a key stay as they are.
    """

    def replace(layer):
        return kinds.get(type(layer), type(layer)).from_config(layer.get_config())

    plain = keras.Model(model.input, model.output, name=model.name)
    clone = keras.models.clone_model(plain, clone_function=replace, recursive=True)
    clone.set_weights(model.get_weights())
    return clone


def portable(model: keras.Model) -> keras.Model:
    """The network of Keras's own layers alone, to be saved and loaded anywhere: the same outputs but for rounding."""
    clone = with_layers(
        model,
        {
            FusedBatchNormalization: keras.layers.BatchNormalization,
            FoldingConv2D: keras.layers.Conv2D,
            Conv2D: keras.layers.Conv2D,
        },
    )
    if not isinstance(model, WithTestTimeAugmentation):
        return clone
    images = keras.Input(model.input.shape[1:])
    return keras.Model(images, keras.layers.Average(dtype="float32")([clone(images), clone(keras.ops.flip(images, 2))]))
