"""What a finished run says of pictures: the most probable classes, and where its network looks.

    python predict.py results/cifar100/ex2_improvements/dropout/seed-0 photo.jpg
    python predict.py results/cub200/ex3_resnet_birds/linear/seed-0 photos/ --json > predictions.json
    python predict.py results/cifar100/bonus_residual/wide/seed-0 photo.jpg --explain

Pictures are prepared as the run's own were. The run stays as it is; docs/own_images.md says more.
"""

import argparse
import csv
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from common import cli, process, tensorflow_setup
from common.datasets.decoding import READ, SUFFIXES
from common.errors import UserError
from common.experiment import parse_number
from common.files import atomic_write
from common.saved_network import SavedRun
from ex3_resnet_birds import parse_weights

if TYPE_CHECKING:
    from common.predictor import Predictor

LONGEST_STEM = 200  # bytes of an image's name in that of its explanation; file systems take 255 in all


def main(argv: Sequence[str] | None = None) -> int:
    """Prints what the network says of each image; 0, or 2 after an error or if an image cannot be read.

    Args:
        argv: None: this process is the command, which signals end as ``common.cli.main`` has it.
    """
    if argv is None:
        process.prepare()
        cli.stop_on_signals("stopped")
    try:
        arguments = parse(argv)
        paths = find_images(arguments.images)
        check_output(arguments)
        SavedRun.of(arguments.run, arguments.weights)  # says what is wrong with it seconds before TensorFlow could
        tensorflow_setup.configure()
        from common.predictor import Predictor

        unreadable: list[Path] = []
        predictor = Predictor(arguments.run, arguments.weights)
        arguments.form(results(predictor, paths, arguments, unreadable), arguments.explain)
        print(end="", flush=True)
    except BrokenPipeError:  # nobody reads on, as in `... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2
    except UserError as error:
        print(f"error: {cli.one_line(error)}", file=sys.stderr)
        return 2
    except OSError as error:
        what = f"cannot read or write {error.filename or 'a file'}: {error.strerror or error}"
        print(f"error: {cli.one_line(UserError(what))}", file=sys.stderr)
        return 2
    return 2 if unreadable else 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags.

    Raises:
        UserError: bad ones.
    """
    parser = cli.Parser(
        prog="predict.py",
        usage="python predict.py RUN_FOLDER IMAGE ... [flags]",
        description="The most probable classes of images, by a finished run's network.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("run", type=cli.path, metavar="RUN_FOLDER", help="of a finished run, such as results/.../NAME/seed-0")
    add("images", type=cli.path, nargs="+", metavar="IMAGE", help="an image, or a folder of them, with all below it")
    add(
        "--top",
        type=cli.argument(lambda text: parse_number(text, int, low=1)),
        default=5,
        metavar="N",
        help="how many classes of each image (default: 5)",
    )
    either = parser.add_mutually_exclusive_group().add_argument
    either("--json", dest="form", action="store_const", const=print_json, help="a JSON list, in place of a table")
    either("--csv", dest="form", action="store_const", const=print_csv, help="comma-separated, a line for each class")
    add("--explain", action="store_true", help="a picture of where the network looks, for each image (Grad-CAM)")
    add(
        "--output",
        type=cli.folder,
        metavar="DIR",
        help="where those pictures go (default: explanations, in the working folder)",
    )
    add(
        "--weights",
        type=cli.argument(parse_weights),
        metavar="VALUE",
        help="ResNet50's, for a head on its features: imagenet, a .weights.h5 file, or none (default: none if the run "
        "had those, else imagenet)",
    )
    add("--quiet", action="store_true", help="no progress bar")
    arguments = parser.parse_args(argv)
    if arguments.output and not arguments.explain:
        parser.error("--output is where the pictures of --explain go; give both")
    arguments.form = arguments.form or print_table
    arguments.output = arguments.output or Path("explanations")
    return arguments


def find_images(given: Iterable[Path]) -> list[Path]:
    """The files given, and those with a suffix of images below the folders given, sorted, without hidden ones.

    Raises:
        UserError: a path that does not exist, or a folder without images.
    """
    found = []
    for path in given:
        if path.is_dir():
            below = sorted(
                each
                for each in path.rglob("*")
                if each.suffix.lower() in SUFFIXES
                and not any(part.startswith(".") for part in each.relative_to(path).parts)
                and each.is_file()
            )
            if not below:
                raise UserError(f"{path} holds no image, a file whose name ends with {', '.join(READ)}")
            found += below
        elif path.exists():
            found.append(path)
        else:
            raise UserError(f"{path} does not exist; give images, or folders of them")
    return found


def check_output(arguments: argparse.Namespace) -> None:
    """Raises UserError if pictures would go where images are read from, to be read as such the next time."""
    output = arguments.output.resolve()
    for folder in arguments.images:
        if arguments.explain and folder.is_dir() and output.is_relative_to(folder.resolve()):
            raise UserError(f"{arguments.output} is in the folder of images {folder}; choose another with --output")


@dataclass(frozen=True)
class Result:
    """What the network says of an image: the most probable classes with their probabilities; the picture of why."""

    path: Path
    predictions: list[tuple[str, float]]
    explanation: Path | None


def results(
    predictor: "Predictor", paths: Sequence[Path], arguments: argparse.Namespace, unreadable: list[Path]
) -> Iterator[Result]:
    """The results, image by image; one that cannot be read is a line on stderr, and put into ``unreadable``."""
    explains = arguments.explain and predictor.can_explain
    if arguments.explain and not explains:
        print("warning: this network has no maps of an image, so --explain has nothing to draw", file=sys.stderr)
    if explains:
        arguments.output.mkdir(parents=True, exist_ok=True)
    for path in with_progress(paths) if sys.stderr.isatty() and not arguments.quiet else paths:
        try:
            probabilities = predictor.predict(path)
        except UserError as error:
            unreadable.append(path)
            print(f"error: {cli.one_line(error)}", file=sys.stderr, flush=True)
            continue
        labels = (-probabilities).argsort(kind="stable")[: arguments.top]
        explanation = None
        if explains:
            explanation = explanation_path(arguments, path)
            picture = predictor.explain(path, labels[0])
            atomic_write(explanation, partial(picture.save, format="png"))
        # As text, a float32 has no more digits than it knows.
        predictions = [(predictor.classes[label], float(str(probabilities[label]))) for label in labels]
        yield Result(path, predictions, explanation)


def with_progress(paths: Sequence[Path]) -> Iterator[Path]:
    """The paths, with a bar on stderr that says how many are done."""
    from rich.console import Console
    from rich.progress import Progress

    # Where stdout is the same terminal, lines go above the bar; where it is a file or a pipe, they must go there.
    with Progress(console=Console(stderr=True), redirect_stdout=sys.stdout.isatty(), transient=True) as bar:
        yield from bar.track(paths, description="images")


def print_table(results: Iterable[Result], explained: bool) -> None:
    """The file's name and, below it, a line for each class."""
    for result in results:
        rows = [(cli.printable(name), probability) for name, probability in result.predictions]
        width = max(len(name) for name, _ in rows)
        lines = [str(result.path), *(f"  {name:{width}}  {probability:.4f}" for name, probability in rows)]
        if result.explanation:
            lines.append(f"  explanation: {result.explanation}")
        print("\n".join(map(cli.printable, lines)), flush=True)


def print_json(results: Iterable[Result], explained: bool) -> None:
    """A list, an image a line."""
    end = "["
    for result in results:
        predictions = [{"class": name, "probability": probability} for name, probability in result.predictions]
        value = {"file": str(result.path), "predictions": predictions}
        if explained:
            value["explanation"] = result.explanation and str(result.explanation)
        print(f"{end}\n{json.dumps(value)}", end="", flush=True)
        end = ","
    print("[]" if end == "[" else "\n]")


def print_csv(results: Iterable[Result], explained: bool) -> None:
    """A line for each class of each image, the most probable first."""
    print("file,rank,class,probability" + (",explanation" if explained else ""))
    for result in results:
        lines = csv.writer(sys.stdout, lineterminator="\n")
        for rank, (name, probability) in enumerate(result.predictions, start=1):
            lines.writerow([result.path, rank, name, probability, *([result.explanation] if explained else [])])
        sys.stdout.flush()


def explanation_path(arguments: argparse.Namespace, path: Path) -> Path:
    """Where an explanation goes: one file for each run and image, however many images have one name."""
    what = f"{arguments.run.resolve()}\n{path.resolve()}"
    stem = os.fsencode(path.stem)[:LONGEST_STEM].decode(errors="ignore")
    return arguments.output / f"{stem}-{hashlib.sha256(os.fsencode(what)).hexdigest()[:8]}.png"


if __name__ == "__main__":
    sys.exit(main())
