"""train.max_steps=0: a run whose networks are as they started, for what needs no pre-training."""

import json

import pytest
import torch
from safetensors.torch import load_file

from quorem.samples import write_sessions


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    path = tmp_path_factory.mktemp("shop") / "items.txt"
    write_sessions(path, rows=120, vocab_size=150, seed=0)
    return path


@pytest.fixture
def start(quorem, sample_csv, pretrain_settings):
    """Make a run of no steps of the sample's reviews."""
    kept = [each for each in pretrain_settings if not each.startswith("train.max_steps")]
    given = ["--text-column", "review", *kept, "train.max_steps=0"]

    def make(out, *words):
        return quorem("pretrain", sample_csv, "--out", out, *given, *words)

    return make


def vectors(run):
    return load_file(run / "discriminator" / "model.safetensors")["electra.embeddings.word_embeddings.weight"]


def test_its_token_vectors_are_the_counted_ones_and_every_command_takes_it(start, quorem, sample_csv, tmp_path):
    run, random = tmp_path / "run", tmp_path / "random"
    dense = "model.embedding.kind=dense"
    outcome = start(run, dense, "data.held_out=0.1")
    assert outcome.code == 0
    assert "0 steps of 8 x 32" in outcome.err
    assert outcome.out == "no step was taken (train.max_steps=0): the networks are as they started\n"
    result = json.loads((run / "result.json").read_text())
    assert result["held_out"]["mlm_loss"] > 0
    assert not {"mlm_loss", "rtd_loss"} & result.keys()  # nothing was measured in training
    assert start(random, dense, "model.embedding.start=random").code == 0
    assert not torch.equal(vectors(run), vectors(random))
    for words in (
        ["embed", run, sample_csv, "--text-column", "review", "--out", tmp_path / "vectors.npy"],
        ["similar", run, "--item", "the", "--top", "3"],
        ["export", run, "--format", "remote-code", "--out", tmp_path / "plain"],
        ["report", run],
        ["card", run],
    ):
        outcome = quorem(*words)
        assert outcome.code == 0, (words, outcome.err)
    assert "took no step (train.max_steps=0), so there are no curves" in quorem("report", random).err
    card = (run / "discriminator" / "README.md").read_text()
    assert "no step was taken" in card
    assert "last training step" not in (random / "discriminator" / "README.md").read_text()


def test_a_recommender_needs_no_pre_training(shop, quorem, pretrain_settings, tmp_path):
    kept = [each for each in pretrain_settings if not each.startswith("train.max_steps")]
    kept = [*kept, "model.embedding.kind=dense", "data.rows=isolated", "train.max_steps=0"]
    assert quorem("pretrain", shop, "--tokenizer", "items", "--out", tmp_path / "run", *kept).code == 0
    words = ["finetune", tmp_path / "run", shop, "--task", "next_item", "--out", tmp_path / "next"]
    outcome = quorem(*words, "train.epochs=1", "data.max_items=12", "next_item.start=cooccurrence")
    assert outcome.code == 0
    assert "v-sknn" in outcome.out.lower()


def test_from_networks_of_another_run_it_is_those(start, tmp_path, pretrained, quorem, sample_csv):
    words = ["pretrain", sample_csv, "--text-column", "review", "--init-from", pretrained, "train.max_steps=0"]
    assert quorem(*words, "--out", tmp_path / "run").code == 0
    for name in ("discriminator", "generator"):
        one, other = (load_file(each / name / "model.safetensors") for each in (pretrained, tmp_path / "run"))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_the_same_again_does_nothing_and_more_steps_are_another_run(start, refused, tmp_path, sample_csv):
    run = tmp_path / "run"
    assert start(run).code == 0
    assert "this run is finished; nothing to do" in start(run).err
    settings = [f"--config={run / 'config.yaml'}", "train.max_steps=4"]
    line = refused("pretrain", sample_csv, "--text-column", "review", "--out", run, *settings, after_log=True)
    assert "--init-from" in line


def test_a_dry_run_has_nothing_to_measure(start, tmp_path):
    outcome = start(tmp_path / "run", "--dry-run")
    assert outcome.code == 0
    assert "0 steps in about 0 s" in outcome.out
    assert not (tmp_path / "run").exists()


def test_fine_tuning_takes_at_least_one(refused, pretrained, sample_csv, tmp_path):
    words = ["finetune", pretrained, sample_csv, "--text-column", "review", "--label-column", "sentiment"]
    line = refused(*words, "--out", tmp_path / "run", "train.max_steps=0")
    assert "train.max_steps=0: a number at least 1 needed" in line
