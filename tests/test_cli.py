"""The command line: what it tells, what it refuses, which runs it makes of its flags."""

import itertools
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import (
    BONUS,
    EX1,
    EX2,
    EX3,
    ROOT,
    RUN_FILES,
    assert_done,
    assert_error,
    read_json,
    run_script,
    script_process,
    visible_files,
)

import bonus_residual
import ex1_basenet
import ex2_improvements
import ex3_resnet_birds
from common import cli, sweep
from common.errors import UserError
from common.experiment import Component, switches

EXERCISES = {
    module.EXERCISE.name: module.EXERCISE
    for module in (ex1_basenet, ex2_improvements, bonus_residual, ex3_resnet_birds)
}


def jobs(exercise, *flags):
    """The runs that the flags ask for."""
    return cli.select(exercise, cli.parse(exercise, [str(flag) for flag in flags]))[1]


def names(exercise, *flags):
    return [job.name for job in jobs(exercise, *flags)]


def test_list_names_every_variant_with_the_report_s_numbers():
    assert [line.split()[0] for line in run_script(EX1, "--list").stdout.splitlines()] == ["sgd", "adam"]
    lines = run_script(EX2, "--list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == [
        "normalize",
        "augment",
        "batchnorm",
        "batchnorm-after-relu",
        "depth",
        "dropout",
        "early-stopping",
        "early-stopping-no-dropout",
    ]
    assert lines[5].endswith("; report: 0.5268, figures 15, 16")
    assert lines[7].endswith("; report: 0.6140, no figures")
    assert run_script(BONUS, "--list").stdout.splitlines()[-1].endswith("; report: no numbers")


@pytest.mark.slow
def test_table_prints_the_network():
    result = run_script(EX2, "--table", "--variant", "early-stopping", "--no-dropout")
    assert_done(result)
    assert result.stdout.startswith("early-stopping,dropout=0.0\n")
    assert "| 21 | Linear | - | 50 → 25 | - |" in result.stdout
    assert "Dropout" not in result.stdout
    assert "43,741 parameters" in result.stdout


def test_help_has_every_switch_that_a_variant_of_the_script_has():
    for exercise, script in zip(EXERCISES.values(), (EX1, EX2, BONUS, EX3)):
        text = run_script(script, "--help").stdout
        shown = {line.split()[0] for line in text.splitlines() if line.startswith("  --")}
        for name in switches():
            is_used = any(experiment.can_use(name) for experiment in exercise.experiments)
            assert (f"--{name.replace('_', '-')}" in shown) == is_used, (script, name)
    assert "--weights" in shown and "--image-size" in shown


def test_the_scripts_themselves_refuse_in_one_line(tmp_path):
    """In processes of their own; ``test_bad_input.py`` has many cases more in one."""
    for script in (EX1, EX2, EX3, BONUS, "predict.py", "reproduce_report.py"):
        assert_error(run_script(script, "--output", tmp_path / "out", "--fast"))
    assert list(tmp_path.iterdir()) == []


def test_what_keras_has_not_is_one_line_too_and_nothing_is_written(tmp_path):
    result = run_script(EX1, "--dataset", "synthetic", "--optimizer", "adamm", "--output", tmp_path)
    assert_error(result, "Keras has no optimizer adamm; it has ")
    assert list(tmp_path.iterdir()) == []


def test_every_switch_works_where_the_variant_has_it_and_is_refused_where_not():
    values = {bool: None, int: "3", float: "0.3", tuple: "8+16", str: None, Component: "cosine-decay"}
    needs = {"warmup": ("--schedule", "cosine-decay")}
    for exercise, (name, kind) in itertools.product(EXERCISES.values(), switches().items()):
        flag = name.replace("_", "-")
        for own in exercise.experiments:
            attempts = []
            if "off" in kind or kind["type"] is bool:
                attempts.append(([f"--no-{flag}"], kind.get("off", False)))
            if kind["type"] is bool:
                attempts.append(([f"--{flag}"], True))
            else:
                text = kind["choices"][-1] if "choices" in kind else values[kind["type"]]
                parsed = {int: int, float: float}.get(kind["type"], str)(text)
                parsed = {tuple: (8, 16), Component: Component("CosineDecay")}.get(kind["type"], parsed)
                attempts.append(([f"--{flag}", text], parsed))
            for flags, value in attempts:
                if own.can_use(name):
                    (job,) = jobs(exercise, "--variant", own.name, *flags, *needs.get(name, ()))
                    holder = job.experiment if hasattr(job.experiment, name) else job.experiment.learning
                    assert getattr(holder, name) == value, (own.name, flags)
                    same = own.settings() == job.experiment.settings()
                    assert (job.name == own.name) == same, (own.name, flags, job.name)
                else:
                    with pytest.raises(UserError, match=f"{own.name} has nothing that --{flag} could change"):
                        jobs(exercise, "--variant", own.name, *flags)


def test_a_switch_with_several_values_is_a_run_for_each_combination():
    found = names(ex2_improvements.EXERCISE, "--variant", "dropout", "--dropout", 0.1, 0.2, "--epochs", 5, 25)
    assert found == ["dropout,dropout=0.1,epochs=5", "dropout,dropout=0.1", "dropout,epochs=5", "dropout"]
    found = names(ex2_improvements.EXERCISE, "--variant", "augment", "depth", "--seed", 0, 1, "--patience", 3, "none")
    assert found == 2 * ["augment,patience=3", "augment", "depth,patience=3", "depth"]
    found = names(bonus_residual.EXERCISE, "--widths", "16+32", "32+64", "8+8")
    assert found == ["residual,widths=16+32", "residual", "residual,widths=8+8"]


@pytest.mark.parametrize(
    ("exercise", "flags", "name"),
    [
        (ex2_improvements, ["--classes", "3,1,7", "--limit", 60], "early-stopping,classes=3+1+7,limit=60"),
        (ex2_improvements, ["--classes", "0-24"], "early-stopping"),
        (ex2_improvements, ["--classes", "25-49,3"], "early-stopping,classes=25-49+3"),
        (ex2_improvements, ["--precision", "bfloat16", "--no-augment"], "early-stopping,augment=no,precision=bfloat16"),
        (ex2_improvements, ["--threads", 2, "--quiet", "--data-dir", "x", "--output", "y"], "early-stopping"),
        (ex3_resnet_birds, ["--weights", "none", "--image-size", 64], "finetune,image-size=64,weights=none"),
        (ex3_resnet_birds, ["--resize", "squash"], "finetune"),
        (ex3_resnet_birds, ["--resize", "crop", "--image-size", 224], "finetune,resize=crop"),
        (ex3_resnet_birds, ["--dataset", "synthetic", "--image-size", 32], "finetune"),
        (ex1_basenet, ["--optimizer", "SGD+nesterov=yes+momentum=0.9", "--variant", "sgd"], "sgd"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_else_decides_a_result_is_in_the_name_and_what_does_not_is_not(exercise, flags, name):
    assert names(exercise.EXERCISE, *flags) == [name]


def test_plan_has_a_command_for_each_run_that_does_exactly_that_run():
    for exercise, flags in (
        (ex2_improvements.EXERCISE, ["--variant", "all", "--seed", 0, 1, "--dropout", 0.1, 0.2, "--no-augment"]),
        (ex1_basenet.EXERCISE, ["--optimizer", "adam", "rmsprop+rho=0.8", "--classes", "3,1", "--limit", 9, "--force"]),
        (ex3_resnet_birds.EXERCISE, ["--variant", "svm", "linear", "--weights", "none", "--output", "a b", "--quiet"]),
        (bonus_residual.EXERCISE, ["--widths", "8+8", "--no-patience", "--no-shortcuts", "--precision", "bfloat16"]),
    ):
        selection, todo = cli.select(exercise, cli.parse(exercise, [str(flag) for flag in flags]))
        lines = sweep.plan(selection, todo).splitlines()
        assert len(lines) == len(todo) == len(set(lines))
        for line, job in zip(lines, todo):
            python, script, *arguments = shlex.split(line)
            assert (python, script) == ("python", f"{exercise.name}.py")
            again, (only,) = cli.select(exercise, cli.parse(exercise, arguments))
            assert (only.name, only.seed, only.experiment) == (job.name, job.seed, job.experiment)
            for field in ("output", "data_folder", "classes", "limit", "precision", "weights", "data_options", "force"):
                assert getattr(again, field) == getattr(selection, field)
            assert sweep.plan(again, [only]) == line
    assert [job.seed for job in jobs(ex1_basenet.EXERCISE, "--seed", 2, 0)] == [2, 2, 0, 0]


@pytest.mark.skipif(os.name == "nt", reason="names are text on Windows")
def test_a_plan_has_the_bytes_of_names_that_are_not_text(tmp_path):
    given = os.fsencode(tmp_path) + b"/\xff \xc3\xa4"
    command = [sys.executable, EX1, "--plan", "--variant", "sgd", "--dataset", "synthetic", "--output", given]
    plan = subprocess.run(command, cwd=ROOT, capture_output=True)
    assert (plan.returncode, plan.stderr) == (0, b"")
    words = subprocess.run(["sh", "-c", b"printf '%s\\n' " + plan.stdout], capture_output=True).stdout.split(b"\n")
    assert words[:2] == [b"python", EX1.encode()] and given in words
    ascii_alone = {**os.environ, "PYTHONIOENCODING": "ascii"}
    assert_error(run_script(*command[1:-1], tmp_path / "ä", env=ascii_alone), "a letter that ascii has not", "=utf-8")


def test_a_planned_command_does_its_run_in_the_shell(tmp_path):
    output = tmp_path / "an output"
    flags = ("--dataset", "synthetic", "--classes", "3,1,7", "--limit", 20, "--epochs", 1, 2, "--output", output)
    plans = [run_script(EX1, *flags, "--plan") for _ in range(2)]
    assert plans[0].stdout == plans[1].stdout
    lines = plans[0].stdout.splitlines()
    assert len(lines) == 4 and not output.exists()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    result = subprocess.run(lines[2], shell=True, cwd=ROOT, env={**os.environ, "PATH": path}, capture_output=True)
    assert result.returncode == 0, result.stderr
    folder = "synthetic/ex1_basenet/adam,classes=3+1+7,epochs=1,limit=20/seed-0"
    assert visible_files(output) == [f"{folder}/{name}" for name in RUN_FILES]


@pytest.mark.slow
def test_ten_combinations_in_one_output_folder_are_ten_folders(tmp_path):
    few = ("--dataset", "synthetic", "--classes", "0,3", "--limit", 20, "--epochs", 1, "--quiet", "--output", tmp_path)
    optimizers = ("sgd+momentum=0.5", "adamax")
    commands = (
        (EX2, *few, "--variant", "dropout", "--dropout", 0.1, 0.2, "--label-smoothing", 0.1, "--no-augment"),
        (EX2, *few, "--variant", "normalize", "augment", "--batch-normalization", "after-relu", "none", "--deep"),
        (EX1, *few, "--variant", "adam", "--optimizer", *optimizers, "--accumulate", 1, 2, "--schedule", "CosineDecay"),
    )
    processes = [script_process(*command) for command in commands]
    for process in processes:
        _, stderr = process.communicate()
        assert process.returncode == 0 and stderr == "", stderr
    ex2 = {
        "dropout,augment=no,classes=0+3,dropout=0.1,epochs=1,label-smoothing=0.1,limit=20",
        "dropout,augment=no,classes=0+3,epochs=1,label-smoothing=0.1,limit=20",
        "augment,batch-normalization=after-relu,classes=0+3,deep=yes,epochs=1,limit=20",
        "normalize,batch-normalization=after-relu,classes=0+3,deep=yes,epochs=1,limit=20",
        "augment,classes=0+3,deep=yes,epochs=1,limit=20",
        "normalize,classes=0+3,deep=yes,epochs=1,limit=20",
    }
    ex1 = {
        "adam,classes=0+3,epochs=1,limit=20,optimizer=sgd+momentum=0.5,schedule=cosinedecay",
        "adam,accumulate=2,classes=0+3,epochs=1,limit=20,optimizer=sgd+momentum=0.5,schedule=cosinedecay",
        "adam,classes=0+3,epochs=1,limit=20,optimizer=adamax,schedule=cosinedecay",
        "adam,accumulate=2,classes=0+3,epochs=1,limit=20,optimizer=adamax,schedule=cosinedecay",
    }
    assert {path.name for path in (tmp_path / "synthetic/ex2_improvements").iterdir() if path.is_dir()} == ex2
    assert {path.name for path in (tmp_path / "synthetic/ex1_basenet").iterdir() if path.is_dir()} == ex1
    settings = set()
    for script, folders in (("ex2_improvements", ex2), ("ex1_basenet", ex1)):
        for name in folders:
            folder = tmp_path / "synthetic" / script / name / "seed-0"
            assert visible_files(folder) == RUN_FILES
            config = read_json(folder / "config.json")
            assert config["name"] == name
            for text in name.split(",")[1:]:
                key, _, value = text.partition("=")
                found = config["experiment"].get(key.replace("-", "_"))
                assert key in ("classes", "limit") or cli.to_text(found) == value
            settings.add(repr(config["experiment"]))
    assert len(settings) == 10
