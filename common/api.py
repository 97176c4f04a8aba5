"""The suite from Python and from notebooks.

Each run is its script, in a process of its own: signal handlers, Matplotlib, logging, random numbers, dtype policy and
environment of the process that asks for it stay as they are.
"""

import base64
import html
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np

from common import cli
from common.engines import local
from common.errors import UserError
from common.experiment import Exercise, to_text
from common.reporting.run_folder import HISTORY_FIELDS, Run, read_run
from common.reporting.tables import result_line
from common.training.progress import read_progress

ONLY_ON = ("force", "offline", "redraw", "tensorboard", "wait")  # flags without a --no-...
STYLE = "display: inline-block; max-width: 48%; vertical-align: top"


@dataclass(frozen=True)
class Picture:
    """A PNG file, which a notebook shows."""

    path: Path

    def _repr_png_(self) -> bytes:
        return self.path.read_bytes()


@dataclass(frozen=True, repr=False)
class TrainedRun:
    """A finished run. A notebook shows its numbers and its figures, other places a line.

    Attributes:
        folder: where everything is.
        config: everything that decides the result.
        history: a list each, as long as there are epochs, for the keys epoch (from 1), loss, accuracy, val_loss,
            val_accuracy and learning_rate: ``pandas.DataFrame(run.history)``.
        metrics: of the evaluated weights: test_accuracy (0..1), test_loss, val_accuracy and more.
        per_class: ``accuracy`` (classes,) and ``confusion_matrix`` (classes, classes; rows: true class).
    """

    folder: Path
    config: dict
    history: dict[str, list]
    metrics: dict
    per_class: dict
    _run: Run

    @property
    def figures(self) -> Mapping[str, Picture]:
        """By name, such as "loss": what is drawn in the folder."""
        return {path.stem: Picture(path) for path in sorted(self.folder.glob("*.png"))}

    def __repr__(self) -> str:
        return result_line(self._run)

    def _repr_html_(self) -> str:
        run, metrics = self._run, self.metrics
        low, high = metrics["test_accuracy_interval"]
        cells = {
            "data set": run.dataset,
            "script": run.script,
            "run": f"{run.name}, seed {run.seed}",
            "test accuracy": f"{metrics['test_accuracy']:.4f} (95 % interval {low:.4f} to {high:.4f})",
            "top-5": f"{metrics['test_top5_accuracy']:.4f}",
            "test loss": f"{metrics['test_loss']:.4f}",
            "validation accuracy": f"{metrics['val_accuracy']:.4f}",
            "epochs": f"{metrics['epochs']} (evaluated: {metrics['evaluated_epoch']})",
            "seconds": f"{run.timing['total_seconds']:.0f}",
            "folder": str(self.folder),
        }
        rows = "".join(f"<tr><th>{name}</th><td>{html.escape(text)}</td></tr>" for name, text in cells.items())
        images = "".join(
            f'<img alt="{html.escape(name)}" style="{STYLE}" src="data:image/png;base64,'
            f'{base64.b64encode(picture.path.read_bytes()).decode()}">'
            for name, picture in self.figures.items()
        )
        return f"<table>{rows}</table><div>{images}</div>"


def load(folder: Path | str) -> TrainedRun:
    """The finished run in a folder, as ``train`` returns it.

    Raises:
        UserError: the folder does not hold a whole run.
    """
    return _trained(read_run(Path(folder)))


def _trained(run: Run) -> TrainedRun:
    history = {name: [row[name] for row in run.history] for name in HISTORY_FIELDS}
    return TrainedRun(run.folder, run.config, history, run.metrics, run.per_class, run)


def train(script: str, variant: str | None = None, *, quiet: bool = False, **flags: Any) -> TrainedRun:
    """Makes a run of a script, or finds it finished, and returns it.

    An interrupt, such as a notebook's, ends the training; the same call resumes it after the last finished epoch.

    Args:
        script: such as "ex2_improvements".
        variant: such as "dropout"; None: the script's own choice, if that is one.
        quiet: no progress bar.
        flags: those of the command line, with underscores for dashes: ``seed=1, dropout=0.3, augment=False,
            patience=None, classes="0-9"``.

    Raises:
        UserError: what the command line would say behind "error:"; or the flags make several runs.
        RuntimeError: the process ended without a word of its own, as when the system kills it.
    """
    exercise = _exercise(script)
    words = [*(("--variant", variant) if variant else ()), *_words(flags)]
    selection, todo = cli.select(exercise, cli.parse(exercise, words))
    if len(todo) != 1:
        raise UserError(
            f"that is {len(todo)} runs, and train makes one: give one variant, one seed and one value of each switch"
        )
    folder = selection.folder(todo[0])
    said: dict[str, list[str]] = {"stdout": [], "stderr": []}
    with _Progress(getattr(todo[0].experiment.learning, "epochs", None), quiet) as progress:

        def heard(stream: str, line: str) -> None:
            said[stream].append(line)
            if line.startswith("warning: "):
                print(line, file=sys.stderr)
            elif stream == "stdout" and len(said[stream]) == 1:
                progress.show(line)  # which data, on what

        command = [sys.executable, str(cli.ROOT / f"{exercise.name}.py"), *words, "--quiet"]
        code = local.listen(command, heard, lambda: progress.epoch(read_progress(folder.checkpoint)))
        if code:
            last = said["stderr"][-1] if said["stderr"] else "it may have been ended where memory is short"
            if last.startswith("error: "):
                raise UserError(last.removeprefix("error: "))
            raise RuntimeError(f"{exercise.name}.py ended with exit code {code}; the same call resumes: {last}")
        run = read_run(folder.path)
        progress.epoch(run.history, ended=True)
    return _trained(run)


def _exercise(script: str) -> Exercise:
    """The experiments of a script, which is no module of a package."""
    texts = {path.stem: path.read_text(encoding="utf-8") for path in sorted(cli.ROOT.glob("*.py"))}
    names = [name for name, text in texts.items() if "\nEXERCISE = " in text]
    name = script.removesuffix(".py")
    spec = spec_from_file_location(name, cli.ROOT / f"{name}.py") if name in names else None
    if spec is None or spec.loader is None:
        raise UserError(f"{script} is not one of the scripts {', '.join(names)}")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.EXERCISE


def _words(flags: Mapping[str, Any]) -> list[str]:
    """Keyword arguments as the words of a command line."""
    words: list[str] = []
    for name, value in flags.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool | np.bool_):
            words += [f"--{flag}"] if value else [] if name in ONLY_ON else [f"--no-{flag}"]
        else:
            values = value if isinstance(value, list | tuple | range) else [value]
            values = [each.item() if isinstance(each, np.generic) else each for each in values]
            words += [f"--{flag}", *(str(each) if isinstance(each, Path) else to_text(each) for each in values)]
    return words


class _Progress:
    """A context in which a run comes to its end: a bar in a notebook or on a terminal, a line an epoch elsewhere.

    Args:
        epochs: the most there may be; None where they are not counted.
    """

    def __init__(self, epochs: int | None, quiet: bool):
        self._epochs, self._quiet = epochs, quiet
        self._text = ""
        self._cell = self._bar = None

    def __enter__(self) -> "_Progress":
        if not self._quiet:
            from rich.console import Console

            console = Console()
            if console.is_jupyter:
                from IPython.display import display

                self._cell = display({"text/plain": ""}, raw=True, display_id=True)
            elif console.is_terminal:
                from rich.progress import Progress

                self._bar = Progress(console=console)
                self._bar.start()
                self._bar.add_task("")
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar:
            self._bar.stop()

    def epoch(self, history: list[dict], ended: bool = False) -> None:
        """Shows the last of these rows, if there is one."""
        if history:
            done, most = len(history), len(history) if ended else self._epochs
            accuracy = f"validation accuracy {history[-1]['val_accuracy']:.4f}"
            self.show(f"epoch {done}{f' of {most}' if most else ''}, {accuracy}", done, most or done)

    def show(self, text: str, done: int = 0, most: int = 1) -> None:
        """Shows a text, if it is not there, beside a bar of which so much is full."""
        if self._quiet or text == self._text:
            return
        self._text = text
        if self._cell:
            bar = f'<progress value="{done}" max="{most}"></progress> {html.escape(text)}'
            self._cell.update({"text/plain": text, "text/html": bar}, raw=True)
        elif self._bar:
            self._bar.update(self._bar.task_ids[0], description=text, completed=done, total=most)
        else:
            print(text, flush=True)
