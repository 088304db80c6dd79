"""A dry run says what a run will take and keeps nothing; a model that cannot fit in memory is refused at once."""

import os
import re
import signal

import pytest
import torch

from quorem.plan import memory
from quorem.plan.dry_run import DryRun
from quorem.pretraining.program import PretrainProgram

DATA = ["--text-column", "review", "--out"]


def test_a_dry_run_keeps_nothing_and_says_what_the_run_takes(quorem, tmp_path, sample_csv, pretrain_settings):
    before = sorted(path.name for path in tmp_path.iterdir())
    found = quorem(
        "pretrain", sample_csv, *DATA, tmp_path / "run", "--dry-run", *pretrain_settings, "train.max_steps=5000"
    )
    assert found.code == 0, found.err
    assert re.match(r"dry run: \S+ s a step, 5,000 steps in about .*; [\d,]+ MB of memory at the peak", found.out)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert quorem("pretrain", sample_csv, *DATA, tmp_path / "run", *pretrain_settings).code == 0


@pytest.mark.parametrize(
    ("seconds", "steps", "words"),
    [(0.5, 100, "in about 50 s"), (1.0, 1800, "in about 30 min"), (2.0, 9000, "in about 5 h 0 min")],
)
def test_times_are_told_in_units_for_people(seconds, steps, words):
    assert words in str(DryRun(seconds, steps, 10**9, 2 * 10**9))


def test_a_model_larger_than_memory_is_refused_with_what_to_change(
    refused, tmp_path, monkeypatch, sample_csv, pretrain_settings
):
    monkeypatch.setattr(memory, "free_bytes", lambda: 100_000)
    message = refused(
        "pretrain",
        sample_csv,
        *DATA,
        tmp_path / "run",
        *pretrain_settings,
        "model.embedding.kind=dense",
        after_log=True,
    )
    assert re.search(
        r"need 0\.0 GB for [\d,]+ tokens, and 0\.0 GB of memory is free: use model.embedding.kind=qr", message
    )


def test_a_model_that_was_refused_for_memory_goes_on_with_other_settings(
    refused, quorem, tmp_path, monkeypatch, sample_csv, pretrain_settings
):
    words = ["pretrain", sample_csv, *DATA, tmp_path / "run", *pretrain_settings]
    with monkeypatch.context() as patch:
        patch.setattr(memory, "free_bytes", lambda: 100_000)
        assert "use a smaller model.embedding.budget" in refused(*words, after_log=True)
    assert "model.vocab_size: 3000 there, 2000 here" in refused(*words, "model.vocab_size=2000")
    tokens = tmp_path / "run" / "data" / "shards" / "tokens.bin"
    made = tokens.stat().st_mtime_ns
    words += ["train.micro_batch_size=4", "model.dropout=0", "model.embedding.tier=100", "train.max_steps=1"]
    assert quorem(*words).code == 0  # as advised, and with what else does not go into the data
    assert tokens.stat().st_mtime_ns == made
    assert "train.micro_batch_size: 4 there, 8 here" in refused(*words, "train.micro_batch_size=8")


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), None])
def test_memory_that_runs_out_is_one_line(refused, tmp_path, monkeypatch, sample_csv, pretrain_settings, error):
    def ask_for_too_much(self, module, micro_batch):
        if error:
            raise error
        torch.empty(2**50)

    monkeypatch.setattr(PretrainProgram, "loss", ask_for_too_much)
    line = refused("pretrain", sample_csv, *DATA, tmp_path / "run", *pretrain_settings, after_log=True)
    assert "out of memory: use a smaller train.micro_batch_size" in line


def test_a_dry_run_of_a_short_run_takes_its_steps_only(quorem, tmp_path, sample_csv, pretrain_settings):
    falling = ["train.max_steps=3", "objective.mask_rate=0.3", "objective.mask_rate_end=0.1"]
    found = quorem("pretrain", sample_csv, *DATA, tmp_path / "run", "--dry-run", *pretrain_settings, *falling)
    assert found.code == 0, found.err
    assert "3 steps in about" in found.out


def test_a_dry_run_that_is_stopped_promises_nothing(quorem, tmp_path, monkeypatch, sample_csv, pretrain_settings):
    asked = PretrainProgram.micro_batches

    def interrupt(self, step, **share):
        os.kill(os.getpid(), signal.SIGINT)
        return asked(self, step, **share)

    monkeypatch.setattr(PretrainProgram, "micro_batches", interrupt)
    words = ["pretrain", sample_csv, *DATA, tmp_path / "run", "--dry-run", *pretrain_settings]
    found = quorem(*words)
    assert found.code == 130
    assert "resume with" not in found.out
    assert not (tmp_path / "run").exists()


LABELLED = ["--text-column", "review", "--label-column", "sentiment", "--out"]


def test_fine_tuning_says_what_it_takes_first_and_dry_runs_keep_nothing(quorem, tmp_path, sample_csv, pretrained):
    before = sorted(path.name for path in tmp_path.iterdir())
    words = ["finetune", pretrained, sample_csv, *LABELLED, tmp_path / "run", "train.max_steps=4000"]
    found = quorem(*words, "--dry-run")
    assert found.code == 0, found.err
    assert re.match(r"dry run: \S+ s a step, 4,000 steps in about .*; no file is kept", found.out)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert re.search(
        r"\d+ rows to train on, [\d,]+ tokens, and \d+ held out; 2 classes; ([\d,]+) parameters, \1 of them trained; "
        r"4,000 steps of 32 rows of up to \d+ tokens\n"
        r"memory: \d+ MB for weights, gradients and optimizer, plus activations",
        found.err,
    )
    frozen = quorem(*words, "--dry-run", "classifier.freeze_encoder=true")
    everything, trained = re.search(r"([\d,]+) parameters, ([\d,]+) of them trained", frozen.err).groups()
    assert int(trained.replace(",", "")) < 0.1 * int(everything.replace(",", ""))


def test_a_classifier_larger_than_memory_is_refused(refused, tmp_path, monkeypatch, sample_csv, pretrained):
    monkeypatch.setattr(memory, "free_bytes", lambda: 3_000)
    words = ["finetune", pretrained, sample_csv, *LABELLED, tmp_path / "run"]
    assert re.search(
        r"need 0\.0 GB, and 0\.0 GB of memory is free: use a smaller model", refused(*words, after_log=True)
    )
