"""Two commands, one output: the second is told who writes there and changes nothing; a dead one holds nothing."""

import os
import signal
import socket
import subprocess
import sys

import forked
import pytest

from quorem.data.source import find_files
from quorem.errors import UserError
from quorem.lock import locked

HOLD = """
import sys, time
from pathlib import Path
from quorem.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def hold():
    """Another process that writes an output until it is killed."""
    begun = []

    def start(out):
        process = subprocess.Popen([sys.executable, "-c", HOLD, str(out)], stdout=subprocess.PIPE, text=True)
        begun.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in begun:
        process.kill()
        process.wait()
        process.stdout.close()


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".lock")}


def test_a_lock_ends_with_its_process_and_leaves_nothing(tmp_path, hold, monkeypatch):
    out = tmp_path / "there" / "out"
    process = hold(out)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "there")
    told = f"process {process.pid} on {socket.gethostname()} is writing there: wait until it has ended"
    for same in (out, tmp_path / "there" / ".." / "there" / "out", tmp_path / "link" / "out"):
        with pytest.raises(UserError, match=told), locked(same):
            pytest.fail("two hold it")
    with locked(tmp_path / "there" / "other"), locked(out, mine=False):
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    with locked(out), pytest.raises(UserError, match=f"process {os.getpid()} on"), locked(out):
        pytest.fail("two hold it")
    assert list((tmp_path / "there").iterdir()) == []


def test_an_error_frees_the_lock(tmp_path):
    with pytest.raises(KeyError), locked(tmp_path / "out"):
        raise KeyError
    with locked(tmp_path / "out"):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_of_a_folder_that_is_lent_alone_the_lock_is_inside(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    tmp_path.chmod(0o500)
    try:
        with locked(out):
            assert [path.name for path in out.iterdir()] == [".out.lock"]
        assert list(out.iterdir()) == []
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("command", ["pretrain", "finetune", "predict", "prepare", "merge", "sample", "report"])
def test_the_second_command_is_refused_and_goes_once_the_first_is_dead(
    tmp_path, refused, quorem, hold, command, sample_csv, pretrained, classifier, pretrain_settings, finetune_settings
):
    columns, out = ("--text-column", "review"), tmp_path / "out"
    if command == "merge":
        assert quorem("prepare", sample_csv, *columns, "--out", tmp_path / "part", "model.vocab_size=300").code == 0
    words = {
        "pretrain": ("pretrain", sample_csv, *columns, *pretrain_settings),
        "finetune": ("finetune", pretrained, sample_csv, *columns, "--label-column", "sentiment", *finetune_settings),
        "predict": ("predict", classifier, sample_csv, *columns),
        "prepare": ("prepare", sample_csv, *columns, "model.vocab_size=300"),
        "merge": ("merge", tmp_path / "part"),
        "sample": ("sample", "reviews", "--rows", "20"),
        "report": ("report", classifier),
    }[command]
    process, before = hold(out), contents(tmp_path)
    line = refused(*words, "--out", out, after_log=True)
    assert f"{out}: process {process.pid} on {socket.gethostname()} is writing there" in line
    assert contents(tmp_path) == before
    process.kill()
    process.wait()
    assert quorem(*words, "--out", out).code == 0
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("out", "part")] == []
    assert [str(path) for path in tmp_path.rglob(".*")] == []


def test_of_commands_at_once_one_writes(tmp_path, quorem, classifier, sample_csv):
    """Processes, not threads: transformers changes its classes while a model is loaded, for all threads."""
    words = ("predict", classifier, sample_csv, "--text-column", "review", "--out")
    places = [tmp_path / name for name in ("out.csv", "alone.csv", "0", "1")]
    out, alone, *told = places
    running = [forked.start(*words, out, out=os.devnull, err=err) for err in told]
    for process in running:
        process.join(300)
    ends = [process.exitcode for process in running]
    assert sorted(ends) == [0, 2]
    line = told[ends.index(2)].read_text()
    assert "is writing there" in line or "already" in line
    assert quorem(*words, alone).code == 0
    assert out.read_bytes() == alone.read_bytes()
    assert sorted(tmp_path.iterdir()) == sorted(places)


def test_what_a_killed_command_left_goes_with_the_next(tmp_path, quorem):
    for left in ("out.csv.99999999.partial", "out.csv.partial", ".out.csv.lock"):
        (tmp_path / left).write_text("half")
    (tmp_path / "out.csv.mine.partial").write_text("mine")
    assert quorem("sample", "reviews", "--rows", "5", "--out", tmp_path / "out.csv").code == 0
    assert {path.name for path in tmp_path.iterdir()} == {"out.csv", "out.csv.mine.partial"}


def test_a_run_inside_its_input_folder_is_not_read(tmp_path, quorem, sample_csv, pretrain_settings, monkeypatch):
    data = tmp_path / "data"
    (data / "more").mkdir(parents=True)
    lines = sample_csv.read_text().splitlines()[1:]
    for name in ("a.txt", "more/b.txt"):
        (data / name).write_text("\n".join(lines))
    words = ("pretrain", data, *pretrain_settings)
    assert quorem(*words, "--out", data / "run").code == 0
    again = quorem(*words, "--out", data / "run")  # the same inputs: finished
    assert (again.code, "nothing to do" in again.err) == (0, True)
    prepared = ("prepare", data, "model.vocab_size=300", "--out", data / "prepared")
    assert quorem(*prepared).code == 0
    outcome = quorem(*words, "--out", tmp_path / "second")
    assert outcome.code == 0
    assert "not data, for a run or a model is there:" in outcome.err
    for name in ("run", "prepared"):
        assert str(data / name) in outcome.err
    one, two = (
        (place / "data" / "shards" / "tokens.bin").read_bytes() for place in (data / "run", tmp_path / "second")
    )
    assert one == two
    monkeypatch.chdir(data)
    assert [str(file) for file in find_files("**/*.txt")] == ["a.txt", "more/b.txt"]
    assert [str(file) for file in find_files(".")] == ["a.txt", "more/b.txt"]
    named = find_files("run/discriminator/*.txt")  # by its own name it may be had
    assert [str(file) for file in named] == ["run/discriminator/vocab.txt"]


def test_a_folder_of_runs_alone_has_no_data(refused, pretrained, tmp_path):
    line = refused("pretrain", pretrained, "--out", tmp_path / "out", after_log=True)
    assert "holds no data but files of runs or models" in line
    assert line.endswith(f"to go on from a run: --init-from {pretrained}")
    line = refused("finetune", pretrained / "data", pretrained / "config.yaml", "--out", tmp_path / "out")
    assert line.endswith(f"give {pretrained}")
