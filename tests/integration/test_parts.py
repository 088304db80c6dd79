"""quorem prepare --processes: what several processes make of several files, and what is left if one is killed."""

import multiprocessing
import os
import signal
import time
from contextlib import suppress

import pytest
from forked import run, start

from quorem.config.settings import PrepareConfig, ReadingSettings, TextDataSettings, TokenizerSettings
from quorem.data import parts as parts_module
from quorem.data import prepare as prepare_module
from quorem.data.parts import split
from quorem.data.prepare import prepare
from quorem.data.source import Source
from quorem.samples import write_reviews

FORK = multiprocessing.get_context("fork")
SHARDS = ("tokens.bin", "ends.bin", "counts.bin", "meta.json")


def forking(_method):
    """In place of multiprocessing's: workers are forked, for pythons that start anew import for seconds."""
    return FORK


def config(folder, **data):
    return PrepareConfig(data=TextDataSettings(path=str(folder), **data), tokenizer=TokenizerSettings(kind="words"))


def assert_same(one, other):
    for name in SHARDS:
        assert (one / "shards" / name).read_bytes() == (other / "shards" / name).read_bytes(), name
    assert sorted(path.name for path in one.iterdir()) == sorted(path.name for path in other.iterdir())


@pytest.mark.parametrize("number", [1, 2, 3, 5, 40])
@pytest.mark.parametrize("sizes", [[1], [5, 5, 5, 5], [0, 0, 900, 1, 1], [1, 2, 3, 4, 5, 6, 7, 800], [0, 0]])
def test_a_split_has_every_file_once_in_order(tmp_path, number, sizes):
    files = [tmp_path / f"{place}.txt" for place in range(len(sizes))]
    for file, size in zip(files, sizes, strict=True):
        file.write_text("x" * size)
    found = split(Source(tuple(files), "text"), number)
    assert [file for part in found.values() for file in part.files] == files
    assert len(found) <= number
    assert all(part.files for part in found.values())


@pytest.mark.parametrize("number", [2, 3, 4])
def test_a_split_shares_the_bytes_out(tmp_path, number):
    files = [tmp_path / f"{place:02}.txt" for place in range(60)]
    for place, file in enumerate(files):
        file.write_text("x" * (1_000 + 37 * (place % 5)))
    found = split(Source(tuple(files), "text"), number)
    weights = [sum(file.stat().st_size for file in part.files) for part in found.values()]
    assert len(weights) == number
    assert max(weights) - min(weights) <= 2 * 1_200


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Four CSVs, one of them without a word and one with a bad row."""
    folder = tmp_path_factory.mktemp("files")
    for number in range(4):
        write_reviews(folder / f"{number}.csv", rows=50 + 10 * number, seed=number)
    (folder / "2.csv").write_text("review,sentiment\n\u200b,positive\n")
    with (folder / "3.csv").open("a") as file:
        file.write("three,fields,here\n")
    return folder


def test_several_processes_make_what_one_makes(files, tmp_path, monkeypatch):
    given = config(files, text_column="review", bad_rows="skip")
    alone = prepare(given, tmp_path / "one")
    joined = parts_module.merge_shards

    def killed(*arguments, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr(parts_module, "merge_shards", killed)  # by a signal, just before they are joined
    with pytest.raises(KeyboardInterrupt):
        prepare(given, tmp_path / "two", processes=2)
    assert not (tmp_path / "two" / "shards").exists()
    kept = tmp_path / "two" / "shards.parts" / "000000-000001" / "tokens.bin"
    made = kept.stat().st_mtime_ns

    def join(folder, whole, **named):
        assert kept.stat().st_mtime_ns == made  # what was finished is not made again
        return joined(folder, whole, **named)

    monkeypatch.setattr(parts_module, "merge_shards", join)
    monkeypatch.setattr(multiprocessing, "get_context", forking)  # the first time they were started anew
    assert prepare(given, tmp_path / "two", processes=2) == alone
    assert alone.rows == {"read": 192, "used": 191, "skipped": 1, "bad": 1}
    assert_same(tmp_path / "one", tmp_path / "two")
    assert (tmp_path / "one" / "bad_rows.txt").read_text() == (tmp_path / "two" / "bad_rows.txt").read_text()


def test_a_bad_row_in_one_part_ends_all_with_its_line(files, tmp_path, monkeypatch):
    monkeypatch.setattr(multiprocessing, "get_context", forking)
    with pytest.raises(prepare_module.UserError, match=r"3\.csv, row 81 .*found 3 fields"):
        prepare(
            PrepareConfig(
                data=TextDataSettings(path=[str(files / "0.csv"), str(files / "3.csv")], text_column="review"),
                tokenizer=TokenizerSettings(path=str(_tokenizer(files, tmp_path))),
            ),
            tmp_path / "out",
            processes=2,
        )
    assert not (tmp_path / "out" / "shards").exists()


def _tokenizer(files, folder):
    prepare(config(files / "0.csv", text_column="review"), folder / "words")
    return folder / "words" / "tokenizer"


def workers_forked():
    multiprocessing.get_context = forking


def test_workers_end_with_their_command_and_a_killed_one_is_a_clear_error_and_the_same_command_goes_on(tmp_path):
    for number in range(2):
        write_reviews(tmp_path / f"{number}.csv", rows=2_000, seed=number)
    settings = ["--text-column", "review", f"tokenizer.path={_tokenizer(tmp_path, tmp_path)}"]
    command = ["prepare", tmp_path / "*.csv", *settings]
    two, said = ["--out", tmp_path / "two", "--processes", "2"], tmp_path / "said"
    begun = start(*command, *two, out=os.devnull, err=said)
    workers = _writing(begun, tmp_path / "two")
    begun.kill()
    begun.join()
    until = time.monotonic() + 120
    while any(map(_command, workers)):
        time.sleep(0.01)
        assert time.monotonic() < until, "workers go on without the command that started them"
    begun = start(*command, *two, out=os.devnull, err=said, first=workers_forked)
    os.kill(_writing(begun, tmp_path / "two")[0], signal.SIGKILL)
    begun.join(120)
    assert begun.exitcode == 2, said.read_text()
    assert "a process that prepared data was killed" in said.read_text().splitlines()[-1]
    assert "Traceback" not in said.read_text()
    for more in (two, ["--out", tmp_path / "one"]):
        assert run(*command, *more, first=workers_forked).returncode == 0
    assert_same(tmp_path / "one", tmp_path / "two")


def _writing(command, out):
    """The workers of a command, when one of them has begun to write."""
    began = time.time_ns()
    while command.is_alive():
        time.sleep(0.01)
        workers = [child for child in _children(command.pid) if "resource_tracker" not in _command(child)]
        files = out.glob("shards.parts/*.unfinished/tokens.bin")
        if workers and any(_changed(file) > began for file in files):
            return workers
    raise AssertionError("it ended before a worker was seen to write")


def _children(pid):
    with suppress(FileNotFoundError), open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]
    return []


def _command(pid):
    """Its command line; nothing of one that has ended."""
    with suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{pid}/cmdline") as file:
        return file.read()
    return ""


def _changed(file):
    with suppress(FileNotFoundError):
        return file.stat().st_mtime_ns
    return 0


def test_one_file_is_read_by_one_process_and_that_is_said(files, tmp_path, caplog):
    prepare(config(files / "0.csv", text_column="review"), tmp_path / "out", processes=4)
    assert "0.csv: is one file, which one process reads" in caplog.text
    assert (tmp_path / "out" / "shards").exists()
    assert len(Source.of(ReadingSettings(path=str(files)), text_column="review").files) == 4
