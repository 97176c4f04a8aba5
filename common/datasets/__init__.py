"""The data sets, by the name ``--dataset`` takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from common.errors import UserError

if TYPE_CHECKING:
    from common.datasets.image_data import ImageData

CLASS_COUNTS = {"cifar100": 100, "synthetic": 25}


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
    for label, (train, test) in enumerate(zip(*data.images_per_class())):
        if not train or not test:
            raise UserError(
                f"class {classes[label]} ({data.class_names[label]}) has {train} training and {test} test images "
                f"in {data_dir}; choose others with --classes"
            )
    return data.limit(limit) if limit else data
