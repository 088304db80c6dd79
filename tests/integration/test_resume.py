"""pretrain(): interrupted runs, other micro-batches, folders that hold something else."""

import json
import math
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch._inductor.config as inductor
from safetensors.torch import load_file
from small_networks import SMALL_NETWORKS

from quorem.config.loading import override
from quorem.config.settings import PretrainConfig
from quorem.data.prepare import prepare_data
from quorem.data.source import Source
from quorem.errors import UserError
from quorem.plan.plan import Plan
from quorem.plan.recipes import resolve
from quorem.pretraining.pretrain import pretrain
from quorem.pretraining.program import PretrainProgram
from quorem.samples import write_reviews

STEPS, CHECKPOINT_EVERY, LOG_EVERY = 9, 2, 3


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "reviews.csv"
    write_reviews(path, rows=100)
    return path


def settings(path, *assignments):
    return override(
        PretrainConfig(),
        [
            f"data.path={path}",
            "data.text_column=review",
            "data.max_length=32",
            *SMALL_NETWORKS,
            "model.vocab_size=400",
            "model.dropout=0.1",
            "train.batch_size=8",
            "train.precision=fp32",
            f"train.max_steps={STEPS}",
            f"train.checkpoint_every={CHECKPOINT_EVERY}",
            f"train.log_every={LOG_EVERY}",
            *assignments,
        ],
    )


def weights(run_folder):
    return {
        (name, key): value
        for name in ("discriminator", "generator")
        for key, value in load_file(run_folder / name / "model.safetensors").items()
    }


def metrics(run_folder):
    return [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]


def curve(run_folder):
    """The metrics without what depends on the clock."""
    return [
        {key: value for key, value in line.items() if key not in ("tokens_per_second", "seconds_left")}
        for line in metrics(run_folder)
    ]


def interrupt_after(monkeypatch, step):
    """Stop, as Ctrl-C does, when so many steps are done."""
    asked = PretrainProgram.micro_batches

    def micro_batches(self, at, **share):
        if at == step:
            raise KeyboardInterrupt
        return asked(self, at, **share)

    monkeypatch.setattr(PretrainProgram, "micro_batches", micro_batches)


def assert_bit_identical(one, other):
    assert one.keys() == other.keys()
    assert [key for key in one if not torch.equal(one[key], other[key])] == []


@pytest.mark.parametrize(
    ("embedding", "precision", "rows", "more"),
    [
        ("qr", "bf16", "packed", ()), ("dense", "fp32", "isolated", ()),
        ("dense", "fp32", "documents", ("train.table_updates=rows", "model.head.kind=two_level")),
        ("memcom", "fp32", "packed", ("train.table_updates=rows", "train.micro_batch_size=3")),
    ],
)  # fmt: skip
def test_an_interrupted_run_ends_bit_for_bit_like_an_uninterrupted_one(
    tmp_path, monkeypatch, reviews, precision, embedding, rows, more
):
    """Trap 20, bit for bit: masks, samples, dropout and order after resuming are those there would have been."""
    config = settings(
        reviews, f"train.precision={precision}", f"model.embedding.kind={embedding}", "model.embedding.tier=60",
        f"data.rows={rows}", *more,
    )  # fmt: skip
    whole = pretrain(config, tmp_path / "whole")
    for step in (1, 5, 8):  # before the first checkpoint, between two, after the last
        with monkeypatch.context() as patch:
            interrupt_after(patch, step)
            with pytest.raises(KeyboardInterrupt):
                pretrain(config, tmp_path / "cut")
        assert not (tmp_path / "cut" / "result.json").exists()
    states = sorted(path.name for path in (tmp_path / "cut" / "state").iterdir())
    assert states == ["step-000006", "step-000008"]
    torch.rand(3)  # the global generator's state is of no account
    cut = pretrain(config, tmp_path / "cut")
    assert_bit_identical(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    assert [line["step"] for line in metrics(tmp_path / "cut")] == [3, 6, 9]
    assert curve(tmp_path / "cut") == curve(tmp_path / "whole")
    assert cut["parameters"] == whole["parameters"]
    assert not (tmp_path / "cut" / "state").exists()


def test_a_run_killed_after_its_result_leaves_no_state_when_it_is_called_again(tmp_path, monkeypatch, reviews):
    def dropped(folder, **_):
        if folder.name == "state":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", dropped)
        with pytest.raises(KeyboardInterrupt):
            pretrain(settings(reviews), tmp_path / "run")
    assert (tmp_path / "run" / "result.json").exists()
    assert (tmp_path / "run" / "state").exists()
    pretrain(settings(reviews), tmp_path / "run")
    assert not (tmp_path / "run" / "state").exists()


def test_a_crash_while_a_checkpoint_is_written_leaves_the_one_before(tmp_path, monkeypatch, reviews):
    config = settings(reviews)
    pretrain(config, tmp_path / "whole")
    saved = torch.save

    def save(state, file):
        saved(state, file)
        if state["step"] == 4:
            raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", save)
        with pytest.raises(OSError, match="no space"):
            pretrain(config, tmp_path / "cut")
    assert [path.name for path in (tmp_path / "cut" / "state").iterdir()] == ["step-000002"]
    pretrain(config, tmp_path / "cut")
    assert_bit_identical(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    assert [line["step"] for line in metrics(tmp_path / "cut")] == [3, 6, 9]


@pytest.mark.parametrize(("size", "rows"), [(1, "packed"), (3, "isolated"), (3, "documents")])
def test_the_size_of_micro_batches_changes_nothing(tmp_path, reviews, size, rows):
    """Traps 13 and 14; Adam would hide a wrong scale, so losses and gradient norms are compared too."""
    options = ("model.dropout=0", "train.max_steps=4", "train.log_every=1", "objective.recipe=google")
    options += (f"data.rows={rows}",)
    pretrain(settings(reviews, *options), tmp_path / "whole")
    pretrain(settings(reviews, *options, f"train.micro_batch_size={size}"), tmp_path / "cut")
    for one, other in zip(metrics(tmp_path / "whole"), metrics(tmp_path / "cut"), strict=True):
        for key in ("loss", "gradient_norm", "mlm_loss", "rtd_loss", "share_replaced"):
            assert one[key] == pytest.approx(other[key], rel=1e-5), key
    other = weights(tmp_path / "cut")
    for key, value in weights(tmp_path / "whole").items():
        assert (value - other[key]).abs().max() < 1e-5, key


def prepared(config, folder):
    source = Source.of(config.data, text_column=config.data.text_column)
    vocab_size = config.model.vocab_size
    return prepare_data(folder / "data", source, inputs="", settings=config.tokenizer, vocab_size=vocab_size)


def test_masks_differ_by_step_and_epoch_and_not_by_process_or_micro_batch(tmp_path, reviews):
    """Trap 20, and 14 for processes: together they see exactly what one would."""
    config = resolve(settings(reviews))
    made = prepared(config, tmp_path)
    plan = Plan.of(config, len(made[0]))
    program = PretrainProgram(plan, *made)

    def seen(program, step, num_processes=1):
        parts = [
            part
            for rank in range(num_processes)
            for part in program.micro_batches(step, rank=rank, num_processes=num_processes)
        ]
        assert len({(part.num_chosen, part.num_tokens) for part in parts}) == 1  # of the whole step
        assert sum(part.own_tokens for part in parts) == parts[0].num_tokens
        names = ("input_ids", "masked_ids", "uniforms")
        ids, hidden, noise = (torch.cat([getattr(part.inputs, name) for part in parts]) for name in names)
        return ids, hidden == program.mask_id, noise

    fewer = replace(config, train=replace(config.train, micro_batch_size=3))
    small = PretrainProgram(replace(plan, config=fewer), *made)
    for step in (0, 5, program.order.steps_per_epoch - 1):
        for other in (seen(program, step), seen(small, step), seen(program, step, 3), seen(small, step, 2)):
            assert all(torch.equal(a, b) for a, b in zip(seen(program, step), other, strict=True))
    assert not torch.equal(seen(program, 0)[1], seen(program, 1)[1])

    def pad(chosen):
        return torch.nn.functional.pad(chosen, (0, config.data.max_length - chosen.shape[1]))

    epochs = []
    for epoch in range(2):  # the same rows in both epochs, in the same order: are other places masked?
        steps = range(epoch * program.order.steps_per_epoch, (epoch + 1) * program.order.steps_per_epoch)
        chosen = torch.cat([pad(seen(program, step)[1]) for step in steps])
        epochs.append(chosen[torch.from_numpy(program.order.permutation(epoch)).argsort()])
    assert (epochs[0] != epochs[1]).any(1).float().mean() > 0.99
    assert abs((epochs[0] & epochs[1]).float().mean() / epochs[0].float().mean() - 0.15) < 0.03


def test_a_folder_with_another_run_is_a_user_error_that_names_the_setting(tmp_path, reviews):
    pretrain(settings(reviews, "train.max_steps=1"), tmp_path / "run")
    with pytest.raises(UserError, match=r"train\.seed: 0 there, 5 here"):
        pretrain(settings(reviews, "train.max_steps=1", "train.seed=5"), tmp_path / "run")


def test_a_folder_with_foreign_files_is_a_user_error_and_stays_as_it_is(tmp_path, reviews):
    (tmp_path / "thesis.tex").write_text("three years of work")
    with pytest.raises(UserError, match=r"thesis\.tex"):
        pretrain(settings(reviews), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_run_that_goes_on_in_another_precision_says_so(tmp_path, monkeypatch, caplog, reviews):
    config = settings(reviews, "train.precision=auto")
    with monkeypatch.context() as patch:
        interrupt_after(patch, 5)
        patch.setattr("quorem.pretraining.pretrain.hardware", lambda precision: {"device": "cpu", "precision": "fp16"})
        with pytest.raises(KeyboardInterrupt):
            pretrain(config, tmp_path / "run")
    pretrain(config, tmp_path / "run")
    assert re.search(r"run: the run started with precision fp16 and continues with (fp32|bf16)", caplog.text)


def test_a_finished_run_is_returned_as_it_is(tmp_path, monkeypatch, reviews):
    config = settings(reviews, "train.max_steps=1")
    first = pretrain(config, tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.*") if path.name != "config.yaml"}
    monkeypatch.setattr("quorem.pretraining.pretrain.fit", None)
    again = pretrain(override(config, ["train.log_every=1"]), tmp_path / "run")
    assert again == json.loads(json.dumps(first))
    assert math.isfinite(again["mlm_loss"])
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_data_that_changed_since_the_run_was_begun_is_a_user_error(tmp_path, monkeypatch):
    path = tmp_path / "reviews.csv"
    write_reviews(path, rows=30)
    interrupt_after(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        pretrain(settings(path), tmp_path / "run")
    path.write_text(path.read_text() + "One more line.,positive\n")
    with pytest.raises(UserError, match=r"\(data\) has changed since"):
        pretrain(settings(path), tmp_path / "run")


def test_shards_of_another_tokenizer_are_refused(tmp_path, monkeypatch):
    folders = []
    for rows in (30, 60):
        path = tmp_path / f"{rows}.csv"
        write_reviews(path, rows=rows)
        interrupt_after(monkeypatch, 1)
        folders.append(tmp_path / f"run-{rows}")
        with pytest.raises(KeyboardInterrupt):
            pretrain(settings(path), folders[-1])
    shutil.rmtree(folders[1] / "data" / "tokenizer")
    shutil.copytree(folders[0] / "data" / "tokenizer", folders[1] / "data" / "tokenizer")
    with pytest.raises(UserError, match=r"tokenizer: was made from something else \(it differs in data\): delete"):
        pretrain(settings(path), folders[1])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_gradient_checkpointing_changes_memory_alone(tmp_path, reviews, precision):
    given = (reviews, f"train.precision={precision}", "model.dropout=0.1", "train.max_steps=3")
    pretrain(settings(*given), tmp_path / "kept")
    pretrain(settings(*given, "train.gradient_checkpointing=true"), tmp_path / "again")
    assert_bit_identical(weights(tmp_path / "kept"), weights(tmp_path / "again"))


@pytest.mark.skipif(shutil.which("g++") is None, reason="no compiler")
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@inductor.patch(fallback_random=True)
def test_compiled_layers_learn_the_same_and_resume_bit_for_bit(tmp_path, monkeypatch, reviews):
    """Compiling is what takes time here: both networks have the same layer, which drops what a plain one drops. The
    compiler's own random numbers, which it takes otherwise, come from the same generator."""
    sizes = {"num_hidden_layers": 1, "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 1}
    layers = [f"model.{name}.{key}={size}" for name in ("discriminator", "generator") for key, size in sizes.items()]
    plain = (reviews, *layers, "train.max_steps=6")
    given = (*plain, "train.compile=true")
    pretrain(settings(*plain), tmp_path / "plain")
    pretrain(settings(*given), tmp_path / "whole")
    one, other = weights(tmp_path / "plain"), weights(tmp_path / "whole")
    assert max((one[key] - other[key]).abs().max() for key in one) < 1e-4
    assert one.keys() == other.keys()
    with monkeypatch.context() as patch:
        interrupt_after(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            pretrain(settings(*given), tmp_path / "cut")
    torch.compiler.reset()
    pretrain(settings(*given), tmp_path / "cut")
    assert_bit_identical(weights(tmp_path / "whole"), weights(tmp_path / "cut"))


def test_without_a_compiler_compiling_is_refused(monkeypatch, reviews):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"no C\+\+ compiler is installed"):
        resolve(settings(reviews, "train.compile=true"))


def test_start_vectors_are_of_the_window_that_is_asked_for(tmp_path, monkeypatch, reviews):
    interrupt_after(monkeypatch, 1)
    found = []
    for window in (1, 5):
        run = tmp_path / str(window)
        with pytest.raises(KeyboardInterrupt):
            pretrain(settings(reviews, f"model.embedding.start_window={window}"), run)
        found.append(np.load(run / "data" / "start.npy"))
    assert found[0].shape == found[1].shape
    assert np.abs(found[0] - found[1]).max() > 0.1


def test_start_vectors_are_of_the_width_that_is_asked_for(tmp_path, monkeypatch, reviews):
    """A run that was refused or killed before its first step may be begun again with other sizes."""
    with monkeypatch.context() as patch:
        interrupt_after(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            pretrain(settings(reviews, "model.embedding_size=8"), tmp_path / "begun")
    assert not (tmp_path / "begun" / "metrics.jsonl").exists()
    for name in ("begun", "fresh"):
        pretrain(settings(reviews, "model.embedding_size=24"), tmp_path / name)
    assert_bit_identical(weights(tmp_path / "fresh"), weights(tmp_path / "begun"))


def test_a_run_that_has_logged_and_has_no_checkpoint_begins_from_the_same_vectors(tmp_path, monkeypatch, reviews):
    """They are there until the run is finished, and gone then."""
    config = settings(reviews, "train.log_every=1", "train.checkpoint_every=1000")
    pretrain(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            pretrain(config, tmp_path / "begun")
    assert metrics(tmp_path / "begun")
    assert (tmp_path / "begun" / "data" / "start.npy").exists()
    pretrain(config, tmp_path / "begun")
    assert_bit_identical(weights(tmp_path / "whole"), weights(tmp_path / "begun"))
    assert curve(tmp_path / "whole") == curve(tmp_path / "begun")
    assert not list(tmp_path.glob("*/data/start.npy"))
