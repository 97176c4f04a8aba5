import os
import pickle
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import EX1, assert_done, assert_error, contents, pack, read_json, run_code, run_script, visible_files

from common.datasets import cifar
from common.datasets.archives import SOURCE
from common.datasets.cifar import CIFAR10, CIFAR100, RELEASE_10, RELEASE_100
from common.datasets.image_data import DataFolder, ImageArray
from common.datasets.loading import load
from common.errors import UserError

FOLDER, ARCHIVE = RELEASE_100.folder, RELEASE_100.archive.name
ALL = tuple(range(25))


def read(path, release=RELEASE_100, spare=None, offline=False):
    return cifar.load(release, DataFolder(path, spare or path, offline))


def test_pixels_labels_and_names(cifar100_dir, synthetic_data):
    data = read(cifar100_dir)
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


def test_cifar_10_has_five_files_to_train_on(cifar10_dir, synthetic_data):
    data = load(CIFAR10, DataFolder(cifar10_dir, cifar10_dir), tuple(range(10)), None, {})
    assert [part.tolist() for part in data.images_per_class()] == [[10] * 10, [2] * 10]
    assert data.class_names == tuple(f"class {label}" for label in range(10))
    expected = synthetic_data.train_images.values[synthetic_data.train_labels == 3][:10]
    assert np.array_equal(data.train_images.values[data.train_labels == 3], expected)
    assert CIFAR10.why_not_comparable(data, {}) == "CIFAR-10"


def test_addresses_and_checksums_are_those_of_keras():
    for release, module in ((RELEASE_10, keras.datasets.cifar10), (RELEASE_100, keras.datasets.cifar100)):
        source = Path(module.load_data.__code__.co_filename).read_text()
        assert f'"{release.archive.url}"' in source and f'"{release.archive.sha256}"' in source
        assert f'"{release.folder}"' in source and f'"{release.folder}-target"' in source


LAYOUTS = {  # by what --data-dir names: where the files lie in it
    "the folder itself": ("{}", ""),
    "its parent": ("", "{}"),
    "a folder nested in itself": ("", "{}/{}"),
    "the outer one of two nested folders": ("{}", "{}"),
    "the folder of Keras's data sets": ("datasets", "{}-target/{}"),
    "a folder of Keras": ("datasets/{}-target", "{}"),
    "a folder that Keras extracted under an archive's name": ("datasets", "{}_extracted/{}"),
}


@pytest.fixture(params=[RELEASE_100, RELEASE_10], ids=["cifar100", "cifar10"])
def release(request):
    return request.param


@pytest.fixture
def original(release, request) -> Path:
    """The folder of the release's files."""
    return request.getfixturevalue(f"{release.name}_dir") / release.folder


def lay_out(original, layout, base) -> Path:
    """Puts the folder's files where a layout has them, and returns what ``--data-dir`` names."""
    named, within = (text.replace("{}", original.name) for text in LAYOUTS[layout])
    shutil.copytree(original, base / named / within)
    return base / named


@pytest.mark.parametrize("layout", LAYOUTS)
def test_folders_that_people_have_are_read_and_left_alone(release, original, layout, tmp_path):
    data_dir = lay_out(original, layout, tmp_path / "mine")
    before = contents(tmp_path / "mine")
    assert read(data_dir, release, tmp_path / "spare").sha256 == read(original, release).sha256
    assert contents(tmp_path / "mine") == before
    assert not (tmp_path / "spare").exists()


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_network_is_trained_on_each_of_them(release, original, layout, tmp_path):
    train_on(lay_out(original, layout, tmp_path / "mine"), release, tmp_path)


@pytest.mark.slow
def test_a_network_is_trained_on_cifar_10_in_a_folder_of_keras(cifar10_dir, tmp_path):
    original = cifar10_dir / RELEASE_10.folder
    run = train_on(lay_out(original, "a folder of Keras", tmp_path / "mine"), RELEASE_10, tmp_path)
    config = read_json(run / "config.json")
    assert len(config["dataset"]["classes"]) == 10 and config["dataset"]["not_comparable"] == "CIFAR-10"


def train_on(data_dir, release, tmp_path) -> Path:
    before = contents(data_dir)
    flags = ("--dataset", release.name, "--data-dir", data_dir, "--epochs", 1, "--variant", "adam", "--offline")
    assert_done(run_script(EX1, *flags, "--output", tmp_path / "out"))
    assert contents(data_dir) == before
    return tmp_path / "out" / release.name / "ex1_basenet/adam,epochs=1/seed-0"


@pytest.mark.parametrize("prefix", ["", "./"])
def test_the_archive_gives_the_same_as_the_folder(release, original, tmp_path, prefix):
    for name in (release.archive.name, *release.archive.other_names):
        folder = tmp_path / name / "data"
        pack(folder / name, original, f"{prefix}{original.name}")
        assert read(folder, release).sha256 == read(original, release).sha256
        assert visible_files(folder) == sorted([name, *(f"{original.name}/{each}" for each in release.files)])
        assert read(folder, release).sha256 == read(original, release).sha256


def test_a_part_of_the_files_is_named_with_what_would_do_and_left_alone(release, original, tmp_path):
    (original / release.train[0]).unlink()
    pack(original.parent / release.archive.name, original, original.name)
    before = contents(original.parent)
    for data_dir in (original.parent, original):
        with pytest.raises(UserError) as caught:
            read(data_dir, release, tmp_path / "spare")
        message = str(caught.value)
        assert f"{original} lacks {release.train[0]}. " in message and "delete" not in message
        assert f"--data-dir takes a folder that holds {original.name}/" in message
    assert contents(original.parent) == before
    assert not (tmp_path / "spare").exists()


def test_only_what_the_suite_extracted_may_be_deleted(cifar100_dir, tmp_path):
    pack(tmp_path / "packed" / ARCHIVE, cifar100_dir / FOLDER, FOLDER)
    read(tmp_path / "packed")
    advice = {tmp_path / "packed": "delete .*, it is extracted or downloaded again", cifar100_dir: "get the data again"}
    for folder in advice:
        (folder / FOLDER / "train").write_bytes(b"cut")
        with pytest.raises(UserError, match=advice[folder]):
            read(folder)
    assert (tmp_path / "packed" / FOLDER / SOURCE).exists()
    (tmp_path / "packed" / FOLDER / "train").unlink()
    with pytest.raises(UserError, match=rf"lacks train; delete .*{FOLDER}, it is extracted"):
        read(tmp_path / "packed")


@pytest.mark.parametrize(
    "kind", [list, lambda labels: [*np.array(labels)], np.array, lambda labels: [*np.array(labels, np.uint8)]]
)
@pytest.mark.parametrize("protocol", [2, 5])
def test_labels_of_any_kind_of_integer(cifar100_dir, kind, protocol):
    expected = read(cifar100_dir).sha256
    for name in ("train", "test"):
        path = cifar100_dir / FOLDER / name
        content = pickle.loads(path.read_bytes())
        path.write_bytes(pickle.dumps({**content, "fine_labels": kind(content["fine_labels"])}, protocol))
    assert read(cifar100_dir).sha256 == expected


READ = """
import sys
from pathlib import Path
from common.datasets import cifar
from common.datasets.image_data import DataFolder
print(cifar.load(cifar.RELEASE_100, DataFolder(Path({!r}), Path({!r}))).sha256)
"""


def test_from_a_folder_that_cannot_be_written_the_archive_is_extracted_elsewhere(cifar100_dir, read_only, tmp_path):
    mine, spare = tmp_path / "mine", tmp_path / "out" / "data"
    pack(mine / ARCHIVE, cifar100_dir / FOLDER, FOLDER)
    options, before = read_only(mine), contents(mine)
    first, second = (run_code(READ.format(str(mine), str(spare)), **options) for _ in range(2))
    sha256 = read(cifar100_dir).sha256
    assert first.stdout.splitlines() == [f"{mine} cannot be written: CIFAR-100 goes to {spare}", sha256]
    assert second.stdout.splitlines() == [sha256]  # found there
    assert visible_files(spare) == [f"{FOLDER}/{name}" for name in ("meta", "test", "train")]
    assert contents(mine) == before


def test_offline_asks_nobody_and_says_what_to_put_where(proxy, tmp_path):
    flags = ("--data-dir", tmp_path / "data", "--output", tmp_path / "out")
    for dataset, release in (("cifar100", RELEASE_100), ("cifar10", RELEASE_10)):
        result = run_script(EX1, "--dataset", dataset, "--offline", *flags, env=proxy.environment)
        words = f"Put {release.archive.name} into {tmp_path / 'data'} (from {release.archive.url})"
        assert_error(result, f"no {release.title}", "--offline", words, "--data-dir takes a folder")
    assert proxy.asked == []
    assert [*tmp_path.iterdir()] == []


def test_a_proxy_s_refusal_says_the_address_and_the_folder(proxy, tmp_path):
    flags = ("--data-dir", tmp_path / "data", "--output", tmp_path / "out")
    result = run_script(EX1, *flags, env=proxy.environment)
    assert_error(
        result, "407", f"Put {ARCHIVE} into {tmp_path / 'data'} (from {RELEASE_100.archive.url})", "https_proxy"
    )
    assert proxy.asked == ["www.cs.toronto.edu:443"]
    assert visible_files(tmp_path) == []


@pytest.mark.parametrize("damage", ["cut", "not an archive", "link", "one byte", "no train"])
def test_a_bad_archive_is_an_error_and_leaves_nothing(cifar100_dir, tmp_path, damage):
    folder = tmp_path / "archive"
    folder.mkdir()
    archive = folder / ARCHIVE
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(cifar100_dir / FOLDER / "meta", f"{FOLDER}/meta")
        tar.add(cifar100_dir / FOLDER / "test", f"{FOLDER}/test")
        if damage == "link":
            link = tarfile.TarInfo(f"{FOLDER}/train")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(link)
        elif damage != "no train":
            tar.add(cifar100_dir / FOLDER / "train", f"{FOLDER}/train")
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
        read(folder)
    assert visible_files(folder) == [ARCHIVE]


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_prepared_pickle_runs_no_code(cifar100_dir, tmp_path):
    mark = tmp_path / "mark"
    (cifar100_dir / FOLDER / "train").write_bytes(pickle.dumps({"data": Evil(mark)}))
    with pytest.raises(UserError, match=r"asks for \w+\.mkdir"):
        read(cifar100_dir)
    assert not mark.exists()


def _changed(path, **changes):
    content = pickle.loads(path.read_bytes())
    path.write_bytes(pickle.dumps({**content, **changes}, protocol=2))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: (f / "train").write_bytes((f / "train").read_bytes()[:-1000]), "train is not a whole CIFAR-100"),
        (lambda f: (f / "train").write_bytes(b""), "train is not a whole CIFAR-100"),
        (lambda f: (f / "train").unlink(), "lacks train"),
        (lambda f: shutil.copy(f / "meta", f / "train"), "train is not a whole CIFAR-100"),
        (lambda f: (f / "test").write_bytes((f / "train").read_bytes()), "train and test look swapped"),
        (lambda f: _changed(f / "test", batch_label="training batch 1 of 1"), "train and test look swapped"),
        (lambda f: _changed(f / "train", data=np.zeros((300, 3072))), "uint8 array"),
        (lambda f: _changed(f / "train", fine_labels=[0] * 299), "300 integers"),
        (lambda f: _changed(f / "train", fine_labels=[100] * 300), r"outside 0\.\.99"),
        (lambda f: _changed(f / "meta", fine_label_names=["apple"]), "100 names"),
    ],
)
def test_damaged_files_are_named(cifar100_dir, damage, words):
    damage(cifar100_dir / FOLDER)
    with pytest.raises(UserError, match=words):
        read(cifar100_dir)


def test_a_swap_without_labels_is_seen_by_the_counts(cifar100_dir):
    folder = cifar100_dir / FOLDER
    for name in ("train", "test"):
        content = pickle.loads((folder / name).read_bytes())
        del content["batch_label"]
        (folder / f"{name}.swapped").write_bytes(pickle.dumps(content, protocol=4))
    (folder / "train.swapped").replace(folder / "test")
    (folder / "test.swapped").replace(folder / "train")
    with pytest.raises(UserError, match="swapped"):
        read(cifar100_dir)


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
