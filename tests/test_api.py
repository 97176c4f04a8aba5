"""The suite from Python and from a notebook: the same runs, and a host that stays as it was."""

import os
import sys

import pytest
from conftest import EX1, EX2, QUICK, ROOT, assert_done, assert_same_run, run_code, run_script

from common import TrainedRun, UserError, cli, load, train
from common.reporting.run_folder import read_history

DRAWN = {"dataset": "synthetic", "optimizer": "nonsense"}  # which the run itself finds
STATE = """
import logging, os, random, signal, sys, warnings
import keras, matplotlib, numpy as np
sys.path.insert(0, {root!r})
keras.config.set_dtype_policy("mixed_bfloat16")
matplotlib.rcParams["figure.dpi"] = 55

def state():
    seeded = np.random.get_state()
    return {{
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)],
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "path": list(sys.path),
        "matplotlib": dict(matplotlib.rcParams),
        "policy": keras.config.dtype_policy().name,
        "random": (random.getstate(), seeded[1].tobytes(), seeded[2:]),
        "logging": (logging.root.level, list(logging.root.handlers)),
        "warnings": list(warnings.filters),
        "streams": (sys.stdout, sys.stderr),
    }}

from common import train
before = state()
"""
TRAIN = """
flags = dict(dataset="synthetic", classes="0-4", limit=300, epochs=4)  # an epoch is longer than an interrupt takes
run = train("ex2_improvements", "early-stopping", output={output!r}, **flags)
"""


class Kernel:
    """A notebook's kernel, which runs cells."""

    def __init__(self, folder):
        from jupyter_client.manager import start_new_kernel

        self.manager, self.client = start_new_kernel(cwd=str(folder), startup_timeout=600)

    def run(self, code: str, interrupt_at: str | None = None) -> tuple[dict, list[dict]]:
        """The kernel's reply to a cell, and what the cell shows; interrupts it as soon as it shows a text."""
        asked, shown = self.client.execute(code), []
        while True:
            message = self.client.get_iopub_msg(timeout=None)
            if message["parent_header"].get("msg_id") != asked:
                continue
            content = message["content"]
            if content.get("execution_state") == "idle":
                return self.client.get_shell_msg(timeout=None)["content"], shown
            if data := content.get("data"):
                shown.append(data)
                if interrupt_at and interrupt_at in data.get("text/plain", ""):
                    self.manager.interrupt_kernel()
                    interrupt_at = None

    def stop(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture
def kernel(tmp_path):
    pytest.importorskip("ipykernel", reason="needs ipykernel: pip install -r requirements-dev.txt")
    kernel = Kernel(tmp_path)
    yield kernel
    kernel.stop()


@pytest.mark.slow
def test_a_notebook_s_run_is_interrupted_and_resumed_and_the_kernel_is_as_before(kernel, tmp_path):
    reply, _ = kernel.run(STATE.format(root=str(ROOT)))
    assert reply["status"] == "ok", reply
    cell = TRAIN.format(output=str(tmp_path / "results"))
    reply, shown = kernel.run(cell, interrupt_at="epoch 1 of 4")
    assert reply["ename"] == "KeyboardInterrupt", reply
    assert "<progress " in shown[-1]["text/html"] and "epoch 4" not in shown[-1]["text/html"]
    assert not [*tmp_path.glob("results/*/*/*/seed-0")]

    reply, shown = kernel.run(cell)
    assert reply["status"] == "ok", reply
    assert "epoch 4 of 4, validation accuracy " in shown[-1]["text/plain"]
    (folder,) = tmp_path.glob("results/*/*/*/seed-0")
    words = (
        EX2,
        "--dataset",
        "synthetic",
        "--classes",
        "0-4",
        "--limit",
        300,
        "--epochs",
        4,
        "--output",
        tmp_path / "one",
    )
    assert_done(run_script(*words))
    assert_same_run(tmp_path / "one" / folder.relative_to(tmp_path / "results"), folder)

    reply, shown = kernel.run(
        "after = state(); print(changed := [key for key in before if before[key] != after[key]]); run"
    )
    assert reply["status"] == "ok" and "test accuracy" in shown[-1]["text/plain"]
    assert shown[-1]["text/html"].count("data:image/png;base64,") == 3
    reply, _ = kernel.run("assert not changed, changed")
    assert reply["status"] == "ok", reply
    _, shown = kernel.run("run.figures['loss']")
    assert "image/png" in shown[-1]
    reply, _ = kernel.run("train('ex2_improvements', 'nonsense')")
    assert reply["ename"] == "UserError" and "--variant nonsense is not one of" in reply["evalue"]


def test_a_finished_run_is_read_as_dictionaries_and_pictures(budgeted):
    run = load(str(budgeted))
    assert isinstance(run, TrainedRun) and run.folder == budgeted
    rows = read_history(budgeted / "history.csv")
    assert run.history == {key: [row[key] for row in rows] for key in rows[0]} and run.history["epoch"] == [1, 2]
    assert run.metrics["test_accuracy"] == pytest.approx(sum(run.per_class["accuracy"]) / 25)
    assert run.config["variant"] == "adam"
    assert {*run.figures} == {"loss", "accuracy", "confusion_matrix"}
    assert run.figures["loss"]._repr_png_() == (budgeted / "loss.png").read_bytes()
    assert f"{run.metrics['test_accuracy']:.4f}" in repr(run) and "adam,epochs=2,limit=30" in run._repr_html_()
    with pytest.raises(UserError, match="does not hold a whole run"):
        load(budgeted.parent)


@pytest.mark.parametrize(
    ("script", "variant", "flags", "words"),
    [
        (
            "ex9",
            None,
            {},
            "ex9 is not one of the scripts bonus_residual, ex1_basenet, ex2_improvements, ex3_resnet_birds",
        ),
        (EX1, None, {}, "that is 2 runs, and train makes one"),
        (EX1, "adam", {"seed": [0, 1]}, "that is 2 runs"),
        (EX1, "adam", {"dropot": 0.1}, "unrecognized arguments: --dropot 0.1"),
        (EX1, "adam", {"patience": 0}, "'0' is not a whole number from 1"),
        (EX1, "adam", {"shortcuts": True}, "adam has nothing that --shortcuts could change"),
        (EX2, "dropout", {**DRAWN, "patience": None, "augment": False, "force": False}, "no optimizer nonsense"),
    ],
)
def test_the_errors_of_the_command_line_are_exceptions(script, variant, flags, words, tmp_path, capfd):
    with pytest.raises(UserError) as raised:
        train(script, variant, output=tmp_path, quiet=True, **flags)
    assert words in str(raised.value)
    assert capfd.readouterr() == ("", "")


def test_a_package_that_is_imported_does_nothing():
    code = "import sys, importlib, typing; before = {*sys.modules}; import common; "
    result = run_code(f"{code}assert {{*sys.modules}} - before == {{'common'}}")
    assert result.returncode == 0, result.stderr


def test_a_command_called_from_python_leaves_the_process_alone_and_needs_no_stream_of_a_terminal():
    code = """
import io, os, signal, sys
import ex1_basenet, reproduce_report
from common import cli
before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), dict(os.environ)
for main in (lambda argv: cli.main(ex1_basenet.EXERCISE, argv), reproduce_report.main):
    sys.stdout, sys.stderr = io.StringIO(), io.StringIO()  # as in IDLE and Spyder: without reconfigure
    assert main(["--plan"]) == 0
    assert "ex1_basenet.py\\t--variant" in sys.stdout.getvalue().replace(" ", "\\t"), sys.stdout.getvalue()
    assert main(["--nonsense"]) == 2
    assert sys.stderr.getvalue().splitlines()[-1].startswith("error: unrecognized arguments: --nonsense")
assert before == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), dict(os.environ))
"""
    result = run_code(code)
    assert result.returncode == 0, result.stderr


def test_what_ends_the_call_ends_the_run(tmp_path, monkeypatch):
    """An exception in the place of Ctrl-C, at the first line that the run prints."""

    class Stop(BaseException):
        pass

    class Stream:
        def write(self, text):
            raise Stop

        def flush(self):
            pass

    monkeypatch.setattr(sys, "stdout", Stream())
    with pytest.raises(Stop):
        cli.run_command(EX2.removesuffix(".py"), [*QUICK, "--output", tmp_path])
    assert not processes_of(tmp_path)


def processes_of(folder) -> list[str]:
    """Command lines that name a folder."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                line = file.read().decode()
        except OSError:
            continue
        if str(folder) in line:
            found.append(line)
    return found
