"""Files and folders that are whole or not there, each made by one process at a time."""

import errno
import gzip
import hashlib
import json
import os
import re
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import filelock

from common.errors import UserError

GZIP_MAGIC = b"\x1f\x8b"  # RFC 1952, 2.3.1
LARGEST_TEXT = 10_000_000  # bytes of a file whose values are all in memory, where each takes up to thirty times as many
LARGEST_ARCHIVE = 4 << 30  # bytes of all that is in one; the birds of 2011 take 1.2 billion
MOST_MEMBERS = 100_000  # of an archive; the birds of 2011 are 12,000 images
LARGEST_HEADERS = 1 << 20  # bytes of all that stand before a member; paths have up to 4096
LARGEST_PIECE = 1 << 20
LONGEST_NAME = 255  # bytes of a file's, on most systems
NUMBERS = re.compile(r"\[(?:-?[\d.]+(?:e[-+]?\d+)?(?:, |\]))+")  # a list of them in JSON


def atomic_write(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Calls ``write`` with a binary file and puts what it wrote at ``path`` in one step.

    Raises:
        OSError: the disk takes no more, say; ``path`` is then as it was.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            write(file)
        rename(temporary, path)
    except Exception:
        with suppress(OSError):
            temporary.unlink()
        raise


def rename(source: Path, target: Path) -> None:
    """Gives a file or a folder another name, so that it is whole under the new one even if the power fails.

    What is in it goes to the disk first, then the names in the folder. A file at ``target`` is replaced.

    Source: https://man7.org/linux/man-pages/man2/fsync.2.html, on why the folder needs an fsync of its own.

    Raises:
        OSError: the disk takes no more, say; it is then whole under one of the names.
    """
    for path in sorted(source.rglob("*")) if source.is_dir() else ():
        _sync(path)
    _sync(source)
    os.replace(source, target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    """Waits until a file's bytes, or the names in a folder, are on the disk."""
    is_folder = path.is_dir()
    if is_folder and os.name == "nt":  # which opens no folder, and keeps their names in a journal
        return
    descriptor = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)  # Windows syncs what can be written alone
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not (is_folder and error.errno == errno.EINVAL):  # some network file systems sync files alone
            raise
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Makes a folder that is not there yet, and those above it; their names, too, stay if the power fails."""
    missing = [each for each in (path, *path.parents) if not each.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for each in missing:
        _sync(each.parent)


def copy(source: Path, target: Path) -> None:
    """Puts a copy of a file at ``target`` in one step, as ``atomic_write``."""
    with open(source, "rb") as file:
        atomic_write(target, lambda copied: shutil.copyfileobj(file, copied))


def is_writable(folder: Path) -> bool:
    """Whether files can be made in a folder, which is made first. Tried: permissions alone do not say it everywhere.

    Raises:
        OSError: something else is wrong, such as a full disk.
    """
    try:
        make_folder(folder)
        tempfile.TemporaryFile(dir=folder).close()
    except PermissionError:
        return False
    except OSError as error:
        if error.errno == errno.EROFS:
            return False
        raise
    return True


def write_json(path: Path, value) -> None:
    """Indented JSON in one step; numbers read back exactly, and lists of numbers stand on a line."""

    def write(file: BinaryIO) -> None:
        for piece in _json_pieces(value, "\n"):
            file.write(piece.encode())
        file.write(b"\n")

    atomic_write(path, write)


def read_text(path: Path, most: int = LARGEST_TEXT) -> str:
    """The text of a file of at most that many bytes.

    Raises:
        OSError: it cannot be read.
        ValueError: it is larger, or not in UTF-8.
    """
    if (size := path.stat().st_size) > most:
        raise ValueError(f"{path.name} has {size:,} bytes, and at most {most:,} are read")
    return path.read_text(encoding="utf-8")


def read_json(path: Path, most: int = LARGEST_TEXT) -> Any:
    """The value in a JSON file of at most that many bytes.

    Raises:
        OSError: it cannot be read.
        ValueError: it is larger, or no JSON.
    """
    text = read_text(path, most)
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError(f"{path.name}: {error}") from error


def _json_pieces(value: Any, margin: str) -> Iterator[str]:
    """What ``json.dumps`` indents by 2, but for lists of numbers; a large matrix at once would take gigabytes."""
    inner = f"{margin}  "
    if isinstance(value, dict) and value:
        for number, (key, each) in enumerate(value.items()):
            yield f"{',' if number else '{'}{inner}{json.dumps(key, ensure_ascii=False)}: "
            yield from _json_pieces(each, inner)
        yield f"{margin}}}"
    elif isinstance(value, list | tuple) and value:
        if all(isinstance(each, int | float) for each in value) and NUMBERS.fullmatch(text := json.dumps(value)):
            yield text
            return
        for number, each in enumerate(value):
            yield f"{',' if number else '['}{inner}"
            yield from _json_pieces(each, inner)
        yield f"{margin}]"
    else:
        yield json.dumps(value, ensure_ascii=False)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """An empty folder to fill, which takes the name of ``folder`` at the end; after an error nothing is left."""
    temporary = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)  # as a kill left it
    temporary.mkdir()
    try:
        yield temporary
        rename(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def locked(path: Path, busy: str | None = None) -> Iterator[None]:
    """Keeps other processes out of the blocks that lock the same path, until this one or its process ends.

    Args:
        path: a file or folder, which need not exist; its parent is made.
        busy: what to say if another process is there; without it, wait for that process.

    Raises:
        UserError: another process is there, or the file system has no locks.
    """
    make_folder(path.parent)
    lock = filelock.FileLock(path.with_name(f".{path.name}.lock"), timeout=-1 if busy is None else 0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise UserError(f"{busy}") from None
    except (NotImplementedError, OSError) as error:
        if getattr(error, "filename", None):  # the file itself cannot be made or opened
            raise
        why = getattr(error, "strerror", None) or error
        raise UserError(f"{path.parent} is on a file system without locks ({why}); choose another folder") from error
    try:
        yield
    finally:
        lock.release()


def make_once(path: Path, make: Callable[[], Any]) -> None:
    """Calls ``make`` if nothing is at ``path``; of several processes that want it, one makes it for all."""
    if not path.exists():
        with locked(path):
            if not path.exists():
                make()


def extract(
    archive: Path,
    prefix: str,
    folder: Path,
    required: tuple[str, ...] = (),
    finish: Callable[[Path], Any] = lambda folder: None,
) -> None:
    """The files below ``prefix/`` in a tar archive, gzipped or not, into a folder that appears whole or not at all.

    Args:
        required: files that must be among them, relative to the prefix; none: at least one file.
        finish: called with the filled folder before it takes its name.

    Raises:
        UserError: the archive is damaged, holds a link, a device, a path that leaves the folder or more than any data
            set, or lacks a file.
    """
    size = 0
    try:
        with (
            atomic_folder(folder) as temporary,
            _in_pieces(archive) as content,
            tarfile.TarFile(fileobj=content) as tar,  # pyright: ignore[reportArgumentType]  (writes nothing)
        ):
            for number, member in enumerate(tar, 1):
                tar.members.clear()  # pyright: ignore[reportAttributeAccessIssue]  (which would all stay in memory)
                content.left = LARGEST_HEADERS
                size += member.size
                if size > LARGEST_ARCHIVE or number > MOST_MEMBERS:
                    most = f"{LARGEST_ARCHIVE:,} bytes" if size > LARGEST_ARCHIVE else f"{MOST_MEMBERS:,} files"
                    raise UserError(f"{archive} holds more than {most}; get it from elsewhere")
                path = PurePosixPath(member.name)
                pieces = [piece for piece in path.parts if piece != "."]
                leaves = path.is_absolute() or ".." in pieces or set(member.name) & set("\\:")  # the last on Windows
                is_long = any(len(os.fsencode(piece)) > LONGEST_NAME for piece in pieces)
                is_plain = (member.isfile() and not member.issparse() and member.size >= 0) or member.isdir()
                if leaves or is_long or not is_plain:
                    name = member.name[:LONGEST_NAME]
                    raise UserError(f"{archive} holds {name}, which no data set needs; get it from elsewhere")
                if not member.isfile() or pieces[:1] != [prefix] or pieces[-1].startswith("._"):
                    continue
                target = temporary.joinpath(*pieces[1:])
                try:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    file = open(target, "wb")  # noqa: SIM115
                except (FileExistsError, IsADirectoryError, NotADirectoryError):
                    raise tarfile.TarError(f"{member.name} is a file and a folder") from None
                content.left += member.size
                with file, tar.extractfile(member) as source:  # type: ignore[union-attr]
                    shutil.copyfileobj(source, file)
            content.left = LARGEST_ARCHIVE + LARGEST_PIECE
            while size <= LARGEST_ARCHIVE and (block := content.read(LARGEST_PIECE)):  # to the end: the checksum
                size += len(block)
            missing = [name for name in required if not (temporary / name).is_file()]
            if missing or not any(temporary.iterdir()):
                raise tarfile.TarError(f"no {prefix}/{missing[0] if missing else ''} in it")
            finish(temporary)
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError, IndexError, RecursionError) as error:
        raise UserError(f"{archive} is not whole ({error}); put a whole one in its place") from error


@contextmanager
def _in_pieces(archive: Path) -> Iterator["_Pieces"]:
    """The content of an archive, gzipped or, as some browsers leave it, already unpacked to a plain tar."""
    with open(archive, "rb") as file:
        is_gzipped = file.read(2) == GZIP_MAGIC
        file.seek(0)
        yield _Pieces(gzip.GzipFile(fileobj=file) if is_gzipped else file)


class _Pieces:
    """A file with small headers: tarfile reads any number of them at once, whatever size they say they have.

    Attributes:
        left: bytes that may be read yet.
    """

    def __init__(self, file: gzip.GzipFile | BinaryIO):
        self._file, self.seek, self.tell = file, file.seek, file.tell
        self.left = LARGEST_HEADERS

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= self.left:
            raise tarfile.ReadError(f"a header of {size} bytes")
        self.left -= size
        return self._file.read(size)


def sha256_of(path: Path) -> str:
    """The checksum of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
