"""Whole runs of the real scripts: what they leave, and what a kill, a full disk or a second process does to them."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from conftest import (
    EX1,
    EX2,
    FOUR_EPOCHS,
    QUICK,
    QUICK_NAME,
    ROOT,
    RUN_FILES,
    assert_done,
    assert_error,
    assert_same_run,
    edit,
    kill_at,
    read_json,
    run_script,
    script_process,
    visible_files,
)

from common.pipeline import Normalization
from common.reporting.run_folder import read_run


def kill_after(process, seconds) -> bool:
    """Sends SIGKILL then, and says whether the process was still there to be killed."""
    try:
        process.communicate(timeout=seconds)
        return False
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return True


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """The same run, killed as soon as the second epoch is reported, resumed, killed again at once, and resumed."""
    output = tmp_path_factory.mktemp("resumed")
    flags = (*QUICK, "--epochs", 4, "--output", output)
    kill_at(script_process(EX2, *flags), "Epoch 3/4")
    assert visible_files(output) == []
    kill_at(script_process(EX2, *flags), "resumes after epoch")
    assert visible_files(output) == []
    result = run_script(EX2, *flags)
    assert_done(result)
    return output / FOUR_EPOCHS, result


@pytest.mark.slow
def test_exercise_1_trains_both_optimisers_and_compares_them(project, tmp_path):
    """The command without settings, as it is in the README; the copy of the project has few images and one epoch."""
    edit(
        project / "common/datasets/synthetic.py",
        "TRAIN_IMAGES, TEST_IMAGES = 500, 100",
        "TRAIN_IMAGES, TEST_IMAGES = 8, 4",
    )
    edit(project / EX1, "epochs=25", "epochs=1")
    result = run_script(EX1, "--dataset", "synthetic", "--seed", 3, "--output", tmp_path / "results", root=project)
    assert_done(result)
    figures = ["comparison-accuracy-seed-3.png", "comparison-loss-seed-3.png"]
    assert visible_files(tmp_path / "results/synthetic/ex1_basenet") == sorted(
        [*(f"{variant}/seed-3/{name}" for variant in ("adam", "sgd") for name in RUN_FILES), *figures]
    )
    assert result.stdout.startswith("synthetic: 25 classes, 200 images to train and validate, 100 to test, on ")
    *_, sgd, adam, reason = result.stdout.splitlines()
    assert [row.split()[:2] for row in (sgd, adam)] == [["sgd", "3"], ["adam", "3"]]
    assert [row.split()[-2:] for row in (sgd, adam)] == [["-", "-"]] * 2  # the report knows no synthetic images
    assert reason == "(not comparable with the report: drawn images)"


def test_what_a_run_folder_holds(finished):
    folder, result = finished
    assert visible_files(folder) == RUN_FILES
    run = read_run(folder)
    assert [row["epoch"] for row in run.history] == [1, 2, 3, 4]
    config, metrics = run.config, run.metrics
    assert config["dataset"]["training_images"] == 180 and config["dataset"]["validation_images"] == 20
    assert config["experiment"]["dropout"] == 0.2 and config["experiment"]["epochs"] == 4
    assert config["dataset"]["not_comparable"] == "drawn images"
    assert (run.script, run.variant, run.seed) == ("ex2_improvements", "early-stopping", 0)
    assert run.name == folder.parent.name
    assert {"common/models/basenet.py", "common/augmentation.py", "common/training/fit.py"} < {*config["code"]}
    evaluated = run.history[metrics["evaluated_epoch"] - 1]
    assert metrics["evaluated_epoch"] == metrics["best_epoch"]  # it stops early
    assert (metrics["val_loss"], metrics["val_accuracy"]) == (evaluated["val_loss"], evaluated["val_accuracy"])
    assert metrics["epochs"] == 4 and metrics["parameters"] == 42_721
    assert np.array(run.per_class["confusion_matrix"]).sum() == 500
    assert np.mean(run.per_class["accuracy"]) == pytest.approx(metrics["test_accuracy"])
    assert len(run.timing["epoch_seconds"]) == 4 and run.timing["peak_memory_mb"] > 0
    assert f"test accuracy {metrics['test_accuracy']:.4f}" in result.stdout


def test_the_saved_model_gives_the_saved_predictions(finished, synthetic_data):
    folder, _ = finished
    config = read_run(folder).config
    test = synthetic_data.select(tuple(range(5)))
    model = keras.models.load_model(folder / "model.keras")
    assert not model.compiled  # nothing of the optimizer
    logits = model.predict(Normalization(**config["normalization"]).apply(test.test_images.values), verbose=0)
    with np.load(folder / "predictions.npz") as predictions:
        np.testing.assert_allclose(keras.ops.softmax(logits), predictions["probabilities"], atol=1e-4)
        assert np.array_equal(predictions["labels"], test.test_labels)
        accuracy = (predictions["probabilities"].argmax(axis=1) == test.test_labels).mean()
    assert accuracy == read_run(folder).metrics["test_accuracy"]


def test_a_killed_run_ends_with_the_same_bytes(finished, resumed):
    reference, _ = finished
    folder, result = resumed
    assert "resumes after epoch" in result.stdout and "Epoch 1/4" not in result.stdout
    assert_same_run(reference, folder)
    assert len(read_run(folder).timing["epoch_seconds"]) == 4


def test_environment_has_a_row_for_each_process(finished, resumed):
    (row,) = read_json(finished[0] / "environment.json")
    assert row["first_epoch"] == 1 and row["threads"] == 1 and row["device"]
    assert row["processor"] and row["system"] and row["versions"]["tensorflow"] and row["versions"]["python"]
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    if commit.returncode == 0:
        assert len(row["commit"]) == 40 and row["clean"] in (True, False)
    rows = read_json(resumed[0] / "environment.json")
    finished_epochs = int(re.search(r"resumes after epoch (\d)", resumed[1].stdout)[1])
    assert finished_epochs >= 2
    assert [row["first_epoch"] for row in rows] == [1, finished_epochs + 1, finished_epochs + 1]
    of_the_tree = ("first_epoch", "commit", "clean")  # which somebody may work on meanwhile
    first, last = ({key: row[key] for key in row if key not in of_the_tree} for row in (rows[0], rows[-1]))
    assert first == last


def test_a_finished_run_is_printed_not_trained_and_figures_that_are_missing_are_drawn(finished):
    folder, first = finished
    figure = (folder / "accuracy.png").read_bytes()
    (folder / "accuracy.png").unlink()
    before = {name: (folder / name).stat().st_mtime_ns for name in RUN_FILES if name != "accuracy.png"}
    again = run_script(EX2, *QUICK, "--epochs", 4, "--output", folder.parents[3])
    assert_done(again)
    assert again.stdout.splitlines()[-2:] == first.stdout.splitlines()[-2:]
    assert "training" not in again.stdout and "Epoch" not in again.stdout
    assert before == {name: (folder / name).stat().st_mtime_ns for name in before}
    assert (folder / "accuracy.png").read_bytes() == figure


@pytest.mark.slow
def test_force_trains_again_in_the_place_of_another_run(finished, tmp_path):
    """What the name does not say stands in config.json; tests/reporting/test_run_folder.py has how it is refused."""
    folder, _ = finished
    copy = tmp_path / FOUR_EPOCHS
    shutil.copytree(folder, copy)
    config = (copy / "config.json").read_text()
    (copy / "config.json").write_text(config.replace('"seed": 0', '"seed": 7'))
    (copy / "metrics.json").write_text("{}")
    assert_done(run_script(EX2, *QUICK, "--epochs", 4, "--quiet", "--output", tmp_path, "--force"))
    assert_same_run(folder, copy)
    assert sorted(os.listdir(copy.parent)) == [".seed-0.lock", "seed-0"]


@pytest.mark.slow
def test_one_run_alone_equals_one_among_others(tmp_path):
    flags = (EX1, *QUICK, "--epochs", 1, "--quiet")
    assert_done(run_script(*flags, "--seed", 1, 0, "--output", tmp_path / "many"))
    assert_done(run_script(*flags, "--variant", "adam", "--output", tmp_path / "alone"))
    run = f"synthetic/ex1_basenet/adam,{QUICK_NAME}/seed-0"
    assert_same_run(tmp_path / "alone" / run, tmp_path / "many" / run)


def test_a_stopped_command_says_how_to_resume(tmp_path):
    numbers = {signal.SIGINT: 130, signal.SIGTERM: 143}
    flags = (EX1, *QUICK, "--variant", "adam", "--epochs", 500)
    processes = {number: script_process(*flags, "--output", tmp_path / number.name) for number in numbers}
    for number, process in processes.items():
        for line in process.stdout:
            if line.startswith("Epoch 2/500"):
                break
        process.send_signal(number)
        _, stderr = process.communicate()
        assert process.returncode == numbers[number]
        assert stderr.strip() == "stopped; the same command resumes after the last finished epoch"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such terminals")
def test_a_command_ends_though_nobody_is_there_to_be_told(tmp_path):
    """The terminal goes, and with it both streams; or who reads stderr does."""
    import fcntl
    import termios

    flags = (EX1, *QUICK, "--variant", "adam", "--epochs", 500)
    ours, its = os.openpty()

    def take_the_terminal():
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also where the tests run under nohup
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    command = [sys.executable, *map(str, flags), "--output", str(tmp_path / "terminal")]
    streams = {"stdin": its, "stdout": its, "stderr": its}
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True, preexec_fn=take_the_terminal, **streams)
    os.close(its)
    shown = b""
    while b"Epoch 2/500" not in shown:
        shown += os.read(ours, 4096)
    os.close(ours)
    assert process.wait() == 129
    process = script_process(*flags, "--output", tmp_path / "pipe")
    for line in process.stdout:
        if line.startswith("Epoch 2/500"):
            break
    process.stderr.close()
    process.terminate()
    assert process.wait() == 143
    process.stdout.close()


@pytest.mark.slow
def test_two_processes_never_write_one_run(tmp_path):
    flags = (EX1, *QUICK, "--variant", "adam", "--epochs", 500, "--output", tmp_path)
    first = script_process(*flags)
    for line in first.stdout:
        if line.startswith("Epoch 1/"):
            break
    assert_error(run_script(*flags), "another process is writing")
    assert first.poll() is None
    first.kill()
    first.communicate()


def test_a_loss_that_is_not_a_number_stops_the_run_and_leaves_nothing(tmp_path):
    result = run_script(EX1, *QUICK, "--variant", "sgd", "--learning-rate", 1e38, "--output", tmp_path)
    assert_error(result, "not a number", "--learning-rate")
    (folder,) = (tmp_path / "synthetic/ex1_basenet").iterdir()
    assert os.listdir(folder) == [".seed-0.lock"]


@pytest.mark.slow
@pytest.mark.parametrize("finished_epochs", [0, 2])
def test_a_full_disk_loses_no_finished_epoch(tmp_path, finished_epochs):
    resource = pytest.importorskip("resource")

    def limit_file_size():  # too small for the checkpoint of an epoch, and for the trained network
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))

    flags = (EX2, *QUICK, "--epochs", 2, "--output", tmp_path)
    if finished_epochs:  # stopped between the last epoch and the end of the run
        checkpoint = (
            tmp_path
            / "synthetic/ex2_improvements/early-stopping,classes=0-4,epochs=2,limit=40/.seed-0.partial/.checkpoint"
        )
        process = script_process(*flags)
        while not (checkpoint.exists() and '"epoch": 2'.encode("utf-32-le") in checkpoint.read_bytes()):
            assert process.poll() is None
        process.kill()
        process.communicate()
    assert_error(run_script(*flags, preexec_fn=limit_file_size), "File too large", "same command again")
    assert visible_files(tmp_path) == []
    again = run_script(*flags)
    assert again.returncode == 0
    assert again.stdout.count("\nEpoch ") == 2 - finished_epochs


@pytest.mark.slow
def test_bfloat16_trains(tmp_path):
    result = run_script(EX2, *QUICK, "--epochs", 1, "--precision", "bfloat16", "--quiet", "--output", tmp_path)
    assert_done(result)
    (folder,) = (tmp_path / "synthetic/ex2_improvements").glob("*,precision=bfloat16/seed-0")
    model = keras.models.load_model(folder / "model.keras")
    assert model.layers[1].compute_dtype == "bfloat16" and model.layers[-1].compute_dtype == "float32"


def test_no_data_and_no_network_names_three_ways_out(tmp_path):
    environment = {**os.environ, "https_proxy": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9"}
    result = run_script(EX1, "--data-dir", tmp_path / "data", "--output", tmp_path / "results", env=environment)
    assert_error(result, "Put cifar-100-python.tar.gz into", "https_proxy", "--dataset synthetic")
    assert visible_files(tmp_path) == []


def test_a_file_where_a_folder_should_be(tmp_path):
    (tmp_path / "file").touch()
    assert_error(run_script(EX1, "--data-dir", tmp_path / "file"), "is a file; give a folder")
    assert_error(run_script(EX1, *QUICK, "--output", tmp_path / "file"), "is a file; give a folder")


def test_one_epoch_on_the_real_images_is_comparable(real_data_dir, tmp_path):
    flags = (EX1, "--data-dir", real_data_dir, "--variant", "adam", "--quiet", "--output", tmp_path)
    result = run_script(*flags, "--epochs", 1)
    assert_done(result)
    run = read_run(tmp_path / "cifar100/ex1_basenet/adam,epochs=1/seed-0")
    assert run.metrics["test_accuracy"] > 0.15
    assert run.not_comparable is None
    dataset = run.config["dataset"]
    assert (dataset["training_images"], dataset["test_images"]) == (11250, 2500)
    assert dataset["classes"][24] == "cockroach"
    assert result.stdout.splitlines()[-1].split()[-2:] == ["-", "-"]  # one epoch is not the report's 25


@pytest.mark.slow
def test_a_part_of_the_real_images_never_stands_beside_the_report_s_number(real_data_dir, tmp_path):
    flags = (EX1, "--data-dir", real_data_dir, "--variant", "adam", "--quiet", "--output", tmp_path)
    result = run_script(*flags, "--epochs", 1, "--classes", "0-9", "--limit", 30)
    assert_done(result)
    reason = "not the report's 25 classes of CIFAR-100, whole"
    assert result.stdout.splitlines()[-1] == f"(not comparable with the report: {reason})"


@pytest.mark.slow
def test_the_variant_as_it_is_on_the_real_images_stands_beside_the_report_s_number(real_data_dir, tmp_path):
    result = run_script(EX1, "--data-dir", real_data_dir, "--variant", "adam", "--quiet", "--output", tmp_path)
    assert_done(result)
    assert result.stdout.splitlines()[-1].split()[:2] == ["adam", "0"]
    assert result.stdout.splitlines()[-1].split()[-2] == "0.4512"


@pytest.mark.slow
def test_twenty_kills_at_random_moments(tmp_path):
    flags = (EX2, *QUICK, "--epochs", 8)
    folder = "synthetic/ex2_improvements/early-stopping,classes=0-4,epochs=8,limit=40/seed-0"
    start = time.monotonic()
    assert run_script(*flags, "--output", tmp_path / "whole").returncode == 0
    duration = time.monotonic() - start
    moments, kills = random.Random(), 0
    while kills < 20:
        output = tmp_path / str(kills)
        if kill_after(script_process(*flags, "--output", output), moments.uniform(0.1, 1) * duration):
            assert run_script(*flags, "--output", output).returncode == 0
            assert_same_run(tmp_path / "whole" / folder, output / folder)
            kills += 1
            print(f"{kills} of {kills} ended with the same bytes")
        else:
            shutil.rmtree(output)
