"""A few test images, and what a network makes of them, for those who want to see more than a number."""

import keras
import numpy as np
import tensorflow as tf

from common.grad_cam import grad_cam
from common.models.layers import flat_layers
from common.pipeline import Normalization

SHOWN = 12  # of each kind
PAIRS = 8
HEAT_MAPS = 4  # of the mistakes, and of the correct predictions


def choose(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Test images that are worth a look.

    Args:
        probabilities: float (images, classes).
        labels: int (images,).

    Returns:
        ``mistakes``, those of the highest confidence, and ``correct``, correct predictions of the lowest: indices of
        images; and ``pairs`` (at most 8, 4), the classes that are confused most: the true one, the predicted one, the
        image misclassified with the highest confidence, and the one of the predicted class that is classified
        correctly with the highest confidence, -1 if there is none.
    """
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    by_confidence = np.argsort(-confidence, kind="stable")
    is_correct = predicted == labels
    mistakes, correct = by_confidence[~is_correct[by_confidence]], by_confidence[is_correct[by_confidence]]
    classes = probabilities.shape[1]
    counts = np.bincount(labels[mistakes] * classes + predicted[mistakes], minlength=classes**2)
    pairs = []
    for cell in np.argsort(-counts, kind="stable")[:PAIRS]:
        if counts[cell]:
            true, taken_for = divmod(int(cell), classes)
            mistaken = mistakes[(labels[mistakes] == true) & (predicted[mistakes] == taken_for)][0]
            pairs.append((true, taken_for, mistaken, next(iter(correct[labels[correct] == taken_for]), -1)))
    return {
        "mistakes": mistakes[:SHOWN],
        "correct": correct[::-1][:SHOWN],
        "pairs": np.array(pairs, int).reshape(-1, 4),
    }


def collect(
    model: keras.Model, images, labels: np.ndarray, probabilities: np.ndarray, normalization: Normalization
) -> dict[str, np.ndarray]:
    """What ``examples.npz`` holds: what ``choose`` returns, and

    - ``index`` (n,): the test images kept, ascending; ``image`` uint8 (n, height, width, 3); ``label`` and
      ``predicted`` (n,); ``confidence`` float32 (n,), the probability of the predicted class;
    - ``heat_map`` float32 (8, h, w) in 0..1 of the first mistakes and correct predictions, whose indices are
      ``heat_map_of``: Grad-CAM of the predicted class; none of a network without maps of images;
    - ``filters`` float32 (height, width, 3, filters): the kernel of the first convolution, if it sees colours.

    Args:
        model: gives logits; of images, or of features of them.
        images: the test images, as ``common.datasets.image_data.Images``.

    Raises:
        UserError: an image that cannot be read.
    """
    found = choose(probabilities, labels)
    index = np.unique(np.concatenate([found["mistakes"], found["correct"], found["pairs"][:, 2:].ravel()]))
    index = index[index >= 0]
    pixels = images[index].reader()(tf.range(len(index)))
    found |= {
        "index": index,
        "image": np.round(pixels).astype(np.uint8),
        "label": labels[index],
        "predicted": probabilities[index].argmax(axis=1),
        "confidence": probabilities[index].max(axis=1).astype(np.float32),
    }
    if tuple(model.input.shape[1:]) == tuple(images.shape[1:]):
        chosen = np.concatenate([found["mistakes"][:HEAT_MAPS], found["correct"][:HEAT_MAPS]])
        places = np.searchsorted(index, chosen)
        inputs = normalization.apply(tf.gather(pixels, places))
        heat = grad_cam(model, inputs, found["predicted"][places])
        found |= {} if heat is None else {"heat_map_of": chosen, "heat_map": heat}
        kernels = [layer.kernel for layer in flat_layers(model) if isinstance(layer, keras.layers.Conv2D)]
        if kernels and kernels[0].shape[2] == 3:
            found["filters"] = np.asarray(kernels[0], np.float32)
    return found
