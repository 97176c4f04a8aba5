"""What the tests share: real scripts in processes of their own, small real files, the real data if it is there."""

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib.font_manager  # noqa: F401  (its first import on a machine says so on stderr)
import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from common import tensorflow_setup  # noqa: E402
from common.datasets import synthetic, synthetic_birds  # noqa: E402

tensorflow_setup.configure()

QUICK = ("--dataset", "synthetic", "--classes", "0-4", "--limit", "40")


def script_process(script: str, *flags, **options) -> subprocess.Popen:
    """A script of the suite, started in the project's folder."""
    return subprocess.Popen(
        [sys.executable, script, *map(str, flags)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def run_script(script: str, *flags, **options) -> subprocess.CompletedProcess:
    """The same, waited for; its output is in ``stdout`` and ``stderr``."""
    process = script_process(script, *flags, **options)
    stdout, stderr = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def assert_error(result: subprocess.CompletedProcess, *words: str) -> None:
    """Exit code 2 and one line on stderr that begins with "error:" and holds these words."""
    assert result.returncode == 2, result.stdout + result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    for word in words:
        assert word in result.stderr


def visible_files(folder: Path) -> list[str]:
    """All files below a folder but hidden ones (locks, unfinished runs), as sorted relative paths."""
    relative = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(str(path) for path in relative if not any(part.startswith(".") for part in path.parts))


@pytest.fixture(scope="session")
def synthetic_data():
    return synthetic.load(tuple(range(25)))


@pytest.fixture
def cifar100_dir(synthetic_data, tmp_path) -> Path:
    """A data folder with a small CIFAR-100 in the official format: labels 0..24, synthetic images, 12 + 3 a class."""
    data, folder = synthetic_data, tmp_path / "data" / "cifar-100-python"
    folder.mkdir(parents=True)
    for name, label, images, labels in (
        ("train", "training batch 1 of 1", data.train_images, data.train_labels),
        ("test", "testing batch 1 of 1", data.test_images, data.test_labels),
    ):
        count = 12 if name == "train" else 3
        kept = np.concatenate([np.flatnonzero(labels == c)[:count] for c in range(25)])
        content = {
            "data": images[kept].transpose(0, 3, 1, 2).reshape(len(kept), 3072).copy(),
            "fine_labels": labels[kept].tolist(),
            "batch_label": label,
        }
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    names = {"fine_label_names": [f"class {label}" for label in range(100)]}
    (folder / "meta").write_bytes(pickle.dumps(names, protocol=2))
    return folder.parent


@pytest.fixture(scope="session")
def drawn_birds(tmp_path_factory) -> Path:
    """The folder of all synthetic birds: 20 species, 4 + 4 files each, in the form of CUB-200."""
    return synthetic_birds.find(tmp_path_factory.mktemp("birds"))


@pytest.fixture
def birds_dir(drawn_birds, tmp_path) -> Path:
    """A data folder of one's own with the synthetic birds as ``CUB_200_2010/``."""
    shutil.copytree(drawn_birds, tmp_path / "data" / "CUB_200_2010")
    return tmp_path / "data"


@pytest.fixture(scope="session")
def real_weights() -> str:
    """A file of ResNet50's weights."""
    if "TEST_RESNET50_WEIGHTS" not in os.environ:
        pytest.skip("needs real weights: set TEST_RESNET50_WEIGHTS to a .weights.h5 file of ResNet50")
    return os.environ["TEST_RESNET50_WEIGHTS"]


@pytest.fixture(scope="session")
def real_data_dir() -> Path:
    """The folder of the real data sets."""
    if "TEST_DATA_DIR" not in os.environ:
        pytest.skip("needs the real data: set TEST_DATA_DIR to the folder of cifar-100-python/ and CUB_200_2010/")
    return Path(os.environ["TEST_DATA_DIR"]).resolve()
