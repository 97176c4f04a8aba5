"""Exercise 3 and the bonus, the real scripts, on small drawn images."""

import json
import os
from dataclasses import replace

import keras
import numpy as np
import pytest
from conftest import assert_error, run_script, script_process, visible_files
from test_scripts import RUN_FILES, assert_same_run

import bonus_residual
from common import runner
from common.runner import Settings

EX3, BONUS = "ex3_resnet_birds.py", "bonus_residual.py"
VARIANTS = ["linear", "fully-connected", "convolutional", "finetune"]
QUICK = ("--dataset", "synthetic", "--weights", "none", "--image-size", 32, "--classes", "0-3")


@pytest.fixture
def quick(drawn_birds):
    return (*QUICK, "--data-dir", drawn_birds.parent)


@pytest.mark.parametrize(
    "variants",
    [("convolutional", "svm"), ("finetune-staged",), pytest.param(("finetune",), marks=pytest.mark.slow)],
    ids="-".join,
)
def test_every_kind_of_variant_leaves_a_whole_run_that_is_not_done_again(quick, tmp_path, variants):
    command = (EX3, *quick, "--variant", *variants, "--epochs", 1, "--output", tmp_path)
    result = run_script(*command)
    assert result.returncode == 0, result.stderr
    for variant in variants:
        folder = tmp_path / "synthetic/ex3_resnet_birds" / variant / "seed-0"
        assert visible_files(folder) == RUN_FILES
        config = json.loads((folder / "config.json").read_text())
        assert config["images"] == {"size": 32, "resize": "squash"}
        assert len(config["resnet50"]["weights_sha256"]) == 64
        assert "parts" not in config["experiment"]  # small images need none
    again = run_script(*command)
    assert again.returncode == 0
    assert "training" not in again.stdout
    assert "ResNet50 looks at" not in again.stdout


@pytest.mark.slow
def test_a_staged_fine_tuning_killed_in_its_second_stage_ends_with_the_same_bytes(quick, tmp_path):
    command = (EX3, *quick, "--variant", "finetune-staged", "--epochs", 8, "--classes", "0-2")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert run_script(*command, "--output", whole).returncode == 0
    process = script_process(*command, "--output", killed)
    for line in process.stdout:
        if line.startswith("Epoch 8/8"):
            break
    process.kill()
    process.communicate()
    assert not (killed / "synthetic/ex3_resnet_birds/finetune-staged/seed-0").exists()
    result = run_script(*command, "--output", killed)
    assert "going on after epoch 7" in result.stdout
    run = "synthetic/ex3_resnet_birds/finetune-staged/seed-0"
    assert_same_run(whole / run, killed / run)


@pytest.mark.slow
def test_an_extraction_killed_at_any_moment_goes_on_to_the_same_bytes(quick, tmp_path):
    flags = ("--classes", "0-19", "--image-size", 224)  # 12 batches
    command = (EX3, *quick, *flags, "--variant", "convolutional", "--epochs", 1, "--output")
    whole, killed = (tmp_path / name / "synthetic" for name in ("whole", "killed"))
    assert run_script(*command, whole.parent).returncode == 0
    (features,) = (whole / "features").glob("map-*.npy")
    size = features.stat().st_size
    partial = killed / "features" / f".{features.name}.partial"
    for part in (0.0, 0.2, 0.4):
        process = script_process(*command, killed.parent)
        while not (partial.exists() and partial.stat().st_size > part * size):
            assert process.poll() is None
        process.kill()
        process.communicate()
        assert visible_files(killed) == []
    assert part * size < partial.stat().st_size < size
    assert run_script(*command, killed.parent).returncode == 0
    assert (killed / "features" / features.name).read_bytes() == features.read_bytes()
    run = "ex3_resnet_birds/convolutional/seed-0"
    assert_same_run(whole / run, killed / run)


def test_bad_weights_and_bad_sizes_are_one_line(quick, tmp_path):
    missing = tmp_path / "no.weights.h5"
    assert_error(run_script(EX3, *quick, "--weights", missing), "is not a file")
    assert_error(run_script(EX3, *quick, "--image-size", 8), "32 to 1024")
    (tmp_path / "bad.weights.h5").write_text("nothing")
    flags = ("--variant", "linear", "--output", tmp_path / "results")
    assert_error(run_script(EX3, *quick, *flags, "--weights", tmp_path / "bad.weights.h5"), "does not fit ResNet50")
    assert visible_files(tmp_path) == ["bad.weights.h5"]


def test_no_birds_and_no_network_names_three_ways_out(tmp_path):
    environment = {**os.environ, "https_proxy": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9"}
    result = run_script(EX3, "--data-dir", tmp_path / "data", "--output", tmp_path / "results", env=environment)
    assert_error(result, "Put images.tgz and lists.tgz into", "https_proxy", "--dataset synthetic --weights none")
    assert visible_files(tmp_path) == []


def test_an_image_that_does_not_decode_stops_with_its_name(birds_dir, tmp_path):
    path = birds_dir / "CUB_200_2010/images/002.Blue_wader/blue_wader_0004.jpg"
    path.write_bytes(path.read_bytes()[:-300])
    flags = ("--weights", "none", "--image-size", 32, "--classes", "0-3", "--data-dir", birds_dir)
    result = run_script(EX3, *flags, "--variant", "linear", "--output", tmp_path / "results")
    assert_error(result, "blue_wader_0004.jpg is not a whole JPEG")
    assert visible_files(tmp_path / "results") == []


def test_tables_are_the_report_s():
    tables = run_script(EX3, "--table", "--variant", *VARIANTS).stdout
    linear, connected, convolutional, finetune = tables.split("| no.")[1:]
    assert "| 1 | Linear | - | 2048 → 200 | - |" in linear
    assert "| 1 | Dropout (0.4) | - | 2048 → 2048 | - |" in connected
    assert "| 2 | Linear | - | 2048 → 1024 | - |" in connected
    assert "| 1 | Conv2D, same padding | 3 | 7 → 7 | 2048 → 64 |" in convolutional
    assert "Linear | - | 3136 → 1024 | - |" in convolutional
    assert "Linear | - | 2048 → 200 | - |" in finetune
    assert "23,997,512 parameters" in finetune


def test_wide_and_residual_are_the_report_s():
    tables = run_script(BONUS, "--table", "--variant", "wide", "residual").stdout
    assert tables.count("2,259,737 parameters") == 2
    wide, residual = tables.split("residual\n")
    assert "Add" not in wide
    assert "| 8 | Add (the output of 3) | - | 32 → 32 | - |" in residual
    assert "| 19 | Add (the output of 14) | - | 16 → 16 | - |" in residual
    assert "| 28 | Linear | - | 512 → 25 | - |" in residual


def test_the_next_steps_change_the_modules_and_keep_the_rest():
    tables = run_script(BONUS, "--table", "--variant", "bottleneck", "deeper", "deeper-3", "self-calibrated").stdout
    bottleneck, deeper, deeper_3, calibrated = tables.split("| no.")[1:]
    for table, last, modules in ((bottleneck, 64, 5), (deeper, 64, 2), (deeper_3, 48, 3), (calibrated, 64, 1)):
        assert f"Linear | - | {64 * last} → 512 | - |" in table
        shortcuts = table.count("Add (the output of")
        assert shortcuts == 2 * modules
    assert bottleneck.count("| 1 | 32 → 32 | 32 → 16 |") == bottleneck.count("| 1 | 32 → 32 | 16 → 32 |") == 5
    assert bottleneck.count("Conv2D, same padding | 3 | 16 → 16 | 32 → 32 |") == 5
    # In each of four convolutions: one of pooled channels, three of half the channels in full size.
    assert calibrated.count("AveragePooling2D | 4 | 32 → 8 |") == 2
    assert calibrated.count("AveragePooling2D | 2 | 16 → 8 |") == 2
    assert calibrated.count("| 3 | 32 → 32 | 16 → 16 |") == 6
    assert calibrated.count("Multiply") == calibrated.count("Add (the outputs of") == 4


def test_the_champion_trains_and_its_saved_network_averages_over_the_flip(tmp_path):
    flags = ("--dataset", "synthetic", "--classes", "0-2", "--limit", 20, "--epochs", 2, "--precision", "bfloat16")
    result = run_script(BONUS, *flags, "--variant", "champion", "--output", tmp_path)
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "synthetic/bonus_residual/champion/seed-0"
    assert visible_files(folder) == RUN_FILES
    network = keras.models.load_model(folder / "model.keras")
    images = np.random.default_rng(0).normal(0, 1, (3, 32, 32, 3)).astype("float32")
    mirrored = network.predict(images[:, :, ::-1], verbose=0)
    assert network.predict(images, verbose=0) == pytest.approx(mirrored, abs=1e-5)


@pytest.mark.slow
def test_smoothing_reaches_the_training_images(synthetic_data, tmp_path):
    few = synthetic_data.select((0, 1, 2)).limit(20)
    losses = []
    for change in ({}, {"label_smoothing": 0.1}):
        settings = Settings(tmp_path / str(len(losses)), "float32", False, True, "CPU")
        experiment = replace(bonus_residual.WIDE, epochs=1, **change)
        losses.append(runner.run("bonus_residual", experiment, few, 0, settings).history[0]["loss"])
    # One batch, so the first epoch's loss is that of the same fresh weights.
    assert abs(losses[1] - losses[0]) > 1e-3
