"""The data sets, by the name ``--dataset`` takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from common.errors import UserError

if TYPE_CHECKING:
    from common.datasets.image_data import ImageData

# The real data set of an exercise: what --dataset may be there, and how many classes each has.
CLASS_COUNTS = {"cifar100": {"cifar100": 100, "synthetic": 25}, "cub200": {"cub200": 200, "synthetic": 20}}
RESIZE = ("squash", "pad", "crop")
IMAGE_SIZES = {"cub200": 224, "synthetic": 32}  # of birds, unless --image-size says otherwise


def load(name: str, data_dir: Path, classes: tuple[int, ...], limit: int | None) -> ImageData:
    """The chosen classes of a data set, relabelled 0, 1, ..., at most ``limit`` training images each.

    Raises:
        UserError: a class without images, no data, or damaged data.
    """
    if name == "cifar100":
        from common.datasets import cifar100

        data = cifar100.load(data_dir).select(classes)
    else:
        from common.datasets import synthetic

        data = synthetic.load(classes)
    _check(data, classes, data_dir)
    return data.limit(limit) if limit else data


def load_birds(
    name: str, data_dir: Path, classes: tuple[int, ...], limit: int | None, size: int, resize: str
) -> ImageData:
    """The chosen species of a bird data set, relabelled 0, 1, ..., as files that are read when they are needed.

    Args:
        size: side of the square that every image is resized to.
        resize: one of ``RESIZE``.

    Raises:
        UserError: a species without images, no data, or damaged data.
    """
    from common.datasets import cub200, synthetic_birds

    folder = cub200.find(data_dir) if name == "cub200" else synthetic_birds.find(data_dir)
    data = cub200.read(folder, name, size, resize)
    if max(classes) >= len(data.class_names):
        raise UserError(
            f"{folder} has the classes 0..{len(data.class_names) - 1}; choose from them with --classes"
        )
    data = data.select(classes)
    _check(data, classes, folder)
    return data.limit(limit) if limit else data


def _check(data: ImageData, classes: tuple[int, ...], where: Path) -> None:
    for label, (train, test) in enumerate(zip(*data.images_per_class())):
        if not train or not test:
            raise UserError(
                f"class {classes[label]} ({data.class_names[label]}) has {train} training and {test} test images "
                f"in {where}; choose others with --classes"
            )
