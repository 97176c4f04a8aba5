"""This suite beside PyTorch (``pytorch_reference.py``), on the same networks and images.

    python benchmarks/pytorch_speed.py epochs                   seconds an epoch of each network
    python benchmarks/pytorch_speed.py study                    12 short runs of the small networks, whole commands
    python benchmarks/pytorch_speed.py study --network residual --precision bfloat16 --epochs 2 --way 0 1
    python benchmarks/pytorch_speed.py start                    what a command of exercise 1 takes beside its epochs

The ways take turns, a round at a time. In ``epochs`` each is a process of its own that trains and validates an epoch
when it is asked to; the first is not counted. In ``study`` a round is as many seeds of each network, and the suite's
seconds count the start, the figures and the saved network of every run, PyTorch's one start for all that a process
does. Prints medians, and writes everything as JSON.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from shared import (
    EXERCISES,
    NETWORKS,
    ROOT,
    EpochProcess,
    add_data_flags,
    answer,
    data_flags,
    require_pytorch,
    timed,
)
from training_speed import suite_epochs

from common import process, tensorflow_setup
from common.environment import processor
from common.errors import UserError
from common.files import write_json

REFERENCE = str(ROOT / "benchmarks" / "pytorch_reference.py")
PRECISIONS = ("float32", "bfloat16")
ROWS = (("basenet", "float32"), ("improved", "float32"), ("residual", "float32"), ("residual", "bfloat16"))
CORES = tensorflow_setup.available_threads()


def epoch_ways(arguments, network: str, precision: str) -> dict[str, list[str]]:
    """The command of an ``EpochProcess``, by way; that of the suite comes first."""
    own = EXERCISES[network].threads or CORES

    def suite(threads: int) -> list[str]:
        return [__file__, "epochs", *data_flags(arguments), "--worker", network, precision, str(threads)]

    ways = {"suite": suite(own)}
    if own != CORES:
        ways[f"suite, {CORES} threads"] = suite(CORES)
    ways["PyTorch"] = [REFERENCE, *data_flags(arguments), "--network", network, "--precision", precision, "--worker"]
    if shutil.which(os.environ.get("CXX", "g++")):
        ways["PyTorch, compiled"] = [*ways["PyTorch"], "--compile"]
    return ways


def measure_epochs(arguments) -> list[dict]:
    print("| network | precision | way | median seconds an epoch | ÷ suite, by round | ÷ suite, median | peak MB |")
    print("|---|---|---|---|---|---|---|", flush=True)
    rows = []
    for network, precision in ROWS:
        if network not in arguments.network or precision not in arguments.precision:
            continue
        ways = {way: EpochProcess(command) for way, command in epoch_ways(arguments, network, precision).items()}
        rounds = [{way: each.epoch_seconds() for way, each in ways.items()} for _ in range(arguments.rounds + 1)][1:]
        for way, each in ways.items():
            taken = [times[way] for times in rounds]
            ratios, peak = [times[way] / times["suite"] for times in rounds], each.close()
            print(
                f"| {network} | {precision} | {way} | {statistics.median(taken):.2f} | {by_round(ratios)} "
                f"| {statistics.median(ratios):.2f} | {peak:.0f} |",
                flush=True,
            )
            rows.append({"network": network, "precision": precision, "way": way, "seconds": taken, "peak_mb": peak})
    return rows


def suite_study(arguments, seeds: Sequence[int]) -> list[dict]:
    """The suite's runs, ``CORES`` at a time."""
    runs = []
    for exercise in {EXERCISES[network].name: None for network in arguments.network}:
        variants = [NETWORKS[network].name for network in arguments.network if EXERCISES[network].name == exercise]
        runs += suite_runs(
            arguments, exercise, variants, seeds, "--jobs", str(CORES), "--precision", arguments.precision
        )
    return runs


def suite_runs(arguments, exercise: str, variants: Sequence[str], seeds: Sequence[int], *flags: str) -> list[dict]:
    """The runs of one command of the suite."""
    with tempfile.TemporaryDirectory() as output:
        command = [str(ROOT / f"{exercise}.py"), *data_flags(arguments), "--quiet", "--output", output, *flags]
        command += ["--variant", *variants, "--seed", *map(str, seeds)]
        if arguments.epochs:
            command += ["--epochs", str(arguments.epochs)]
        subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
        return [
            json.loads(path.read_text()) | json.loads(path.with_name("metrics.json").read_text())
            for path in sorted(Path(output).rglob("timing.json"))
        ]


def pytorch_study(arguments, seeds: Sequence[int], *, processes: int) -> list[dict]:
    """PyTorch's runs in as many processes, which share the cores."""
    started = []
    for number in range(min(processes, len(seeds))):
        command = [REFERENCE, *data_flags(arguments), "--precision", arguments.precision]
        command += ["--network", *arguments.network, "--seed", *map(str, seeds[number::processes])]
        command += ["--threads", str(max(1, CORES // processes))]
        if arguments.epochs:
            command += ["--epochs", str(arguments.epochs)]
        started.append(subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True))
    lines = [line for each in started for line in each.communicate()[0].splitlines()]
    if any(each.returncode for each in started):
        raise UserError("a run of PyTorch has failed")
    return [json.loads(line) for line in lines]


def measure_study(arguments) -> list[dict]:
    # By way: how many runs at a time, and the runs of some seeds.
    ways: dict[str, tuple[int, Callable]] = {
        f"suite, --jobs {CORES}, one thread each": (CORES, suite_study),
        f"PyTorch, {CORES} threads, one after the other": (1, partial(pytorch_study, processes=1)),
        f"PyTorch, {CORES} processes of one thread": (CORES, partial(pytorch_study, processes=CORES)),
    }
    ways = {way: value for number, (way, value) in enumerate(ways.items()) if number in arguments.way}
    rows = [{"way": way, "seconds": [], "epochs_alone": [], "runs": []} for way in ways]
    for part in range(arguments.rounds):
        seeds = range(part * arguments.seeds, (part + 1) * arguments.seeds)
        for row, (at_a_time, work) in zip(rows, ways.values()):
            taken, runs = timed(work, arguments, seeds)
            print(f"{row['way']}: {len(runs)} runs in {taken:.1f} s", flush=True)
            row["seconds"].append(taken)
            row["epochs_alone"].append(sum(map(steady_seconds, runs)) / at_a_time)
            row["runs"] += runs
    print("\n| way | seconds, median | by round | epochs alone | ÷ first, by round | ÷ first | accuracy | peak MB |")
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        ratios = [own / first for own, first in zip(row["seconds"], rows[0]["seconds"])]
        print(
            f"| {row['way']} | {statistics.median(row['seconds']):.1f} | {by_round(row['seconds'], 1)} "
            f"| {statistics.median(row['epochs_alone']):.1f} | {by_round(ratios)} | {statistics.median(ratios):.2f} "
            f"| {statistics.mean(run['test_accuracy'] for run in row['runs']):.3f} "
            f"| {max(run['peak_memory_mb'] or 0 for run in row['runs'])} |"
        )
    return rows


def steady_seconds(run: dict) -> float:
    """Of a run's epochs, had each taken the median of those after the first."""
    taken = run["epoch_seconds"]
    return len(taken) * statistics.median(taken[1:] or taken)


def measure_start(arguments) -> list[dict]:
    print("| round | seconds of the command | of its epochs | the rest | first epoch, above the median | peak MB |")
    print("|---|---|---|---|---|---|", flush=True)
    rows = []
    for seed in range(arguments.rounds):
        taken, (run,) = timed(suite_runs, arguments, "ex1_basenet", ["adam"], [seed])
        epochs = run["epoch_seconds"]
        row = {
            "seconds": taken,
            "epochs": sum(epochs),
            "rest": taken - sum(epochs),
            "first_above_median": epochs[0] - statistics.median(epochs),
            "peak_mb": run["peak_memory_mb"] or 0,
        }
        print(f"| {seed + 1} | {' | '.join(f'{value:.1f}' for value in row.values())} |", flush=True)
        rows.append(row)
    medians = [statistics.median(row[key] for row in rows) for key in rows[0]]
    print(f"| median | {' | '.join(f'{value:.1f}' for value in medians)} |")
    return rows


def by_round(values: Sequence[float], digits: int = 2) -> str:
    return ", ".join(f"{value:.{digits}f}" for value in values)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    measures = parser.add_subparsers(dest="measure", required=True)

    def add(name: str, measure: Callable, networks: Sequence[str], epochs: int | None) -> argparse.ArgumentParser:
        one = measures.add_parser(name)
        add_data_flags(one)
        one.add_argument("--rounds", type=int, choices=range(1, 101), metavar="N", default=3, help="(default: 3)")
        one.add_argument("--json", type=Path, default=Path(f"pytorch_speed_{name}.json"), help="where the seconds go")
        if networks:
            one.add_argument("--network", nargs="+", choices=NETWORKS, default=networks)
        if name != "epochs":
            one.add_argument("--epochs", type=int, default=epochs, help=f"of a run (default: {epochs or 25})")
        one.set_defaults(measure=measure)
        return one

    of_epochs = add("epochs", measure_epochs, list(NETWORKS), None)
    of_epochs.add_argument("--precision", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    of_epochs.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    study = add("study", measure_study, ["basenet", "improved"], 5)
    study.add_argument("--precision", choices=PRECISIONS, default="float32")
    study.add_argument("--seeds", type=int, default=2, help="runs of each network in a round (default: 2)")
    study.add_argument("--way", type=int, nargs="+", default=range(3), help="which, counted from 0 (default: all)")
    add("start", measure_start, (), None)
    return parser


def main() -> None:
    process.prepare()
    arguments = make_parser().parse_args()
    if getattr(arguments, "worker", None):
        network, precision, threads = arguments.worker
        tensorflow_setup.configure(int(threads))
        answer(suite_epochs(arguments, network, precision))
        return
    require_pytorch()
    print(f"{arguments.dataset}, {processor()}, {CORES} cores, {arguments.rounds} rounds\n")
    rows = arguments.measure(arguments)
    write_json(arguments.json, {"dataset": arguments.dataset, "processor": processor(), "cores": CORES, "rows": rows})


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
