"""What a finished run says of a picture: its network, and all that stands before it."""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from PIL import Image
from scipy.special import softmax

from common.datasets.image_files import ImageFiles
from common.errors import UserError
from common.grad_cam import class_activation_map, grad_cam, has_maps
from common.pipeline import Normalization
from common.reporting import heat_map
from common.reporting.run_folder import NETWORK_FILES, check_whole
from common.saved_network import SavedRun
from common.transfer import features
from common.transfer.weights import weights_sha256

EXPLANATION_SIDE = 224  # pixels, at least, of each of the two pictures


class Predictor:
    """The network of a finished run, asked about images in files, which are prepared as the run prepared its own.

    Attributes:
        classes: the names, by label.
        can_explain: whether the network has maps that ``explain`` could draw.

    Source of what is prepared how: the run's ``config.json``; see docs/runs.md.
    """

    def __init__(self, folder: Path, weights: str | None = None):
        """
        Args:
            folder: of a run, ``OUTPUT/DATASET/SCRIPT/NAME/seed-N``; ``config.json`` and ``model.keras`` are read.
            weights: ResNet50's, for a head on its features, as ``common.transfer.weights.read_weights`` takes them;
                None: drawn ones if the run had those, else ImageNet's.

        Raises:
            UserError: no run, no network or a damaged one, or other weights than the run had.
        """
        run = SavedRun.of(folder, weights)
        check_whole(folder, NETWORK_FILES)
        self.classes = run.classes
        self._normalization = Normalization(**run.normalization)
        self._features = _kind_of_features(folder, run.features)
        self._is_whole, self._resize = run.is_whole, run.resize
        self._model = _load_model(folder / "model.keras")
        if self._model.output_shape != (None, len(run.classes)):
            raise UserError(f"{folder / 'model.keras'} is not a network of the {len(run.classes)} classes of its run")
        self._size = run.image_size or self._model.input_shape[1]
        if self._features and self._model.input_shape[1:] != self._features.shape((self._size, self._size, 3)):
            raise UserError(
                f"{folder} was trained on features '{run.features}' of another version of the suite; train it again"
            )
        if run.weights_sha256:
            choice = _fitting_weights(folder, run.weights_sha256, weights)
            self._backbone = features.feature_extractor(choice, run.precision)
        self.can_explain = self._features is not None or has_maps(self._model)

    def predict(self, path: Path) -> np.ndarray:
        """The probabilities float32 (classes,) of the image in a file.

        Raises:
            UserError: it cannot be read.
        """
        return softmax(self._model.predict_on_batch(self._inputs(self._read(path)))[0].astype(np.float32))

    def explain(self, path: Path, label: int) -> Image.Image:
        """The image as the network sees it and, beside it, where the network looks for a class: Grad-CAM.

        Of a head on features, in the maps that they come from. ``can_explain`` must be true.

        Raises:
            UserError: it cannot be read.
        """
        images, labels = self._read(path), np.array([label])
        if self._features:
            heat = self._heat_of_features(self._features, images, labels)
        else:
            heat = grad_cam(self._model, self._inputs(images), labels)
            assert heat is not None  # ``can_explain``
        image = Image.fromarray(np.round(images[0]).astype(np.uint8))
        return heat_map.beside(image, heat[0], max(EXPLANATION_SIDE, self._size))

    def _read(self, path: Path) -> tf.Tensor:
        images = ImageFiles(path.parent, np.array([path.name]), self._size, self._resize)
        pixels = images.reader()(tf.range(1))
        return tf.round(pixels) if self._is_whole else pixels

    def _heat_of_features(self, kind: features.Kind, images: tf.Tensor, labels: np.ndarray) -> np.ndarray:
        """Where ResNet50 and the head on its features look in the images, without their mirror images."""
        maps, projections = self._backbone(images), self._backbone.projections

        def logits(explained: tf.Tensor) -> tf.Tensor:
            return self._model(kind.pool(maps._replace(**{kind.explained: explained}), projections), training=False)

        return class_activation_map(logits, getattr(maps, kind.explained), labels)

    def _inputs(self, images: tf.Tensor) -> tf.Tensor:
        """What the network takes of images float32 (batch, size, size, 3) in 0..255."""
        if self._features is None:
            return self._normalization.apply(images)
        return self._normalization.apply(tf.constant(features.compute(self._backbone, self._features, images)))


def _kind_of_features(folder: Path, name: str | None) -> features.Kind | None:
    if name is None:
        return None
    if name not in features.KINDS:
        raise UserError(f"{folder} was trained on features '{name}', which this version does not know")
    return features.KINDS[name]


def _load_model(path: Path) -> keras.Model:
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # of a damaged file Keras, zipfile and h5py raise many kinds
        raise UserError(f"{path} is damaged ({type(error).__name__}); train the run again") from error


def _fitting_weights(folder: Path, fingerprint: str, weights: str | None) -> str:
    """The weights of this fingerprint: the given ones, or those that need no file.

    Raises:
        UserError: they have another.
    """
    choices = ("none", "imagenet") if weights is None else (weights,)
    for choice in choices:
        if weights_sha256(choice) == fingerprint:
            return choice
    raise UserError(
        f"{folder} was trained on the features of other weights of ResNet50 than "
        f"--weights {choices[-1]}; give the file that it was trained with"
    )
