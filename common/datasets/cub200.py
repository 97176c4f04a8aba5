"""Caltech-UCSD Birds 200, the 2010 release (Welinder et al. 2010, Caltech CNS-TR-2010-001)."""

import hashlib
from collections import Counter
from pathlib import Path, PurePosixPath

import numpy as np

from common.datasets.archives import SOURCE, Archive, Source, leaves, remedy
from common.datasets.image_data import DataFolder, DataSet, ImageData
from common.datasets.image_files import ImageFiles, size_flags
from common.errors import UserError
from common.files import extract, make_once, read_json, sha256_of, write_json

FOLDER = "CUB_200_2010"
FOLDERS = ("images", "lists")
MOST_DIGITS = 4  # of a species' number: all from 1 to the largest have a name
COUNTS = (3000, 3033)  # images in the official lists, to train and to test
# The data set's own site is gone; these are the copies that tensorflow_datasets names.
DRIVE = "https://drive.usercontent.google.com/download?id={}&export=download&confirm=t"
ARCHIVES = {
    "images": Archive(
        "images.tgz",
        DRIVE.format("1GDr1OkoXdhaXWGA8S3MAq3a522Tak-nx"),
        "2a6d2246bbb9778ca03aa94e2e683ccb4f8821a36b7f235c0822e659d60a803e",
    ),
    "lists": Archive(
        "lists.tgz",
        DRIVE.format("1vZuZPqha0JjmwkdaS_XtYryE3Jf5Q1AC"),
        "aeacbd5e3539ae84ea726e8a266a9a119c18f055cd80f3836d5eb4500b005428",
    ),
}
SOURCES = Source(
    "CUB-200",
    [ARCHIVES[name] for name in FOLDERS],
    f"a folder with images/ and lists/, one that holds {FOLDER}/ with both, or one that holds images.tgz and lists.tgz",
    "--dataset synthetic --weights none",
)


def find(folder: DataFolder) -> Path:
    """The folder with ``images/`` and ``lists/``: the data folder itself, or in it ``CUB_200_2010/``, nested or not.

    Where neither is there, ``images.tgz`` and ``lists.tgz`` of the data folder are extracted, or downloaded first.

    Raises:
        UserError: one of the two that is the user's own, no data and no download, or an archive that is damaged or
            reaches out of its folder.
    """
    usual = folder.path / FOLDER
    places = [usual, folder.path, usual / FOLDER, folder.spare / FOLDER]
    held = {place: [name for name in FOLDERS if (place / name).is_dir()] for place in places}
    for place in places:
        if len(held[place]) == len(FOLDERS):
            return place
    for place in places:
        if held[place] and not (place / held[place][0] / SOURCE).is_file():
            lacking = next(name for name in FOLDERS if name not in held[place])
            raise SOURCES.incomplete(place, f"holds {held[place][0]}/ and no {lacking}/")
    home = SOURCES.home(folder, [ARCHIVES[name] for name in FOLDERS if name not in held[usual]])
    for name in FOLDERS:
        make_once(home / FOLDER / name, lambda name=name: _get(folder, home, name))
    return home / FOLDER


def _get(folder: DataFolder, home: Path, name: str) -> None:
    archive = SOURCES.fetch(ARCHIVES[name], folder, home)

    def write_source(extracted: Path) -> None:
        source = {"archive_sha256": sha256_of(archive), "content_sha256": _content_sha256(extracted)}
        write_json(extracted / SOURCE, source)

    extract(archive, name, home / FOLDER / name, finish=write_source)


def _content_sha256(folder: Path) -> str:
    """A fingerprint of names and bytes of all files in a folder, in hexadecimal."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SOURCE):
        digest.update(f"{path.relative_to(folder).as_posix()} {sha256_of(path)}\n".encode())
    return digest.hexdigest()


def _is_official(folder: Path, name: str) -> bool:
    """Whether the suite extracted a folder from its official archive, and nothing in it has changed since."""
    try:
        source = read_json(folder / SOURCE)
    except (OSError, ValueError):
        return False
    return source == {"archive_sha256": ARCHIVES[name].sha256, "content_sha256": _content_sha256(folder)}


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
        is_number = number.isdecimal() and len(number) <= MOST_DIGITS and int(number)
        if not (is_number and dot and rest and path.count("/") == 1):
            raise UserError(f"'{path}' in {folder / 'lists'} is not NNN.Species/file.jpg; get the data again")
        if species.setdefault(int(number), kind) != kind:
            raise UserError(f"{folder / 'lists'} calls species {number} {species[int(number)]} and {kind}")
        if leaves(path):
            raise UserError(
                f"{folder / 'lists'} names {path}, which leads out of images/ "
                "or has a : or \\ that Windows takes in no name; rename it, there too"
            )
        if not (folder / "images" / path).is_file():
            raise UserError(f"{folder / 'images' / path} is missing, and a list names it; get the data again")
    count = max(species)

    images = ImageFiles(folder / "images", np.array([*train, *test]), size, resize)

    def labels(paths):
        return np.array([int(path.partition(".")[0]) - 1 for path in paths])

    return ImageData(
        name=name,
        train_images=images[np.arange(len(train))],
        train_labels=labels(train),
        test_images=images[np.arange(len(train), len(images))],
        test_labels=labels(test),
        class_names=tuple(
            species.get(number, f"species {number}").partition(".")[2] or f"species {number}"
            for number in range(1, count + 1)
        ),
    )


def _read_list(folder: Path, name: str) -> list[str]:
    path = folder / "lists" / name
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError:
        raise UserError(f"{path} is missing; {remedy(path.parent)}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a text file ({error}); get the data again") from error
    paths = [line.strip() for line in lines]
    paths = [line for line in paths if line and not PurePosixPath(line).name.startswith("._")]
    if not paths:
        raise UserError(f"{path} names no images; get the data again")
    twice, count = Counter(paths).most_common(1)[0]
    if count > 1:
        raise UserError(f"{path} names {twice} twice; get the data again")
    return paths


def _load(folder: DataFolder, classes, options) -> ImageData:
    return read(find(folder), "cub200", options["image_size"], options["resize"])


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
