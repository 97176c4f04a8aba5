"""Run folders: written whole or not at all, by one process at a time, and read back.

A run is prepared in a hidden folder beside its own (``.seed-0.partial``) that takes the final name
when everything is in it, so a reader sees all of a run or nothing.
"""

import csv
import json
import os
import shutil
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import filelock

from common.errors import UserError

STATE = ".state"  # in a run's folder until it is published: what training goes on from
SHOWN_DIFFERENCES = 4
HISTORY_FIELDS = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate")


def write_whole(path: Path, write) -> None:
    """Calls ``write`` with a binary file and puts what it wrote at ``path`` in one step."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except Exception:
        with suppress(OSError):
            temporary.unlink()
        raise


def write_json(path: Path, value) -> None:
    """Indented JSON, keys in the order given, numbers so that they read back exactly, in one step."""
    write_whole(path, lambda file: file.write((json.dumps(value, indent=2) + "\n").encode()))


@dataclass(frozen=True)
class Run:
    """A finished run, read back from its folder: the contents of its text files."""

    folder: Path
    config: dict
    history: list[dict]
    metrics: dict
    timing: dict

    @property
    def seed(self) -> int:
        return self.config["seed"]


def read_run(folder: Path) -> Run:
    """The run in a folder.

    Raises:
        UserError: the folder does not hold a whole run.
    """
    try:
        config, metrics, timing = (
            json.loads((folder / name).read_text(encoding="utf-8"))
            for name in ("config.json", "metrics.json", "timing.json")
        )
        return Run(folder, config, read_history(folder / "history.csv"), metrics, timing)
    except (FileNotFoundError, ValueError, KeyError) as error:
        raise UserError(f"{folder} does not hold a whole run ({error}); use --force to train it again") from error


def write_history(path: Path, history: list[dict]) -> None:
    """``history.csv``; floats are written so that they read back exactly."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, HISTORY_FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)


def read_history(path: Path) -> list[dict]:
    """The rows of ``history.csv`` as numbers."""
    with open(path, newline="", encoding="utf-8") as file:
        return [
            {name: int(row[name]) if name == "epoch" else float(row[name]) for name in HISTORY_FIELDS}
            for row in csv.DictReader(file)
        ]


class RunFolder:
    """Where one run goes: ``OUTPUT/DATASET/SCRIPT/VARIANT/seed-N``."""

    def __init__(self, output: Path, dataset: str, script: str, variant: str, seed: int):
        self.path = output / dataset / script / variant / f"seed-{seed}"
        self.partial = self.path.with_name(f".{self.path.name}.partial")
        self.state_file = self.partial / STATE

    @contextmanager
    def locked(self):
        """Keeps other processes from writing this run, until the block or the process ends.

        Raises:
            UserError: another process is writing it now.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(self.path.with_name(f".{self.path.name}.lock"), timeout=0)
        try:
            lock.acquire()
        except filelock.Timeout:
            raise UserError(f"another process is writing {self.path}; wait for it or stop it") from None
        try:
            yield
        finally:
            lock.release()

    def finished(self, config: dict) -> Run | None:
        """The finished run with these settings, if it is there.

        Raises:
            UserError: a run with other settings is there, finished or not.
        """
        folder, state = (self.path, "a finished") if self.path.exists() else (self.partial, "an unfinished")
        found = _read_config(folder)
        if found is not None and found != config:
            differences = _differences(found, config)
            more = f"; and {len(differences) - SHOWN_DIFFERENCES} more" if len(differences) > SHOWN_DIFFERENCES else ""
            raise UserError(
                f"{self.path} holds {state} run with other settings: "
                f"{'; '.join(differences[:SHOWN_DIFFERENCES])}{more}. "
                "Give another --output, or --force to replace it"
            )
        if not self.path.exists():
            return None
        (self.path / STATE).unlink(missing_ok=True)  # a kill just after publishing leaves it
        return read_run(self.path)

    def begin(self, config: dict) -> None:
        """Makes the partial folder, or keeps the one of the same settings that an interrupted run left."""
        if self.partial.exists():
            if _read_config(self.partial) == config:
                return
            self.discard()
        self.partial.mkdir()
        write_json(self.partial / "config.json", config)

    def discard(self) -> None:
        """Removes what an unfinished run left."""
        shutil.rmtree(self.partial)

    def publish(self) -> Run:
        """Gives the partial folder the run's name; a run that was there goes once the new one is in place."""
        old = self.path.with_name(f".{self.path.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if self.path.exists():
            os.rename(self.path, old)
        os.rename(self.partial, self.path)
        (self.path / STATE).unlink(missing_ok=True)  # not before the rename: until then a killed run still needs it
        shutil.rmtree(old, ignore_errors=True)
        return read_run(self.path)


def _read_config(folder: Path) -> dict | None:
    try:
        return json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(f"{folder / 'config.json'} is damaged ({error}); remove {folder}") from error


def _differences(found, asked, name: str = "") -> list[str]:
    """What differs between two configurations, one phrase for each setting."""
    if isinstance(found, list) and isinstance(asked, list):
        found, asked = dict(enumerate(found)), dict(enumerate(asked))
    if isinstance(found, dict) and isinstance(asked, dict):
        names = list(found) + [key for key in asked if key not in found]
        return [
            phrase
            for key in names
            for phrase in _differences(found.get(key), asked.get(key), f"{name}.{key}" if name else key)
        ]
    return [] if found == asked else [f"{name} is {json.dumps(found)} there, {json.dumps(asked)} here"]
