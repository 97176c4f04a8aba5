"""The yardstick in PyTorch: it is the same experiment, and the benchmark measures all of its ways."""

import json
import os
import subprocess
import sys
from argparse import Namespace
from importlib.util import find_spec

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))

import shared

from common import augmentation
from common.pipeline import Normalization, split
from common.trial import build_network

TINY = Namespace(dataset="synthetic", data_dir=ROOT / "data", limit=4, precision="bfloat16", compile=False)
NO_COMPILER = {**os.environ, "CXX": "no-such-compiler"}  # a compilation takes half a minute


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason='PyTorch is not installed: pip install -e ".[benchmark]"')


@pytest.fixture(scope="module")
def reference(torch):
    import pytorch_reference

    return pytorch_reference


def speed(*flags) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "benchmarks" / "pytorch_speed.py"), *map(str, flags)]
    return subprocess.run(command, capture_output=True, text=True, env=NO_COMPILER)


@pytest.mark.parametrize("network", shared.NETWORKS)
def test_the_networks_have_as_many_parameters(reference, network):
    ours = build_network(shared.NETWORKS[network], (32, 32, 3), 25)
    theirs = reference.build(network, 25)
    statistics = [each for name, each in theirs.named_buffers() if "running" in name]
    assert sum(each.numel() for each in [*theirs.parameters(), *statistics]) == ours.count_params()


def test_the_same_random_numbers_give_the_same_augmented_images(reference, torch):
    random = np.random.default_rng(0)
    images = random.uniform(0, 255, (16, 32, 32, 3)).astype(np.float32)
    numbers = random.random((16, augmentation.DRAWS), np.float32)
    ours = augmentation.transform(tf.constant(images), augmentation.affine_maps(tf.constant(numbers), 32, 32), 32, 32)
    maps = reference.affine_maps(torch.from_numpy(numbers), 32)
    theirs = reference.transform(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), maps)
    np.testing.assert_allclose(theirs.permute(0, 2, 3, 1).numpy(), ours.numpy(), atol=0.05)


def test_it_trains_on_the_same_images_and_makes_them_alike(reference):
    training = reference.Training(TINY, "basenet", seed=3)
    data = shared.load_images(TINY)
    expected = Normalization.of(data.train_images[split(data.train_labels, 0.1, 3)[0]])
    np.testing.assert_allclose(training.mean.flatten(), expected.mean, rtol=1e-4)
    np.testing.assert_allclose(training.deviation.flatten(), expected.standard_deviation, rtol=1e-4)
    loss, accuracy = training.epoch()
    assert np.isfinite(loss) and 0 <= accuracy <= 1


@pytest.mark.slow
def test_every_way_has_its_seconds_an_epoch(torch, tmp_path):
    file = tmp_path / "seconds.json"
    flags = ("--dataset", "synthetic", "--limit", 4, "--network", "basenet", "--rounds", 2, "--json", file)
    result = speed("epochs", *flags)
    assert (result.returncode, result.stderr) == (0, "")
    rows = json.loads(file.read_text())["rows"]
    ways = [row["way"] for row in rows]
    assert ways[0] == "suite" and ways[-1] == "PyTorch" and len(set(ways)) == len(ways)
    assert all(len(row["seconds"]) == 2 and min(row["seconds"]) > 0 and row["peak_mb"] > 100 for row in rows)
    assert all(f"| basenet | float32 | {way} |" in result.stdout for way in ways)


@pytest.mark.slow
def test_a_study_does_the_same_runs_in_every_way(torch, tmp_path):
    file = tmp_path / "seconds.json"
    flags = ("--dataset", "synthetic", "--limit", 4, "--network", "basenet", "--epochs", 2, "--rounds", 1)
    result = speed("study", *flags, "--json", file)
    assert (result.returncode, result.stderr) == (0, "")
    rows = json.loads(file.read_text())["rows"]
    assert len(rows) == 3
    for row in rows:
        assert len(row["seconds"]) == len(row["epochs_alone"]) == 1
        assert [len(run["epoch_seconds"]) for run in row["runs"]] == [2, 2]


@pytest.mark.skipif(find_spec("torch") is not None, reason="PyTorch is installed")
def test_without_pytorch_one_line_says_how_to_get_it(tmp_path):
    result = speed("start")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: PyTorch is not installed") and result.stderr.count("\n") == 1
