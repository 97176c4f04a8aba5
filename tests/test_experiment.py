import json
import random
import string
from dataclasses import fields, replace
from types import MappingProxyType

import pytest

import bonus_residual
import ex1_basenet
import ex2_improvements
import ex3_resnet_birds
from common import cli
from common.errors import UserError
from common.experiment import (
    LONGEST_NAME,
    Component,
    Experiment,
    GradientDescent,
    Reported,
    parse_number,
    run_name,
    switches,
    to_text,
)
from common.reporting.report.commands import flags_of

EXERCISES = [module.EXERCISE for module in (ex1_basenet, ex2_improvements, bonus_residual, ex3_resnet_birds)]
EXPERIMENTS = [experiment for exercise in EXERCISES for experiment in exercise.experiments]


def random_value(kind, chance):
    """A value that a switch's flag could have."""
    if kind["type"] is bool:
        return chance.random() < 0.5
    if "choices" in kind:
        return chance.choice(kind["choices"])
    if kind["type"] is Component:
        name = "".join(chance.choices(string.ascii_lowercase, k=4))
        values = (True, False, 0.5, 1, -2.5e-7, 1e20)
        return Component(
            name, {key: chance.choice(values) for key in chance.sample(["a", "b_c", "d"], chance.randint(0, 3))}
        )
    if kind["type"] is tuple:
        return tuple(chance.randint(1, 99) for _ in range(chance.randint(1, 3)))
    if kind["type"] is int:
        return chance.randint(4, 300)  # a smaller batch in two micro-batches would leave one of a single image
    return chance.choice((0.1, 0.25, chance.randrange(1, 1000) / 1000, chance.random()))


def test_two_settings_have_two_names_and_one_has_one():
    chance, known = random.Random(0), {}
    for _ in range(1500):
        own = chance.choice(EXPERIMENTS)
        usable = {name: kind for name, kind in switches().items() if own.can_use(name) and name != "accumulate"}
        chosen = chance.sample(sorted(usable), chance.randint(0, len(usable)))
        changes = {name: random_value(usable[name], chance) for name in chosen}
        others = {"limit": str(chance.randint(1, 9))} if chance.random() < 0.3 else {}
        if changes.keys() & {"schedule", "warmup"}:  # only one can warm up
            changes |= {"schedule": Component("CosineDecay", {"alpha": chance.random()})}
        experiment = own.with_settings(**changes)
        name = run_name(experiment, own, others)
        assert name == run_name(own.with_settings(**dict(reversed(changes.items()))), own, others)
        assert len(name) <= LONGEST_NAME
        assert name.split(",")[0].split("~")[0] == own.name
        settings = repr((own.name, sorted(experiment.settings().items()), others))
        assert known.setdefault(name.lower(), settings) == settings  # also where folders ignore case
    assert len(known) > 1250


def test_a_name_leads_back_to_the_settings():
    chance, whole = random.Random(2), 0
    for _ in range(300):
        exercise = chance.choice(EXERCISES)
        own = chance.choice(exercise.experiments)
        usable = {name: kind for name, kind in switches().items() if own.can_use(name) and name != "accumulate"}
        changes = {
            name: random_value(usable[name], chance) for name in chance.sample(sorted(usable), min(2, len(usable)))
        }
        if changes.keys() & {"schedule", "warmup"}:
            changes |= {"schedule": Component("CosineDecay", {"alpha": chance.random()})}
        name = run_name(own.with_settings(**changes), own, {"classes": "0-3+7", "limit": "9"})
        if "~" in name:  # cut
            continue
        argv = ["--variant", *flags_of(name), "--dataset", "synthetic"]
        _, (job,) = cli.select(exercise, cli.parse(exercise, argv))
        assert job.name == name
        assert job.experiment.settings() == own.with_settings(**changes).settings()
        whole += 1
    assert whole > 200


def test_a_name_says_what_differs_sorted_in_the_flags_own_words():
    own = ex2_improvements.DROPOUT
    assert run_name(own, own, {}) == "dropout"
    assert run_name(own.with_settings(dropout=0.2, deep=True), own, {}) == "dropout"  # the variant's own values
    turned = own.with_settings(epochs=5, augment=False, patience=3, batch_normalization="none")
    assert run_name(turned, own, {"limit": "60", "classes": "3+1+7"}) == (
        "dropout,augment=no,batch-normalization=none,classes=3+1+7,epochs=5,limit=60,patience=3"
    )
    stopping = ex2_improvements.EARLY_STOPPING
    assert run_name(stopping.with_settings(patience=None), stopping, {}) == "early-stopping,patience=none"
    residual = bonus_residual.RESIDUAL
    assert run_name(residual.with_settings(widths=(16, 32)), residual, {}) == "residual,widths=16+32"
    sgd = ex1_basenet.SGD
    nadam = sgd.with_settings(optimizer=Component("Nadam", {"beta_1": 0.8}), learning_rate=1e-5)
    assert run_name(nadam, sgd, {}) == "sgd,learning-rate=1e-05,optimizer=nadam+beta_1=0.8"


def test_a_name_that_is_too_long_ends_in_a_hash_of_all_of_it():
    own = ex2_improvements.DROPOUT
    settings = dict(augment=False, batch_normalization="after-relu", label_smoothing=0.123, learning_rate=0.0123)
    long = own.with_settings(**settings, validation_fraction=0.2, test_time_augmentation=True, weight_decay=0.1)
    name = run_name(long, own, {})
    assert len(name) == LONGEST_NAME and name[-9] == "~" and int(name[-8:], 16) >= 0
    assert name.startswith("dropout,augment=no,batch-normalization=after-relu,label-smoothing=0.123,")
    other = run_name(long.with_settings(weight_decay=0.2), own, {})
    assert other != name and other[:-8] == name[:-8]


def test_a_name_of_just_the_longest_length_stays_whole():
    own = ex2_improvements.DROPOUT
    rest = LONGEST_NAME - len("dropout,init=")
    assert run_name(own, own, {"init": "x" * rest}) == "dropout,init=" + "x" * rest
    assert "~" in run_name(own, own, {"init": "x" * (rest + 1)})


def test_the_names_that_scripts_give_are_names_of_folders():
    for exercise in EXERCISES:
        names = [experiment.name for experiment in exercise.experiments]
        assert len(set(names)) == len(names)
        assert all(set(name) <= set(string.ascii_lowercase + string.digits + "-") for name in names)
        assert set(exercise.default) | set(exercise.reported) | set(exercise.compare) <= set(names)


def test_the_report_s_numbers_are_never_handed_on():
    """They stand in the exercise, by name: an experiment made from another has nothing of them."""
    assert not any(isinstance(getattr(each, field.name), Reported) for each in EXPERIMENTS for field in fields(each))
    child = ex1_basenet.ADAM.vary("mine", "another", learning_rate=0.01)
    exercise = replace(ex1_basenet.EXERCISE, experiments=(*ex1_basenet.EXERCISE.experiments, child))
    assert "adam" in exercise.reported and child.name not in exercise.reported


def test_vary_changes_fields_of_the_experiment_and_of_how_it_learns():
    base = ex2_improvements.DROPOUT
    child = base.vary("mine", "another", dropout=0.4, epochs=3)
    assert (child.name, child.description, child.dropout, child.learning.epochs) == ("mine", "another", 0.4, 3)
    assert base.dropout == 0.2 and base.learning.epochs == 25
    assert child.vary("dropout", base.description, dropout=0.2, epochs=25) == base
    with pytest.raises(TypeError):
        base.vary("mine", "another", dropuot=0.4)
    learning = GradientDescent(epochs=7)
    assert base.with_settings(learning=learning, batch_size=8).learning == replace(learning, batch_size=8)


def test_a_variant_can_use_the_switches_that_it_has():
    svm, linear, dropout = ex3_resnet_birds.SVM, ex3_resnet_birds.LINEAR, ex2_improvements.DROPOUT
    for name in ("dropout", "epochs", "learning_rate", "batch_size", "optimizer", "augment", "freeze_batch_norm"):
        assert not svm.can_use(name), name
    assert svm.can_use("power_normalization") and svm.can_use("validation_fraction")
    assert linear.can_use("epochs") and not linear.can_use("dropout") and not linear.can_use("freeze_batch_norm")
    assert dropout.can_use("dropout") and not dropout.can_use("shortcuts")
    assert ex3_resnet_birds.FINETUNE.can_use("freeze_batch_norm")


def test_every_switch_that_a_variant_has_is_one_its_network_has():
    from common.trial import check

    for experiment in EXPERIMENTS:
        check(experiment)


def test_settings_hold_everything_but_the_name():
    one, other = ex2_improvements.DROPOUT, ex2_improvements.DROPOUT.vary("x", "y")
    assert one.settings() == other.settings()
    for name in switches():
        if one.can_use(name):
            assert name in one.settings() or getattr(one.learning, name, None) is None


def test_settings_are_values_of_json_and_say_how_it_learns():
    for each in EXPERIMENTS:
        settings = each.settings()
        assert json.loads(json.dumps(settings)) == settings
        assert settings["learning"] == type(each.learning).__name__
    stages = ex3_resnet_birds.FINETUNE_STAGED.settings()["stages"]
    assert stages == [
        {
            "last_epoch": stage.last_epoch,
            "trainable": list(stage.trainable),
            "learning_rate_multiplier": stage.learning_rate_multiplier,
        }
        for stage in ex3_resnet_birds.FINETUNE_STAGED.learning.stages
    ]
    options = MappingProxyType({"pooling": "max"})
    own = ex1_basenet.ADAM.with_settings(network_options=options)
    assert json.dumps(own.settings()["network_options"]) == '{"pooling": "max"}'
    assert own.network_switches()["pooling"] == "max"


def test_a_network_is_given_the_switches_that_it_has():
    assert ex2_improvements.DROPOUT.network_switches() == {
        "batch_normalization": "before-relu",
        "deep": True,
        "dropout": 0.2,
    }
    names = {"shortcuts", "block", "blocks", "widths"}
    assert names <= {*bonus_residual.RESIDUAL.network_switches()}
    assert {"power_normalization"} <= {*ex3_resnet_birds.SVM.network_switches()}


@pytest.mark.parametrize(
    ("normalization", "batch_size", "accumulate", "most"),
    [
        ("before-relu", 4, 3, "--accumulate 2 at most"),
        ("after-relu", 3, 2, "--accumulate 1"),
        ("before-relu", 67, 34, "--accumulate 33 at most"),
        ("before-relu", 4, 2, None),
        ("before-relu", 1, 1, None),
        ("none", 4, 4, None),
    ],
)
def test_batch_normalization_is_not_given_micro_batches_of_one_image(normalization, batch_size, accumulate, most):
    settings = dict(batch_normalization=normalization, batch_size=batch_size, accumulate=accumulate)
    if most is None:
        assert ex2_improvements.DROPOUT.with_settings(**settings).learning.accumulate == accumulate
    else:
        with pytest.raises(UserError, match=f"--batch-size {batch_size} in {accumulate} .*: {most}$"):
            ex2_improvements.DROPOUT.with_settings(**settings)


def test_frozen_batch_normalization_may_be_given_micro_batches_of_one_image():
    settings = dict(batch_size=4, accumulate=4)
    assert ex3_resnet_birds.FINETUNE.with_settings(**settings, freeze_batch_norm=True).learning.accumulate == 4
    with pytest.raises(UserError, match="of one image"):
        ex3_resnet_birds.FINETUNE.with_settings(**settings, freeze_batch_norm=False)


def test_more_micro_batches_than_images_in_a_batch_are_refused():
    with pytest.raises(UserError, match="accumul"):
        GradientDescent(batch_size=4, accumulate=5)


def test_a_component_is_read_as_it_is_written():
    chance = random.Random(1)
    for _ in range(300):
        component = random_value({"type": Component}, chance)
        assert Component.parse(str(component)) == component
    assert Component.parse("Cosine_Decay+alpha=0.1") == Component("CosineDecay", {"alpha": 0.1})
    assert str(Component("SGD", {"nesterov": True, "momentum": 0.9})) == "sgd+momentum=0.9+nesterov=yes"
    for text in (
        "",
        "sgd+",
        "sgd+momentum",
        "sgd+=1",
        "sgd+a=1=2",
        "3sgd",
        "sgd,x",
        "sgd+a=b/c",
        "sgd+a=b,c",
        "sgd+a=b",
        "sgd+a=nan",
        "sgd+a=inf",
    ):
        with pytest.raises(ValueError):
            Component.parse(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e20, "1e20"),
        (True, "yes"),
        (False, "no"),
        (None, "none"),
        (0.1, "0.1"),
        (1e-05, "1e-05"),
        ((32, 64), "32+64"),
        (7, "7"),
    ],
)
def test_values_as_text(value, text):
    assert to_text(value) == text


def test_numbers_are_checked():
    assert parse_number("3", int, low=1) == 3
    assert parse_number("1e-3", float, above=0) == 0.001
    for text, kind, bounds in (
        ("0", int, {"low": 1}),
        ("1.5", int, {"low": 1}),
        ("99999999999", int, {"low": 1}),
        ("nan", float, {"above": 0}),
        ("inf", float, {"above": 0}),
        ("0", float, {"above": 0}),
        ("1", float, {"low": 0, "high": 1}),
        ("0", float, {"above": 0, "high": 1}),
    ):
        with pytest.raises(ValueError, match=f"'{text}' is not a"):
            parse_number(text, kind, **bounds)


@pytest.mark.parametrize(
    ("text", "kind", "bounds", "what"),
    [
        ("0", int, {"low": 1}, "a whole number from 1"),
        ("2147483648", int, {"low": 1}, "a whole number from 1"),
        ("1025", int, {"low": 1, "high": 1024}, "a whole number from 1 to 1024"),
        ("x", int, {"low": 0}, "a whole number from 0"),
        ("-0.1", float, {"low": 0}, "a number from 0"),
        ("0", float, {"above": 0}, "a number above 0"),
        ("1", float, {"above": 0, "high": 1}, "a number between 0 and 1"),
        ("1", float, {"low": 0, "high": 1}, "a number from 0 to below 1"),
        ("64.5", float, {"low": 0, "high": 64}, "a number from 0 to 64"),
        ("2", int, {"low": 1, "high": 1}, "a whole number from 1 to 1"),
    ],
)
def test_a_number_outside_is_told_the_range(text, kind, bounds, what):
    with pytest.raises(ValueError) as raised:
        parse_number(text, kind, **bounds)
    assert str(raised.value) == f"'{text}' is not {what}"


@pytest.mark.parametrize(
    ("text", "kind", "bounds", "value"),
    [
        ("2147483647", int, {"low": 1}, 2**31 - 1),
        ("1024", int, {"low": 1, "high": 1024}, 1024),
        ("1", int, {"low": 1, "high": 1}, 1),
        ("-3", int, {}, -3),
        ("0", float, {"low": 0, "high": 1}, 0.0),
        ("0.999", float, {"above": 0, "high": 1}, 0.999),
        ("64", float, {"low": 0, "high": 64}, 64.0),
        ("1", float, {"low": 0, "high": 64}, 1.0),
        ("5e9", float, {"above": 0}, 5e9),
        ("0.5", float, {"above": 0}, 0.5),
    ],
)
def test_a_number_at_the_end_of_its_range_is_in_it(text, kind, bounds, value):
    assert parse_number(text, kind, **bounds) == value


def test_minus_zero_is_zero_also_in_a_name():
    assert to_text(parse_number("-0.0", float, low=0)) == "0.0"
    assert str(Component.parse("sgd+momentum=-0.0")) == "sgd+momentum=0.0"


def test_every_switch_has_a_sentence_for_help():
    assert all(kind["sentence"] for kind in switches().values())
    assert isinstance(ex1_basenet.ADAM, Experiment)
