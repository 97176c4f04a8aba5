"""Caltech-UCSD Birds 200, the 2010 release (Welinder et al. 2010, Caltech CNS-TR-2010-001)."""

import gzip
import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath

import filelock
import numpy as np

from common.datasets.download import download, whole_folder
from common.datasets.image_data import ImageData
from common.datasets.image_files import ImageFiles
from common.errors import UserError

FOLDER = "CUB_200_2010"
PARTS = ("images", "lists")
# The data set's own site is gone; these are the copies that tensorflow_datasets names.
DRIVE = "https://drive.usercontent.google.com/download?id={}&export=download&confirm=t"
ARCHIVES = {
    "images": (
        "images.tgz",
        DRIVE.format("1GDr1OkoXdhaXWGA8S3MAq3a522Tak-nx"),
        "2a6d2246bbb9778ca03aa94e2e683ccb4f8821a36b7f235c0822e659d60a803e",
    ),
    "lists": (
        "lists.tgz",
        DRIVE.format("1vZuZPqha0JjmwkdaS_XtYryE3Jf5Q1AC"),
        "aeacbd5e3539ae84ea726e8a266a9a119c18f055cd80f3836d5eb4500b005428",
    ),
}


def find(data_dir: Path) -> Path:
    """The folder with ``images/`` and ``lists/``: ``CUB_200_2010/`` in the data folder, or the data folder itself.

    What is missing is extracted from ``images.tgz`` and ``lists.tgz`` there, or downloaded first.

    Raises:
        UserError: no data and no download, or an archive that is damaged or reaches out of its folder.
    """
    if data_dir.exists() and not data_dir.is_dir():
        raise UserError(f"--data-dir {data_dir} is a file; give a folder")
    for folder in (data_dir / FOLDER, data_dir):
        if all((folder / part).is_dir() for part in PARTS):
            return folder
    folder = data_dir / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(data_dir / f".{FOLDER}.lock"):  # of two commands, one gets the data for both
        for part in PARTS:
            if not (folder / part).is_dir():
                archive = data_dir / ARCHIVES[part][0]
                if not archive.is_file():
                    _fetch(archive, *ARCHIVES[part][1:])
                extract(archive, part, folder / part)
    return folder


def read(folder: Path, name: str, size: int, resize: str) -> ImageData:
    """The images that ``lists/train.txt`` and ``lists/test.txt`` name, with labels 0..species - 1.

    A line is ``NNN.Species/file.jpg``, its label NNN - 1. Files that begin with ``._`` are not images.

    Raises:
        UserError: a list that is missing or empty, a line of another form, a file that is missing
            or in both lists, a species number without a name.
    """
    train, test = (_read_list(folder, f"{part}.txt") for part in ("train", "test"))
    if both := sorted(set(train) & set(test)):
        raise UserError(f"{both[0]} is in both lists of {folder / 'lists'}; get the data again")
    species = {}
    for path in (*train, *test):
        kind = path.partition("/")[0]
        number, dot, rest = kind.partition(".")
        if not (number.isdecimal() and int(number) and dot and rest and path.count("/") == 1):
            raise UserError(f"'{path}' in {folder / 'lists'} is not NNN.Species/file.jpg; get the data again")
        if species.setdefault(int(number), kind) != kind:
            raise UserError(f"{folder / 'lists'} calls species {number} {species[int(number)]} and {kind}")
        if ".." in path or not (folder / "images" / path).is_file():
            raise UserError(f"{folder / 'images' / path} is missing, and a list names it; get the data again")
    count = max(species)

    def files(paths):
        return ImageFiles(folder / "images", np.array(paths), size, resize)

    def labels(paths):
        return np.array([int(path.partition(".")[0]) - 1 for path in paths])

    return ImageData(
        name=name,
        train_images=files(train),
        train_labels=labels(train),
        test_images=files(test),
        test_labels=labels(test),
        class_names=tuple(
            species.get(number, f"species {number}").partition(".")[2] or f"species {number}"
            for number in range(1, count + 1)
        ),
    )


def _read_list(folder: Path, name: str) -> list[str]:
    path = folder / "lists" / name
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise UserError(f"{path} is missing; delete {folder} to have it extracted or downloaded again") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a text file ({error}); get the data again") from error
    paths = [line.strip() for line in lines]
    paths = [line for line in paths if line and not PurePosixPath(line).name.startswith("._")]
    if not paths:
        raise UserError(f"{path} names no images; get the data again")
    if len(set(paths)) < len(paths):
        raise UserError(f"{path} names {next(p for p in paths if paths.count(p) > 1)} twice; get the data again")
    return paths


def _fetch(archive: Path, url: str, sha256: str) -> None:
    try:
        download(url, archive, sha256)
    except UserError as error:
        raise UserError(
            f"no CUB-200: {error}. Put images.tgz and lists.tgz into {archive.parent}, "
            "or check the proxy (https_proxy), or use --dataset synthetic --weights none"
        ) from error


def extract(archive: Path, part: str, folder: Path) -> None:
    """The files below ``part/`` in an archive, into a folder that appears whole or not at all.

    Raises:
        UserError: the archive is damaged, or holds a link, a device or a path that leaves the folder.
    """
    try:
        with whole_folder(folder) as temporary, tarfile.open(archive) as tar:
            for member in tar:
                path = PurePosixPath(member.name)
                parts = [piece for piece in path.parts if piece != "."]
                leaves = path.is_absolute() or ".." in parts or set(member.name) & set("\\:")  # the last on Windows
                if leaves or not (member.isfile() or member.isdir()):
                    raise UserError(f"{archive} holds {member.name}, which no data set needs; get it from elsewhere")
                if not member.isfile() or parts[:1] != [part] or parts[-1].startswith("._"):
                    continue
                target = temporary.joinpath(*parts[1:])
                target.parent.mkdir(parents=True, exist_ok=True)
                with tar.extractfile(member) as source, open(target, "wb") as file:
                    shutil.copyfileobj(source, file)
            while tar.fileobj.read(1 << 20):  # to the end, where the checksum stands
                pass
            if not any(temporary.iterdir()):
                raise tarfile.TarError(f"no files in {part}/")
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError) as error:
        raise UserError(f"{archive} is not whole ({error}); delete it, it is downloaded again") from error
