"""Several seeds in one folder: mean, spread and average of their scores, and what may be done with such a folder."""

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from task_cases import CASES, task_of, write

import quorem as package
from quorem.cli import main
from quorem.tasks.predict import predict

SETTINGS = [
    "data.max_length=24", "train.epochs=2", "train.batch_size=16", "train.precision=fp32", "train.learning_rate=1e-3",
    "data.validation_share=0.2",
]  # fmt: skip


def data(name, folder, number=120):
    return write(folder / "rows.jsonl", CASES[name].rows(number, random.Random(0)))


def command(name, run, path, out, *more):
    words = ["finetune", "--task", task_of(name), run, path, "--out", out, *SETTINGS, *CASES[name].settings, *more]
    return [str(word) for word in words]


def result_of(folder):
    return json.loads((folder / "result.json").read_text())


@pytest.fixture(scope="module")
def two(tmp_path_factory, base):
    """A finished folder of two seeds, and the command that made it, without --seeds; tests copy it before a change."""
    folder = tmp_path_factory.mktemp("two")
    words = command("classification", base, data("classification", folder), folder / "run")
    assert main([*words, "--seeds", "2"]) == 0
    return folder / "run", words


@pytest.fixture
def copied(two, tmp_path):
    """A copy of it that may be changed, and its command."""
    folder, words = two
    shutil.copytree(folder, tmp_path / "run")
    return tmp_path / "run", [str(tmp_path / "run") if word == str(folder) else word for word in words]


def contents(folder):
    """Bytes of every file of a folder."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_seeds_give_mean_spread_and_an_average_and_go_on(quorem, refused, base, tmp_path):
    path, out = data("classification", tmp_path), tmp_path / "run"
    words = command("classification", base, path, out)
    assert quorem(*words, "--seeds", "2").code == 0
    once = (out / "seed-1" / "model" / "model.safetensors").stat().st_mtime_ns
    outcome = quorem(*words, "--seeds", "3")
    assert outcome.code == 0
    assert (out / "seed-1" / "model" / "model.safetensors").stat().st_mtime_ns == once
    result = json.loads((out / "result.json").read_text())
    losses = [json.loads((out / f"seed-{seed}" / "result.json").read_text())["loss"] for seed in range(3)]
    assert result["seeds"] == [0, 1, 2]
    assert result["mean"]["loss"] == pytest.approx(np.mean(losses))
    assert result["spread"]["loss"] == pytest.approx(
        {"min": min(losses), "max": max(losses), "std": np.std(losses, ddof=1)}
    )
    assert len(set(losses)) == 3
    assert result["ensemble"]["loss"] <= result["mean"]["loss"]  # -log of a mean is no more than the mean of -log
    assert "over 3 seeds" in outcome.out
    for one in (["embed", out, path, "--out", "x.npy"], ["similar", out, "--item", "w1"], ["card", out],
                ["export", out, "--format", "onnx", "--out", tmp_path / "x"]):  # fmt: skip
        line = refused(*one, after_log=True)
        assert line == f"quorem: {out}: holds 3 runs of different seeds: give one of them, such as {out / 'seed-0'}"
    texts = [row["text"] for row in CASES["classification"].rows(9, random.Random(7))]
    shares = [package.load(out / f"seed-{seed}").probabilities(texts) for seed in range(3)]
    assert torch.allclose(package.load(out).probabilities(texts), torch.stack(shares).mean(0), atol=1e-6)
    counts = predict(out, path, out=tmp_path / "out.jsonl")
    assert counts["predicted"] == 120


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["train.epochs=1", "--seeds", "2"], "was started for 12 steps, and 6 are fewer"),
        (["train.epochs=3", "--seeds", "2"], "did not keep its optimizer's state"),
        (["--seeds", "1"], "holds seed-1 too: give more"),
        ([], "holds runs of several seeds: give --seeds"),
    ],
    ids=["fewer epochs", "more epochs", "fewer seeds", "no seeds"],
)
def test_what_cannot_be_done_changes_nothing(refused, quorem, copied, more, said):
    folder, words = copied
    before = contents(folder)
    assert said in refused(*words, *more, after_log=True)
    assert contents(folder) == before
    assert "this run is finished; nothing to do" in quorem(*words, "--seeds", "2").err


def test_a_single_run_is_no_folder_of_seeds(refused, quorem, base, tmp_path):
    words = command("classification", base, data("classification", tmp_path), tmp_path / "run", "train.epochs=1")
    assert quorem(*words).code == 0
    before = contents(tmp_path / "run")
    assert "holds a single run: choose another --out" in refused(*words, "--seeds", "2", after_log=True)
    assert contents(tmp_path / "run") == before


def test_a_finished_folder_trains_nothing_again_and_knows_its_data(quorem, refused, copied, monkeypatch):
    folder, words = copied
    with monkeypatch.context() as patch:
        patch.setattr("quorem.finetuning.seeds.finetune_task", lambda *_, **__: pytest.fail("trained again"))
        outcome = quorem(*words, "--seeds", "2")
    assert outcome.code == 0
    assert "over 2 seeds" in outcome.out
    path, before = Path(next(word for word in words if word.endswith("rows.jsonl"))), contents(folder)
    rows = path.read_bytes()
    try:
        path.write_bytes(rows + rows.splitlines(keepends=True)[0])
        assert "its input (data) has changed" in refused(*words, "--seeds", "2", after_log=True)
    finally:
        path.write_bytes(rows)
    assert contents(folder) == before


@pytest.mark.parametrize("name", ["regression", "question_answering, some without an answer"])
def test_what_is_known_of_the_data_is_no_score(quorem, base, tmp_path, name):
    path = data(name, tmp_path)
    assert quorem(*command(name, base, path, tmp_path / "run", "train.epochs=1"), "--seeds", "2").code == 0
    result = result_of(tmp_path / "run")
    assert not [each for each in result["mean"] if each.startswith(("target_", "ceiling", "baselines", "may_lack"))]
    assert result["baselines"]
    if "ensemble" in result and "no_answer_threshold" in result["ensemble"]:
        found = package.load(tmp_path / "run").predictor.config.no_answer_threshold
        assert found == result["ensemble"]["no_answer_threshold"]
