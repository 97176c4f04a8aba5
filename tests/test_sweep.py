"""Several values, several runs, several at a time: the real scripts."""

import csv
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from conftest import (
    EX1,
    EX3,
    QUICK,
    ROOT,
    assert_done,
    assert_error,
    assert_same_run,
    edit,
    kill_at,
    read_json,
    run_code,
    run_script,
    script_process,
)

from common import cli, sweep
from ex2_improvements import EXERCISE

FEW = ("--dataset", "synthetic", "--classes", "0-2", "--limit", 20, "--epochs", 2, "--variant", "adam", "--quiet")
NAME = "classes=0-2,epochs=2,limit=20"
NAMES = [f"adam,{NAME}", "adam,classes=0-2,dropout=0.3,epochs=2,limit=20"]


def runs(output):
    return output / "synthetic/ex1_basenet"


@pytest.mark.slow
def test_runs_beside_each_other_leave_the_bytes_of_runs_one_after_the_other(tmp_path):
    command = (EX1, *FEW, "--dropout", 0, 0.3, "--output")
    assert_done(run_script(*command, tmp_path / "one"))
    beside = run_script(*command, tmp_path / "two", "--jobs", 2)
    assert_done(beside)
    assert sorted(path.name for path in runs(tmp_path / "two").iterdir() if path.is_dir()) == sorted(NAMES)
    for name in NAMES:
        assert_same_run(runs(tmp_path / "one") / name / "seed-0", runs(tmp_path / "two") / name / "seed-0")
    assert "run 2 of 2: " in beside.stdout
    one = run_script(*command, tmp_path / "one")  # finished: the same table
    assert beside.stdout.splitlines()[-6:] == [line.replace("/one/", "/two/") for line in one.stdout.splitlines()[-6:]]


@pytest.mark.slow
def test_the_command_that_starts_runs_imports_no_tensorflow_itself(tmp_path):
    flags = [*map(str, FEW), "--learning-rate", "0.001", "0.002", "--jobs", "2", "--output", str(tmp_path)]
    code = (
        f"import sys, ex1_basenet; from common import cli; sys.argv = {[EX1, *flags]!r}\n"
        "assert cli.main(ex1_basenet.EXERCISE) == 0\n"
        "assert not {'tensorflow', 'keras'} & {*sys.modules}"
    )
    assert_done(run_code(code))
    assert len([*runs(tmp_path).glob("adam,*/seed-*/metrics.json")]) == 2


@pytest.mark.slow
def test_a_run_that_fails_is_named_and_the_others_finish(tmp_path):
    rates = ("--variant", "sgd", "--learning-rate", 0.001, 1e38)
    result = run_script(EX1, *FEW, *rates, "--jobs", 2, "--output", tmp_path)
    assert result.returncode == 1
    failed = "sgd,classes=0-2,epochs=2,learning-rate=1e38,limit=20, seed 0"
    assert result.stderr == f"failed: {failed}\n"
    assert "the loss is not a number" in result.stdout
    assert (runs(tmp_path) / "sgd,classes=0-2,epochs=2,learning-rate=0.001,limit=20/seed-0/metrics.json").exists()


def children_of(process: subprocess.Popen) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True)
    return [int(pid) for pid in found.stdout.split() if is_alive(int(pid))]


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return b"ex1_basenet" in file.read()
    except OSError:
        return False


@pytest.mark.skipif(not os.path.exists("/proc/self/cmdline"), reason="looks for processes in /proc")
@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)], ids=lambda number: number.name
)
def test_no_run_outlives_the_command_that_started_it(tmp_path, number):
    process = script_process(EX1, *FEW, "--epochs", 500, "--seed", 0, 1, "--jobs", 2, "--output", tmp_path)
    while len(children := children_of(process)) < 2:
        assert process.poll() is None
    process.send_signal(number)
    process.communicate()
    while any(map(is_alive, children)):  # the kernel takes a moment
        pass
    assert process.returncode == (143 if number == signal.SIGTERM else -number)


def test_a_plan_is_a_command_a_run_in_a_stable_order(tmp_path):
    command = (EX1, *QUICK, "--epochs", 1, "--dropout", 0, 0.3, "--seed", 0, 1, "--output", tmp_path, "--plan")
    plan = run_script(*command)
    assert_done(plan)
    lines = plan.stdout.splitlines()
    assert len(lines) == len(set(lines)) == 2 * 2 * 2
    assert run_script(*command).stdout == plan.stdout
    words = shlex.split(lines[-1])
    assert words[:2] == ["python", EX1]


def test_a_switch_that_a_variant_lacks_stops_the_command_before_anything_is_written(tmp_path):
    svm = (EX3, "--dataset", "synthetic", "--weights", "none", "--variant", "svm", "--output", tmp_path)
    for flag in ("--dropout", "--epochs"):
        assert_error(run_script(*svm, flag, 1 if flag == "--epochs" else 0.2), f"svm has nothing that {flag} could")
    assert_error(run_script(*svm, "--no-normalize"), "svm has nothing that --normalize could change")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_grid_is_a_run_for_each_combination_a_ranking_and_a_picture_also_after_a_kill(tmp_path):
    grid = ("--dropout", 0, 0.3, 0.5, "--learning-rate", 0.001, 0.003, "--seed", 0, 1, "--jobs", 2)
    command = (EX1, *FEW, *grid, "--output", tmp_path)
    kill_at(script_process(*command), "run 3 of 12")
    result = run_script(*command)
    assert_done(result)
    assert int(re.search(r"run 1 of (\d+)", result.stdout)[1]) <= 12 - 3  # those that were there are not run again
    ranking = result.stdout.split("best on the validation images first")[1].splitlines()[2:8]
    accuracies = []
    for line in ranking:
        name, seeds, validation, *_ = re.split(r"\s{2,}", line)
        assert seeds == "0 1"
        found = [read_json(runs(tmp_path) / name / f"seed-{seed}/metrics.json")["val_accuracy"] for seed in (0, 1)]
        assert float(validation.split()[0]) == pytest.approx(np.mean(found), abs=1e-4)
        accuracies.append(np.mean(found))
    assert accuracies == sorted(accuracies, reverse=True)
    assert sum(line.endswith("-") for line in ranking) == 5
    picture = runs(tmp_path) / f"grid,adam,{NAME},dropout+learning-rate.png"
    assert picture.stat().st_size > 5000
    assert f"{picture}: validation accuracy against dropout and learning-rate" in result.stdout
    assert run_script(*command).stdout.splitlines()[1:] == result.stdout.splitlines()[-11:]
    shown = run_script(*command, "--show-test").stdout.split("best on the validation images first")[1].splitlines()[2:8]
    assert not any(line.endswith("-") for line in shown)


def test_output_folders_are_collected_into_one_table_and_runs_that_differ_are_named(finished, tmp_path):
    folder, _ = finished
    place = folder.relative_to(folder.parents[3])
    for name in ("a", "b", "c"):
        shutil.copytree(folder, tmp_path / name / place)
    edit(tmp_path / "c" / place / "metrics.json", '"epochs": 4', '"epochs": 3')
    (tmp_path / "c" / place / ".manifest").unlink()  # a run that another machine left so

    def collect(*names):
        folders = [name if name.startswith("-") else str(tmp_path / name) for name in names]
        command = [sys.executable, "-m", "common.collect", *folders, "--csv", str(tmp_path / "all.csv")]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        with open(tmp_path / "all.csv", newline="", encoding="utf-8") as file:
            return result, list(csv.DictReader(file))

    result, rows = collect("a", "b")
    assert_done(result)
    assert [row["name"] for row in rows] == [folder.parent.name]
    metrics = read_json(folder / "metrics.json")
    assert (float(rows[0]["test_accuracy"]), int(rows[0]["epochs"])) == (metrics["test_accuracy"], 4)

    result, rows = collect("a", "b", "c")
    assert result.returncode == 1
    assert result.stderr == f"differ: {tmp_path / 'a' / place} and {tmp_path / 'c' / place}\n"
    assert [row["epochs"] for row in rows] == ["4", "3"]
    (tmp_path / "b" / place / "history.csv").unlink()
    result, rows = collect("a", "b")
    assert (result.returncode, len(rows)) == (1, 1)
    assert result.stderr.startswith(f"left out: {tmp_path / 'b' / place / 'history.csv'} is missing")
    assert_error(collect("nowhere")[0], "holds no finished run")
    assert_error(collect("a", "--table")[0], "--table")


@pytest.mark.parametrize("flags", [("--optimizer", "adm"), ("--optimizer", "adm", "--seed", 0, 1, "--jobs", 2)])
def test_a_misspelt_optimizer_is_seen_before_any_data(flags, tmp_path):
    result = run_script(EX1, "--offline", "--data-dir", tmp_path, *flags, "--output", tmp_path / "results")
    assert_error(result, "Keras has no optimizer adm; it has ")
    assert not [*tmp_path.iterdir()]


def test_of_several_runs_at_a_time_the_longest_begin_first():
    flags = ["--dataset", "synthetic", "--variant", "all", "--seed", "0", "1", "--jobs", "2"]
    selection, jobs = cli.select(EXERCISE, cli.parse(EXERCISE, flags))
    names = [job.name for job in sweep.longest_first(selection, jobs)]
    assert sorted(names) == sorted(job.name for job in jobs) and len(names) == 16
    assert names[:2] == ["early-stopping", "early-stopping"]
    assert {*names[-4:]} == {"normalize", "augment"}
