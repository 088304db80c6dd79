"""Laws of TASKS: every one learns, resumes bit for bit, rehearses, predicts alike in every way, says what is wrong."""

import json
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from task_cases import CASES, WORDS, task_of, write
from torch.nn import functional as F

import quorem as package
from quorem.cli import main
from quorem.config.finetuning import FinetuneConfig
from quorem.config.loading import dump, load, override
from quorem.config.tasks import MultiLabelConfig
from quorem.data.documents import Document, RowCounts
from quorem.finetuning.program import TextProgram, padded
from quorem.finetuning.rows import Examples, encode_documents
from quorem.tasks import TASKS, load_task
from quorem.tasks.classification import CrossEntropy, balanced_weights
from quorem.tasks.predict import predict
from quorem.tokenization import Unknown, load_tokenizer
from quorem.training.run_folder import read_records

SETTINGS = [
    "data.max_length=24", "train.epochs=12", "train.batch_size=16", "train.precision=fp32", "train.learning_rate=3e-3",
    "train.checkpoint_every=7", "classifier.layer_decay=1", "data.validation_share=0.2",
]  # fmt: skip


def data(name, folder, number=120):
    return write(folder / "rows.jsonl", CASES[name].rows(number, random.Random(0)))


def command(name, run, path, out, *more):
    case = CASES[name]
    words = ["finetune", "--task", task_of(name), run, path, "--out", out, *SETTINGS, *case.settings, *more]
    return [str(word) for word in words]


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, base):
    """Of each case a finished run and its data, made once."""
    made = {}

    def make(name):
        if name not in made:
            folder = tmp_path_factory.mktemp("tuned")
            path = data(name, folder)
            assert main(command(name, base, path, folder / "run")) == 0
            made[name] = folder / "run", path
        return made[name]

    return make


def test_every_task_on_texts_has_a_case():
    assert {task_of(name) for name in CASES} | {"next_item"} == set(TASKS)


@pytest.mark.parametrize("name", CASES)
def test_it_learns_what_can_be_learned(tuned, name):
    run, _ = tuned(name)
    result = json.loads((run / "result.json").read_text())
    assert result[CASES[name].score] > CASES[name].chance
    judged = [record["held_out"] for record in read_records(run) if "held_out" in record]
    assert result[load_task(task_of(name)).chosen_by] == max(
        each[load_task(task_of(name)).chosen_by] for each in judged
    )


@pytest.mark.parametrize("name", [name for name in CASES if "," not in name])  # of each task one
def test_a_stopped_run_goes_on_bit_for_bit(tuned, base, tmp_path, monkeypatch, name):
    whole, path = tuned(name)
    asked = TextProgram.micro_batches

    def stop(self, at, **share):
        if at == 17:
            raise KeyboardInterrupt
        return asked(self, at, **share)

    with monkeypatch.context() as patch:
        patch.setattr(TextProgram, "micro_batches", stop)
        assert main(command(name, base, path, tmp_path / "run")) != 0
    assert (tmp_path / "run" / "state").exists()
    assert main(command(name, base, path, tmp_path / "run")) == 0
    one, other = (load_file(run / "model" / "model.safetensors") for run in (whole, tmp_path / "run"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert (whole / "result.json").read_text() == (tmp_path / "run" / "result.json").read_text()


@pytest.mark.parametrize("name", CASES)
def test_a_dry_run_keeps_nothing(quorem, base, tmp_path, name):
    outcome = quorem(*command(name, base, data(name, tmp_path), tmp_path / "run"), "--dry-run")
    assert outcome.code == 0
    assert "dry run:" in outcome.out
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", CASES)
def test_predictions_are_the_same_from_file_python_and_model_folder(tuned, tmp_path, name):
    run, path = tuned(name)
    case = CASES[name]
    rows = [json.loads(line) for line in path.read_text().splitlines()][:25]
    given = write(tmp_path / "given.jsonl", [{key: row[key] for key in case.inputs} for row in rows])
    found = []
    for place, folder in enumerate((run, run / "model")):
        counts = predict(folder, given, out=tmp_path / f"{place}.jsonl", precision="fp32")
        assert counts == {"read": 25, "predicted": 25, "empty": 0, "bad": 0}
        found.append([json.loads(line) for line in (tmp_path / f"{place}.jsonl").read_text().splitlines()])
    assert found[0] == found[1]
    model = package.load(run)
    values = model.predict([case.value(row) for row in rows])
    columns = [column.name for column in model.predictor.columns]
    assert all(set(columns) < set(row) for row in found[0])
    for row, value in zip(found[0], values, strict=True):
        said = value.get("prediction", value.get("label"))
        assert said == (pytest.approx(row["prediction"], rel=1e-3) if isinstance(said, float) else row["prediction"])


@pytest.mark.parametrize("name", TASKS)
def test_settings_go_to_a_file_and_back(tmp_path, capsys, name):
    config = TASKS[name].settings()
    assert config.task == name
    (tmp_path / "x.yaml").write_text(dump(override(config, ["train.patience=3"])))
    assert load(type(config), tmp_path / "x.yaml").train.patience == 3
    assert main(["config", name]) == 0
    (tmp_path / "y.yaml").write_text(capsys.readouterr().out)
    assert load(type(config), tmp_path / "y.yaml") == config
    with pytest.raises(SystemExit):
        main(["finetune", "--task", name, "--help"])
    assert f"quorem config {name}" in capsys.readouterr().out


def test_settings_of_another_task_are_refused(refused, base, tmp_path):
    (tmp_path / "x.yaml").write_text("task: regression\n")
    path = data("regression", tmp_path)
    line = refused("finetune", base, path, "--config", tmp_path / "x.yaml", "--out", tmp_path / "run")
    assert "task=regression: these are the settings of another task: give --task regression" in line


def test_patience_stops_training_and_is_recorded(base, tmp_path):
    path, out = data("classification", tmp_path), tmp_path / "run"
    words = command("classification", base, path, out, "train.learning_rate=1e-30", "train.patience=2")
    assert main(words) == 0
    result = json.loads((out / "result.json").read_text())
    assert (result["stopped_early"], result["last"]["epoch"], result["epoch"]) == (3.0, 3.0, 1.0)
    assert main(words) == 0  # a finished run


def test_the_last_epoch_alone_is_judged_and_kept_where_that_is_wanted(base, tmp_path, capsys):
    path = data("classification", tmp_path)
    for keep in ("best", "last"):
        more = (f"train.keep_epoch={keep}", "train.epochs=3", "train.learning_rate=1e-30")
        assert main(command("classification", base, path, tmp_path / keep, *more)) == 0
    best, last = (json.loads((tmp_path / keep / "result.json").read_text()) for keep in ("best", "last"))
    judged = [sum("held_out" in each for each in read_records(tmp_path / keep)) for keep in ("best", "last")]
    assert judged == [3, 1]
    assert (best["epoch"], last["epoch"]) == (1, 3)
    assert last["last"]["accuracy"] == best["last"]["accuracy"]
    said = capsys.readouterr().out
    assert "(the best of the epochs by" in said
    assert "(the last epoch)" in said
    assert (tmp_path / "last" / "model").is_dir()


def test_a_run_that_keeps_the_last_epoch_and_is_made_longer_keeps_the_last_again(base, tmp_path):
    path, found = data("classification", tmp_path), []
    for out, epochs in (("longer", 1), ("longer", 3), ("whole", 3)):
        more = ("train.keep_epoch=last", "train.keep_state=true", "train.schedule=constant", "train.warmup=2")
        assert main(command("classification", base, path, tmp_path / out, *more, f"train.epochs={epochs}")) == 0
        found.append(load_file(tmp_path / out / "model" / "model.safetensors"))
    assert json.loads((tmp_path / "longer" / "result.json").read_text())["epoch"] == 3
    assert any((found[0][key] != found[1][key]).any() for key in found[1])
    assert all(torch.equal(found[1][key], found[2][key]) for key in found[2])


def test_a_run_that_was_killed_after_patience_was_over_takes_no_further_step(base, tmp_path, monkeypatch):
    path = data("classification", tmp_path)
    more = ("train.learning_rate=1e-30", "train.patience=2", "train.keep_state=true")
    assert main(command("classification", base, path, tmp_path / "whole", *more)) == 0
    with monkeypatch.context() as patch:
        patch.setattr("quorem.tasks.classification.Classification.finish", lambda *_: [][0])
        with pytest.raises(IndexError):
            main(command("classification", base, path, tmp_path / "cut", *more))
    assert main(command("classification", base, path, tmp_path / "cut", *more)) == 0
    assert read_records(tmp_path / "cut")[-1]["step"] == read_records(tmp_path / "whole")[-1]["step"]
    results = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("whole", "cut")]
    assert results[0] == results[1]


def test_balanced_weights_are_those_of_scikit_learn():
    weights = balanced_weights([0, 0, 0, 2], 4)
    assert weights.tolist() == pytest.approx([4 / (2 * 3), 1.0, 4 / (2 * 1), 1.0])
    logits, labels = torch.randn(4, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 0, 0, 2])
    objective = CrossEntropy(weights)
    found = objective.loss(SimpleNamespace(logits=logits), labels) / objective.weight(Examples([[1]] * 4, [0, 0, 0, 2]))
    assert float(found) == pytest.approx(float(F.cross_entropy(logits, labels, weight=weights)))
    assert objective.weight(Examples([[1]] * 3, [0, 0, 0])) == 3  # a step without the rare class counts for no more


@pytest.mark.parametrize(
    ("name", "rows", "more", "said"),
    [
        ("classification", None, ["classifier.class_weights=even"], "classifier.class_weights=even: unknown"),
        ("classification, pairs", [{"text": "w1", "label": "a"}] * 9, [], "no key 'second'"),
        ("classification, pairs", None, ["data.truncation=windows"], "reads single texts: choose head"),
        ("classification, pairs", None, ["classifier.ngrams=2"], "classifier.ngrams: is for single texts"),
        ("classification, pairs", None, ["classifier.sif=true"], "classifier.sif: is for single texts"),
        ("classification", None, ["train.keep_epoch=first"], "train.keep_epoch=first: unknown. Allowed: best, last"),
        ("classification", None, ["train.keep_epoch=last", "train.patience=2"], "before the last are not judged"),
        ("classification", None, ["train.patience=0"], "train.patience=0: a number at least 1"),
        ("classification", None, ["--seeds", "0"], "--seeds 0: 1 or more needed"),
        ("multi_label", [{"text": "w1", "label": "a"}] * 9, [], "has 1 label in all: two or more are needed"),
        ("multi_label", [{"text": "w1", "label": [["a"]]}] * 9, [], "are no list of names"),
        ("multi_label", [{"text": "w1", "label": "[a"}] * 9, [], "begin as a JSON list and are none"),
        ("regression", [{"text": "w", "label": "1"}, {"text": "w", "label": "x"}], [], "row 2: column 'label' is 'x'"),
        ("regression", [{"text": "w1", "label": "1"}] * 9, [], "every label is 1: two numbers or more"),
        ("multiple_choice", None, ["data.choice_columns=a"], "data.choice_columns=a: the names of two columns or more"),
        ("multiple_choice", None, ["data.choice_columns=a,z"], "no key 'z'"),
        ("multiple_choice", None, ["data.first_choice=1"], "a number from 1 to 3 (data.first_choice is"),
        ("regression", None, ["data.text_pair_column=second", "classifier.sif=true"], "classifier.sif: is for single"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line_and_leaves_nothing(refused, base, tmp_path, name, rows, more, said):
    path = data(name, tmp_path) if rows is None else write(tmp_path / "rows.jsonl", rows)
    assert said in refused(*command(name, base, path, tmp_path / "run", *more), after_log=True)
    assert not (tmp_path / "run").exists()


def test_a_pair_is_cut_where_transformers_cuts_it(base):
    tokenizer = load_tokenizer(base / "discriminator")
    chance = random.Random(0)
    for one, other, length in [
        (3, 20, 12),
        (20, 3, 12),
        (20, 20, 12),
        (20, 20, 13),
        (5, 4, 12),
        (2, 3, 12),
        (9, 5, 13),
    ]:
        texts = [" ".join(chance.choices(WORDS, k=number)) for number in (one, other)]
        config = override(FinetuneConfig(), [f"data.max_length={length}", "data.text_pair_column=second"])
        found = encode_documents(tokenizer, [Document(texts[0], more=(texts[1],))], config.data, unknown=Unknown())
        ids, mask, types = padded(found, pad_id=tokenizer.pad_token_id)
        wanted = tokenizer(*texts, truncation="longest_first", max_length=length, return_token_type_ids=True)
        real = len(wanted["input_ids"])
        assert found.rows[0] == wanted["input_ids"]
        assert ids[0, real:].tolist() == [tokenizer.pad_token_id] * (ids.shape[1] - real)
        second = wanted["input_ids"].index(tokenizer.sep_token_id) + 1
        assert types[0].tolist() == [int(second <= place < real) for place in range(ids.shape[1])]
        assert mask is None or int(mask.sum()) == real


def test_rows_of_a_pair_with_a_blank_side_are_left_out_and_stay_blank(tuned, quorem, base, tmp_path):
    rows = CASES["classification, pairs"].rows(40, random.Random(0))
    rows[3]["second"] = " "
    path = write(tmp_path / "rows.jsonl", rows)
    outcome = quorem(*command("classification, pairs", base, path, tmp_path / "run", "train.max_steps=1"))
    assert "40 rows read, 39 used, 1 skipped" in outcome.err
    counts = predict(tmp_path / "run", path, out=tmp_path / "out.csv")
    assert (counts["predicted"], counts["empty"]) == (39, 1)


@pytest.mark.parametrize("labels", ["a|b", ["a", "b"], '["a", "b"]', " a | b|a"])
def test_labels_of_a_row_may_be_written_in_several_ways(base, tmp_path, labels):
    rows = [{"text": "w1 w2", "label": labels}, {"text": "w3", "label": "[]"}, {"text": "w4", "label": "a"}] * 4
    config = override(MultiLabelConfig(), [f"data.path={write(tmp_path / 'x.jsonl', rows)}", "data.label_separator=|"])
    task, tokenizer = load_task("multi_label"), load_tokenizer(base / "discriminator")
    examples, facts = task.read(config, tokenizer, task.source(config.data), RowCounts())
    assert facts["labels"] == ["a", "b"]
    assert examples.labels[:3] == [[0, 1], [], [0]]


def test_regression_predicts_on_the_scale_of_its_labels(tuned):
    run, _ = tuned("regression")
    model = package.load(run)
    rows = CASES["regression"].rows(40, random.Random(5))
    found = [each["prediction"] for each in model.predict([row["text"] for row in rows])]
    assert np.abs(np.array(found) - [row["label"] for row in rows]).mean() < 5
    assert model.model.config.target_std == pytest.approx(11.2, abs=1)


def test_labels_that_are_no_numbers_are_skipped_where_that_is_asked_for(quorem, base, tmp_path):
    rows = CASES["regression"].rows(40, random.Random(0))
    rows[3]["label"] = "about 7"
    path = write(tmp_path / "rows.jsonl", rows)
    outcome = quorem(*command("regression", base, path, tmp_path / "run", "train.max_steps=1", "data.bad_rows=skip"))
    assert "40 rows read, 39 used" in outcome.err
    assert "row 4: column 'label' is 'about 7'" in (tmp_path / "run" / "bad_rows.txt").read_text()


POOLED = ("classification", "multi_label, branches", "regression, branches")


@pytest.mark.parametrize("names", list(zip(POOLED, (*POOLED[1:], POOLED[0]), strict=True)), ids=str)
def test_a_model_of_another_task_gives_its_encoder(quorem, base, tmp_path, names):
    folders = [base, tmp_path / "0", tmp_path / "1"]
    for place, name in enumerate(names):
        words = command(name, folders[place], data(name, tmp_path), folders[place + 1], "train.max_steps=1")
        outcome = quorem(*words)
        assert outcome.code == 0, outcome.err
