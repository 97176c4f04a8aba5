"""Commands as processes of their own, several at a time: a crash takes one of them, and none outlives this process."""

import ctypes
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass

_running: set[subprocess.Popen] = set()
PR_SET_PDEATHSIG = 1  # https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html


@dataclass(frozen=True)
class Ended:
    """A command that has ended: its place in the list, its exit code, and what it printed."""

    index: int
    returncode: int
    stdout: str
    stderr: str


def run_commands(commands: Sequence[Sequence[str]], at_once: int, ended: Callable[[Ended], None]) -> None:
    """Runs each command once, and calls ``ended`` for each as it ends.

    Args:
        commands: each a program and its arguments.
        at_once: how many run at the same time.
    """
    with ThreadPoolExecutor(at_once) as pool:
        waiting = [pool.submit(_run, index, command) for index, command in enumerate(commands)]
        for future in as_completed(waiting):
            ended(future.result())


def stop_all() -> None:
    """Ends the processes that run now; what they had finished is on disk."""
    for process in list(_running):
        with suppress(OSError):
            process.kill()


def _run(index: int, command: Sequence[str]) -> Ended:
    process = subprocess.Popen(
        list(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        preexec_fn=_end_with_parent if sys.platform == "linux" else None,
    )
    _running.add(process)
    try:
        stdout, stderr = process.communicate()
    finally:
        _running.discard(process)
    return Ended(index, process.returncode, stdout, stderr)


_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def _end_with_parent() -> None:
    """For a child of Linux: the kernel kills it when the thread that started it ends, by SIGKILL too."""
    if _LIBC is not None:
        _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
