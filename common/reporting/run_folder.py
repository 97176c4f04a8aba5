"""Run folders: written whole or not at all, by one process at a time, and read back.

A run is prepared in a hidden folder beside its own (``.seed-0.partial``) that takes the final name
when everything is in it, so a reader sees all of a run or nothing. Figures come last: they are drawn
from the finished folder, and can be drawn again at any time.
"""

import csv
import io
import json
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.files import LARGEST_TEXT, copy, locked, make_folder, read_json, read_text, rename, sha256_of, write_json
from common.reporting import run_contents

CHECKPOINT = ".checkpoint"  # what training resumes from, also for more epochs than the run had
MANIFEST = ".manifest"  # size and checksum of each file that carries a result, written last
TEXT_FILES = ("config.json", "metrics.json", "per_class.json", "timing.json", "environment.json", "history.csv")
NETWORK_FILES = ("config.json", "model.keras")  # what its network is asked by
SHOWN_DIFFERENCES = 4
IN_WORDS = {"dataset.sha256": "it was made from other images"}
MATRIX_ENTRY = 4  # bytes that an entry of a large confusion matrix takes in JSON: nearly all are 0
HISTORY_FIELDS = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate")
BEFORE_FINGERPRINTS = "before fingerprints"  # in place of the code's fingerprint, in runs older than it


@dataclass(frozen=True)
class Run:
    """A finished run, read back from its folder: the contents of its text files.

    Attributes:
        folder: ``OUTPUT/DATASET/SCRIPT/NAME/seed-N``.
        config: everything that decides the result.
        history: a row an epoch, with the keys ``HISTORY_FIELDS``.
        metrics: of the evaluated weights, on the test and on the validation images.
        per_class: ``accuracy`` (classes,) and ``confusion_matrix`` (classes, classes; rows: true class).
        timing: seconds and memory.
        environment: a row for each process that worked on the run.
    """

    folder: Path
    config: dict
    history: list[dict]
    metrics: dict
    per_class: dict
    timing: dict
    environment: list[dict]

    @property
    def script(self) -> str:
        return self.config["script"]

    @property
    def variant(self) -> str:
        return self.config["variant"]

    @property
    def name(self) -> str:
        """The variant's name and, behind commas, the settings that differ from its own."""
        return self.config["name"]

    @property
    def seed(self) -> int:
        return self.config["seed"]

    @property
    def dataset(self) -> str:
        return self.config["dataset"]["name"]

    @property
    def not_comparable(self) -> str | None:
        """Why the run does not compare with the report; None if it does: the report's own images, whole."""
        return self.config["dataset"]["not_comparable"]

    @property
    def evaluated_epoch(self) -> int:
        """The epoch, from 1, whose weights were evaluated: the best if the run stopped early, else the last."""
        return self.metrics["evaluated_epoch"]


def place(run: Run) -> Path:
    """Where a run belongs below an output folder."""
    return Path(run.dataset, run.script, run.name, f"seed-{run.seed}")


def read_run(folder: Path) -> Run:
    """The run in a folder.

    Raises:
        UserError: the folder does not hold a whole run.
    """
    check_whole(folder, TEXT_FILES)
    try:
        files = {name: read_json(folder / f"{name}.json") for name in ("config", "metrics", "timing", "environment")}
        run_contents.check(files)
        most = LARGEST_TEXT + MATRIX_ENTRY * len(files["config"]["dataset"]["classes"]) ** 2
        per_class = read_json(folder / "per_class.json", most)
        run_contents.check_per_class(per_class)
        return Run(folder, history=read_history(folder / "history.csv"), per_class=per_class, **files)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise UserError(f"{folder} does not hold a whole run ({error}); use --force to train it again") from error


def check_whole(folder: Path, names: Collection[str] | None = None) -> None:
    """Compares files of a finished run with its manifest; published runs, and those older than manifests, have none.

    Args:
        names: which files; None: all that the manifest lists.

    Raises:
        UserError: a file is missing, or not as the run left it.
    """
    try:
        manifest = read_json(folder / MANIFEST)
        listed = {name: (entry["size"], entry["sha256"]) for name, entry in manifest.items()}
    except (FileNotFoundError, NotADirectoryError):
        return
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{folder / MANIFEST} is damaged ({error}); use --force to train the run again") from error
    for name, (size, sha256) in listed.items():
        path = folder / name
        if names is None or name in names:
            if not path.is_file():
                raise UserError(f"{path} is missing; put it back, or use --force to train the run again")
            if path.stat().st_size != size or sha256_of(path) != sha256:
                raise UserError(f"{path} is not as the run left it; use --force to train the run again")


def _write_manifest(folder: Path) -> None:
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]
    listed = {path.name: {"size": path.stat().st_size, "sha256": sha256_of(path)} for path in files}
    write_json(folder / MANIFEST, listed)


def find_runs(output: Path) -> list[Path]:
    """The folders of the finished runs below an output folder, sorted."""
    return sorted(path.parent for path in output.glob("*/*/*/seed-*/metrics.json"))


def write_history(path: Path, history: list[dict]) -> None:
    """``history.csv``; floats are written so that they read back exactly."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, HISTORY_FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)


def read_history(path: Path) -> list[dict]:
    """The rows of ``history.csv`` as numbers.

    Raises:
        ValueError: it holds no rows, or others.
        FileNotFoundError, NotADirectoryError: it is not there.
    """
    try:
        rows = [
            {name: int(row[name]) if name == "epoch" else float(row[name]) for name in HISTORY_FIELDS}
            for row in csv.DictReader(io.StringIO(read_text(path), newline=""))
        ]
    except (csv.Error, KeyError, TypeError) as error:
        raise ValueError(f"history.csv: {error!r}") from error
    if [row["epoch"] for row in rows] != list(range(1, len(rows) + 1)) or not rows:
        raise ValueError("history.csv has not a row for each epoch")
    return rows


class RunFolder:
    """Where one run goes: ``OUTPUT/DATASET/SCRIPT/NAME/seed-N``."""

    def __init__(self, output: Path, dataset: str, script: str, name: str, seed: int):
        self.path = output / dataset / script / name / f"seed-{seed}"
        self.partial = self.path.with_name(f".{self.path.name}.partial")
        self._replaced = self.path.with_name(f".{self.path.name}.old")
        self.checkpoint = self.partial / CHECKPOINT

    @contextmanager
    def locked(self, wait: bool = False) -> Iterator[None]:
        """Keeps other processes from writing this run, until the block or the process ends.

        A run that another was about to replace when its process ended is put back.

        Args:
            wait: for another process that is writing it now.

        Raises:
            UserError: another process is writing it now, and ``wait`` is not given.
        """
        busy = f"another process is writing {self.path}; stop it, or wait for it, which --wait does"
        with locked(self.path, busy=None if wait else busy):
            if self.path.is_symlink() and not self.path.exists():
                raise UserError(
                    f"{self.path} is a link to a folder that is not there; bring that back, or delete the link"
                )
            if self._replaced.exists() and not self.path.exists():
                rename(self._replaced, self.path)
            self._remove_replaced()
            yield

    def _remove_replaced(self) -> None:
        if self._replaced.is_symlink():  # of a run that is kept elsewhere
            self._replaced.unlink()
        else:
            shutil.rmtree(self._replaced, ignore_errors=True)

    def finished(self, config: dict) -> Run | None:
        """The finished run of this configuration, if it is there.

        Raises:
            UserError: a run of another configuration is there, finished or not.
        """
        folder, state = (self.path, "a finished") if self.path.exists() else (self.partial, "an unfinished")
        found = _read_config(folder)
        if found is not None and found != config:
            raise UserError(
                f"{self.path} holds {state} run that differs: {_list_differences(found, config)}. "
                "Keep it and give another --output, or train it again in its place with --force"
            )
        if not self.path.exists():
            return None
        check_whole(self.path)
        return read_run(self.path)

    def has_begun(self, config: dict) -> bool:
        """Whether an interrupted run of this configuration has left a partial folder."""
        return _read_config(self.partial) == config

    def begin(self, config: dict, source: "RunFolder | None" = None) -> None:
        """Makes the partial folder, or keeps the one of the same configuration that an interrupted run left.

        Args:
            source: the finished run whose training goes on.
        """
        if self.has_begun(config):
            return
        if self.partial.exists():
            self.discard()
        make_folder(self.partial)
        if source:
            for name in (CHECKPOINT, "environment.json"):
                copy(source.path / name, self.partial / name)
        write_json(self.partial / "config.json", config)  # last: a kill before it leaves nothing that counts

    def add_environment(self, row: dict) -> None:
        """Writes down a process that works on the run from now on."""
        path = self.partial / "environment.json"
        try:
            rows = read_json(path) if path.exists() else []
            run_contents.check_environment(rows)
        except ValueError as error:
            raise UserError(f"{path} is damaged ({error}); remove {self.partial}") from error
        write_json(path, [*rows, row])

    def discard(self) -> None:
        """Removes what an unfinished run left."""
        shutil.rmtree(self.partial)

    def publish(self) -> Run:
        """Gives the partial folder the run's name; a run that was there goes once the new one is in place."""
        _write_manifest(self.partial)
        if self.path.exists():
            rename(self.path, self._replaced)
        rename(self.partial, self.path)
        self._remove_replaced()
        return read_run(self.path)


def _read_config(folder: Path) -> dict | None:
    try:
        return read_json(folder / "config.json")
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(f"{folder / 'config.json'} is damaged ({error}); remove {folder}") from error


def _list_differences(found: dict, asked: dict) -> str:
    """What differs, the code's files in one phrase, the rest setting by setting."""
    phrases = []
    if files := changed_files(found.get("code"), asked.get("code")):
        phrases.append(f"its code has changed since, in {' and '.join(files)}")
    found, asked = ({key: value for key, value in config.items() if key != "code"} for config in (found, asked))
    phrases += _differences(found, asked)
    more = f"; and {len(phrases) - SHOWN_DIFFERENCES} more" if len(phrases) > SHOWN_DIFFERENCES else ""
    return "; ".join(phrases[:SHOWN_DIFFERENCES]) + more


def changed_files(found: Any, asked: Any) -> list[str]:
    """The files in which two fingerprints of code differ; a fingerprint that is none counts as one file."""
    if not (isinstance(found, dict) and isinstance(asked, dict)):
        return [] if found == asked else [f"files unknown ({found})"]
    return sorted(file for file in {*found, *asked} if found.get(file) != asked.get(file))


def _differences(found: Any, asked: Any, name: str = "") -> list[str]:
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
    if found == asked:
        return []
    return [IN_WORDS.get(name) or f"{name} is {json.dumps(found)} there, {json.dumps(asked)} here"]
