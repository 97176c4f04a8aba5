"""How many runs an hour: several at a time against one after the other with all threads, and on Ray.

    python benchmarks/many_runs.py --data-dir data                       BaseNet with Adam, 12 seeds
    python benchmarks/many_runs.py --data-dir data --epochs 3 --same     the same bytes in every way?

The ways take turns, a part of the seeds at a time, each a whole command with its start, into a folder of its own.
"""

import argparse
import hashlib
import json
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from shared import ROOT, command_seconds

from common import process
from common.environment import processor
from common.reporting.run_folder import CHECKPOINT, MANIFEST
from common.tensorflow_setup import available_threads

MAY_DIFFER = {"timing.json", "environment.json", MANIFEST}  # the manifest has the checksums of the other two


def ways(cores: int) -> dict[str, list[str]]:
    """Flags by what they do; the first is what the others are compared with."""
    return {
        f"--threads {cores}, one after the other": ["--threads", str(cores)],
        "one thread, one after the other": ["--threads", "1"],
        f"--jobs {cores}, one thread each": ["--jobs", str(cores)],
        "--engine ray, one thread each": ["--engine", "ray"],
    }


def seconds(arguments, flags: list[str], seeds: list[int], output: Path) -> float:
    """Of one command, its start included."""
    command = [str(ROOT / arguments.script), "--variant", *arguments.variant, "--quiet"]
    command += ["--data-dir", str(arguments.data_dir), "--dataset", arguments.dataset, "--output", str(output)]
    command += ["--seed", *map(str, seeds), *flags]
    if arguments.epochs:
        command += ["--epochs", str(arguments.epochs)]
    return command_seconds(command)


def content(path: Path) -> list[bytes]:
    """The bytes of a file; without the date of a saved network, and the times of a checkpoint."""
    if path.name == CHECKPOINT:
        with open(path, "rb") as file:
            history, _ = json.loads(str(np.lib.format.read_array(file)))
            return [json.dumps(history).encode(), file.read()[: -hashlib.sha256().digest_size]]
    if path.suffix != ".keras":
        return [path.read_bytes()]
    with zipfile.ZipFile(path) as archive:
        return [archive.read(name) for name in ("config.json", "model.weights.h5")]


def differing(one: Path, other: Path) -> list[str]:
    """The files of runs in one folder that are missing or different in the other, but for times and environment."""
    files = [path for path in sorted(one.rglob("seed-*/*")) if path.name not in MAY_DIFFER]
    assert files, f"no runs in {one}"
    return [
        str(path.relative_to(one))
        for path in files
        if not (same := other / path.relative_to(one)).exists() or content(same) != content(path)
    ]


def main() -> None:
    process.prepare()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--script", default="ex1_basenet.py")
    parser.add_argument("--variant", nargs="+", default=["adam"])
    parser.add_argument("--dataset", default="cifar100")
    parser.add_argument("--data-dir", type=Path, default=ROOT / "data")
    parser.add_argument("--seeds", type=int, default=12, help="how many (default: 12)")
    parser.add_argument(
        "--rounds",
        type=int,
        default=2,
        choices=range(1, 100),
        metavar="N",
        help="parts that the seeds are done in (default: 2)",
    )
    parser.add_argument("--epochs", type=int, help="in place of the variant's own")
    parser.add_argument("--way", type=int, nargs="+", help="which of the ways, counted from 0 (default: all)")
    parser.add_argument("--same", action="store_true", help="say whether the ways with one thread left the same bytes")
    arguments = parser.parse_args()
    arguments.data_dir = arguments.data_dir.resolve()
    arguments.rounds = min(arguments.rounds, arguments.seeds)

    chosen = {
        name: flags
        for number, (name, flags) in enumerate(ways(available_threads()).items())
        if arguments.way is None or number in arguments.way
    }
    taken: dict[str, list[float]] = {name: [] for name in chosen}
    with tempfile.TemporaryDirectory() as folder:
        outputs = {name: Path(folder) / str(number) for number, name in enumerate(chosen)}
        for part in range(arguments.rounds):
            seeds = list(range(part, arguments.seeds, arguments.rounds))
            for name, flags in chosen.items():
                taken[name].append(seconds(arguments, flags, seeds, outputs[name]))
                print(f"{name}: {len(seeds)} seeds in {taken[name][-1]:.0f} s", flush=True)
        runs = arguments.seeds * len(arguments.variant)
        print(f"\n{runs} runs on {processor()}, {available_threads()} cores\n")
        print("| way | seconds | runs an hour | throughput, to the first | ratio by round |\n|---|---|---|---|---|")
        first = next(iter(taken.values()))
        for name, values in taken.items():
            rounds = ", ".join(f"{base / value:.2f}" for base, value in zip(first, values))
            whole = sum(values)
            print(f"| {name} | {whole:.0f} | {3600 * runs / whole:.0f} | {sum(first) / whole:.2f} | {rounds} |")
        if arguments.same:
            with_one_thread = [name for name in chosen if "one thread" in name]
            for name in with_one_thread[1:]:
                files = differing(outputs[with_one_thread[0]], outputs[name])
                print(f"{name}: {'; '.join(files) or 'every file the same bytes, but for times and environment'}")


if __name__ == "__main__":
    main()
