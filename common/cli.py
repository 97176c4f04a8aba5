"""The flags all scripts share, made from the fields of an experiment and of its data sets.

TensorFlow is imported only once there is something to train.
"""

import argparse
import os
import signal
import stat
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from common import engines, process, sweep, tensorflow_setup
from common.datasets import DATASETS
from common.datasets.image_data import DataFolder, DataSet
from common.engines import local
from common.errors import UserError
from common.experiment import PRECISIONS, Component, Exercise, GradientDescent, parse_number, switches, to_text
from common.reporting import event_files
from common.reporting.run_folder import NETWORK_FILES, check_whole
from common.saved_network import check_weights
from common.start import InitialWeights

LONGEST_LINE = 4000  # letters of an error
MOST_CLASSES = 10_000  # labels have up to four digits, so of more some come twice
SHOW_CURSOR = b"\x1b[?25h"  # which a display that renews itself hides
ROOT = Path(__file__).resolve().parent.parent
STOPPED = {signal.SIGINT: 130}
if hasattr(signal, "SIGTERM"):
    STOPPED[signal.SIGTERM] = 143
if hasattr(signal, "SIGHUP"):
    STOPPED[signal.SIGHUP] = 129
if hasattr(signal, "SIGBREAK"):  # Ctrl-Break on Windows
    STOPPED[signal.SIGBREAK] = 130  # pyright: ignore[reportAttributeAccessIssue]


_at_stop: list[Callable[[], None]] = []  # ends the runs that are processes of their own


def unread_stdout() -> None:
    """Lets the process end in silence though nobody reads what it prints."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(exercise: Exercise, argv: Sequence[str] | None = None) -> int:
    """Runs the command line of an exercise and returns 0, 1 if one of several runs beside each other failed, or 2.

    Args:
        argv: None: this process is the command, and from here Ctrl-C exits with 130, SIGTERM with 143 and a hang-up
            with 129. Else the command is a process of its own, and nothing changes in this one.
    """
    if argv is not None:
        return run_command(exercise.name, argv)
    process.prepare()
    stop_on_signals()
    only_tells, todo = False, []
    try:
        arguments = parse(exercise)
        only_tells = arguments.list or arguments.table or arguments.plan
        if arguments.list:
            print_list(exercise)
        else:
            selection, todo = select(exercise, arguments)
            if arguments.plan:
                print_plan(selection, todo)
            elif arguments.table:
                print_tables(selection, todo)
            else:
                failed = sweep.run_all(selection, todo)
                print(end="", flush=True)
                return 1 if failed else 0
        print(end="", flush=True)
    except BrokenPipeError:  # nobody reads on, as in `... --list | head`
        unread_stdout()
        return 0 if only_tells else 2
    except (UserError, OSError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        print(f"error: not enough memory for this{_smaller(todo)}; finished epochs are kept", file=sys.stderr)
        return 2
    return 0


def is_out_of_memory(error: Exception) -> bool:
    """Whether Python's or TensorFlow's memory, a GPU's too, was too small; asked without importing TensorFlow."""
    return isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError"


def _smaller(todo: Sequence[sweep.Job]) -> str:
    """What to try where the memory is too small for the largest batches of these runs."""
    learnings = [job.experiment.learning for job in todo]
    in_batches = [each for each in learnings if isinstance(each, GradientDescent) and each.batch_size > 1]
    if not in_batches:
        return ": fewer images (--limit) or smaller ones need less"
    largest = max(in_batches, key=lambda each: each.batch_size // each.accumulate)
    return (
        f": try --batch-size {largest.batch_size // 2}, or --accumulate {2 * largest.accumulate}, which computes a "
        "batch in smaller parts"
    )


def run_command(script: str, argv: Sequence[str]) -> int:
    """Carries out a script of the suite as a process of its own, passes on what it prints, and returns its exit code.

    It ends with whatever ends this call, such as a KeyboardInterrupt, and the same command resumes.
    """

    def heard(stream: str, line: str) -> None:
        print(line, file=getattr(sys, stream), flush=True)

    return local.listen([sys.executable, str(ROOT / f"{script}.py"), *map(str, argv)], heard)


def parse(exercise: Exercise, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The flags, each checked by itself.

    Raises:
        UserError: they are bad.
    """
    datasets = DATASETS[exercise.images]
    names = [experiment.name for experiment in exercise.experiments]
    parser = Parser(
        prog=f"{exercise.name}.py",
        usage=f"python {exercise.name}.py [flags]",
        description=exercise.description,
        allow_abbrev=False,
    )

    add = parser.add_argument_group("which runs").add_argument
    add(
        "--variant",
        nargs="+",
        metavar="NAME",
        default=list(exercise.default),
        help=f"which experiments: {', '.join(names)}, or all (default: {' '.join(exercise.default)})",
    )
    add(
        "--seed",
        type=argument(lambda text: parse_number(text, int, low=0)),
        nargs="+",
        metavar="N",
        default=[0],
        help="a run for each seed (default: 0)",
    )
    add("--list", action="store_true", help="the variants, one a line, and exit")
    add("--plan", action="store_true", help="the commands of the chosen runs, one a line, and exit")
    add("--table", action="store_true", help="each chosen network in the report's table format, and exit")

    group = parser.add_argument_group(
        "switches",
        "change every chosen variant (default: the variant's own); --no-SWITCH turns one off; several values: a run "
        "for each combination",
    )
    for name, kind in switches().items():
        is_used = any(experiment.can_use(name) for experiment in exercise.experiments)
        _add_switch(group, name, kind, kind["sentence"] if is_used else argparse.SUPPRESS)

    add = parser.add_argument_group("data").add_argument
    add(
        "--dataset",
        choices=[each.name for each in datasets],
        default=datasets[0].name,
        help=f"{'; '.join(f'{each.name}: {each.description}' for each in datasets)} (default: {datasets[0].name})",
    )
    add(
        "--data-dir",
        type=folder,
        metavar="DIR",
        default=beside_the_scripts("data"),
        help="where the data set is, or is downloaded to (default: data, beside the scripts)",
    )
    add(
        "--classes",
        type=argument(_classes),
        metavar="A-B or A,B,...",
        help="labels to use, relabelled 0, 1, ... in this order, or all (default: "
        f"{'; '.join(f'{each.name}: {_classes_text(each.default_classes)}' for each in datasets)})",
    )
    add(
        "--limit",
        type=argument(lambda text: parse_number(text, int, low=1)),
        metavar="N",
        help="at most N training images per class, for a quick try",
    )
    add("--offline", action="store_true", help="do not use the network; what is missing is named instead")
    own_flags = {flag.name: flag for flag in exercise.flags}
    for dataset in datasets:
        own_flags |= {flag.name: flag for flag in dataset.flags}
    for flag in own_flags.values():
        of_datasets = {each.name: _defaults(each, exercise) for each in datasets}
        defaults = {name: each[flag.destination] for name, each in of_datasets.items() if flag.destination in each}
        default = to_text(flag.default) if len(set(defaults.values())) == 1 else _join(defaults)
        add(f"--{flag.name}", type=argument(flag.parse), metavar="VALUE", help=f"{flag.sentence} (default: {default})")

    _add_start_flags(parser.add_argument_group("from a finished run").add_argument)

    add = parser.add_argument_group("how it is carried out").add_argument
    add(
        "--precision",
        choices=PRECISIONS,
        default="float32",
        help="bfloat16, float16: mixed precision, for processors and GPUs that have it (default: float32)",
    )
    add(
        "--no-deterministic",
        dest="deterministic",
        action="store_false",
        help="faster kernels on a GPU, and XLA, whose results differ from run to run",
    )
    add_engine_flags(add)
    add(
        "--threads",
        type=argument(lambda text: parse_number(text, int, low=1, high=1024)),
        metavar="N",
        help="processor threads to compute with; the last digits depend on it "
        f"(default: {exercise.threads or 'all cores, shared by --jobs'})",
    )
    add(
        "--output",
        type=folder,
        metavar="DIR",
        default=beside_the_scripts("results"),
        help="where runs go (default: results, beside the scripts)",
    )
    add("--force", action="store_true", help="train again where a finished run is")
    add("--wait", action="store_true", help="wait for a run that another process is writing, instead of stopping")
    add(
        "--show-test",
        action="store_true",
        help="with several values of a switch, the test accuracy of every setting, not of the best alone",
    )
    add("--redraw", action="store_true", help="draw the figures of finished runs again, without training")
    add("--tensorboard", action="store_true", help="event files for TensorBoard, in the run's folder")
    add("--quiet", action="store_true", help="no progress bars")
    arguments = parser.parse_args(argv)

    for name in arguments.variant:
        if name not in (*names, "all"):
            parser.error(f"--variant {name} is not one of {', '.join(names)}, all")
    given = [name for name in switches() if getattr(arguments, name) is not None]
    for flag in ("variant", "seed", *given):
        texts = [to_text(value) for value in getattr(arguments, flag)]
        if len(set(texts)) < len(texts):
            parser.error(f"--{flag.replace('_', '-')} names one value twice")
    return arguments


def _add_start_flags(add: Callable[..., Any]) -> None:
    """The flags of runs that do not begin with fresh weights."""
    add(
        "--more-epochs",
        type=argument(lambda text: parse_number(text, int, low=1)),
        metavar="N",
        help="the finished run that the other flags name goes on for N epochs, as a new run beside it",
    )
    add(
        "--init",
        type=path,
        metavar="RUN_FOLDER",
        help="begin with the weights of this finished run, in the layers whose shapes agree",
    )


def select(exercise: Exercise, arguments: argparse.Namespace) -> tuple[sweep.Selection, list[sweep.Job]]:
    """What the flags ask for together, and its runs.

    Raises:
        UserError: flags that do not fit each other.
    """
    check_engine(arguments)
    dataset = next(each for each in DATASETS[exercise.images] if each.name == arguments.dataset)
    variants = [each.name for each in exercise.experiments if {each.name, "all"} & set(arguments.variant)]
    settings = {name: getattr(arguments, name) for name in switches() if getattr(arguments, name) is not None}
    for name in settings:
        _check_can_use(exercise, variants, name, name)
    initial_weights = _check_start(exercise, variants, arguments)
    if arguments.tensorboard:
        event_files.check()
    data_folder = DataFolder(arguments.data_dir, arguments.output / "data", arguments.offline)
    classes = _chosen_classes(arguments.classes, dataset, data_folder)
    own_flags = {flag.destination: flag for flag in (*dataset.flags, *exercise.flags)}
    for each in DATASETS[exercise.images]:
        for flag in each.flags:
            if flag.destination not in own_flags and getattr(arguments, flag.destination) is not None:
                raise UserError(f"--{flag.name} is a flag of {each.name}; {dataset.name} has nothing it could change")
    options = _defaults(dataset, exercise)
    options |= {name: value for name in options if (value := getattr(arguments, name)) is not None}

    name_parts = {
        flag.name: text
        for name, flag in own_flags.items()
        if options[name] != flag.default and (text := flag.in_name(options[name])) is not None
    }
    if initial_weights:
        name_parts["init"] = str(initial_weights)
    if arguments.precision != "float32":
        name_parts["precision"] = arguments.precision
    if not arguments.deterministic:
        name_parts["deterministic"] = to_text(False)
    if classes != _chosen_classes(None, dataset, data_folder):
        name_parts["classes"] = _classes_text(classes)
    if arguments.limit:
        name_parts["limit"] = str(arguments.limit)

    flag_texts = {name: [_switch_flags(name, value) for value in values] for name, values in settings.items()}
    of_dataset = [flag.destination for flag in dataset.flags]
    selection = sweep.Selection(
        exercise=exercise,
        variants=variants,
        settings=settings,
        seeds=arguments.seed,
        dataset=dataset,
        data_folder=data_folder,
        classes=classes,
        limit=arguments.limit,
        data_options={name: options[name] for name in of_dataset},
        weights=options.get("weights", "none"),
        initial_weights=initial_weights,
        more_epochs=arguments.more_epochs,
        output=arguments.output,
        precision=arguments.precision,
        deterministic=arguments.deterministic,
        threads=threads_of(arguments, exercise.threads),
        engine=None if arguments.engine == "local" and (arguments.jobs or 1) == 1 else engine_of(arguments),
        force=arguments.force,
        wait=arguments.wait,
        show_test=arguments.show_test,
        redraw=arguments.redraw,
        tensorboard=arguments.tensorboard,
        quiet=arguments.quiet,
        flags=_other_flags(arguments, [*own_flags]),
        name_parts=name_parts,
    )
    return selection, sweep.jobs(selection, flag_texts)


def _check_can_use(exercise: Exercise, variants: Sequence[str], flag: str, field: str) -> None:
    """Raises UserError if a variant lacks the field of an experiment that the flag changes."""
    able = [each.name for each in exercise.experiments if each.can_use(field)]
    for variant in variants:
        if variant not in able:
            instead = f"choose others with --variant: {', '.join(able)}" if able else "leave it out"
            raise UserError(f"{variant} has nothing that --{flag.replace('_', '-')} could change; {instead}")


def _check_start(exercise: Exercise, variants: Sequence[str], arguments: argparse.Namespace) -> InitialWeights | None:
    """The weights that all runs begin with; None: fresh ones.

    Raises:
        UserError: a variant does not learn epoch by epoch, or there are no such weights, or damaged ones.
    """
    for flag in ("more_epochs", "init"):
        if getattr(arguments, flag) is not None:
            _check_can_use(exercise, variants, flag, "epochs")
    if arguments.init is None:
        return None
    weights = InitialWeights.of(arguments.init)
    check_whole(arguments.init, NETWORK_FILES)
    return weights


def add_engine_flags(add: Callable[..., Any], default_jobs: str = "1") -> None:
    """The flags of where runs are carried out."""
    number = argument(lambda text: parse_number(text, int, low=1, high=1024))
    add(
        "--jobs",
        type=number,
        metavar="N",
        help=f"runs at a time on this machine, each a process of its own (default: {default_jobs})",
    )
    add(
        "--engine", choices=engines.NAMES, default="local", help="local, or ray: runs on a Ray cluster (default: local)"
    )
    add("--address", metavar="HOST:PORT", help="of the Ray cluster (default: one is started on this machine)")
    add(
        "--cpus-per-run",
        type=number,
        metavar="N",
        help="processor cores of the cluster that a run takes, and computes with (default: --threads, or 1)",
    )
    add(
        "--gpus-per-run",
        type=argument(_gpus),
        metavar="X",
        help="GPUs of the cluster that a run takes; 0.5: two runs share one (default: 0)",
    )


def _gpus(text: str) -> float:
    number = parse_number(text, float, low=0, high=64)
    if number > 1 and number != int(number):
        raise ValueError(f"'{text}' is neither a whole number nor a share of one GPU")
    return number


def threads_of(arguments: argparse.Namespace, own: int | None) -> int | None:
    """The processor threads of a run; None: all cores.

    Args:
        own: of the script, where the flags do not say.
    """
    if arguments.threads or arguments.cpus_per_run or own:
        return arguments.threads or arguments.cpus_per_run or own
    if arguments.engine != "local":
        return 1
    jobs = arguments.jobs or 1
    return max(1, tensorflow_setup.available_threads() // jobs) if jobs > 1 else None


def check_engine(arguments: argparse.Namespace) -> None:
    """Raises UserError if there are flags of another engine."""
    others = ("address", "cpus_per_run", "gpus_per_run") if arguments.engine == "local" else ("jobs",)
    for name in others:
        if getattr(arguments, name) is not None:
            engine = "ray" if arguments.engine == "local" else "local"
            raise UserError(f"--{name.replace('_', '-')} is a flag of --engine {engine}")


def engine_of(arguments: argparse.Namespace) -> engines.Engine:
    """What carries out runs as processes of their own.

    Raises:
        UserError: it is not installed.
    """
    weights, init = (getattr(arguments, name, None) for name in ("weights", "init"))
    engine = engines.make(
        arguments.engine,
        arguments.jobs or 1,
        arguments.address,
        arguments.cpus_per_run or arguments.threads or 1,
        arguments.gpus_per_run or 0,
        output=arguments.output,
        inputs=[arguments.data_dir or beside_the_scripts("data"), *(Path(each) for each in (weights, init) if each)],
    )
    _at_stop.append(engine.stop)
    return engine


def print_list(exercise: Exercise) -> None:
    """A line for each variant: name, what it is, the report's accuracy, its figures."""
    width = max(len(experiment.name) for experiment in exercise.experiments)
    for experiment in exercise.experiments:
        line = f"{experiment.name:{width}}  {experiment.description}"
        if reported := exercise.reported.get(experiment.name):
            line += f"; report: {reported.accuracy:.4f}"
            line += f", figures {', '.join(map(str, reported.figures))}" if reported.figures else ", no figures"
        else:
            line += "; report: no numbers"
        print(line)


def print_plan(selection: sweep.Selection, todo: Sequence[sweep.Job]) -> None:
    """The commands of the runs, with the bytes that were given where a name is not text.

    Raises:
        UserError: what reads them takes no such names.
    """
    try:
        commands = sweep.plan(selection, todo).encode(sys.stdout.encoding, "surrogateescape")
    except UnicodeEncodeError as error:
        raise UserError(
            f"a path holds a letter that {error.encoding} has not, so no plan can name it; set PYTHONIOENCODING=utf-8"
        ) from None
    sys.stdout.buffer.write(commands + b"\n")


def print_tables(selection: sweep.Selection, todo: Sequence[sweep.Job]) -> None:
    """The networks of the runs in the report's table format."""
    tensorflow_setup.configure()
    from common.models.layer_table import layer_table
    from common.trial import build_network

    shape = selection.dataset.image_shape(selection.data_options)
    for job in {job.name: job for job in todo}.values():
        print(f"{job.name}\n\n{layer_table(build_network(job.experiment, shape, len(selection.classes)))}")


def _add_switch(group, name: str, kind: dict, sentence: str) -> None:
    """A flag for a field of an experiment: ``--name VALUE ...`` or ``--name``, and ``--no-name`` if it can be off."""
    flag = name.replace("_", "-")
    if kind["type"] is bool:
        group.add_argument(f"--{flag}", dest=name, action="store_const", const=[True], help=sentence)
        off: Any = False
    else:
        off = kind.get("off", _NOT_OFF)
        choices = kind.get("choices")
        bounds = {key: kind[key] for key in ("low", "high", "above") if key in kind}
        metavar = "|".join(choices) if choices else {int: "N", float: "X", tuple: "N+N"}.get(kind["type"], "NAME")
        group.add_argument(
            f"--{flag}",
            dest=name,
            nargs="+",
            metavar=metavar,
            type=argument(_value_parser(kind["type"], choices, bounds, off)),
            help=sentence,
        )
    if off is not _NOT_OFF:
        group.add_argument(f"--no-{flag}", dest=name, action="store_const", const=[off], help=argparse.SUPPRESS)


_NOT_OFF = object()


def _value_parser(kind: type, choices, bounds: dict, off) -> Callable[[str], Any]:
    def parse_value(text: str):
        if choices:
            if text not in choices:
                raise ValueError(f"'{text}' is not one of {', '.join(choices)}")
            return text
        if text == "none" and off is not _NOT_OFF:
            return off
        if kind is Component:
            try:
                return Component.parse(text)
            except ValueError:
                raise ValueError(f"'{text}' is not a name, nor NAME+setting=value of numbers, yes and no") from None
        if kind is tuple:
            return tuple(parse_number(each, int, **bounds) for each in text.split("+"))
        return parse_number(text, kind, **bounds)

    return parse_value


def _switch_flags(name: str, value) -> list[str]:
    """The flags that give a switch this value."""
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    return [f"--no-{flag}"] if value is None else [f"--{flag}", to_text(value)]


def _other_flags(arguments: argparse.Namespace, own_flags: Sequence[str]) -> list[str]:
    """The flags of a command beside variants, seeds and switches, as they were given."""
    values = {name: getattr(arguments, name) for name in ("dataset", "limit", *own_flags, "precision", "threads")}
    values |= {name: getattr(arguments, name) for name in ("more_epochs", "init", "data_dir", "output")}
    values["classes"] = None if arguments.classes is None else ",".join(map(str, arguments.classes)) or "all"
    flags = [
        text
        for name, value in values.items()
        if value is not None
        for text in (f"--{name.replace('_', '-')}", str(value))
    ]
    flags += [] if arguments.deterministic else ["--no-deterministic"]
    on = ("offline", "force", "wait", "redraw", "tensorboard", "quiet")
    return flags + [f"--{name}" for name in on if getattr(arguments, name)]


def _defaults(dataset: DataSet, exercise: Exercise) -> dict[str, Any]:
    return {flag.destination: flag.default for flag in (*dataset.flags, *exercise.flags)}


def _join(defaults: dict[str, Any]) -> str:
    return ", ".join(f"{name} {to_text(value)}" for name, value in defaults.items())


def stop_on_signals(word: str = "stopped; the same command resumes after the last finished epoch") -> None:
    """Ctrl-C and its kin end this process with a word, but for those it was started to ignore, as nohup has it."""
    for number in STOPPED:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, partial(stop, word))


def stop(word: str, signal_number, frame):
    """Ctrl-C and its kin: all that counts is on disk, so leave at once.

    A KeyboardInterrupt would be lost where it lands in a finalizer of TensorFlow's, and the run go on.
    """
    for end in _at_stop:
        end()
    with suppress(OSError):  # the terminal, or who reads this, may be what has gone
        for stream in (sys.stdout, sys.stderr):
            if stream.isatty():
                os.write(stream.fileno(), SHOW_CURSOR)
        os.write(2, f"\n{word}\n".encode())
    os._exit(STOPPED[signal_number])


class Parser(argparse.ArgumentParser):
    def error(self, message: str):
        raise UserError(f"{message}; see python {self.prog} --help")


def argument(parse_text: Callable[[str], Any]) -> Callable[[str], Any]:
    """For argparse: the words of a ValueError are the message."""

    def parse_argument(text: str):
        try:
            return parse_text(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parse_argument


def beside_the_scripts(name: str) -> Path:
    return Path(name) if Path.cwd() == ROOT else ROOT / name


def path(text: str) -> Path:
    """A path of the user's, from where the command is given; ``~`` is a home folder, also behind ``--flag=``.

    Raises:
        argparse.ArgumentTypeError: it is empty, or of a user who is not there.
    """
    if not text:
        raise argparse.ArgumentTypeError("an empty name; give a path")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise argparse.ArgumentTypeError(f"{text}: there is no such user") from None


def weights_file(text: str) -> Path:
    """A path of a file of weights.

    Raises:
        argparse.ArgumentTypeError: as ``path``.
        ValueError: as ``common.saved_network.check_weights``.
    """
    found = path(text)
    check_weights(found)
    return found


def folder(text: str) -> Path:
    """A path of a folder, which need not be there yet.

    Raises:
        argparse.ArgumentTypeError: as ``path``; or it, or what it lies in, is something else than a folder.
    """
    found = path(text)
    for place in (found, *found.parents):
        try:
            if not stat.S_ISDIR(place.stat().st_mode):
                raise argparse.ArgumentTypeError(f"{place} is a file; give a folder")
            break
        except (FileNotFoundError, NotADirectoryError):
            pass  # its parent says more
        except (OSError, ValueError) as error:  # ValueError: a zero byte
            raise argparse.ArgumentTypeError(f"{place}: {getattr(error, 'strerror', None) or error}") from None
    return found


def _chosen_classes(given: tuple[int, ...] | None, dataset: DataSet, folder: DataFolder) -> tuple[int, ...]:
    """The labels to use.

    Raises:
        UserError: the data set has not all of them.
    """
    count = dataset.count_classes(folder)
    classes = (dataset.default_classes if given is None else given) or tuple(range(count))
    if max(classes) >= count:
        raise UserError(f"--classes {max(classes)}: {dataset.name} has the classes 0..{count - 1}; see --help")
    return classes


def _classes(text: str) -> tuple[int, ...]:
    """'0-24' or '3,1,7' or a mix of both, as labels in that order; none for 'all'."""
    if text == "all":
        return ()
    labels: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise ValueError(f"'{text}' is neither a range like 0-24 nor a list like 3,1,7")
        if len(first) > 4 or len(last) > 4:
            raise ValueError(f"'{text}' names a class that no data set has")
        labels += range(int(first), int(last if dash else first) + 1)
        if len(labels) > MOST_CLASSES:
            break
    if len(set(labels)) < len(labels):
        raise ValueError(f"'{text}' names a class twice")
    if len(labels) < 2:
        raise ValueError(f"'{text}' is one class; a classifier needs two")
    return tuple(labels)


def _classes_text(labels: Sequence[int]) -> str:
    """Labels as a NAME has them: '0-24', or '3+1+7'; neighbours that rise by one become a range; none: 'all'."""
    ranges: list[list[int]] = []
    for label in labels:
        if ranges and label == ranges[-1][1] + 1:
            ranges[-1][1] = label
        else:
            ranges.append([label, label])
    return "+".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges) or "all"


def one_line(error: Exception) -> str:
    """What the command line prints of an error: a line of printable letters, and not a long one."""
    if isinstance(error, OSError) and error.strerror:
        where = f" {error.filename}" if error.filename else ""
        text = (
            f"cannot read or write{where}: {error.strerror}; mend that and give the same command again, "
            "it resumes after the last finished epoch"
        )
    else:
        text = str(error)
    text = " ".join(text.split())  # a file's name may hold a line break
    if len(text) > LONGEST_LINE:  # a file quoted in it may hold anything; what to do stands at the end
        text = f"{text[: LONGEST_LINE // 2]} ... {text[-LONGEST_LINE // 4 :]}"
    return printable(text)


def printable(text: str) -> str:
    """The text without what a terminal would obey: other letters than printable ones are written as Python does."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
