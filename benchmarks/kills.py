"""Kills commands at random moments, and gives each again: does it leave the same bytes as one that nothing disturbed?

    python benchmarks/kills.py --data-dir data --weights FILE     20 kills of each kind of command

A kill is SIGKILL, in turn of the command's process alone and of all its processes, at a moment drawn evenly from its
first file to its end. Trainings are of few real images, since the moments matter and not the accuracy.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from many_runs import differing
from shared import ROOT

from common import process
from common.environment import processor

SMALL = ["--classes", "0-4"]
GRID = ["--dropout", "0.1", "0.2", "--seed", "0", "1"]
FINE_TUNED = ["finetune-staged", "finetune-second-order"]
KINDS = {
    "training": ["ex1_basenet.py", "--variant", "adam", *SMALL, "--epochs", "6"],
    "extraction": ["ex3_resnet_birds.py", "--variant", "logistic", "second-order", *SMALL, "--image-size", "96"],
    "fine-tuning": ["ex3_resnet_birds.py", "--variant", *FINE_TUNED, *SMALL, "--image-size", "64"],
    "sweep": ["ex2_improvements.py", "--variant", "dropout", *SMALL, "--epochs", "2", "--jobs", "2", *GRID],
    "report": ["reproduce_report.py", "--exercises", "1", "2", *SMALL, "--quick", "--seed", "0"],
}
NEEDS_WEIGHTS = ("extraction", "fine-tuning")
HALF_WRITTEN = (".partial", ".old", ".tmp", ".part")


def start(command: list[str]) -> subprocess.Popen:
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *command], start_new_session=True, **pipes)


def first_file(running: subprocess.Popen, output: Path) -> float:
    """The time of the command's first file, or of its end."""
    while running.poll() is None and not output.exists():
        time.sleep(0.01)
    return time.monotonic()


def carry_out(command: list[str], output: Path) -> float:
    """The command to its end; the seconds since its first file.

    Raises:
        SystemExit: it failed.
    """
    running = start(command)
    begin = first_file(running, output)
    said = running.communicate()[1]
    if running.returncode:
        sys.exit(f"exit {running.returncode}: {said.strip()}")
    return time.monotonic() - begin


def is_killed(command: list[str], output: Path, seconds: float, group: bool) -> bool:
    """Kills the command that long after its first file; False: it had come to its end."""
    running = start(command)
    first_file(running, output)
    try:
        running.communicate(timeout=seconds)
        return False
    except subprocess.TimeoutExpired:
        os.killpg(running.pid, signal.SIGKILL) if group else running.kill()
        running.wait()
        return True


def faults(undisturbed: Path, output: Path) -> list[str]:
    """What is not the same in two folders: files of runs, the page's text and figures, files left half-written."""
    found = [*differing(undisturbed, output), *differing(output, undisturbed)]
    pages = [*undisturbed.glob("report.md"), *undisturbed.glob("figures/*.png")]
    others = [output / page.relative_to(undisturbed) for page in pages]
    found += [
        other.name
        for page, other in zip(pages, others)
        if not other.exists() or other.read_bytes() != page.read_bytes()
    ]
    return found + [path.name for path in output.rglob(".*") if path.suffix in HALF_WRITTEN]


def main() -> int:
    process.prepare()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data-dir", type=Path, default=ROOT / "data")
    parser.add_argument("--weights", required=True, help="ResNet50's, as ex3_resnet_birds.py takes them")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=[*KINDS])
    parser.add_argument("--kills", type=int, default=20, help="of each kind (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    print(
        f"{processor()}\n\n| command | seconds from its first file on | kills | the same bytes |\n|---|---|---|---|",
        flush=True,
    )
    bad = 0
    for kind in arguments.kinds:
        folder = Path(tempfile.mkdtemp(prefix=f"kills-{kind}-"))
        output, undisturbed = folder / "out", folder / "undisturbed"
        command = [str(ROOT / KINDS[kind][0]), *KINDS[kind][1:], "--quiet", "--output", str(output)]
        command += ["--data-dir", str(arguments.data_dir.resolve())]
        command += ["--weights", arguments.weights] if kind in NEEDS_WEIGHTS else []
        seconds = carry_out(command, output)
        output.rename(undisturbed)
        kills = same = 0
        while kills < arguments.kills:
            moment = draw.uniform(0, seconds)
            if is_killed(command, output, moment, group=kills % 2 == 1):
                kills += 1
                carry_out(command, output)
                found = faults(undisturbed, output)
                same += not found
                if found:
                    kept = output.rename(folder / f"kill-{kills}")
                    print(
                        f"killed after {moment:.2f} s: {'; '.join(found)}; kept in {kept}", file=sys.stderr, flush=True
                    )
            shutil.rmtree(output, ignore_errors=True)
        print(f"| {kind} | {seconds:.0f} | {kills} | {same} |", flush=True)
        bad += kills - same
        if same == kills:
            shutil.rmtree(folder)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
