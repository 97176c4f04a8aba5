"""Caltech-UCSD Birds 200, the 2010 release (Welinder et al. 2010, Caltech CNS-TR-2010-001)."""

import hashlib
import json
from pathlib import Path, PurePosixPath

import numpy as np

from common.datasets.download import download
from common.datasets.image_data import DataFolder, DataSet, ImageData
from common.datasets.image_files import ImageFiles, size_flags
from common.errors import UserError
from common.files import extract, make_once, sha256_of, write_json

FOLDER = "CUB_200_2010"
FOLDERS = ("images", "lists")
SOURCE = ".source.json"  # in a folder that the suite extracted: the archive's checksum, and the content's
COUNTS = (3000, 3033)  # images in the official lists, to train and to test
# The data set's own site is gone; these are the copies that tensorflow_datasets names.
DRIVE = "https://drive.usercontent.google.com/download?id={}&export=download&confirm=t"
ARCHIVES = {
    "images": (
        "images.tgz",
        DRIVE.format("1GDr1OkoXdhaXWGA8S3MAq3a522Tak-nx"),
        "2a6d2246bbb9778ca03aa94e2e683ccb4f8821a36b7f235c0822e659d60a803e",
    ),
    "lists": (
        "lists.tgz",
        DRIVE.format("1vZuZPqha0JjmwkdaS_XtYryE3Jf5Q1AC"),
        "aeacbd5e3539ae84ea726e8a266a9a119c18f055cd80f3836d5eb4500b005428",
    ),
}


def find(data_dir: Path) -> Path:
    """The folder with ``images/`` and ``lists/``: ``CUB_200_2010/`` in the data folder, or the data folder itself.

    What is missing is extracted from ``images.tgz`` and ``lists.tgz`` there, or downloaded first.

    Raises:
        UserError: no data and no download, or an archive that is damaged or reaches out of its folder.
    """
    for folder in (data_dir / FOLDER, data_dir):
        if all((folder / name).is_dir() for name in FOLDERS):
            return folder
    folder = data_dir / FOLDER
    for name in FOLDERS:
        make_once(folder / name, lambda name=name: _get(data_dir, name, folder / name))
    return folder


def _get(data_dir: Path, name: str, folder: Path) -> None:
    archive, url, sha256 = ARCHIVES[name]
    if not (data_dir / archive).is_file():
        _fetch(data_dir / archive, url, sha256)

    def write_source(extracted: Path) -> None:
        source = {"archive_sha256": sha256_of(data_dir / archive), "content_sha256": _content_sha256(extracted)}
        write_json(extracted / SOURCE, source)

    extract(data_dir / archive, name, folder, finish=write_source)


def _content_sha256(folder: Path) -> str:
    """A fingerprint of names and bytes of all files in a folder, in hexadecimal."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SOURCE):
        digest.update(f"{path.relative_to(folder).as_posix()} {sha256_of(path)}\n".encode())
    return digest.hexdigest()


def _is_official(folder: Path, name: str) -> bool:
    """Whether the suite extracted a folder from its official archive, and nothing in it has changed since."""
    try:
        source = json.loads((folder / SOURCE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return source == {"archive_sha256": ARCHIVES[name][2], "content_sha256": _content_sha256(folder)}


def read(folder: Path, name: str, size: int, resize: str) -> ImageData:
    """The images that ``lists/train.txt`` and ``lists/test.txt`` name, with labels 0..species - 1.

    A line is ``NNN.Species/file.jpg``, its label NNN - 1. Files that begin with ``._`` are not images.

    Raises:
        UserError: a list that is missing or empty, a line of another form, a file that is missing
            or in both lists, a species number without a name.
    """
    train, test = (_read_list(folder, f"{split}.txt") for split in ("train", "test"))
    if both := sorted(set(train) & set(test)):
        raise UserError(f"{both[0]} is in both lists of {folder / 'lists'}; get the data again")
    species = {}
    for path in (*train, *test):
        kind = path.partition("/")[0]
        number, dot, rest = kind.partition(".")
        if not (number.isdecimal() and int(number) and dot and rest and path.count("/") == 1):
            raise UserError(f"'{path}' in {folder / 'lists'} is not NNN.Species/file.jpg; get the data again")
        if species.setdefault(int(number), kind) != kind:
            raise UserError(f"{folder / 'lists'} calls species {number} {species[int(number)]} and {kind}")
        if ".." in path or not (folder / "images" / path).is_file():
            raise UserError(f"{folder / 'images' / path} is missing, and a list names it; get the data again")
    count = max(species)

    def files(paths):
        return ImageFiles(folder / "images", np.array(paths), size, resize)

    def labels(paths):
        return np.array([int(path.partition(".")[0]) - 1 for path in paths])

    return ImageData(
        name=name,
        train_images=files(train),
        train_labels=labels(train),
        test_images=files(test),
        test_labels=labels(test),
        class_names=tuple(
            species.get(number, f"species {number}").partition(".")[2] or f"species {number}"
            for number in range(1, count + 1)
        ),
    )


def _read_list(folder: Path, name: str) -> list[str]:
    path = folder / "lists" / name
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise UserError(f"{path} is missing; delete {folder} to have it extracted or downloaded again") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a text file ({error}); get the data again") from error
    paths = [line.strip() for line in lines]
    paths = [line for line in paths if line and not PurePosixPath(line).name.startswith("._")]
    if not paths:
        raise UserError(f"{path} names no images; get the data again")
    if len(set(paths)) < len(paths):
        raise UserError(f"{path} names {next(p for p in paths if paths.count(p) > 1)} twice; get the data again")
    return paths


def _fetch(archive: Path, url: str, sha256: str) -> None:
    try:
        download(url, archive, sha256)
    except UserError as error:
        raise UserError(
            f"no CUB-200: {error}. Put images.tgz and lists.tgz into {archive.parent}, "
            "or check the proxy (https_proxy), or use --dataset synthetic --weights none"
        ) from error


def _load(folder: DataFolder, classes, options) -> ImageData:
    return read(find(folder.path), "cub200", options["image_size"], options["resize"])


def _why_not_comparable(data: ImageData, options) -> str | None:
    """Comparable are the photographs and lists of the official archives, all of them, squashed to 224×224."""
    if (options["image_size"], options["resize"]) != (224, "squash"):
        return "images of another size, or not squashed"
    folder = data.train_images.folder.parent  # type: ignore[attr-defined]  # of ImageFiles
    if not all(_is_official(folder / name, name) for name in FOLDERS):
        return "images or lists not from the official archives"
    return None if (len(data.train_labels), len(data.test_labels)) == COUNTS else "not all of the official images"


CUB200 = DataSet(
    name="cub200",
    description="Caltech-UCSD Birds 200 (2010)",
    class_count=200,
    default_classes=tuple(range(200)),
    image_size=224,
    load=_load,
    why_not_comparable=_why_not_comparable,
    flags=size_flags(224),
)
