"""CIFAR-100 (Krizhevsky 2009) in its official Python format, https://www.cs.toronto.edu/~kriz/cifar.html."""

import gzip
import pickle
import shutil
import tarfile
import zlib
from pathlib import Path

import filelock
import numpy as np

from common.datasets import CLASS_COUNTS
from common.datasets.download import download, whole_folder
from common.datasets.image_data import ImageData
from common.errors import UserError

URL = "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"  # the address Keras uses
SHA256 = "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7"
FOLDER = "cifar-100-python"
ARCHIVE = "cifar-100-python.tar.gz"
FILES = ("train", "test", "meta")
CLASSES = CLASS_COUNTS["cifar100"]["cifar100"]


def load(data_dir: Path) -> ImageData:
    """All images of the data folder's CIFAR-100, with fine labels 0..99.

    Takes ``cifar-100-python/`` in the folder, else extracts ``cifar-100-python.tar.gz`` there, else
    downloads that archive first.

    Raises:
        UserError: no data and no download, or files that are not CIFAR-100.
    """
    if data_dir.exists() and not data_dir.is_dir():
        raise UserError(f"--data-dir {data_dir} is a file; give a folder")
    folder, archive = data_dir / FOLDER, data_dir / ARCHIVE
    if not folder.is_dir():
        data_dir.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(data_dir / f".{FOLDER}.lock"):  # of two commands, one gets the data for both
            if not folder.is_dir():
                if not archive.is_file():
                    _fetch(archive)
                _extract(archive, folder)
    train_images, train_labels = _read_images(folder / "train", "training")
    test_images, test_labels = _read_images(folder / "test", "testing")
    if len(test_images) > len(train_images):
        raise UserError(f"{folder} holds more test than training images: train and test look swapped")
    return ImageData(
        name="cifar100",
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        class_names=_read_class_names(folder / "meta"),
    )


def _fetch(archive: Path) -> None:
    try:
        download(URL, archive, SHA256)
    except UserError as error:
        raise UserError(
            f"no CIFAR-100: {error}. Put {ARCHIVE} into {archive.parent}, "
            "or check the proxy (https_proxy), or use --dataset synthetic"
        ) from error


def _extract(archive: Path, folder: Path) -> None:
    """The three files of the archive, nothing else of it, into a folder that appears whole or not at all."""
    try:
        with whole_folder(folder) as temporary, tarfile.open(archive) as tar:
            for name in FILES:
                source = tar.extractfile(f"{FOLDER}/{name}")
                if source is None:
                    raise KeyError(f"{name} is not a file")
                with source, open(temporary / name, "wb") as target:
                    shutil.copyfileobj(source, target)
            while tar.fileobj.read(1 << 20):  # to the end, where the checksum stands
                pass
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, KeyError, ValueError) as error:
        raise UserError(f"{archive} is not a whole {ARCHIVE} ({error}); delete it, it is downloaded again") from error


class _ArrayUnpickler(pickle.Unpickler):
    """Lets NumPy arrays and plain containers through and nothing else, so that no file can run code."""

    ALLOWED = frozenset({
        *((f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")),
        *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("_codecs", "encode"),  # how Python 3 writes bytes in protocol 2
    })

    def find_class(self, module, name):
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no CIFAR file needs")
        return super().find_class(module, name)


def _read_pickle(path: Path) -> dict:
    try:
        with open(path, "rb") as file:
            content = _ArrayUnpickler(file, encoding="latin1").load()
    except FileNotFoundError:
        raise UserError(f"{path} is missing; delete {path.parent} to have it extracted or downloaded again") from None
    except OSError:
        raise
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise _not_cifar(path, error) from error
    if not isinstance(content, dict):
        raise _not_cifar(path, "no dictionary")
    return {key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in content.items()}


def _read_images(path: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (n, 32, 32, 3) and labels int64 (n,) of the file that holds that part of the data."""
    content = _read_pickle(path)
    pixels, labels = content.get("data"), content.get("fine_labels")
    if not (isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8 and pixels.shape[1:] == (3072,)):
        raise _not_cifar(path, "data is not a uint8 array of shape (images, 3072)")
    try:
        labels = np.asarray(labels)
    except ValueError as error:
        raise _not_cifar(path, error) from error
    if labels.shape != (len(pixels),) or labels.dtype.kind not in "iu" or not len(labels):
        raise _not_cifar(path, f"fine_labels are not {len(pixels)} integers")
    if labels.min() < 0 or labels.max() >= CLASSES:
        raise _not_cifar(path, f"a fine label lies outside 0..{CLASSES - 1}")
    label = content.get("batch_label", part)
    label = label.decode("latin1") if isinstance(label, bytes) else str(label)
    if not label.startswith(part):
        raise _not_cifar(path, f"it says it is the '{label}', so train and test look swapped")
    return pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1).copy(), labels.astype(np.int64)


def _read_class_names(path: Path) -> tuple[str, ...]:
    names = _read_pickle(path).get("fine_label_names")
    if not isinstance(names, list) or len(names) != CLASSES:
        raise _not_cifar(path, f"fine_label_names are not {CLASSES} names")
    return tuple(name.decode("latin1") if isinstance(name, bytes) else str(name) for name in names)


def _not_cifar(path: Path, why) -> UserError:
    return UserError(f"{path} is not a whole CIFAR-100 file ({why}); delete {path.parent} and get the data again")
