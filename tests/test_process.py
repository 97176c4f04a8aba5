"""Scripts start anywhere: without streams, with settings that would stop them, and with a wrong clock in one line."""

import os
import signal
import subprocess
import sys

import pytest
from conftest import EX1, ROOT, assert_done, assert_error, assert_same_run, run_code, run_script

SETTINGS = """
text.usetex: True
figure.dpi: 300
font.size: 30
savefig.transparent: True
path.sketch: 1, 100, 2
a line that is none
"""
RESUMES = "stopped; the same command resumes after the last finished epoch"


@pytest.fixture
def hostile(tmp_path) -> dict[str, str]:
    """An environment in which warnings are errors, and Matplotlib is told to draw otherwise, or nowhere."""
    (tmp_path / "home" / "matplotlib").mkdir(parents=True)
    (tmp_path / "home" / "matplotlib" / "matplotlibrc").write_text(SETTINGS)
    return {
        **os.environ,
        "PYTHONWARNINGS": "error",
        "MPLBACKEND": "nonsense",
        "MATPLOTLIBRC": str(tmp_path / "home" / "matplotlib"),
        "XDG_CONFIG_HOME": str(tmp_path / "home"),
    }


def without(streams: str, *command, **options) -> subprocess.CompletedProcess:
    """A command whose streams of these redirections are closed, such as "2>&-"."""
    shell = ["sh", "-c", f'exec "$@" {streams}', "sh", sys.executable, *map(str, command)]
    return subprocess.run(shell, capture_output=True, text=True, **options)


@pytest.mark.slow
def test_a_run_without_streams_among_hostile_settings_leaves_the_same_bytes(budgeted, hostile, tmp_path):
    here = tmp_path / "here"
    here.mkdir()
    (here / "matplotlibrc").write_bytes(b"font.family: \xff\xfe")  # no text: Matplotlib could not be imported
    flags = ("--dataset", "synthetic", "--variant", "adam", "--epochs", 2, "--limit", 30, "--output", tmp_path)
    result = without("<&- >&- 2>&-", ROOT / EX1, *flags, cwd=here, env=hostile)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    folder = tmp_path / budgeted.relative_to(budgeted.parents[3])
    assert_same_run(budgeted, folder)
    for figure in budgeted.glob("*.png"):
        assert figure.read_bytes() == (folder / figure.name).read_bytes(), figure.name


@pytest.mark.slow
def test_drawn_birds_and_the_page_are_the_same_among_hostile_settings(drawn_birds, hostile, tmp_path):
    code = f"""
from pathlib import Path
from common import process
process.prepare()
from common.datasets import synthetic_birds
from common.datasets.image_data import DataFolder
print(synthetic_birds.find(DataFolder(Path({str(tmp_path)!r}), Path({str(tmp_path)!r}))))
"""
    result = run_code(code, env=hostile)
    assert_done(result)
    pictures = [*drawn_birds.rglob("*.jpg")]
    assert pictures
    for picture in pictures:
        again = tmp_path / drawn_birds.name / picture.relative_to(drawn_birds)
        assert picture.read_bytes() == again.read_bytes(), picture.name
    for name, env in (("friendly", None), ("hostile", hostile)):
        flags = ("--page-only", "--exercises", "1", "--output", tmp_path / name)
        assert_done(run_script("reproduce_report.py", *flags, env=env))
    figures = [*(tmp_path / "friendly" / "figures").iterdir()]
    assert figures
    for figure in figures:
        assert figure.read_bytes() == (tmp_path / "hostile" / "figures" / figure.name).read_bytes(), figure.name


@pytest.mark.parametrize("streams", [">&-", "2>&-", ">&- 2>&-", "<&-"])
@pytest.mark.parametrize(
    ("command", "code"),
    [((EX1, "--list"), 0), ((EX1, "--nonsense"), 2), (("reproduce_report.py", "--plan"), 0)],
)
def test_a_closed_stream_changes_no_exit_code(streams, command, code):
    result = without(streams, *command, cwd=ROOT)
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr and "Exception" not in result.stderr
    if code == 2 and "2>&-" not in streams:
        assert_error(result, "--nonsense")


@pytest.mark.parametrize("call", ["cli.main(ex1_basenet.EXERCISE)", "reproduce_report.main()", "collect.main()"])
@pytest.mark.parametrize("year", [1970, 2108])
def test_a_clock_that_no_archive_can_hold_is_one_line(call, year):
    code = f"""
import sys, time
import ex1_basenet, reproduce_report
from common import cli, collect
now = time.localtime()
time.localtime = lambda *seconds: time.struct_time(({year}, *now[1:]))
sys.argv = ["script", "--nonsense"]
sys.exit({call})
"""
    assert_error(run_code(code), f"the clock says {year}", "set the clock")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals")
@pytest.mark.parametrize(
    ("call", "word"),
    [
        ("cli.main(ex1_basenet.EXERCISE)", RESUMES),
        ("reproduce_report.main()", RESUMES),
        ("predict.main()", "stopped"),
    ],
)
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_ends_a_command_with_a_word_unless_it_was_started_to_ignore_it(call, word, name, code):
    number = signal.Signals[name]
    then_the_signal = f"""
import os, sys
import ex1_basenet, predict, reproduce_report
from common import cli
sys.argv = ["script", "--plan"]
{call}
os.kill(os.getpid(), {number})
print("goes on")
"""
    stopped = run_code(then_the_signal)
    assert (stopped.returncode, stopped.stdout.count("goes on")) == (code, 0)
    assert stopped.stderr.endswith(f"\n{word}\n")
    ignored = run_code(then_the_signal, preexec_fn=lambda: signal.signal(number, signal.SIG_IGN))  # as nohup does
    assert ignored.returncode == 0 and ignored.stdout.endswith("goes on\n"), ignored.stderr
