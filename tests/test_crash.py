"""The process ends, the disk is full or the power fails at a run's calls that change a file: ``tests/crash`` counts."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest
from conftest import BIRDS, EX1, EX3, ROOT, THREE_CLASSES, assert_same_run

from common.reporting.run_folder import check_whole, find_runs

SMALL = {
    "training": (EX1, *THREE_CLASSES, "--variant", "adam", "--epochs", 2),
    "features and a head": (EX3, *BIRDS, "--variant", "logistic"),
}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        sys.platform != "linux" or not shutil.which("cc"), reason="a C compiler builds what counts calls, on Linux"
    ),
]


class Commands:
    """Commands whose output is ``folder / "out"``; each ends before the call of a number, if one is given."""

    def __init__(self, folder: Path):
        library = folder / "file_calls.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, ROOT / "tests/crash/file_calls.c", "-ldl"], check=True)
        self.output, self.log = folder / "out", folder / "log"
        self._process = subprocess.Popen(
            [sys.executable, str(ROOT / "tests/crash/commands.py"), str(self.output)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "LD_PRELOAD": str(library)},
        )

    def __call__(self, command, *more, end_at: int = 0, error: int = 0) -> dict:
        argv = [*map(str, command), "--quiet", "--output", str(self.output), *more]
        asked = {"argv": argv, "end_at": end_at, "error": error, "log": str(self.log)}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def done(self, command, *more) -> int:
        """The command to its end; the number of its calls."""
        answer = self(command, *more)
        assert (answer["code"], answer["stderr"]) == (0, ""), answer["stderr"]
        return answer["calls"]

    def logged(self) -> list[list[str]]:
        return [line.split("\t") for line in self.log.read_text().splitlines()]

    def close(self) -> None:
        self._process.communicate()
        assert self._process.returncode == 0


@pytest.fixture
def commands(tmp_path):
    commands = Commands(tmp_path)
    yield commands
    commands.close()


def the_run(output: Path) -> Path:
    (folder,) = output.glob("*/*/*/seed-0")
    return folder


def left_over(output: Path) -> list[Path]:
    return [path for path in output.rglob(".*") if path.suffix in (".partial", ".old", ".tmp", ".part")]


@pytest.mark.parametrize("command", SMALL.values(), ids=SMALL)
def test_a_run_that_ends_at_any_call_ends_with_the_same_bytes_when_it_is_given_again(commands, tmp_path, command):
    calls = commands.done(command)
    assert calls > 100
    commands.output.rename(tmp_path / "undisturbed")
    for number in range(1, calls + 1):
        assert commands(command, end_at=number)["code"] == -9
        commands.done(command)
        assert_same_run(the_run(tmp_path / "undisturbed"), the_run(commands.output))
        assert left_over(commands.output) == []
        shutil.rmtree(commands.output)


def test_a_run_that_replaces_another_may_end_at_any_call(commands, tmp_path):
    """One of the two is whole at every moment, and the same command leaves the new one alone."""
    command = SMALL["training"]
    commands.done(command)
    run = the_run(commands.output)
    shutil.copytree(commands.output, tmp_path / "undisturbed")
    calls = commands.done(command, "--force")
    for number in range(1, calls + 1, 3):
        assert commands(command, "--force", end_at=number)["code"] == -9
        check_whole(run if run.exists() else run.with_name(".seed-0.old"))
        commands.done(command, "--force")
        assert_same_run(the_run(tmp_path / "undisturbed"), run)
        assert left_over(commands.output) == []


@pytest.mark.parametrize(
    ("command", "error"),
    [(SMALL["training"], errno.ENOSPC), (SMALL["features and a head"], errno.EDQUOT)],
    ids=["full disk", "quota"],
)
def test_a_disk_that_takes_no_more_is_one_line_and_costs_nothing(commands, tmp_path, command, error):
    calls = commands.done(command)
    commands.output.rename(tmp_path / "undisturbed")
    for number in range(1, calls + 1, 8):
        answer = commands(command, end_at=number, error=error)
        lines = answer["stderr"].splitlines()
        assert lines and all(os.strerror(error) in line for line in lines), answer
        if answer["code"]:
            assert answer["code"] == 2 and len(lines) == 1 and lines[0].startswith("error: "), answer
        else:  # the figures of a finished run
            assert find_runs(commands.output) and all(line.startswith("warning: ") for line in lines), answer
        for folder in find_runs(commands.output):
            check_whole(folder)
        commands.done(command)
        assert_same_run(the_run(tmp_path / "undisturbed"), the_run(commands.output))
        assert left_over(commands.output) == []
        shutil.rmtree(commands.output)


MORE_EPOCHS = (*SMALL["training"], "--more-epochs", 1)


@pytest.mark.parametrize(
    ("before", "command"),
    [(None, SMALL["training"]), (None, SMALL["features and a head"]), (SMALL["training"], MORE_EPOCHS)],
    ids=[*SMALL, "more epochs"],
)
def test_what_takes_its_name_would_be_whole_after_a_power_cut(commands, before, command):
    """Without fsync, a file's bytes and a folder's names may be lost though the rename after them is not.

    Source: https://man7.org/linux/man-pages/man2/fsync.2.html.
    """
    if before:
        commands.done(before)
    there = {*commands.output.rglob("*")}
    commands.done(command)
    (run,) = {*find_runs(commands.output)} - there
    in_memory: set[PurePosixPath] = set()  # files and folders of which something is not on the disk
    made, renamed = {PurePosixPath(each) for each in there}, []
    for call, first, second in commands.logged():
        path = PurePosixPath(first)
        if call == "fsync":
            in_memory.discard(path)
        elif call == "write":
            in_memory.add(path)
        elif call == "rename":
            target = PurePosixPath(second)
            lost = {each for each in in_memory if each == path or path in each.parents}
            assert not lost, f"{target} could be there without {lost}"
            assert not {each for each in in_memory if each.name == ".checkpoint"}, f"{target} without its training"
            renamed.append(target.name)
            in_memory |= {path.parent, target.parent}
        elif call != "mkdir" or path not in made:  # a new name, or one less
            in_memory |= {path.parent} | ({path} if call == "open" else set())
            made.add(path)
    assert {"seed-0", "config.json"} <= set(renamed)
    folders = {PurePosixPath(each) for each in run.parents if each.is_relative_to(commands.output)}
    assert not folders & in_memory  # its name, and those of the folders it is in, would be there, too
