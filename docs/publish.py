"""Publishes finished runs, and writes results.csv and the documentation's tables from all that are published.

    python docs/publish.py results                                    add every run below a folder
    python docs/publish.py results/cifar100/ex1_basenet/adam          add some of them
    python docs/publish.py                                            only write the tables again
    python docs/publish.py --remove cifar100/ex1_basenet/adam/seed-0  remove one, by its name

The tables stand between the marks ``<!-- results: SCRIPT PRECISION -->`` (what each variant reaches, beside the
report), ``<!-- comparison: SCRIPT PRECISION NAME -->`` (what each network costs and reaches, beside NAME),
``<!-- steps: SCRIPT PRECISION NAME -->`` (NAME's variant with other settings, beside it) or
``<!-- summary: NAME ... -->`` (accuracies alone), and ``<!-- end -->``, in README.md and docs/*.md.
"""

import argparse
import re
import shutil
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from common import cli, process, tensorflow_setup  # noqa: E402

process.prepare()
tensorflow_setup.configure()

import bonus_residual  # noqa: E402
import ex1_basenet  # noqa: E402
import ex2_improvements  # noqa: E402
import ex3_resnet_birds  # noqa: E402
from common.datasets import DATASETS  # noqa: E402
from common.datasets.image_data import ImageArray  # noqa: E402
from common.datasets.image_files import ImageFiles  # noqa: E402
from common.errors import UserError  # noqa: E402
from common.experiment import Exercise, Experiment  # noqa: E402
from common.files import atomic_write  # noqa: E402
from common.models.layer_table import multiply_adds  # noqa: E402
from common.reporting import publishing  # noqa: E402
from common.reporting.run_folder import Run  # noqa: E402
from common.trial import build_network, code_of  # noqa: E402

EXERCISES = {
    script.EXERCISE.name: script.EXERCISE
    for script in (ex1_basenet, ex2_improvements, ex3_resnet_birds, bonus_residual)
}
IMAGES = {"small images": ImageArray, "photographs": ImageFiles}  # of what is published
PUBLISHED = ROOT / "published"
MARKS = re.compile(r"(<!-- (results|comparison|steps|summary): ([^>]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def status(run: Run) -> str:
    """Whether today's code would train the run again."""
    experiment = _variants(EXERCISES[run.script]).get(run.variant)
    if experiment is None:
        return publishing.code_status(run, None, None)
    return publishing.code_status(run, experiment.settings(), _code(run.script, run.variant))


@cache
def _code(script: str, variant: str) -> dict[str, str]:
    exercise = EXERCISES[script]
    return code_of(exercise.experiment(variant), IMAGES[exercise.images])


def _variants(exercise: Exercise) -> dict[str, Experiment]:
    return {experiment.name: experiment for experiment in exercise.experiments}


def fill_tables(text: str, runs: list[Run]) -> str:
    """The text with a fresh table between each pair of marks, of the runs on the report's own images."""
    images = {name: DATASETS[exercise.images][0].name for name, exercise in EXERCISES.items()}
    runs = [run for run in runs if run.dataset == images[run.script]]

    def table(match: re.Match) -> str:
        if match[2] == "summary":
            reported = {name: each for exercise in EXERCISES.values() for name, each in exercise.reported.items()}
            return match[1] + publishing.summary_table(runs, match[3].split(), reported) + match[4]
        script, precision, reference = (*match[3].split(), "")[:3]
        exercise = EXERCISES[script]
        of_table = [run for run in runs if run.script == script and run.config["precision"] == precision]
        if match[2] == "results":
            return match[1] + publishing.results_table(of_table, exercise) + match[4]
        if match[2] == "steps":
            return match[1] + publishing.steps_table(of_table, exercise, reference) + match[4]
        shape = DATASETS[exercise.images][0].image_shape({})
        classes = len(DATASETS[exercise.images][0].default_classes)
        costs = {
            name: multiply_adds(build_network(experiment, shape, classes))
            for name, experiment in _variants(exercise).items()
            if any(run.variant == name for run in of_table)
        }
        return match[1] + publishing.comparison_table(of_table, exercise, reference, costs) + match[4]

    return MARKS.sub(table, text)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folders", nargs="*", type=Path, help="finished runs, or folders above them")
    parser.add_argument("--remove", nargs="+", metavar="RUN", default=[], help="DATASET/SCRIPT/NAME/seed-N")
    arguments = parser.parse_args()
    removed = [publishing.find(place, PUBLISHED) for place in arguments.remove]
    for run in publishing.add(arguments.folders, PUBLISHED, EXERCISES):
        print(f"published {run.folder.relative_to(ROOT)}")
    runs = [run for run in publishing.read_published(PUBLISHED) if run.folder not in removed]
    paths = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    texts = {path: fill_tables(path.read_text(encoding="utf-8"), runs) for path in paths}
    for folder in removed:
        shutil.rmtree(folder)
        print(f"removed {folder.relative_to(PUBLISHED)}")
    publishing.write_csv(runs, status, PUBLISHED / "results.csv")
    for path, filled in texts.items():
        if filled != path.read_text(encoding="utf-8"):
            atomic_write(path, lambda file, filled=filled: file.write(filled.encode()))
            print(f"wrote the tables of {path.relative_to(ROOT)}")


if __name__ == "__main__":
    try:
        main()
    except (UserError, OSError) as error:
        print(f"error: {cli.one_line(error)}", file=sys.stderr)
        sys.exit(2)
