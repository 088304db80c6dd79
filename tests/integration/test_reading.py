"""The commands on files as people have them: quotes that are text, no header, other encodings, NaN, many classes."""

import csv
import json
import shutil

import pytest
import yaml
from safetensors.torch import load_file, save_file

ROWS = [(f"a {'good' if number % 2 else 'bad'} film of {number} minutes", str(number % 2)) for number in range(40)]
ROWS[10] = ('"so it begins', "0")
ROWS[30] = ('and so it ends"', "0")


def plain(path, rows=ROWS, header=("text", "label")):
    """A file without quoting."""
    path.write_text("".join("\t".join(row) + "\n" for row in [*([header] if header else []), *rows]), encoding="utf-8")
    return path


def read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


@pytest.fixture
def with_settings(tmp_path, classifier):
    """A copy of the classifier whose data had other settings."""

    def change(**data):
        run = shutil.copytree(classifier, tmp_path / "changed")
        settings = yaml.safe_load((run / "config.yaml").read_text())
        settings["data"] |= data
        (run / "config.yaml").write_text(yaml.safe_dump(settings))
        return run

    return change


def test_every_command_reads_quotes_that_are_text(quorem, tmp_path, pretrained, classifier):
    path, out = plain(tmp_path / "a.tsv"), tmp_path / "out"
    outcome = quorem("prepare", path, "--out", out / "prepared")
    assert "40 documents" in outcome.out
    assert "data.quoting=none" in outcome.err
    outcome = quorem("finetune", pretrained, path, "--out", out / "run", "train.max_steps=1")
    assert "40 rows read, 40 used" in outcome.err
    outcome = quorem("predict", classifier, path, "--text-column", "text", "--out", out / "found.csv")
    assert "40 rows, 40 predicted" in outcome.out
    assert [row[:2] for row in read(out / "found.csv")] == [["text", "label"], *map(list, ROWS)]


def test_predict_takes_quoting_from_the_run_or_the_command_line(quorem, tmp_path, with_settings):
    run, path = with_settings(quoting="none", text_column="text"), tmp_path / "a.csv"
    path.write_text('text,label\n"a",0\n"b",1\n', encoding="utf-8")
    assert quorem("predict", run, path, "--out", tmp_path / "1.csv").code == 0
    assert [row[0] for row in read(tmp_path / "1.csv")] == ["text", '"a"', '"b"']
    assert quorem("predict", run, path, "--out", tmp_path / "2.csv", "--quoting", "standard").code == 0
    assert [row[0] for row in read(tmp_path / "2.csv")] == ["text", "a", "b"]


def test_a_file_without_a_header_from_pretraining_to_predictions(
    quorem, refused, tmp_path, pretrained, pretrain_settings, finetune_settings
):
    path = plain(tmp_path / "a.tsv", header=None)
    columns = ["--text-column", "1", "data.header=false"]
    assert quorem("pretrain", path, *columns, "--out", tmp_path / "p", *pretrain_settings).code == 0
    words = [*columns, "--label-column", "2", "--out", tmp_path / "f", *finetune_settings]
    assert quorem("finetune", tmp_path / "p", path, *words).code == 0
    assert quorem("predict", tmp_path / "f", path, "--out", tmp_path / "o.csv").code == 0  # the run knows
    found = read(tmp_path / "o.csv")
    assert [row[:2] for row in found] == list(map(list, ROWS))
    assert {row[2] for row in found} <= {"0", "1"}
    headed = plain(tmp_path / "b.tsv")
    words = ["--text-column", "text", "--header", "--out", tmp_path / "h.csv"]
    assert quorem("predict", tmp_path / "f", headed, *words).code == 0
    assert read(tmp_path / "h.csv")[0] == ["text", "label", "prediction", "probability"]
    line = refused("predict", tmp_path / "f", path, "--text-column", "text", "--out", tmp_path / "no.csv")
    assert "columns are numbers, 1 to 2" in line
    assert "data.header=False has no meaning for data.format=text" in refused(
        "prepare", plain(tmp_path / "c.txt"), "--out", tmp_path / "no", "data.header=false"
    )


def test_predict_remembers_the_text_column(quorem, refused, tmp_path, classifier):
    path = tmp_path / "a.csv"
    path.write_text("text,review\nother,good\n", encoding="utf-8")
    outcome = quorem("predict", classifier, path, "--out", tmp_path / "1.csv")  # whose column was review
    assert (outcome.code, outcome.err.count("was read, for")) == (0, 0)
    assert quorem("predict", classifier, path, "--text-column", "review", "--out", tmp_path / "2.csv").code == 0
    assert read(tmp_path / "1.csv") == read(tmp_path / "2.csv")
    path.write_text("text,id\ngood,1\n", encoding="utf-8")
    outcome = quorem("predict", classifier, path, "--out", tmp_path / "3.csv")
    assert outcome.code == 0
    assert "its column 'text' was read, for it has none named 'review'" in outcome.err
    path.write_text("id;words\n1;good\n", encoding="utf-8")
    assert "no column 'review'" in refused("predict", classifier, path, "--out", tmp_path / "4.csv")


def test_predict_reads_utf8_as_that_whatever_the_run_read(quorem, tmp_path, with_settings):
    run, path = with_settings(encoding="latin-1"), tmp_path / "a.csv"
    path.write_text("review\nsüßer Käse\n", encoding="utf-8")
    outcome = quorem("predict", run, path, "--out", tmp_path / "1.csv")
    assert "is valid UTF-8 and read as that, not in the run's data.encoding=latin-1" in outcome.err
    assert read(tmp_path / "1.csv")[1][0] == "süßer Käse"
    outcome = quorem("predict", run, path, "--encoding", "latin-1", "--out", tmp_path / "2.csv")
    assert "is valid UTF-8, but read as data.encoding=latin-1" in outcome.err
    assert read(tmp_path / "2.csv")[1][0] != "süßer Käse"
    path.write_text("review\nsüßer Käse\n", encoding="latin-1")
    outcome = quorem("predict", run, path, "--out", tmp_path / "3.csv")
    assert "valid UTF-8" not in outcome.err
    assert read(tmp_path / "3.csv")[1][0] == "süßer Käse"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(refused, tmp_path, pretrained, classifier, sample_csv, value):
    for command, run, folder in (("predict", classifier, "model"), ("finetune", pretrained, "discriminator")):
        broken = shutil.copytree(run, tmp_path / command)
        file = broken / folder / "model.safetensors"
        weights = load_file(file)
        name = sorted(name for name in weights if name.startswith("electra."))[0]
        weights[name].view(-1)[3] = value
        save_file(weights, file, metadata={"format": "pt"})
        columns = ["--text-column", "review", *(["--label-column", "sentiment"] if command == "finetune" else [])]
        line = refused(command, broken, sample_csv, *columns, "--out", tmp_path / "out", after_log=True)
        assert f"has NaN or an infinite number in {name}" in line
        assert not (tmp_path / "out").exists()


def test_nan_is_no_class_and_rows_are_counted(quorem, tmp_path, pretrained):
    path = tmp_path / "a.jsonl"
    rows = [{"text": text, "label": float(label)} for text, label in ROWS]
    rows[3]["label"] = rows[5]["text"] = float("nan")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    outcome = quorem("finetune", pretrained, path, "--out", tmp_path / "1", "train.max_steps=1")
    assert "40 rows read, 38 used, 2 skipped (1 empty, 1 without a label)" in outcome.err
    assert json.loads((tmp_path / "1" / "result.json").read_text())["labels"] == ["0.0", "1.0"]
    path = plain(
        tmp_path / "a.tsv", [(text, "nan" if number < 4 else label) for number, (text, label) in enumerate(ROWS)]
    )
    outcome = quorem("finetune", pretrained, path, "--out", tmp_path / "2", "train.max_steps=1")
    assert "4 rows are left out: their label is NaN" in outcome.err
    assert "40 rows read, 36 used, 4 skipped" in outcome.err
    assert json.loads((tmp_path / "2" / "result.json").read_text())["labels"] == ["0", "1"]


def test_hundreds_of_classes_make_no_matrix(quorem, tmp_path, pretrained):
    path = plain(tmp_path / "a.tsv", [(f"film {number}", f"{number % 250}.5") for number in range(300)])
    outcome = quorem("finetune", pretrained, path, "--out", tmp_path / "run", "train.max_steps=1")
    assert outcome.code == 0
    assert "250 classes in 300 rows" in outcome.err
    assert len(outcome.out) < 3_000
    assert "of 250 classes, the mistakes made most often:" in outcome.out
    assert (tmp_path / "run" / "result.json").stat().st_size < 20_000
    assert quorem("report", tmp_path / "run").code == 0
    assert "<th>rows</th>" in (tmp_path / "run" / "report.html").read_text()
