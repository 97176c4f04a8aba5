"""All finished runs of any number of output folders in one table, results.csv, such as those of several machines.

    python -m common.collect results other/results --csv all.csv

A run that is in several folders stands in the table once if its results are the same bytes everywhere; else each of
them has a row, and a line on stderr says where they are.
"""

import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path

from common import process
from common.cli import Parser, one_line, unread_stdout
from common.display import count
from common.errors import UserError
from common.files import atomic_write
from common.reporting.run_folder import Run, find_runs, read_run

RESULTS = ("config.json", "history.csv", "metrics.json", "per_class.json")
METRICS = ("test_accuracy", "test_loss", "test_top5_accuracy", "val_accuracy", "val_loss", "epochs", "best_epoch")
COLUMNS = (
    *("dataset", "script", "name", "seed", "precision"),
    *METRICS,
    *("parameters", "seconds", "peak_memory_mb", "device", "processor", "threads", "commit", "comparable", "folder"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the table; 0, or 1 if runs of the same name and seed differ or one is damaged, or 2 after an error."""
    if argv is None:
        process.prepare()
    parser = Parser(
        prog="-m common.collect",
        usage="python -m common.collect OUTPUT ... [--csv FILE]",
        description=(__doc__ or "").splitlines()[0],
    )
    parser.add_argument(
        "outputs", type=Path, nargs="+", metavar="OUTPUT", help="folders of runs, as --output names them"
    )
    parser.add_argument("--csv", type=Path, default=Path("results.csv"), metavar="FILE", help="default: results.csv")
    try:
        arguments = parser.parse_args(argv)
        if not arguments.csv.name or arguments.csv.is_dir():
            raise UserError(f"--csv {arguments.csv} is a folder; name a file in it")
        runs, differing, damaged = collect(arguments.outputs)
        write(runs, arguments.csv)
        for group in differing:
            print(f"differ: {' and '.join(str(run.folder) for run in group)}", file=sys.stderr)
        for reason in damaged:
            print(f"left out: {reason}", file=sys.stderr)
        print(f"{arguments.csv}: {count(len(runs), 'run')}", flush=True)
    except BrokenPipeError:  # nobody reads on, as in `... | true`; the table is there
        unread_stdout()
    except (UserError, OSError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    return 1 if differing or damaged else 0


def collect(outputs: Sequence[Path]) -> tuple[list[Run], list[list[Run]], list[str]]:
    """The finished runs below the folders, sorted by what they are; those of the same name that differ, together; and
    why others are left out.

    Raises:
        UserError: a folder without a finished run.
    """
    found: dict[tuple, list[Run]] = {}
    damaged: list[str] = []
    for output in outputs:
        folders = find_runs(output)
        if not folders:
            raise UserError(f"{output} holds no finished run; give the folder that --output named")
        for folder in folders:
            try:
                run = read_run(folder)
            except UserError as error:
                damaged.append(one_line(error))
                continue
            group = found.setdefault((run.dataset, run.script, run.name, run.seed), [])
            if all(_differ(run, other) for other in group):
                group.append(run)
    groups = [found[key] for key in sorted(found)]
    return [run for group in groups for run in group], [group for group in groups if len(group) > 1], damaged


def write(runs: Sequence[Run], path: Path) -> None:
    """The table, a row a run."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for run in runs:
        last = run.environment[-1]
        writer.writerow(
            {
                "dataset": run.dataset,
                "script": run.script,
                "name": run.name,
                "seed": run.seed,
                "precision": run.config["precision"],
                **{key: run.metrics[key] for key in (*METRICS, "parameters")},
                "seconds": run.timing["total_seconds"],
                "peak_memory_mb": run.timing["peak_memory_mb"],
                **{key: last[key] for key in ("device", "processor", "threads", "commit")},
                "comparable": run.not_comparable or "yes",
                "folder": run.folder.as_posix(),
            }
        )
    atomic_write(path, lambda file: file.write(text.getvalue().encode()))


def _differ(one: Run, other: Run) -> bool:
    return any((one.folder / name).read_bytes() != (other.folder / name).read_bytes() for name in RESULTS)


if __name__ == "__main__":
    sys.exit(main())
