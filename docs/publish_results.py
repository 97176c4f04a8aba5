"""Copies finished runs into docs/results and writes the README's tables from them.

    python docs/publish_results.py --output results

Text files and pictures only: no weights, no predictions. The tables stand between the README's
``<!-- results: SCRIPT -->`` and ``<!-- end -->`` marks.
"""

import argparse
import re
import shutil
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import bonus_residual  # noqa: E402
import ex1_basenet  # noqa: E402
import ex2_improvements  # noqa: E402
import ex3_resnet_birds  # noqa: E402
from common.results import Run, read_run  # noqa: E402
from common.summary import mean_and_deviation, on_the_report_s_images  # noqa: E402

SCRIPTS = (ex1_basenet, ex2_improvements, ex3_resnet_birds, bonus_residual)
EXERCISES = {script.EXERCISE.name: script.EXERCISE for script in SCRIPTS}
PUBLISHED = (".json", ".csv", ".md", ".png")
EVIDENCE = ROOT / "docs" / "results"
MARKS = re.compile(r"(<!-- results: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def publish(output: Path) -> None:
    """Copies the runs that are the exercises' own (no flag but ``--precision`` changed them), and the comparisons.

    What was published of an exercise before goes first, if there are runs of it now.
    """
    for name, exercise in EXERCISES.items():
        source, target = output / exercise.dataset / name, EVIDENCE / exercise.dataset / name
        if not source.is_dir():
            continue
        shutil.rmtree(target, ignore_errors=True)
        folders = [source]
        for experiment in exercise.experiments:
            runs = map(read_run, sorted((source / experiment.name).glob("seed-*")))
            folders += [run.folder for run in runs if _is_own(run, experiment)]
        for folder in folders:
            to = target / folder.relative_to(source)
            to.mkdir(parents=True, exist_ok=True)
            for path in folder.iterdir():
                if path.is_file() and path.suffix in PUBLISHED:
                    shutil.copyfile(path, to / path.name)


def _is_own(run: Run, experiment) -> bool:
    return on_the_report_s_images(run) and run.config["experiment"] == experiment.settings()


def table(script: str) -> str:
    """Markdown: a line for each variant, mean ± sample standard deviation over its published seeds."""
    lines = [
        "| variant | seeds | precision | epochs | test loss | report | test accuracy | report | difference "
        "| seconds a run | pictures |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for experiment in EXERCISES[script].experiments:
        folders = sorted((EVIDENCE / EXERCISES[script].dataset / script / experiment.name).glob("seed-*"))
        if folders:
            lines.append(_row(experiment, [read_run(folder) for folder in folders]))
    return "\n".join(lines) + "\n"


def _row(experiment, runs: list[Run]) -> str:
    accuracies = [run.metrics["test_accuracy"] for run in runs]
    reported = experiment.reported
    pictures = runs[0].folder.relative_to(ROOT).as_posix()
    cells = [
        f"`{experiment.name}`",
        ", ".join(str(run.seed) for run in runs),
        ", ".join(dict.fromkeys(run.config["precision"] for run in runs)),
        ", ".join(str(epochs) for epochs in dict.fromkeys(run.metrics["epochs"] for run in runs)),
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
    path.write_text(MARKS.sub(lambda match: match[1] + table(match[2]) + match[3], text), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "results", help="where the runs are")
    publish(parser.parse_args().output)
    write_readme(ROOT / "README.md")
