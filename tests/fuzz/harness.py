"""What every target has in common: a case in a folder of its own, watched."""

import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis.strategies import SearchStrategy

from common.cli import one_line
from common.errors import UserError

LONGEST_LINE = 10_000  # letters of an error: a path may have 4096
MOST_MEMORY = 1_000_000  # kilobytes that a case may add to the peak
MOST_SECONDS = 20  # of the processor's time, which others on the machine do not take
CHANGES = {"os.chmod", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.truncate"}
NEVER = {"os.exec", "os.fork", "os.posix_spawn", "os.system", "socket.connect", "subprocess.Popen"}


@dataclass(frozen=True)
class Target:
    """What is given hostile input.

    Attributes:
        name: as ``--target`` takes it.
        cases: of input.
        check: called with an empty folder and a case; raises whatever is wrong.
        found: cases that once failed.
    """

    name: str
    cases: SearchStrategy
    check: Callable[[Path, Any], None]
    found: tuple = ()


def value_or_error(call: Callable[[], Any], also: tuple[type[Exception], ...] = ()) -> Any:
    """What a call gives; None if it raises what the command line prints in a line, or an error of the documented types.

    Files that the system does not open are errors of the first kind: ``common.cli.main`` says which.
    """
    try:
        return call()
    except (UserError, OSError) as error:
        line = one_line(error)
        assert line and line.isprintable() and len(line) <= LONGEST_LINE, f"no line to print: {line[:500]!r}"
        return None
    except also:
        return None


class Hang(BaseException):
    """Too much of the processor's time, past every ``except Exception``."""


@dataclass
class _Watch:
    """What the process does to files while a case is looked at."""

    folder: str | None = None
    outside: list[str] = field(default_factory=list)

    def hear(self, event: str, arguments: tuple) -> None:
        if self.folder is None:
            return
        if event in NEVER:
            self.outside.append(f"{event} {arguments}")
        elif event == "open":
            path, _, flags = arguments
            if flags and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                self._see(event, path)
        elif event in CHANGES and not (isinstance(arguments[-1], int) and arguments[-1] >= 0):  # in an open folder
            self._see(event, arguments[1] if event in ("os.rename", "os.link", "os.symlink") else arguments[0])

    def _see(self, event: str, path) -> None:
        if isinstance(path, str | bytes | os.PathLike):
            whole = os.path.abspath(os.fsdecode(path))
            if whole != self.folder and not whole.startswith(f"{self.folder}{os.sep}"):
                self.outside.append(f"{event} {whole}")


_watch = _Watch()
_is_heard: list[bool] = []


def _peak() -> int:
    try:
        import resource
    except ImportError:  # on Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // 1024 if sys.platform == "darwin" else peak


@contextmanager
def watched(folder: Path) -> Iterator[None]:
    """Raises AssertionError if the block changes something outside a folder, starts a process, or takes too much."""
    if not _is_heard:
        sys.addaudithook(_watch.hear)
        _is_heard.append(True)

    def hang(*_):
        raise Hang(f"more than {MOST_SECONDS} seconds of the processor")

    has_timer = hasattr(signal, "setitimer")
    if has_timer:
        before = signal.signal(signal.SIGVTALRM, hang)
        signal.setitimer(signal.ITIMER_VIRTUAL, MOST_SECONDS)
    peak = _peak()
    _watch.outside.clear()
    _watch.folder = os.path.abspath(folder)
    try:
        yield
    finally:
        _watch.folder = None
        if has_timer:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            signal.signal(signal.SIGVTALRM, before)
    assert not _watch.outside, f"outside {folder}: {_watch.outside[0]}"
    assert _peak() - peak <= MOST_MEMORY, f"{(_peak() - peak) // 1000} MB"


def fuzz(target: Target, executions: int, seed: int | None = None, until: float = float("inf")) -> int:
    """Looks at as many cases, or fewer when ``time.monotonic()`` passes ``until``; returns how many.

    Args:
        seed: None: the same cases each time.

    Raises:
        Whatever the first bad case does; Hypothesis adds the smallest such case.
    """
    done = 0

    def run(case) -> None:
        nonlocal done
        if time.monotonic() > until:
            return
        folder = Path(tempfile.mkdtemp(prefix="case-"))  # stays if the process dies of the case
        with watched(folder):
            target.check(folder, case)
        shutil.rmtree(folder)
        done += 1

    for case in target.found:
        run = hypothesis.example(case)(run)
    run = hypothesis.given(target.cases)(run)
    if seed is not None:
        run = hypothesis.seed(seed)(run)
    settings(
        max_examples=executions,
        database=None,
        deadline=None,
        derandomize=seed is None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
    )(run)()
    return done
