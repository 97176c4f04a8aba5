"""Finished runs and files of weights, looked at before Keras opens them: they may come from anywhere.

What a file can do with Keras depends on Keras's version, so what is not needed is refused here: code, other files, and
arrays that fill the memory. Nothing here imports Keras or TensorFlow.
"""

import io
import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import h5py

from common.errors import UserError
from common.files import read_json

WEIGHTS = "model.weights.h5"  # in the archive that model.keras is: https://keras.io/api/models/model_saving_apis/
MODULES = re.compile(r"keras(\.(layers|initializers|regularizers|constraints))?|keras\.src\.(models|ops)\.\w+")
WITHOUT_MODULE = ("__keras_tensor__", "__tensor__")  # what goes from layer to layer, and numbers
REFUSED = {  # layers that run code which is not Keras's own, or read files
    "FlaxLayer",
    "IntegerLookup",
    "JaxLayer",
    "Lambda",
    "StringLookup",
    "TFSMLayer",
    "TextVectorization",
    "TorchModuleWrapper",
}
LARGEST = 500_000_000  # bytes of all weights; ResNet50 has 95 million
LARGEST_CONFIG = 10_000_000  # bytes that say what the layers are; each becomes up to thirty in memory
LARGEST_IMAGE = 1024  # pixels a side


@dataclass(frozen=True)
class SavedRun:
    """What a run's ``config.json`` says of how its network is asked.

    Attributes:
        classes: the names, by label.
        normalization: ``mean`` and ``standard_deviation``, as ``common.pipeline.Normalization`` takes them.
        features: what the network takes in place of images; None: images.
        is_whole: the pixels it was trained on were whole numbers.
        image_size: side of its square images; None: the network's input says it.
        resize: how a photograph becomes a square.
        precision: a key of ``common.experiment.PRECISIONS``.
        weights_sha256: of the backbone, where it takes features.
    """

    classes: tuple[str, ...]
    normalization: dict[str, tuple[float, ...]]
    features: str | None
    is_whole: bool
    image_size: int | None
    resize: str
    precision: str
    weights_sha256: str | None

    @classmethod
    def of(cls, folder: Path, weights: str | None = None) -> "SavedRun":
        """That of the run in a folder.

        Args:
            weights: the backbone's that its network shall be asked with; None: not given.

        Raises:
            UserError: no run, a damaged or a foreign configuration, no network or one that may do harm, or weights that
                it does not need.
        """
        config = _read_config(folder)
        try:
            options, experiment, normalization = (
                dict(each) for each in (config["dataset"]["options"], config["experiment"], config["normalization"])
            )
            classes = config["dataset"]["classes"]
            run = cls(
                classes=tuple(str(name) for name in classes),
                normalization={
                    key: tuple(float(value) for value in normalization[key]) for key in ("mean", "standard_deviation")
                },
                features=experiment.get("features"),
                is_whole="normalize" in experiment,  # pixels in memory are; ResNet50 sees those of files
                image_size=options.get("image_size"),
                resize=options.get("resize", "squash"),
                precision=config["precision"],
                weights_sha256=config["backbone"]["weights_sha256"] if experiment.get("features") else None,
            )
            if run.image_size is not None and run.image_size not in range(1, LARGEST_IMAGE + 1):
                raise ValueError(f"image_size is {run.image_size}")
            mean, deviation = run.normalization.values()
            if not (len(mean) == len(deviation) in (1, 3) and min(deviation) > 0):
                raise ValueError("normalization is not that of one or three channels")
            if not all(isinstance(each, str) for each in (*classes, run.resize, run.precision)):
                raise ValueError("a text is none")
            if not all(each is None or isinstance(each, str) for each in (run.features, run.weights_sha256)):
                raise ValueError("a text is none")
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise UserError(f"{folder / 'config.json'} is not the configuration of a run ({error!r})") from error
        if weights is not None and run.weights_sha256 is None:
            raise UserError(f"{folder} is no head on frozen features; its network needs no --weights")
        path = folder / "model.keras"
        if not path.is_file():
            raise UserError(f"{folder} has no model.keras, as published runs have none; train the run again")
        try:
            check_network(path)
        except (OSError, ValueError) as error:
            raise UserError(f"{path} is damaged, or no network of a run ({error}); train the run again") from error
        return run


def _read_config(folder: Path) -> dict:
    if not folder.exists():
        raise UserError(f"{folder} does not exist; give the folder of a finished run, .../NAME/seed-N")
    try:
        return read_json(folder / "config.json")
    except (FileNotFoundError, NotADirectoryError):
        seeds = sorted(path.parent.name for path in folder.glob("seed-*/config.json"))
        hint = f"; it has {', '.join(seeds)} in it" if seeds else ""
        raise UserError(f"{folder} is not the folder of a finished run, which is .../NAME/seed-N{hint}") from None
    except ValueError as error:
        raise UserError(f"{folder / 'config.json'} is damaged ({error}); train the run again") from error


def check_network(path: Path) -> None:
    """Looks at a ``.keras`` file.

    Raises:
        ValueError: it holds what no network of the suite's needs, or is no such file.
        OSError: it cannot be read.
    """
    try:
        _check_archive(path)
    except (OSError, ValueError):
        raise
    except Exception as error:  # of a damaged file zipfile, its decoders and h5py raise many kinds
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _check_archive(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > LARGEST:
            raise ValueError(f"it holds more than {LARGEST:,} bytes")
        if archive.getinfo("config.json").file_size > LARGEST_CONFIG:
            raise ValueError(f"its config.json holds more than {LARGEST_CONFIG:,} bytes")
        for part in _objects(json.loads(archive.read("config.json"))):
            module, name = part.get("module"), part["class_name"]
            is_plain = isinstance(module, str) and MODULES.fullmatch(module) and name not in REFUSED
            if not is_plain and not (module is None and name in WITHOUT_MODULE):
                raise ValueError(f"it holds {module}.{name}, which may run code")
        check_arrays(io.BytesIO(archive.read(WEIGHTS)))


def check_weights(path: Path) -> None:
    """Looks at a file of weights that a user gives.

    Raises:
        ValueError: it is none, or as ``check_arrays``.
    """
    if not path.is_file():
        raise ValueError(f"{path} is not a file")
    if path.suffix != ".h5":
        raise ValueError(f"{path}: the name of a file of weights ends with .h5")
    if not h5py.is_hdf5(path):
        raise ValueError(f"{path} is not an HDF5 file, or not whole")
    try:
        check_arrays(path)
    except ValueError as error:
        raise ValueError(f"{path}: {error}, as in no file of weights") from error
    except Exception as error:  # of damage h5py raises many kinds
        raise ValueError(f"{path} is damaged ({error})") from error


def check_arrays(file: Path | BinaryIO) -> None:
    """Looks at an HDF5 file of weights.

    Raises:
        ValueError: it holds a link, an array that lies in other files or is none of numbers, or too much.
        OSError: it is no such file.
    """
    total = 0

    def visit(path: str, link) -> str | None:
        """What is wrong, which ends the visit."""
        nonlocal total
        if not isinstance(link, h5py.HardLink):
            return f"{path} is a link"
        item = opened[path]
        if not isinstance(item, h5py.Dataset):
            return None
        if item.external or item.is_virtual:
            return f"{path} lies in another file"
        if item.dtype.kind not in "fiub":
            return f"{path} holds no numbers"
        total += item.nbytes
        return f"its arrays up to {path} hold more than {LARGEST:,} bytes" if total > LARGEST else None

    with h5py.File(file, "r") as opened:
        if problem := opened.visititems_links(visit):
            raise ValueError(problem)


def _objects(value: Any) -> Iterator[dict]:
    """Whatever in a configuration Keras would make something of."""
    if isinstance(value, dict):
        if "class_name" in value:
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _objects(each)
