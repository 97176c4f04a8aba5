"""The user's own images: a folder for each class."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.datasets.decoding import SUFFIXES
from common.datasets.image_data import DataFolder, DataSet, ImageData, UnsplitData
from common.datasets.image_files import DecodedFiles, ImageFiles, size_flags
from common.errors import UserError

SPLITS = {"train": "train", "val": "train", "validation": "train", "test": "test"}  # folders, in any case
IGNORED = ("__MACOSX", "@eaDir")  # beside hidden folders: what macOS and Synology's file servers add
LAYOUTS = (
    "It takes a folder for each class with its images straight in it, such as {0}/cats/1.jpg and {0}/dogs/1.jpg; or "
    "such folders in {0}/train and, for test images of their own, in {0}/test"
)
# Of a class, how many images of a part it takes, and what for.
LEAST = {"train": (2, "train and validate"), "test": (1, "test")}
LEAST_UNSPLIT = {"train": (3, "train, validate and test")}


@dataclass(frozen=True)
class Layout:
    """Where the images are.

    Attributes:
        folder: what ``--data-dir`` names.
        parts: by "train" and "test", the folders that hold folders of classes, relative to ``folder``; train/ is first.
        classes: their names, sorted.
    """

    folder: Path
    parts: Mapping[str, list[str]]
    classes: tuple[str, ...]


def find(folder: Path) -> Layout:
    """The classes of a folder, and whether it has test images of its own; no image is looked at.

    Raises:
        UserError: neither layout is there, or its parts have not the same classes.
    """
    if not folder.is_dir():
        raise UserError(f"--data-dir {folder} is not a folder that is there. {LAYOUTS.format(folder)}")
    inside = _folders(folder)
    # Folders of classes hold images, those of a split hold folders: a class may be called train, as CIFAR's is.
    splits = [name for name in inside if name.casefold() in SPLITS and _folders(folder / name)]
    training = next((name for name in splits if name.casefold() == "train"), None)
    if splits and training is None:
        raise UserError(f"{folder} has {splits[0]}/ without train/. {LAYOUTS.format(folder)}")
    if inside and all(name.casefold() in SPLITS for name in inside) and not splits:
        raise UserError(f"{folder / inside[0]} has no folders of classes in it. {LAYOUTS.format(folder)}")
    classes = inside if training is None else _folders(folder / training)
    if len(classes) < 2:
        found = f"only one folder, {classes[0]}, where classes should be" if classes else "no folders of classes in it"
        raise UserError(f"{folder / (training or '.')} has {found}. {LAYOUTS.format(folder)}")
    for name in splits:
        here = _folders(folder / name)
        more = [each for each in here if each not in classes]
        lacking = [each for each in classes if each not in here and SPLITS[name.casefold()] == "test"]
        if more or lacking:
            what = f"has a class {more[0]} that {training}/ has not" if more else f"lacks the class {lacking[0]}"
            raise UserError(f"{folder / name} {what}; {training}/ and {name}/ need the same class folders")
    train, test = ([name for name in splits if SPLITS[name.casefold()] == part] for part in ("train", "test"))
    train.sort(key=lambda name: name != training)
    return Layout(folder, {"train": train or ["."], "test": test}, tuple(classes))


def read(folder: Path, classes: tuple[int, ...], size: int, resize: str, in_memory: bool) -> ImageData:
    """The images of the folder, as they are in their files, with labels by the names of the classes.

    Args:
        classes: labels that must have images enough to train, validate and test with.
        size, resize: as ``common.datasets.image_files.ImageFiles`` has them.
        in_memory: they stay there once they were read.

    Raises:
        UserError: as ``find``; or a class with too few images, or a folder inside the folder of a class.
    """
    layout = find(folder)
    paths, labels = {}, {}
    for part, names in layout.parts.items():
        found = [
            (path, label)
            for name in names
            for label, of_class in enumerate(layout.classes)
            for path in _images(folder, name, of_class)
        ]
        paths[part] = [path for path, _ in found]
        labels[part] = np.array([label for _, label in found], np.int64)
    _check_counts(layout, labels, classes)
    files = ImageFiles(folder, np.array([*paths["train"], *paths["test"]]), size, resize)
    images = DecodedFiles(files, np.arange(len(files))) if in_memory else files
    train = len(paths["train"])
    kind = ImageData if layout.parts["test"] else UnsplitData
    return kind(
        name="folder",
        train_images=images[np.arange(train)],
        train_labels=labels["train"],
        test_images=images[np.arange(train, len(files))],
        test_labels=labels["test"],
        class_names=layout.classes,
    )


def _check_counts(layout: Layout, labels: Mapping[str, np.ndarray], classes: tuple[int, ...]) -> None:
    least = LEAST if layout.parts["test"] else LEAST_UNSPLIT
    for label in (label for label in classes if label < len(layout.classes)):
        name = layout.classes[label]
        for part, (count, use) in least.items():
            found = np.count_nonzero(labels[part] == label)
            if found < count:
                place = layout.folder / layout.parts[part][0] / name
                raise UserError(
                    f"class {name} has {found} images straight in {place}: it takes {count} to {use}, and better "
                    f"dozens; put some there, or leave the class out with --classes"
                )


def _check_output(output: Path, layout: Layout) -> None:
    for name in (name for names in layout.parts.values() for name in names):
        place = layout.folder / name
        if output.resolve().is_relative_to(place.resolve()):
            raise UserError(
                f"--output {output} is among the classes in {place}, and the next command would take it for one; "
                "choose a folder elsewhere with --output"
            )


def _folders(folder: Path) -> list[str]:
    """The names of the folders in a folder, sorted; without hidden ones."""
    with os.scandir(folder) as entries:
        names = [each.name for each in entries if each.is_dir() and not _is_hidden(each.name)]
    return sorted(_checked(folder, name) for name in names)


def _images(folder: Path, part: str, name: str) -> list[str]:
    """The images of a class, sorted, relative to the folder; none if the class has no folder there."""
    place = folder / part / name
    if not place.is_dir():
        return []
    if below := _folders(place):
        raise UserError(
            f"{place} is the folder of a class and holds a folder, {below[0]}; "
            f"put the images straight into the class. {LAYOUTS.format(folder)}"
        )
    with os.scandir(place) as entries:
        files = [each.name for each in entries if each.is_file() and not _is_hidden(each.name)]
    images = sorted(_checked(place, each) for each in files if Path(each).suffix.lower() in SUFFIXES)
    return [(Path(part) / name / each).as_posix() for each in images]


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in IGNORED


def _checked(folder: Path, name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise UserError(
            f"{folder} holds a name that is not UTF-8, {name.encode(errors='replace')!r}; rename it"
        ) from None
    return name


def _data_set(image_size: int, in_memory: bool) -> DataSet:
    def load(folder: DataFolder, classes: tuple[int, ...], options: Mapping[str, Any]) -> ImageData:
        layout = find(folder.path)
        _check_output(folder.spare.parent, layout)
        if joined := layout.parts["train"][1:]:
            print(f"images in {joined[0]}/ join those of train/; --validation-fraction holds some out", flush=True)
        return read(folder.path, classes, options["image_size"], options["resize"], in_memory)

    return DataSet(
        name="folder",
        description="images of one's own, a folder for each class",
        class_count=lambda folder: len(find(folder.path).classes),
        default_classes=(),
        image_size=image_size,
        load=load,
        why_not_comparable=lambda data, options: "images of one's own",
        flags=size_flags(image_size),
    )


SMALL_FOLDER = _data_set(32, in_memory=True)
PHOTOGRAPH_FOLDER = _data_set(224, in_memory=False)
