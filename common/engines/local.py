"""Commands as processes of their own, several at a time; none outlives this process."""

import ctypes
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field

PR_SET_PDEATHSIG = 1  # https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


@dataclass(frozen=True)
class CompletedCommand:
    """A command that has ended: its place in the list, its exit code, and what it printed."""

    index: int
    returncode: int
    stdout: str
    stderr: str


@dataclass
class Local:
    """Runs on this machine.

    Attributes:
        jobs: how many at a time.
    """

    jobs: int
    flags: Sequence[str] = ()
    _running: set[subprocess.Popen] = field(default_factory=set)

    def run(self, commands: Sequence[Sequence[str]], completed: Callable[[CompletedCommand], None]) -> None:
        """As ``common.engines.Engine.run``."""
        with ThreadPoolExecutor(self.jobs) as pool:
            waiting = [pool.submit(self._run, index, command) for index, command in enumerate(commands)]
            try:
                for future in as_completed(waiting):
                    completed(future.result())
            except BaseException:  # else the pool would do all that is left before the error is seen
                pool.shutdown(wait=False, cancel_futures=True)
                self.stop()
                raise

    def stop(self) -> None:
        """As ``common.engines.Engine.stop``."""
        for process in list(self._running):
            with suppress(OSError):
                process.kill()

    def _run(self, index: int, command: Sequence[str]) -> CompletedCommand:
        process = start(command)
        self._running.add(process)
        try:
            return wait(process, index)
        finally:
            self._running.discard(process)


def start(command: Sequence[str], cwd: str | None = None, env: Mapping[str, str] | None = None) -> subprocess.Popen:
    """A command that ends, on Linux, with the thread that started it."""
    return subprocess.Popen(
        list(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=cwd,
        env=env,
        text=True,
        errors="replace",
        preexec_fn=_end_with_parent if sys.platform == "linux" else None,
    )


def wait(process: subprocess.Popen, index: int) -> CompletedCommand:
    """The process, once it has ended."""
    stdout, stderr = process.communicate()
    return CompletedCommand(index, process.returncode, stdout, stderr)


def _end_with_parent() -> None:
    """For a child of Linux: the kernel kills it when the thread that started it ends, by SIGKILL too."""
    if _LIBC is not None:
        _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
