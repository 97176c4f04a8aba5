import numpy as np

from common.datasets import synthetic
from common.datasets.image_data import DataFolder
from common.datasets.loading import load


def test_the_same_25_balanced_classes_every_time(synthetic_data):
    data = synthetic_data
    assert (data.train_images.shape, data.train_images.values.dtype) == ((12500, 32, 32, 3), np.uint8)
    assert [part.tolist() for part in data.images_per_class()] == [[500] * 25, [100] * 25]
    assert len(set(data.class_names)) == 25
    assert data.sha256 == synthetic.load(tuple(range(25))).sha256


def test_a_class_looks_the_same_whatever_others_are_drawn(synthetic_data, tmp_path):
    data = load(synthetic.SYNTHETIC, DataFolder(tmp_path, tmp_path), (7, 3), None, {})
    assert data.class_names == (synthetic_data.class_names[7], synthetic_data.class_names[3])
    of_class_3 = data.train_images.values[data.train_labels == 1]
    assert np.array_equal(of_class_3, synthetic_data.train_images.values[1500:2000])


def test_no_image_stands_twice(synthetic_data):
    images = np.concatenate([synthetic_data.train_images.values, synthetic_data.test_images.values])
    assert len({image.tobytes() for image in images}) == 15000
