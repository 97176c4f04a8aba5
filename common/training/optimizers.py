"""Keras's optimizers and schedules, by name; the same numbers for one device, in less memory and time.

The private methods of Keras that training overrides are all here: ``_all_reduce_sum_gradients``
and ``_get_variable_index``.
"""

import inspect

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
    one_device = (
        FusedSGD if keras_class is keras.optimizers.SGD else type(keras_class.__name__, (OneDevice, keras_class), {})
    )
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
    if "decay_steps" in known and "decay_steps" not in learning.schedule.settings:
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
