"""Layers that Keras has slower, test-time augmentation, and what most networks here repeat."""

import keras
import tensorflow as tf


class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Keras's batch normalisation over the last axis, computed by TensorFlow's fused kernel.

    Keras 3 builds the same numbers from elementwise operations; the one kernel (oneDNN, cuDNN)
    reads and writes the activations fewer times. Arguments and weights are those of
    ``keras.layers.BatchNormalization``, which takes its place in saved files (``portable``).

    Shapes: (batch, features) or (batch, height, width, channels), float32, bfloat16 or float16; any other
    shape or axis, masks, ``synchronized`` and ``renorm`` go the way of Keras.

    Source: Ioffe and Szegedy 2015, arXiv:1502.03167;
    https://www.tensorflow.org/api_docs/python/tf/raw_ops/FusedBatchNormV3.
    """

    def call(self, inputs, training=None, mask=None):
        rank = len(inputs.shape)
        special = self.synchronized or getattr(self, "renorm", False)  # renorm: newer versions of Keras
        if special or mask is not None or rank not in (2, 4) or self.axis not in (-1, rank - 1):
            return super().call(inputs, training=training, mask=mask)

        update = bool(training) and self.trainable
        channels = inputs.shape[-1]
        scale = tf.convert_to_tensor(self.gamma) if self.scale else tf.ones([channels])
        offset = tf.convert_to_tensor(self.beta) if self.center else tf.zeros([channels])
        nothing = tf.constant([], tf.float32)
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


def activate(x):
    """Batch normalisation, then ReLU; the shape stays."""
    return keras.layers.ReLU()(FusedBatchNormalization()(x))


def with_normalization(model: keras.Model, kind: type[keras.layers.BatchNormalization]) -> keras.Model:
    """The network, and its weights, with this kind of batch normalisation in place of any other."""

    def replace(layer):
        is_normalization = isinstance(layer, keras.layers.BatchNormalization)
        return (kind if is_normalization else type(layer)).from_config(layer.get_config())

    plain = keras.Model(model.input, model.output, name=model.name)
    clone = keras.models.clone_model(plain, clone_function=replace, recursive=True)
    clone.set_weights(model.get_weights())
    return clone


def portable(model: keras.Model) -> keras.Model:
    """The network of Keras's own layers alone, to be saved and loaded anywhere: the same outputs but for rounding."""
    clone = with_normalization(model, keras.layers.BatchNormalization)
    if not isinstance(model, WithTestTimeAugmentation):
        return clone
    images = keras.Input(model.input.shape[1:])
    return keras.Model(images, keras.layers.Average(dtype="float32")([clone(images), clone(keras.ops.flip(images, 2))]))
