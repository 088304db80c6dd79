"""Runs whose size and length follow from the data and a time."""

import json
import re

import pytest
import yaml

from quorem.plan import budget
from quorem.plan.dry_run import DryRun
from quorem.pretraining.program import PretrainProgram


@pytest.fixture
def words(tmp_path, sample_csv, pretrain_settings):
    kept = [each for each in pretrain_settings if not each.startswith(("train.max_steps", "model.size"))]
    return ["pretrain", sample_csv, "--text-column", "review", "--out", tmp_path / "run", *kept]


def settings(tmp_path):
    return yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())


@pytest.fixture
def slow(monkeypatch):
    """Each step is taken to need six seconds."""
    asked = []

    def measure(program, optimizer, train, *, total_steps, run):
        asked.append(total_steps)
        return DryRun(6.0, total_steps, 0, 0)

    for module in ("plan.budget", "pretraining.pretrain"):
        monkeypatch.setattr(f"quorem.{module}.measure_steps", measure)
    return asked


def test_a_run_has_the_steps_that_fit_and_resumes_with_them(tmp_path, monkeypatch, quorem, words, slow):
    words += ["model.size=tiny", "--minutes", "0.75"]
    asked = PretrainProgram.micro_batches

    def stop(self, at, **share):
        if at == 5:
            raise KeyboardInterrupt
        return asked(self, at, **share)

    with monkeypatch.context() as patch:
        patch.setattr(PretrainProgram, "micro_batches", stop)
        assert quorem(*words).code == 130
    assert settings(tmp_path)["train"]["max_steps"] == 7
    outcome = quorem(*words)
    assert outcome.code == 0, outcome.err
    assert "resumed after step 4" in outcome.err
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 7
    assert len(slow) == 1  # it was measured once
    assert quorem(*words).code == 0


def test_steps_that_are_named_count_more_than_minutes(tmp_path, quorem, refused, words, slow):
    words += ["model.size=tiny", "--minutes", "0.75"]
    assert quorem(*words).code == 0
    assert "it cannot continue with other steps" in refused(*words, "train.max_steps=9", after_log=True)


@pytest.mark.parametrize(("minutes", "many"), [("0.2", False), ("240", True)])
def test_it_says_how_often_the_data_is_read(monkeypatch, quorem, words, slow, minutes, many):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(PretrainProgram, "micro_batches", stop)
    outcome = quorem(*words, "model.size=tiny", "train.epochs=2", "--minutes", minutes)
    assert outcome.code == 130
    steps, passes = re.search(r"6 s a step: (\S+) steps in .*, (\S+) passes over the data", outcome.err).groups()
    assert float(passes) == pytest.approx(2 * int(steps.replace(",", "")) / slow[0], abs=0.05)
    assert ("more than 16 passes over the same data" in outcome.err) == many


def test_a_dry_run_is_of_the_steps_that_fit(quorem, words, slow):
    outcome = quorem(*words, "model.size=tiny", "--minutes", "0.75", "--dry-run")
    assert outcome.code == 0, outcome.err
    assert "dry run: 6 s a step, 7 steps in about 42 s" in outcome.out
    assert len(slow) == 1


def test_what_it_is_and_needs_is_said_once(quorem, words):
    outcome = quorem(*words, "model.size=tiny", "--minutes", "0.02")
    assert outcome.code == 0, outcome.err
    said = outcome.err.splitlines()
    for line in ("token vectors start", "memory: ", "measuring how long a step takes"):
        assert len([each for each in said if each.startswith(line)]) == 1, outcome.err
    assert [each for each in said if "1 s of steps of 8 x 32" in each]
    (steps,) = re.findall(r"([\d,]+) steps in 1 s,", outcome.err)
    assert {total for total in re.findall(r"^step \d+/(\d+)", outcome.err, re.MULTILINE)} == {steps}


def test_the_size_follows_from_the_data_and_stays_with_the_run(tmp_path, monkeypatch, quorem, words):
    words += ["train.max_steps=2"]
    outcome = quorem(*words)
    assert outcome.code == 0, outcome.err
    assert "model.size=auto: tiny: about" in outcome.err
    assert settings(tmp_path)["model"]["size"] == "tiny"
    monkeypatch.setitem(budget.SIZES, "origin", 0)  # what another machine might choose
    assert quorem(*words).code == 0
    assert settings(tmp_path)["model"]["size"] == "tiny"
