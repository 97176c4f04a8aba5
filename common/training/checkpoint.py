"""What decides the rest of a run, on disk after each epoch: weights, optimizer, random seeds, best weights, history."""

import hashlib
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np
from numpy.lib.format import header_data_from_array_1_0, read_array, write_array_header_1_0

from common.errors import UserError
from common.files import atomic_write

SUM_BYTES = hashlib.sha256().digest_size
BLOCK = 1 << 20


@dataclass
class Training:
    """How far a run has come.

    Attributes:
        history: a row an epoch: epoch (from 1), loss, accuracy, val_loss, val_accuracy, learning_rate
            (after the last step). Loss and accuracy are on images and labels as trained.
        epoch_seconds: training and validation of each epoch.
        chosen: settings that training itself chose, for ``metrics.json``.
    """

    history: list[dict] = field(default_factory=list)
    epoch_seconds: list[float] = field(default_factory=list)
    chosen: dict = field(default_factory=dict)


def save(model: keras.Model, training: Training, best_weights: list | None, path: Path) -> None:
    """``.npy`` arrays one behind the other: the history as JSON, the variables, the best weights if they are kept.

    The file ends with the SHA-256 of all before it.
    """

    def arrays():
        yield json.dumps([training.history, training.epoch_seconds])
        yield from (np.asarray(variable) for variable in _variables(model))
        yield from best_weights or ()

    def write(file):
        digest = hashlib.sha256()
        for array in (np.asarray(each, order="C") for each in arrays()):
            # Not with np.save, which takes longer, or does not say why a disk takes no more.
            header = io.BytesIO()
            write_array_header_1_0(header, header_data_from_array_1_0(array))
            for piece in (header.getbuffer(), array.reshape(-1).view(np.uint8).data):
                digest.update(piece)
                file.write(piece)
        file.write(digest.digest())

    atomic_write(path, write)


def finished_epochs(path: Path) -> int:
    """How many epochs a checkpoint has behind it; 0 if there is none.

    Raises:
        UserError: the file is damaged.
    """
    if not path.exists():
        return 0
    with _readable(path) as file:
        return len(json.loads(str(read_array(file)))[0])


def restore(model: keras.Model, path: Path, keep_best: bool) -> tuple[Training, list | None]:
    """Sets a compiled model to where the checkpoint was written; returns the history, and the best weights if kept.

    Raises:
        UserError: the file is damaged, or of another network.
    """
    with _readable(path) as file:
        training = Training(*json.loads(str(read_array(file))))
        for variable in _variables(model):
            variable.assign(read_array(file))
        best_weights = [read_array(file) for _ in model.weights] if keep_best else None
        if len(file.read()) != SUM_BYTES:
            raise ValueError("it holds more")
        return training, best_weights


def _variables(model: keras.Model) -> list:
    """Everything that training changes: weights, the seed generators of every layer, the optimizer."""
    return [*model.variables, *model.optimizer.variables]


@contextmanager
def _readable(path: Path) -> Iterator:
    """The file at its beginning, once all of it has been compared with the checksum at its end."""
    try:
        with open(path, "rb") as file:
            digest, summed = hashlib.sha256(), path.stat().st_size - SUM_BYTES
            for start in range(0, summed, BLOCK):
                digest.update(file.read(min(BLOCK, summed - start)))
            if file.read() != digest.digest():
                raise ValueError("it is not as it was written")
            file.seek(0)
            yield file
    except ValueError as error:
        raise UserError(
            f"{path} does not hold what this version needs ({error}); delete {path.parent} to begin the run again"
        ) from error
