"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009) in their official Python format, https://www.cs.toronto.edu/~kriz/cifar.html."""

import math
import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from common.datasets.archives import SOURCE, Archive, Source, remedy
from common.datasets.image_data import DataFolder, DataSet, ImageArray, ImageData
from common.errors import UserError
from common.files import extract, make_once, sha256_of, write_json


@dataclass(frozen=True)
class Release:
    """One of the two data sets.

    Attributes:
        name: as ``--dataset`` takes it.
        title: its name in a sentence.
        archive: as the authors publish it; the address and the checksum are those of Keras.
        folder: in the archive.
        train, test, names: files in the folder: of the images to train and to test on, and of the classes' names.
        label_key, names_key: where those files have labels and names.
        classes: how many.
    """

    name: str
    title: str
    archive: Archive
    folder: str
    train: tuple[str, ...]
    test: str
    names: str
    label_key: str
    names_key: str
    classes: int

    @property
    def files(self) -> tuple[str, ...]:
        return (*self.train, self.test, self.names)

    @property
    def source(self) -> Source:
        layouts = (
            f"a folder that holds {self.folder}/ (with {', '.join(self.files)}) or {self.archive.name}, "
            f"{self.folder}/ itself, or the folder of Keras's data sets"
        )
        return Source(self.title, [self.archive], layouts, "--dataset synthetic")


SETS = (pickle.ADDITEMS[0], pickle.FROZENSET[0])  # opcodes
URL = "https://www.cs.toronto.edu/~kriz/"
RELEASE_100 = Release(
    name="cifar100",
    title="CIFAR-100",
    archive=Archive(
        "cifar-100-python.tar.gz",
        f"{URL}cifar-100-python.tar.gz",
        "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
        other_names=("cifar-100-python-target_archive",),
    ),
    folder="cifar-100-python",
    train=("train",),
    test="test",
    names="meta",
    label_key="fine_labels",
    names_key="fine_label_names",
    classes=100,
)
RELEASE_10 = Release(
    name="cifar10",
    title="CIFAR-10",
    archive=Archive(
        "cifar-10-python.tar.gz",
        f"{URL}cifar-10-python.tar.gz",
        "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
        other_names=("cifar-10-batches-py.tar.gz", "cifar-10-batches-py-target_archive"),
    ),
    folder="cifar-10-batches-py",
    train=tuple(f"data_batch_{number}" for number in range(1, 6)),
    test="test_batch",
    names="batches.meta",
    label_key="labels",
    names_key="label_names",
    classes=10,
)
REPORT_SHA256 = (
    "ee72cc044ebd62f4deb463dc5fb0ad20f3a705fef85c373c7dc20d3c988aae04"  # ``ImageData.sha256`` of labels 0..24, whole
)


def find(release: Release, folder: DataFolder) -> Path:
    """The folder with the release's files, extracted or downloaded if it is not there.

    It may be the data folder itself or lie in it, under its own name or as Keras names it, once more nested in
    itself or not. Where there is none, the archive in the data folder is extracted beside it, or downloaded first.

    Raises:
        UserError: a part of the files, no data and no download, or a damaged archive.
    """
    named = [folder.path / f"{release.folder}{suffix}" for suffix in ("", "-target", "_extracted")]
    if folder.path.name in [path.name for path in named]:
        named.append(folder.path)
    named += [path / release.folder for path in named]
    places = [*named, folder.path]
    lacking = {path: [name for name in release.files if not (path / name).is_file()] for path in places}
    if whole := [path for path in places if not lacking[path]]:
        return whole[0]
    if partial := [path for path in named if path.is_dir()]:
        nearest = min(partial, key=lambda path: len(lacking[path]))
        if (nearest / SOURCE).is_file():
            raise UserError(f"{nearest} lacks {', '.join(lacking[nearest])}; {remedy(nearest)}")
        raise release.source.incomplete(nearest, f"lacks {', '.join(lacking[nearest])}")
    if (spare := folder.spare / release.folder).is_dir():
        return spare
    home = release.source.home(folder, release.source.archives)

    def get():
        archive = release.source.fetch(release.archive, folder, home)
        extract(
            archive,
            release.folder,
            home / release.folder,
            required=release.files,
            finish=lambda extracted: write_json(extracted / SOURCE, {"archive_sha256": sha256_of(archive)}),
        )

    make_once(home / release.folder, get)
    return home / release.folder


def load(release: Release, folder: DataFolder) -> ImageData:
    """All images of a release, with labels 0..classes - 1; the fine ones of CIFAR-100.

    Raises:
        UserError: as ``find``, or files that are not the release's.
    """
    found = find(release, folder)
    train = [_read_images(release, found / name, "training") for name in release.train]
    test_images, test_labels = _read_images(release, found / release.test, "testing")
    train_images, train_labels = (np.concatenate(parts) for parts in zip(*train))
    if len(test_images) > len(train_images):
        raise UserError(f"{found} holds more test than training images: train and test look swapped")
    return ImageData(
        name=release.name,
        train_images=ImageArray(train_images),
        train_labels=train_labels,
        test_images=ImageArray(test_images),
        test_labels=test_labels,
        class_names=_read_class_names(release, found / release.names),
    )


def _with_text_keys(load: Callable[[Any], None], keys: slice) -> Callable[[Any], None]:
    """What an opcode does that takes these of the stack for keys; a tuple of one tuple twice is hashed for ever."""

    def checked(unpickler: Any) -> None:
        if not all(isinstance(key, str | bytes) for key in unpickler.stack[keys]):
            raise pickle.UnpicklingError("a key is no text")
        load(unpickler)

    return checked


def _build(unpickler: Any) -> None:
    """What the opcode does that gives an object its state: for calls alone, and never for the suite's own functions."""
    if not isinstance(unpickler.stack[-2], _Call):
        raise pickle.UnpicklingError("it changes an object that is no array")
    pickle._Unpickler.dispatch[pickle.BUILD[0]](unpickler)


class _Call:
    """A call of NumPy that a file asks for and the state it gives the result, kept as they stand.

    NumPy itself is not asked: of some states it reads memory that is not there, which ends the process.
    """

    __slots__ = ("arguments", "name", "state")

    def __init__(self, name: str, *arguments):
        self.name, self.arguments, self.state = name, arguments, None

    def __setstate__(self, state) -> None:
        self.state = state


class _ArrayUnpickler(pickle._Unpickler):
    """Lets plain containers through, and NumPy's arrays and numbers as calls; nothing in a file can run code.

    It is the one in Python, as fast here: that in C makes room for any number of objects that a file claims to hold.
    """

    dispatch = {  # noqa: RUF012  (as its base has it)
        **{code: load for code, load in pickle._Unpickler.dispatch.items() if code not in SETS},
        pickle.BUILD[0]: _build,
        pickle.SETITEM[0]: _with_text_keys(pickle._Unpickler.dispatch[pickle.SETITEM[0]], slice(-2, -1)),
        pickle.SETITEMS[0]: _with_text_keys(pickle._Unpickler.dispatch[pickle.SETITEMS[0]], slice(None, None, 2)),
    }

    CALLS = frozenset(
        {
            *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
            *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
        }
    )

    def __init__(self, file, size: int):
        super().__init__(file, encoding="latin1")
        self._room = size  # letters that the file can hold

    def find_class(self, module, name):
        if (module, name) == ("_codecs", "encode"):  # how Python 3 writes bytes in protocol 2
            return self._encode
        if (module, name) not in self.CALLS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no CIFAR file needs")
        return partial(_Call, name)

    def _encode(self, text: str, _encoding: str) -> bytes:
        self._room -= len(text)
        if self._room < 0:
            raise pickle.UnpicklingError("it makes more bytes than it holds")
        return text.encode("latin1")


def _read_pickle(release: Release, path: Path) -> dict:
    try:
        with open(path, "rb") as file:
            content = _ArrayUnpickler(file, path.stat().st_size).load()
    except OSError:
        raise
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise _not_cifar(release, path, error) from error
    if not isinstance(content, dict):
        raise _not_cifar(release, path, "no dictionary")
    return {_text(key): value for key, value in content.items()}


def _read_images(release: Release, path: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (n, 32, 32, 3) and labels int64 (n,) of the file of that split, "training" or "testing"."""
    content = _read_pickle(release, path)
    pixels, labels = (_as_array(content.get(key)) for key in ("data", release.label_key))
    if not (pixels.dtype == np.uint8 and pixels.shape[1:] == (3072,)):
        raise _not_cifar(release, path, "data is not a uint8 array of shape (images, 3072)")
    if labels.shape != (len(pixels),) or labels.dtype.kind not in "iu" or not len(labels):
        raise _not_cifar(release, path, f"{release.label_key} are not {len(pixels)} integers")
    if labels.min() < 0 or labels.max() >= release.classes:
        raise _not_cifar(release, path, f"one of {release.label_key} lies outside 0..{release.classes - 1}")
    label = content.get("batch_label", split)
    if not isinstance(label, str | bytes) or not _text(label).startswith(split):
        raise _not_cifar(release, path, f"its batch_label does not begin with {split}, so train and test look swapped")
    return pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1).copy(), labels.astype(np.int64)


def _read_class_names(release: Release, path: Path) -> tuple[str, ...]:
    names = _read_pickle(release, path).get(release.names_key)
    if (
        not isinstance(names, list)
        or len(names) != release.classes
        or not all(isinstance(name, str | bytes) for name in names)
    ):
        raise _not_cifar(release, path, f"{release.names_key} are not {release.classes} names")
    return tuple(map(_text, names))


def _as_array(value: object) -> np.ndarray:
    """The whole numbers that an array or a list in a file stands for; none, where they are anything else."""
    match value:
        case list():
            numbers = [_as_integer(each) for each in value]
            return np.array([] if None in numbers else numbers)
        case _Call(name="_reconstruct", state=(_, shape, kind, is_fortran, content)):
            return _numbers(content, kind, shape, "F" if is_fortran else "C")
        case _Call(name="_frombuffer", arguments=(content, kind, shape, order)):
            return _numbers(content, kind, shape, "F" if order == "F" else "C")
    return np.array([])


def _as_integer(value: object) -> int | None:
    match value:
        case _Call(name="scalar", arguments=(kind, content)):
            numbers = _numbers(content, kind, (1,), "C").tolist()
            return numbers[0] if numbers else None
    return value if isinstance(value, int) and abs(value) < 1 << 63 else None


def _numbers(content: object, kind: object, shape: object, order: Literal["C", "F"]) -> np.ndarray:
    content = content.encode("latin1", "ignore") if isinstance(content, str) else content  # as Python 2 wrote bytes
    match kind, shape:
        case _Call(
            name="dtype", arguments=(str() | bytes() as name, *_), state=(_, "<" | ">" | "|" as end, *_)
        ), tuple():
            sides = all(isinstance(side, int) and side >= 0 for side in shape) and len(shape) <= 2
            if sides and re.fullmatch("[iu][1248]", name := _text(name)) and isinstance(content, bytes | bytearray):
                dtype = np.dtype(end + name)
                if math.prod(shape) * dtype.itemsize == len(content):
                    return np.frombuffer(content, dtype).reshape(shape, order=order)
    return np.array([])


def _text(value: str | bytes) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else value


def _not_cifar(release: Release, path: Path, why) -> UserError:
    return UserError(f"{path} is not a whole {release.title} file ({why}); {remedy(path.parent)}")


CIFAR100 = DataSet(
    name=RELEASE_100.name,
    description=RELEASE_100.title,
    class_count=RELEASE_100.classes,
    default_classes=tuple(range(25)),
    image_size=32,
    load=lambda folder, classes, options: load(RELEASE_100, folder),
    why_not_comparable=lambda data, options: (
        None if data.sha256 == REPORT_SHA256 else "not the report's 25 classes of CIFAR-100, whole"
    ),
)
CIFAR10 = DataSet(
    name=RELEASE_10.name,
    description=RELEASE_10.title,
    class_count=RELEASE_10.classes,
    default_classes=tuple(range(10)),
    image_size=32,
    load=lambda folder, classes, options: load(RELEASE_10, folder),
    why_not_comparable=lambda data, options: "CIFAR-10",
)
