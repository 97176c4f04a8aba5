import io
import tarfile

import numpy as np
import pytest
import tensorflow as tf
from conftest import visible_files
from PIL import Image

from common import datasets
from common.datasets import cub200
from common.datasets.image_files import ImageFiles
from common.errors import UserError

SPECIES = tuple(range(20))


def load(data_dir, size=32, resize="squash", classes=SPECIES, limit=None):
    return datasets.load_birds("cub200", data_dir, classes, limit, size, resize)


def lists(birds_dir, part):
    return birds_dir / "CUB_200_2010" / "lists" / f"{part}.txt"


def decode(images, index=0):
    return images.decode(images.absolute_paths()[index]).numpy()


def test_labels_names_and_pixels(birds_dir):
    data = load(birds_dir, size=96)
    assert data.images_per_class()[0].tolist() == [4] * 20
    assert data.class_names[7] == "Yellow_finch"
    path = data.train_images.paths[data.train_labels == 7][0]
    assert path.startswith("008.Yellow_finch/")
    stored = np.array(Image.open(birds_dir / "CUB_200_2010" / "images" / path))
    found = decode(data.train_images[data.train_labels == 7])
    assert np.abs(found - stored).mean() < 3  # two JPEG decoders, the faster one rounds more


def test_chosen_species_are_relabelled_and_limited(birds_dir):
    data = load(birds_dir, classes=(7, 3), limit=4)
    assert data.class_names == ("Yellow_finch", "Green_wader")
    assert data.train_labels.tolist() == [1] * 4 + [0] * 4


def test_files_of_apple_s_finder_are_not_images(birds_dir):
    for part in ("train", "test"):
        path = lists(birds_dir, part)
        path.write_text("001.Red_wader/._red_wader_0000.jpg\n" + path.read_text())
    assert len(load(birds_dir).train_labels) == 80


def test_classes_that_a_smaller_data_set_does_not_have_are_refused(birds_dir):
    with pytest.raises(UserError, match=r"has the classes 0\.\.19; choose from them with --classes"):
        load(birds_dir, classes=(0, 20))


def test_the_folders_may_lie_straight_in_the_data_folder(birds_dir):
    assert load(birds_dir / "CUB_200_2010").sha256() == load(birds_dir).sha256()


def test_a_listed_file_that_is_missing_is_named(birds_dir):
    (birds_dir / "CUB_200_2010/images/001.Red_wader/red_wader_0003.jpg").unlink()
    with pytest.raises(UserError, match=r"red_wader_0003\.jpg is missing"):
        load(birds_dir)


def test_a_file_in_both_lists_is_named(birds_dir):
    with open(lists(birds_dir, "test"), "a") as file:
        file.write("001.Red_wader/red_wader_0003.jpg\n")
    with pytest.raises(UserError, match=r"red_wader_0003\.jpg is in both lists"):
        load(birds_dir)


def test_a_species_without_images_is_named(birds_dir):
    path = lists(birds_dir, "train")
    path.write_text("".join(line for line in path.open() if not line.startswith("002.")))
    with pytest.raises(UserError, match=r"class 1 \(Blue_wader\) has 0 training and 4 test images"):
        load(birds_dir)


def test_a_path_that_leaves_the_folder_is_refused(birds_dir):
    with open(lists(birds_dir, "test"), "a") as file:
        file.write("001.Red_wader/../../lists/train.txt\n")
    with pytest.raises(UserError, match=r"not NNN\.Species/file\.jpg"):
        load(birds_dir)


def test_an_image_that_does_not_decode_is_named(birds_dir):
    data = load(birds_dir)
    data.train_images.verify()
    path = birds_dir / "CUB_200_2010/images" / data.train_images.paths[51]
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(UserError, match=data.train_images.paths[51]):
        data.train_images.verify()


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_cmyk_become_rgb(tmp_path, mode):
    colour = (200, 100, 50)
    image = Image.new("RGB", (40, 40), colour).convert(mode)
    image.save(tmp_path / "a.jpg", quality=95)
    found = decode(ImageFiles(tmp_path, np.array(["a.jpg"]), 40, "squash"))
    expected = image.convert("RGB").getpixel((0, 0))
    assert found.shape == (40, 40, 3)
    assert np.abs(found - np.array(expected)).max() <= 4


def test_squash_pad_and_crop(tmp_path):
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, :20], pixels[:, 20:60], pixels[:, 60:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=100, subsampling=0)
    columns = {}
    for resize in ("squash", "pad", "crop"):
        image = decode(ImageFiles(tmp_path, np.array(["a.jpg"]), 40, resize))
        assert image.shape == (40, 40, 3)
        columns[resize] = "".join("rgb"[pixel.argmax()] if pixel.max() > 100 else "." for pixel in image[20, 2::5])
        edge = image[2, 20].max() < 20
        assert edge == (resize == "pad")  # black above and below
    assert columns == {"squash": "rrggggbb", "pad": "rrggggbb", "crop": "g" * 8}


def pack(birds_dir, target, extra=None):
    target.mkdir()
    for part in cub200.PARTS:
        with tarfile.open(target / f"{part}.tgz", "w:gz") as tar:
            tar.add(birds_dir / "CUB_200_2010" / part, part)
            if extra is not None and part == "images":
                tar.addfile(extra, io.BytesIO(b"x" * extra.size))
    return target


@pytest.mark.parametrize("needless", ["images/001.Red_wader/._x.jpg", "."])
def test_the_archives_give_the_same_as_the_folders(birds_dir, tmp_path, needless):
    packed = pack(birds_dir, tmp_path / "packed", tarfile.TarInfo(needless))
    assert load(packed).sha256() == load(birds_dir).sha256()
    assert visible_files(packed / "CUB_200_2010") == visible_files(birds_dir / "CUB_200_2010")


@pytest.mark.parametrize("kind", ["outside", "absolute", "Windows", "link", "hard link", "device"])
def test_an_archive_that_reaches_out_of_its_folder_is_refused(birds_dir, tmp_path, kind):
    names = {"outside": "images/../../x", "absolute": "/tmp/x", "Windows": r"images/..\..\x"}
    extra = tarfile.TarInfo(names.get(kind, "images/x"))
    extra.type = {"link": tarfile.SYMTYPE, "hard link": tarfile.LNKTYPE, "device": tarfile.CHRTYPE}.get(
        kind, tarfile.REGTYPE
    )
    extra.linkname = "/etc/passwd"
    packed = pack(birds_dir, tmp_path / "packed", extra)
    with pytest.raises(UserError, match="which no data set needs"):
        load(packed)
    assert visible_files(packed) == ["images.tgz", "lists.tgz"]


def test_an_archive_that_was_cut_off_is_an_error_and_leaves_nothing(birds_dir, tmp_path):
    packed = pack(birds_dir, tmp_path / "packed")
    archive = packed / "images.tgz"
    archive.write_bytes(archive.read_bytes()[:-5000])
    with pytest.raises(UserError, match=r"images\.tgz is not whole"):
        load(packed)
    assert visible_files(packed) == ["images.tgz", "lists.tgz"]


def test_the_real_birds(real_data_dir):
    data = load(real_data_dir, 224, classes=tuple(range(200)))
    assert (len(data.train_labels), len(data.test_labels)) == (3000, 3033)
    assert data.images_per_class()[0].tolist() == [15] * 200
    assert data.class_names[0] == "Black_footed_Albatross"
    assert tf.reduce_max(data.train_images.decode(data.train_images.absolute_paths()[0])) > 100
