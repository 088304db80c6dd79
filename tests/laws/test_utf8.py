"""A codec that was chosen for other files does not garble UTF-8 without a word."""

import gzip
import logging

import pytest
from reader_cases import read_csv, read_text

from quorem.data.readers.encoding import is_utf8_beside
from quorem.errors import UserError

TEXT = "text\nsüßer Käse\n映画\n"


@pytest.mark.parametrize(
    ("content", "chosen", "expected"),
    [
        (TEXT.encode(), "latin-1", True),
        (TEXT.encode(), "cp949", True),
        (TEXT.encode(), "utf-16", True),
        (TEXT.encode(), "utf-8", False),
        (TEXT.encode(), "UTF_8", False),
        ("süßer Käse".encode("latin-1"), "latin-1", False),
        (TEXT.encode() + b"\xff", "latin-1", False),
        (TEXT.encode() + "ü".encode()[:1], "latin-1", False),  # cut off
        (b"plain\n", "latin-1", False),  # the same in both
        (b"plain\n", "iso2022_jp", False),
        (b"plain\n", "utf-16", True),
        (TEXT.encode("utf-16-le"), "utf-16-le", False),
        ("plain\n".encode("utf-16-le"), "utf-16-le", False),  # valid UTF-8 but for its NUL bytes
        ("ü".encode() * 2**20, "latin-1", True),
        (b"a" * (2**20 - 1) + "ü".encode(), "latin-1", True),  # a character over the edge of what is read at once
        (b"", "latin-1", False),
    ],
)
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_what_is_utf8_and_another_text_in_the_codec(tmp_path, content, chosen, expected, ending):
    path = tmp_path / f"a.txt{ending}"
    path.write_bytes(gzip.compress(content) if ending else content)
    assert is_utf8_beside(path, chosen) == expected


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        is_utf8_beside(tmp_path / "a", "latin-1")


def test_a_choice_that_reads_utf8_as_another_text_is_warned_of_once(tmp_path, caplog):
    path = tmp_path / "a.csv"
    path.write_bytes(TEXT.encode())
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            assert [document.text for document in read_csv(path, text_column="text")] == ["süßer Käse", "映画"]
        assert not caplog.records
        for _ in range(2):
            assert next(read_csv(path, text_column="text", encoding="latin-1")).text == "sÃ¼Ã\x9fer KÃ¤se"
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "is valid UTF-8, but read as data.encoding=latin-1" in record.getMessage()


def test_a_choice_that_fits_is_not(tmp_path, caplog):
    path = tmp_path / "a.txt"
    path.write_bytes("süß".encode("latin-1"))
    assert next(read_text(path, encoding="latin-1")).text == "süß"
    path.write_bytes("\ufeffsüß".encode())  # a byte order mark says it already
    assert next(read_text(path, encoding="latin-1")).text == "süß"
    assert not caplog.records
