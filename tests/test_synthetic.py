import numpy as np

from common.datasets import synthetic


def test_the_same_25_balanced_classes_every_time(synthetic_data):
    data = synthetic_data
    assert (data.train_images.shape, data.train_images.dtype) == ((12500, 32, 32, 3), np.uint8)
    assert [part.tolist() for part in data.images_per_class()] == [[500] * 25, [100] * 25]
    assert len(set(data.class_names)) == 25
    assert data.sha256() == synthetic.load(tuple(range(25))).sha256()


def test_a_class_looks_the_same_whatever_others_are_drawn(synthetic_data):
    data = synthetic.load((7, 3))
    assert data.class_names == (synthetic_data.class_names[7], synthetic_data.class_names[3])
    assert np.array_equal(data.train_images[500:], synthetic_data.train_images[1500:2000])


def test_no_image_stands_twice(synthetic_data):
    images = np.concatenate([synthetic_data.train_images, synthetic_data.test_images])
    assert len({image.tobytes() for image in images}) == 15000
