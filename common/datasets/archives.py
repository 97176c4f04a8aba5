"""Archives of data sets: found or downloaded, and where they are extracted to."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.datasets.download import download
from common.datasets.image_data import DataFolder
from common.errors import UserError
from common.files import is_writable

SOURCE = ".source.json"  # in a folder that the suite extracted: from which archive
OFFLINE = "it is not there, and --offline asks no network"


@dataclass(frozen=True)
class Archive:
    """An archive as its authors publish it.

    Attributes:
        name: of the file.
        url: where it is downloaded from.
        sha256: of its bytes, 64 hexadecimal digits.
        other_names: under which Keras keeps it.
    """

    name: str
    url: str
    sha256: str
    other_names: tuple[str, ...] = ()

    def find(self, folder: DataFolder) -> Path | None:
        """Its file in the data folder, or in the spare one."""
        paths = [home / name for home in (folder.path, folder.spare) for name in (self.name, *self.other_names)]
        return next((path for path in paths if path.is_file()), None)


@dataclass(frozen=True)
class Source:
    """Where a data set comes from.

    Attributes:
        title: the data set's name in a sentence.
        archives: which hold it together.
        layouts: what ``--data-dir`` takes, in words.
        instead: flags that do without it.
    """

    title: str
    archives: Sequence[Archive]
    layouts: str
    instead: str

    def missing(self, why: str, home: Path, also: str = "") -> UserError:
        """The error that says what to put where, and what would do as well."""
        names, urls = (" and ".join(texts) for texts in zip(*((each.name, each.url) for each in self.archives)))
        return UserError(
            f"no {self.title}: {why}. Put {names} into {home} (from {urls}), {also}or use {self.instead}. "
            f"--data-dir takes {self.layouts}"
        )

    def incomplete(self, folder: Path, holds: str) -> UserError:
        """The error for a folder with a part of the data; the folder is not the suite's, so it stays as it is."""
        return UserError(f"{folder} {holds}. Complete it, or name another: --data-dir takes {self.layouts}")

    def home(self, folder: DataFolder, needed: Sequence[Archive]) -> Path:
        """The folder that archives are extracted in.

        Raises:
            UserError: one of them is missing, and the network may not be asked.
        """
        if folder.offline and not all(archive.find(folder) for archive in needed):
            raise self.missing(OFFLINE, folder.path)
        return writable_home(folder, self.title)

    def fetch(self, archive: Archive, folder: DataFolder, home: Path) -> Path:
        """An archive's file, downloaded into ``home`` if there is none.

        Raises:
            UserError: it cannot be downloaded, or the network may not be asked.
        """
        if found := archive.find(folder):
            return found
        if folder.offline:
            raise self.missing(OFFLINE, home)
        try:
            download(archive.url, home / archive.name, archive.sha256)
        except UserError as error:
            raise self.missing(str(error), home, "check the proxy (https_proxy), ") from error
        return home / archive.name


def writable_home(folder: DataFolder, what: str) -> Path:
    """The data folder, or, with a line that says so, the spare one if the data folder cannot be written.

    Args:
        what: goes there, for that line.
    """
    if is_writable(folder.path):
        return folder.path
    print(f"{folder.path} cannot be written: {what} goes to {folder.spare}", flush=True)
    return folder.spare


def remedy(folder: Path) -> str:
    """What to do about a damaged folder: only what the suite extracted is there to be deleted."""
    if (folder / SOURCE).is_file():
        return f"delete {folder}, it is extracted or downloaded again"
    return "get the data again"


def leaves(path: str) -> bool:
    """Whether a path of a list of images leads out of the folder that it is relative to, here or on Windows."""
    return path.startswith("/") or ".." in path.split("/") or bool(set(path) & set("\\:"))
