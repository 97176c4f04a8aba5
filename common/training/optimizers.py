"""Keras's optimizers and schedules, by name; the same numbers for one device, in less memory and time.

The private methods of Keras that training overrides are all here: ``_all_reduce_sum_gradients``
and ``_get_variable_index``.
"""

import inspect
import math

import keras
import tensorflow as tf

from common.errors import UserError
from common.experiment import Component, GradientDescent


class OneDevice:
    """For an optimizer: gradients are not summed over devices, for there is one.

    Keras's way through ``tf.distribute`` registers a gradient for each training step that is traced, and so
    keeps its graph, and the memory of the variables in it, as long as the process lives.

    Source: ``keras.src.backend.tensorflow.optimizer.TFOptimizer``.
    """

    def _all_reduce_sum_gradients(self, grads_and_vars):
        return grads_and_vars


class FusedSGD(OneDevice, keras.optimizers.SGD):
    """Stochastic gradient descent, with momentum a step of a variable in one kernel.

    Keras builds the same numbers from eight operations; for each of ResNet50's 214 trained variables they have
    to be traced, and they read and write it several times.

    Source: https://www.tensorflow.org/api_docs/python/tf/raw_ops/ResourceApplyKerasMomentum.
    """

    def update_step(self, gradient, variable, learning_rate):
        if not self.momentum:
            return super().update_step(gradient, variable, learning_rate)
        return tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=self.momentums[self._get_variable_index(variable)].value.handle,
            lr=tf.cast(learning_rate, variable.dtype),
            grad=tf.cast(gradient, variable.dtype),
            momentum=self.momentum,
            use_nesterov=self.nesterov,
        )


class FusedAdam(OneDevice, keras.optimizers.Adam):
    """Adam, a step of a variable in one kernel.

    Keras builds the same numbers from a dozen operations, which read and write all of the variable one after the other.

    Source: Kingma and Ba 2014, arXiv:1412.6980; https://www.tensorflow.org/api_docs/python/tf/raw_ops/ResourceApplyAdam.
    """

    def update_step(self, gradient, variable, learning_rate):
        if self.amsgrad:
            return super().update_step(gradient, variable, learning_rate)
        index, dtype = self._get_variable_index(variable), variable.dtype
        beta_1, beta_2 = (tf.cast(each, dtype) for each in (self.beta_1, self.beta_2))
        count = tf.cast(self.iterations + 1, dtype)
        return tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=beta_1**count,
            beta2_power=beta_2**count,
            lr=tf.cast(learning_rate, dtype),
            beta1=beta_1,
            beta2=beta_2,
            epsilon=tf.cast(self.epsilon, dtype),
            grad=tf.cast(gradient, dtype),
        )


class FusedAdamW(FusedAdam, keras.optimizers.AdamW):
    """The same with decoupled weight decay (Loshchilov and Hutter 2017, arXiv:1711.05101)."""


class Muon(OneDevice, keras.optimizers.Optimizer):
    """Momentum whose steps are made orthogonal, for the kernels of convolutions; Adam for all other variables.

    A kernel is a matrix (height · width · channels, filters). Its step is the matrix that Newton-Schulz's iteration
    makes of its momentum, with singular values near 1, times the learning rate and, where it has more rows than
    columns, √(rows / columns). Keras's own Muon leaves convolutions to Adam.

    Args:
        momentum: of the kernels, Nesterov's.
        steps: of Newton-Schulz's iteration, computed in the network's precision.
        adam_ratio: Adam's learning rate, in multiples of the learning rate.

    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks",
    https://kellerjordan.github.io/posts/muon/; Adam: Kingma and Ba 2014, arXiv:1412.6980.
    """

    BETAS = (0.9, 0.95)
    EPSILON = 1e-8

    def __init__(self, learning_rate=0.02, momentum=0.9, steps=3, adam_ratio=0.3, **options):
        super().__init__(learning_rate=learning_rate, **options)  # pyright: ignore[reportCallIssue]
        self.momentum, self.steps, self.adam_ratio = momentum, steps, adam_ratio

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._momentums = [self.add_variable_from_reference(each, "momentum") for each in variables]
        self._velocities = [
            None if len(each.shape) == 4 else self.add_variable_from_reference(each, "velocity") for each in variables
        ]

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        momentum, velocity = self._momentums[index], self._velocities[index]
        if velocity is None:
            self.assign(momentum, self.momentum * momentum + gradient)
            rows, columns = math.prod(variable.shape[:-1]), variable.shape[-1]
            step = self._orthogonal(tf.reshape(gradient + self.momentum * momentum, (rows, columns)))
            step = max(1.0, rows / columns) ** 0.5 * tf.reshape(step, variable.shape)
        else:
            first, second = self.BETAS
            count = tf.cast(self.iterations + 1, gradient.dtype)
            self.assign(momentum, first * momentum + (1 - first) * gradient)
            self.assign(velocity, second * velocity + (1 - second) * tf.square(gradient))
            scale = tf.sqrt(velocity / (1 - second**count)) + self.EPSILON
            step = self.adam_ratio * momentum / (1 - first**count) / scale
        self.assign_sub(variable, learning_rate * step)

    def _orthogonal(self, matrix):
        x = tf.cast(matrix / (tf.norm(matrix) + 1e-7), keras.config.dtype_policy().compute_dtype)
        is_wide = x.shape[0] < x.shape[1]
        x = tf.transpose(x) if is_wide else x
        for _ in range(self.steps):
            square = tf.matmul(x, x, transpose_a=True)
            x = 3.4445 * x + tf.matmul(x, -4.7750 * square + 2.0315 * tf.matmul(square, square))
        return tf.cast(tf.transpose(x) if is_wide else x, matrix.dtype)


OWN = {  # in place of Keras's of the same name
    keras.optimizers.SGD: FusedSGD,
    keras.optimizers.Adam: FusedAdam,
    keras.optimizers.AdamW: FusedAdamW,
    keras.optimizers.Muon: Muon,
}


class PerOptimizerStep(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule that counts optimizer steps where Keras counts micro-batches."""

    def __init__(self, schedule: keras.optimizers.schedules.LearningRateSchedule, accumulate: int):
        self.schedule, self.accumulate = schedule, accumulate

    def __call__(self, step):
        return self.schedule(step // self.accumulate)

    def get_config(self) -> dict:
        return {"schedule": self.schedule, "accumulate": self.accumulate}


def make_optimizer(learning: GradientDescent, learning_rate: float, steps: int) -> keras.optimizers.Optimizer:
    """A fresh optimizer with its schedule.

    Args:
        learning_rate: in place of ``learning.learning_rate``.
        steps: optimizer steps that the schedule is laid over.

    Raises:
        UserError: Keras has no optimizer or schedule of that name, or it has no such setting.
    """
    keras_class = _find(keras.optimizers, keras.optimizers.Optimizer, learning.optimizer, "optimizer")
    if learning.optimizer.settings.get("use_ema"):  # Keras puts the averages in place of the weights after each fit
        raise UserError("use_ema is for one training at once, and a run is a fit an epoch; leave it out")
    one_device = OWN.get(keras_class) or type(keras_class.__name__, (OneDevice, keras_class), {})
    options: dict = {}
    if learning.weight_decay:
        options["weight_decay"] = learning.weight_decay
    if learning.accumulate > 1:
        options["gradient_accumulation_steps"] = learning.accumulate
    rate = _make_schedule(learning, learning_rate, steps)
    optimizer = _make(one_device, learning.optimizer, learning_rate=rate, **options)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def _make_schedule(learning: GradientDescent, learning_rate: float, steps: int):
    if learning.schedule == Component("constant"):
        return learning_rate
    schedules = keras.optimizers.schedules
    keras_class = _find(schedules, schedules.LearningRateSchedule, learning.schedule, "learning-rate schedule")
    known = inspect.signature(keras_class).parameters
    options: dict = {"initial_learning_rate": learning_rate}
    warmup_steps = 0
    if learning.warmup:
        warmup_steps = max(1, round(learning.warmup * steps))
        options |= {"initial_learning_rate": 0.0, "warmup_target": learning_rate, "warmup_steps": warmup_steps}
    if "decay_steps" in known:
        options["decay_steps"] = max(1, steps - warmup_steps)
    schedule = _make(keras_class, learning.schedule, **options)
    return schedule if learning.accumulate == 1 else PerOptimizerStep(schedule, learning.accumulate)


def _find(module, base: type, component: Component, kind: str) -> type:
    classes = {
        name.lower(): each
        for name, each in vars(module).items()
        if inspect.isclass(each) and issubclass(each, base) and each is not base
    }
    classes.pop("lossscaleoptimizer", None)  # what float16 wraps around the others
    if component.name not in classes:
        names = ", ".join(sorted(each.__name__ for each in classes.values()))
        raise UserError(f"Keras has no {kind} {component.name}; it has {names}")
    return classes[component.name]


def _make(keras_class: type, component: Component, **options):
    """The component, with its own settings before these options."""
    try:
        return keras_class(**{**options, **component.settings})
    except (TypeError, ValueError) as error:
        raise UserError(f"Keras's {keras_class.__name__} cannot be made of {component}: {error}") from error
