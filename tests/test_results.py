import subprocess
import sys

import pytest
from conftest import ROOT

from common.errors import UserError
from common.results import RunFolder, read_history, write_history, write_whole

CONFIG = {"experiment": {"epochs": 25, "batch_size": 64}, "seed": 0}


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path, "synthetic", "script", "variant", 0)


def test_history_reads_back_exactly(tmp_path):
    history = [
        {"epoch": 1, "loss": 1 / 3, "accuracy": 0.1, "val_loss": 1e-9, "val_accuracy": 2 / 7, "learning_rate": 0.01}
    ]
    write_history(tmp_path / "history.csv", history)
    assert read_history(tmp_path / "history.csv") == history


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    write_whole(path, lambda file: file.write(b"old"))

    code = (
        "import resource; from pathlib import Path; from common.results import write_whole\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        f"write_whole(Path({str(path)!r}), lambda file: file.write(bytes(5000)))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "File too large" in result.stderr
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_other_settings_are_named_setting_by_setting(folder):
    with folder.locked():
        folder.begin(CONFIG)
        folder.finished(CONFIG)
        with pytest.raises(UserError, match=r"experiment\.epochs is 25 there, 3 here; seed is 0 there, 1 here"):
            folder.finished({"experiment": {"epochs": 3, "batch_size": 64}, "seed": 1})


def test_lists_are_compared_value_by_value_and_long_lists_of_differences_cut(folder):
    with folder.locked():
        folder.begin({"classes": ["apple", "baby"], "seed": 0})
        with pytest.raises(UserError, match=r'settings: classes\.1 is "baby" there, null here\. Give'):
            folder.finished({"classes": ["apple"], "seed": 0})
        with pytest.raises(UserError, match=r"; and 2 more\. Give"):
            folder.finished({"classes": ["x", "y", "z", "u", "v"], "seed": 1})


def test_an_unfinished_run_is_kept_for_its_own_settings_only(folder):
    with folder.locked():
        folder.begin(CONFIG)
        folder.state_file.write_bytes(b"state")
        folder.begin(CONFIG)
        assert folder.state_file.exists()
        folder.begin({**CONFIG, "seed": 1})
        assert not folder.state_file.exists()


def test_a_second_process_is_refused_until_the_first_is_gone(folder, tmp_path):
    code = (
        "import sys; from pathlib import Path; from common.results import RunFolder\n"
        f"with RunFolder(Path({str(tmp_path)!r}), 'synthetic', 'script', 'variant', 0).locked():\n"
        "    print('locked', flush=True); sys.stdin.read()"
    )
    first = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert first.stdout.readline() == b"locked\n"
    with pytest.raises(UserError, match="another process is writing"), folder.locked():
        pass
    first.kill()
    first.communicate()
    with folder.locked():
        pass
