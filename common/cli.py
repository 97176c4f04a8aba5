"""The flags all scripts share. TensorFlow is imported only once there is something to train."""

import argparse
import gc
import math
import os
import signal
import sys
from pathlib import Path

from common.datasets import CLASS_COUNTS, IMAGE_SIZES, RESIZE
from common.errors import UserError
from common.experiment import PRECISIONS, Exercise, Experiment

IMAGE_SHAPE = (32, 32, 3)


def main(exercise: Exercise, argv: list[str] | None = None) -> int:
    """Runs the command line of an exercise and returns 0, or 2 after an error.

    Bad flags exit with 2, Ctrl-C with 130, from here.
    """
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.reconfigure(errors="replace")  # a terminal without "±" or "→" is no reason to stop
    signal.signal(signal.SIGINT, _stop)
    arguments = parse(exercise, argv)
    try:
        if arguments.list:
            print_list(exercise)
        elif arguments.table:
            print_tables(exercise, arguments)
        else:
            run_all(exercise, arguments)
        print(end="", flush=True)
    except BrokenPipeError:  # nobody reads on, as in `... --list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0 if arguments.list or arguments.table else 2
    except (UserError, OSError) as error:
        print(f"error: {_one_line(error)}", file=sys.stderr)
        return 2
    return 0


def parse(exercise: Exercise, argv: list[str] | None = None) -> argparse.Namespace:
    """The flags, checked; exits with code 2 and one line if they are bad."""
    names = [experiment.name for experiment in exercise.experiments]
    parser = _Parser(prog=f"{exercise.name}.py", description=exercise.description, allow_abbrev=False)
    add = parser.add_argument
    add("--variant", nargs="+", metavar="NAME", default=list(exercise.default),
        help=f"which experiments: {', '.join(names)}, or all (default: {' '.join(exercise.default)})")
    add("--list", action="store_true", help="say what the variants are, and exit")
    add("--table", action="store_true", help="print each variant's network in the report's format, and exit")
    birds, counts = exercise.dataset == "cub200", CLASS_COUNTS[exercise.dataset]
    add("--dataset", choices=counts, default=exercise.dataset,
        help=f"synthetic: drawn images that need no download (default: {exercise.dataset})")
    add("--data-dir", type=Path, metavar="DIR", default=Path("data"),
        help="where the data set is, or is downloaded to (default: data)")
    add("--classes", type=_classes, metavar="A-B or A,B,...",
        help=f"labels to use, relabelled 0, 1, ... in this order (default: {'all' if birds else '0-24'})")
    add("--limit", type=_positive_integer, metavar="N", help="at most N training images a class, for a quick try")
    add("--seed", type=_seed, nargs="+", metavar="N", default=[0], help="one run for each seed (default: 0)")
    add("--epochs", type=_positive_integer, metavar="N", help="override the experiment's epochs")
    add("--batch-size", type=_positive_integer, metavar="N", help="override the experiment's batch size")
    add("--learning-rate", type=_positive_number, metavar="X", help="override the experiment's learning rate")
    add("--validation-fraction", type=_fraction, metavar="F", help="override the part held out, 0 < F < 1")
    add("--precision", choices=PRECISIONS, default="float32",
        help="bfloat16: mixed precision, for processors that have it (default: float32)")
    if birds:
        add("--weights", default="imagenet", metavar="WEIGHTS",
            help="ResNet50's: imagenet (downloaded by Keras), a .weights.h5 file, or none (default: imagenet)")
        sizes = ", ".join(f"{name} {size}" for name, size in IMAGE_SIZES.items())
        add("--image-size", type=_image_size, metavar="N", help=f"images are resized to N×N (default: {sizes})")
        add("--resize", choices=RESIZE, default="squash",
            help="how a photo becomes a square: squash its sides, pad it with black, or crop it (default: squash)")
    add("--output", type=Path, metavar="DIR", default=Path("results"), help="where runs go (default: results)")
    add("--force", action="store_true", help="train again where a finished run is")
    add("--quiet", action="store_true", help="no progress bars")
    arguments = parser.parse_args(argv)

    for name in arguments.variant:
        if name not in (*names, "all"):
            parser.error(f"--variant {name} is not one of {', '.join(names)}, all")
    if "all" in arguments.variant:
        arguments.variant = names
    count = counts[arguments.dataset]
    if arguments.classes is None:
        arguments.classes = tuple(range(count if birds else 25))
    if birds:
        arguments.image_size = arguments.image_size or IMAGE_SIZES[arguments.dataset]
        if arguments.weights not in ("imagenet", "none") and not Path(arguments.weights).is_file():
            parser.error(f"--weights {arguments.weights} is not a file, nor imagenet or none")
    if max(arguments.classes) >= count:
        parser.error(f"--classes {max(arguments.classes)}: {arguments.dataset} has the classes 0..{count - 1}")
    for flag, values in (("--variant", arguments.variant), ("--seed", arguments.seed)):
        if len(set(values)) < len(values):
            parser.error(f"{flag} names one value twice")
    return arguments


def print_list(exercise: Exercise) -> None:
    """A line for each variant: name, what it is, the report's accuracy, its figures."""
    width = max(len(experiment.name) for experiment in exercise.experiments)
    for experiment in exercise.experiments:
        reported = experiment.reported
        line = f"{experiment.name:{width}}  {experiment.description}"
        if reported:
            line += f"; report: {reported.accuracy:.4f}"
            line += f", figures {', '.join(map(str, reported.figures))}" if reported.figures else ", no figures"
        else:
            line += "; report: no numbers"
        print(line)


def print_tables(exercise: Exercise, arguments: argparse.Namespace) -> None:
    """The networks of the variants in the report's table format."""
    from common import tensorflow_setup

    tensorflow_setup.configure()
    from common import models
    from common.layer_table import layer_table

    birds = exercise.dataset == "cub200"
    shape = (arguments.image_size, arguments.image_size, 3) if birds else IMAGE_SHAPE
    for experiment in _chosen(exercise, arguments):
        print(f"{experiment.name}\n\n{layer_table(models.build(experiment, shape, len(arguments.classes)))}")


def run_all(exercise: Exercise, arguments: argparse.Namespace) -> None:
    """Every variant with every seed, then the comparison figures and the table of results."""
    from common import datasets, tensorflow_setup

    selection = (arguments.dataset, arguments.data_dir, arguments.classes, arguments.limit)
    if exercise.dataset == "cub200":
        data = datasets.load_birds(*selection, arguments.image_size, arguments.resize)
    else:
        data = datasets.load(*selection)
    device = tensorflow_setup.configure()
    print(
        f"{data.name}: {len(data.class_names)} classes, {len(data.train_images):,} images to train and validate, "
        f"{len(data.test_images):,} to test, on {device}",
        flush=True,
    )
    from common import plotting, runner, summary

    gc.freeze()  # modules stay; collections, several a run, need not look through them again
    settings = runner.Settings(
        arguments.output,
        arguments.precision,
        arguments.force,
        arguments.quiet,
        device,
        getattr(arguments, "weights", "imagenet"),
    )
    in_parts = (
        each.in_parts(arguments.image_size, arguments.batch_size or each.batch_size) if each.trains_resnet50 else each
        for each in _chosen(exercise, arguments)
    )
    chosen = [
        runner.override(
            experiment,
            epochs=arguments.epochs,
            batch_size=arguments.batch_size,
            learning_rate=arguments.learning_rate,
            validation_fraction=arguments.validation_fraction,
        )
        for experiment in in_parts
    ]
    runs = {}
    for seed in arguments.seed:
        for experiment in chosen:
            runs[experiment.name, seed] = run = runner.run(exercise.name, experiment, data, seed, settings)
            print(summary.result_line(run), flush=True)
        if exercise.compare and set(exercise.compare) <= set(arguments.variant):
            for metric in plotting.METRICS:
                path = arguments.output / data.name / exercise.name / f"comparison-{metric}-seed-{seed}.png"
                plotting.plot_comparison([runs[name, seed] for name in exercise.compare], metric, path)
    print()
    print(summary.table(chosen, list(runs.values())))


def _chosen(exercise: Exercise, arguments: argparse.Namespace) -> list[Experiment]:
    return [experiment for experiment in exercise.experiments if experiment.name in arguments.variant]


def _stop(signal_number, frame):
    """Ctrl-C: all that counts is on disk, so leave at once.

    A KeyboardInterrupt would be lost where it lands in a finalizer of TensorFlow's, and the run go on.
    """
    os.write(2, b"\nstopped; the same command goes on after the last finished epoch\n")
    os._exit(130)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        self.exit(2, f"error: {message}; see python {self.prog} --help\n")


def _positive_integer(text: str) -> int:
    return _number(text, int, lambda value: 0 < value < 2**31, "a whole number from 1")


def _seed(text: str) -> int:
    return _number(text, int, lambda value: 0 <= value < 2**31, "a whole number from 0 to 2147483647")


def _image_size(text: str) -> int:
    return _number(text, int, lambda value: 32 <= value <= 1024, "a whole number from 32 to 1024")


def _positive_number(text: str) -> float:
    return _number(text, float, lambda value: 0 < value < math.inf, "a number above 0")


def _fraction(text: str) -> float:
    return _number(text, float, lambda value: 0 < value < 1, "a number between 0 and 1")


def _number(text: str, kind, is_good, what: str):
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not is_good(value):
        raise argparse.ArgumentTypeError(f"'{text}' is not {what}")
    return value


def _classes(text: str) -> tuple[int, ...]:
    """'0-24' or '3,1,7' or a mix of both, as labels in that order."""
    labels = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise argparse.ArgumentTypeError(f"'{text}' is neither a range like 0-24 nor a list like 3,1,7")
        if len(first) > 4 or len(last) > 4:
            raise argparse.ArgumentTypeError(f"'{text}' names a class that no data set has")
        labels += range(int(first), int(last if dash else first) + 1)
    if len(set(labels)) < len(labels):
        raise argparse.ArgumentTypeError(f"'{text}' names a class twice")
    if len(labels) < 2:
        raise argparse.ArgumentTypeError(f"'{text}' is one class; a classifier needs two")
    return tuple(labels)


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f" {error.filename}" if error.filename else ""
        return (
            f"cannot read or write{where}: {error.strerror}; mend that and give the same command again, "
            "it goes on after the last finished epoch"
        )
    return " ".join(str(error).split())
