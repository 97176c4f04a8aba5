"""From a data set and what is wanted of it to its images, checked."""

from collections.abc import Mapping
from typing import Any

from common.datasets.image_data import DataFolder, DataSet, ImageData
from common.errors import UserError


def load(
    dataset: DataSet, folder: DataFolder, classes: tuple[int, ...], limit: int | None, options: Mapping[str, Any]
) -> ImageData:
    """The chosen classes of a data set, relabelled 0, 1, ..., at most ``limit`` training images per class.

    Args:
        options: the values of the data set's own flags.

    Raises:
        UserError: a class without images, or with one to train on and to validate, no data, or damaged data.
    """
    data = dataset.load(folder, classes, options)
    if max(classes) >= len(data.class_names):
        raise UserError(
            f"{dataset.name} in {folder.path} has the classes 0..{len(data.class_names) - 1}; "
            "choose from them with --classes"
        )
    data = data.select(classes)
    for label, (train, test) in enumerate(zip(*data.images_per_class())):
        if not train or not test:
            raise UserError(
                f"class {classes[label]} ({data.class_names[label]}) has {train} training and {test} test images "
                f"in {folder.path}; choose others with --classes"
            )
    data = data.limit(limit) if limit else data
    for label, count in enumerate(data.images_per_class()[0]):
        if count < 2:
            raise UserError(
                f"class {classes[label]} ({data.class_names[label]}) has one training image, and a class needs two, to "
                "train and to validate; add images, raise --limit, or leave the class out with --classes"
            )
    return data
