"""Copies finished runs into docs/results and writes the README's tables from them.

    python docs/publish_results.py --output results

Text files and pictures only: no weights, no predictions; bfloat16 runs in a folder of their own. The
tables stand between the README's ``<!-- results: SCRIPT PRECISION -->`` (what each variant reaches, beside
the report) or ``<!-- comparison: SCRIPT PRECISION VARIANT -->`` (what each network costs and reaches, beside
that variant) and ``<!-- end -->`` marks.
"""

import argparse
import re
import shutil
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scipy.stats import ttest_rel  # noqa: E402

import bonus_residual  # noqa: E402
import ex1_basenet  # noqa: E402
import ex2_improvements  # noqa: E402
import ex3_resnet_birds  # noqa: E402
from common import tensorflow_setup  # noqa: E402

tensorflow_setup.configure()

from common import models  # noqa: E402
from common.experiment import PRECISIONS  # noqa: E402
from common.layer_table import multiply_adds  # noqa: E402
from common.results import Run, read_run  # noqa: E402
from common.summary import mean_and_deviation, on_the_report_s_images  # noqa: E402

SCRIPTS = (ex1_basenet, ex2_improvements, ex3_resnet_birds, bonus_residual)
EXERCISES = {script.EXERCISE.name: script.EXERCISE for script in SCRIPTS}
PUBLISHED = (".json", ".csv", ".md", ".png")
EVIDENCE = ROOT / "docs" / "results"
MARKS = re.compile(r"(<!-- (results|comparison): ([^>]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def publish(output: Path) -> None:
    """Copies the runs that are the exercises' own (no flag but ``--precision`` and ``--weights`` changed them).

    Comparisons come along if all runs have the same precision. A published run gives way to one of the same variant,
    seed and precision; one of settings that its variant does not have any more goes.
    """
    for name, exercise in EXERCISES.items():
        source = output / exercise.dataset / name
        experiments = {experiment.name: experiment for experiment in exercise.experiments}
        runs = [run for run in _runs(source) if _is_own(run, experiments)]
        precisions = {run.config["precision"] for run in runs}
        for run in runs:
            _copy(run.folder, _evidence(name, run.config["precision"]) / run.folder.relative_to(source))
        if len(precisions) == 1:
            _copy(source, _evidence(name, *precisions))
        for precision in PRECISIONS:
            for run in _runs(_evidence(name, precision)):
                if not _is_own(run, experiments):
                    shutil.rmtree(run.folder)


def _copy(folder: Path, to: Path) -> None:
    to.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.is_file() and path.suffix in PUBLISHED:
            shutil.copyfile(path, to / path.name)


def _runs(folder: Path) -> list[Run]:
    return [read_run(path) for path in sorted(folder.glob("*/seed-*"))]


def _evidence(script: str, precision: str) -> Path:
    root = EVIDENCE if precision == "float32" else EVIDENCE / precision
    return root / EXERCISES[script].dataset / script


def _published(script: str, precision: str) -> dict[str, list[Run]]:
    """The published runs, by the variant's name, in the exercise's order."""
    runs = _runs(_evidence(script, precision))
    names = (experiment.name for experiment in EXERCISES[script].experiments)
    of_each = {name: [run for run in runs if run.config["variant"] == name] for name in names}
    return {name: of_variant for name, of_variant in of_each.items() if of_variant}


def _is_own(run: Run, experiments: dict) -> bool:
    experiment = experiments.get(run.config["variant"])
    own_settings = experiment is not None and run.config["experiment"] == experiment.settings()
    return own_settings and on_the_report_s_images(run)


def results(script: str, precision: str) -> str:
    """Markdown: a line for each variant, mean ± sample standard deviation over its published seeds."""
    lines = [
        "| variant | seeds | epochs | validation accuracy | test loss | report | test accuracy | report | difference "
        "| seconds a run | pictures |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    runs = _published(script, precision)
    lines += [_row(each, runs[each.name]) for each in EXERCISES[script].experiments if each.name in runs]
    return "\n".join(lines) + "\n"


def comparison(script: str, precision: str, reference: str) -> str:
    """Markdown: what each network of CIFAR-100 costs, and how far its accuracy is from the reference's, seed by seed.

    Multiply-adds are for one image, forward. Of all epochs' seconds it is the first decile: other work on the
    machine only adds to them. The interval is that of Student's paired t-test, 95 %.
    """
    lines = [
        "| variant | seeds | parameters | multiply-adds | seconds an epoch | validation accuracy | test accuracy "
        f"| difference to `{reference}` (95 % interval) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    runs = _published(script, precision)
    for experiment in EXERCISES[script].experiments:
        if experiment.name not in runs:
            continue
        of_variant = runs[experiment.name]
        difference = _paired(of_variant, runs.get(reference, [])) if experiment.name != reference else "-"
        epochs = [seconds for run in of_variant for seconds in run.timing["epoch_seconds"]]
        accuracies = ([run.metrics[key] for run in of_variant] for key in ("val_accuracy", "test_accuracy"))
        cells = [
            f"`{experiment.name}`",
            ", ".join(str(run.seed) for run in of_variant),
            f"{of_variant[0].metrics['parameters']:,}",
            f"{multiply_adds(models.build(experiment, (32, 32, 3), 25)) / 1e6:.1f} M",
            f"{statistics.quantiles(epochs, n=10)[0]:.1f}",
            *map(mean_and_deviation, accuracies),
            difference,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _paired(runs: list[Run], others: list[Run]) -> str:
    by_seed = {run.seed: run.metrics["test_accuracy"] for run in others}
    pairs = [(run.metrics["test_accuracy"], by_seed[run.seed]) for run in runs if run.seed in by_seed]
    if not pairs:
        return "-"
    mean = statistics.mean(a - b for a, b in pairs)
    if len(pairs) < 2:
        return f"{mean:+.4f}"
    low, high = ttest_rel(*zip(*pairs)).confidence_interval(0.95)
    return f"{mean:+.4f} ({low:+.4f} to {high:+.4f})"


def _row(experiment, runs: list[Run]) -> str:
    accuracies = [run.metrics["test_accuracy"] for run in runs]
    epochs = [str(run.metrics["epochs"]) for run in runs]
    reported = experiment.reported
    pictures = runs[0].folder.relative_to(ROOT).as_posix()
    cells = [
        f"`{experiment.name}`",
        ", ".join(str(run.seed) for run in runs),
        ", ".join(epochs if len(set(epochs)) > 1 else epochs[:1]),
        mean_and_deviation([run.metrics["val_accuracy"] for run in runs]),
        mean_and_deviation([run.metrics["test_loss"] for run in runs]),
        f"{reported.loss:.4f}" if reported else "-",
        mean_and_deviation(accuracies),
        f"{reported.accuracy:.4f}" if reported else "-",
        f"{statistics.mean(accuracies) - reported.accuracy:+.4f}" if reported else "-",
        f"{statistics.mean(run.timing['total_seconds'] for run in runs):.0f}",
        f"[loss]({pictures}/loss.png), [accuracy]({pictures}/accuracy.png), "
        f"[confusion]({pictures}/confusion_matrix.png)",
    ]
    return f"| {' | '.join(cells)} |"


def write_readme(path: Path) -> None:
    """Puts a fresh table between each pair of marks."""
    text = path.read_text(encoding="utf-8")
    tables = {"results": results, "comparison": comparison}
    text = MARKS.sub(lambda match: match[1] + tables[match[2]](*match[3].split()) + match[4], text)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "results", help="where the runs are")
    arguments = parser.parse_args()
    if arguments.output.resolve().is_relative_to(EVIDENCE):
        parser.error(f"--output {arguments.output}: runs are published to docs/results, not from there")
    publish(arguments.output)
    write_readme(ROOT / "README.md")
