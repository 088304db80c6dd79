"""Which files data.path stands for, and how they become one stream."""

import logging

import pytest

from quorem.config.finetuning import LabelledDataSettings
from quorem.config.loading import override
from quorem.config.settings import DataSettings, PretrainConfig
from quorem.data.documents import RowCounts
from quorem.data.readers import READERS
from quorem.data.source import Source, find_files
from quorem.errors import UserError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "deep").mkdir()
    for name, text in (("b.csv", "two"), ("a.csv", "one"), ("deep/c.csv", "three")):
        (tmp_path / name).write_text(f"text,label\n{text},x\n ,x\n{text} again,y\n")
    (tmp_path / "notes.md").write_text("no data")
    return tmp_path


def texts(path, **settings):
    return [document.text for document in Source.of(DataSettings(path=path, **settings), text_column=None).documents()]


def test_a_folder_a_pattern_and_a_list_are_their_files_in_order(folder):
    every = ["one", "one again", "two", "two again", "three", "three again"]
    assert texts(str(folder)) == every
    assert texts(str(folder / "**" / "*.csv")) == every
    assert texts(str(folder / "*.csv")) == every[:4]
    assert texts([str(folder / "b.csv"), str(folder / "*.csv")]) == every[2:4] + every[:2]  # each file once
    assert texts(str(folder / "a.csv")) == every[:2]


def test_rows_are_counted_over_all_files(folder):
    counts = RowCounts()
    source = Source.of(LabelledDataSettings(path=str(folder)), text_column="text", label_column="label")
    documents = list(source.documents(counts))
    assert [(document.label, document.row) for document in documents] == [("x", 1), ("y", 3)] * 3
    assert counts == RowCounts(read=9, used=6, skipped=3)
    assert str(counts) == "9 rows read, 6 used, 3 skipped (3 empty)"
    assert str(source) == f"{folder / 'a.csv'} and 2 more"


def test_the_fingerprint_is_that_of_the_bytes_and_their_order(folder):
    def fingerprint(*names):
        return Source.of(DataSettings(path=[str(folder / name) for name in names]), text_column=None).fingerprint()

    found = [fingerprint("a.csv", "b.csv"), fingerprint("b.csv", "a.csv"), fingerprint("a.csv")]
    assert len(set(found)) == 3
    (folder / "a.csv").rename(folder / "z.csv")
    assert fingerprint("z.csv", "b.csv") == found[0]


def test_what_cannot_be_found_is_named(folder):
    for path, words in (
        (str(folder / "*.jsonl"), "no file has such a name"),
        (str(folder / "deep" / "none"), "does not exist"),
        ("", "name a file"),
        ([], "name a file"),
    ):
        with pytest.raises(UserError, match=words):
            texts(path)
    (folder / "deep" / "c.csv").unlink()
    with pytest.raises(UserError, match="no file of a known format"):
        texts(str(folder / "deep"))


def test_files_of_several_formats_are_refused_unless_one_is_chosen(folder):
    (folder / "a.txt").write_text("a line\n")
    with pytest.raises(UserError) as caught:
        texts(str(folder))
    assert str(caught.value) == (
        f"data.path={folder}: files of several formats (text: {folder}/a.txt; csv: {folder}/a.csv, {folder}/b.csv, "
        f"{folder}/deep/c.csv): set data.format=csv or data.format=text to read those alone, or "
        f"take the others out of the folder"
    )
    assert len(texts(str(folder), format="csv")) == 6
    assert texts([str(folder / "a.txt"), str(folder / "a.csv")], format="text")[0] == "a line"


@pytest.mark.parametrize("kind", ["csv", "midi", "text", "parquet"])
@pytest.mark.parametrize("asked", ["folder", "pattern"])
def test_among_many_files_of_a_format_the_odd_one_is_named(tmp_path, kind, asked):
    ending, odd = READERS[kind].endings[0], "z.jsonl"
    for name in (*(f"{number}{ending}" for number in range(9)), odd):
        (tmp_path / name).write_text("text\na\n")
    path = str(tmp_path if asked == "folder" else tmp_path / "*")
    with pytest.raises(UserError, match=rf"\(jsonl: {tmp_path}/{odd}; {kind}: .* and 6 more\)") as caught:
        texts(path)
    fix = (
        f"set data.format={kind} or data.format=jsonl to read"
        if asked == "folder"
        else f"by a pattern such as 'folder/**/*{ending}'"
    )
    assert fix in str(caught.value)
    assert len(find_files(str(tmp_path), kind)) == 9
    assert len(find_files(str(tmp_path / f"*{ending}"))) == 9


def test_what_a_folder_has_besides_is_named_and_not_read(folder, caplog):
    for name in ("a.pdf", ".DS_Store", "deep/readme", "._a.csv", "deep/._c.csv", "a.txt"):
        (folder / name).write_bytes(b"\0")
    with caplog.at_level(logging.INFO):
        assert len(texts(str(folder), format="csv")) == len(texts(str(folder), format="csv")) == 6
    left = f"{folder}/a.pdf, {folder}/a.txt, {folder}/deep/readme and 1 more"  # notes.md
    assert [record.getMessage() for record in caplog.records] == [
        f"{folder}: not read, for they are not csv by their endings: {left}"
    ]
    (folder / "a.txt").unlink()
    caplog.clear()
    with caplog.at_level(logging.INFO):
        assert len(texts(str(folder))) == 6
    assert "not read, for they are of no known format: " in caplog.text


def test_options_of_lines_reach_every_file_and_are_refused_elsewhere(folder):
    (folder / "b.csv").write_bytes("text;label\n영화;x\na;b;c\n".encode("cp949"))
    counts = RowCounts()
    settings = DataSettings(path=str(folder / "b.csv"), bad_rows="skip", encoding="cp949", delimiter=";")
    assert [item.text for item in Source.of(settings, text_column=None).documents(counts)] == ["영화"]
    assert (counts.read, counts.bad) == (2, 1)
    for name, value in (("documents", "paragraph"), ("midi", "tsd")):
        with pytest.raises(UserError, match=rf"data.{name}={value} has no meaning for data.format=csv"):
            texts(str(folder / "a.csv"), **{name: value})


def test_a_name_with_pattern_characters_is_a_file_if_there_is_one(tmp_path):
    (tmp_path / "[1].txt").write_text("found\n")
    assert find_files(str(tmp_path / "[1].txt")) == (tmp_path / "[1].txt",)


def test_lists_are_settings():
    assert override(PretrainConfig(), ["data.path=[a.csv, b.csv]"]).data.path == ["a.csv", "b.csv"]
    assert override(PretrainConfig(), ["data.path=a.csv"]).data.path == "a.csv"
    with pytest.raises(UserError, match=r"data.path=\['a.csv', 3\]: str or list needed"):
        override(PretrainConfig(), ["data.path=[a.csv, 3]"])
