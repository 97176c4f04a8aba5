"""Downloads that are whole or not there."""

import errno
import os
import socket
from pathlib import Path

from common import tensorflow_setup
from common.errors import UserError
from common.files import rename

TIMEOUT = 30  # seconds without a byte
DISK_ERRORS = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS, errno.EACCES)


def download(url: str, path: Path, sha256: str) -> None:
    """Downloads a file, with a progress bar, under a temporary name; renames it once its checksum fits.

    A file that an earlier, interrupted download left is checked and, not being whole, begun again.

    Args:
        url: http or https; proxies come from the usual environment variables.
        path: where the file goes; its folder is made.
        sha256: 64 hexadecimal digits.

    Raises:
        UserError: no connection, an HTTP error, a download cut off, or another checksum. Nothing is
            left at ``path``.
    """
    tensorflow_setup.configure()  # Keras brings TensorFlow along
    import keras

    path.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(path.parent, os.W_OK):  # get_file would go elsewhere
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path.parent))
    temporary = path.with_name(f".{path.name}.part")
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        keras.utils.get_file(
            fname=temporary.name,
            origin=url,
            file_hash=sha256,
            hash_algorithm="sha256",
            cache_dir=str(path.parent.resolve()),
            cache_subdir="",
        )
        rename(temporary, path)
    except OSError as error:
        if error.errno in DISK_ERRORS:
            raise
        raise UserError(f"the download of {url} failed ({error})") from error
    except Exception as error:  # get_file raises bare Exceptions
        reason = str(error).removeprefix(f"URL fetch failure on {url}: ").removeprefix("None -- ")
        raise UserError(f"the download of {url} failed ({reason})") from error
    finally:
        socket.setdefaulttimeout(timeout)
        temporary.unlink(missing_ok=True)
