"""From the variants, settings and seeds of a command to its runs, one after the other or several at a time."""

import gc
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from common import processes
from common.datasets.image_data import DataSet
from common.experiment import Exercise, Experiment, run_name

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Selection:
    """What a command asks for.

    Attributes:
        variants: names, in the exercise's order.
        settings: by switch, the values it shall have; a run for each combination.
        seeds: a run for each.
        dataset: and which of its images: ``data_dir``, ``classes``, ``limit`` per class, the values of its own flags.
        weights: the backbone's.
        output, precision, threads, force, redraw, quiet: as ``common.run.RunOptions``.
        jobs: runs at a time, each a process of its own if it is more than one.
        flags: what the command line gave beside variants, settings and seeds, for ``plan``.
        name_parts: texts of what else belongs to the run folder's name.
    """

    exercise: Exercise
    variants: Sequence[str]
    settings: Mapping[str, Sequence[Any]]
    seeds: Sequence[int]
    dataset: DataSet
    data_dir: Path
    classes: tuple[int, ...]
    limit: int | None
    data_options: Mapping[str, Any]
    weights: str
    output: Path
    precision: str
    threads: int | None
    jobs: int
    force: bool
    redraw: bool
    quiet: bool
    flags: Sequence[str]
    name_parts: Mapping[str, str]


@dataclass(frozen=True)
class Job:
    """One run: an experiment as it runs, its folder's name, its seed, and the flags that make it."""

    experiment: Experiment
    name: str
    seed: int
    flags: Sequence[str]


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
        name = run_name(experiment, own, selection.name_parts)
        found.append(Job(experiment, name, seed, ["--variant", variant, *flags, "--seed", str(seed)]))
    return found


def plan(selection: Selection, todo: Sequence[Job]) -> str:
    """The commands, one a line, that each do one of the runs."""
    script = f"{selection.exercise.name}.py"
    return "\n".join(shlex.join(["python", script, *job.flags, *selection.flags]) for job in todo)


def run_all(selection: Selection, todo: Sequence[Job]) -> int:
    """Does the runs, draws the comparison figures, prints the table of results; returns how many runs failed.

    Raises:
        UserError: as ``common.datasets.loading.load`` and ``common.run.run``.
    """
    from common import tensorflow_setup
    from common.datasets.loading import load

    data = load(selection.dataset, selection.data_dir, selection.classes, selection.limit, selection.data_options)
    device = tensorflow_setup.configure(selection.threads)
    threads = selection.threads or tensorflow_setup.available_threads()
    print(
        f"{data.name}: {len(data.class_names)} classes, {len(data.train_images):,} images to train and validate, "
        f"{len(data.test_images):,} to test, on {device}, {threads} threads",
        flush=True,
    )
    if hint := tensorflow_setup.unused_gpu() if device == "CPU" else None:
        print(hint, flush=True)
    from common import run, trial
    from common.reporting import figures, tables

    gc.freeze()  # modules stay; collections, several a run, need not look through them again
    for job in todo:  # what cannot be is said before any training
        trial.check(job.experiment)
    options = run.RunOptions(
        output=selection.output,
        precision=selection.precision,
        data_options=selection.data_options,
        weights=selection.weights,
        device=device,
        threads=threads,
        force=selection.force and selection.jobs == 1,  # else its own process has trained it again
        redraw=selection.redraw,
        quiet=selection.quiet,
    )
    exercise, runs = selection.exercise, []
    failed = _run_beside_each_other(selection, todo) if selection.jobs > 1 else []
    for job in (job for job in todo if job not in failed):
        runs.append(run.run(exercise.name, job.name, job.experiment, selection.dataset, data, job.seed, options))
        print(tables.result_line(runs[-1]), flush=True)
    for seed in selection.seeds:
        compared = [each for each in runs if each.seed == seed and each.variant in exercise.compare]
        if exercise.compare and sorted(each.variant for each in compared) == sorted(exercise.compare):
            figures.draw_comparison(compared, selection.output / data.name / exercise.name)
    if runs:
        print()
        print(tables.table(runs, exercise.reported))
    for job in failed:
        print(f"failed: {job.name}, seed {job.seed}", file=sys.stderr)
    return len(failed)


def _run_beside_each_other(selection: Selection, todo: Sequence[Job]) -> list[Job]:
    """Does the runs as processes of their own, a line for each as it ends; returns those that failed."""
    from common import tensorflow_setup

    threads = selection.threads or max(1, tensorflow_setup.available_threads() // selection.jobs)
    script = str(ROOT / f"{selection.exercise.name}.py")
    more = ["--threads", str(threads), "--quiet"]
    commands = [[sys.executable, script, *job.flags, *selection.flags, *more] for job in todo]
    failed: list[Job] = []
    start, done = time.monotonic(), 0

    def ended(command: processes.Ended) -> None:
        nonlocal done
        done += 1
        left = (time.monotonic() - start) / done * (len(todo) - done)
        job = todo[command.index]
        if command.returncode:
            failed.append(job)
            last = (command.stderr.strip().splitlines() or [f"exit code {command.returncode}"])[-1]
            outcome = f"failed: {last}"
        else:
            outcome = "done"
        print(f"run {done} of {len(todo)}, {job.name}, seed {job.seed}: {outcome}; {left:.0f} s left", flush=True)

    processes.run_commands(commands, selection.jobs, ended)
    return failed
