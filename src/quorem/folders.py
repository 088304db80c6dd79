"""Make folders durably, and wait until contents and names are on the disc."""

import errno
import os
import sys
from pathlib import Path


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
