"""A saved network is Keras's alone: it loads anywhere, without the suite."""

import os

import numpy as np
from conftest import run_code

from common.datasets import synthetic_birds
from common.datasets.image_data import DataFolder
from common.datasets.loading import load
from common.pipeline import Normalization
from common.reporting.run_folder import read_run

PREDICT = """
import sys, keras, numpy as np
for number in range(3):
    model = keras.models.load_model(f"{number}.keras")
    inputs = np.load(f"{number}.npy")
    logits = model.predict(inputs, verbose=0)
    assert logits.dtype == np.float32 and not model.compiled
    np.save(f"{number}-probabilities.npy", keras.ops.convert_to_numpy(keras.ops.softmax(logits)))
assert not any(name.split(".")[0] == "common" for name in sys.modules)
"""


def test_models_load_outside_the_checkout_and_give_the_saved_predictions(
    finished, champion, staged_birds, synthetic_data, drawn_birds, tmp_path
):
    """Plain, with test-time augmentation, and a fine-tuned ResNet50."""
    options = {"image_size": 32, "resize": "squash"}
    birds = load(synthetic_birds.SYNTHETIC_BIRDS, DataFolder(drawn_birds.parent, tmp_path), (0, 1, 2, 3), None, options)
    runs = [
        (finished[0], synthetic_data.select(tuple(range(5)))),
        (champion, synthetic_data.select((0, 1, 2))),
        (staged_birds, birds),
    ]
    for number, (folder, data) in enumerate(runs):
        normalization = Normalization(**read_run(folder).config["normalization"])
        np.save(tmp_path / f"{number}.npy", normalization.apply(np.asarray(data.test_images)))
        os.link(folder / "model.keras", tmp_path / f"{number}.keras")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    result = run_code(PREDICT, cwd=tmp_path, env=environment)
    assert result.returncode == 0, result.stderr
    for number, (folder, data) in enumerate(runs):
        with np.load(folder / "predictions.npz") as saved:
            found = np.load(tmp_path / f"{number}-probabilities.npy")
            np.testing.assert_allclose(found, saved["probabilities"], atol=1e-4)
            assert np.array_equal(saved["labels"], data.test_labels)
        assert np.ptp(found, axis=0).max() > 1e-3  # they do depend on the image
