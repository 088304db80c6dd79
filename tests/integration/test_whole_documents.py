"""Fine-tuning that reads whole documents: in windows, by their n-grams or their mean vectors, or all of it."""

import csv
import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, pipeline

from quorem.cli import main
from quorem.finetuning.linear_fit import FOLDS
from quorem.finetuning.program import TextProgram
from quorem.tasks.predict import predict

COLUMNS = ["--text-column", "review", "--label-column", "sentiment"]
NGRAMS = ["classifier.ngrams=2", "classifier.ngram_rows=4096"]
KINDS = {
    "windows": ["data.truncation=windows"],
    "ngrams, both ends": [*NGRAMS, "data.truncation=both"],
    "SIF": ["classifier.sif=true"],
    "all": [*NGRAMS, "classifier.sif=true", "data.truncation=windows"],
}


def weights(run):
    return load_file(run / "model" / "model.safetensors")


@pytest.fixture(scope="module")
def command(pretrained, few_reviews, finetune_settings):
    settings = [*finetune_settings, "train.batch_size=16", "classifier.baseline=false"]  # which has tests of its own

    def words(kind, out, *more):
        return ["finetune", pretrained, few_reviews, *COLUMNS, "--out", out, *settings, *KINDS[kind], *more]

    return words


@pytest.fixture(scope="module")
def whole(tmp_path_factory, command):
    """A run of every kind of branch on windows; no test changes it."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert main([str(word) for word in command("all", out, "train.checkpoint_every=3")]) == 0
    return out


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_judgements_and_pipelines_agree(tmp_path, quorem, command, few_reviews, whole, kind):
    run, out = whole if kind == "all" else tmp_path / "run", tmp_path / "out.csv"
    assert kind == "all" or quorem(*command(kind, run)).code == 0
    predict(run, few_reviews, text_column="review", out=out, precision="fp32")
    predict(run / "model", few_reviews, text_column="review", out=tmp_path / "2.csv", precision="fp32")
    assert out.read_text() == (tmp_path / "2.csv").read_text()
    with out.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    classify = pipeline("text-classification", str(run / "model"))
    longest = sorted(rows, key=lambda row: -len(row["review"]))[:10]
    for batch_size in (1, 4):  # with padding too
        for row, found in zip(
            longest, classify([row["review"] for row in longest], batch_size=batch_size), strict=True
        ):
            assert found["label"] == row["prediction"]
            assert found["score"] == pytest.approx(float(row["probability"]), abs=1e-5)


def test_tables_are_in_the_model_and_count(whole):
    model = AutoModelForSequenceClassification.from_pretrained(whole / "model")
    assert torch.equal(weights(whole)["ngrams.weight"], model.ngrams.weight)
    assert 0 < model.ngrams.weight.count_nonzero() < 4096
    assert torch.equal(weights(whole)["sif.weight"], model.sif.weight)
    ids = torch.tensor([[2, 9, 10, 11, 3]])
    for branch in (model.ngrams, model.sif):
        before = model(ids).logits
        branch.reset_parameters()
        assert not torch.equal(model(ids).logits, before)


def test_training_begins_with_what_the_branches_say(tmp_path, quorem, command):
    run = tmp_path / "run"
    assert quorem(*command("all", run, "train.learning_rate=1e-12", "train.max_steps=1")).code == 0
    model = AutoModelForSequenceClassification.from_pretrained(run / "model")
    ids = torch.tensor([[2, 9, 10, 11, 3], [2, 12, 3, 0, 0]])
    torch.testing.assert_close(model(ids).logits, model.ngrams(ids) + model.sif(ids), atol=1e-6, rtol=1e-5)


def test_an_interrupted_run_goes_on_bit_for_bit(tmp_path, monkeypatch, quorem, command, whole):
    cut = tmp_path / "cut"
    asked = TextProgram.micro_batches

    def stop(self, at, **share):
        if at == 7:
            raise KeyboardInterrupt
        return asked(self, at, **share)

    with monkeypatch.context() as patch:
        patch.setattr(TextProgram, "micro_batches", stop)
        assert quorem(*command("all", cut, "train.checkpoint_every=3")).code != 0
    with monkeypatch.context() as patch:
        patch.setattr("quorem.finetuning.linear_fit.fit_branches", None)  # what was fitted is kept
        assert quorem(*command("all", cut, "train.checkpoint_every=3")).code == 0
    one, other = weights(whole), weights(cut)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert (whole / "result.json").read_text() == (cut / "result.json").read_text()
    assert not (cut / "state").exists()


def test_micro_batches_change_nothing_but_rounding(tmp_path, quorem, command):
    found = []
    for size in (3, 16):
        run = tmp_path / str(size)
        settings = ["classifier.dropout=0", "train.max_steps=3", f"train.micro_batch_size={size}"]
        assert quorem(*command("all", run, *settings)).code == 0
        found.append(weights(run))
    small, whole = found
    for name, value in whole.items():
        torch.testing.assert_close(small[name], value, rtol=1e-4, atol=1e-5)


def test_rows_that_are_judged_do_not_change_the_table(tmp_path, quorem, few_reviews, pretrained):
    """Counts and weights come from the rows that are trained on: others with other labels leave them as they are."""
    with few_reviews.open(encoding="utf-8", newline="") as file:
        rows = [row | {"part": "test" if i % 5 == 0 else "train"} for i, row in enumerate(csv.DictReader(file))]
    tables, few = [], ["data.max_length=24", "train.max_steps=1"]
    for name in ("as they are", "turned round"):
        path = tmp_path / f"{name}.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            for row in rows:
                turned = {"negative": "positive", "positive": "negative"}[row["sentiment"]]
                changed = name == "turned round" and row["part"] == "test"
                writer.writerow(row | ({"sentiment": turned, "review": "other words"} if changed else {}))
        words = ["finetune", pretrained, path, *COLUMNS, "--out", tmp_path / name, "data.split_column=part"]
        assert quorem(*words, *NGRAMS, "classifier.sif=true", "classifier.baseline=false", *few).code == 0
        tables.append([weights(tmp_path / name)[f"{branch}.weight"] for branch in ("ngrams", "sif")])
    assert all(torch.equal(*same) for same in zip(*tables, strict=True))


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("data.truncation=middle", "Allowed: both, head, tail, windows"),
        ("classifier.ngrams=-1", "classifier.ngrams=-1: a number at least 0"),
        ("classifier.ngrams=99", "at most 8"),
        ("classifier.ngram_rows=0", "classifier.ngram_rows=0: a number at least 1"),
        ("classifier.ngram_penalty=0", "classifier.ngram_penalty=0.0: a number above 0"),
    ],
)
def test_what_cannot_be_is_refused_by_name(tmp_path, refused, command, setting, told):
    assert told in refused(*command("all", tmp_path / "run", setting))
    assert not (tmp_path / "run").exists()


def test_a_frozen_encoder_and_the_originals_phases_have_a_branch_too(tmp_path, quorem, command):
    for setting in ("classifier.freeze_encoder=true", "classifier.recipe=origin", "classifier.from_scratch=true"):
        run = tmp_path / setting
        assert quorem(*command("all", run, setting, "train.max_steps=2")).code == 0
        assert weights(run)["ngrams.weight"].count_nonzero() > 0
        assert weights(run)["sif.weight"].count_nonzero() > 0


def test_a_dry_run_leaves_nothing(tmp_path, quorem, command):
    assert quorem(*command("all", tmp_path / "run"), "--dry-run").code == 0
    assert not (tmp_path / "run").exists()


def test_a_few_rows_are_enough(tmp_path, quorem, pretrained):
    path = tmp_path / "few.csv"
    path.write_text("review,sentiment\n" + "good film,1\nbad film,0\n" * (FOLDS // 2) + "good,1\n")
    words = ["finetune", pretrained, path, *COLUMNS, "--out", tmp_path / "run", "train.max_steps=1"]
    assert quorem(*words, *KINDS["all"], "data.max_length=8").code == 0
    assert json.loads((tmp_path / "run" / "result.json").read_text())["held_out"]["rows"] == 1
