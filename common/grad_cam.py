"""Where a network looks: heat maps of a class."""

from collections.abc import Callable
from itertools import pairwise

import keras
import numpy as np
import tensorflow as tf

ROUNDING = {4: 1e-4, 2: 1e-2}  # of a gradient, in its mean over all places, by the bytes of a number


def grad_cam(model: keras.Model, inputs: tf.Tensor, classes: np.ndarray) -> np.ndarray | None:
    """Where a network looks for a class: float32 (images, h, w), 0..1, 1 where it finds most of it.

    The maps are those of the last layer that has any, before pooling; None if no layer has. A saved network with
    test-time augmentation (``common.models.layers.portable``) is asked about the image, without its mirror image.

    Source: Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization",
    arXiv:1610.02391.

    Args:
        inputs: float32 (images, height, width, channels), as the network sees them.
        classes: int (images,).
    """
    model, last_maps = _last_maps(model)
    if last_maps is None:
        return None
    with_maps = keras.Model(model.inputs, [last_maps, model.output])
    with tf.GradientTape() as tape:
        maps, logits = with_maps(inputs, training=False)
        score = _score(logits, classes)
    return _heat(maps, tape.gradient(score, maps))


def class_activation_map(logits: Callable[[tf.Tensor], tf.Tensor], maps: tf.Tensor, classes: np.ndarray) -> np.ndarray:
    """The same of the maps that something makes logits of: how much each place speaks for the class.

    For the mean over all places and a linear head it is the class activation map of Zhou et al. 2016, "Learning Deep
    Features for Discriminative Localization", arXiv:1512.04150, where that is above 0; for others, Grad-CAM.

    Args:
        logits: from the maps to (images, classes).
        maps: float32 (images, h, w, channels).
        classes: int (images,).
    """
    with tf.GradientTape() as tape:
        tape.watch(maps)
        score = _score(logits(maps), classes)
    return _heat(maps, tape.gradient(score, maps))


def has_maps(model: keras.Model) -> bool:
    """Whether ``grad_cam`` has something to show."""
    return _last_maps(model)[1] is not None


def _score(logits, classes: np.ndarray):
    return tf.reduce_sum(tf.gather(logits, classes, batch_dims=1))


def _heat(maps, gradient) -> np.ndarray:
    rounding, gradient = ROUNDING[gradient.dtype.size], tf.cast(gradient, tf.float32)
    weights = tf.reduce_mean(gradient, axis=(1, 2), keepdims=True)
    # A covariance takes the mean over the places off, so these weights are rounding errors; each place has its own:
    # HiResCAM, Draelos and Carin 2020, arXiv:2011.08891.
    largest = [tf.reduce_max(tf.abs(each), axis=(1, 2, 3), keepdims=True) for each in (weights, gradient)]
    weights = tf.where(largest[0] < rounding * largest[1], gradient, weights)
    # The gradient of a square root is infinite at 0; a channel that is 0 speaks for nothing.
    heat = tf.nn.relu(tf.reduce_sum(tf.math.multiply_no_nan(weights, tf.cast(maps, tf.float32)), axis=-1)).numpy()
    return heat / np.maximum(heat.max(axis=(1, 2), keepdims=True), np.finfo(np.float32).tiny)


def _last_maps(model: keras.Model):
    """The network that sees images as they are, and the symbolic output (batch, height, width, channels) of its last
    layer with one, before pooling; or None."""
    if isinstance(model.layers[-1], keras.layers.Average):  # over an image and its mirror image
        model = next(layer for layer in model.layers if isinstance(layer, keras.Model))
    left_out = keras.layers.MaxPooling2D | keras.layers.AveragePooling2D | keras.layers.Dropout
    for layer, following in reversed(list(pairwise(model.layers[1:]))):
        # The output of a network in the network is one of its own; this one's is what the next layer takes.
        output = following.input if isinstance(layer, keras.Model) else layer.output
        if len(output.shape) == 4 and not isinstance(layer, left_out):
            return model, output
    return model, None
