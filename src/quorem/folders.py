"""Make folders durably, wait until contents and names are on the disc, and check that one is there."""

import errno
import os
import sys
from pathlib import Path

from quorem.errors import UserError


def make_folder(folder: Path) -> None:
    """Make a folder, and those it stands in; their names are on the disc then."""
    if not folder.is_dir() and folder != folder.parent:
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync(folder.parent)


def sync(*paths: Path) -> None:
    """Wait until the contents of files, and the names in folders, are on the disc."""
    flags = os.O_RDWR if sys.platform == "win32" else os.O_RDONLY  # Windows syncs only what may be written
    for path in paths:
        try:
            handle = os.open(path, flags)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            if error.errno == errno.EACCES and sys.platform == "win32":
                continue  # folders cannot be opened there, nor can copies of what may only be read
            if not (path.is_dir() and error.errno in (errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.EACCES)):
                raise  # other than from file systems, of networks mostly, that cannot do it for folders


def check_there(folder: Path) -> None:
    """Accept a folder that is there.

    Raises:
        UserError: for a file, or nothing.
    """
    if not folder.exists():
        raise UserError(f"{folder}: there is no such folder: give that of a finished run")
    if not folder.is_dir():
        raise UserError(f"{folder}: is a file, not a run: give the folder of a run first")
