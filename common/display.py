"""Many runs at a time on one display: a table that renews itself on a terminal, a line for each run elsewhere."""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TextIO

from common.training.progress import read_progress

REFRESHES_A_SECOND = 1
SHOWN = 16  # runs at a time: more than a terminal's lines would flicker


@dataclass(frozen=True)
class TrackedRun:
    """A run to be tracked: what it is called, its checkpoint while it runs, and the most epochs it may take."""

    label: str
    checkpoint: Path
    epochs: int | None


class ProgressDisplay:
    """A context in which runs end one by one.

    On a terminal it shows which run of how many this is, those under way with their epoch and validation accuracy, and
    about how long the rest takes. What ends is a line, on a terminal and elsewhere.

    Args:
        left: from the indices of the runs that have not ended to the seconds that they still take; None: as long, each,
            as those before them.
        renew: show the table, where there is a terminal.
        quiet: of the lines, those of failures alone.
    """

    def __init__(
        self,
        runs: Sequence[TrackedRun],
        left: Callable[[Sequence[int]], float] | None = None,
        renew: bool = True,
        quiet: bool = False,
    ):
        self._runs, self._renew, self._quiet = runs, renew, quiet
        self._open = dict.fromkeys(range(len(runs)))
        self._begin = time.monotonic()
        self._left = left or self._left_at_this_pace
        self._live = None

    def __enter__(self) -> "ProgressDisplay":
        if self._renew and sys.stdout.isatty():
            from rich.live import Live

            self._live = Live(get_renderable=self._table, refresh_per_second=REFRESHES_A_SECOND, transient=True)
            self._live.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live:
            self._live.stop()

    def begun(self, index: int) -> None:
        """A run begins, where they go one after the other."""
        done = len(self._runs) - len(self._open)
        rest = f"; about {self._rest()} left" if done else ""
        self._say(f"run {done + 1} of {len(self._runs)}: {self._runs[index].label}{rest}", sys.stdout)

    def completed(self, index: int, result: str, failed: bool = False, stderr: str = "") -> None:
        """A run has ended, with this result; warnings among what it said on stderr are shown."""
        del self._open[index]
        if failed or not self._quiet:
            done = len(self._runs) - len(self._open)
            rest = f"; {self._rest()} left" if self._open else ""
            self._say(f"run {done} of {len(self._runs)}: {self._runs[index].label}: {result}{rest}", sys.stdout)
        if not failed:
            for line in dict.fromkeys(line for line in stderr.splitlines() if line.startswith("warning: ")):
                self._say(line, sys.stderr)

    def _say(self, line: str, stream: TextIO) -> None:
        if self._live:
            self._live.console.print(line, markup=False, highlight=False)
        else:
            print(line, file=stream, flush=True)

    def _rest(self) -> str:
        return duration(self._left([*self._open]))

    def _left_at_this_pace(self, still_open: Sequence[int]) -> float:
        done = len(self._runs) - len(still_open)
        return (time.monotonic() - self._begin) / max(done, 1) * len(still_open)

    def _table(self):
        from rich.table import Table

        done = len(self._runs) - len(self._open)
        table = Table("run", "epoch", "validation accuracy", box=None, title_justify="left")
        for index in [*self._open]:  # as it is now: a run may end meanwhile, in another thread
            if table.row_count == SHOWN:
                break
            if history := read_progress(self._runs[index].checkpoint):
                run, row = self._runs[index], history[-1]
                epoch = f"{row['epoch']} of {run.epochs}" if run.epochs else str(row["epoch"])
                table.add_row(run.label, epoch, f"{row['val_accuracy']:.4f}")
        left = f", about {self._rest()} left" if done else ""
        table.title = f"{done} of {count(len(self._runs), 'run')} done{left}"
        return table if table.row_count else table.title


def count(number: int, noun: str) -> str:
    """1 and "run" as "1 run", 1200 as "1,200 runs"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def duration(seconds: float) -> str:
    """90 as "2 min", 5000 as "1 h 23 min"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
