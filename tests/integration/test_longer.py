"""A run that goes on: the same command with more steps or epochs."""

import json
import shutil

import pytest
import torch
import yaml
from safetensors.torch import load_file

from quorem.cli import main

CONSTANT = ["train.schedule=constant", "train.warmup=2"]


def weights(run, name="discriminator"):
    return load_file(run / name / "model.safetensors")


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture(scope="module")
def words(few_reviews, pretrain_settings):
    """What pre-trains on a few reviews, but for --out and the steps."""
    kept = [each for each in pretrain_settings if not each.startswith(("train.max_steps", "model.vocab_size"))]
    return ["pretrain", few_reviews, "--text-column", "review", *kept, "model.vocab_size=300"]


@pytest.fixture
def train(quorem, words):
    """Pre-train for so many steps."""
    return lambda out, steps, *settings: quorem(*words, "--out", out, *settings, f"train.max_steps={steps}")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, words):
    """Finished runs by name: tests copy those that they change."""
    folder = tmp_path_factory.mktemp("finished")
    given = {
        "long": [*CONSTANT, "train.max_steps=8"],
        "constant": [*CONSTANT, "train.max_steps=4", "train.keep_state=true"],
        "falling": ["train.max_steps=4", "train.keep_state=true"],
    }
    for name, settings in given.items():
        assert main([str(word) for word in [*words, "--out", folder / name, *settings]]) == 0
    return folder


@pytest.fixture
def finetune(quorem, few_reviews, pretrained, finetune_settings):
    labels = ["--text-column", "review", "--label-column", "sentiment"]
    kept = [each for each in finetune_settings if not each.startswith("train.epochs")]

    def run(out, epochs, *settings):
        words = ["finetune", pretrained, few_reviews, *labels, "--out", out, *kept, *settings]
        return quorem(*words, f"train.epochs={epochs}")

    return run


def test_a_finished_run_with_its_state_goes_on_as_one_long_run_does_where_the_rate_is_constant(
    train, finished, tmp_path
):
    shutil.copytree(finished / "constant", tmp_path / "run")
    outcome = train(tmp_path / "run", 8, *CONSTANT, "train.keep_state=true")
    assert outcome.code == 0
    assert "continues from step 4 to 8, exactly like one run of 8 steps" in outcome.err
    for name in ("discriminator", "generator"):
        assert same(weights(tmp_path / "run", name), weights(finished / "long", name))
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert steps == [2, 4, 6, 8]
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["train"]["max_steps"] == 8
    assert "this run is finished; nothing to do" in train(tmp_path / "run", 8, *CONSTANT, "train.keep_state=true").err


def test_with_a_schedule_that_falls_it_goes_on_and_says_that_it_is_another_run(train, finished, tmp_path):
    shutil.copytree(finished / "falling", tmp_path / "run")
    before = weights(tmp_path / "run")
    outcome = train(tmp_path / "run", 8, "train.keep_state=true")
    assert outcome.code == 0
    assert "continues from step 4 to 8, but not exactly like one run of 8 steps" in outcome.err
    assert not same(weights(tmp_path / "run"), before)


def test_a_finished_run_without_its_state_names_the_way_to_go_on(train, quorem, words, tmp_path):
    train(tmp_path / "run", 4)
    config, before = (tmp_path / "run" / "config.yaml").read_bytes(), weights(tmp_path / "run")
    outcome = train(tmp_path / "run", 8)
    assert outcome.code == 2
    assert f"--init-from {tmp_path / 'run'} and another --out" in outcome.err
    assert (tmp_path / "run" / "config.yaml").read_bytes() == config
    assert same(weights(tmp_path / "run"), before)
    again = [*words[:4], "--init-from", tmp_path / "run", "--out", tmp_path / "next"]
    assert quorem(*again, "train.max_steps=1", "data.max_length=32").code == 0


def test_fewer_steps_and_other_changes_are_refused_and_nothing_is_lost(train, finished, tmp_path):
    shutil.copytree(finished / "falling", tmp_path / "run")
    outcome = train(tmp_path / "run", 3, "train.keep_state=true")
    assert outcome.code == 2
    assert "this run was started for 4 steps, and 3 are fewer" in outcome.err
    outcome = train(tmp_path / "run", 8, "train.keep_state=true", "train.seed=5")
    assert outcome.code == 2
    assert "already holds another run (train.max_steps: 4 there, 8 here; train.seed: 0 there, 5 here)" in outcome.err
    assert (tmp_path / "run" / "result.json").exists()
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["train"]["max_steps"] == 4


def test_an_unfinished_run_goes_on_to_more_steps(train, finished, tmp_path):
    shutil.copytree(finished / "constant", tmp_path / "run")
    for name in ("result.json", "discriminator", "generator"):
        place = tmp_path / "run" / name
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    assert train(tmp_path / "run", 8, *CONSTANT).code == 0
    assert same(weights(tmp_path / "run"), weights(finished / "long"))


def test_a_kill_between_does_not_leave_a_run_that_seems_to_be_long(train, finished, tmp_path):
    """result.json goes first, and then the settings say how long the run is to be."""
    shutil.copytree(finished / "constant", tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    outcome = train(tmp_path / "run", 8, *CONSTANT, "train.keep_state=true")
    assert "continues from step 4 to 8" in outcome.err
    assert json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])["step"] == 8


def test_fine_tuning_goes_on_for_more_epochs(finetune, tmp_path):
    finetune(tmp_path / "long", 2, *CONSTANT)
    finetune(tmp_path / "run", 1, *CONSTANT, "train.keep_state=true")
    outcome = finetune(tmp_path / "run", 2, *CONSTANT, "train.keep_state=true")
    assert outcome.code == 0
    assert "exactly like one run of" in outcome.err
    results = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("run", "long")]
    assert results[0] == results[1] | {"keep_state": True}
    assert same(weights(tmp_path / "run", "model"), weights(tmp_path / "long", "model"))
    outcome = finetune(tmp_path / "long", 3, *CONSTANT)
    assert outcome.code == 2
    assert f"it cannot continue with other steps: fine-tune {tmp_path / 'long'} itself" in outcome.err
