"""Keras's optimizers, for one device: the same numbers in less memory and time."""

import keras
import tensorflow as tf


class OneDevice:
    """For an optimizer: gradients are not summed over devices, for there is one.

    Keras's way through ``tf.distribute`` registers a gradient for each training step that is traced, and so
    keeps its graph, and the memory of the variables in it, as long as the process lives.

    Source: ``keras.src.backend.tensorflow.optimizer.TFOptimizer``.
    """

    def _all_reduce_sum_gradients(self, grads_and_vars):
        return grads_and_vars


class Adam(OneDevice, keras.optimizers.Adam):
    """Kingma and Ba 2015, arXiv:1412.6980."""


class SGD(OneDevice, keras.optimizers.SGD):
    """Stochastic gradient descent with momentum, a step of a variable in one kernel.

    Keras builds the same numbers from eight operations; for each of ResNet50's 214 trained variables they have
    to be traced, and they read and write it several times.

    Source: https://www.tensorflow.org/api_docs/python/tf/raw_ops/ResourceApplyKerasMomentum.
    """

    def update_step(self, gradient, variable, learning_rate):
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=self.momentums[self._get_variable_index(variable)].value.handle,
            lr=tf.cast(learning_rate, variable.dtype),
            grad=tf.cast(gradient, variable.dtype),
            momentum=self.momentum,
            use_nesterov=self.nesterov,
        )
