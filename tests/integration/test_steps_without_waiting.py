"""A whole step of either phase makes the host wait for no device, from the batches on it to the new weights."""

from dataclasses import replace

import pytest
import torch
from small_networks import SMALL_NETWORKS
from waiting import NoWaiting

from quorem.config.finetuning import FinetuneConfig
from quorem.config.loading import override
from quorem.config.settings import PretrainConfig
from quorem.data.documents import RowCounts
from quorem.data.prepare import prepare_data
from quorem.data.source import Source
from quorem.finetuning.program import TextProgram
from quorem.plan.plan import Plan
from quorem.plan.recipes import resolve
from quorem.pretraining.program import PretrainProgram, build_pretraining_optimizer
from quorem.samples import write_reviews
from quorem.tasks.classification import Classification, CrossEntropy
from quorem.tokenization import load_tokenizer
from quorem.training.device import on_device
from quorem.training.loop import compute_gradients, update
from quorem.training.optim import build_optimizer, parameter_groups
from quorem.training.window import Window


def assert_steps_do_not_wait(program, optimizer, dtype):
    device = torch.device("cpu")
    window = Window(device)
    for step in range(3):
        batches = [on_device(each, device) for each in program.micro_batches(step, rank=0, num_processes=1)]
        assert len(batches) > 1
        if step == 0:  # makes what is made once, such as moments
            loss = compute_gradients(program, program.module, batches, dtype=dtype)
            update(program.module, optimizer, window, loss, clip_norm=1.0)
            continue
        with NoWaiting():
            loss = compute_gradients(program, program.module, batches, dtype=dtype)
            update(program.module, optimizer, window, loss, clip_norm=1.0)
    assert window.check(3) == (3, 0)
    assert program.record()["tokens"] > 0


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "reviews.csv"
    write_reviews(path, rows=80)
    return path


BF16 = torch.bfloat16


@pytest.mark.parametrize(
    ("settings", "dtype"),
    [
        (["model.embedding.kind=qr"], BF16),
        (["model.embedding.kind=qr"], None),
        (["model.embedding.kind=dense", "model.head.kind=full", "model.positions=absolute"], BF16),
        (["model.embedding.kind=mixed_radix", "model.head.kind=digits", "model.positions=alibi"], BF16),
        (["model.embedding.kind=mixed_radix", "model.head.kind=digits", "model.positions=alibi"], None),
        (["model.embedding.kind=qr", "data.rows=isolated", "model.dropout=0.1"], BF16),
        (["model.embedding.kind=qr", "data.rows=documents", "model.disentangled_embeddings=false"], None),
        (["model.embedding.kind=pq"], BF16),
        (["model.embedding.kind=low_rank", "train.gradient_checkpointing=true"], BF16),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "bf16" if value else "fp32",
)
def test_pretraining(tmp_path, reviews, settings, dtype):
    given = (
        f"data.path={reviews}", "data.text_column=review", "data.max_length=32", *SMALL_NETWORKS,
        "model.vocab_size=400", "model.embedding.tier=60", "train.batch_size=6", "train.micro_batch_size=2",
    )  # fmt: skip
    config = resolve(override(PretrainConfig(), [*given, *settings]))
    source = Source.of(config.data, text_column="review")
    made = prepare_data(tmp_path / "data", source, inputs="", settings=config.tokenizer, vocab_size=400)
    program = PretrainProgram(Plan.of(config, len(made[0])), *made)
    assert_steps_do_not_wait(program, build_pretraining_optimizer(program.module, config), dtype)


@pytest.mark.parametrize(
    "settings", [(), ("data.truncation=windows", "data.max_length=16", "classifier.ngrams=2", "classifier.sif=true")]
)
def test_finetuning(pretrained, sample_csv, settings):
    given = (
        f"pretrained={pretrained}", f"data.path={sample_csv}", "data.text_column=review",
        "data.label_column=sentiment", "train.batch_size=6", "train.micro_batch_size=2", "classifier.layers=all",
    )  # fmt: skip
    task = Classification()
    config = task.resolve(override(FinetuneConfig(), [*given, *settings]))
    tokenizer = load_tokenizer(pretrained / "discriminator")
    examples, facts = task.read(config, tokenizer, task.source(config.data), RowCounts())
    model = task.build(config, pretrained / "discriminator", facts).train()
    if model.branches:
        examples = replace(examples, branch_scores=torch.zeros(len(examples), len(facts["labels"])))
    how = {"pad_id": tokenizer.pad_token_id, "objective": CrossEntropy()}
    program = TextProgram(model, examples, config.train, **how)
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    groups = parameter_groups(trained, lr=1e-3, weight_decay=0.01, decay_embeddings=True)
    optimizer = build_optimizer(groups, kind="adamw", betas=(0.9, 0.999), eps=1e-6)
    assert_steps_do_not_wait(program, optimizer, torch.bfloat16)
