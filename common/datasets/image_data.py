"""What every data set gives."""

import hashlib
from dataclasses import dataclass, replace

import numpy as np

from common.datasets.image_files import ImageFiles


@dataclass(frozen=True)
class ImageData:
    """Labelled images.

    Attributes:
        name: the data set's name, as ``--dataset`` takes it.
        train_images, test_images: uint8 (images, height, width, 3), RGB in 0..255, or the files to
            read such images from (``ImageFiles``), or features of them (``common.features``).
        train_labels, test_labels: int64 (images,), in 0..classes - 1.
        class_names: one for each label.
    """

    name: str
    train_images: np.ndarray | ImageFiles
    train_labels: np.ndarray
    test_images: np.ndarray | ImageFiles
    test_labels: np.ndarray
    class_names: tuple[str, ...]

    def sha256(self) -> str:
        """A fingerprint of every pixel and label, in hexadecimal."""
        digest = hashlib.sha256()
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            is_array = isinstance(array, np.ndarray)
            digest.update(np.ascontiguousarray(array).data if is_array else array.sha256().encode())
        return digest.hexdigest()

    def images_per_class(self) -> tuple[np.ndarray, np.ndarray]:
        """Counts (classes,) of the training and of the test images."""
        return tuple(
            np.bincount(labels, minlength=len(self.class_names)) for labels in (self.train_labels, self.test_labels)
        )

    def select(self, classes: tuple[int, ...]) -> "ImageData":
        """The images of the given labels, relabelled 0, 1, ... in the order given."""
        new_label = np.full(len(self.class_names), -1)
        new_label[list(classes)] = np.arange(len(classes))
        train, test = (np.flatnonzero(new_label[y] >= 0) for y in (self.train_labels, self.test_labels))
        return replace(
            self,
            train_images=self.train_images[train],
            train_labels=new_label[self.train_labels[train]],
            test_images=self.test_images[test],
            test_labels=new_label[self.test_labels[test]],
            class_names=tuple(self.class_names[label] for label in classes),
        )

    def limit(self, images_per_class: int) -> "ImageData":
        """The first training images of each class, at most as many; the test images stay whole."""
        kept = np.sort(
            np.concatenate(
                [np.flatnonzero(self.train_labels == c)[:images_per_class] for c in range(len(self.class_names))]
            )
        )
        return replace(self, train_images=self.train_images[kept], train_labels=self.train_labels[kept])
