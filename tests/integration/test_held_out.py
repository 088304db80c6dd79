"""data.held_out: rows that pre-training does not learn from, and the best checkpoint by them."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from quorem.data.rows import ROWS, hold_out
from quorem.data.shards import Shards
from quorem.errors import UserError
from quorem.pretraining.held_out import HeldOut
from quorem.pretraining.program import PretrainProgram

SETTINGS = ("data.held_out=0.2", "train.max_steps=6", "train.checkpoint_every=2", "train.log_every=3")


@pytest.fixture
def pretrain(quorem, sample_csv, pretrain_settings):
    return lambda out, *more: quorem(
        "pretrain", sample_csv, "--text-column", "review", "--out", out, *pretrain_settings, *SETTINGS, *more
    )


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("share", [0.001, 0.1, 0.999])
def test_every_row_is_either_learned_from_or_judged_on(pretrained, kind, share):
    shards = Shards(pretrained / "data" / "shards")
    rows = ROWS[kind](shards, max_length=16, cls_id=2, pad_id=0)
    training, held_out = hold_out(rows, share, seed=3)
    assert sorted([*training.chosen, *held_out.chosen]) == list(range(len(rows)))
    assert len(held_out) == min(max(1, round(share * len(rows))), len(rows) - 1)
    assert np.array_equal(hold_out(rows, share, seed=3)[1].chosen, held_out.chosen)
    order, seen = training.order(batch_size=4, seed=0), []
    for step in range(order.steps_per_epoch):
        indices = order.indices(step)
        seen += training.chosen[indices].tolist()
        for mine, all_of_them in zip(training.batch(indices), rows.batch(training.chosen[indices]), strict=True):
            assert (mine is None and all_of_them is None) or torch.equal(mine, all_of_them)
    assert sorted(seen) == training.chosen.tolist()


def test_a_single_row_cannot_be_shared_out(pretrained):
    rows = ROWS["packed"](Shards(pretrained / "data" / "shards"), max_length=10**6, cls_id=2, pad_id=0)
    with pytest.raises(UserError, match="there is one row only"):
        hold_out(rows, 0.5, seed=0)


def test_both_networks_are_judged_at_every_checkpoint_and_resuming_changes_nothing(tmp_path, monkeypatch, pretrain):
    assert pretrain(tmp_path / "whole").code == 0
    judged = [(line["step"], line["held_out"]) for line in lines(tmp_path / "whole") if "held_out" in line]
    assert [step for step, _ in judged] == [2, 4, 6]
    for _, found in judged:
        assert found["loss"] == pytest.approx(found["mlm_loss"] + 50 * found["rtd_loss"])
    result = json.loads((tmp_path / "whole" / "result.json").read_text())
    assert result["held_out"] == judged[-1][1]
    assert result["best_step"] == min(judged, key=lambda each: each[1]["loss"])[0]
    asked = PretrainProgram.micro_batches

    def stop(self, at, **share):
        if at == 5:
            raise KeyboardInterrupt
        return asked(self, at, **share)

    with monkeypatch.context() as patch:
        patch.setattr(PretrainProgram, "micro_batches", stop)
        assert pretrain(tmp_path / "cut").code == 130
    assert pretrain(tmp_path / "cut").code == 0
    assert [line.get("held_out") for line in lines(tmp_path / "cut")] == [
        line.get("held_out") for line in lines(tmp_path / "whole")
    ]
    weights = "discriminator/model.safetensors"
    assert (tmp_path / "cut" / weights).read_bytes() == (tmp_path / "whole" / weights).read_bytes()


def test_micro_batches_change_no_score(tmp_path, pretrain):
    found = []
    for name, more in (("whole", ()), ("cut", ("train.micro_batch_size=3",))):
        more = (*more, "train.max_steps=1", "train.precision=fp32", "model.dropout=0")
        assert pretrain(tmp_path / name, *more).code == 0
        found.append(json.loads((tmp_path / name / "result.json").read_text())["held_out"])
    assert found[1] == pytest.approx(found[0], rel=5e-3)  # a draw may fall otherwise by rounding
    assert found[0] != {}


@pytest.mark.parametrize("settings", [(), ("model.disentangled_embeddings=false",)])
def test_the_best_checkpoint_is_kept_and_its_networks_are_written(tmp_path, monkeypatch, pretrain, settings):
    losses = iter([3.0, 1.0, 2.0, 1.5, 4.0, 5.0])
    monkeypatch.setattr(HeldOut, "judge", lambda self: {"loss": next(losses)})
    more = ("train.checkpoint_every=1", "train.keep_state=true", *settings)
    assert pretrain(tmp_path / "run", *more).code == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["best_step"], result["held_out"]) == (2, {"loss": 5.0})
    assert sorted(path.name for path in (tmp_path / "run" / "state").iterdir()) == ["step-000002", "step-000006"]
    for place, step in (("", 6), ("best/", 2)):
        state = torch.load(tmp_path / "run" / "state" / f"step-{step:06d}" / "state.pt", weights_only=True)["model"]
        found = load_file(tmp_path / "run" / place / "discriminator" / "model.safetensors")
        same = [key for key in found if f"discriminator.{key}" in state and "embeddings.word" not in key]
        assert len(same) > 10
        assert all(torch.equal(found[key], state[f"discriminator.{key}"]) for key in same)
    assert (tmp_path / "run" / "best" / "generator").exists()


def test_a_run_whose_last_step_is_best_has_no_second_copy(tmp_path, monkeypatch, pretrain):
    losses = iter([3.0, 2.0, 1.0])
    monkeypatch.setattr(HeldOut, "judge", lambda self: {"loss": next(losses)})
    assert pretrain(tmp_path / "run").code == 0
    assert not (tmp_path / "run" / "best").exists()
    assert not (tmp_path / "run" / "state").exists()
