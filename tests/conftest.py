"""What the tests share: real scripts in processes of their own, small real files, the real data if it is there."""

import ctypes
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from common import cli, tensorflow_setup  # noqa: E402
from common.datasets import synthetic, synthetic_birds  # noqa: E402
from common.datasets.image_data import DataFolder  # noqa: E402

tensorflow_setup.configure()
for number in cli.STOPPED:  # a job in the background may ignore Ctrl-C, and so would all that it starts
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)

EX1, EX2, EX3, BONUS = "ex1_basenet.py", "ex2_improvements.py", "ex3_resnet_birds.py", "bonus_residual.py"
QUICK = ("--dataset", "synthetic", "--classes", "0-4", "--limit", 40)
QUICK_NAME = "classes=0-4,epochs=1,limit=40"  # what a run folder's name says of QUICK and one epoch
THREE_CLASSES = ("--dataset", "synthetic", "--classes", "0-2", "--limit", 20)
BIRDS = ("--dataset", "synthetic", "--weights", "none", "--image-size", 32, "--classes", "0-3")
FOUR_EPOCHS = "synthetic/ex2_improvements/early-stopping,classes=0-4,epochs=4,limit=40/seed-0"  # ``finished``
RUN_FILES = [
    "accuracy.png",
    "config.json",
    "confusion_matrix.png",
    "environment.json",
    "examples.npz",
    "history.csv",
    "layer_table.md",
    "loss.png",
    "metrics.json",
    "model.keras",
    "per_class.json",
    "predictions.npz",
    "timing.json",
]
SAME_BYTES = (
    "config.json",
    "examples.npz",
    "history.csv",
    "layer_table.md",
    "loss.png",
    "metrics.json",
    "per_class.json",
)


def script_process(script: str, *flags, root: Path = ROOT, **options) -> subprocess.Popen:
    """A script of the suite, started in the project's folder."""
    return subprocess.Popen(
        [sys.executable, script, *map(str, flags)],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        **options,
    )


def run_script(script: str, *flags, **options) -> subprocess.CompletedProcess:
    """The same, waited for; its output is in ``stdout`` and ``stderr``."""
    process = script_process(script, *flags, **options)
    stdout, stderr = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def run_code(code: str, cwd: Path = ROOT, **options) -> subprocess.CompletedProcess:
    """A piece of Python in a process of its own, waited for."""
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, **options)


def kill_at(process: subprocess.Popen, line: str) -> None:
    """Sends SIGKILL as soon as the process prints a line that begins like this."""
    for printed in process.stdout:
        if printed.startswith(line):
            break
    process.kill()
    process.communicate()


def assert_done(result: subprocess.CompletedProcess) -> None:
    """Exit code 0 and nothing on stderr."""
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stderr == ""


def assert_error(result: subprocess.CompletedProcess, *words: str) -> None:
    """Exit code 2 and one line on stderr that begins with "error:" and holds these words."""
    assert result.returncode == 2, result.stdout + result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    for word in words:
        assert word in result.stderr


def assert_same_run(a: Path, b: Path) -> None:
    """Two run folders with the same bytes, but for where and how fast they were made."""
    for name in SAME_BYTES:
        assert (a / name).read_bytes() == (b / name).read_bytes(), name
    with np.load(a / "predictions.npz") as first, np.load(b / "predictions.npz") as second:
        assert all(np.array_equal(first[key], second[key]) for key in ("labels", "probabilities"))


def read_json(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


def visible_files(folder: Path) -> list[str]:
    """All files below a folder but hidden ones (locks, unfinished runs), as sorted relative paths."""
    relative = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in relative if not any(part.startswith(".") for part in path.parts))


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Times of change and bytes of everything below a folder, hidden or not, and of the folder itself."""
    paths = (folder, *folder.rglob("*"))
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in paths
    }


def pack(archive: Path, folder: Path, prefix: str) -> None:
    """A compressed tar archive with the files of a folder below a prefix."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        tar.add(folder, prefix)


def edit(path: Path, old: str, new: str) -> None:
    """Replaces a text that stands once in a file."""
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"'{old}' stands {text.count(old)} times in {path}"
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A copy of the project's code, to be changed and run."""
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")  # an edit within a second might meet the old bytecode
    copy = tmp_path / "project"
    shutil.copytree(ROOT / "common", copy / "common", ignore=shutil.ignore_patterns("__pycache__", ".*"))
    for script in ROOT.glob("*.py"):
        shutil.copy(script, copy)
    return copy


# Runs that several tests look at, each never changed: a script, its flags, and the folder that it leaves.
SHARED_RUNS = {
    "finished": (EX2, (*QUICK, "--epochs", 4), FOUR_EPOCHS),
    "champion": (
        BONUS,
        (*THREE_CLASSES, "--variant", "champion", "--epochs", 2, "--learning-rate", 1e-5),
        "synthetic/bonus_residual/champion,classes=0-2,epochs=2,learning-rate=1e-05,limit=20/seed-0",
    ),
    "budgeted": (
        EX1,
        ("--dataset", "synthetic", "--variant", "adam", "--epochs", 2, "--limit", 30),
        "synthetic/ex1_basenet/adam,epochs=2,limit=30/seed-0",
    ),
    "staged_birds": (
        EX3,
        (*BIRDS, "--variant", "finetune-staged", "--epochs", 1),
        "synthetic/ex3_resnet_birds/finetune-staged,classes=0-3,epochs=1,weights=none/seed-0",
    ),
}


@pytest.fixture(scope="session", autouse=True)
def shared_runs(request, tmp_path_factory):
    """Starts the shared runs that the chosen tests need, beside the tests that do not."""
    needed = {name for item in request.session.items for name in getattr(item, "fixturenames", ())}
    processes = {}
    for name in sorted(needed & {*SHARED_RUNS}):
        script, flags, folder = SHARED_RUNS[name]
        output = tmp_path_factory.mktemp(name)
        if script == EX3:
            flags = (*flags, "--data-dir", request.getfixturevalue("drawn_birds").parent)
        processes[name] = script_process(script, *flags, "--output", output), output / folder
    yield processes
    for process, _ in processes.values():
        process.kill()
        process.communicate()


def shared_run(shared_runs, name: str) -> tuple[Path, subprocess.CompletedProcess]:
    process, folder = shared_runs[name]
    stdout, stderr = process.communicate()
    result = subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)
    assert_done(result)
    return folder, result


@pytest.fixture(scope="session")
def finished(shared_runs) -> tuple[Path, subprocess.CompletedProcess]:
    """A finished run of exercise 2 with augmentation, dropout and early stopping, and what it printed."""
    return shared_run(shared_runs, "finished")


@pytest.fixture(scope="session")
def staged_birds(shared_runs) -> Path:
    """The folder of a short fine-tuning on drawn birds of four species."""
    return shared_run(shared_runs, "staged_birds")[0]


@pytest.fixture(scope="session")
def champion(shared_runs) -> Path:
    """The folder of a short run with test-time augmentation."""
    return shared_run(shared_runs, "champion")[0]


@pytest.fixture(scope="session")
def budgeted(shared_runs) -> Path:
    """The folder of a run as ``reproduce_report.py --dataset synthetic`` makes it."""
    return shared_run(shared_runs, "budgeted")[0]


@pytest.fixture(scope="session")
def synthetic_data():
    return synthetic.load(tuple(range(25)))


@pytest.fixture
def cifar100_dir(synthetic_data, tmp_path) -> Path:
    """A data folder with a small CIFAR-100 in the official format: labels 0..24, synthetic images, 12 + 3 a class."""
    data, folder = synthetic_data, tmp_path / "data" / "cifar-100-python"
    folder.mkdir(parents=True)
    for name, label, images, labels in (
        ("train", "training batch 1 of 1", data.train_images.values, data.train_labels),
        ("test", "testing batch 1 of 1", data.test_images.values, data.test_labels),
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


@pytest.fixture
def cifar10_dir(synthetic_data, tmp_path) -> Path:
    """A data folder with a small CIFAR-10 in the official format: synthetic images, 5 × 2 + 2 a class."""
    data, folder = synthetic_data, tmp_path / "ten" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for number, name in enumerate((*(f"data_batch_{batch}" for batch in range(1, 6)), "test_batch")):
        kept = np.concatenate([np.flatnonzero(data.train_labels == c)[2 * number : 2 * number + 2] for c in range(10)])
        content = {
            "data": data.train_images.values[kept].transpose(0, 3, 1, 2).reshape(20, 3072).copy(),
            "labels": data.train_labels[kept].tolist(),
            "batch_label": f"training batch {number + 1} of 5" if number < 5 else "testing batch 1 of 1",
        }
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    names = {"label_names": [f"class {label}" for label in range(10)], "num_vis": 3072}
    (folder / "batches.meta").write_bytes(pickle.dumps(names, protocol=2))
    return folder.parent


def obey_permissions() -> None:
    """Before root's process becomes another: takes the right from it that no permission stops it (Linux)."""
    drop_from_bounding_set, override_permissions = 24, 1  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE: prctl(2), capabilities(7)
    if ctypes.CDLL(None).prctl(drop_from_bounding_set, override_permissions, 0, 0, 0):
        raise OSError("root cannot give up its rights here")


@pytest.fixture
def read_only(tmp_path):
    """A function that takes the right to write from a folder, and options for the processes that then obey it."""
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    locked = []

    def lock(folder: Path) -> dict:
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        locked.append(folder)
        return {"preexec_fn": obey_permissions} if is_root else {}

    yield lock
    for folder in locked:
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)


class Proxy(BaseHTTPRequestHandler):
    """Refuses whatever it is asked for, and keeps it in ``server.asked``."""

    def refuse(self):
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        self.send_error(407, "Proxy Authentication Required")

    do_GET = do_CONNECT = refuse

    def log_message(self, *arguments):
        pass


@pytest.fixture
def proxy():
    """A proxy that refuses: ``asked`` is what was asked of it, ``environment`` leads processes to it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    server.asked = []  # type: ignore[attr-defined]
    address = f"http://127.0.0.1:{server.server_port}"
    names = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")
    kept = {name: value for name, value in os.environ.items() if name.lower() != "no_proxy"}
    server.environment = kept | dict.fromkeys(names, address)  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def drawn_birds(tmp_path_factory) -> Path:
    """The folder of all synthetic birds: 20 species, 4 + 4 files each, in the form of CUB-200."""
    home = tmp_path_factory.mktemp("birds")
    return synthetic_birds.find(DataFolder(home, home))


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
