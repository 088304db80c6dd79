"""The five commands, from a CSV to predictions, and what they leave behind."""

import csv
import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
import yaml
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer, pipeline

from quorem import __version__
from quorem.cli import main
from quorem.config.finetuning import FinetuneConfig
from quorem.config.loading import dump, from_mapping, load, override
from quorem.config.settings import PretrainConfig
from quorem.data.batches import LengthGroupedOrder
from quorem.data.documents import RowCounts
from quorem.errors import UserError
from quorem.finetuning.labels import label_names
from quorem.finetuning.rows import encode_rows
from quorem.plan.plan import Plan
from quorem.plan.recipes import resolve as resolve_pretrain
from quorem.plan.sizes import describe
from quorem.pretraining.program import build_electra
from quorem.tasks.classification import Classification
from quorem.tokenization import load_tokenizer

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
MODEL_FILES = {"README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt"}
PROMISED = {
    "mlm_loss", "unigram_entropy", "mlm_accuracy", "share_replaced", "rtd_loss", "base_rate_entropy", "rtd_accuracy",
    "rtd_precision", "rtd_recall", "rtd_auc", "tokens_per_second", "seconds_left",
}  # fmt: skip


def read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def write(path, *rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def metrics(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def labelled(path, labels, texts=("the good one", "a bad one here", "neither of them")):
    rows = [(texts[i % len(texts)], labels[i % len(labels)]) for i in range(24)]
    return write(path, ("text", "label"), *rows)


# ---- pretrain


def test_pretrain_leaves_the_documented_files_and_nothing_pickled(pretrained):
    assert {path.name for path in pretrained.iterdir()} == {
        "config.yaml", "environment.json", "metrics.jsonl", "result.json", "discriminator", "generator", "data",
    }  # fmt: skip
    for name in ("discriminator", "generator"):
        assert {path.name for path in (pretrained / name).iterdir()} == MODEL_FILES
    assert {path.name for path in (pretrained / "data").iterdir()} == {"tokenizer", "shards", "order.bin"}
    assert [path for path in pretrained.rglob("*") if path.suffix in (".pkl", ".pt", ".bin.partial", ".partial")] == []


def test_pretrain_stores_settings_that_repeat_the_run(pretrained, sample_csv):
    config = load(PretrainConfig, pretrained / "config.yaml")
    assert config == resolve_pretrain(config)  # nothing is left open
    assert (config.data.path, config.data.text_column) == (str(sample_csv), "review")
    assert json.loads((pretrained / "environment.json").read_text())["versions"]["quorem"] == __version__


def test_pretrain_logs_the_promised_metrics(pretrained):
    logged = metrics(pretrained)
    assert [record["step"] for record in logged] == [2, 4, 6]
    for record in logged:
        assert set(record) >= PROMISED
        assert record["mlm_loss"] > 0
        assert 0 < record["share_replaced"] < 0.2
        assert 0 <= record["rtd_auc"] <= 1
        assert record["tokens_per_second"] > 0
    assert logged[-1]["seconds_left"] == 0
    assert json.loads((pretrained / "result.json").read_text())["verdict"].startswith("the generator has learned ")


def test_a_discriminator_at_the_base_rate_is_warned_of(quorem, tmp_path, sample_csv, pretrain_settings):
    words = ["pretrain", sample_csv, "--text-column", "review", *pretrain_settings, "train.max_steps=2"]
    warned = "the discriminator learned only the base rate"
    assert f"in the last 2 steps {warned}" in quorem(*words, "--out", tmp_path / "short").err
    easy = ["train.max_steps=90", "train.learning_rate=5e-3", "train.generator_learning_rate=1e-9"]
    assert warned not in quorem(*words, *easy, "--out", tmp_path / "easy").err.rpartition("step 90/90")[2]


def test_a_finished_run_is_left_as_it_is(quorem, pretrained, sample_csv, pretrain_settings):
    before = {path: path.stat().st_mtime_ns for path in pretrained.rglob("*") if path.name != "config.yaml"}
    outcome = quorem("pretrain", sample_csv, "--text-column", "review", "--out", pretrained, *pretrain_settings)
    assert outcome.code == 0
    assert "nothing to do" in outcome.err
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_auto_classes_load_the_discriminator(pretrained):
    tokenizer = AutoTokenizer.from_pretrained(pretrained / "discriminator")
    model = AutoModel.from_pretrained(pretrained / "discriminator")
    batch = tokenizer(["The film was good.", "And?"], return_tensors="pt", padding=True)
    hidden = model(**batch).last_hidden_state
    assert hidden.shape == (*batch["input_ids"].shape, 32)
    weights = load_file(pretrained / "discriminator" / "model.safetensors")
    for name, value in model.state_dict().items():
        assert torch.equal(value, weights[f"electra.{name}"]), name


def test_settings_come_from_a_file_then_the_options_then_the_line(quorem, tmp_path, sample_csv, pretrain_settings):
    file = tmp_path / "run.yaml"
    config = override(PretrainConfig(), [*pretrain_settings, "data.text_column=nowhere", "train.max_steps=9"])
    file.write_text(dump(config), encoding="utf-8")
    words = ["--config", file, "--text-column", "review", "train.max_steps=1", "--out", tmp_path / "run"]
    assert quorem("pretrain", sample_csv, *words).code == 0
    stored = load(PretrainConfig, tmp_path / "run" / "config.yaml")
    assert (stored.train.max_steps, stored.data.text_column, stored.model.vocab_size) == (1, "review", 3000)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_settings_are_valid(path):
    keys = yaml.safe_load(path.read_text(encoding="utf-8"))
    if "classifier" in keys or "pretrained" in keys:
        load(FinetuneConfig, path)
    else:
        resolve_pretrain(load(PretrainConfig, path))


def test_a_partial_section_keeps_the_defaults_of_its_command():
    assert from_mapping(FinetuneConfig, {"train": {"batch_size": 8}}).train.epochs == FinetuneConfig().train.epochs


# ---- finetune


def test_finetune_leaves_the_documented_files_and_nothing_pickled(classifier):
    assert {path.name for path in classifier.iterdir()} == {
        "config.yaml", "environment.json", "metrics.jsonl", "result.json", "model",
    }  # fmt: skip
    assert {path.name for path in (classifier / "model").iterdir()} == MODEL_FILES


def test_the_best_epoch_is_kept_and_reported(classifier, sample_csv):
    judged = [record["held_out"] for record in metrics(classifier) if "held_out" in record]
    result = json.loads((classifier / "result.json").read_text())
    assert [found["epoch"] for found in judged] == [1.0, 2.0]
    assert result["accuracy"] == max(found["accuracy"] for found in judged)
    assert result["last"] == judged[-1]
    assert result["labels"] == ["negative", "positive"]


def test_the_kept_model_is_that_of_the_best_epoch(tmp_path, monkeypatch, pretrained, sample_csv, finetune_settings):
    accuracies = iter([0.5, 0.9, 0.7])
    weights = []

    scores = Classification.scores

    def judged(*given):
        folder = tmp_path / "run" / "model"
        weights.append(load_file(folder / "model.safetensors") if folder.exists() else None)
        return scores(*given) | {"accuracy": next(accuracies)}

    monkeypatch.setattr(Classification, "scores", judged)
    words = ["--text-column", "review", "--label-column", "sentiment", "--out", tmp_path / "run", *finetune_settings]
    words += ["classifier.baseline=false", "train.epochs=3"]  # a baseline has scores too
    assert main([str(word) for word in ["finetune", pretrained, sample_csv, *words]]) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["accuracy"], result["epoch"], result["last"]["accuracy"]) == (0.9, 2.0, 0.7)
    kept, name = load_file(tmp_path / "run" / "model" / "model.safetensors"), "classifier.out_proj.weight"
    assert torch.equal(kept[name], weights[2][name])  # written after epoch 2, still there after epoch 3
    assert not torch.equal(kept[name], weights[1][name])


def test_origin_recipe_leaves_the_encoder_alone_while_frozen(
    quorem, tmp_path, pretrained, sample_csv, finetune_settings
):
    words = ["--text-column", "review", "--label-column", "sentiment", "--out", tmp_path / "run", *finetune_settings]
    outcome = quorem("finetune", pretrained, sample_csv, *words, "classifier.recipe=origin", "train.epochs=1")
    assert outcome.code == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    frozen = json.loads((tmp_path / "run" / "frozen" / "result.json").read_text())
    assert result["frozen_accuracy"] == frozen["accuracy"]
    assert f"with the encoder frozen: {frozen['accuracy']:.4f}" in outcome.out
    before = load_file(pretrained / "discriminator" / "model.safetensors")
    after = load_file(tmp_path / "run" / "frozen" / "model" / "model.safetensors")
    thawed = load_file(tmp_path / "run" / "model" / "model.safetensors")
    encoder = [name for name in after if name.startswith("electra.")]
    assert all(torch.equal(before[name], after[name]) for name in encoder)
    name = "electra.encoder.layer.0.output.dense.weight"
    assert not torch.equal(after[name], thawed[name])


def test_from_scratch_has_new_weights_and_the_same_order_of_ids(quorem, tmp_path, pretrained, sample_csv):
    config = FinetuneConfig(pretrained=str(pretrained))
    scratch = override(config, ["classifier.from_scratch=true"])
    source, names = pretrained / "discriminator", ["negative", "positive"]
    task, facts = Classification(), {"labels": names}
    old = task.build(task.resolve(config), source, facts).state_dict()
    new = task.build(task.resolve(scratch), source, facts).state_dict()
    ranks = [name for name in old if name.endswith("assignment.rank")]
    assert ranks
    assert torch.equal(old[ranks[0]], new[ranks[0]])
    for name in (name for name in old if name.startswith("electra.") and old[name].ndim == 2):
        assert not torch.equal(old[name], new[name]), name
    out = tmp_path / "run"
    words = ["--text-column", "review", "--label-column", "sentiment", "--from-scratch", "--out", out]
    assert quorem("finetune", pretrained, sample_csv, *words, "train.max_steps=1").code == 0
    assert load(FinetuneConfig, out / "config.yaml").classifier.from_scratch is True


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (("yes", "no"), ["no", "yes"]),
        (("1", "0"), ["0", "1"]),
        (("2", "10", "1"), ["1", "2", "10"]),
        (("4.5", "-1.0"), ["-1.0", "4.5"]),
        (("ja", "nein", "vielleicht"), ["ja", "nein", "vielleicht"]),
    ],
)
def test_any_two_or_more_labels_become_the_predictions(quorem, tmp_path, pretrained, labels, names):
    path = labelled(tmp_path / "data.csv", labels)
    words = ["--text-column", "text", "--label-column", "label", "--out", tmp_path / "run"]
    assert quorem("finetune", pretrained, path, *words, "train.max_steps=2", "data.validation_share=0.25").code == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["labels"] == names
    assert np.shape(result["confusion"]) == (len(names), len(names))
    assert quorem("predict", tmp_path / "run", path, "--out", tmp_path / "out.csv").code == 0
    assert {row[-2] for row in read(tmp_path / "out.csv")[1:]} <= set(names)


def test_columns_of_the_confusion_matrix_stay_apart():
    figures = {
        "accuracy": 0.5,
        "macro_f1": 0.5,
        "labels": ["0", "1"],
        "confusion": [[12345, 67890], [1, 2]],
        "epoch": 1,
    }
    assert "12345  67890" in Classification().said(figures | {"last": figures})


# ---- predict


def test_predictions_keep_every_column_and_row(quorem, tmp_path, classifier):
    rows = [
        ["id", "review", "note"],
        ["1", "The film was good.", 'a "quoted", note'],
        ["2", "", "no text"],
        ["3", "   ", "only spaces"],
        ["4", "Ein schöner Film 映画\nover two lines", ""],
    ]
    path, out = write(tmp_path / "data.csv", *rows), tmp_path / "new" / "out.csv"
    outcome = quorem("predict", classifier, path, "--text-column", "review", "--out", out)
    assert outcome.code == 0
    assert "4 rows, 2 predicted, 2 left blank" in outcome.out
    found = read(out)
    assert [row[:3] for row in found] == rows
    assert found[0][3:] == ["prediction", "probability"]
    assert [row[3:] for row in found[2:4]] == [["", ""], ["", ""]]
    for row in (found[1], found[4]):
        assert row[3] in ("negative", "positive")
        assert 0.5 <= float(row[4]) <= 1


def test_pipeline_agrees_with_predict(quorem, tmp_path, classifier, sample_csv):
    out = tmp_path / "out.csv"
    assert quorem("predict", classifier, sample_csv, "--text-column", "review", "--out", out).code == 0
    model = AutoModelForSequenceClassification.from_pretrained(classifier / "model")
    tokenizer = AutoTokenizer.from_pretrained(classifier / "model")
    classify = pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu")
    rows = read(out)[1:41]
    for row, found in zip(rows, classify([row[0] for row in rows], truncation=True), strict=True):
        assert found["score"] == pytest.approx(float(row[3]), abs=0.01)  # predict may run in bfloat16
        assert found["label"] == row[2] or found["score"] < 0.51


def test_predict_reads_a_gzipped_tsv_and_a_bare_model_folder(quorem, tmp_path, classifier):
    path = tmp_path / "data.tsv.gz"
    path.write_bytes(gzip.compress(b"text\tid\ngood, really\t1\n"))
    assert quorem("predict", classifier / "model", path, "--out", tmp_path / "out.csv").code == 0
    assert read(tmp_path / "out.csv")[1][:2] == ["good, really", "1"]


# ---- describe, sample, help


def test_describe_says_what_a_million_tokens_cost(quorem):
    outcome = quorem("describe", "model.vocab_size=1000000", "model.embedding.kind=qr")
    assert outcome.code == 0
    assert "word_embeddings.quotient" in outcome.out
    ratio = float(outcome.out.split("token table: ")[1].split(" ")[0])
    assert ratio > 50
    assert "softmax of the generator: two_level (condition mlp)" in outcome.out
    assert "rows of their own: 8,005 tokens; others to a row: about 996" in outcome.out
    assert "no two tokens share all they read: quotient * divisor + remainder gives the id back" in outcome.out
    hashed = quorem("describe", "model.vocab_size=1000000", "model.embedding.kind=hashing")
    assert "NOT SO" in hashed.out


@pytest.mark.parametrize("kind", ["dense", "qr"])
@pytest.mark.parametrize(("shared", "disentangled"), [("true", "false"), ("true", "true"), ("false", "false")])
def test_describe_counts_what_pretrain_builds(pretrain_settings, kind, shared, disentangled):
    extra = [
        f"model.embedding.kind={kind}",
        f"model.shared_embeddings={shared}",
        f"model.disentangled_embeddings={disentangled}",
    ]
    config = override(PretrainConfig(), [*pretrain_settings, *extra])
    plan = Plan.as_asked(resolve_pretrain(config))
    built = build_electra(plan, torch.arange(3000))
    assert describe(plan)["parameters"] == sum(parameter.numel() for parameter in built.parameters())


def test_sample_writes_as_many_rows_as_asked(quorem, tmp_path):
    assert quorem("sample", "reviews", "--rows", "7", "--out", tmp_path / "new" / "s.csv").code == 0
    rows = read(tmp_path / "new" / "s.csv")
    assert rows[0] == ["review", "sentiment"]
    assert len(rows) == 8


def test_the_package_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "quorem", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["quorem", __version__]


# ---- the parts


@pytest.mark.parametrize(("truncation", "kept"), [("head", "a b c d"), ("tail", "c d e f"), ("both", "a b e f")])
def test_truncation_keeps_what_it_says(pretrained, truncation, kept):
    tokenizer = load_tokenizer(pretrained / "discriminator")
    words = [tokenizer.convert_ids_to_tokens(20 + i) for i in range(6)]
    names = dict(zip("abcdef", words, strict=True))
    rows = encode_rows(tokenizer, [" ".join(words), words[0], ""], max_length=6, truncation=truncation)
    expected = ["[CLS]", *(names[letter] for letter in kept.split()), "[SEP]"]
    assert tokenizer.convert_ids_to_tokens(rows[0]) == expected
    assert tokenizer.convert_ids_to_tokens(rows[1]) == ["[CLS]", words[0], "[SEP]"]
    assert tokenizer.convert_ids_to_tokens(rows[2]) == ["[CLS]", "[SEP]"]


@pytest.mark.parametrize("items", [1, 7, 64, 131])
def test_every_epoch_visits_each_row_once_in_batches_of_like_length(items):
    lengths = np.random.default_rng(0).integers(3, 200, items)
    order = LengthGroupedOrder(lengths.tolist(), batch_size=8, seed=0)
    epochs = [
        [order.indices(step).tolist() for step in range(start, start + order.steps_per_epoch)]
        for start in (0, order.steps_per_epoch)
    ]
    for epoch in epochs:
        assert sorted(i for batch in epoch for i in batch) == list(range(items))
    if items > 100:
        assert epochs[0] != epochs[1]
        spread = np.mean([np.ptp(lengths[batch]) for batch in epochs[0][:-1]])
        assert spread < 0.3 * np.ptp(lengths)


def test_labels_sort_by_number_where_all_are_numbers():
    assert label_names(["10", "9", "9"]) == ["9", "10"]
    assert label_names(["10", "9", "x", "x"]) == ["10", "9", "x"]
    with pytest.raises(UserError, match="two or more"):
        label_names(["1", "1"])


def test_examples_leave_out_rows_without_text_or_label(tmp_path, pretrained):
    path = write(tmp_path / "data.csv", ("text", "label"), ("a", "1"), ("", "0"), ("b", ""), ("c", "0"), ("d", "1"))
    config = override(FinetuneConfig(), [f"data.path={path}"])
    task, tokenizer = Classification(), load_tokenizer(pretrained / "discriminator")
    examples, facts = task.read(config, tokenizer, task.source(config.data), RowCounts())
    assert (facts["labels"], examples.labels) == (["0", "1"], [1, 0, 1])


def test_transformers_stays_quiet(quorem):
    quorem("describe", "model.vocab_size=100")
    assert transformers.utils.logging.get_verbosity() == transformers.logging.ERROR
