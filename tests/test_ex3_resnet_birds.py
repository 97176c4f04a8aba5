"""Exercise 3, the real script, on small drawn birds."""

import pytest
from conftest import (
    BIRDS,
    EX3,
    RUN_FILES,
    assert_done,
    assert_error,
    assert_same_run,
    kill_at,
    read_json,
    run_script,
    script_process,
    visible_files,
)

import ex3_resnet_birds
from common.datasets import synthetic_birds
from common.datasets.image_data import DataFolder

RUNS = "synthetic/ex3_resnet_birds"


@pytest.fixture
def quick(drawn_birds):
    return (*BIRDS, "--data-dir", drawn_birds.parent)


def assert_whole_run_of_the_birds(folder):
    assert visible_files(folder) == sorted([*RUN_FILES, "split.csv"])
    config = read_json(folder / "config.json")
    assert config["dataset"]["options"] == {"image_size": 32, "resize": "squash"}
    assert config["dataset"]["not_comparable"] == "drawn images"
    assert len(config["backbone"]["weights_sha256"]) == 64
    return config


@pytest.mark.slow
def test_heads_on_frozen_features_leave_whole_runs_that_are_not_done_again(quick, tmp_path):
    flags = ("--variant", "convolutional", "svm", "--validation-fraction", 0.2, "--output", tmp_path)
    result = run_script(EX3, *quick, *flags)
    assert_done(result)
    rest = "classes=0-3,validation-fraction=0.2,weights=none"
    for variant in ("convolutional", "svm"):
        config = assert_whole_run_of_the_birds(tmp_path / RUNS / f"{variant},{rest}/seed-0")
        assert "common/transfer/features.py" in config["code"]
        assert ("common/transfer/linear.py" in config["code"]) == (variant == "svm")
    metrics = read_json(tmp_path / RUNS / f"svm,{rest}/seed-0/metrics.json")
    assert metrics["C"] in ex3_resnet_birds.SVM.learning.grid and metrics["epochs"] == 1
    assert "batch_size" not in read_json(tmp_path / RUNS / f"svm,{rest}/seed-0/config.json")["experiment"]
    again = run_script(EX3, *quick, *flags)
    assert_done(again)
    assert "training" not in again.stdout
    assert "features of" in result.stdout and "features of" not in again.stdout


def test_a_fine_tuning_leaves_a_whole_run(staged_birds):
    config = assert_whole_run_of_the_birds(staged_birds)
    assert config["experiment"]["initial_head"] == "logistic" and config["experiment"]["freeze_batch_norm"] is True
    assert {"common/transfer/fine_tuning.py", "common/transfer/linear.py", "common/models/resnet50.py"} < {
        *config["code"]
    }


@pytest.mark.slow
def test_the_report_s_fine_tuning_leaves_a_whole_run(quick, tmp_path):
    assert_done(run_script(EX3, *quick, "--variant", "finetune", "--epochs", 1, "--output", tmp_path))
    assert_whole_run_of_the_birds(tmp_path / RUNS / "finetune,classes=0-3,epochs=1,weights=none/seed-0")


@pytest.mark.slow
def test_a_fine_tuning_of_second_order_features_leaves_a_whole_run_that_explains_itself(quick, drawn_birds, tmp_path):
    flags = ("--variant", "finetune-second-order", "--epochs", 1, "--output", tmp_path)
    assert_done(run_script(EX3, *quick, *flags))
    run = tmp_path / RUNS / "finetune-second-order,classes=0-3,epochs=1,weights=none/seed-0"
    config = assert_whole_run_of_the_birds(run)
    assert "common/models/second_order.py" in config["code"]
    photograph = sorted(drawn_birds.rglob("*.jpg"))[0]
    assert_done(run_script("predict.py", run, photograph, "--explain", "--output", tmp_path / "why"))
    assert len([*(tmp_path / "why").iterdir()]) == 1


@pytest.mark.slow
def test_a_staged_fine_tuning_killed_in_its_second_stage_ends_with_the_same_bytes(quick, tmp_path):
    command = (EX3, *quick, "--variant", "finetune-staged", "--classes", "0-2")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert run_script(*command, "--output", whole).returncode == 0
    run = f"{RUNS}/finetune-staged,classes=0-2,weights=none/seed-0"
    kill_at(script_process(*command, "--output", killed), "Epoch 4/4")
    assert not (killed / run).exists()
    result = run_script(*command, "--output", killed)
    assert "resumes after epoch 3" in result.stdout
    assert_same_run(whole / run, killed / run)
    assert [row["first_epoch"] for row in read_json(killed / run / "environment.json")] == [1, 4]


@pytest.mark.slow
def test_an_extraction_killed_at_any_moment_resumes_to_the_same_bytes(quick, tmp_path):
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
    run = "ex3_resnet_birds/convolutional,epochs=1,image-size=224,weights=none/seed-0"
    assert_same_run(whole / run, killed / run)


@pytest.mark.slow
def test_beside_a_data_folder_that_cannot_be_written_all_goes_below_output(read_only, tmp_path):
    data, output = tmp_path / "data", tmp_path / "results"
    data.mkdir()
    options = read_only(data)
    result = run_script(EX3, *BIRDS, "--variant", "svm", "--data-dir", data, "--output", output, **options)
    assert_done(result)
    line = f"{data} cannot be written: synthetic_birds goes to {output / 'data'}\n"
    assert result.stdout.startswith(line)
    (run,) = (output / RUNS).glob("svm,*/seed-0")
    assert_whole_run_of_the_birds(run)
    assert [*data.iterdir()] == []
    found = synthetic_birds.find(DataFolder(data, output / "data"))
    assert found == output / "data/synthetic_birds"  # which the next command takes


def test_bad_weights_are_one_line_and_leave_nothing(quick, tmp_path):
    (tmp_path / "bad.weights.h5").write_text("nothing")
    flags = ("--variant", "linear", "--output", tmp_path / "results")
    assert_error(run_script(EX3, *quick, *flags, "--weights", tmp_path / "bad.weights.h5"), "is not an HDF5 file")
    assert visible_files(tmp_path) == ["bad.weights.h5"]


@pytest.mark.slow
def test_no_birds_and_a_proxy_that_refuses_says_the_addresses_and_the_folder(proxy, tmp_path):
    flags = ("--data-dir", tmp_path / "data", "--output", tmp_path / "results")
    result = run_script(EX3, *flags, env=proxy.environment)
    put = f"Put images.tgz and lists.tgz into {tmp_path / 'data'} (from https://"
    assert_error(result, "407", put, " and https://", "https_proxy", "use --dataset synthetic --weights none")
    assert visible_files(tmp_path) == []


def test_an_image_that_does_not_decode_stops_with_its_name(birds_dir, tmp_path):
    path = birds_dir / "CUB_200_2010/images/002.Blue_wader/blue_wader_0004.jpg"
    path.write_bytes(path.read_bytes()[:-300])
    flags = ("--weights", "none", "--image-size", 32, "--classes", "0-3", "--data-dir", birds_dir)
    result = run_script(EX3, *flags, "--variant", "linear", "--output", tmp_path / "results")
    assert_error(result, "blue_wader_0004.jpg is damaged, cut off, or of an unusual kind")
    assert visible_files(tmp_path / "results") == []


def test_tables_are_the_report_s():
    variants = ["linear", "fully-connected", "convolutional", "finetune"]
    tables = run_script(EX3, "--table", "--variant", *variants).stdout
    linear, connected, convolutional, finetune = tables.split("| no.")[1:]
    assert "| 1 | Linear | - | 2048 → 200 | - |" in linear
    assert "| 1 | Dropout (0.4) | - | 2048 → 2048 | - |" in connected
    assert "| 2 | Linear | - | 2048 → 1024 | - |" in connected
    assert "| 1 | Conv2D, same padding | 3 | 7 → 7 | 2048 → 64 |" in convolutional
    assert "Linear | - | 3136 → 1024 | - |" in convolutional
    assert "Linear | - | 2048 → 200 | - |" in finetune
    assert "23,997,512 parameters" in finetune
