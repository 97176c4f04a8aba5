import os
import subprocess
import sys
from importlib.metadata import version

import pytest
from conftest import ROOT, read_json, run_code

from common.environment import VARIABLES, describe, processor

ROW = "from common.environment import describe; row = describe('CPU', 1, 1); print(row['commit'], row['clean'])"


def test_a_row_says_where_a_result_was_made(monkeypatch):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
    others = {"HOME_OF_SOMEBODY", "TF_CLI_CONFIG_FILE", "TF_TOKEN_example_com", "TF_VAR_password", "NVIDIA_API_KEY"}
    for name in others:
        monkeypatch.setenv(name, "secret")
    row = describe("CPU", 2, 3)
    assert (row["device"], row["threads"], row["first_epoch"]) == ("CPU", 2, 3)
    assert row["versions"]["python"] == sys.version.split()[0]
    for package in ("keras", "numpy", "scipy", "scikit-learn"):
        assert row["versions"][package] == version(package)
    assert row["variables"]["TF_ENABLE_ONEDNN_OPTS"] == "1" and not others & row["variables"].keys()
    assert row["processor"] == processor()


def test_published_runs_tell_of_no_variables_of_others():
    for path in (ROOT / "published").rglob("environment.json"):
        for row in read_json(path):
            assert all(name.startswith(VARIABLES) for name in row.get("variables", {})), path


@pytest.mark.skipif(not os.path.exists("/proc/cpuinfo"), reason="needs Linux's description of the processor")
def test_generations_of_processors_that_share_a_name_are_told_apart():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        text = file.read()
    if "model name" not in text:
        pytest.skip("this processor has no model name")
    (name,) = {line.partition(": ")[2] for line in text.splitlines() if line.startswith("model name")}
    (model,) = {line.partition(": ")[2] for line in text.splitlines() if line.startswith("model\t")}
    assert name in processor() and f"model {model})" in processor()


def test_the_commit_and_whether_the_tree_was_clean(project):
    def git(*arguments):
        identity = ("-c", "user.name=test", "-c", "user.email=test@localhost")
        command = ["git", *identity, *arguments]
        return subprocess.run(command, cwd=project, capture_output=True, text=True, check=True).stdout.strip()

    def row():
        result = run_code(ROW, cwd=project)
        assert result.returncode == 0, result.stderr
        return result.stdout.split()

    assert row() == ["None", "None"]  # no repository
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "x")
    commit = git("rev-parse", "HEAD")
    (project / "notes.txt").touch()  # a file that git does not track is no change of the code
    assert row() == [commit, "True"]
    path = project / "common/augmentation.py"
    path.write_text(path.read_text() + "# edited\n")
    assert row() == [commit, "False"]


def test_without_git_there_is_no_commit(project):
    (project / ".git").mkdir()
    result = run_code(ROW, cwd=project, env={**os.environ, "PATH": str(project)})
    assert result.stdout.split() == ["None", "None"], result.stderr
