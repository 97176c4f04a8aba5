"""Looks for input that fails, for as long as one likes: prints the number of executions, and the first failure."""

import argparse
import faulthandler
import sys
import time
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from . import TARGETS
from .harness import fuzz

MOST_MEMORY = 6 << 30  # bytes, of addresses


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--target", choices=TARGETS, required=True)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0, help="of the first cases; each thousand has the next")
    arguments = parser.parse_args()
    faulthandler.enable()
    with suppress(ImportError):  # on Windows
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    until = time.monotonic() + arguments.seconds
    done, seed = 0, arguments.seed
    while time.monotonic() < until:
        try:
            done += fuzz(TARGETS[arguments.target], 1000, seed, until)
        except BaseException:
            print(f"{arguments.target}: failed after {done} executions, in the thousand of seed {seed}", flush=True)
            raise
        seed += 1
    print(f"{arguments.target}: {done} executions, seeds {arguments.seed} to {seed - 1}, no failure")
    return 0


sys.exit(main())
