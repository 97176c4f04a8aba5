"""The pretrained weights of ResNet50: downloaded, from a file, or drawn."""

import hashlib
import math
import os
import sys
import warnings
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import h5py
import keras
import numpy as np

from common.errors import UserError

OFFICIAL = "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"  # ImageNet's, as ``keras.applications`` has them
URL = f"https://storage.googleapis.com/tensorflow/keras-applications/resnet/{OFFICIAL}"
MD5 = "4d473c1dd8becc155b73f8504c6f6626"
OLD_NAMES = "res2a_branch2a"  # a layer of the network as Keras named it before 2019
WHOLE = "model_weights/"  # where a file of a whole model has its weights
USUAL_SCALE = 20.0  # trained kernels seen here: between 0.4 and 6.7 times the scale of He's initialisation


@lru_cache(maxsize=1)
def read_weights(weights: str) -> dict[str, np.ndarray]:
    """The arrays of ``Model.get_weights``, in its order, by their paths, such as "conv1_conv/kernel".

    Args:
        weights: "imagenet" (downloaded and checked by Keras), "none" (drawn, always the same), or
            the path of a ``.h5`` file of the network without its output layer, in Keras's format or its older one.

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
            # Its one layer without a name would count up those of the networks that a process saves later.
            images = keras.Input((None, None, 3), name="images")
            model = keras.applications.ResNet50(include_top=False, weights=downloaded, input_tensor=images)
        except Exception as error:  # get_file raises bare Exceptions
            raise UserError(
                f"no weights of ResNet50 ({error}); {_where_to_put()}, or check the proxy (https_proxy)"
            ) from error
        if weights not in ("imagenet", "none"):
            _load(model, Path(weights))
        arrays = {weight.path: array for weight, array in zip(model.weights, model.get_weights())}
        for path, array in arrays.items():
            if not np.isfinite(array).all():
                raise UserError(f"--weights {weights}: {path} holds values that are not numbers; get the file again")
        return arrays
    finally:
        keras.config.set_dtype_policy(policy)


def without_network(weights: str, md5: str = MD5) -> str:
    """What ``read_weights`` takes in place of "imagenet" where the network may not be asked: the file that Keras keeps.

    Args:
        weights: as ``read_weights`` takes them; all but "imagenet" are returned as they are.
        md5: of the official file.

    Raises:
        UserError: Keras has no such file, or another one, which it would download again.
    """
    if weights != "imagenet":
        return weights
    path = _keras_file()
    if not path.is_file():
        raise UserError(f"no weights of ResNet50, and --offline asks no network; {_where_to_put()}")
    with open(path, "rb") as file:
        digest = hashlib.md5(usedforsecurity=False)
        while block := file.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != md5:
        raise UserError(f"{path} is not whole: its MD5 is not {md5}, and --offline asks no network; {_where_to_put()}")
    return str(path)


def _keras_file() -> Path:
    """Where Keras keeps ImageNet's weights."""
    return Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "models" / OFFICIAL


def _where_to_put() -> str:
    return f"put {URL} at {_keras_file()}, or give that file with --weights FILE, or use --weights none"


def _load(model: keras.Model, path: Path) -> None:
    """Sets the model's weights to those of a file, in which layers are found by name."""
    if path.suffix != ".h5":
        raise UserError(f"--weights {path}: the name of a file of weights ends with .h5")
    if not h5py.is_hdf5(path):
        raise UserError(f"--weights {path} is not an HDF5 file, or not whole; get {URL}")
    expected = {weight.path: tuple(weight.shape) for weight in model.weights}
    try:
        with h5py.File(path, "r") as file:
            found = _weights_by_path(file, model)
            if found:
                shapes = {name: array.shape for name, array in found.items()}
                if difference := _difference(expected, shapes):
                    raise UserError(f"--weights {path} {difference}; get {URL}")
                model.set_weights([np.asarray(found[name], np.float32) for name in expected])
                return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # Keras lists every layer it misses, then raises
            model.load_weights(path)
    except UserError:
        raise
    except Exception as error:  # h5py and Keras raise many kinds
        raise UserError(f"--weights {path} does not fit ResNet50 without its output layer: {error}") from error


def _weights_by_path(file: h5py.File, model: keras.Model) -> dict[str, h5py.Dataset]:
    """The arrays of a file by paths as ``read_weights`` has them; none if Keras wrote it before it wrote layers' names.

    In Keras's older format, of weights or of a whole model, an array is ``LAYER/LAYER/kernel:0``. In the newer one it
    is ``layers/KIND_NUMBER/vars/INDEX``, and the layer's name an attribute of ``vars``. Links are not followed, and
    arrays that lie in other files do not count.
    """
    arrays: dict[str, h5py.Dataset] = {}

    def visit(path: str, item) -> None:
        if isinstance(item, h5py.Dataset) and not item.external and not item.is_virtual:
            arrays[path] = item

    file.visititems(visit)
    of_model = {path.removeprefix(WHOLE): array for path, array in arrays.items() if path.startswith(WHOLE)}
    if of_model or "layer_names" in file.attrs:
        pieces = {path: path.split("/") for path in of_model or arrays}
        return {f"{first}/{last.partition(':')[0]}": (of_model or arrays)[p] for p, (first, *_, last) in pieces.items()}
    kinds = {layer.name: [weight.name for weight in layer.weights] for layer in model.layers}
    found = {}
    for path, array in arrays.items():
        layer, index = array.parent.attrs.get("name"), path.rpartition("/")[2]
        if layer is None:
            return {}
        found[f"{layer}/{dict(enumerate(kinds.get(layer, []))).get(int(index), index)}"] = array
    return found


def _difference(expected: Mapping[str, tuple], found: Mapping[str, tuple]) -> str | None:
    """What a file holds in place of the network's weights, in words; both are shapes by path."""

    def layers(paths) -> list[str]:
        return [*dict.fromkeys(path.partition("/")[0] for path in paths)]

    lacks = [layer for layer in layers(expected) if layer not in layers(found)]
    has = [layer for layer in layers(found) if layer not in layers(expected)]
    if OLD_NAMES in has:
        return f"has the layer names of an old Keras, such as {OLD_NAMES}"
    if has and not lacks and max(len(shape) for path, shape in found.items() if path.partition("/")[0] in has) == 2:
        return f"is of ResNet50 with its output layer, {has[0]}"
    if lacks or has:
        words = [f"{verb} {names[0]}" for verb, names in (("lacks", lacks), ("has", has)) if names]
        return f"is of another network than ResNet50: it {' and '.join(words)}"
    for path in [*expected, *found]:
        if expected.get(path) != found.get(path):
            shapes = (str(each.get(path, "missing")) for each in (found, expected))
            return "does not fit ResNet50: {} is {}, not {}".format(path, *shapes)
    return None


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
