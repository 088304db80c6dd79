"""Splits: drawn at random, by folder or by column; and all commands on rows from Python."""

import csv
import json

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from quorem.config.finetuning import FinetuneConfig
from quorem.config.loading import override
from quorem.config.settings import PrepareConfig, PretrainConfig
from quorem.data.dataset import DatasetSource
from quorem.data.prepare import prepare
from quorem.finetuning.rows import split
from quorem.pretraining.pretrain import pretrain
from quorem.tasks import finetune


@pytest.mark.parametrize(("rows", "share"), [(10, 0.1), (301, 0.1), (57, 0.33)])
def test_split_is_scikit_learns(rows, share):
    training, held_out = split(rows, share=share, seed=0)
    expected = train_test_split(np.arange(rows), test_size=share, random_state=0)
    assert training.tolist() == expected[0].tolist()
    assert held_out.tolist() == expected[1].tolist()


def test_a_folder_is_judged_on_its_test_files(tmp_path, quorem, pretrained):
    for part, size in (("train", 8), ("test", 3)):
        for label in ("pos", "neg"):
            (tmp_path / "imdb" / part / label).mkdir(parents=True)
            for i in range(size):
                (tmp_path / "imdb" / part / label / f"{i}.txt").write_text(f"a {label} film\n\nnumber {i}")
    settings = ("data.max_length=16", "train.epochs=1", "train.batch_size=8", "train.precision=fp32")
    quorem("finetune", str(pretrained), str(tmp_path / "imdb"), "--out", str(tmp_path / "run"), *settings)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["labels"] == ["neg", "pos"]
    assert result["held_out"] == {"splits": ["test"], "rows": 6}


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_column_says_which_rows_are_held_out(tmp_path, quorem, pretrained, ending):
    rows = [{"text": f"film {i}", "label": "ab"[i % 2], "part": "train" if i < 16 else "dev"} for i in range(22)]
    path = tmp_path / f"rows.{ending}"
    if ending == "csv":
        path.write_text("".join(",".join(row) + "\n" for row in [rows[0].keys(), *(row.values() for row in rows)]))
    elif ending == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    settings = ("data.max_length=16", "train.epochs=1", "train.batch_size=8", "train.precision=fp32")
    quorem("finetune", str(pretrained), str(path), "--out", str(tmp_path / "run"), "data.split_column=part", *settings)
    assert json.loads((tmp_path / "run" / "result.json").read_text())["held_out"] == {"splits": ["dev"], "rows": 6}


def test_lists_in_a_csv_go_from_pretraining_to_predictions(tmp_path, quorem, refused):
    with (tmp_path / "shop.csv").open("w", newline="") as file:
        sessions = [json.dumps([f"red shirt {i % 9}", i % 7, "socks"]) for i in range(40)]
        csv.writer(file).writerows([["text", "label"], *([s, "ab"[i % 2]] for i, s in enumerate(sessions))])
    shop, small = str(tmp_path / "shop.csv"), ("train.max_steps=2", "train.batch_size=4", "train.precision=fp32")
    quorem(
        "pretrain", shop, "--text-column", "text", "--tokenizer", "items", "--out", str(tmp_path / "run"),
        "tokenizer.separator=\\t", "data.lists=true", "data.max_length=16", "model.size=tiny", *small,
    )  # fmt: skip
    quorem(
        "finetune", str(tmp_path / "run"), shop, "--out", str(tmp_path / "classes"), "data.lists=true",
        "data.max_length=16", *small,
    )  # fmt: skip
    vocabulary = (tmp_path / "classes" / "model" / "vocab.txt").read_text().split("\n")
    assert "red shirt 8" in vocabulary
    assert "6" in vocabulary
    out = tmp_path / "out.csv"
    quorem("predict", str(tmp_path / "classes"), shop, "--text-column", "text", "--out", str(out))
    with out.open(newline="") as file:
        assert all(row["prediction"] in ("a", "b") for row in csv.DictReader(file))
    (tmp_path / "bad.csv").write_text("text\n[1]\nno list\n")
    message = refused(
        "predict", str(tmp_path / "classes"), str(tmp_path / "bad.csv"), "--text-column", "text", "--out",
        str(tmp_path / "no.csv"),
    )  # fmt: skip
    assert "row 2 (line 3): column 'text': 'no list' is not a list of texts and numbers" in message


def test_rows_from_python_go_everywhere(tmp_path, pretrained):
    rows = [{"text": f"film {i} is {'good' if i % 2 else 'bad'}", "y": i % 2} for i in range(60)]
    text = DatasetSource.of_rows(rows)
    assert prepare(PrepareConfig(), tmp_path / "data", source=text).num_documents == 60
    small = ["model.size=tiny", "train.max_steps=1", "train.batch_size=2", "data.max_length=16", "train.precision=fp32"]
    assert "verdict" in pretrain(override(PretrainConfig(), small), tmp_path / "run", source=text)
    config = override(FinetuneConfig(), [f"pretrained={pretrained}", "train.max_steps=1", "train.precision=fp32"])
    found = finetune(config, tmp_path / "classes", source=DatasetSource.of_rows(rows, label_column="y"))
    assert found["held_out"] == {"splits": [], "rows": 6}
