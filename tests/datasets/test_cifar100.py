import os
import pickle
import tarfile
from dataclasses import replace

import numpy as np
import pytest
from conftest import visible_files

from common.datasets import cifar100
from common.datasets.cifar100 import CIFAR100
from common.datasets.image_data import DataFolder, ImageArray
from common.datasets.loading import load
from common.errors import UserError

ALL = tuple(range(25))


def test_pixels_labels_and_names(cifar100_dir, synthetic_data):
    data = cifar100.load(cifar100_dir)
    assert data.train_images.values.dtype == np.uint8
    assert np.array_equal(data.train_images.values[:12], synthetic_data.train_images.values[:12])
    assert np.bincount(data.train_labels).tolist() == [12] * 25
    assert len(data.class_names) == 100


def test_chosen_classes_are_relabelled_in_the_order_given(cifar100_dir):
    whole = load(CIFAR100, DataFolder(cifar100_dir, cifar100_dir), ALL, None, {})
    data = load(CIFAR100, DataFolder(cifar100_dir, cifar100_dir), (7, 3), 5, {})
    assert data.class_names == ("class 7", "class 3")
    assert np.bincount(data.train_labels).tolist() == [5, 5]
    expected = whole.train_images.values[whole.train_labels == 7][:5]
    assert np.array_equal(data.train_images.values[data.train_labels == 0], expected)


def test_a_class_without_images_is_named(cifar100_dir):
    with pytest.raises(UserError, match=r"class 30 \(class 30\) has 0 training and 0 test images"):
        load(CIFAR100, DataFolder(cifar100_dir, cifar100_dir), (0, 30), None, {})


def test_the_archive_gives_the_same_as_the_folder(cifar100_dir, tmp_path):
    other = tmp_path / "archive"
    other.mkdir()
    with tarfile.open(other / cifar100.ARCHIVE, "w:gz") as tar:
        tar.add(cifar100_dir / cifar100.FOLDER, cifar100.FOLDER)
    assert cifar100.load(other).sha256 == cifar100.load(cifar100_dir).sha256
    assert visible_files(other) == [cifar100.ARCHIVE, *(f"{cifar100.FOLDER}/{n}" for n in ("meta", "test", "train"))]


@pytest.mark.parametrize("damage", ["cut", "not an archive", "link", "one byte", "no train"])
def test_a_bad_archive_is_an_error_and_leaves_nothing(cifar100_dir, tmp_path, damage):
    folder = tmp_path / "archive"
    folder.mkdir()
    archive = folder / cifar100.ARCHIVE
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(cifar100_dir / cifar100.FOLDER / "meta", f"{cifar100.FOLDER}/meta")
        tar.add(cifar100_dir / cifar100.FOLDER / "test", f"{cifar100.FOLDER}/test")
        if damage == "link":
            link = tarfile.TarInfo(f"{cifar100.FOLDER}/train")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(link)
        elif damage != "no train":
            tar.add(cifar100_dir / cifar100.FOLDER / "train", f"{cifar100.FOLDER}/train")
    if damage == "cut":
        archive.write_bytes(archive.read_bytes()[:-5000])
    elif damage == "one byte":
        content = bytearray(archive.read_bytes())
        content[len(content) // 2] ^= 1
        archive.write_bytes(content)
    elif damage == "not an archive":
        archive.write_bytes(b"<html>not found</html>")
    words = "which no data set needs" if damage == "link" else r"cifar-100-python\.tar\.gz is not whole"
    with pytest.raises(UserError, match=words):
        cifar100.load(folder)
    assert visible_files(folder) == [cifar100.ARCHIVE]


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_prepared_pickle_runs_no_code(cifar100_dir, tmp_path):
    mark = tmp_path / "mark"
    (cifar100_dir / cifar100.FOLDER / "train").write_bytes(pickle.dumps({"data": Evil(mark)}))
    with pytest.raises(UserError, match=r"asks for \w+\.mkdir"):
        cifar100.load(cifar100_dir)
    assert not mark.exists()


def _changed(path, **changes):
    content = pickle.loads(path.read_bytes())
    path.write_bytes(pickle.dumps({**content, **changes}, protocol=2))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: (f / "train").write_bytes((f / "train").read_bytes()[:-1000]), "train is not a whole CIFAR-100"),
        (lambda f: (f / "train").write_bytes(b""), "train is not a whole CIFAR-100"),
        (lambda f: (f / "train").unlink(), "train is missing"),
        (lambda f: (f / "meta").replace(f / "train"), "train is not a whole CIFAR-100"),
        (lambda f: (f / "test").write_bytes((f / "train").read_bytes()), "train and test look swapped"),
        (lambda f: _changed(f / "test", batch_label="training batch 1 of 1"), "train and test look swapped"),
        (lambda f: _changed(f / "train", data=np.zeros((300, 3072))), "uint8 array"),
        (lambda f: _changed(f / "train", fine_labels=[0] * 299), "300 integers"),
        (lambda f: _changed(f / "train", fine_labels=[100] * 300), "outside 0..99"),
        (lambda f: _changed(f / "meta", fine_label_names=["apple"]), "100 names"),
    ],
)
def test_damaged_files_are_named(cifar100_dir, damage, words):
    damage(cifar100_dir / cifar100.FOLDER)
    with pytest.raises(UserError, match=words):
        cifar100.load(cifar100_dir)


def test_a_swap_without_labels_is_seen_by_the_counts(cifar100_dir):
    folder = cifar100_dir / cifar100.FOLDER
    for name in ("train", "test"):
        content = pickle.loads((folder / name).read_bytes())
        del content["batch_label"]
        (folder / f"{name}.swapped").write_bytes(pickle.dumps(content, protocol=4))
    (folder / "train.swapped").replace(folder / "test")
    (folder / "test.swapped").replace(folder / "train")
    with pytest.raises(UserError, match="swapped"):
        cifar100.load(cifar100_dir)


def test_the_report_s_images_are_25_official_classes_whole(real_data_dir, tmp_path):
    data = load(CIFAR100, DataFolder(real_data_dir, tmp_path), ALL, None, {})
    assert data.train_images.shape == (12500, 32, 32, 3)
    assert [part.tolist() for part in data.images_per_class()] == [[500] * 25, [100] * 25]
    assert (data.class_names[0], data.class_names[24]) == ("apple", "cockroach")
    assert CIFAR100.why_not_comparable(data, {}) is None
    assert CIFAR100.why_not_comparable(data.limit(499), {})
    assert CIFAR100.why_not_comparable(data.select(ALL[::-1]), {})
    pixels = data.test_images.values.copy()
    pixels[-1, -1, -1, -1] ^= 1
    assert CIFAR100.why_not_comparable(replace(data, test_images=ImageArray(pixels)), {})
