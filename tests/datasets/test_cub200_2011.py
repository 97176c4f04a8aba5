"""The birds of 2011, as their archive has them."""

import shutil
import tarfile

import numpy as np
import pytest
from conftest import EX1, EX3, assert_done, assert_error, read_json, run_script

from common.datasets import cub200_2011, loading
from common.datasets.cub200_2011 import CUB200_2011
from common.datasets.image_data import DataFolder
from common.errors import UserError

IMAGES = 24  # of three species, 4 + 4 each


@pytest.fixture
def data_dir(drawn_birds, tmp_path):
    """A data folder with drawn birds as the archive of 2011 has its own."""
    folder = tmp_path / "data" / "CUB_200_2011"
    paths = sorted(path for path in (drawn_birds / "images").rglob("*.jpg") if int(path.parent.name[:3]) <= 3)
    lists = {name: [] for name in cub200_2011.LISTS}
    for number, path in enumerate(paths, start=1):
        species = path.parent.name
        (folder / "images" / species).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / "images" / species)
        lists["images.txt"].append(f"{number} {species}/{path.name}")
        lists["image_class_labels.txt"].append(f"{number} {int(species[:3])}")
        lists["train_test_split.txt"].append(f"{number} {number % 2}")
    lists["classes.txt"] = [f"{int(name[:3])} {name}" for name in sorted({path.parent.name for path in paths})]
    for name, lines in lists.items():
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    (folder / "bounding_boxes.txt").write_text("1 60.0 27.0 325.0 304.0\n")
    return folder.parent


def load(path, spare=None, classes=(0, 1, 2), offline=False):
    options = {"image_size": 32, "resize": "squash"}
    return loading.load(CUB200_2011, DataFolder(path, spare or path, offline), classes, None, options)


def rewrite(data_dir, name, change):
    path = data_dir / "CUB_200_2011" / name
    path.write_bytes(change(path.read_bytes()))


def test_labels_names_and_split_are_those_of_the_lists(data_dir):
    data = load(data_dir)
    assert data.name == "cub200-2011" and data.class_names == ("Red_wader", "Blue_wader", "Yellow_wader")
    assert [count.tolist() for count in data.images_per_class()] == [[4] * 3, [4] * 3]
    for images, labels, odd in (
        (data.train_images, data.train_labels, 0),
        (data.test_images, data.test_labels, 1),
    ):
        assert [int(name[:3]) - 1 for name in images.names] == labels.tolist()
        assert {int(name[-5]) % 2 for name in images.names} == {odd}  # files are numbered from 0, images from 1
    assert np.asarray(data.test_images).shape == (12, 32, 32, 3)


def test_the_data_folder_may_be_the_data_set_s_own(data_dir):
    assert load(data_dir / "CUB_200_2011").sha256 == load(data_dir).sha256


def test_line_ends_of_windows_a_byte_order_mark_and_the_order_of_lines_do_not_count(data_dir):
    known = load(data_dir).sha256
    for name in cub200_2011.LISTS:
        rewrite(data_dir, name, lambda text: b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n") + b"\r\n")
    assert load(data_dir).sha256 == known
    rewrite(data_dir, "image_class_labels.txt", lambda text: b"\n".join(reversed(text[3:].split(b"\r\n"))))
    assert load(data_dir).sha256 == known


def test_only_line_ends_end_a_line(data_dir):
    known, name = load(data_dir), "red\u2028\x0cwader.jpg"
    images = data_dir / "CUB_200_2011/images/001.Red_wader"
    (images / "red_wader_0000.jpg").rename(images / name)
    rewrite(data_dir, "images.txt", lambda text: text.replace(b"red_wader_0000.jpg", name.encode(), 1))
    assert len(load(data_dir).train_images) == len(known.train_images)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("images.txt", lambda text: b"", "images.txt is empty"),
        ("images.txt", lambda text: b"\xff\xfe\x00", "images.txt is not a text file"),
        ("images.txt", lambda text: text.replace(b"1 001.", b"x 001.", 1), "images.txt has the line 'x 001."),
        (
            "images.txt",
            lambda text: text.replace(b"001.Red", b"../001.Red", 1),
            "001.Red_wader/red_wader_0000.jpg, which leads",
        ),
        ("images.txt", lambda text: text.replace(b"_0000", b"_9999", 1), "9999.jpg is missing, and a list names"),
        ("image_class_labels.txt", lambda text: text + b"1 2\n", "has two lines for 1;"),
        ("classes.txt", lambda text: b"1\n2\n", "classes.txt has the line '1'"),
        ("image_class_labels.txt", lambda text: text + b"99 2\n", "do not name the same images: 99 is in one alone"),
        ("image_class_labels.txt", lambda text: text.replace(b"1 1\n", b"1 7\n", 1), "image 1 a class without a name"),
        ("image_class_labels.txt", lambda text: text.replace(b"1 1\n", b"1 one\n", 1), "has the line '1 one'"),
        ("train_test_split.txt", lambda text: text.replace(b"1 1\n", b"1 2\n", 1), "has the line '1 2'"),
        ("train_test_split.txt", lambda text: text[4:], "do not name the same images: 1 is in one alone"),
        ("classes.txt", lambda text: text.replace(b"3 003", b"4 003"), "does not number its classes 1, 2 and so on"),
    ],
)
def test_a_damaged_list_is_named_in_one_line(data_dir, name, change, words):
    rewrite(data_dir, name, change)
    with pytest.raises(UserError, match=words.replace(".", r"\.")) as caught:
        load(data_dir)
    assert "\n" not in str(caught.value)


def test_what_a_folder_lacks_is_named_and_nothing_written(data_dir):
    (data_dir / "CUB_200_2011/classes.txt").unlink()
    shutil.rmtree(data_dir / "CUB_200_2011/images")
    before = sorted(data_dir.rglob("*"))
    for path in (data_dir, data_dir / "CUB_200_2011"):
        with pytest.raises(UserError, match=r"lacks images and classes\.txt"):
            load(path)
    assert sorted(data_dir.rglob("*")) == before


def test_the_archive_gives_the_same(data_dir, tmp_path):
    packed = tmp_path / "packed"
    packed.mkdir()
    (tmp_path / "attributes.txt").write_text("1 has_bill_shape::curved\n")
    with tarfile.open(packed / cub200_2011.ARCHIVE.name, "w:gz") as tar:
        tar.add(tmp_path / "attributes.txt", "attributes.txt")  # as the official archive has it, beside the folder
        tar.add(data_dir / "CUB_200_2011", "CUB_200_2011")
    assert load(packed, offline=True).sha256 == load(data_dir).sha256
    assert load(packed / "CUB_200_2011").sha256 == load(data_dir).sha256


def test_offline_says_what_to_put_where(tmp_path):
    words = rf"--offline asks no network\. Put CUB_200_2011\.tgz into {tmp_path} \(from https:"
    with pytest.raises(UserError, match=words):
        load(tmp_path, offline=True)


@pytest.mark.slow
def test_exercise_3_trains_on_it_and_the_others_do_not_take_it(data_dir, tmp_path):
    flags = ("--dataset", "cub200-2011", "--data-dir", data_dir, "--classes", "0-2", "--quiet")
    command = (EX3, *flags, "--weights", "none", "--image-size", 32, "--variant", "linear", "--epochs", 1)
    result = run_script(*command, "--output", tmp_path)
    assert_done(result)
    assert result.stdout.endswith("(not comparable with the report: the 2011 release)\n")
    (config,) = (tmp_path / "cub200-2011").rglob("config.json")
    assert read_json(config)["dataset"]["training_images"] == 9
    assert (config.parent / "split.csv").read_text(encoding="utf-8").count("\n") == IMAGES + 1
    assert_error(run_script(EX1, *flags), "--dataset", "cub200-2011")
