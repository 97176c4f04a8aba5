"""Images that stay in their files until a batch needs them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from common.datasets.decoding import decode
from common.datasets.image_data import ImageArray
from common.errors import UserError
from common.experiment import Flag, parse_number

RESIZE = ("squash", "pad", "crop")


@dataclass(frozen=True)
class ImageFiles:
    """Files of images, seen as images (images, size, size, 3); as ``common.datasets.image_data.Images``.

    A file must have the same bytes whenever it is read, so that what is trained on is what the fingerprint says.

    Attributes:
        folder: what the paths are relative to.
        paths: str (images,).
        size: side of the square that every image is resized to.
        resize: "squash" (both sides to ``size``), "pad" (the longer one, black beside it) or "crop"
            (the shorter one, the middle kept).
        known: by absolute path, the SHA-256 of a file that has been read; all parts of the same images share it.
    """

    folder: Path
    paths: np.ndarray
    size: int
    resize: str
    known: dict[str, bytes] = field(default_factory=dict, compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, indices: np.ndarray) -> ImageFiles:
        return replace(self, paths=self.paths[indices])

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self.paths), self.size, self.size, 3

    def joined(self, others: ImageFiles) -> ImageFiles:
        """These and, behind them, others; both are parts of the same images."""
        return replace(self, paths=np.concatenate([self.paths, others.paths]))

    def absolute_paths(self) -> list[str]:
        return [str(self.folder / path) for path in self.paths]

    @property
    def names(self) -> np.ndarray:
        """The files, relative to their folder."""
        return self.paths

    def sha256(self) -> str:
        """A fingerprint of names and bytes of the files, in hexadecimal."""
        digest = hashlib.sha256()
        for name, path in zip(self.paths, self.absolute_paths()):
            if path not in self.known:
                self._read(path)
            digest.update(name.encode())
            digest.update(self.known[path])
        return digest.hexdigest()

    def content(self) -> bytes:
        return self.sha256().encode()

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        read, chunks = self.reader(), np.array_split(np.arange(len(self)), max(1, len(self) // 64))
        return np.concatenate([read(chunk).numpy() for chunk in chunks]).astype(dtype or np.float32, copy=False)

    def decode(self, path):
        """The image of one path (a string tensor): float32 (size, size, 3), RGB in 0..255.

        Resizing is bilinear, antialiased where it makes smaller.

        Raises:
            UserError: it cannot be read, has changed, or as ``common.datasets.decoding.decode``; inside a TensorFlow
                function ``tf.errors.OpError``.
        """
        import tensorflow as tf

        image = tf.numpy_function(self._pixels, [path], tf.uint8, stateful=False)
        image = tf.ensure_shape(image, (None, None, 3))
        has_size = tf.reduce_all(tf.shape(image)[:2] == self.size)  # the same pixels, in a third of the time
        image = tf.cond(has_size, lambda: tf.cast(image, tf.float32), lambda: self._resized(image))
        return tf.ensure_shape(image, self.shape[1:])

    def _resized(self, image):
        import tensorflow as tf

        size = [self.size, self.size]
        if self.resize == "pad":
            return tf.image.resize_with_pad(image, *size, antialias=True)
        if self.resize == "crop":
            side = tf.reduce_min(tf.shape(image)[:2])
            top, left = (tf.shape(image)[0] - side) // 2, (tf.shape(image)[1] - side) // 2
            image = image[top : top + side, left : left + side]
        return tf.image.resize(image, size, antialias=True)

    def reader(self):
        import tensorflow as tf

        paths = tf.constant([os.fsencode(path) for path in self.absolute_paths()])  # a name need not be UTF-8
        image = tf.TensorSpec(self.shape[1:], tf.float32)
        decode = tf.autograph.experimental.do_not_convert(self.decode)  # which would wrap a UserError in its traceback
        return lambda chosen: tf.map_fn(decode, tf.gather(paths, chosen), fn_output_signature=image)

    def verify(self) -> None:
        """Reads every image once.

        Raises:
            UserError: one cannot be read; the line names it, the first of several.
        """
        self._each(lambda path: self._pixels(path).shape)

    @cached_property
    def pixels(self) -> np.ndarray:
        """All images as uint8 (images, size, size, 3), read when they are first asked for.

        Raises:
            UserError: one cannot be read; the line names it, the first of several.
        """
        images = self._each(lambda path: np.rint(self.decode(os.fsencode(path)).numpy()).astype(np.uint8))
        return np.stack(images) if images else np.empty(self.shape, np.uint8)

    def _each(self, function: Callable[[str], Any]) -> list:
        from common.pipeline import PARALLEL_CALLS  # imports TensorFlow

        with ThreadPoolExecutor(PARALLEL_CALLS) as threads:
            return list(threads.map(function, self.absolute_paths()))

    def _pixels(self, path) -> np.ndarray:
        name = os.fsdecode(np.asarray(path).item())
        return decode(self._read(name), name)

    def _read(self, path: str) -> bytes:
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise UserError(
                f"{path} cannot be read: {error.strerror}; mend that and give the same command again"
            ) from error
        digest = hashlib.sha256(content).digest()
        if self.known.setdefault(path, digest) != digest:
            raise UserError(
                f"{path} has changed since it was first read; put the old one back and give the same command again, or "
                "train on the new one with --force"
            )
        return content


@dataclass(frozen=True)
class DecodedFiles:
    """Images of files that are read once, when the first is needed, and then stay in memory; as ``Images``.

    Attributes:
        files: all of them.
        chosen: int (images,), which of them these are.
    """

    files: ImageFiles
    chosen: np.ndarray

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, indices: np.ndarray) -> DecodedFiles:
        return replace(self, chosen=self.chosen[indices])

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self.chosen), *self.files.shape[1:]

    @property
    def names(self) -> np.ndarray:
        return self.files.paths[self.chosen]

    @property
    def values(self) -> np.ndarray:
        """uint8 (images, size, size, 3)."""
        return self.files.pixels[self.chosen]

    def joined(self, others: DecodedFiles) -> DecodedFiles:
        return replace(self, chosen=np.concatenate([self.chosen, others.chosen]))

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(self.values, dtype)

    def reader(self) -> Callable:
        return ImageArray(self.values).reader()

    def verify(self) -> None:
        """Reads them, if that has not been done."""
        _ = self.files.pixels

    def content(self) -> bytes | memoryview:
        return ImageArray(self.values).content()


def size_flags(default_size: int) -> tuple[Flag, ...]:
    """The flags of a data set whose images are files of any size."""

    def parse_resize(text: str) -> str:
        if text not in RESIZE:
            raise ValueError(f"'{text}' is not one of {', '.join(RESIZE)}")
        return text

    return (
        Flag(
            "image-size",
            "images are resized to N×N",
            default_size,
            lambda text: parse_number(text, int, low=32, high=1024),
        ),
        Flag(
            "resize",
            "how a photograph becomes a square: squash its sides, pad it with black, or crop it",
            "squash",
            parse_resize,
        ),
    )
