import io
import shutil
import tarfile

import numpy as np
import pytest
import tensorflow as tf
from conftest import read_json, visible_files
from PIL import Image

from common.datasets import cub200, loading
from common.datasets.cub200 import CUB200
from common.datasets.image_data import DataFolder
from common.errors import UserError
from common.files import sha256_of, write_json

SPECIES = tuple(range(20))
AS_REPORTED = {"image_size": 224, "resize": "squash"}


def load(data_dir, size=32, resize="squash", classes=SPECIES, limit=None):
    return loading.load(CUB200, DataFolder(data_dir, data_dir), classes, limit, {"image_size": size, "resize": resize})


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
    assert load(birds_dir / "CUB_200_2010").sha256 == load(birds_dir).sha256


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
    path.write_text("".join(line for line in path.read_text().splitlines(True) if not line.startswith("002.")))
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


def pack(birds_dir, target, extra=None):
    target.mkdir()
    for part in cub200.FOLDERS:
        with tarfile.open(target / f"{part}.tgz", "w:gz") as tar:
            tar.add(birds_dir / "CUB_200_2010" / part, part)
            if extra is not None and part == "images":
                tar.addfile(extra, io.BytesIO(b"x" * extra.size))
    return target


@pytest.mark.parametrize("needless", ["images/001.Red_wader/._x.jpg", "."])
def test_the_archives_give_the_same_as_the_folders(birds_dir, tmp_path, needless):
    packed = pack(birds_dir, tmp_path / "packed", tarfile.TarInfo(needless))
    assert load(packed).sha256 == load(birds_dir).sha256
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


@pytest.fixture
def official(tmp_path):
    """A data folder as if two archives of empty images were the official ones, of as many images."""
    lists = {
        part: [f"001.Bird/{part}_{n}.jpg" for n in range(count)]
        for part, count in zip(("train", "test"), cub200.COUNTS)
    }
    for name, (archive, *_) in cub200.ARCHIVES.items():
        with tarfile.open(tmp_path / archive, "w:gz", compresslevel=1) as tar:
            if name == "images":
                files = {path: b"" for paths in lists.values() for path in paths}
            else:
                files = {f"{part}.txt": "\n".join(paths).encode() for part, paths in lists.items()}
            for path, content in files.items():
                member = tarfile.TarInfo(f"{name}/{path}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    cub200.find(tmp_path)
    for name, (archive, _, sha256) in cub200.ARCHIVES.items():
        path = tmp_path / cub200.FOLDER / name / cub200.SOURCE
        source = read_json(path)
        assert source["archive_sha256"] == sha256_of(tmp_path / archive)
        write_json(path, {**source, "archive_sha256": sha256})
    return tmp_path


def why_not(data_dir, limit=None, **changes):
    options = {**AS_REPORTED, **changes}
    return CUB200.why_not_comparable(
        loading.load(CUB200, DataFolder(data_dir, data_dir), (0,), limit, options), options
    )


def test_comparable_are_the_images_and_lists_of_the_official_archives_whole(official):
    assert why_not(official) is None
    assert why_not(official, image_size=96) == "images of another size, or not squashed"
    assert why_not(official, resize="pad") == "images of another size, or not squashed"
    assert why_not(official, limit=2999) == "not all of the official images"


@pytest.mark.parametrize(
    "change", ["an image changed", "a list changed", "an image added", "another archive", "no source"]
)
def test_what_changed_since_the_official_archives_were_extracted_is_not_comparable(official, change):
    folder = official / cub200.FOLDER
    if change == "an image changed":
        (folder / "images/001.Bird/test_3032.jpg").write_bytes(b"0")
    elif change == "a list changed":
        lines = (folder / "lists/train.txt").read_text().splitlines()
        (folder / "lists/train.txt").write_text("\n".join(lines[::-1]))
    elif change == "an image added":
        (folder / "images/001.Bird/another.jpg").touch()
    elif change == "another archive":
        path = folder / "lists" / cub200.SOURCE
        write_json(path, {**read_json(path), "archive_sha256": "0" * 64})
    else:
        (folder / "images" / cub200.SOURCE).unlink()
    assert why_not(official) == "images or lists not from the official archives"


def test_folders_that_were_there_before_are_never_taken_for_the_archives_content(birds_dir, tmp_path):
    """One's own images, cropped say, beside the official archives, of which only the lists were extracted."""
    packed = pack(birds_dir, tmp_path / "packed")
    shutil.copytree(birds_dir / "CUB_200_2010/images", packed / "CUB_200_2010/images")
    load(packed, 224)
    assert not (packed / "CUB_200_2010/images" / cub200.SOURCE).exists()
    assert (packed / "CUB_200_2010/lists" / cub200.SOURCE).exists()


def test_the_real_birds(real_data_dir):
    data = load(real_data_dir, 224, classes=tuple(range(200)))
    assert (len(data.train_labels), len(data.test_labels)) == (3000, 3033)
    assert data.images_per_class()[0].tolist() == [15] * 200
    assert data.class_names[0] == "Black_footed_Albatross"
    assert CUB200.why_not_comparable(data, AS_REPORTED) == "images or lists not from the official archives"
    assert tf.reduce_max(data.train_images.decode(data.train_images.absolute_paths()[0])) > 100
