"""CIFAR-100 (Krizhevsky 2009) in its official Python format, https://www.cs.toronto.edu/~kriz/cifar.html."""

import pickle
from pathlib import Path

import numpy as np

from common.datasets.download import download
from common.datasets.image_data import DataSet, ImageArray, ImageData
from common.errors import UserError
from common.files import extract, make_once

URL = "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"  # the address Keras uses
SHA256 = "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7"
FOLDER = "cifar-100-python"
ARCHIVE = "cifar-100-python.tar.gz"
FILES = ("train", "test", "meta")
CLASSES = 100
REPORT_SHA256 = (
    "ee72cc044ebd62f4deb463dc5fb0ad20f3a705fef85c373c7dc20d3c988aae04"  # ``ImageData.sha256`` of labels 0..24, whole
)


def load(data_dir: Path) -> ImageData:
    """All images of the data folder's CIFAR-100, with fine labels 0..99.

    Takes ``cifar-100-python/`` in the folder, else extracts ``cifar-100-python.tar.gz`` there, else
    downloads that archive first.

    Raises:
        UserError: no data and no download, or files that are not CIFAR-100.
    """
    folder, archive = data_dir / FOLDER, data_dir / ARCHIVE

    def get():
        if not archive.is_file():
            _fetch(archive)
        extract(archive, FOLDER, folder, required=FILES)

    if not folder.is_dir():
        make_once(folder, get)
    train_images, train_labels = _read_images(folder / "train", "training")
    test_images, test_labels = _read_images(folder / "test", "testing")
    if len(test_images) > len(train_images):
        raise UserError(f"{folder} holds more test than training images: train and test look swapped")
    return ImageData(
        name="cifar100",
        train_images=ImageArray(train_images),
        train_labels=train_labels,
        test_images=ImageArray(test_images),
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


class _ArrayUnpickler(pickle.Unpickler):
    """Lets NumPy arrays and plain containers through and nothing else, so that no file can run code."""

    ALLOWED = frozenset(
        {
            *((f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")),
            *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),  # how Python 3 writes bytes in protocol 2
        }
    )

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


def _read_images(path: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (n, 32, 32, 3) and labels int64 (n,) of the file of that split, "training" or "testing"."""
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
    label = content.get("batch_label", split)
    label = label.decode("latin1") if isinstance(label, bytes) else str(label)
    if not label.startswith(split):
        raise _not_cifar(path, f"its batch_label is '{label}', so train and test look swapped")
    return pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1).copy(), labels.astype(np.int64)


def _read_class_names(path: Path) -> tuple[str, ...]:
    names = _read_pickle(path).get("fine_label_names")
    if not isinstance(names, list) or len(names) != CLASSES:
        raise _not_cifar(path, f"fine_label_names are not {CLASSES} names")
    return tuple(name.decode("latin1") if isinstance(name, bytes) else str(name) for name in names)


def _not_cifar(path: Path, why) -> UserError:
    return UserError(f"{path} is not a whole CIFAR-100 file ({why}); delete {path.parent} and get the data again")


def _why_not_comparable(data: ImageData, options) -> str | None:
    return None if data.sha256 == REPORT_SHA256 else "not the report's 25 classes of CIFAR-100, whole"


CIFAR100 = DataSet(
    name="cifar100",
    description="CIFAR-100",
    class_count=CLASSES,
    default_classes=tuple(range(25)),
    image_size=32,
    load=lambda folder, classes, options: load(folder.path),
    why_not_comparable=_why_not_comparable,
)
