"""Runs on a Ray cluster and as tasks of a Slurm array: the real scripts, real clusters on this machine."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import EX1, ROOT, assert_done, assert_error, assert_same_run, run_code, run_script, script_process

FEW = ("--dataset", "synthetic", "--classes", "0-2", "--limit", 20, "--variant", "adam", "--quiet")
NAME = "adam,classes=0-2,epochs={},limit=20"
SEEDS = range(4)
LONG = (*FEW, "--epochs", 200, "--seed", *SEEDS)  # long enough to be killed in the middle
TOKEN = "0" * 64


def folders(output: Path, epochs: int, seeds=SEEDS) -> list[Path]:
    return [output / "synthetic/ex1_basenet" / NAME.format(epochs) / f"seed-{seed}" for seed in seeds]


def descendants(pid: int) -> dict[int, str]:
    """The command lines of a process's children, and theirs."""
    table = subprocess.run(["ps", "-ww", "-eo", "pid=,ppid=,args="], capture_output=True, text=True).stdout
    rows = [(int(pid), int(parent), args) for pid, parent, args in (line.split(None, 2) for line in table.splitlines())]
    found, parents = {}, {pid}
    while parents:
        children = {pid: args for pid, parent, args in rows if parent in parents and pid not in found}
        found |= children
        parents = set(children)
    return found


def wait_until(condition, process: subprocess.Popen) -> None:
    """Until something that a process does has happened; fails if the process ends before."""
    while not condition():
        assert process.poll() is None, process.communicate()


def some_epochs_done(output: Path) -> bool:
    return any(output.glob("synthetic/ex1_basenet/*/.seed-*.partial/.checkpoint"))


def runs_of(output: Path) -> list[str]:
    """The processes that write into an output folder, but for the command that was given it."""
    table = subprocess.run(["ps", "-ww", "-eo", "args="], capture_output=True, text=True).stdout
    return [line for line in table.splitlines() if str(output) in line and "--wait" in line]


def ray_files():
    return pytest.importorskip("ray", reason="needs Ray: pip install -r requirements-dev.txt")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("undisturbed")
    assert_done(run_script(EX1, *LONG, "--output", output))
    return output


def assert_all_as_undisturbed(output: Path, undisturbed: Path) -> None:
    for run, whole in zip(folders(output, 200), folders(undisturbed, 200)):
        assert_same_run(run, whole)
    assert not [*output.glob("synthetic/ex1_basenet/*/.seed-*.partial")]


def test_flags_of_another_engine_are_an_error():
    assert_error(run_script(EX1, "--address", "auto"), "--address is a flag of --engine ray")
    assert_error(run_script(EX1, "--jobs", 2, "--engine", "ray"), "--jobs is a flag of --engine local")
    assert_error(run_script("reproduce_report.py", "--gpus-per-run", 1), "--gpus-per-run is a flag of --engine ray")


def test_ray_that_is_not_installed_is_a_line():
    code = """
import importlib.metadata, sys
sys.argv = ["ex1_basenet.py", "--engine", "ray"]
def version(name):
    raise importlib.metadata.PackageNotFoundError(name)
importlib.metadata.version = version
import ex1_basenet
from common import cli
sys.exit(cli.main(ex1_basenet.EXERCISE))
"""
    assert_error(run_code(code), "--engine ray needs Ray 2.52 or newer: pip install")


@pytest.mark.slow
def test_runs_on_ray_leave_the_bytes_of_runs_one_after_the_other(tmp_path):
    ray_files()
    command = (EX1, *FEW, "--epochs", 2, "--seed", 0, 1)
    assert_done(run_script(*command, "--output", tmp_path / "one"))
    assert_done(run_script(*command, "--output", tmp_path / "ray", "--engine", "ray"))
    for one, ray in zip(*(folders(tmp_path / name, 2, (0, 1)) for name in ("one", "ray"))):
        assert_same_run(one, ray)
    too_many = run_script(*command, "--output", tmp_path / "more", "--engine", "ray", "--cpus-per-run", 1000)
    assert_error(too_many, "--cpus-per-run 1000: no node has more than")
    for address in ("127.0.0.1:9", "head", "head:0:x"):
        nowhere = run_script(*command, "--output", tmp_path / "more", "--engine", "ray", "--address", address)
        assert_error(nowhere, f"--address {address}: no Ray cluster there")


@pytest.mark.slow
def test_the_report_s_command_takes_the_engine_too(tmp_path):
    ray_files()
    flags = ("--dataset", "synthetic", "--exercises", 1, "--quick", "--epochs", 1, "--limit", 5, "--engine", "ray")
    result = run_script("reproduce_report.py", *flags, "--output", tmp_path)
    assert_done(result)
    assert "run 2 of 2: " in result.stdout
    assert (tmp_path / "report.html").exists()


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_no_run(tmp_path, undisturbed):
    ray_files()
    process = script_process(EX1, *LONG, "--engine", "ray", "--output", tmp_path)
    wait_until(lambda: some_epochs_done(tmp_path), process)
    workers = [pid for pid, args in descendants(process.pid).items() if args.startswith("ray::_carry_out")]
    assert workers
    os.kill(workers[0], signal.SIGKILL)
    stdout, stderr = process.communicate()
    assert (process.returncode, stderr) == (0, ""), stdout
    assert_all_as_undisturbed(tmp_path, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=lambda number: number.name)
def test_a_command_that_is_killed_leaves_no_process_and_goes_on_when_given_again(tmp_path, undisturbed, number):
    ray_files()
    command = (EX1, *LONG, "--engine", "ray", "--output", tmp_path)
    process = script_process(*command)
    wait_until(lambda: some_epochs_done(tmp_path), process)
    process.send_signal(number)
    process.communicate()
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    while runs_of(tmp_path):  # Ray takes a moment
        pass
    assert_done(run_script(*command))
    assert_all_as_undisturbed(tmp_path, undisturbed)


@pytest.mark.slow
def test_a_node_that_is_killed_costs_no_run(tmp_path, undisturbed, monkeypatch):
    ray_files()
    for name, value in {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "RAY_worker_niceness": "0"}.items():
        monkeypatch.setenv(name, value)
    start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1", "--disable-usage-stats"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": tmp_path}
    head = subprocess.Popen([*start, "--head", "--port=6399", "--include-dashboard=false"], **quiet)
    nodes = [head]
    try:
        address = ("--engine", "ray", "--address", "127.0.0.1:6399")
        # Until the head answers, the command says that there is no cluster.
        while run_script(EX1, *FEW, "--epochs", 1, *address, "--output", tmp_path / "first").returncode == 2:
            assert head.poll() is None
        nodes.append(subprocess.Popen([*start, "--address=127.0.0.1:6399"], **quiet))
        wait_until(lambda: any("raylet" in args for args in descendants(nodes[1].pid).values()), nodes[1])
        process = script_process(EX1, *LONG, *address, "--output", tmp_path / "runs")
        wait_until(lambda: any("_carry_out" in args for args in descendants(nodes[1].pid).values()), process)
        for pid in [nodes[1].pid, *descendants(nodes[1].pid)]:
            os.kill(pid, signal.SIGKILL)
        stdout, stderr = process.communicate()
        assert (process.returncode, stderr) == (0, ""), stdout
        assert_all_as_undisturbed(tmp_path / "runs", undisturbed)
    finally:
        for node in nodes:
            for pid in [node.pid, *descendants(node.pid)]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            node.wait()


def array_task(plan: Path, number: int) -> subprocess.Popen:
    """A task as Slurm starts it: the array script with the variables that Slurm sets."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.Popen(
        ["bash", str(ROOT / "docs/slurm_array.sh"), str(plan)],
        cwd=ROOT,
        env={**os.environ, "SLURM_ARRAY_TASK_ID": str(number), "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="a script for bash")
def test_an_array_of_tasks_of_which_some_are_killed_and_requeued(tmp_path, undisturbed):
    plan = run_script(EX1, *LONG, "--output", tmp_path / "runs", "--wait", "--plan")
    assert_done(plan)
    assert all(line.split("\t")[0] == "python" and "--wait" in line for line in plan.stdout.splitlines())
    (tmp_path / "plan.tsv").write_text(plan.stdout, encoding="utf-8")
    for number, killed in enumerate((signal.SIGKILL, None, signal.SIGTERM, None), start=1):
        task = array_task(tmp_path / "plan.tsv", number)
        if killed:
            wait_until(lambda: some_epochs_done(tmp_path / "runs"), task)
            task.send_signal(killed)
            task.communicate()
            assert task.returncode == (143 if killed == signal.SIGTERM else -killed)
            task = array_task(tmp_path / "plan.tsv", number)  # as --requeue does
        stdout, stderr = task.communicate()
        assert (task.returncode, stderr) == (0, ""), stdout
    assert_all_as_undisturbed(tmp_path / "runs", undisturbed)


@pytest.mark.skipif(sys.platform == "win32", reason="a script for bash")
def test_a_task_without_a_line_in_the_plan_is_an_error(tmp_path):
    (tmp_path / "plan.tsv").write_text("python\tnothing.py\n", encoding="utf-8")
    task = array_task(tmp_path / "plan.tsv", 2)
    _, stderr = task.communicate()
    assert (task.returncode, stderr) == (2, f"error: {tmp_path / 'plan.tsv'} has no line 2\n")
