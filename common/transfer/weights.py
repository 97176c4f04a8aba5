"""The pretrained weights of ResNet50: downloaded, from a file, or drawn."""

import hashlib
import math
import sys
import warnings
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import keras
import numpy as np

from common.errors import UserError

USUAL_SCALE = 20.0  # trained kernels seen here: between 0.4 and 6.7 times the scale of He's initialisation


@lru_cache(maxsize=1)
def read_weights(weights: str) -> dict[str, np.ndarray]:
    """The arrays of ``Model.get_weights``, in its order, by their paths, such as "conv1_conv/kernel".

    Args:
        weights: "imagenet" (downloaded and checked by Keras), "none" (drawn, always the same), or
            the path of a ``.weights.h5`` file of the network without its output layer.

    Raises:
        UserError: no download, a file that does not fit, or values that are not numbers; the error names the layer.
    """
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        if weights == "none":
            keras.utils.set_random_seed(0)
        try:
            downloaded = "imagenet" if weights == "imagenet" else None
            model = keras.applications.ResNet50(include_top=False, weights=downloaded)
        except Exception as error:  # get_file raises bare Exceptions
            raise UserError(f"no weights of ResNet50 ({error}); give a file with --weights, or none") from error
        if weights not in ("imagenet", "none"):
            _load(model, Path(weights))
        arrays = {weight.path: array for weight, array in zip(model.weights, model.get_weights())}
        for path, array in arrays.items():
            if not np.isfinite(array).all():
                raise UserError(f"--weights {weights}: {path} holds values that are not numbers; get the file again")
        return arrays
    finally:
        keras.config.set_dtype_policy(policy)


def _load(model: keras.Model, path: Path) -> None:
    if not path.name.endswith(".weights.h5"):
        raise UserError(f"--weights {path}: the name of a file of weights ends with .weights.h5")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # Keras lists every layer it misses, then raises
            model.load_weights(path)
    except Exception as error:  # h5py and Keras raise many kinds
        raise UserError(f"--weights {path} does not fit ResNet50 without its output layer: {error}") from error


def warn_of_unusual_scales(arrays: Mapping[str, np.ndarray]) -> None:
    """A line on stderr for each kernel that training is likely to ruin.

    A normalisation behind a convolution makes up for any scale of its kernel, so features are as they should be;
    but the gradient of a kernel that is k times too small is k times too large. The usual scale is the standard
    deviation √(2 / inputs) of He et al. 2015, arXiv:1502.01852.
    """
    for path, kernel in arrays.items():
        layer, _, kind = path.rpartition("/")
        if kind != "kernel":
            continue
        scale = float(kernel.std()) / math.sqrt(2 / math.prod(kernel.shape[:-1]))
        if not 1 / USUAL_SCALE < scale < USUAL_SCALE:
            print(
                f"warning: the kernel of {layer} has {scale:.2g} times the usual scale; frozen "
                "features are unaffected, but fine-tuning is likely to fail. Get other weights, or see "
                "docs/troubleshooting.md",
                file=sys.stderr,
            )


@lru_cache(maxsize=1)
def weights_sha256(weights: str) -> str:
    """A fingerprint of all weights that ``read_weights`` gives, in hexadecimal."""
    digest = hashlib.sha256()
    for array in read_weights(weights).values():
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
