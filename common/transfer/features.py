"""The features that frozen ResNet50 gives of each image, computed once and kept on disk."""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from common.datasets.image_data import ImageData, Images
from common.errors import UserError
from common.files import make_once, rename
from common.fingerprint import code_fingerprint
from common.models import resnet50
from common.models.second_order import halves_length, second_order
from common.pipeline import PARALLEL_CALLS, evaluation_batch_size, without_autotune
from common.transfer.weights import read_weights, weights_sha256


@dataclass(frozen=True)
class Kind:
    """What is kept of an image.

    Attributes:
        pool: from ResNet50's maps of some images, and its projections, to their features float32 (batch, ...).
        shape: of an image's features, by the image's.
        is_mirrored: features are averaged over each image and its mirror image.
        dtype: on disk.
        explained: the maps in which an explanation looks; those that say most.
    """

    pool: Callable[[resnet50.Maps, resnet50.Projections], tf.Tensor]
    shape: Callable[[tuple[int, ...]], tuple[int, ...]]
    is_mirrored: bool = False
    dtype: type = np.float32
    explained: str = "fifth"


def _average(maps: resnet50.Maps, projections: resnet50.Projections) -> tf.Tensor:
    return tf.reduce_mean(maps.fifth, [1, 2])


def _last_map(maps: resnet50.Maps, projections: resnet50.Projections) -> tf.Tensor:
    return maps.fifth


def _second_order(maps: resnet50.Maps, projections: resnet50.Projections) -> tf.Tensor:
    return second_order(*(tf.tensordot(each, kernel, 1) for each, kernel in zip(maps, projections)))


def _of_average(image_shape: tuple[int, ...]) -> tuple[int, ...]:
    return (resnet50.CHANNELS,)


KINDS = {
    "pooled": Kind(_average, _of_average),
    "pooled-flip-average": Kind(_average, _of_average, is_mirrored=True),
    "map": Kind(_last_map, resnet50.last_map_shape, dtype=np.float16),
    "second-order": Kind(
        _second_order,
        lambda _: (2 * halves_length(resnet50.PROJECTED),),
        is_mirrored=True,
        dtype=np.float16,
        explained="fourth",
    ),
}


def load(
    data: ImageData,
    kind: str,
    folder: Path,
    *,
    weights: str,
    precision: str,
    quiet: bool,
    data_options: Mapping[str, Any],
) -> ImageData:
    """The data with features in place of the images, read from disk as they are needed.

    They are kept in ``FOLDER/KIND-KEY.npy``, where KEY stands for everything that decides them; an extraction
    that was stopped resumes where it was.

    Args:
        kind: "pooled" (images, 2048) float32; "pooled-flip-average", the same averaged over each image and
            its mirror image; "map" (images, height / 32, width / 32, 2048) float16; or "second-order" (images, 66048)
            float16, ``common.models.second_order.second_order`` averaged over each image and its mirror image.
        weights: ResNet50's, as ``common.transfer.weights.read_weights`` takes them.
        precision: a key of ``common.experiment.PRECISIONS``.
        data_options: the values of the data set's flags, such as the images' size.

    Raises:
        UserError: an image that does not decode, or a file of features that is damaged.
    """
    images = data.train_images.joined(data.test_images)
    decides = {
        "images": hashlib.sha256(images.content()).hexdigest(),
        "options": dict(data_options),
        "weights": weights_sha256(weights),
        "precision": precision,
        "code": code_fingerprint([__name__, type(images).__module__]),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
    }
    key = hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:16]
    path = folder / f"{kind}-{key}.npy"

    def extract():
        images.verify()
        _extract(images, KINDS[kind], feature_extractor(weights, precision), path, quiet)

    make_once(path, extract)
    try:
        np.load(path, mmap_mode="r")
    except (ValueError, EOFError) as error:
        raise UserError(f"{path} is damaged ({error}); delete it, it is computed again") from error
    count = len(data.train_labels)
    train, test = np.arange(count), np.arange(count, len(images))
    return replace(data, train_images=FeatureRows(path, train), test_images=FeatureRows(path, test))


@lru_cache(maxsize=1)
def feature_extractor(weights: str, precision: str) -> resnet50.Frozen:
    """``resnet50.Frozen`` with the weights and the precision of a command, kept for its next kind of features."""
    return resnet50.Frozen(read_weights(weights), tf.bfloat16 if precision == "bfloat16" else tf.float32)


def compute(network: resnet50.Frozen, kind: Kind, images: tf.Tensor) -> np.ndarray:
    """The features of a kind, as ``load`` keeps them, of images float32 (batch, height, width, 3) in 0..255."""
    sides = (images, images[:, :, ::-1]) if kind.is_mirrored else (images,)
    features = tf.add_n([kind.pool(network(side), network.projections) for side in sides]) / len(sides)
    return features.numpy().astype(kind.dtype)


@dataclass(frozen=True)
class FeatureRows:
    """Rows of a ``.npy`` file of features, as ``common.datasets.image_data.Images``; a batch is read when needed.

    The file is mapped anew for each batch: of a large file, the pages once read would stay in memory.

    Attributes:
        path: an array (images, ...), of the whole data set.
        rows: int (n,), which of them.
    """

    path: Path
    rows: np.ndarray
    names = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def values(self) -> np.ndarray:
        """The whole array, memory-mapped."""
        return np.load(self.path, mmap_mode="r")

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.rows), *self.values.shape[1:]

    def __getitem__(self, indices: np.ndarray) -> "FeatureRows":
        return FeatureRows(self.path, self.rows[indices])

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(self.values[self.rows], dtype)

    def joined(self, others: "FeatureRows") -> "FeatureRows":
        return FeatureRows(self.path, np.concatenate([self.rows, others.rows]))

    def content(self) -> bytes:
        return np.ascontiguousarray(self.values[self.rows]).tobytes()

    def verify(self) -> None:
        """Nothing to look at: the suite wrote them."""

    def reader(self):
        dtype, shape = tf.as_dtype(self.values.dtype), (None, *self.shape[1:])

        def read(chosen):
            values = tf.numpy_function(lambda indices: self.values[self.rows[indices]], [chosen], dtype)
            return tf.cast(tf.ensure_shape(values, shape), tf.float32)

        return read


def _extract(images: Images, kind: Kind, network: resnet50.Frozen, path: Path, quiet: bool) -> None:
    """Appends a batch after the other to a hidden file, which takes its name once it is whole."""
    partial = path.with_name(f".{path.name}.partial")
    row = kind.shape(images.shape[1:])
    with open(partial, "a+b") as file:
        done = _whole_batches(file, (len(images), *row), kind.dtype, evaluation_batch_size(images.shape[1:]))
        bar = keras.utils.Progbar(len(images), verbose=int(sys.stdout.isatty() and not quiet), unit_name="image")
        if not quiet:
            print(f"features of {len(images):,} images are computed, once", flush=True)
        for batch in batches(images, done):
            file.write(compute(network, kind, batch).tobytes())
            done += len(batch)
            bar.update(done)
    rename(partial, path)


def batches(images: Images, start: int = 0) -> tf.data.Dataset:
    """Images float32 (batch, size, size, 3) in 0..255, in their order, from the given one on."""
    return without_autotune(
        tf.data.Dataset.range(start, len(images))
        .batch(evaluation_batch_size(images.shape[1:]))
        .map(images.reader(), num_parallel_calls=PARALLEL_CALLS, deterministic=True)
        .prefetch(2)
    )


def _whole_batches(file, shape: tuple[int, ...], dtype, batch_size: int) -> int:
    """Writes the header of a ``.npy`` file, or cuts what a stopped extraction left to whole batches; images done."""
    file.seek(0, os.SEEK_END)
    size = file.tell()
    file.seek(0)
    try:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
    except ValueError:  # new, or stopped within the header
        file.truncate(0)
        descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
        np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
        return 0
    start = file.tell()
    row = int(np.prod(shape[1:])) * np.dtype(dtype).itemsize
    done = min((size - start) // row, shape[0])
    if done < shape[0]:
        done -= done % batch_size
    file.truncate(start + done * row)
    file.seek(0, os.SEEK_END)
    return done
