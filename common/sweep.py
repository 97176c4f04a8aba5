"""From the variants, settings and seeds of a command to its runs, one after the other or several at a time."""

import gc
import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import tensorflow_setup
from common.datasets.image_data import DataFolder, DataSet, ImageData
from common.display import ProgressDisplay, TrackedRun, count
from common.engines import CompletedCommand, Engine
from common.errors import UserError
from common.experiment import Component, Exercise, Experiment, GradientDescent, run_name
from common.reporting import cost
from common.reporting.run_folder import Run, RunFolder, read_run
from common.reporting.tables import grid_table, result_line, table
from common.start import Continued, InitialWeights

if TYPE_CHECKING:  # TensorFlow takes seconds to import, and telling about runs does without
    from common.run import RunOptions

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Selection:
    """What a command asks for.

    Attributes:
        variants: names, in the exercise's order.
        settings: by switch, the values it shall have; a run for each combination.
        seeds: a run for each.
        dataset: and which of its images: ``data_folder``, ``classes``, ``limit`` per class, the values of its flags.
        weights: the backbone's.
        initial_weights: of a finished run; None: fresh ones.
        more_epochs: for which finished runs go on; None: runs begin with the first epoch.
        output, precision, deterministic, threads, force, wait, redraw, tensorboard, quiet: as
            ``common.run.RunOptions``.
        engine: what carries out the runs, each in a process of its own; None: one after the other in this one.
        show_test: the test accuracies of all settings of a grid, not of the best alone.
        flags: what the command line gave beside variants, settings and seeds, for ``plan``.
        name_parts: texts of what else belongs to the run folder's name.
    """

    exercise: Exercise
    variants: Sequence[str]
    settings: Mapping[str, Sequence[Any]]
    seeds: Sequence[int]
    dataset: DataSet
    data_folder: DataFolder
    classes: tuple[int, ...]
    limit: int | None
    data_options: Mapping[str, Any]
    weights: str
    initial_weights: InitialWeights | None
    more_epochs: int | None
    output: Path
    precision: str
    deterministic: bool
    threads: int | None
    engine: Engine | None
    force: bool
    wait: bool
    redraw: bool
    tensorboard: bool
    show_test: bool
    quiet: bool
    flags: Sequence[str]
    name_parts: Mapping[str, str]

    def folder(self, job: "Job") -> RunFolder:
        """Where a run goes."""
        return RunFolder(self.output, self.dataset.name, self.exercise.name, job.name, job.seed)

    @property
    def varied(self) -> list[str]:
        """The switches that take several values."""
        return [name for name, values in self.settings.items() if len(values) > 1]


@dataclass(frozen=True)
class Job:
    """One run: an experiment as it runs, its folder's name, its seed, the flags that make it, what it continues."""

    experiment: Experiment
    name: str
    seed: int
    flags: Sequence[str]
    continued: Continued | None


def jobs(selection: Selection, flag_texts: Mapping[str, Sequence[Sequence[str]]]) -> list[Job]:
    """The runs: seed by seed, variant by variant, combination by combination.

    Args:
        flag_texts: by switch, the flags that give each of its values.
    """
    found = []
    combinations = list(product(*(range(len(values)) for values in selection.settings.values())))
    for seed, variant, chosen in product(selection.seeds, selection.variants, combinations):
        own = selection.exercise.experiment(variant)
        picked = dict(zip(selection.settings, chosen))
        experiment = own.with_settings(**{key: selection.settings[key][index] for key, index in picked.items()})
        flags = [text for key, index in picked.items() for text in flag_texts[key][index]]
        name, continued = run_name(experiment, own, selection.name_parts), None
        if selection.more_epochs and isinstance(experiment.learning, GradientDescent):
            continued = Continued(name, experiment.learning.epochs)
            experiment = experiment.with_settings(epochs=continued.epochs + selection.more_epochs)
            name = run_name(experiment, own, {**selection.name_parts, "from": str(continued.epochs)})
        found.append(Job(experiment, name, seed, ["--variant", variant, *flags, "--seed", str(seed)], continued))
    return found


def plan(selection: Selection, todo: Sequence[Job]) -> str:
    """The commands, one a line, that each do one of the runs; a shell takes them as they are, words end in tabs."""
    script = f"{selection.exercise.name}.py"
    commands = (["python", script, *job.flags, *selection.flags] for job in todo)
    return "\n".join("\t".join(map(shlex.quote, words)) for words in commands)


def run_all(selection: Selection, todo: Sequence[Job]) -> int:
    """Does the runs, draws the figures that compare them, prints the table; returns how many runs failed.

    Raises:
        UserError: as ``common.datasets.loading.load`` and ``common.run.run``.
    """
    from common.datasets.loading import load

    _check_continued(selection, todo)
    options = None
    if any(isinstance(value, Component) for values in selection.settings.values() for value in values):
        options = _configure(selection, todo)  # Keras alone knows what it has: a misspelt name needs no data to be seen
    data = load(selection.dataset, selection.data_folder, selection.classes, selection.limit, selection.data_options)
    to_train, to_test = (counts.sum() for counts in data.images_per_class())
    found = (
        f"{data.name}: {len(data.class_names)} classes, {to_train:,} images to train and validate, {to_test:,} to test"
    )
    slower = tensorflow_setup.why_slower(selection.precision)
    if selection.engine:
        print(_sentences(f"{found}, {count(len(todo), 'run')}", slower), flush=True)
        runs, failed = _run_as_processes(selection, selection.engine, todo, data, options)
    else:
        options = options or _configure(selection, todo)
        line = f"{found}, on {options.device}, {count(options.threads, 'thread')}"
        notes = (tensorflow_setup.why_no_gpu(), slower) if options.device == "CPU" else ()
        print(_sentences(line, *notes), flush=True)
        runs, failed = _run_one_by_one(selection, todo, data, options), []
    if runs:
        _compare(selection, runs)
    for job in failed:
        print(f"failed: {job.name}, seed {job.seed}", file=sys.stderr)
    return len(failed)


def _sentences(line: str, *notes: str | None) -> str:
    """A line, and what else there is to say behind it."""
    found = [note for note in notes if note]
    return " ".join([f"{line}.", *found]) if found else line


def _configure(selection: Selection, todo: Sequence[Job]) -> "RunOptions":
    """TensorFlow for this process; says what cannot be before any training; returns what all runs share."""
    device = tensorflow_setup.configure(selection.threads, selection.deterministic)
    from common import trial
    from common.run import RunOptions
    from common.transfer.weights import without_network

    gc.freeze()  # modules stay; collections, several a run, need not look through them again
    for job in todo:
        trial.check(job.experiment)
    return RunOptions(
        output=selection.output,
        precision=selection.precision,
        deterministic=selection.deterministic,
        data_options=selection.data_options,
        weights=without_network(selection.weights) if selection.data_folder.offline else selection.weights,
        initial_weights=selection.initial_weights,
        device=device,
        threads=selection.threads or tensorflow_setup.available_threads(),
        force=selection.force and selection.engine is None,  # else its own process has trained it again
        wait=selection.wait,
        redraw=selection.redraw,
        tensorboard=selection.tensorboard,
        quiet=selection.quiet,
    )


def _check_continued(selection: Selection, todo: Sequence[Job]) -> None:
    """Raises UserError if a run that shall go on is not finished."""
    for job in todo:
        if job.continued and not selection.folder(job).path.exists():
            source = selection.folder(replace(job, name=job.continued.name)).path
            if not source.exists():
                raise UserError(
                    f"{source} is not there, or not finished: nothing to go on from; train it first, with the same "
                    "command without --more-epochs"
                )


def _run_one_by_one(selection: Selection, todo: Sequence[Job], data: ImageData, options: "RunOptions") -> list[Run]:
    """Does the runs in this process; of several that are not there yet, each begins with a line: which of how many."""
    new = _new(selection, todo)
    found = []
    with ProgressDisplay(_tracked(selection, new), renew=False, quiet=True) as display:
        for job in todo:
            if job in new and len(new) > 1:
                display.begun(new.index(job))
            found.append(_run_here(selection, job, data, options))
            if job in new:
                display.completed(new.index(job), "done")
    return found


def _new(selection: Selection, todo: Sequence[Job]) -> list[Job]:
    """The runs that are to be trained."""
    return [job for job in todo if selection.force or not selection.folder(job).path.exists()]


def _tracked(selection: Selection, todo: Sequence[Job]) -> list[TrackedRun]:
    return [
        TrackedRun(
            f"{job.name}, seed {job.seed}",
            selection.folder(job).checkpoint,
            getattr(job.experiment.learning, "epochs", None),
        )
        for job in todo
    ]


def _run_here(selection: Selection, job: Job, data: ImageData, options: "RunOptions") -> Run:
    from common.run import run

    exercise, dataset = selection.exercise.name, selection.dataset
    done = run(exercise, job.name, job.experiment, dataset, data, job.seed, options, job.continued)
    _tell(selection, done)
    return done


def _tell(selection: Selection, run: Run) -> None:
    """The line of a run; none in a grid, where the table shows what may be looked at."""
    if not selection.varied:
        print(result_line(run), flush=True)


def _run_as_processes(
    selection: Selection, engine: Engine, todo: Sequence[Job], data: ImageData, options: "RunOptions | None"
) -> tuple[list[Run], list[Job]]:
    """Does the runs that are not there yet as processes of their own; returns all runs, and those that failed.

    This process imports TensorFlow, which takes seconds, only if it has something to look at or to prepare itself.

    Args:
        options: None: TensorFlow is not set up yet.
    """
    new = _new(selection, todo)
    with_features = [job for job in new if job.experiment.features_on_disk]
    if options is None and (with_features or len(new) < len(todo)):
        options = _configure(selection, todo)
    if options:
        from common import run

        for job in with_features:  # once, before all that need them
            run.prepare(job.experiment, selection.dataset, data, options)
    found = {
        (job.name, job.seed): _run_here(selection, job, data, options) for job in todo if options and job not in new
    }
    failed = _carry_out(selection, engine, longest_first(selection, new))
    for job in (job for job in new if job not in failed):
        try:
            found[job.name, job.seed] = read_run(selection.folder(job).path)
            _tell(selection, found[job.name, job.seed])
        except UserError as error:
            print(f"warning: {error}", file=sys.stderr)
            failed.append(job)
    return [found[job.name, job.seed] for job in todo if job not in failed], failed


def longest_first(selection: Selection, todo: Sequence[Job]) -> list[Job]:
    """The runs in the order to begin them, by published ones like them: no core shall wait for a long one at the end.

    Those that no published run is like come first.
    """

    def seconds(job: Job) -> float:
        runs = cost.published(selection.exercise.name, job.name)
        return cost.seconds(runs, getattr(job.experiment.learning, "epochs", None)) if runs else math.inf

    return sorted(todo, key=seconds, reverse=True)


def _carry_out(selection: Selection, engine: Engine, jobs: Sequence[Job]) -> list[Job]:
    """The runs as processes of their own; returns those that failed."""
    script = str(ROOT / f"{selection.exercise.name}.py")
    more = ["--threads", str(selection.threads), "--quiet", *engine.flags]
    commands = [[sys.executable, script, *job.flags, *selection.flags, *more] for job in jobs]
    failed: list[Job] = []
    with ProgressDisplay(_tracked(selection, jobs), renew=not selection.quiet) as display:

        def completed(process: CompletedCommand) -> None:
            if process.returncode:
                failed.append(jobs[process.index])
                last = (process.stderr.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
                display.completed(process.index, f"failed: {last.removeprefix('error: ')}", failed=True)
            else:
                display.completed(process.index, "done", stderr=process.stderr)

        if commands:
            engine.run(commands, completed)
    return failed


def _compare(selection: Selection, runs: Sequence[Run]) -> None:
    """The figures that put runs beside each other, and the table."""
    from common.reporting import figures

    exercise, folder = selection.exercise, selection.output / selection.dataset.name / selection.exercise.name
    for seed in selection.seeds:
        compared = [each for each in runs if each.seed == seed and each.variant in exercise.compare]
        if exercise.compare and sorted(each.variant for each in compared) == sorted(exercise.compare):
            figures.draw_comparison(compared, folder)
    print()
    if not selection.varied:
        print(table(runs, exercise.reported))
        return
    print(grid_table(runs, show_test=selection.show_test))
    if len(selection.varied) <= figures.GRID_SWITCHES:
        flags = [name.replace("_", "-") for name in selection.varied]
        for variant in dict.fromkeys(run.variant for run in runs):
            of_variant = [run for run in runs if run.variant == variant]
            fixed = [part for part in of_variant[0].name.split(",") if part.split("=")[0] not in flags]
            path = folder / f"grid,{','.join(fixed)},{'+'.join(flags)}.png"
            figures.draw_grid(of_variant, selection.varied, path)
            print(f"{path}: validation accuracy against {' and '.join(flags)}")
