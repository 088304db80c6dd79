"""Variants of the objective run, resume and fine-tune."""

import json

import pytest
import torch
from safetensors.torch import load_file

from quorem.pretraining.program import PretrainProgram

RECIPES = {
    "fewer masks": ["objective.mask_rate=0.5", "objective.mask_rate_end=0.1"],
    "google": ["objective.recipe=google"],
    "apart": ["model.shared_embeddings=false"],
}


def weights(run):
    return {
        (path.parent.name, name): value
        for path in sorted(run.glob("*/model.safetensors"))
        for name, value in load_file(path).items()
    }


@pytest.fixture
def recipe(pretrain_settings, sample_csv):
    def command(name, out):
        return ["pretrain", sample_csv, "--text-column", "review", "--out", out, *pretrain_settings, *RECIPES[name]]

    return command


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_runs_resumes_bit_for_bit_and_fine_tunes(tmp_path, monkeypatch, quorem, recipe, sample_csv, name):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert quorem(*recipe(name, whole)).code == 0
    asked = PretrainProgram.micro_batches

    def stop(self, at, **share):
        if at == 3:
            raise KeyboardInterrupt
        return asked(self, at, **share)

    with monkeypatch.context() as patch:
        patch.setattr(PretrainProgram, "micro_batches", stop)
        assert quorem(*recipe(name, cut)).code != 0
    assert quorem(*recipe(name, cut)).code == 0
    one, other = weights(whole), weights(cut)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)
    columns = ["--text-column", "review", "--label-column", "sentiment"]
    few = ["data.max_length=24", "train.precision=fp32", "train.max_steps=2", "classifier.baseline=false"]
    assert quorem("finetune", whole, sample_csv, *columns, "--out", tmp_path / "f", *few).code == 0


def test_the_mask_rate_goes_from_its_first_number_to_its_last(tmp_path, quorem, recipe):
    out = tmp_path / "run"
    assert quorem(*recipe("fewer masks", out), "train.log_every=1").code == 0
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    shares = [record["share_replaced"] for record in records]
    assert shares[0] == pytest.approx(0.45, abs=0.08)  # a draw may be the original
    assert shares[-1] == pytest.approx(0.1, abs=0.04)
    assert shares == sorted(shares, reverse=True)
