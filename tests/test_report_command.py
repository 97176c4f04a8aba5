"""``reproduce_report.py`` as people run it: plans, runs, goes on after a kill, names what failed, writes the page."""

import re
import shutil
import signal

import pytest
from conftest import assert_done, assert_error, kill_at, read_json, run_code, run_script, script_process

REPORT = "reproduce_report.py"
TINY = ("--dataset", "synthetic", "--exercises", 1, "--quick", "--epochs", 1, "--limit", 5)
TIMES = ("environment", "costs", "commands")  # of report.json: where and how fast the runs were made


def without_times(report: dict) -> dict:
    return {key: value for key, value in report.items() if key not in TIMES}


@pytest.mark.parametrize(
    "flags, words",
    [
        (("--exercises", 4), ["--exercises"]),
        (("--seed", 1, 1), ["--seed names one value twice"]),
        (("--dataset", "cifar10"), ["--dataset"]),
        (("--epochs", 0), ["--epochs"]),
        (("--weights", "nowhere.h5", "--plan"), ["nowhere.h5 is not a file"]),
        (("--classes", "3", "--plan"), ["'3' is one class"]),
    ],
)
def test_bad_flags_are_one_line(flags, words):
    assert_error(run_script(REPORT, *flags), *words)


def test_the_plan_has_every_experiment_and_is_what_the_scripts_take(tmp_path):
    result = run_script(REPORT, "--plan", "--seed", 0, 1, "--output", tmp_path)
    assert result.returncode == 0
    lines = result.stdout.splitlines()
    assert len(lines) == len(set(lines)) == 2 * (2 + 8 + 10 + 11 + 2 * 5)  # the scripts' variants, and the ablations
    assert "--variant dropout --no-augment --seed 1" in result.stdout
    assert result.stderr.startswith("82 runs, 0 finished, about ")
    script, *flags = lines[-1].split()[1:]
    assert run_script(script, *flags, "--plan").stdout.splitlines() == ["\t".join(lines[-1].split())]


def test_the_reports_own_experiments_keep_their_budgets(tmp_path):
    result = run_script(REPORT, "--plan", "--reported", "--output", tmp_path)
    plan = result.stdout.splitlines()
    assert len(plan) == 2 + 7 + 4 + 2
    assert sum("--variant residual --" in line for line in plan) == 1
    assert not any("champion" in line or "--epochs" in line or "--limit" in line for line in plan)


def test_a_plan_counts_the_starts_of_processes(tmp_path):
    result = run_script(REPORT, "--plan", "--dataset", "synthetic", "--quick", "--output", tmp_path)
    minutes = re.match(r"15 runs, 0 finished, about (\d+) min ", result.stderr)
    assert minutes and int(minutes[1]) >= 1


def test_the_budget_shortens_and_never_lengthens(tmp_path):
    plan = run_script(REPORT, "--plan", "--epochs", 30, "--exercises", 2, "--output", tmp_path).stdout.splitlines()
    assert sum("--epochs 30" in line for line in plan) == 2  # those of 80 epochs


def test_synthetic_plans_need_no_weights_and_no_data(tmp_path):
    plan = run_script(REPORT, "--plan", "--dataset", "synthetic", "--output", tmp_path).stdout.splitlines()
    assert all("--dataset synthetic" in line and "--limit" in line for line in plan)
    assert all("--weights none" in line for line in plan if "ex3" in line)


def test_the_page_from_published_runs_needs_no_tensorflow(tmp_path):
    code = (
        "import sys, reproduce_report\n"
        f"sys.argv = ['reproduce_report.py', '--page-only', '--exercises', '1', '--output', {str(tmp_path)!r}]\n"
        "code = reproduce_report.main()\n"
        "assert code == 0 and not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    result = run_code(code)
    assert_done(result)
    assert (tmp_path / "report.html").exists() and (tmp_path / "report.md").exists()
    report = read_json(tmp_path / "report.json")
    assert list(report["figures"]) == ["1", "2", "3", "4", "5", "6"]
    for figure in report["figures"].values():
        for kind in ("png", "svg"):
            assert (tmp_path / f"{figure['file']}.{kind}").stat().st_size > 1000
    assert report["sections"][0]["experiments"][0]["n"] >= 3


@pytest.mark.slow
def test_a_failed_run_is_named_and_the_others_are_made_and_once_mended_it_alone_is_run(tmp_path):
    run = tmp_path / "synthetic/ex1_basenet/sgd,epochs=1,limit=5/seed-0"
    run.mkdir(parents=True)
    (run / "config.json").write_text("{}", encoding="utf-8")

    result = run_script(REPORT, *TINY, "--output", tmp_path)
    assert result.returncode == 1, result.stderr
    assert "failed: ex1_basenet sgd,epochs=1,limit=5 seed 0: " in result.stderr
    report, page = read_json(tmp_path / "report.json"), (tmp_path / "report.html").read_text(encoding="utf-8")
    (failed,) = report["failed"]
    assert failed["run"] in page
    assert report["missing"] == ["ex1_basenet sgd"]
    assert [each["run"] for each in report["damaged"]] == ["synthetic/ex1_basenet/sgd,epochs=1,limit=5/seed-0"]
    assert (tmp_path / "synthetic/ex1_basenet/adam,epochs=1,limit=5/seed-0/metrics.json").exists()

    shutil.rmtree(run)
    result = run_script(REPORT, *TINY, "--output", tmp_path)
    assert_done(result)
    assert "2 runs, 1 finished" in result.stdout
    report = read_json(tmp_path / "report.json")
    assert not report["failed"] and not report["damaged"] and not report["missing"]
    assert len(report["figures"]) == 6
    assert "Synthetic data" in report["notes"][0]
    assert {row["verdict"].split(":")[0] for row in report["summary"]} == {"cannot be compared"}

    result = run_script(REPORT, *TINY, "--page-only", "--output", tmp_path)
    assert_done(result)
    assert without_times(read_json(tmp_path / "report.json")) == without_times(report)


def test_ctrl_c_ends_the_runs_too_and_says_that_the_same_command_goes_on(tmp_path):
    process = script_process(REPORT, *TINY, "--output", tmp_path)
    for line in process.stdout:
        if line.startswith("2 runs, 0 finished"):
            break
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate()
    assert (process.returncode, stderr) == (130, "\nstopped; the same command resumes after the last finished epoch\n")
    assert not (tmp_path / "report.html").exists()


def test_without_a_single_run_there_is_no_page(tmp_path):
    result = run_script(REPORT, *TINY, "--page-only", "--output", tmp_path)
    assert_error(result, "no finished run in")
    assert not (tmp_path / "report.html").exists()


@pytest.mark.slow
def test_killed_and_given_again_it_ends_with_the_same_report(tmp_path):
    command = (REPORT, *TINY[:-3], 2, "--limit", 20, "--seed", 0, 1)
    assert_done(run_script(*command, "--output", tmp_path / "whole"))
    for run in (1, 2):
        kill_at(script_process(*command, "--output", tmp_path / "killed"), f"run {run} of")
    assert_done(run_script(*command, "--output", tmp_path / "killed"))
    whole, killed = (read_json(tmp_path / name / "report.json") for name in ("whole", "killed"))
    assert without_times(whole) == without_times(killed)
    for figure in whole["figures"].values():
        name = f"{figure['file']}.svg"
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()

    drawn = next((tmp_path / "killed").rglob("confusion_matrix.png"))  # a kill while a finished run's figures are drawn
    known = drawn.read_bytes()
    drawn.rename(drawn.with_name(".confusion_matrix.png.tmp"))
    assert_done(run_script(*command, "--tensorboard", "--output", tmp_path / "killed"))
    assert drawn.read_bytes() == known
    assert not [*(tmp_path / "killed").rglob("*.tmp")]
    assert len([*(tmp_path / "killed").rglob("events.out.tfevents.*")]) == 4


@pytest.mark.slow
def test_without_the_birds_the_rest_is_made_and_the_page_says_what_is_missing(cifar100_dir, tmp_path):
    offline = {"https_proxy": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "PATH": "/usr/bin:/bin"}
    result = run_script(
        REPORT,
        "--exercises",
        1,
        3,
        "--quick",
        "--epochs",
        1,
        "--data-dir",
        cifar100_dir,
        "--output",
        tmp_path / "out",
        env=offline,
    )
    assert result.returncode == 1, result.stderr
    report = read_json(tmp_path / "out" / "report.json")
    assert report["missing"] == [
        f"ex3_resnet_birds {name}" for name in ("linear", "fully-connected", "convolutional", "finetune")
    ]
    assert all("CUB-200" in each["error"] for each in report["failed"])
    assert len(report["figures"]) == 6


@pytest.mark.slow
def test_all_of_it_on_synthetic_data(tmp_path):
    assert_done(run_script(REPORT, "--dataset", "synthetic", "--quick", "--jobs", 2, "--output", tmp_path))
    report = read_json(tmp_path / "report.json")
    assert list(report["figures"]) == [str(number) for number in range(1, 31)]
    assert not report["missing"]
