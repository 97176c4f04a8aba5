import io
import shutil
import tarfile

import numpy as np
import pytest
import tensorflow as tf
from conftest import EX3, assert_error, contents, read_json, run_code, run_script, visible_files
from PIL import Image

from common.datasets import cub200, loading
from common.datasets.cub200 import CUB200
from common.datasets.image_data import DataFolder
from common.errors import UserError
from common.files import sha256_of, write_json

SPECIES = tuple(range(20))
AS_REPORTED = {"image_size": 224, "resize": "squash"}


def load(data_dir, size=32, resize="squash", classes=SPECIES, limit=None, **folder):
    data_folder = DataFolder(data_dir, **{"spare": data_dir, **folder})
    return loading.load(CUB200, data_folder, classes, limit, {"image_size": size, "resize": resize})


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


def test_lists_as_windows_writes_them_and_names_with_dots_are_read(birds_dir):
    images = birds_dir / "CUB_200_2010" / "images"
    path = lists(birds_dir, "train")
    first = path.read_text().splitlines()[0]
    dotted = first.replace(".jpg", "..jpg")
    (images / first).rename(images / dotted)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_text().replace(first, dotted).replace("\n", "\r\n").encode())
    data = load(birds_dir)
    assert len(data.train_labels) == 80 and dotted in data.train_images.paths


def test_classes_that_a_smaller_data_set_does_not_have_are_refused(birds_dir):
    with pytest.raises(UserError, match=r"has the classes 0\.\.19; choose from them with --classes"):
        load(birds_dir, classes=(0, 20))


@pytest.mark.parametrize("layout", ["CUB_200_2010", "", "CUB_200_2010/CUB_200_2010"])
def test_folders_that_people_have_are_read_and_left_alone(birds_dir, tmp_path, layout):
    mine = tmp_path / "mine"
    shutil.copytree(birds_dir / "CUB_200_2010", mine / layout)
    before = contents(mine)
    assert load(mine, spare=tmp_path / "spare").sha256 == load(birds_dir).sha256
    assert contents(mine) == before
    assert not (tmp_path / "spare").exists()


@pytest.mark.parametrize("straight", [False, True])
@pytest.mark.parametrize(("part", "other"), [("images", "lists"), ("lists", "images")])
def test_one_of_the_two_folders_is_an_error_and_left_alone(birds_dir, tmp_path, part, other, straight):
    """Also beside the archives: what they hold need not belong to one's own images, cropped say."""
    mine = pack(birds_dir, tmp_path / "mine")
    folder = mine if straight else mine / "CUB_200_2010"
    shutil.copytree(birds_dir / "CUB_200_2010" / part, folder / part)
    before = contents(mine)
    with pytest.raises(UserError) as caught:
        load(mine, spare=tmp_path / "spare")
    assert f"{folder} holds {part}/ and no {other}/. " in str(caught.value) and "delete" not in str(caught.value)
    assert "--data-dir takes a folder with images/ and lists/, one that holds CUB_200_2010/" in str(caught.value)
    assert contents(mine) == before
    assert not (tmp_path / "spare").exists()


def test_what_the_suite_extracted_a_part_of_it_completes(birds_dir, tmp_path):
    packed = pack(birds_dir, tmp_path / "packed")
    load(packed)
    shutil.rmtree(packed / "CUB_200_2010/lists")
    (packed / "images.tgz").unlink()  # not needed any more
    assert load(packed, offline=True).sha256 == load(birds_dir).sha256


def test_only_what_the_suite_extracted_may_be_deleted(birds_dir, tmp_path):
    packed = pack(birds_dir, tmp_path / "packed")
    load(packed)
    advice = {packed: "delete .*, it is extracted or downloaded again", birds_dir: "get the data again"}
    for data_dir in advice:
        lists(data_dir, "train").unlink()
        with pytest.raises(UserError, match=rf"train\.txt is missing; {advice[data_dir]}"):
            load(data_dir)


def test_offline_asks_nobody_and_says_what_to_put_where(proxy, tmp_path):
    flags = ("--offline", "--data-dir", tmp_path / "data", "--output", tmp_path / "out")
    result = run_script(EX3, *flags, env=proxy.environment)
    urls = " and ".join(archive.url for archive in cub200.ARCHIVES.values())
    assert_error(result, f"Put images.tgz and lists.tgz into {tmp_path / 'data'} (from {urls})", "--offline")
    assert proxy.asked == []
    assert [*tmp_path.iterdir()] == []


FIND = """
from pathlib import Path
from common.datasets import cub200
from common.datasets.image_data import DataFolder
print(cub200.find(DataFolder(Path({!r}), Path({!r}))))
"""


def test_from_a_folder_that_cannot_be_written_the_archives_are_extracted_elsewhere(birds_dir, read_only, tmp_path):
    mine, spare = pack(birds_dir, tmp_path / "mine"), tmp_path / "out" / "data"
    options, before = read_only(mine), contents(mine)
    first, second = (run_code(FIND.format(str(mine), str(spare)), **options) for _ in range(2))
    found = str(spare / "CUB_200_2010")
    assert first.stdout.splitlines() == [f"{mine} cannot be written: CUB-200 goes to {spare}", found]
    assert second.stdout.splitlines() == [found]
    assert load(spare).sha256 == load(birds_dir).sha256
    assert contents(mine) == before


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


def pack(birds_dir, target, extra=None, prefix=""):
    target.mkdir()
    for part in cub200.FOLDERS:
        with tarfile.open(target / f"{part}.tgz", "w:gz") as tar:
            tar.add(birds_dir / "CUB_200_2010" / part, f"{prefix}{part}")
            if extra is not None and part == "images":
                tar.addfile(extra, io.BytesIO(b"x" * extra.size))
    return target


@pytest.mark.parametrize(("needless", "prefix"), [("images/001.Red_wader/._x.jpg", ""), (".", ""), (".", "./")])
def test_the_archives_give_the_same_as_the_folders(birds_dir, tmp_path, needless, prefix):
    packed = pack(birds_dir, tmp_path / "packed", tarfile.TarInfo(needless), prefix)
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
    for name, archive in cub200.ARCHIVES.items():
        with tarfile.open(tmp_path / archive.name, "w:gz", compresslevel=1) as tar:
            if name == "images":
                files = {path: b"" for paths in lists.values() for path in paths}
            else:
                files = {f"{part}.txt": "\n".join(paths).encode() for part, paths in lists.items()}
            for path, content in files.items():
                member = tarfile.TarInfo(f"{name}/{path}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    cub200.find(DataFolder(tmp_path, tmp_path))
    for name, archive in cub200.ARCHIVES.items():
        path = tmp_path / cub200.FOLDER / name / cub200.SOURCE
        source = read_json(path)
        assert source["archive_sha256"] == sha256_of(tmp_path / archive.name)
        write_json(path, {**source, "archive_sha256": archive.sha256})
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


def test_the_real_birds(real_data_dir):
    data = load(real_data_dir, 224, classes=tuple(range(200)))
    assert (len(data.train_labels), len(data.test_labels)) == (3000, 3033)
    assert data.images_per_class()[0].tolist() == [15] * 200
    assert data.class_names[0] == "Black_footed_Albatross"
    assert CUB200.why_not_comparable(data, AS_REPORTED) == "images or lists not from the official archives"
    assert tf.reduce_max(data.train_images.decode(data.train_images.absolute_paths()[0])) > 100
