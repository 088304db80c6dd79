"""quorem prepare on small broken files: done, or exit code 2 and one clear line."""

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quorem.cli import main

FILES = int(os.environ.get("QUOREM_FUZZ", "30"))
PIECES = (
    *(b"text,label\n", b"text;label\n", b"good film,1\n", b"good;1\n", b"one, two,3\n", b'"open,1\n', b'a"b,"c"d\n'),
    *(b'{"text": "a film"}\n', b'{"text": ["a", 1]}\n', b'{"text": [[]]}\n', b"{\n", b"plain words\n", b"\n", b"\r"),
    *(b"\xff\xfe", b"\xef\xbb\xbf", b"\0", b"caf\xe9 noir\n", "영화,1\n".encode("cp949"), b"\x1f\x8b", b"PK\x03\x04"),
)
contents = st.lists(st.sampled_from(PIECES) | st.binary(max_size=6), max_size=8).map(b"".join)


@settings(max_examples=FILES, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    content=contents,
    name=st.sampled_from(["a.csv", "a.tsv", "a.jsonl", "a.txt", "a.csv.gz", "a"]),
    choices=st.lists(
        st.sampled_from(["data.bad_rows=skip", "data.encoding=cp949", "data.encoding=utf-16", "data.delimiter=;"]),
        unique=True,
    ),
    kind=st.sampled_from(["words", "items"]),
)
def test_any_file_is_prepared_or_refused_in_one_line(tmp_path_factory, capfd, content, name, choices, kind):
    folder = tmp_path_factory.mktemp("any")
    (folder / name).write_bytes(content)
    capfd.readouterr()
    code = main(["prepare", str(folder / name), "--tokenizer", kind, "--out", str(folder / "out"), *choices])
    out, err = capfd.readouterr()
    assert code in (0, 2)
    assert "Traceback" not in err
    if code == 2:
        line = err.splitlines()[-1]
        assert line.startswith("quorem: ")
        assert name in line or "has no meaning" in line
        assert not out
        assert not (folder / "out" / "shards").exists()
    else:
        assert (folder / "out" / "bad_rows.txt").exists() == ("bad rows in all" in err)


@pytest.mark.parametrize("command", ["prepare", "pretrain", "finetune"])
def test_bad_rows_are_listed_where_the_run_is(
    quorem, refused, tmp_path, pretrained, pretrain_settings, finetune_settings, command
):
    path = tmp_path / "data.csv"
    rows = [f"{'good' if i % 2 else 'bad'} film,{i % 2}" for i in range(40)]
    path.write_text("\n".join(["text;label", *[row.replace(",", ";") for row in rows], "a;b;c", '"x"y;1', "z;1"]))
    out = tmp_path / "out"
    words = {
        "prepare": ["prepare", path, "--out", out],
        "pretrain": ["pretrain", path, "--out", out, *pretrain_settings],
        "finetune": ["finetune", pretrained, path, "--out", out, *finetune_settings],
    }[command]
    assert "row 41 (line 42): found 3 fields" in refused(*words, after_log=True)
    outcome = quorem(*words[:-1], words[-1], "data.bad_rows=skip", *(["--out", tmp_path / "new"]))
    assert outcome.code == 0, outcome
    folder = tmp_path / "new" / ("data" if command == "pretrain" else "")
    lines = (folder / "bad_rows.txt").read_text().splitlines()
    assert [line.partition(", ")[2][:6] for line in lines] == ["row 41", "row 42"]
    assert f"skipped: {lines[0]}" in outcome.err


def test_predict_reads_what_finetune_read(quorem, refused, tmp_path, pretrained, finetune_settings):
    path, out = tmp_path / "data.csv", tmp_path / "run"
    rows = [f"{'좋은' if i % 2 else 'bad'} film;{i % 2}" for i in range(40)]
    path.write_bytes("\n".join(["text;label", *rows]).encode("cp949"))
    fine = ["finetune", pretrained, path, "--out", out, *finetune_settings]
    assert "looks like cp949: set data.encoding=cp949" in refused(*fine, after_log=True)
    assert quorem(*fine, "data.encoding=cp949").code == 0
    assert quorem("predict", out, path, "--out", tmp_path / "p.csv").code == 0
    assert (tmp_path / "p.csv").read_text(encoding="utf-8").splitlines()[2].startswith("좋은 film,1,")
    (tmp_path / "other.csv").write_text("a|text\n1|good film\n", encoding="utf-16")
    outcome = quorem("predict", out, tmp_path / "other.csv", "--out", tmp_path / "q.tsv", "--delimiter", "|")
    assert outcome.code == 0, outcome
    assert (tmp_path / "q.tsv").read_text().splitlines()[1].startswith("1\tgood film\t")
