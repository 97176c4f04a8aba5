"""What benchmarks share: the experiments, their images, and ways that take turns, each in a process of its own."""

import argparse
import math
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # of whoever imports this, too

import bonus_residual  # noqa: E402
import ex2_improvements  # noqa: E402
from common.datasets import DATASETS  # noqa: E402
from common.datasets.image_data import DataFolder, ImageData  # noqa: E402
from common.datasets.loading import load  # noqa: E402
from common.environment import peak_memory_mb  # noqa: E402
from common.errors import UserError  # noqa: E402

NETWORKS = {
    "basenet": ex2_improvements.AUGMENT,
    "improved": ex2_improvements.DROPOUT,
    "residual": bonus_residual.RESIDUAL,
}
EXERCISES = {
    "basenet": ex2_improvements.EXERCISE,
    "improved": ex2_improvements.EXERCISE,
    "residual": bonus_residual.EXERCISE,
}
SMALL_IMAGES = {dataset.name: dataset for dataset in DATASETS["small images"]}


def add_data_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", choices=SMALL_IMAGES, default="cifar100")
    parser.add_argument("--data-dir", type=Path, default=ROOT / "data")
    parser.add_argument("--limit", type=int, help="at most N training images per class, for a quick try")


def load_images(arguments) -> ImageData:
    """The images of those flags, of the default classes."""
    dataset = SMALL_IMAGES[arguments.dataset]
    folder = DataFolder(arguments.data_dir, arguments.data_dir)
    return load(dataset, folder, dataset.default_classes, arguments.limit, {})


def data_flags(arguments) -> list[str]:
    """Those flags again, for another command."""
    flags = ["--dataset", arguments.dataset, "--data-dir", str(arguments.data_dir.resolve())]
    return [*flags, "--limit", str(arguments.limit)] if arguments.limit else flags


def require_pytorch() -> None:
    """Ends the process with one line where PyTorch is not installed."""
    if find_spec("torch") is None:
        print('error: PyTorch is not installed: pip install -e ".[benchmark]" brings it', file=sys.stderr)
        sys.exit(2)


def timed(work: Callable, *arguments) -> tuple[float, Any]:
    """Seconds that a function takes with these arguments, and what it returns."""
    start = time.perf_counter()
    result = work(*arguments)
    return time.perf_counter() - start, result


def seconds(work: Callable, *arguments) -> float:
    """Seconds that a function takes with these arguments."""
    return timed(work, *arguments)[0]


def command_seconds(command: Sequence[str]) -> float:
    """Seconds of a Python command, its start included."""
    return seconds(lambda: subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL))


def answer(run_epoch: Callable[[int], object]) -> None:
    """What an ``EpochProcess`` does: an epoch for each line it is sent, whose seconds it answers."""
    for number, _ in enumerate(sys.stdin):
        print(f"seconds {seconds(run_epoch, number)}", flush=True)
    print(f"peak {peak_memory_mb() or math.nan}", flush=True)


class EpochProcess:
    """A process that trains an epoch when it is asked to, and waits in between."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None):
        self.command = [sys.executable, *command]
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )

    def epoch_seconds(self) -> float:
        """Seconds of one more epoch."""
        questions = self.process.stdin
        assert questions
        try:
            questions.write("\n")
            questions.flush()
        except BrokenPipeError:
            pass  # there will be no answer either
        return self._answer("seconds")

    def close(self) -> float:
        """Ends the process; returns its peak memory in megabytes."""
        assert self.process.stdin
        self.process.stdin.close()
        peak = self._answer("peak")
        self.process.wait()
        return peak

    def _answer(self, kind: str) -> float:
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith(kind):
                return float(line.split()[1])
        raise UserError(f"{shlex.join(self.command)} ended without an answer; given by hand, it says why")
