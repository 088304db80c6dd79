import csv

import pytest

from quorem.data.aclimdb import write_aclimdb
from quorem.errors import UserError


@pytest.fixture
def folder(tmp_path):
    for split in ("train", "test"):
        for label in ("pos", "neg"):
            place = tmp_path / "aclImdb" / split / label
            place.mkdir(parents=True)
            (place / "0_9.txt").write_text(f'{split} {label}, "quoted"\nzweite Zeile 영화', encoding="utf-8")
    return tmp_path / "aclImdb"


def test_every_text_has_its_label_and_split_and_keeps_its_script(folder, tmp_path):
    assert write_aclimdb(folder, tmp_path / "data.csv") == 4
    with (tmp_path / "data.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["split"], row["sentiment"]) for row in rows} == {(s, n) for s in ("train", "test") for n in "01"}
    for row in rows:
        name = "pos" if row["sentiment"] == "1" else "neg"
        assert row["review"] == f'{row["split"]} {name}, "quoted"\nzweite Zeile 영화'


def test_what_is_missing_is_named_and_nothing_is_left(folder, tmp_path):
    (folder / "test" / "pos" / "1_9.txt").write_bytes(b"caf\xe9")
    with pytest.raises(UserError, match=r"1_9\.txt: byte 3 is not UTF-8"):
        write_aclimdb(folder, tmp_path / "data.csv")
    assert not list(tmp_path.glob("data.csv*"))
    with pytest.raises(UserError, match="no such folder"):
        write_aclimdb(folder / "train", tmp_path / "data.csv")
