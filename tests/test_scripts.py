"""The real scripts, each in a process of its own."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from conftest import QUICK, ROOT, assert_error, run_script, script_process, visible_files

import common.models.layers  # noqa: F401  (what loading a saved model needs)
from common.pipeline import Normalization
from common.results import read_run

EX1, EX2 = "ex1_basenet.py", "ex2_improvements.py"
EX3, BONUS = "ex3_resnet_birds.py", "bonus_residual.py"
RUN_FILES = [
    "accuracy.png",
    "config.json",
    "confusion_matrix.png",
    "history.csv",
    "layer_table.md",
    "loss.png",
    "metrics.json",
    "model.keras",
    "predictions.npz",
    "timing.json",
]
SAME_BYTES = ("history.csv", "metrics.json", "config.json", "layer_table.md", "loss.png")


def assert_same_run(a, b):
    for name in SAME_BYTES:
        assert (a / name).read_bytes() == (b / name).read_bytes(), name
    with np.load(a / "predictions.npz") as first, np.load(b / "predictions.npz") as second:
        assert all(np.array_equal(first[key], second[key]) for key in ("labels", "probabilities"))


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
def finished(tmp_path_factory):
    """A finished run of exercise 2 with augmentation, dropout and early stopping, and what it printed."""
    output = tmp_path_factory.mktemp("finished")
    result = run_script(EX2, *QUICK, "--epochs", 4, "--output", output)
    assert result.returncode == 0, result.stderr
    return output / "synthetic/ex2_improvements/early-stopping/seed-0", result


@pytest.mark.parametrize("script", [EX1, EX2, EX3, BONUS])
@pytest.mark.parametrize("flag", ["--help", "--list"])
def test_help_and_list_do_not_import_tensorflow(script, flag):
    code = f"import runpy, sys; sys.argv = [{script!r}, {flag!r}]; runpy.run_path({script!r}, run_name='__main__')"
    shown = "print({'tensorflow', 'sklearn'} & {*sys.modules})"
    watch = f"import atexit, sys; atexit.register(lambda: {shown}); {code}"
    result = subprocess.run([sys.executable, "-c", watch], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "set()"


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
    assert "0.5268" in lines[5] and "15, 16" in lines[5]


def test_table_prints_the_network():
    result = run_script(EX2, "--table")
    assert result.returncode == 0
    assert result.stdout.startswith("early-stopping\n")
    assert "| 23 | Linear | - | 50 → 25 | - |" in result.stdout
    assert "43,741 parameters" in result.stdout
    assert result.stderr == ""


def test_exercise_1_trains_both_optimisers_and_compares_them(tmp_path):
    result = run_script(EX1, *QUICK, "--epochs", 2, "--seed", 3, "--output", tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    pictures = ["comparison-accuracy-seed-3.png", "comparison-loss-seed-3.png"]
    assert visible_files(tmp_path / "synthetic/ex1_basenet") == sorted(
        [*(f"{variant}/seed-3/{name}" for variant in ("adam", "sgd") for name in RUN_FILES), *pictures]
    )
    assert result.stdout.startswith("synthetic: 5 classes")
    table = [line.split() for line in result.stdout.splitlines()[-2:]]
    assert [row[:2] for row in table] == [["sgd", "3"], ["adam", "3"]]
    assert [row[-2:] for row in table] == [["-", "-"]] * 2  # the report knows no synthetic images


def test_what_a_run_folder_holds(finished):
    folder, result = finished
    assert visible_files(folder) == RUN_FILES
    run = read_run(folder)
    assert [row["epoch"] for row in run.history] == [1, 2, 3, 4]
    assert run.config["dataset"]["training_images"] == 180 and run.config["dataset"]["validation_images"] == 20
    assert run.config["experiment"]["network_options"]["dropout"] == 0.2
    metrics = run.metrics
    best = run.history[metrics["best_epoch"] - 1]
    assert (metrics["val_loss"], metrics["val_accuracy"]) == (best["val_loss"], best["val_accuracy"])
    assert metrics["epochs"] == 4
    assert np.array(metrics["confusion_matrix"]).sum() == 500
    assert np.mean(metrics["per_class_accuracy"]) == pytest.approx(metrics["test_accuracy"])
    assert len(run.timing["epoch_seconds"]) == 4 and run.timing["peak_memory_mb"] > 0
    assert f"test accuracy {metrics['test_accuracy']:.4f}" in result.stdout


def test_the_saved_model_gives_the_saved_predictions(finished, synthetic_data):
    folder, _ = finished
    config = read_run(folder).config
    test = synthetic_data.select(range(5))
    model = keras.models.load_model(folder / "model.keras")
    assert not model.compiled  # nothing of the optimizer
    logits = model.predict(Normalization(**config["normalization"]).apply(test.test_images), verbose=0)
    with np.load(folder / "predictions.npz") as predictions:
        np.testing.assert_allclose(keras.ops.softmax(logits), predictions["probabilities"], atol=1e-5)
        assert np.array_equal(predictions["labels"], test.test_labels)
        accuracy = (predictions["probabilities"].argmax(axis=1) == test.test_labels).mean()
    assert accuracy == read_run(folder).metrics["test_accuracy"]


def test_a_killed_run_ends_with_the_same_bytes(finished, tmp_path):
    reference, _ = finished
    flags = (*QUICK, "--epochs", 4, "--output", tmp_path)
    # Killed as soon as the second epoch is reported, and then at some moment before the end.
    process = script_process(EX2, *flags)
    for line in process.stdout:
        if line.startswith("Epoch 3/4"):
            break
    process.kill()
    process.communicate()
    assert visible_files(tmp_path) == []
    kill_after(script_process(EX2, *flags), random.Random().uniform(4, 10))
    result = run_script(EX2, *flags)
    assert result.returncode == 0, result.stderr
    assert "Epoch 1/4" not in result.stdout
    assert_same_run(reference, tmp_path / "synthetic/ex2_improvements/early-stopping/seed-0")
    assert len(read_run(tmp_path / "synthetic/ex2_improvements/early-stopping/seed-0").timing["epoch_seconds"]) == 4


def test_a_finished_run_is_printed_not_trained_and_others_are_refused(finished):
    folder, first = finished
    output = folder.parents[3]
    before = {name: (folder / name).stat().st_mtime_ns for name in RUN_FILES}
    again = run_script(EX2, *QUICK, "--epochs", 4, "--output", output)
    assert again.returncode == 0
    assert again.stdout.splitlines()[-1] == first.stdout.splitlines()[-1]
    assert "Epoch" not in again.stdout
    other = run_script(EX2, *QUICK, "--epochs", 3, "--output", output)
    assert_error(other, "experiment.epochs is 4 there, 3 here", "--force")
    assert before == {name: (folder / name).stat().st_mtime_ns for name in RUN_FILES}


@pytest.mark.slow
def test_force_replaces_a_run_and_one_run_alone_equals_one_among_others(tmp_path):
    flags = (EX1, *QUICK, "--epochs", 1, "--quiet")
    assert run_script(*flags, "--output", tmp_path / "both").returncode == 0
    assert run_script(*flags, "--variant", "adam", "--seed", 1, "--output", tmp_path / "alone").returncode == 0
    alone = tmp_path / "alone/synthetic/ex1_basenet/adam"
    os.rename(alone / "seed-1", alone / "seed-0")  # a run with other settings in the way
    assert_error(run_script(*flags, "--variant", "adam", "--output", tmp_path / "alone"), "seed is 1 there, 0 here")
    forced = run_script(*flags, "--variant", "adam", "--force", "--output", tmp_path / "alone")
    assert forced.returncode == 0
    assert_same_run(alone / "seed-0", tmp_path / "both/synthetic/ex1_basenet/adam/seed-0")
    assert sorted(os.listdir(alone)) == [".seed-0.lock", ".seed-1.lock", "seed-0"]


def test_ctrl_c_says_how_to_go_on(tmp_path):
    process = script_process(EX1, *QUICK, "--epochs", 500, "--output", tmp_path)
    for line in process.stdout:
        if line.startswith("Epoch 2/500"):
            break
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate()
    assert process.returncode == 130
    assert "the same command goes on" in stderr and "Traceback" not in stderr


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
    assert list((tmp_path / "synthetic/ex1_basenet/sgd").iterdir()) == [
        tmp_path / "synthetic/ex1_basenet/sgd/.seed-0.lock"
    ]


@pytest.mark.parametrize("finished_epochs", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_full_disk_loses_no_finished_epoch(tmp_path, finished_epochs):
    resource = pytest.importorskip("resource")

    def limit_file_size():  # too small for the state of an epoch, and for the trained network
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))

    flags = (EX2, *QUICK, "--epochs", 2, "--output", tmp_path)
    if finished_epochs:  # stopped between the last epoch and the end of the run
        state = tmp_path / "synthetic/ex2_improvements/early-stopping/.seed-0.partial/.state"
        process = script_process(*flags)
        while not (state.exists() and '"epoch": 2'.encode("utf-32-le") in state.read_bytes()):
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
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "synthetic/ex2_improvements/early-stopping/seed-0"
    model = keras.models.load_model(folder / "model.keras")
    assert model.layers[1].compute_dtype == "bfloat16" and model.layers[-1].compute_dtype == "float32"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--variant", "nadam"], "--variant nadam is not one of sgd, adam, all"),
        (["--variant", "adam", "adam"], "twice"),
        (["--varian", "adam"], "unrecognized arguments"),
        (["--classes", "90-100"], "--classes 100: cifar100 has the classes 0..99"),
        (["--classes", "0-25", "--dataset", "synthetic"], "--classes 25: synthetic has the classes 0..24"),
        (["--classes", "1,2,1"], "names a class twice"),
        (["--classes", "5-2"], "neither a range"),
        (["--classes", "7"], "a classifier needs two"),
        (["--epochs", "0"], "--epochs: '0' is not a whole number from 1"),
        (["--batch-size", "-4"], "--batch-size"),
        (["--limit", "0"], "--limit: '0' is not"),
        (["--learning-rate", "nan"], "--learning-rate: 'nan' is not a number above 0"),
        (["--validation-fraction", "1"], "--validation-fraction: '1' is not a number between 0 and 1"),
        (["--seed", "-1"], "--seed"),
        (["--seed", "1", "1"], "--seed names one value twice"),
        (["--limit", "1", "--dataset", "synthetic"], "change --limit"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_flags_are_one_line(flags, words, tmp_path):
    assert_error(run_script(EX1, *flags, "--output", tmp_path), words)
    assert list(tmp_path.iterdir()) == []


def test_no_data_and_no_network_names_three_ways_out(tmp_path):
    environment = {**os.environ, "https_proxy": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9"}
    result = run_script(EX1, "--data-dir", tmp_path / "data", "--output", tmp_path / "results", env=environment)
    assert_error(result, "Put cifar-100-python.tar.gz into", "https_proxy", "--dataset synthetic")
    assert visible_files(tmp_path) == []


def test_a_file_where_a_folder_should_be(tmp_path):
    (tmp_path / "file").touch()
    assert_error(run_script(EX1, "--data-dir", tmp_path / "file"), "is a file; give a folder")
    assert_error(run_script(EX1, *QUICK, "--output", tmp_path / "file"), "Not a directory")


def test_one_epoch_on_the_real_images(real_data_dir, tmp_path):
    result = run_script(EX1, "--data-dir", real_data_dir, "--variant", "adam", "--epochs", 1, "--output", tmp_path)
    assert result.returncode == 0, result.stderr
    run = read_run(tmp_path / "cifar100/ex1_basenet/adam/seed-0")
    assert run.metrics["test_accuracy"] > 0.15
    config = json.loads((run.folder / "config.json").read_text())
    assert (config["dataset"]["training_images"], config["dataset"]["test_images"]) == (11250, 2500)
    assert config["dataset"]["classes"][24] == "cockroach"
    assert "0.4512" in result.stdout


@pytest.mark.slow
def test_twenty_kills_at_random_moments(tmp_path):
    flags = (EX2, *QUICK, "--epochs", 8)
    folder = "synthetic/ex2_improvements/early-stopping/seed-0"
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
