"""Fine-tuning, from a pre-training run and a labelled CSV to a run folder with a classifier."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER

from quorem.config.loading import to_mapping
from quorem.config.settings import FinetuneConfig, LabelledDataSettings
from quorem.data.bad_rows import check_some_used, report_bad_rows
from quorem.data.documents import HELD_OUT, SPLITS, RowCounts
from quorem.data.source import Source
from quorem.errors import UserError, check_choice, check_number
from quorem.files import fingerprint_files
from quorem.finetuning.checkpoint import build_classifier, model_folder, reads_whole, size_of
from quorem.finetuning.classification import (
    LENGTH_MULTIPLE,
    ClassificationProgram,
    Examples,
    encode_rows,
    label_names,
    not_nan,
    probabilities,
    scores,
    split,
    tell_classes,
    tell_unknown,
)
from quorem.finetuning.ngram_fit import install_ngrams
from quorem.lock import held
from quorem.models.checkpoint_files import weight_files
from quorem.models.classifier import CLASSIFIER_HEADS, QuoremForSequenceClassification
from quorem.models.configuration import POOLED_LAYERS, POOLINGS, TRUNCATIONS
from quorem.plan.dry_run import DryRun, measure_steps
from quorem.plan.memory import MEMORY, check_finetuning_memory
from quorem.plan.presets import preset
from quorem.plan.recipes import check_train
from quorem.tokenization import Unknown, load_tokenizer, save_tokenizer, tokenizer_files
from quorem.training import processes
from quorem.training.device import autocast_dtype, hardware
from quorem.training.longer import finished_result, lengthen
from quorem.training.loop import fit
from quorem.training.optim import build_optimizer, layerwise_lr, parameter_groups
from quorem.training.run_folder import Run

logger = logging.getLogger(__name__)

SHOWN = ("epoch", "accuracy", "macro_f1")  # of an epoch's scores

CLASSIFIER_RECIPES = ("paper", "origin")
FROZEN_RATE, THAWED_RATE = 1e-3, 1e-4  # the original's two phases
EVALUATION_ROWS = 64
LONGEST_NGRAMS = 8


def resolve(config: FinetuneConfig) -> FinetuneConfig:
    """The settings with everything left open filled in by the recipe and the pre-trained model's size, checked.

    The paper's learning rates and layer decay by size are in its Table 7; new weights get no layer decay, which would
    only slow them. The origin recipe has 1e-4 without decay, and max pooling.

    Raises:
        UserError: for an unknown name or a number out of range.
    """
    chosen, named = config.classifier, preset(size_of(config.pretrained))
    check_choice("classifier.recipe", chosen.recipe, CLASSIFIER_RECIPES)
    check_choice("classifier.head", chosen.head, CLASSIFIER_HEADS)
    check_choice("classifier.pooling", chosen.pooling or "cls", POOLINGS)
    check_choice("classifier.layers", chosen.layers, POOLED_LAYERS)
    check_choice("data.truncation", config.data.truncation, TRUNCATIONS)
    if config.train.generator_learning_rate is not None:
        raise UserError("train.generator_learning_rate: there is no generator in fine-tuning: leave it out")
    paper, rate, decay = chosen.recipe == "paper", config.train.learning_rate, chosen.layer_decay
    if rate is None:
        rate = named.finetune_learning_rate if paper else FROZEN_RATE if chosen.freeze_encoder else THAWED_RATE
    if decay is None:
        decay = named.layer_decay if paper and not chosen.from_scratch else 1.0
    pooling = chosen.pooling or (named.pooling if paper else "max")
    attention_dropout = next(
        share for share in (chosen.attention_dropout, named.attention_dropout, chosen.dropout) if share is not None
    )
    if config.train.table_updates == "rows":
        raise UserError("train.table_updates=rows: is for pre-training; fine-tuning updates whole tables: leave it out")
    train = replace(
        config.train, learning_rate=rate, schedule=config.train.schedule or "linear",
        optimizer=config.train.optimizer or "adamw",
    )  # fmt: skip
    check_train(train)
    check_number("classifier.dropout", chosen.dropout, at_least=0, below=1)
    check_number("classifier.attention_dropout", attention_dropout, at_least=0, below=1)
    check_number("classifier.layer_decay", decay, above=0, at_most=1)
    check_number("classifier.ngrams", chosen.ngrams, at_least=0, at_most=LONGEST_NGRAMS)
    check_number("classifier.ngram_rows", chosen.ngram_rows, at_least=1, at_most=2**31 - 1)
    check_number("classifier.ngram_penalty", chosen.ngram_penalty, above=0)
    check_number("data.max_length", config.data.max_length, at_least=4)
    check_number("data.validation_share", config.data.validation_share, above=0, below=1)
    check_number("data.split_seed", config.data.split_seed, at_least=0)
    chosen = replace(chosen, layer_decay=decay, pooling=pooling, attention_dropout=attention_dropout)
    return replace(config, classifier=chosen, train=train)


def finetune(config: FinetuneConfig, out: Path, *, source: Source | None = None) -> dict[str, Any]:
    """Fine-tune a pre-trained discriminator to classify texts, into the run folder `out`.

    Rows are split by data.split_column or their folders (see `choose_rows`), else as scikit-learn's train_test_split
    does; after every epoch the classifier is judged on the held-out
    rows, and the best by accuracy is kept. (The figure of the best epoch is chosen on the rows it is reported on; that
    of the last epoch is given beside it.) With recipe=origin the head is first trained on the frozen encoder, into
    out/frozen, and then everything.

    Args:
        config: the settings; what they leave open is resolved and stored.
        out: the run folder.
        source: what to read instead of data.path, such as quorem.data.dataset.DatasetSource.

    Returns:
        What result.json holds: accuracy, f1, macro_f1, loss and confusion (or confusions, see `judge`) of the best
        epoch, `last` with those of the last one, `epoch`, `labels`, and `held_out`: the splits judged on and their
        rows.

    Raises:
        UserError: for settings, data or folders that cannot be used.
    """
    begun = _begun(config, source)
    with held(out, mine=processes.rank() == 0):
        return _finetune(begun, out)


def dry_run(config: FinetuneConfig, *, source: Source | None = None) -> DryRun:
    """Do all that `finetune` does up to a few steps in a folder that is thrown away, and say what training would take.

    Judging after each epoch is not counted; of recipe origin the second phase is rehearsed, which is the longer one.

    Raises:
        UserError: what `finetune` would raise.
    """
    begun = _begun(config, source)
    program, optimizer = _program(begun)
    with TemporaryDirectory() as folder:
        run = Run(Path(folder) / "run", to_mapping(begun.config))
        return measure_steps(program, optimizer, begun.config.train, total_steps=program.total_steps, run=run)


@dataclass(frozen=True)
class _Begun:
    """What a run is made from: resolved settings, the rows, and the classifier as it starts."""

    config: FinetuneConfig
    source: Source
    counts: RowCounts
    encoder: Path
    tokenizer: PreTrainedTokenizerFast
    names: list[str]
    training: Examples
    held_out: Examples
    judged_on: list[str]
    model: QuoremForSequenceClassification


def _finetune(begun: _Begun, out: Path) -> dict[str, Any]:
    config = begun.config
    with processes.main_process_first():
        run = Run(out, to_mapping(config))
    if run.writes:
        report_bad_rows(begun.counts, out)
    weights = fingerprint_files(*weight_files(begun.encoder), *tokenizer_files(begun.encoder))
    inputs = {"data": begun.source.fingerprint(), "pretrained": weights}
    run.write_environment(inputs=inputs, seed=config.train.seed, **hardware(config.train.precision))
    otherwise = f"fine-tune {out} itself, which starts from its encoder, with another --out"
    if (done := finished_result(run, otherwise=otherwise)) is not None:
        return done
    frozen, model = None, begun.model
    if config.classifier.recipe == "origin" and not config.classifier.freeze_encoder:
        first = replace(
            config,
            classifier=replace(config.classifier, freeze_encoder=True),
            train=replace(config.train, learning_rate=FROZEN_RATE),
        )
        logger.info("first phase: the encoder frozen")
        frozen = finetune(first, out / "frozen", source=begun.source)
        logger.info("second phase: all weights")
        model = build_classifier(config, out / "frozen" / "model", begun.names, keep=True)
    result = _train(replace(begun, model=model), run)
    result |= {"labels": begun.names, "held_out": {"splits": begun.judged_on, "rows": len(begun.held_out)}}
    result |= {"frozen_accuracy": frozen["accuracy"]} if frozen else {}
    result |= {"keep_state": True} if config.train.keep_state else {}
    run.finish(result)
    return result


def _begun(config: FinetuneConfig, source: Source | None) -> _Begun:
    """Read all that is needed before the folder is made: what cannot be used leaves nothing behind."""
    config = resolve(config)
    if config.train.shard_layers:
        raise UserError("train.shard_layers=true: is for pre-training; fine-tuning keeps all weights: leave it out")
    encoder = model_folder(config.pretrained)
    tokenizer = load_tokenizer(encoder)
    source, counts = source or labelled_source(config.data), RowCounts()
    names, examples = load_examples(config, tokenizer, source, counts)
    training, held_out, judged_on = choose_rows(config.data, examples.splits, str(source))
    parts = examples.take(training), examples.take(held_out)
    tell_classes(names, *parts)
    model = build_classifier(config, encoder, names)
    limit = model.config.max_position_embeddings
    if model.config.positions == "absolute" and config.data.max_length > limit:
        raise UserError(f"data.max_length={config.data.max_length}: {encoder} has absolute positions up to {limit}")
    return _Begun(config, source, counts, encoder, tokenizer, names, *parts, judged_on, model)


def labelled_source(data: LabelledDataSettings) -> Source:
    """What fine-tuning reads, by its settings.

    Raises:
        UserError: for files or settings that cannot be used.
    """
    return Source.of(data, text_column=data.text_column, label_column=data.label_column, split_column=data.split_column)


def choose_rows(
    data: LabelledDataSettings, splits: list[str | None], name: str
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Which rows are trained on, which are held out, and the splits of the latter.

    Where rows have splits, train is trained on and those of HELD_OUT are held out; else a random share is, in no split.

    Args:
        data: its share and seed.
        splits: of each row, None for none.
        name: of the data, for messages.

    Raises:
        UserError: for a split of another name, only some rows with one, or nothing on one side.
    """
    found = {(part or "").strip() for part in splits}
    if all(part is None for part in splits):
        return *split(len(splits), share=data.validation_share, seed=data.split_seed), []
    unknown = sorted(found.difference(SPLITS))
    if unknown:
        named = ", ".join(repr(part) for part in unknown[:5])
        raise UserError(f"{name}: rows of split {named}: each must be of {', '.join(SPLITS)}: rename or leave them out")
    judged_on = sorted(found.difference({"train"}))
    if "train" not in found or not judged_on:
        raise UserError(
            f"{name}: all rows are of split {', '.join(sorted(found))}: train and one of {', '.join(HELD_OUT)} are "
            "needed: add one"
        )
    trained = np.array([(part or "").strip() == "train" for part in splits])
    return np.flatnonzero(trained), np.flatnonzero(~trained), judged_on


def load_examples(
    config: FinetuneConfig,
    tokenizer: PreTrainedTokenizerFast,
    source: Source | None = None,
    counts: RowCounts | None = None,
) -> tuple[list[str], Examples]:
    """The classes and all usable rows of the data, or of another source.

    Args:
        config: the settings.
        tokenizer: of the encoder.
        source: the rows; those of the settings if None.
        counts: a tally to keep.

    Raises:
        UserError: for a file or labels that cannot be used.
    """
    data, counts = config.data, RowCounts() if counts is None else counts
    source, texts, labels, splits = source or labelled_source(data), [], [], []
    for document in source.documents(counts):
        texts.append(document.text)
        splits.append(document.split)
        labels.append((document.label or "").strip())
    check_some_used(counts, str(source))
    kept = not_nan(labels)
    if len(kept) < len(labels):
        texts, labels, splits = [texts[i] for i in kept], [labels[i] for i in kept], [splits[i] for i in kept]
        counts.leave_out(counts.used - len(kept))
    logger.info("%s: %s", source, counts)
    names = label_names(labels)
    number = {name: i for i, name in enumerate(names)}
    max_length = None if reads_whole(config) else data.max_length
    unknown = Unknown()
    rows = encode_rows(tokenizer, texts, max_length=max_length, truncation=data.truncation, unknown=unknown)
    tell_unknown(str(source), unknown)
    return names, Examples(rows, [number[label] for label in labels], splits)


def _program(begun: _Begun) -> tuple[ClassificationProgram, torch.optim.Optimizer]:
    """What trains, after a word on its size.

    Raises:
        UserError: if it does not fit in memory.
    """
    config, model, training = begun.config, begun.model, begun.training
    kind = str(config.train.optimizer)
    dtype = autocast_dtype(config.train.precision, model.device) or torch.float32
    optimizer = build_optimizer(_groups(model, config), kind=kind, betas=(0.9, 0.999), eps=1e-6, matrix_dtype=dtype)
    longest = min(max(map(len, training.rows)) + LENGTH_MULTIPLE, config.data.max_length)
    needed = check_finetuning_memory(model)
    program = ClassificationProgram(model, training, config.train, pad_id=begun.tokenizer.pad_token_id)
    parameters = [parameter.numel() for parameter in model.parameters()]
    trained = [parameter.numel() for parameter in model.parameters() if parameter.requires_grad]
    logger.info(
        "%s rows to train on, %s tokens, and %s held out; %s classes; %s parameters, %s of them trained; "
        "%s steps of %s rows of up to %s tokens",
        *(f"{n:,}" for n in (len(training), sum(map(len, training.rows)), len(begun.held_out), len(begun.names))),
        *(f"{n:,}" for n in (sum(parameters), sum(trained), program.total_steps, config.train.batch_size, longest)),
    )
    logger.info(MEMORY, f"{needed / 1e6:,.0f}")
    return program, optimizer


def _train(begun: _Begun, run: Run) -> dict[str, Any]:
    """Train; judge after every epoch; keep the best."""
    config, model, tokenizer, held_out = begun.config, begun.model, begun.tokenizer, begun.held_out
    program, optimizer = _program(replace(begun, training=_with_ngrams(begun, run)))
    lengthen(run, config.train, program.order)
    state: dict[str, Any] = {"best": None, "last": None}

    def judge(step: int) -> None:
        if step % program.order.steps_per_epoch and step != program.total_steps:
            return
        dtype = autocast_dtype(config.train.precision, model.device)
        shares = probabilities(model, held_out.rows, pad_id=program.pad_id, batch_size=EVALUATION_ROWS, dtype=dtype)
        found = {"epoch": round(step / program.order.steps_per_epoch, 2), **scores(shares, held_out.labels)}
        state["last"] = found
        run.log({"step": step, "held_out": found})
        logger.info("epoch %g: held-out accuracy %.4f, macro f1 %.4f", *(found[key] for key in SHOWN))
        if state["best"] is None or found["accuracy"] > state["best"]["accuracy"]:
            state["best"] = found
            run.save_model("model", lambda folder: _save(model, tokenizer, config, folder))

    fit(
        program,
        optimizer,
        settings=config.train,
        total_steps=program.total_steps,
        schedule=str(config.train.schedule),
        run=run,
        after_step=judge,
        state=lambda: dict(state),
        restore=state.update,
    )
    return {**state["best"], "last": state["last"]}


def _with_ngrams(begun: _Begun, run: Run) -> Examples:
    """The training rows with the n-gram branch's scores of them, after it was fitted; without a branch as they are."""
    training, branch = begun.training, begun.model.ngrams
    if branch is None:
        return training
    penalty = begun.config.classifier.ngram_penalty
    with processes.main_process_first():
        found = install_ngrams(branch, training.rows, training.labels, penalty=penalty, folder=run.folder / "state")
    return replace(training, ngram_scores=found)


def _save(
    model: QuoremForSequenceClassification, tokenizer: PreTrainedTokenizerFast, config: FinetuneConfig, folder: Path
) -> None:
    tokenizer.model_max_length = VERY_LARGE_INTEGER if model.reads_whole else config.data.max_length
    model.save_pretrained(folder)
    save_tokenizer(tokenizer, folder)


def _groups(model: QuoremForSequenceClassification, config: FinetuneConfig) -> list[dict[str, Any]]:
    chosen, rate = config.classifier, float(config.train.learning_rate or 0)
    if chosen.freeze_encoder:
        model.electra.requires_grad_(False)

    def lr(name: str) -> float:
        return layerwise_lr(
            name,
            lr=rate,
            decay=float(chosen.layer_decay or 1),
            num_layers=model.config.num_hidden_layers,
        )

    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    return parameter_groups(
        named, lr=lr, weight_decay=config.train.weight_decay, decay_embeddings=True,
        matrix_lr=config.train.matrix_learning_rate if config.train.optimizer == "muon" else None,
    )  # fmt: skip
