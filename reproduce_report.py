"""The report again with one command: every experiment of the four scripts, then the page results/report.html.

    python reproduce_report.py --reported             the report's own experiments, on the real data
    python reproduce_report.py                        and everything beyond it: hours
    python reproduce_report.py --dataset synthetic    everything on drawn images, without a download: minutes
    python reproduce_report.py --plan --seed 0 1 2    what it would run, and about how long that takes
    python reproduce_report.py --page-only            the page from the runs that are there, or from published/

Each run is a process of its own, so a crash costs one run; a run that is finished is not done again. After Ctrl-C, a
kill or a failure, the same command goes on from there.
"""

import argparse
import json
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import bonus_residual
import ex1_basenet
import ex2_improvements
import ex3_resnet_birds
from common import cli, process, sweep, tensorflow_setup
from common.display import ProgressDisplay, TrackedRun, count, duration
from common.engines import CompletedCommand, Local
from common.errors import UserError
from common.experiment import PRECISIONS, Exercise, parse_number
from common.reporting import cost
from common.reporting.report.commands import flags_of
from common.reporting.report.improvements import IMPROVEMENTS
from common.reporting.report.runs import Runs, read_runs
from common.reporting.report.sections import SECTIONS
from common.reporting.run_folder import Run, RunFolder, find_runs, read_run

ROOT = Path(__file__).resolve().parent
EXERCISES = {
    exercise.name: exercise
    for exercise in (
        ex1_basenet.EXERCISE,
        ex2_improvements.EXERCISE,
        ex3_resnet_birds.EXERCISE,
        bonus_residual.EXERCISE,
    )
}
BY_KEY = {section.key: EXERCISES[section.script] for section in SECTIONS}
# One switch turned: what each improvement is worth.
ABLATIONS = {
    "ex1_basenet": tuple(each.added for each in IMPROVEMENTS),
    "ex2_improvements": tuple(each.removed for each in IMPROVEMENTS),
}
SYNTHETIC_BUDGET = {"epochs": 2, "limit": 30}
QUICK_BUDGET = {"epochs": 2, "limit": 10}
# Bytes that a run may need: most to fine-tune on real photographs.
MEMORY = 10 * 2**30
SYNTHETIC_MEMORY = 2**30
WORTH_MEASURING = 5  # runs from which on the measurement, which takes as long as a short run, is worth it
START = 5.0  # seconds of a process before its first epoch, about, on the processors of the published runs
MEASURED = ("--variant", "adam", "--dataset", "synthetic", "--epochs", "3", "--limit", "100", "--quiet")


@dataclass(frozen=True)
class Task:
    """One run to be done.

    Attributes:
        script: without ``.py``.
        name: of its folder.
        role: the NAME without the settings that all runs have by this command's flags.
        folder: the run's.
        command: behind ``python``.
        epochs: the most it may take; None where it does not count any.
    """

    script: str
    name: str
    role: str
    seed: int
    folder: RunFolder
    command: Sequence[str]
    epochs: int | None

    def __str__(self) -> str:
        return f"{self.script} {self.name} seed {self.seed}"

    def finished(self) -> Run | None:
        """The run, if its folder holds a whole one."""
        try:
            return read_run(self.folder.path)
        except UserError:
            return None


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what is not finished, writes the page; 0, or 1 if a run failed, or 2 after an error.

    Args:
        argv: as ``common.cli.main``.
    """
    if argv is not None:
        return cli.run_command("reproduce_report", argv)
    process.prepare()
    cli.stop_on_signals()
    argv = sys.argv[1:]
    try:
        arguments = parse(argv)
        cli.check_engine(arguments)
        tasks = plan(arguments)
        if arguments.plan:
            print_plan(tasks)
            print(end="", flush=True)
            return 0
        failed = [] if arguments.page_only else do(tasks, arguments)
        return make_page(tasks, failed, arguments, argv)
    except BrokenPipeError:  # nobody reads on, as in `--plan | head`
        cli.unread_stdout()
        return 0 if "--plan" in argv else 2
    except (UserError, OSError) as error:
        print(f"error: {cli.one_line(error)}", file=sys.stderr)
        return 2


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The flags.

    Raises:
        UserError: they are bad.
    """
    parser = cli.Parser(
        prog="reproduce_report.py",
        usage="python reproduce_report.py [flags]",
        description="Every experiment of the report, then the page results/report.html.",
        allow_abbrev=False,
    )
    number = cli.argument(lambda text: parse_number(text, int, low=1))
    add = parser.add_argument_group("what is made").add_argument
    add(
        "--exercises",
        nargs="+",
        choices=list(BY_KEY),
        default=list(BY_KEY),
        metavar="N",
        help="1, 2, 3, bonus (default: all)",
    )
    add(
        "--seed",
        type=cli.argument(lambda text: parse_number(text, int, low=0)),
        nargs="+",
        metavar="N",
        default=[0],
        help="a run of each experiment for each seed (default: 0; the published numbers have 0 1 2)",
    )
    add(
        "--reported",
        action="store_true",
        help="the experiments that the report prints numbers of, and no others",
    )
    add(
        "--quick",
        action="store_true",
        help=f"--reported with {QUICK_BUDGET['epochs']} epochs and {QUICK_BUDGET['limit']} images a class: to see the "
        "page",
    )
    add("--plan", action="store_true", help="the commands of the runs, one a line, and about how long they take")
    add(
        "--page-only",
        action="store_true",
        help="the page from the runs in --output, or from published/ if there are none; trains nothing",
    )
    add = parser.add_argument_group("data and budget").add_argument
    add(
        "--dataset",
        choices=("real", "synthetic"),
        default="real",
        help="synthetic: drawn images for all four exercises, ResNet50 without ImageNet's weights, "
        f"{SYNTHETIC_BUDGET['epochs']} epochs, {SYNTHETIC_BUDGET['limit']} images a class (default: real)",
    )
    add(
        "--data-dir",
        type=cli.folder,
        metavar="DIR",
        help="where the data sets are, or are downloaded to (default: data)",
    )
    add("--epochs", type=number, metavar="N", help="at most N epochs a run")
    add("--limit", type=number, metavar="N", help="at most N training images a class")
    add("--classes", metavar="A-B or A,B,...", help="labels to use, in the exercises on small images")
    add("--weights", metavar="VALUE", help="ResNet50's: imagenet, a .h5 file, or none (default: imagenet)")
    add("--precision", choices=PRECISIONS, help="mixed precision (default: float32)")
    add = parser.add_argument_group("how it is carried out").add_argument
    cli.add_engine_flags(add, "as many as there are cores, and memory for; 1 on a GPU")
    add(
        "--threads",
        type=number,
        metavar="N",
        help="processor threads of a run (default: the script's own, or the cores ÷ jobs)",
    )
    add(
        "--output",
        type=cli.folder,
        metavar="DIR",
        default=cli.beside_the_scripts("results"),
        help="where runs and the page go (default: results)",
    )
    add("--offline", action="store_true", help="do not use the network; what is missing is named instead")
    add("--force", action="store_true", help="train again where finished runs are")
    add("--tensorboard", action="store_true", help="event files for TensorBoard, in the folders of the runs")
    add("--quiet", action="store_true", help="no line for each finished run")
    arguments = parser.parse_args(argv)
    if len(set(arguments.seed)) < len(arguments.seed):
        parser.error("--seed names one value twice")
    budget = QUICK_BUDGET if arguments.quick else SYNTHETIC_BUDGET if arguments.dataset == "synthetic" else {}
    for flag, value in budget.items():
        if getattr(arguments, flag) is None:
            setattr(arguments, flag, value)
    is_synthetic = arguments.dataset == "synthetic"
    if is_synthetic and arguments.weights is None:
        arguments.weights = "none"
    if arguments.engine == "local":
        memory_each = SYNTHETIC_MEMORY if is_synthetic else MEMORY
        arguments.jobs = arguments.jobs or tensorflow_setup.runs_at_a_time(memory_each)
    arguments.exercises = [key for key in BY_KEY if key in arguments.exercises]
    return arguments


def plan(arguments: argparse.Namespace) -> list[Task]:
    """The runs, exercise by exercise, variant by variant, seed by seed.

    Raises:
        UserError: flags that do not fit each other.
    """
    tasks = []
    for exercise in (BY_KEY[key] for key in arguments.exercises):
        for role in roles(exercise, reported=arguments.reported or arguments.quick):
            command = scripts_flags(exercise, role, arguments)
            selection, jobs = cli.select(exercise, cli.parse(exercise, command))
            for job in jobs:
                folder = RunFolder(selection.output, selection.dataset.name, exercise.name, job.name, job.seed)
                words = shlex.split(sweep.plan(selection, [job]))[1:]
                epochs = getattr(job.experiment.learning, "epochs", None)
                tasks.append(Task(exercise.name, job.name, role, job.seed, folder, words, epochs))
    return tasks


def roles(exercise: Exercise, reported: bool) -> list[str]:
    """The NAMEs of an exercise's experiments: its variants, and those that a switch makes of them.

    Args:
        reported: those alone that the report prints numbers of.
    """
    variants = [each.name for each in exercise.experiments]
    if reported:
        return [name for name in variants if name in exercise.reported]
    return [*variants, *ABLATIONS.get(exercise.name, ())]


def scripts_flags(exercise: Exercise, role: str, arguments: argparse.Namespace) -> list[str]:
    """The flags of the exercise's script that make the runs of a NAME."""
    variant, *settings = flags_of(role)
    experiment = exercise.experiment(variant)
    takes_photographs = exercise.images == "photographs"
    given: dict[str, str | int | None] = {
        "data-dir": str(arguments.data_dir) if arguments.data_dir else None,
        "limit": arguments.limit,
        "classes": None if takes_photographs else arguments.classes,
        "weights": arguments.weights if takes_photographs else None,
        "precision": arguments.precision,
        "output": str(arguments.output),
        "dataset": "synthetic" if arguments.dataset == "synthetic" else None,
        "threads": None if exercise.threads and not arguments.threads else cli.threads_of(arguments, exercise.threads),
    }
    own = getattr(experiment.learning, "epochs", None)
    if arguments.epochs and own and arguments.epochs < own:
        given["epochs"] = arguments.epochs
    words = [word for flag, value in given.items() if value is not None for word in (f"--{flag}", str(value))]
    on = [f"--{flag}" for flag in ("offline", "force", "tensorboard") if getattr(arguments, flag)]
    return ["--variant", variant, *settings, "--seed", *map(str, arguments.seed), *words, *on, "--quiet"]


def print_plan(tasks: Sequence[Task]) -> None:
    """The commands, one a line; on stderr, how many are done and about how long the rest takes."""
    todo = [task for task in tasks if not task.finished()]
    for task in tasks:
        print(shlex.join(["python", *task.command]))
    known = Estimate.unscaled()
    seconds = known.total(todo)
    text = f", about {duration(seconds)} on the processor of the published runs" if seconds else ""
    print(f"{count(len(tasks), 'run')}, {len(tasks) - len(todo)} finished{text}", file=sys.stderr)


def do(tasks: Sequence[Task], arguments: argparse.Namespace) -> list[dict[str, str]]:
    """Does what is not finished; returns the runs that failed, each with its error."""
    runs = [None if arguments.force else task.finished() for task in tasks]
    todo = [task for task, run in zip(tasks, runs) if run is None]
    for run in filter(None, runs):
        complete(run, arguments.tensorboard)
    if not todo:
        print(f"All {len(tasks)} runs are there.", flush=True)
        return []
    engine = cli.engine_of(arguments)
    print(f"{count(len(tasks), 'run')}, {len(tasks) - len(todo)} finished", flush=True)
    if len(todo) < WORTH_MEASURING:
        estimate = Estimate.unscaled()
    else:
        print("measuring this machine ...", flush=True)
        estimate = Estimate.measured()
        for task in todo:
            print(f"  {task}, about {duration(estimate.seconds(task))}")
        print(f"all together about {duration(estimate.total(todo) / (arguments.jobs or 1))}", flush=True)
    if arguments.jobs != 1:
        todo.sort(key=estimate.seconds, reverse=True)
    failed = []
    tracked = [TrackedRun(str(task), task.folder.checkpoint, task.epochs) for task in todo]
    with ProgressDisplay(
        tracked, Pace([estimate.seconds(task) for task in todo]).left, quiet=arguments.quiet
    ) as display:

        def completed(process: CompletedCommand) -> None:
            task = todo[process.index]
            run = None if process.returncode else task.finished()
            if run is None:
                last = (process.stderr.strip().splitlines() or ["it said nothing"])[-1].removeprefix("error: ")
                error = f"{last} (exit code {process.returncode}; {keep_output(task, process)})"
                failed.append({"run": str(task), "error": error})
                display.completed(process.index, f"failed: {error}", failed=True)
            else:
                text = f"test accuracy {run.metrics['test_accuracy']:.4f}"
                display.completed(process.index, text, stderr=process.stderr)

        commands = [[sys.executable, str(ROOT / task.command[0]), *task.command[1:], *engine.flags] for task in todo]
        engine.run(commands, completed)
    return sorted(failed, key=lambda each: each["run"])


def complete(run: Run, tensorboard: bool) -> None:
    """Makes what a run lacks whose process ended once its results were on the disk."""
    from common.reporting import event_files, figures  # not before: Matplotlib takes a while to import

    figures.draw(run, again=False)
    if tensorboard:
        event_files.write(run)


def make_page(tasks: Sequence[Task], failed: Sequence[dict], arguments: argparse.Namespace, argv: Sequence[str]) -> int:
    """Writes the page and says where it is; 1 if a run failed.

    Raises:
        UserError: there is not one run.
    """
    from common.reporting.report.content import Request  # not before: charts and statistics take a second to import
    from common.reporting.report.page import write_report

    exercises = [BY_KEY[key] for key in arguments.exercises]
    runs = find(tasks, arguments)
    if not runs.found:
        reasons = [f"{each['run']}: {each['error']}" for each in failed] + [each.reason for each in runs.damaged]
        why = f" ({reasons[0]})" if reasons else ""
        raise UserError(f"no finished run in {runs.output}, so there is no page to make{why}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    command = shlex.join(["python", "reproduce_report.py", *argv])
    measured = cost.PUBLISHED / "equivalence.json"
    equivalence = json.loads(measured.read_text(encoding="utf-8")) if measured.exists() else None
    write_report(arguments.output, Request(exercises, failed, notes(arguments), [command], equivalence), runs)
    for each in runs.damaged:
        print(f"left out, damaged: {each.reason}", file=sys.stderr)
    for each in failed:
        print(f"failed: {each['run']}: {each['error']}", file=sys.stderr)
    print(f"{arguments.output / 'report.html'}: {count(len(runs.found), 'run')}", flush=True)
    return 1 if failed else 0


def find(tasks: Sequence[Task], arguments: argparse.Namespace) -> Runs:
    """The runs for the page: of the output folder; with --page-only, if that has none, the published ones."""
    datasets = {"synthetic"} if arguments.dataset == "synthetic" else {"cifar100", "cub200"}
    has_budget = any(task.name != task.role for task in tasks)
    names = {(task.script, task.name): task.role for task in tasks} if has_budget else None
    runs = read_runs(arguments.output, datasets, names)
    if arguments.page_only and not runs.found and not runs.damaged and not has_budget:
        return read_runs(cost.PUBLISHED, datasets)
    return runs


def notes(arguments: argparse.Namespace) -> list[str]:
    """What to know of all runs of this command."""
    found = []
    if arguments.dataset == "synthetic":
        found.append(
            "Synthetic data: drawn shapes and drawn birds, which show that everything works and measure nothing."
        )
    budget = [
        f"--{name} {value}"
        for name in ("epochs", "limit", "classes", "precision")
        if (value := getattr(arguments, name)) is not None
    ]
    if budget:
        found.append(f"All runs were given {' '.join(budget)}.")
    return found


def keep_output(task: Task, completed: CompletedCommand) -> Path:
    """Writes down what a failed run printed."""
    logs = task.folder.path.parents[3] / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"{task.script},{task.name},seed-{task.seed}.log"
    log.write_text(completed.stdout + completed.stderr, encoding="utf-8")
    return log


@dataclass(frozen=True)
class Estimate:
    """Times of runs, from the published ones.

    Attributes:
        start: seconds from the start of a process to its first epoch.
        speed: of this machine, in the published runs' processors.
    """

    start: float
    speed: float

    @classmethod
    def unscaled(cls) -> "Estimate":
        """As on the processors of the published runs."""
        return cls(START, 1.0)

    @classmethod
    def measured(cls) -> "Estimate":
        """A short run on drawn images beside the published runs of the same network."""
        codes: list[int] = []
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, str(ROOT / "ex1_basenet.py"), *MEASURED, "--output", folder]
            begin = time.monotonic()
            Local(1).run([command], lambda completed: codes.append(completed.returncode))
            wall = time.monotonic() - begin
            found = find_runs(Path(folder))
            if codes != [0] or not found:
                return cls.unscaled()
            timing = read_run(found[0]).timing
        published = [run.timing["images_per_second"] for run in cost.published("ex1_basenet", "adam")]
        speed = timing["images_per_second"] / median(published) if published else 1.0
        return cls(max(0.0, wall - timing["total_seconds"]), speed)

    def seconds(self, task: Task) -> float:
        """Of one run; only its start where nothing like it was published."""
        runs = cost.published(task.script, task.role)
        if not runs:
            return self.start
        if task.folder.path.parts[-4] == "synthetic" and runs[0].config["dataset"]["options"]:
            return self.start  # drawn birds are smaller and fewer
        words = task.command
        limit, threads = (
            int(words[words.index(flag) + 1]) if flag in words else None for flag in ("--limit", "--threads")
        )
        return self.start + cost.seconds(runs, task.epochs, limit, threads) / self.speed

    def total(self, tasks: Sequence[Task]) -> float:
        """Of runs one after the other."""
        return sum(map(self.seconds, tasks))


class Pace:
    """About how long runs still take, from their estimates and from how long those took that have ended.

    Args:
        seconds: of each run, as estimated.
    """

    def __init__(self, seconds: Sequence[float]):
        self._seconds, self._begin = seconds, time.monotonic()

    def left(self, still_open: Sequence[int]) -> float:
        """Seconds for the runs of these indices."""
        left, passed = sum(self._seconds[index] for index in still_open), time.monotonic() - self._begin
        expected, done = sum(self._seconds), len(self._seconds) - len(still_open)
        if expected > left:  # what was expected to be done by now took this long
            return left * passed / (expected - left)
        return passed / max(done, 1) * len(still_open)


if __name__ == "__main__":
    sys.exit(main())
