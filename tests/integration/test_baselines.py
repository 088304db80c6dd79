"""The linear baseline beside a run's scores: on the same rows, wherever scores are shown, once, and only if asked."""

import json
import random

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split
from task_cases import CASES, task_of, write

from quorem.finetuning.baseline import Baseline

SETTINGS = ["data.max_length=8", "train.epochs=1", "train.precision=fp32", "data.validation_share=0.2"]


def command(name, base, folder, *more):
    path = write(folder / "rows.jsonl", CASES[name].rows(120, random.Random(0)))
    words = ["finetune", "--task", task_of(name), base, path, "--out", folder / "run"]
    return [*words, *SETTINGS, *CASES[name].settings, *more]


def result_of(folder):
    return json.loads((folder / "run" / "result.json").read_text())


@pytest.mark.parametrize(
    ("name", "model", "score"),
    [
        ("classification", "logistic regression", "accuracy"),
        ("classification, pairs", "logistic regression", "accuracy"),
        ("multi_label", "a logistic regression for each label", "micro_f1"),
        ("regression", "ridge regression", "pearson"),
    ],
)
def test_a_run_says_what_a_linear_model_reaches(quorem, base, tmp_path, name, model, score):
    outcome = quorem(*command(name, base, tmp_path))
    (said, found), *more = result_of(tmp_path)["baselines"].items()
    assert (said, more) == (f"TF-IDF of 1 to 3 tokens, {model}", [])
    assert found["training_rows"] == 96
    assert found[score] > CASES[name].chance
    assert f"{said}, on the same rows: " in outcome.out
    assert f"{score} {found[score]:.4f}" in outcome.out


def test_its_accuracy_is_scikit_learns_on_the_same_rows(quorem, base, tmp_path):
    quorem(*command("classification", base, tmp_path, "data.split_seed=3"))
    (found,) = result_of(tmp_path)["baselines"].values()
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    training, judged = train_test_split(rows, test_size=0.2, random_state=3)
    vectorizer = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 3), token_pattern=r"\S+", lowercase=False)
    features = vectorizer.fit_transform([row["text"] for row in training])
    model = LogisticRegression(C=10).fit(features, [row["label"] for row in training])
    said = model.predict(vectorizer.transform([row["text"] for row in judged]))
    truth = [row["label"] for row in judged]
    assert found["accuracy"] == pytest.approx(np.mean(said == truth))
    assert found["macro_f1"] == pytest.approx(f1_score(truth, said, average="macro"))


def test_it_is_left_out_where_it_is_not_wanted(quorem, base, tmp_path, monkeypatch):
    monkeypatch.setattr(Baseline, "of", lambda *_, **__: pytest.fail("a baseline was fitted"))
    outcome = quorem(*command("classification", base, tmp_path, "classifier.baseline=false"))
    assert outcome.code == 0
    assert "baselines" not in result_of(tmp_path)
    assert "on the same rows" not in outcome.out
    finished = quorem(*command("classification", base, tmp_path))  # no other run because of the baseline
    assert finished.code == 0


def test_seeds_and_phases_on_the_same_rows_have_it_once(quorem, base, tmp_path, monkeypatch):
    asked, whole = [], Baseline.of
    monkeypatch.setattr(Baseline, "of", lambda *some, **more: asked.append(1) or whole(*some, **more))
    outcome = quorem(*command("classification", base, tmp_path), "--seeds", "2")
    assert outcome.code == 0
    assert len(asked) == 1
    assert "TF-IDF of 1 to 3 tokens, logistic regression, on the same rows: accuracy" in outcome.out
    assert "baselines" in result_of(tmp_path)
    (tmp_path / "two").mkdir()
    assert quorem(*command("classification", base, tmp_path / "two", "classifier.recipe=origin")).code == 0
    assert len(asked) == 2


def test_reports_and_cards_show_it(quorem, base, tmp_path):
    quorem(*command("multi_label", base, tmp_path))
    result = result_of(tmp_path)
    ((name, found),) = result["baselines"].items()
    assert quorem("report", tmp_path / "run").code == 0
    page = (tmp_path / "run" / "report.html").read_text()
    assert name in page
    assert f"{found['micro_f1']:.4f}" in page
    assert quorem("card", tmp_path / "run").code == 0
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert f"| held-out rows | this model | held against | {name} |" in card
    assert f"| micro_f1 | {result['micro_f1']:.4f} |  | {found['micro_f1']:.4f} |" in card
