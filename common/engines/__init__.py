"""Engines run each command in a process of its own: on this machine, or on a Ray cluster."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from common.engines.local import CompletedCommand, Local


class Engine(Protocol):
    """Runs commands, each in a process of its own, so that a crash takes one of them.

    Attributes:
        flags: what a run of the suite is told, so that it fits the engine.
    """

    flags: Sequence[str]

    def run(self, commands: Sequence[Sequence[str]], completed: Callable[[CompletedCommand], None]) -> None:
        """Runs each command once, and calls ``completed`` for each as it ends.

        Args:
            commands: each a program and its arguments; they find this process's environment and current folder.

        Raises:
            UserError: the engine is not there, or cannot carry them out.
        """
        ...

    def stop(self) -> None:
        """Ends the processes that run now; what they had finished is on disk."""
        ...


NAMES = ("local", "ray")


def make(
    name: str,
    jobs: int,
    address: str | None,
    cpus_per_run: int,
    gpus_per_run: float,
    output: Path,
    inputs: Sequence[Path],
) -> Engine:
    """The engine of a name.

    Args:
        jobs: runs at a time, of "local".
        address: of a Ray cluster; None: one is started on this machine, and ends with this process.
        cpus_per_run, gpus_per_run: what a run takes of the cluster; a fraction of a GPU is shared with others.
        output: the folder that all runs write to.
        inputs: files and folders that all runs read.

    Raises:
        UserError: Ray is not installed.
    """
    if name == "local":
        return Local(jobs)
    from common.engines.cluster import Ray  # not before it is asked for

    return Ray(address, cpus_per_run, gpus_per_run, output, inputs)
