"""Event files for TensorBoard: a run's history, figures and settings in the form that it reads.

A run that resumes begins its file anew from the history it has, so each epoch is there once; Keras's callback would
know nothing of the epochs before, or write some of them twice.

Format: https://github.com/tensorflow/tensorboard/blob/2.20.0/tensorboard/compat/proto/event.proto, one behind the other
as https://www.tensorflow.org/tutorials/load_data/tfrecord frames them.
"""

import json
import shutil
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from common.errors import UserError
from common.files import atomic_folder
from common.reporting.run_folder import HISTORY_FIELDS, Run

if TYPE_CHECKING:  # an extra, imported only when it is asked for
    from tensorboard.compat.proto.event_pb2 import Event

FOLDER = "tensorboard"  # in the run's
VERSION = "brain.Event:2"  # the first event of a file


def check() -> None:
    """Raises UserError if TensorBoard is not installed."""
    try:
        import tensorboard.compat.proto.event_pb2  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"--tensorboard needs TensorBoard ({error}): pip install tensorboard, or leave --tensorboard out"
        ) from error


class EpochEvents:
    """The events of a run under way, in a folder that holds nothing else."""

    def __init__(self, folder: Path):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        self._path, self._written = _new_file(folder), 0

    def add(self, history: Sequence[dict], epoch_seconds: Sequence[float]) -> None:
        """Writes the epochs that are new.

        Args:
            history: a row an epoch, with the keys ``HISTORY_FIELDS``.
            epoch_seconds: what each took; the last has just ended.
        """
        _add(self._path, [*_scalars(history, epoch_seconds, time.time())][self._written :])
        self._written = len(history)


def add_results(run: Run) -> None:
    """Figures and settings, behind the epochs of a run that has just ended."""
    (path,) = (run.folder / FOLDER).iterdir()
    _add(path, _results(run))


def write(run: Run) -> None:
    """The events of a finished run, in place of those that were there."""
    folder = run.folder / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    with atomic_folder(folder) as temporary:
        end = (run.folder / "history.csv").stat().st_mtime
        _add(_new_file(temporary), [*_scalars(run.history, run.timing["epoch_seconds"], end), *_results(run)])


def _new_file(folder: Path) -> Path:
    from tensorboard.compat.proto.event_pb2 import Event

    now = time.time()
    path = folder / f"events.out.tfevents.{now:.0f}.{socket.gethostname()}"
    _add(path, [Event(wall_time=now, file_version=VERSION)])
    return path


def _add(path: Path, events: "Iterable[Event]") -> None:
    from tensorboard.summary.writer.record_writer import RecordWriter

    with open(path, "ab") as file:
        writer = RecordWriter(file)
        for event in events:
            writer.write(event.SerializeToString())


def _scalars(history: Sequence[dict], epoch_seconds: Sequence[float], end: float) -> "Iterator[Event]":
    """An event an epoch, which lie as far apart as the epochs took.

    Args:
        end: of the last, in seconds since 1970.
    """
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    for index, row in enumerate(history):
        values = [Summary.Value(tag=name, simple_value=row[name]) for name in HISTORY_FIELDS if name != "epoch"]
        wall_time = end - sum(epoch_seconds[index + 1 :])
        yield Event(wall_time=wall_time, step=row["epoch"], summary=Summary(value=values))


def _results(run: Run) -> "Iterator[Event]":
    """The figures as images, and the settings for the plugin HParams."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb

    now, images = time.time(), []
    for path in sorted(run.folder.glob("*.png")):
        with Image.open(path) as image:
            width, height, channels = *image.size, len(image.getbands())
        encoded = Summary.Image(width=width, height=height, colorspace=channels, encoded_image_string=path.read_bytes())
        images.append(Summary.Value(tag=f"figures/{path.stem}", image=encoded))
    yield Event(wall_time=now, step=len(run.history), summary=Summary(value=images))
    settings = {
        name: value if isinstance(value, int | float | str) else json.dumps(value)
        for name, value in run.config["experiment"].items()
    }
    start = now - sum(run.timing["epoch_seconds"])
    yield Event(wall_time=now, summary=hparams_pb(settings, start_time_secs=start))
