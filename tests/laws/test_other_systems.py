"""What Windows lacks or does otherwise, as far as it shows on another system."""

import ast
import errno
import fcntl
import os
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from quorem import folders, guard
from quorem.files import whole_folder, write_text
from quorem.plan import dry_run
from quorem.training.interrupt import Stopped

SOURCE = Path(__file__).parents[2] / "src" / "quorem"
LACKING = {"crypt", "fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}


def imported(node):
    """Modules that are imported when a file is, not when a function of it is called."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        return set()
    if isinstance(node, ast.Import):
        return {alias.name.split(".")[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        return {(node.module or "").split(".")[0]}
    return set().union(*map(imported, ast.iter_child_nodes(node)))


def test_no_file_needs_a_module_that_windows_lacks():
    files = sorted(SOURCE.rglob("*.py"))
    needed = {file: LACKING & imported(ast.parse(file.read_text(encoding="utf-8"))) for file in files}
    assert len(needed) == len(files) > 200
    assert not {name: modules for name, modules in needed.items() if modules}


def test_peak_memory_is_asked_of_the_system_at_hand(monkeypatch):
    monkeypatch.setattr(dry_run.torch.cuda, "is_available", lambda: False)
    here = dry_run.peak_bytes()
    assert 10**7 < here < 10**12
    monkeypatch.setattr(dry_run.sys, "platform", "win32")
    monkeypatch.setitem(sys.modules, "resource", None)  # importing it is an error
    process = SimpleNamespace(memory_info=lambda: SimpleNamespace(peak_wset=123))
    monkeypatch.setattr(dry_run.psutil, "Process", lambda: process)
    assert dry_run.peak_bytes() == 123


@pytest.fixture
def windows_files(monkeypatch):
    """Opening a folder is refused, and so is syncing a file that is open for reading alone."""
    real_open, real_sync, synced = os.open, os.fsync, list[int]()

    def no_folders(path, flags, *more, **named):
        if Path(path).is_dir():
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real_open(path, flags, *more, **named)

    def written_only(handle):
        if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        synced.append(handle)
        real_sync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(folders.os, "open", no_folders)
        patch.setattr(folders.os, "fsync", written_only)
        patch.setattr(folders.sys, "platform", "win32")
        yield synced


def test_files_and_folders_appear_whole(windows_files, tmp_path):
    write_text(tmp_path / "file.json", "{}")
    with whole_folder(tmp_path / "folder") as partial:
        (partial / "part.txt").write_text("text")
        (partial / "inside").mkdir()
        (partial / "copy.txt").write_text("copied from what may only be read")
        (partial / "copy.txt").chmod(0o444)
    assert (tmp_path / "file.json").read_text() == "{}"
    assert (tmp_path / "folder" / "part.txt").read_text() == "text"
    assert len(windows_files) >= 2  # both are on the disc


def test_a_command_to_resume_is_quoted_for_the_shell_at_hand(monkeypatch, capsys):
    again = ["quorem", "pretrain", r"C:\My Data\reviews.csv", "--out", r"runs\a"]

    def stopped():
        raise Stopped("stopped")

    assert guard.guarded(stopped, again=again) == 0
    assert shlex.split(capsys.readouterr().out.partition("resume with: ")[2]) == again
    monkeypatch.setattr(guard.sys, "platform", "win32")
    assert guard.guarded(stopped, again=again) == 0
    expected = r'resume with: quorem pretrain "C:\My Data\reviews.csv" --out runs\a'
    assert capsys.readouterr().out == f"stopped; {expected}\n"


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_names_that_the_output_cannot_show_end_no_command(tmp_path, encoding):
    words = [sys.executable, "-m", "quorem", "sample", "reviews", "--rows", "5", "--out", "영화.csv"]
    settings = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, check=False, env=settings)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"5 synthetic reviews" in done.stdout
    assert (tmp_path / "영화.csv").exists()
