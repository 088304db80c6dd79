"""A run that goes on: the same command with more steps or epochs."""

import json
import shutil

import pytest
import torch
import yaml
from safetensors.torch import load_file

CONSTANT = ["train.schedule=constant", "train.warmup=2"]


def weights(run, name="discriminator"):
    return load_file(run / name / "model.safetensors")


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture
def train(quorem, sample_csv, pretrain_settings):
    """Pre-train on the sample for so many steps."""
    kept = [each for each in pretrain_settings if not each.startswith("train.max_steps")]

    def run(out, steps, *settings):
        words = ["pretrain", sample_csv, "--text-column", "review", "--out", out, *kept, *settings]
        return quorem(*words, f"train.max_steps={steps}")

    return run


@pytest.fixture
def finetune(quorem, sample_csv, pretrained, finetune_settings):
    labels = ["--text-column", "review", "--label-column", "sentiment"]
    kept = [each for each in finetune_settings if not each.startswith("train.epochs")]

    def run(out, epochs, *settings):
        words = ["finetune", pretrained, sample_csv, *labels, "--out", out, *kept, *settings]
        return quorem(*words, f"train.epochs={epochs}")

    return run


def test_a_finished_run_with_its_state_goes_on_as_one_long_run_does_where_the_rate_is_constant(train, tmp_path):
    train(tmp_path / "long", 8, *CONSTANT)
    train(tmp_path / "run", 4, *CONSTANT, "train.keep_state=true")
    outcome = train(tmp_path / "run", 8, *CONSTANT, "train.keep_state=true")
    assert outcome.code == 0
    assert "continues from step 4 to 8, exactly like one run of 8 steps" in outcome.err
    for name in ("discriminator", "generator"):
        assert same(weights(tmp_path / "run", name), weights(tmp_path / "long", name))
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert steps == [2, 4, 6, 8]
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["train"]["max_steps"] == 8
    assert "this run is finished; nothing to do" in train(tmp_path / "run", 8, *CONSTANT, "train.keep_state=true").err


def test_with_a_schedule_that_falls_it_goes_on_and_says_that_it_is_another_run(train, tmp_path):
    train(tmp_path / "run", 4, "train.keep_state=true")
    before = weights(tmp_path / "run")
    outcome = train(tmp_path / "run", 8, "train.keep_state=true")
    assert outcome.code == 0
    assert "continues from step 4 to 8, but not exactly like one run of 8 steps" in outcome.err
    assert not same(weights(tmp_path / "run"), before)


def test_a_finished_run_without_its_state_names_the_way_to_go_on(train, quorem, tmp_path, sample_csv):
    train(tmp_path / "run", 4)
    config, before = (tmp_path / "run" / "config.yaml").read_bytes(), weights(tmp_path / "run")
    outcome = train(tmp_path / "run", 8)
    assert outcome.code == 2
    assert f"--init-from {tmp_path / 'run'} and another --out" in outcome.err
    assert (tmp_path / "run" / "config.yaml").read_bytes() == config
    assert same(weights(tmp_path / "run"), before)
    words = ["pretrain", sample_csv, "--text-column", "review", "--init-from", tmp_path / "run", "--out"]
    assert quorem(*words, tmp_path / "next", "train.max_steps=1", "data.max_length=32").code == 0


def test_fewer_steps_and_other_changes_are_refused_and_nothing_is_lost(train, tmp_path):
    train(tmp_path / "run", 4, "train.keep_state=true")
    outcome = train(tmp_path / "run", 3, "train.keep_state=true")
    assert outcome.code == 2
    assert "this run was started for 4 steps, and 3 are fewer" in outcome.err
    outcome = train(tmp_path / "run", 8, "train.keep_state=true", "train.seed=5")
    assert outcome.code == 2
    assert "already holds another run (train.max_steps: 4 there, 8 here; train.seed: 0 there, 5 here)" in outcome.err
    assert (tmp_path / "run" / "result.json").exists()
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["train"]["max_steps"] == 4


def test_an_unfinished_run_goes_on_to_more_steps(train, tmp_path, monkeypatch):
    train(tmp_path / "run", 4, *CONSTANT, "train.keep_state=true")
    for name in ("result.json", "discriminator", "generator"):
        place = tmp_path / "run" / name
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    assert train(tmp_path / "run", 8, *CONSTANT).code == 0
    train(tmp_path / "long", 8, *CONSTANT)
    assert same(weights(tmp_path / "run"), weights(tmp_path / "long"))


def test_a_kill_between_does_not_leave_a_run_that_seems_to_be_long(train, tmp_path):
    """result.json goes first, and then the settings say how long the run is to be."""
    train(tmp_path / "run", 4, *CONSTANT, "train.keep_state=true")
    (tmp_path / "run" / "result.json").unlink()
    outcome = train(tmp_path / "run", 8, *CONSTANT, "train.keep_state=true")
    assert "continues from step 4 to 8" in outcome.err
    assert json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])["step"] == 8


def test_fine_tuning_goes_on_for_more_epochs(finetune, tmp_path):
    finetune(tmp_path / "long", 3, *CONSTANT)
    finetune(tmp_path / "run", 1, *CONSTANT, "train.keep_state=true")
    outcome = finetune(tmp_path / "run", 3, *CONSTANT, "train.keep_state=true")
    assert outcome.code == 0
    assert "exactly like one run of" in outcome.err
    results = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("run", "long")]
    assert results[0] == results[1] | {"keep_state": True}
    assert same(weights(tmp_path / "run", "model"), weights(tmp_path / "long", "model"))
    outcome = finetune(tmp_path / "long", 4, *CONSTANT)
    assert outcome.code == 2
    assert f"it cannot continue with other steps: fine-tune {tmp_path / 'long'} itself" in outcome.err
