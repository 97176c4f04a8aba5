"""Downloads that are whole or not there, and go on where they stopped."""

import http.client
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from common.errors import UserError
from common.files import rename, sha256_of

TIMEOUT = 30  # seconds without a byte
BLOCK = 1 << 18
LARGEST = 4 << 30  # bytes; of the data sets' archives the largest has 1.2 billion
PAGE = (b"<!doctype html", b"<html")


def download(url: str, path: Path, sha256: str) -> None:
    """Downloads a file, with a progress bar on a terminal, under a hidden name; renames it once its checksum fits.

    It goes on from what an earlier, interrupted download left, where the server can do that and the checksum then fits.

    Args:
        url: http or https; proxies come from the usual environment variables.
        path: where the file goes; its folder is made.
        sha256: 64 hexadecimal digits.

    Raises:
        UserError: no connection, an HTTP error, a download cut off, or another checksum. Nothing is at ``path``; what
            came of a download cut off stays beside it.
        OSError: the disk takes no more, say.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.part")
    goes_on = partial.exists()
    _fetch(url, partial)
    if goes_on and sha256_of(partial) != sha256:  # what was there may be the beginning of another file
        partial.unlink()
        _fetch(url, partial)
    if sha256_of(partial) != sha256:
        with open(partial, "rb") as file:
            is_page = file.read(100).lstrip().lower().startswith(PAGE)
        partial.unlink()
        what = "a web page came, as where a network wants a login first" if is_page else "another file came"
        raise UserError(f"the download of {url} failed ({what}: its SHA-256 is not {sha256})")
    rename(partial, path)


def _fetch(url: str, partial: Path) -> None:
    """Adds to a file what it lacks; or writes all of it, if the server does not go on where it ends."""
    done = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    with _network(url):
        try:
            response = urllib.request.build_opener(_Redirects).open(request, timeout=TIMEOUT)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and done:
                return  # nothing is lacking
            raise
    with response:
        if not response.headers.get("Content-Range", "").startswith(f"bytes {done}-"):
            done = 0
        announced = response.headers.get("Content-Length", "")
        total = done + int(announced) if announced.isdecimal() else None
        with open(partial, "ab" if done else "wb") as file:
            for block in _with_progress(_blocks(url, response), done, total):
                done += file.write(block)
                if done > LARGEST:
                    file.truncate(0)
                    raise UserError(f"the download of {url} failed (more than {LARGEST:,} bytes came)")
            file.flush()
            os.fsync(file.fileno())
    if total is not None and done < total:
        raise UserError(f"the download of {url} failed (cut off after {done:,} of {total:,} bytes; try again)")


def _blocks(url: str, response: http.client.HTTPResponse) -> Iterator[bytes]:
    while True:
        with _network(url):
            block = response.read1(BLOCK)
        if not block:
            return
        yield block


@contextmanager
def _network(url: str) -> Iterator[None]:
    """What a network can raise becomes one line."""
    try:
        yield
    except TimeoutError as error:
        raise UserError(f"the download of {url} failed (nothing came for {TIMEOUT} seconds)") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        code = f"{error.code}: " if isinstance(error, urllib.error.HTTPError) else ""
        raise UserError(f"the download of {url} failed ({code}{reason})") from error


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows only to where an eavesdropper hears no more than before; urllib itself would follow to ftp too."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        before, after = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if after not in (before, "https"):
            fp.close()
            raise urllib.error.URLError(f"it leads to {newurl[:200]}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _with_progress(blocks: Iterator[bytes], done: int, total: int | None) -> Iterator[bytes]:
    """The same blocks, with a bar on a terminal."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    columns = ("downloads", BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True, disable=not sys.stdout.isatty()) as bar:
        task = bar.add_task("", total=total, completed=done)
        for block in blocks:
            yield block
            bar.advance(task, len(block))
