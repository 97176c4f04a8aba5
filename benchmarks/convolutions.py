"""The convolutions of a training step and nothing else: what is left when all other work costs no time."""

from collections.abc import Callable

import keras
import tensorflow as tf

from common.models.layers import flat_layers


def training_step(model: keras.Model, batch_size: int, dtype: tf.DType) -> Callable[[], object]:
    """A function that computes a step's convolutions on random numbers, forward and both gradients, to the end.

    As many are computed beside each other as TensorFlow likes: a lower bound of the step's time.

    Args:
        model: of images (batch, height, width, channels); its convolutions, those of inner models included, count.
        dtype: that the network computes in.
    """

    def random(*shape):
        return tf.cast(tf.random.stateless_normal(shape, (0, 0)), dtype)

    inner = [layer for layer in flat_layers(model) if isinstance(layer, keras.layers.Conv2D)]
    arrays = []
    for layer in inner:
        x, output = (random(batch_size, *tensor.shape[1:]) for tensor in (layer.input, layer.output))
        arrays.append((x, random(*layer.kernel.shape), output))

    @tf.function
    def step(arrays):
        results = []
        for number, (layer, (x, kernel, gradient)) in enumerate(zip(inner, arrays)):
            options = {"strides": [1, *layer.strides, 1], "padding": layer.padding.upper()}
            results.append(tf.nn.conv2d(x, kernel, **options))
            for_kernel = {"input": x, "filter_sizes": kernel.shape, "out_backprop": gradient}
            results.append(tf.raw_ops.Conv2DBackpropFilter(**for_kernel, **options))
            if number:  # nothing asks for the gradient of the images
                for_input = {"input_sizes": x.shape, "filter": kernel, "out_backprop": gradient}
                results.append(tf.raw_ops.Conv2DBackpropInput(**for_input, **options))
        return [result[0, 0, 0, 0] for result in results]  # so that none is left out

    return lambda: step(arrays)[0].numpy()
