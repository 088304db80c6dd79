"""Atomic files and folders: they appear complete or not at all, even after a crash or a power cut.

What is written appears under a temporary name, which has the number of the process, and is renamed when it is complete
and on the disc. Whoever writes holds the lock of the output (quorem.lock): other temporary files are left by kills.
"""

import glob
import hashlib
import io
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO

from quorem.errors import UserError
from quorem.folders import make_folder, sync
from quorem.lock import locked

TEMPORARY = r"(\.\d+)?\.partial"  # after the name of a file or folder; the number is the process's


def fingerprint_files(*paths: Path) -> str:
    """sha256 over the bytes of files, in order."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while piece := file.read(2**20):
                digest.update(piece)
    return digest.hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a text file whole."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole: under a temporary name, synced, renamed; its folder is made if need be."""
    with whole_file(path) as file:
        file.write(content)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to fill with bytes; it takes its name, and the place of what had it, if all goes well, or vanishes."""
    make_folder(path.parent)
    partial = _temporary(path)
    try:
        with partial.open("wb") as file:
            yield file
        sync(partial)
        os.replace(partial, path)
        sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def new_bytes(path: Path) -> Iterator[BinaryIO]:
    """A file to fill with bytes; it takes its name, which is free, if all goes well, or vanishes.

    Missing folders are created; other commands are kept from writing it.

    Raises:
        UserError: if the file exists, or another process is writing it.
        OSError: if it cannot be written.
    """
    with locked(path):
        check_new(path)  # asked only now: another process may have finished it
        with whole_file(path) as stream:
            yield stream


@contextmanager
def new_text(path: Path) -> Iterator[TextIO]:
    """As `new_bytes`, for text: UTF-8, line ends as they are written.

    Raises:
        UserError: if the file exists, or another process is writing it.
        OSError: if it cannot be written.
    """
    with new_bytes(path) as file, io.TextIOWrapper(file, encoding="utf-8", newline="") as stream:
        yield stream


def is_named(name: str | Path) -> bool:
    """Whether there is a file or folder of that name, or of those that a pattern stands for."""
    return os.path.exists(name) or bool(glob.has_magic(str(name)) and glob.glob(str(name), recursive=True))


def check_new(path: Path) -> None:
    """Refuse to overwrite.

    Raises:
        UserError: if there is something of that name.
    """
    if path.exists():
        raise UserError(f"{path}: exists already: delete it or choose another name")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """As `whole_folder`, for a name that is free; other commands are kept from writing it.

    Raises:
        UserError: if there is something of that name, or another process is writing it.
    """
    check_new(folder)
    with locked(folder):
        check_new(folder)  # another process may have finished it
        with whole_folder(folder) as partial:
            yield partial


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder to fill; it takes the name `folder` if all goes well and vanishes if not."""
    old = folder.with_name(folder.name + ".old")
    if old.exists() and not folder.exists():  # a crash between the two renames below
        os.replace(old, folder)
    shutil.rmtree(old, ignore_errors=True)
    make_folder(folder.parent)
    partial = _temporary(folder)
    partial.mkdir()
    try:
        yield partial
        finish_folder(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def finish_folder(partial: Path, folder: Path) -> None:
    """Give a folder its final name when all in it is on the disc; what stood there is replaced, or stays on failure."""
    old = folder.with_name(folder.name + ".old")
    try:
        sync(*partial.rglob("*"), partial)
        if folder.exists():
            os.replace(folder, old)
        os.replace(partial, folder)
        sync(folder.parent)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        if old.exists() and not folder.exists():
            os.replace(old, folder)


def _temporary(path: Path) -> Path:
    """The name under which `path` is made; what kills have left of earlier ones is removed."""
    for left in list(path.parent.iterdir()):
        if re.fullmatch(re.escape(path.name) + TEMPORARY, left.name):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)
    return path.with_name(f"{path.name}.{os.getpid()}.partial")
