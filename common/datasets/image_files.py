"""Images that stay in their files until a batch needs them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from common.errors import UserError
from common.experiment import Flag, parse_number

RESIZE = ("squash", "pad", "crop")


@dataclass(frozen=True)
class ImageFiles:
    """JPEG files, seen as images (images, size, size, 3); as ``common.datasets.image_data.Images``.

    Attributes:
        folder: what the paths are relative to.
        paths: str (images,).
        size: side of the square that every image is resized to.
        resize: "squash" (both sides to ``size``), "pad" (the longer one, black beside it) or "crop"
            (the shorter one, the middle kept).
    """

    folder: Path
    paths: np.ndarray
    size: int
    resize: str

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, indices: np.ndarray) -> ImageFiles:
        return replace(self, paths=self.paths[indices])

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self.paths), self.size, self.size, 3

    def joined(self, others: ImageFiles) -> ImageFiles:
        return replace(self, paths=np.concatenate([self.paths, others.paths]))

    def absolute_paths(self) -> list[str]:
        return [str(self.folder / path) for path in self.paths]

    def sha256(self) -> str:
        """A fingerprint of names and bytes of the files, in hexadecimal."""
        digest = hashlib.sha256()
        for path in self.paths:
            digest.update(path.encode())
            digest.update(hashlib.sha256((self.folder / path).read_bytes()).digest())
        return digest.hexdigest()

    def content(self) -> bytes:
        return self.sha256().encode()

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        read, chunks = self.reader(), np.array_split(np.arange(len(self)), max(1, len(self) // 64))
        return np.concatenate([read(chunk).numpy() for chunk in chunks]).astype(dtype or np.float32, copy=False)

    def decode(self, path):
        """The image of one path (a string tensor): float32 (size, size, 3), RGB in 0..255.

        Grey and CMYK files become RGB. Resizing is bilinear, antialiased where it makes smaller.
        """
        import tensorflow as tf

        image = _decode(path)
        size = [self.size, self.size]
        if self.resize == "pad":
            image = tf.image.resize_with_pad(image, *size, antialias=True)
        else:
            if self.resize == "crop":
                side = tf.reduce_min(tf.shape(image)[:2])
                top, left = (tf.shape(image)[0] - side) // 2, (tf.shape(image)[1] - side) // 2
                image = image[top : top + side, left : left + side]
            image = tf.image.resize(image, size, antialias=True)
        return tf.ensure_shape(image, (*size, 3))

    def reader(self):
        import tensorflow as tf

        paths = tf.constant(self.absolute_paths())
        image = tf.TensorSpec(self.shape[1:], tf.float32)
        return lambda chosen: tf.map_fn(self.decode, tf.gather(paths, chosen), fn_output_signature=image)

    def verify(self) -> None:
        """Reads every image once.

        Raises:
            UserError: one does not decode; it is named.
        """
        import tensorflow as tf

        from common.pipeline import PARALLEL_CALLS, without_autotune  # imports TensorFlow

        readable = without_autotune(
            tf.data.Dataset.from_tensor_slices(self.absolute_paths()).map(
                lambda path: tf.shape(_decode(path)), num_parallel_calls=PARALLEL_CALLS, deterministic=True
            )
        )
        count = 0
        try:
            for _ in readable:
                count += 1
        except (tf.errors.InvalidArgumentError, tf.errors.NotFoundError) as error:
            raise UserError(
                f"{self.folder / self.paths[count]} is not a whole JPEG image; get the data again"
            ) from error


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


def _decode(path):
    import tensorflow as tf

    return tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
