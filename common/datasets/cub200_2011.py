"""Caltech-UCSD Birds 200, the release of 2011 (Wah et al. 2011, Caltech CNS-TR-2011-001)."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from common.datasets.archives import Archive, Source, leaves
from common.datasets.image_data import DataFolder, DataSet, ImageData
from common.datasets.image_files import ImageFiles, size_flags
from common.errors import UserError
from common.files import extract, make_once

FOLDER = "CUB_200_2011"
LISTS = ("images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt")
CLASSES = 200
ARCHIVE = Archive(  # the address and the checksum that tensorflow_datasets has for caltech_birds2011
    "CUB_200_2011.tgz",
    "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz?download=1",
    "0c685df5597a8b24909f6a7c9db6d11e008733779a671760afef78feb49bf081",
)
SOURCES = Source(
    "CUB-200 of 2011",
    [ARCHIVE],
    f"a folder that holds {FOLDER}/ (with images/, {', '.join(LISTS)}) or {ARCHIVE.name}, or {FOLDER}/ itself",
    "--dataset synthetic --weights none",
)


def find(folder: DataFolder) -> Path:
    """The folder with ``images/`` and the lists: ``CUB_200_2011/`` in the data folder, or the data folder itself.

    Where neither is, ``CUB_200_2011.tgz`` is extracted, or downloaded first: 1.2 GB.

    Raises:
        UserError: a part of the files, no data and no download, or a damaged archive.
    """
    places = (folder.path / FOLDER, folder.path, folder.spare / FOLDER)
    lacking = {place: [name for name in ("images", *LISTS) if not (place / name).exists()] for place in places}
    for place in places:
        if not lacking[place]:
            return place
    for place in places:
        if place.name == FOLDER and place.is_dir():
            raise SOURCES.incomplete(place, f"lacks {' and '.join(lacking[place])}")
    home = SOURCES.home(folder, [ARCHIVE])

    def get():
        extract(SOURCES.fetch(ARCHIVE, folder, home), FOLDER, home / FOLDER, required=LISTS)

    make_once(home / FOLDER, get)
    return home / FOLDER


def read(folder: Path, size: int, resize: str) -> ImageData:
    """The images of ``images.txt``, with the labels and the split that the other lists give them.

    Raises:
        UserError: a list that is damaged or does not fit the others, or an image that is missing.
    """
    paths = _read(folder, "images.txt", _name)
    labels = _read(folder, "image_class_labels.txt", int)
    is_train = _read(folder, "train_test_split.txt", lambda text: {"0": False, "1": True}[text])
    names = _read(folder, "classes.txt", _name)
    if sorted(names) != list(range(1, len(names) + 1)):
        raise UserError(f"{folder / 'classes.txt'} does not number its classes 1, 2 and so on")
    for name, of_images in (("image_class_labels.txt", labels), ("train_test_split.txt", is_train)):
        if odd := sorted({*of_images} ^ {*paths}):
            raise UserError(f"{folder / name} and images.txt do not name the same images: {odd[0]} is in one alone")
    for number, path in paths.items():
        if labels[number] not in names:
            raise UserError(f"{folder / 'image_class_labels.txt'} gives image {number} a class without a name")
        if leaves(path):
            raise UserError(
                f"{folder / 'images.txt'} names {path}, which leads out of images/ "
                "or has a : or \\ that Windows takes in no name; rename it, there too"
            )
        if not (folder / "images" / path).is_file():
            raise UserError(f"{folder / 'images' / path} is missing, and a list names it; extract {ARCHIVE.name} anew")
    path, count = Counter(paths.values()).most_common(1)[0]
    if count > 1:
        raise UserError(f"{folder / 'images.txt'} names {path} twice; extract {ARCHIVE.name} anew")
    train, test = ([number for number in paths if is_train[number] is part] for part in (True, False))
    images = ImageFiles(folder / "images", np.array([paths[number] for number in (*train, *test)]), size, resize)

    def labels_of(numbers: list[int]) -> np.ndarray:
        return np.array([labels[number] - 1 for number in numbers], np.int64)

    return ImageData(
        name="cub200-2011",
        train_images=images[np.arange(len(train))],
        train_labels=labels_of(train),
        test_images=images[np.arange(len(train), len(images))],
        test_labels=labels_of(test),
        class_names=tuple(names[number].partition(".")[2] or names[number] for number in sorted(names)),
    )


def _name(text: str) -> str:
    if not text:
        raise ValueError("no name")
    return text


def _read(folder: Path, name: str, parse: Callable[[str], Any]) -> dict[int, Any]:
    """A list: by the number that begins a line what stands behind it."""
    try:
        lines = (folder / name).read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{folder / name} is not a text file ({error}); extract {ARCHIVE.name} anew") from error
    found: dict[int, Any] = {}
    for line in filter(str.strip, lines):
        number, _, text = line.strip().partition(" ")
        try:
            if int(number) in found:
                raise UserError(f"{folder / name} has two lines for {number}; extract {ARCHIVE.name} anew")
            found[int(number)] = parse(text.strip())
        except (ValueError, KeyError):
            raise UserError(f"{folder / name} has the line '{line.strip()}'; extract {ARCHIVE.name} anew") from None
    if not found:
        raise UserError(f"{folder / name} is empty; extract {ARCHIVE.name} anew")
    return found


CUB200_2011 = DataSet(
    name="cub200-2011",
    description="Caltech-UCSD Birds 200, the release of 2011",
    class_count=CLASSES,
    default_classes=(),
    image_size=224,
    load=lambda folder, classes, options: read(find(folder), options["image_size"], options["resize"]),
    why_not_comparable=lambda data, options: "the 2011 release",
    flags=size_flags(224),
)
