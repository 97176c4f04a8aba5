"""Commands as processes of their own, several at a time; none outlives this process."""

import ctypes
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TextIO

TICK = 0.5  # seconds
TIME_TO_STOP = 5  # seconds that a command has to end its own processes
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


def start(
    command: Sequence[str],
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
    start_new_session: bool = False,
) -> subprocess.Popen:
    """A command that ends, on Linux, with the thread that started it.

    Args:
        start_new_session: Ctrl-C on the terminal, or a notebook's interrupt, does not reach the command.
    """
    return subprocess.Popen(
        list(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=cwd,
        env=env,
        text=True,
        errors="replace",
        start_new_session=start_new_session,
        preexec_fn=_end_with_parent if sys.platform == "linux" else None,
    )


def wait(process: subprocess.Popen, index: int) -> CompletedCommand:
    """The process, once it has ended."""
    stdout, stderr = process.communicate()
    return CompletedCommand(index, process.returncode, stdout, stderr)


def listen(command: Sequence[str], heard: Callable[[str, str], None], tick: Callable[[], None] = lambda: None) -> int:
    """Runs a command to its end and returns its exit code; an exception, KeyboardInterrupt too, ends the command.

    Args:
        heard: called in this thread with "stdout" or "stderr" and each line that the command prints there.
        tick: called in this thread after each line, and each half second without one.
    """
    process = start(command, env={**os.environ, "PYTHONUNBUFFERED": "1"}, start_new_session=True)
    lines: queue.Queue[tuple[str, str | None]] = queue.Queue()

    def read(name: str, stream: TextIO) -> None:
        with stream:
            for line in stream:
                lines.put((name, line.rstrip("\n")))
        lines.put((name, None))

    streams = {"stdout": process.stdout, "stderr": process.stderr}
    readers = [threading.Thread(target=read, args=item, daemon=True) for item in streams.items()]
    try:
        for reader in readers:
            reader.start()
        while streams:
            with suppress(queue.Empty):
                name, line = lines.get(timeout=TICK)  # which Ctrl-C interrupts on every system
                if line is None:
                    del streams[name]
                else:
                    heard(name, line)
            tick()
        return process.wait()
    finally:
        _end(process)


def _end(process: subprocess.Popen) -> None:
    """Ends a process, and those that it started, if it has not ended."""
    try:
        if process.poll() is None:
            process.terminate()
            process.wait(TIME_TO_STOP)
    except subprocess.TimeoutExpired:
        pass
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _end_with_parent() -> None:
    """For a child of Linux: the kernel kills it when the thread that started it ends, by SIGKILL too."""
    if _LIBC is not None:
        _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
