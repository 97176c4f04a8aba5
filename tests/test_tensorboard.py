"""--tensorboard, read with TensorBoard's own reader."""

import shutil
from pathlib import Path

import pytest
from conftest import (
    EX1,
    EX2,
    FOUR_EPOCHS,
    QUICK,
    assert_done,
    assert_error,
    kill_at,
    run_code,
    run_script,
    script_process,
)

from common.reporting.run_folder import HISTORY_FIELDS, read_run

TRAINING = (EX2, *QUICK, "--epochs", 4, "--tensorboard")


def read(folder: Path):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = event_accumulator.EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    return events


def assert_whole(folder: Path) -> None:
    """Each epoch once, as the history has it, in one file; the figures and the settings."""
    run, events = read_run(folder), read(folder / "tensorboard")
    assert len([*(folder / "tensorboard").iterdir()]) == 1
    assert sorted(events.Tags()["scalars"]) == sorted({*HISTORY_FIELDS} - {"epoch"})
    for name in events.Tags()["scalars"]:
        found = events.Scalars(name)
        assert [event.step for event in found] == [row["epoch"] for row in run.history]
        assert [event.value for event in found] == pytest.approx([row[name] for row in run.history], rel=1e-6)
        assert [event.wall_time for event in found] == sorted(event.wall_time for event in found)
    assert events.Tags()["images"] == ["figures/accuracy", "figures/confusion_matrix", "figures/loss"]
    (image,) = events.Images("figures/loss")
    assert image.encoded_image_string == (folder / "loss.png").read_bytes() and image.step == len(run.history)
    assert image.width > 100 and image.height > 100
    settings = settings_of(events)
    assert (settings["epochs"].number_value, settings["optimizer"].string_value) == (len(run.history), "adam")
    assert {*settings} == {*run.config["experiment"]}


def settings_of(events):
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    return HParamsPluginData.FromString(content).session_start_info.hparams


@pytest.mark.slow
def test_a_killed_and_resumed_run_has_each_epoch_once(finished, tmp_path):
    kill_at(script_process(*TRAINING, "--output", tmp_path), "Epoch 3/4")
    partial = (tmp_path / FOUR_EPOCHS).with_name(".seed-0.partial")
    under_way = read(partial / "tensorboard").Scalars("val_accuracy")
    assert [event.step for event in under_way] in ([1, 2], [1, 2, 3])
    kill_at(script_process(*TRAINING, "--output", tmp_path), "resumes after epoch")
    assert_done(run_script(*TRAINING, "--output", tmp_path))
    assert_whole(tmp_path / FOUR_EPOCHS)
    assert (tmp_path / FOUR_EPOCHS / "history.csv").read_bytes() == (finished[0] / "history.csv").read_bytes()


@pytest.mark.slow
def test_a_finished_run_gets_its_events_without_training(finished, tmp_path):
    pytest.importorskip("tensorboard")
    shutil.copytree(finished[0], tmp_path / FOUR_EPOCHS)
    for _ in range(2):
        again = run_script(*TRAINING, "--output", tmp_path)
        assert_done(again)
        assert "training" not in again.stdout
        assert_whole(tmp_path / FOUR_EPOCHS)


def test_without_tensorboard_the_flag_is_one_line_and_nothing_is_written(tmp_path):
    flags = [EX1, *map(str, QUICK), "--variant", "adam", "--tensorboard", "--output", str(tmp_path)]
    code = (
        "import sys, ex1_basenet; from common import cli\n"
        "sys.modules['tensorboard'] = None  # Python then finds no such package\n"
        f"sys.argv = {flags!r}\n"
        "sys.exit(cli.main(ex1_basenet.EXERCISE))"
    )
    assert_error(run_code(code), "pip install tensorboard")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_resumed_run_that_writes_no_events_keeps_none_of_before(tmp_path):
    pytest.importorskip("tensorboard")
    kill_at(script_process(*TRAINING, "--output", tmp_path), "Epoch 3/4")
    assert_done(run_script(*TRAINING[:-1], "--output", tmp_path))
    assert not (tmp_path / FOUR_EPOCHS / "tensorboard").exists()


@pytest.mark.slow
def test_runs_beside_each_other_write_events_too(tmp_path):
    pytest.importorskip("tensorboard")
    few = ("--dataset", "synthetic", "--classes", "0-2", "--limit", 20, "--epochs", 1, "--variant", "adam", "--quiet")
    assert_done(run_script(EX1, *few, "--seed", 0, 1, "--jobs", 2, "--tensorboard", "--output", tmp_path))
    for folder in tmp_path.glob("synthetic/ex1_basenet/*/seed-*"):
        assert_whole(folder)
