"""Recipes beyond the paper: where replacements come from, how they are drawn, what is masked."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from quorem.pretraining.program import PretrainProgram

EVEN = "objective.temperature=1e9"  # all words alike, frequent or not
RECIPES = {
    "unigram": ["objective.generator=unigram", "objective.temperature=2", "objective.temperature_end=1"],
    "frozen": ["objective.generator={pretrained}/generator", "objective.temperature=1.5"],
    "frozen, apart": ["objective.generator={pretrained}/generator", "model.shared_embeddings=false"],
    "temperature": ["objective.temperature=2", "objective.temperature_end=1"],
    "fewer masks": ["objective.mask_rate=0.5", "objective.mask_rate_end=0.1"],
    "whole words": ["objective.whole_words=true", "tokenizer.kind=wordpiece", "model.vocab_size=300"],
}


def weights(run):
    return {
        (path.parent.name, name): value
        for path in sorted(run.glob("*/model.safetensors"))
        for name, value in load_file(path).items()
    }


@pytest.fixture
def recipe(pretrained, pretrain_settings, sample_csv):
    def command(name, out):
        given = [setting.format(pretrained=pretrained) for setting in RECIPES[name]]
        return ["pretrain", sample_csv, "--text-column", "review", "--out", out, *pretrain_settings, *given]

    return command


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_runs_resumes_bit_for_bit_and_fine_tunes(
    tmp_path, monkeypatch, quorem, recipe, pretrained, sample_csv, finetune_settings, name
):
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
    networks = {network for network, _ in one}
    assert networks == ({"discriminator"} if name == "unigram" else {"discriminator", "generator"})
    if name.startswith("frozen"):
        before = load_file(pretrained / "generator" / "model.safetensors")
        assert all(torch.equal(value, before[key]) for (network, key), value in one.items() if network == "generator")
    columns = ["--text-column", "review", "--label-column", "sentiment"]
    assert quorem("finetune", whole, sample_csv, *columns, "--out", tmp_path / "f", *finetune_settings).code == 0


def test_schedules_go_from_the_first_number_to_the_last(tmp_path, quorem, recipe):
    out = tmp_path / "run"
    assert quorem(*recipe("fewer masks", out), "train.log_every=1", "objective.generator=unigram", EVEN).code == 0
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    shares = [record["share_replaced"] for record in records]  # hardly any random word is the original
    assert shares[0] == pytest.approx(0.5, abs=0.05)
    assert shares[-1] == pytest.approx(0.1, abs=0.04)
    assert shares == sorted(shares, reverse=True)


def test_other_tokens_other_tables_and_missing_folders_are_refused(tmp_path, refused, recipe, pretrained):
    frozen = recipe("frozen", tmp_path / "out")
    other = recipe("frozen", tmp_path / "other")
    assert "its own, tokenizer.path=" in refused(*frozen, "model.vocab_size=200", after_log=True)
    assert "model.shared_embeddings=false" in refused(*other, "model.embedding.tier=99", after_log=True)
    line = refused(*frozen, f"objective.generator={tmp_path}/nothing")
    assert "trained, unigram or" in line
    assert "a folder with a generator's config.json" in line
    shutil.copytree(pretrained / "generator", tmp_path / "broken")
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"no weights")
    assert "cannot be read" in refused(
        *recipe("frozen", tmp_path / "third"), f"objective.generator={tmp_path}/broken", after_log=True
    )
    whole_words = "objective.whole_words=true"
    assert "tokenizer.kind=wordpiece" in refused(*recipe("temperature", tmp_path / "x"), whole_words, after_log=True)


def test_a_generator_that_has_changed_is_another_input(tmp_path, monkeypatch, refused, quorem, recipe, pretrained):
    shutil.copytree(pretrained / "generator", tmp_path / "generator")
    words = [
        *recipe("frozen", tmp_path / "out"),
        f"objective.generator={tmp_path}/generator",
        "train.checkpoint_every=1",
    ]
    with monkeypatch.context() as patch:
        patch.setattr(PretrainProgram, "record", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            quorem(*words)
    shutil.copy(pretrained / "discriminator" / "model.safetensors", tmp_path / "generator" / "model.safetensors")
    assert "what it reads (generator) has changed" in refused(*words)


@pytest.mark.parametrize("generator", ["unigram", "{}/generator"])
def test_describe_counts_what_is_trained(quorem, pretrained, generator):
    outcome = quorem("describe", "model.size=tiny", f"objective.generator={generator.format(pretrained)}")
    assert outcome.code == 0
    lines = [line for line in outcome.out.splitlines() if line.startswith("generator")]
    assert all(line.endswith("(not trained)") for line in lines)
    assert bool(lines) == (generator != "unigram")
    assert ("softmax of the generator" in outcome.out) == bool(lines)
