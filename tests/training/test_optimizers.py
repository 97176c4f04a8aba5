import inspect

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras.src.backend.tensorflow.optimizer import TFOptimizer

import bonus_residual
import ex1_basenet
from common.errors import UserError
from common.experiment import Component, GradientDescent
from common.training.fit import Phase, compile_model
from common.training.optimizers import FusedAdam, FusedSGD, OneDevice, make_optimizer
from common.trial import build_network

BASENET = ex1_basenet.ADAM


def rates(learning, steps, at):
    """The learning rate after as many optimizer steps."""
    optimizer = make_optimizer(learning, learning.learning_rate, steps)
    optimizer.build([keras.Variable(np.ones(2, "float32"))])
    found = []
    for step in at:
        optimizer.variables[0].assign(step * learning.accumulate)
        found.append(float(optimizer.learning_rate))
    return found


def test_sgd_has_nesterov_momentum_and_the_old_decay():
    learning = ex1_basenet.SGD.learning
    optimizer = make_optimizer(learning, learning.learning_rate, 4400)
    assert (optimizer.momentum, optimizer.nesterov) == (0.9, True)
    assert rates(learning, 4400, (0, 4400)) == pytest.approx([0.01, 0.01 / (1 + 1e-6 * 4400)], rel=1e-6)


STOCK = {
    "sgd": (ex1_basenet.SGD.learning, lambda: keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True)),
    "sgd without momentum": (GradientDescent(Component("sgd"), 0.01), lambda: keras.optimizers.SGD(0.01)),
    "adam": (ex1_basenet.ADAM.learning, lambda: keras.optimizers.Adam(0.001)),
    "rmsprop": (
        GradientDescent(Component("RMSprop", {"rho": 0.8, "momentum": 0.5}), 0.01),
        lambda: keras.optimizers.RMSprop(0.01, rho=0.8, momentum=0.5),
    ),
    "accumulation": (
        GradientDescent(Component("sgd", {"momentum": 0.9}), 0.01, accumulate=2),
        lambda: keras.optimizers.SGD(0.01, momentum=0.9, gradient_accumulation_steps=2),
    ),
}


@pytest.mark.parametrize("kind", STOCK)
def test_optimizers_take_the_steps_of_keras(kind):
    learning, make_theirs = STOCK[kind]
    theirs = make_theirs()
    random, shapes = np.random.default_rng(0), [(3, 4), (4,), (5, 5, 3, 2)]
    ours = make_optimizer(learning, learning.learning_rate, 10**9)
    start = [random.normal(0, 1, shape).astype("float32") for shape in shapes]
    sets = [[keras.Variable(value) for value in start] for _ in range(2)]
    for _ in range(4):
        gradients = [keras.ops.convert_to_tensor(random.normal(0, 1, shape).astype("float32")) for shape in shapes]
        for optimizer, variables in zip((ours, theirs), sets):
            optimizer.apply(gradients, variables)
    assert not np.array_equal(sets[0][0], start[0])
    for one, other in zip(*sets):
        assert one.numpy() == pytest.approx(other.numpy(), rel=2e-5, abs=1e-6)


def test_a_schedule_warms_up_and_falls_to_zero_in_optimizer_steps():
    for accumulate in (1, 2):
        learning = GradientDescent(
            learning_rate=0.002, schedule=Component("CosineDecay"), warmup=0.1, accumulate=accumulate
        )
        found = rates(learning, 600, (0, 30, 60, 330, 600))
        assert found == pytest.approx([0, 0.001, 0.002, 0.001, 0], abs=1e-8)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.integers(2, 5000),
    st.floats(1e-5, 1),
    st.sampled_from([0.0, 0.001, 0.1, 0.5]),
    st.integers(1, 4),
    st.floats(0, 1),
)
def test_a_warmed_up_cosine_is_keras_s_and_its_formula(steps, rate, warmup, accumulate, at):
    step = int(at * steps)
    learning = GradientDescent(
        learning_rate=rate, schedule=Component("CosineDecay"), warmup=warmup, accumulate=accumulate
    )
    (found,) = rates(learning, steps, (step,))
    climb = max(1, round(warmup * steps)) if warmup else 0
    schedule = keras.optimizers.schedules.CosineDecay(
        rate if not climb else 0.0, max(1, steps - climb), warmup_target=rate if climb else None, warmup_steps=climb
    )
    assert found == pytest.approx(float(schedule(step)), rel=1e-5, abs=1e-9)
    fall = (1 + np.cos(np.pi * min(1, (step - climb) / max(1, steps - climb)))) / 2
    assert found == pytest.approx(rate * (step / climb if step < climb else fall), rel=1e-4, abs=1e-6 * rate)


def test_all_micro_batches_of_a_step_have_its_rate():
    learning = GradientDescent(learning_rate=1.0, schedule=Component("CosineDecay"), batch_size=4, accumulate=2)
    optimizer = make_optimizer(learning, 1.0, 10)
    schedule = optimizer._learning_rate
    assert float(schedule(7)) == float(schedule(6)) == float(keras.optimizers.schedules.CosineDecay(1.0, 10)(3))
    assert schedule.get_config() == {"schedule": schedule.schedule, "accumulate": 2}


def test_a_schedule_that_is_laid_over_steps_of_its_own_is_not_given_the_run_s():
    own = Component("CosineDecay", {"decay_steps": 4})
    assert rates(GradientDescent(learning_rate=1.0, schedule=own), 100, (0, 2, 4)) == pytest.approx([1, 0.5, 0])
    without = Component("PiecewiseConstantDecay")
    with pytest.raises(UserError, match="cannot be made"):
        make_optimizer(GradientDescent(schedule=without), 0.1, 10)
    one = GradientDescent(learning_rate=1.0, schedule=Component("CosineDecay"))
    assert rates(one, 1, (0, 1)) == pytest.approx([1, 0])
    assert rates(GradientDescent(learning_rate=1.0, schedule=Component("CosineDecay"), warmup=0.5), 2, (0, 1, 2)) == (
        pytest.approx([0, 1, 0])
    )


def test_sgd_takes_its_step_in_one_kernel():
    assert isinstance(make_optimizer(ex1_basenet.SGD.learning, 0.01, 10), FusedSGD)


@pytest.mark.parametrize(
    ("name", "changes"),
    [("Adam", {}), ("AdamW", {"weight_decay": 0.1}), ("Adam", {"amsgrad": True}), ("Adam", {"epsilon": 0.1})],
    ids=str,
)
def test_adam_takes_its_step_in_one_kernel_and_the_same_as_keras(name, changes):
    random = np.random.default_rng(0)
    start = [random.normal(0, 1, shape).astype("float32") for shape in [(3, 3, 8, 16), (16,)]]
    ours, theirs = ([keras.Variable(value) for value in start] for _ in range(2))
    decay = changes.get("weight_decay", 0.0)
    settings = {key: value for key, value in changes.items() if key != "weight_decay"}
    fused = make_optimizer(GradientDescent(Component(name, settings), 0.01, weight_decay=decay), 0.01, 100)
    plain = getattr(keras.optimizers, name)(0.01, **changes)
    assert isinstance(fused, FusedAdam) and isinstance(fused, type(plain))
    for _ in range(5):
        gradients = [random.normal(0, 1, value.shape).astype("float32") for value in start]
        for optimizer, variables in ((fused, ours), (plain, theirs)):
            optimizer.apply([keras.ops.convert_to_tensor(each) for each in gradients], variables)
    for one, other, old in zip(ours, theirs, start):
        assert one.numpy() == pytest.approx(other.numpy(), rel=1e-5, abs=1e-6)
        assert np.abs(one.numpy() - old).mean() > 1e-3


def test_a_schedule_without_warmup_begins_with_the_rate():
    learning = bonus_residual.WEIGHT_DECAY.with_settings(warmup=0.0).learning
    assert rates(learning, 100, (0, 50, 100)) == pytest.approx([0.003, 0.0015, 0], abs=1e-8)


def test_a_schedule_keeps_its_own_settings():
    decay = Component("PolynomialDecay", {"decay_steps": 10, "end_learning_rate": 0.5, "power": 1.0})
    learning = GradientDescent(learning_rate=1.0, schedule=decay)
    assert rates(learning, 100, (0, 5, 10, 100)) == pytest.approx([1, 0.75, 0.5, 0.5])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"optimizer": Component("adamm")}, "Keras has no optimizer adamm; it has .*Adam.*SGD"),
        ({"optimizer": Component("sgd", {"rho": 0.9})}, "SGD cannot be made of sgd.rho=0.9"),
        ({"optimizer": Component("loss_scale_optimizer")}, "Keras has no optimizer lossscaleoptimizer"),
        ({"optimizer": Component("adam", {"use_ema": True})}, "use_ema is for one training"),
        ({"schedule": Component("linear")}, "Keras has no learning-rate schedule linear; it has .*CosineDecay"),
        ({"schedule": Component("ExponentialDecay")}, "ExponentialDecay cannot be made of exponentialdecay"),
    ],
    ids=lambda value: "" if isinstance(value, str) else "-".join(map(str, value.values())),
)
def test_what_keras_has_not_is_said(changes, words):
    with pytest.raises(UserError, match=words):
        make_optimizer(GradientDescent(**changes), 0.01, 10)


def test_muon_takes_orthogonal_steps_of_kernels_and_adams_steps_of_all_else():
    """Newton-Schulz's iteration in numpy, on singular values; Adam as Keras has it."""
    random, rate = np.random.default_rng(0), 0.04
    start = [random.normal(0, 1, shape).astype("float32") for shape in [(3, 3, 8, 16), (2, 2, 1, 16), (16,), (8, 5)]]
    ours = [keras.Variable(value) for value in start]
    theirs = [keras.Variable(value) for value in start]
    muon = make_optimizer(GradientDescent(Component("muon"), rate), rate, 100)
    adam = keras.optimizers.Adam(0.3 * rate, beta_1=0.9, beta_2=0.95, epsilon=1e-8)
    momentums = [np.zeros(value.shape) for value in start]
    for _ in range(3):
        before = [variable.numpy() for variable in ours]
        gradients = [random.normal(0, 1, value.shape).astype("float32") for value in start]
        muon.apply([keras.ops.convert_to_tensor(each) for each in gradients], ours)
        adam.apply([keras.ops.convert_to_tensor(each) for each in gradients], theirs)
        for index, (old, gradient) in enumerate(zip(before, gradients)):
            if old.ndim != 4:
                assert ours[index].numpy() == pytest.approx(theirs[index].numpy(), rel=1e-5, abs=1e-6)
                continue
            momentums[index] = 0.9 * momentums[index] + gradient
            matrix = (gradient + 0.9 * momentums[index]).reshape(-1, old.shape[-1])
            left, values, right = np.linalg.svd(matrix / np.linalg.norm(matrix), full_matrices=False)
            for _ in range(3):
                values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
            step = (left * values) @ right * max(1, matrix.shape[0] / matrix.shape[1]) ** 0.5
            assert ours[index].numpy() == pytest.approx(old - rate * step.reshape(old.shape), rel=1e-3, abs=1e-4)


def test_the_smallest_gradients_take_muons_steps_too():
    """Where a gradient is as small as what keeps a division from zero, the step is half of what it would be."""
    muon = make_optimizer(GradientDescent(Component("muon"), 1.0), 1.0, 100)
    kernel, bias = (keras.Variable(np.zeros(shape, "float32")) for shape in ((1, 1, 1, 1), (1,)))
    muon.apply([np.full((1, 1, 1, 1), 1e-7 / 1.9, "float32"), np.full(1, 1e-8, "float32")], [kernel, bias])
    value = 0.5
    for _ in range(3):
        value = 3.4445 * value - 4.7750 * value**3 + 2.0315 * value**5
    assert float(kernel.numpy().squeeze()) == pytest.approx(-value, rel=1e-3)
    assert float(bias.numpy()[0]) == pytest.approx(-0.3 * 0.5, rel=1e-3)


def test_muon_takes_the_settings_of_every_optimizer():
    muon = make_optimizer(GradientDescent(Component("muon", {"global_clipnorm": 0.5})), 0.1, 10)
    assert muon.global_clipnorm == 0.5


def test_a_warmed_up_schedule_keeps_its_own_settings():
    schedule = Component("CosineDecay", {"alpha": 0.1})
    learning = GradientDescent(learning_rate=1.0, schedule=schedule, warmup=0.1)
    assert rates(learning, 100, (0, 10, 100)) == pytest.approx([0, 1, 0.1])


@pytest.mark.parametrize("base", [ex1_basenet.SGD, ex1_basenet.ADAM], ids=lambda base: base.name)
def test_weight_decay_shrinks_kernels_and_nothing_else(base):
    model = build_network(BASENET.with_settings(batch_normalization="before-relu"), (32, 32, 3), 25)
    random = np.random.default_rng(0)
    for variable in model.trainable_variables:  # zeros would stay zeros
        variable.assign(random.uniform(0.5, 1, variable.shape))
    assert {variable.name for variable in model.trainable_variables} == {"kernel", "bias", "gamma", "beta"}
    compile_model(model, base.with_settings(weight_decay=0.5, learning_rate=0.1).learning, Phase(1), 1)
    before = [variable.numpy() for variable in model.trainable_variables]
    model.optimizer.apply([keras.ops.zeros(variable.shape) for variable in model.trainable_variables])
    for variable, value in zip(model.trainable_variables, before):
        expected = value * (0.95 if variable.name == "kernel" else 1)
        assert variable.numpy() == pytest.approx(expected, rel=1e-5)


def test_the_private_methods_of_keras_that_training_uses_are_what_they_were():
    """Fails where a newer Keras renames one of them, or goes another way."""
    newer = f"Keras {keras.__version__} has changed; mend common/training/optimizers.py: "
    renamed = newer + "there is no {} in its optimizers any more"
    for owner, name, arguments in (
        (TFOptimizer, "_all_reduce_sum_gradients", ["self", "grads_and_vars"]),
        (keras.optimizers.Optimizer, "_get_variable_index", ["self", "variable"]),
    ):
        assert hasattr(owner, name), renamed.format(name)
        assert list(inspect.signature(getattr(owner, name)).parameters) == arguments, (
            f"{newer}{name} takes other arguments now"
        )
    assert issubclass(keras.optimizers.SGD, TFOptimizer), newer + "its optimizers are not TFOptimizer any more"

    calls = []

    class TrackedRun(keras.optimizers.SGD):
        def _all_reduce_sum_gradients(self, grads_and_vars):
            calls.append(grads_and_vars)
            return grads_and_vars

    variable = keras.Variable(np.ones(2, "float32"))
    TrackedRun().apply([keras.ops.ones(2)], [variable])
    assert calls, newer + "apply does not call _all_reduce_sum_gradients, which OneDevice overrides to save memory"

    fused = FusedSGD(momentum=0.9)
    fused.build([keras.Variable(np.zeros(2, "float32")), variable])
    assert fused._get_variable_index(variable) == 1, newer + "_get_variable_index does not number the variables"
    assert len(fused.momentums) == 2, newer + "SGD keeps its momentum elsewhere"
    adam = FusedAdam()
    adam.build([variable])
    assert len(adam._momentums) == len(adam._velocities) == 1, newer + "Adam keeps its moments elsewhere"
    assert FusedSGD.__mro__.index(OneDevice) < FusedSGD.__mro__.index(TFOptimizer)
