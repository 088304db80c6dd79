"""What is said of mistakes: every pair of few classes, the largest of many, and the same scores either way."""

import json

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from quorem.finetuning.labels import label_names
from quorem.training.confusions import LARGEST, MOST_CLASSES, judge, table


@pytest.mark.parametrize("num_classes", [2, 3, MOST_CLASSES, MOST_CLASSES + 1, 200, 10**9])
@pytest.mark.parametrize("rows", [1, 40, 3000])
def test_scores_are_those_of_scikit_learn(num_classes, rows):
    generator = np.random.default_rng(num_classes + rows)
    most = min(num_classes, 60)  # that occur
    labels = generator.integers(0, most, rows) * (num_classes // most)
    predictions = np.where(generator.random(rows) < 0.5, labels, generator.integers(0, most, rows))
    found = judge(labels.tolist(), predictions, num_classes)
    assert found["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(labels, predictions))
    macro = sklearn_metrics.f1_score(labels, predictions, average="macro", zero_division=0)
    assert found["macro_f1"] == pytest.approx(macro)
    if num_classes == 2:
        assert found["f1"] == pytest.approx(sklearn_metrics.f1_score(labels, predictions, zero_division=0))
    else:
        assert found["f1"] == found["macro_f1"]
    assert ("confusion" in found) == (num_classes <= MOST_CLASSES)
    assert ("confusions" in found) == (num_classes > MOST_CLASSES)
    assert len(json.dumps(found)) < 10_000


def test_the_largest_confusions_come_first():
    labels = [5] * 4 + [7] * 3 + [9] * 2 + list(range(100, 200))
    predictions = np.array([6] * 4 + [5] * 3 + [9] * 2 + [0] * 100)
    found = judge(labels, predictions, 200)["confusions"]
    assert found[:2] == [[5, 6, 4], [7, 5, 3]]
    assert len(found) == LARGEST
    assert all(count == 1 for _, _, count in found[2:])


def test_a_table_of_many_classes_is_short():
    names = [f"class {number} {'x' * 500}" for number in range(1500)]
    lines = table({"labels": names, **judge(list(range(1500)), np.zeros(1500, int), 1500)}).splitlines()
    assert len(lines) == LARGEST + 1
    assert max(map(len, lines)) < 200
    assert "'class 1 x" in lines[1]
    assert table({"labels": names, **judge([3], np.array([3]), 1500)}) == "no mistakes"


def test_nearly_as_many_classes_as_rows_are_warned_of(caplog):
    label_names([str(number) for number in range(1500)] + ["1"] * 100)
    assert "1,500 classes in 1,600 rows: is this the right label column?" in caplog.text
    caplog.clear()
    label_names(["a", "b", "a"])
    label_names(["a", "b", "c"] * 2)
    assert not caplog.records


@pytest.mark.parametrize(
    ("labels", "alike"),
    [(["1", "0", "1.0"], "'1' and '1.0' are different"), (["neg", "POS", "Pos", "pos"], "'POS' and")],
)
def test_labels_that_seem_to_mean_one_class_are_told(caplog, labels, alike):
    assert set(label_names(labels * 5)) == set(labels)
    assert f"labels {alike}" in caplog.text
    assert "classes: if they mean one, write them alike" in caplog.text
    assert len(caplog.records) == 1
    caplog.clear()
    label_names(["1", "0", "-1", "9007199254740992", "9007199254740993"] * 5)
    assert not caplog.records
    label_names([f"{number}{end}" for number in range(100) for end in ("", ".0")] * 3)
    assert "'1' and '1.0'; '10' and '10.0' (and 97 more groups) are" in caplog.text
