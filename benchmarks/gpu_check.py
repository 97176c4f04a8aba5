"""What the tests cannot check where there is no GPU: about five minutes on one, and on a CPU as well.

    python benchmarks/gpu_check.py
    python benchmarks/gpu_check.py --network improved --precision float16 --limit 20

Trains each network for two epochs on drawn images in each precision, twice, and once more without deterministic
kernels, each run a script of the suite in a process of its own; and once in float32 on the CPU alone.

Prints a table: on what it was computed, the seconds of the second epoch, whether both runs left the same bytes, whether
all numbers are finite, and the test accuracy beside the CPU's, which differs by chance where images are few. Exits with
1 if a run failed, a number is not finite, or deterministic runs differ.
"""

import argparse
import math
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from common import process  # noqa: E402
from common.experiment import PRECISIONS  # noqa: E402
from common.reporting.run_folder import Run, find_runs, read_run  # noqa: E402

BIRDS = ("--weights", "none", "--image-size", "64", "--learning-rate", "0.001")
NETWORKS = {
    "improved": ("ex2_improvements", "--variant", "dropout"),
    "residual": ("bonus_residual", "--variant", "residual"),
    "resnet50": ("ex3_resnet_birds", "--variant", "finetune", *BIRDS),
    "resnet50, frozen normalisation": ("ex3_resnet_birds", "--variant", "finetune-frozen-bn", *BIRDS),
}
WITHOUT = ("--no-deterministic",)
COMPARED = ("history.csv", "metrics.json", "per_class.json")
HEADINGS = ("network", "precision", "device", "seconds", "same bytes", "finite", "accuracy", "CPU, float32")


@dataclass(frozen=True)
class Outcome:
    """A run, or why there is none."""

    run: Run | None
    error: str = ""


def train(arguments, network: str, flags: tuple[str, ...], output: Path, hide_gpu: bool = False) -> Outcome:
    """A run through its script, in a folder that has no other."""
    script, *own = NETWORKS[network]
    command = [sys.executable, str(ROOT / f"{script}.py"), *own, *flags, "--dataset", "synthetic", "--quiet"]
    command += ["--epochs", str(arguments.epochs), "--limit", str(arguments.limit)]
    command += ["--output", str(output), "--data-dir", str(arguments.folder / "data")]
    environment = {**os.environ, **({"CUDA_VISIBLE_DEVICES": "-1"} if hide_gpu else {})}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace")
    if done.returncode:
        return Outcome(None, (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
    return Outcome(read_run(find_runs(output)[0]))


def row(network: str, precision: str, outcomes: list[Outcome], reference: Outcome, deterministic: bool):
    """A line of the table, and whether all is well."""
    runs = [each.run for each in outcomes if each.run]
    if len(runs) < len(outcomes):
        error = next(each.error for each in outcomes if not each.run)
        return (network, precision, error, *["-"] * (len(HEADINGS) - 3)), False
    first = runs[0]
    same = all(
        (run.folder / name).read_bytes() == (first.folder / name).read_bytes() for run in runs for name in COMPARED
    )
    finite = all(math.isfinite(value) for run in runs for line in run.history for value in line.values())
    on_cpu = f"{reference.run.metrics['test_accuracy']:.4f}" if reference.run else reference.error
    cells = (
        network,
        precision,
        first.environment[-1]["device"],
        f"{first.timing['epoch_seconds'][-1]:.2f}",
        "yes" if same else "no",
        "yes" if finite else "no",
        f"{first.metrics['test_accuracy']:.4f}",
        on_cpu,
    )
    return cells, finite and (same or not deterministic)


def main() -> int:
    process.prepare()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--network", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--limit", type=int, default=100, help="training images a class (default: 100)")
    arguments = parser.parse_args()
    all_is_well = True
    print(f"| {' | '.join(HEADINGS)} |\n|{'---|' * len(HEADINGS)}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        arguments.folder = Path(folder)
        for network in arguments.network:
            reference = train(arguments, network, (), arguments.folder / network / "cpu", hide_gpu=True)
            ways = [(precision, ("--precision", precision), True) for precision in arguments.precision]
            for number, (name, flags, deterministic) in enumerate(
                [*ways, ("float32, not deterministic", WITHOUT, False)]
            ):
                folders = [arguments.folder / network / f"{number}-{turn}" for turn in range(2)]
                outcomes = [train(arguments, network, flags, folder) for folder in folders]
                cells, is_well = row(network, name, outcomes, reference, deterministic)
                print(f"| {' | '.join(cells)} |", flush=True)
                all_is_well &= is_well
    return 0 if all_is_well else 1


if __name__ == "__main__":
    sys.exit(main())
