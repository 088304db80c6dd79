"""What tasks on texts share: an encoder to start from, rows that are split, layer-wise rates, predictions."""

import logging
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER

from quorem.config.loading import check_bounds
from quorem.data.batches import WEIGHTS, step_seed
from quorem.data.documents import Document, RowCounts
from quorem.data.readers.table import Column
from quorem.data.source import Source
from quorem.errors import UserError, check_choice
from quorem.files import fingerprint_files
from quorem.finetuning.baseline import Baseline
from quorem.finetuning.checkpoint import load_model, model_folder, size_of
from quorem.finetuning.program import LENGTH_MULTIPLE, Objective, TextProgram, reads_whole, row_length
from quorem.finetuning.rows import Examples, choose_rows, with_midi_of_run
from quorem.finetuning.task import Begun, Task, check_train_of_finetuning
from quorem.models.checkpoint_files import weight_files
from quorem.models.classifier import CLASSIFIER_HEADS
from quorem.models.configuration import POOLED_LAYERS, POOLINGS, TRUNCATIONS
from quorem.models.modeling import QuoremPreTrainedModel
from quorem.plan.presets import preset
from quorem.plan.recipes import check_train
from quorem.silence import silence_transformers
from quorem.tokenization import Unknown, load_tokenizer, save_tokenizer, tokenizer_files
from quorem.training import processes
from quorem.training.device import autocast_dtype
from quorem.training.optim import build_optimizer, layerwise_lr, parameter_groups
from quorem.training.run_folder import Run

logger = logging.getLogger(__name__)

EVALUATION_ROWS = 64
FROZEN_RATE, THAWED_RATE = 1e-3, 1e-4  # the original's two phases


class TextTask(Task):
    """A task whose rows are texts.

    Attributes:
        model_class: an encoder with the task's head.
        network: of `quorem.models.checkpoint_files.read_weights`.
        problem_type: as transformers has it in config.json; None where the class says it all.
        new: how names of weights begin that a pre-trained model lacks.
        row_kind: what a row to predict is: text, words (a prediction is a list of tags, one for each word), choices, or
            question (a prediction is an answer, the first of the columns).
        text_columns: settings of section data that name columns of text beside data.text_column.
        linear: the linear model that is the baseline; empty where there is none.
    """

    model_class: ClassVar[type[QuoremPreTrainedModel]]
    network: ClassVar[str]
    problem_type: ClassVar[str | None] = None
    new: ClassVar[tuple[str, ...]]
    row_kind: ClassVar[str] = "text"
    text_columns: ClassVar[tuple[str, ...]] = ()
    linear: ClassVar[str] = ""
    otherwise = "fine-tune {out} itself, which starts from its encoder, with another --out"

    @abstractmethod
    def read(
        self, config: Any, tokenizer: PreTrainedTokenizerFast, source: Source, counts: RowCounts
    ) -> tuple[Examples, dict[str, Any]]:
        """All usable rows, and what result.json says of them.

        Raises:
            UserError: for data that cannot be used.
        """

    @abstractmethod
    def encode(
        self, documents: Sequence[Document], tokenizer: PreTrainedTokenizerFast, data: Any, model: Any, unknown: Unknown
    ) -> Examples:
        """Rows to predict, without labels.

        Args:
            documents: rows as they are read; a blank text is encoded too.
            tokenizer: of the model.
            data: the settings of the section data.
            model: that predicts.
            unknown: a tally to keep.
        """

    @abstractmethod
    def changes(self, config: Any, facts: dict[str, Any]) -> dict[str, Any]:
        """Entries of the model's config.json that the task sets."""

    @abstractmethod
    def objective(self, begun: Begun) -> Objective:
        """Labels and loss."""

    @abstractmethod
    def outputs(self, model: Any, examples: Examples, **how: Any) -> Any:
        """What the model says of rows: tensors that may be averaged over models; see `quorem.finetuning.program`.

        Args:
            model: as loaded.
            examples: rows.
            how: pad_id, batch_size and dtype of `infer`.
        """

    @abstractmethod
    def scores(self, outputs: Any, examples: Examples, config: Any) -> dict[str, Any]:
        """Scores of what `outputs` gave, by the rows' labels; `config` is the model's."""

    @abstractmethod
    def columns(self, config: Any) -> tuple[Column, ...]:
        """Those that predictions add to a file; `config` is the model's."""

    @abstractmethod
    def decode(self, outputs: Any, examples: Examples, documents: Sequence[Document], config: Any) -> list[Any]:
        """What is predicted for each document, as values of `columns`."""

    def linear_outputs(self, baseline: Baseline, begun: Begun) -> Any:
        """What the linear model says of the held-out rows, as `outputs` has it."""
        raise NotImplementedError

    def document(self, value: Any) -> Document:
        """A row to predict from what Python gives for it; a text alone, if a task says nothing else.

        Raises:
            UserError: if it is something else.
        """
        if not isinstance(value, str):
            raise UserError(f"{value!r}: a text is needed for each row")
        return Document(value)

    def source(self, data: Any) -> Source:
        """What is read, by the settings.

        Raises:
            UserError: for files or settings that cannot be used.
        """
        return Source.of(data, **self.reading(data))

    def reading(self, data: Any) -> dict[str, Any]:
        """The columns that are read, as `Source.of` and `DatasetSource.of_rows` take them."""
        return super().reading(data) | {"more_columns": self.more_columns(data)}

    def more_columns(self, data: Any) -> tuple[str, ...]:
        """The columns of text beside data.text_column."""
        return tuple(name for each in self.text_columns if (name := getattr(data, each)) is not None)

    def from_scratch(self, config: Any) -> Any:
        """As in `Task`."""
        return replace(config, classifier=replace(config.classifier, from_scratch=True))

    def without_baseline(self, config: Any) -> Any:
        """As in `Task`."""
        return replace(config, classifier=replace(config.classifier, baseline=False)) if self.linear else config

    def resolve(self, config: Any) -> Any:
        """The settings with everything left open filled in by the recipe and the pre-trained model's size, checked.

        The paper's learning rates and layer decay by size are in its Table 7; new weights get no layer decay, which
        would only slow them.

        Raises:
            UserError: for an unknown name or a number out of range.
        """
        config = replace(config, data=with_midi_of_run(config.data, config.pretrained))
        chosen, named = config.classifier, preset(size_of(config.pretrained))
        check_train_of_finetuning(config.train)
        paper, rate, decay = self.is_paper(config), config.train.learning_rate, chosen.layer_decay
        if rate is None:
            rate = named.finetune_learning_rate if paper else FROZEN_RATE if chosen.freeze_encoder else THAWED_RATE
        if decay is None:
            decay = named.layer_decay if paper and not chosen.from_scratch else 1.0
        attention_dropout = next(
            share for share in (chosen.attention_dropout, named.attention_dropout, chosen.dropout) if share is not None
        )
        train = replace(
            config.train, learning_rate=rate, schedule=config.train.schedule or "linear",
            optimizer=config.train.optimizer or "adamw",
        )  # fmt: skip
        check_train(train)
        check_bounds(config)
        filled = {"layer_decay": decay, "attention_dropout": attention_dropout}
        if hasattr(chosen, "pooling"):
            check_choice("classifier.head", chosen.head, CLASSIFIER_HEADS)
            check_choice("classifier.pooling", chosen.pooling or "cls", POOLINGS)
            check_choice("classifier.layers", chosen.layers, POOLED_LAYERS)
            filled["pooling"] = chosen.pooling or (named.pooling if paper else "max")
        if hasattr(config.data, "truncation"):
            check_choice("data.truncation", config.data.truncation, TRUNCATIONS)
        return replace(config, classifier=replace(chosen, **filled), train=train)

    def is_paper(self, config: Any) -> bool:
        """Whether rates are those of the paper."""
        return True

    def begin(self, config: Any, source: Source | None) -> Begun:
        """As in `Task`."""
        encoder = model_folder(config.pretrained)
        tokenizer = load_tokenizer(encoder)
        source, counts = source or self.source(config.data), RowCounts()
        examples, facts = self.read(config, tokenizer, source, counts)
        training, held_out, judged_on = self.choose(config.data, examples, str(source))
        parts = examples.take(training), examples.take(held_out)
        facts = facts | {"held_out": {"splits": judged_on, "rows": len(held_out)}}
        facts |= self.more_facts(config, facts, *parts)
        model = self.build(config, encoder, facts)
        limit = model.config.max_position_embeddings
        if model.config.positions == "absolute" and config.data.max_length > limit:
            raise UserError(f"data.max_length={config.data.max_length}: {encoder} has absolute positions up to {limit}")
        if examples.boundaries and model.config.type_vocab_size < 2:
            raise UserError(f"{encoder}: knows one type of tokens only, so it cannot tell the texts of a pair apart")
        weights = fingerprint_files(*weight_files(encoder), *tokenizer_files(encoder))
        inputs = {"data": source.fingerprint(), "pretrained": weights}
        return Begun(config, source, inputs, counts, tokenizer, *parts, model, facts, encoder)

    def choose(self, data: Any, examples: Examples, name: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """Which rows are trained on and which are held out: `quorem.finetuning.rows.choose_rows`."""
        return choose_rows(data, examples.splits, name)

    def average(self, outputs: Sequence[Any]) -> Any:
        """What several models say, as one: the mean of their tensors, or of each of the tensors in their lists."""
        return mean(outputs)

    def settle(self, config: Any, ensemble: Mapping[str, Any]) -> None:
        """Take over into a model's config what the scores of its average with others (`judge_average`) have settled."""

    def more_facts(self, config: Any, facts: dict[str, Any], training: Examples, held_out: Examples) -> dict[str, Any]:
        """What result.json also says, by the rows of both sides; warns of what is odd about them."""
        return {}

    def build(self, config: Any, source: Path, facts: dict[str, Any], *, keep: bool = False) -> Any:
        """The model on the encoder of `source`; new weights where it has none, or everywhere for the control.

        Args:
            config: resolved settings.
            source: a model folder.
            facts: of `read`.
            keep: whether `source` is a model of the task to go on with, its head included, the control's too.

        Raises:
            UserError: if the model in `source` cannot be used.
        """
        chosen = config.classifier
        torch.manual_seed(step_seed(config.train.seed, WEIGHTS))
        model = load_model(
            self.model_class, self.network, source, may_lack=() if keep else self.new,
            problem_type=self.problem_type, hidden_dropout_prob=chosen.dropout,
            attention_probs_dropout_prob=chosen.attention_dropout, **self.changes(config, facts),
        )  # fmt: skip
        if chosen.from_scratch and not keep:
            model.apply(model._init_weights)  # parameters only: the order of ids is kept
        return model

    def program(self, begun: Begun) -> TextProgram:
        """As in `Task`."""
        return TextProgram(
            begun.model, begun.training, begun.config.train, pad_id=begun.tokenizer.pad_token_id,
            objective=self.objective(begun),
        )  # fmt: skip

    def optimizer(self, begun: Begun) -> torch.optim.Optimizer:
        """As in `Task`: a rate for each layer."""
        train = begun.config.train
        dtype = autocast_dtype(train.precision, begun.model.device) or torch.float32
        groups = groups_of(begun.model, begun.config)
        return build_optimizer(groups, kind=str(train.optimizer), betas=(0.9, 0.999), eps=1e-6, matrix_dtype=dtype)

    def judge(self, begun: Begun) -> dict[str, Any]:
        """As in `Task`."""
        dtype = autocast_dtype(begun.config.train.precision, begun.model.device)
        pad_id = begun.tokenizer.pad_token_id
        found = self.outputs(begun.model, begun.held_out, pad_id=pad_id, batch_size=EVALUATION_ROWS, dtype=dtype)
        return self.scores(found, begun.held_out, begun.model.config)

    def judge_average(self, begun: Begun, folders: Sequence[Path]) -> dict[str, Any]:
        """As in `Task`, of the held-out rows."""
        outputs = []
        for folder in folders:  # one in memory at a time
            model = load_model(self.model_class, self.network, folder).eval().to(begun.model.device)
            dtype = autocast_dtype(begun.config.train.precision, model.device)
            how = {"pad_id": begun.tokenizer.pad_token_id, "batch_size": EVALUATION_ROWS, "dtype": dtype}
            outputs.append(self.outputs(model, begun.held_out, **how))
        return self.scores(self.average(outputs), begun.held_out, begun.model.config)

    def finish(self, begun: Begun, run: Run, best: dict[str, Any], last: dict[str, Any]) -> dict[str, Any]:
        """As in `Task`, with `baselines`."""
        return super().finish(begun, run, best, last) | self.baselines(begun)

    def baselines(self, begun: Begun) -> dict[str, Any]:
        """As in `Task`, of a linear model."""
        training, held_out, began = begun.training, begun.held_out, time.perf_counter()
        if not (training.texts and processes.rank() == 0):
            return {}
        columns, seed = len(begun.facts.get("labels", [0])), begun.config.data.split_seed
        found = Baseline.of(training.texts, training.labels, held_out.texts, columns=columns, seed=seed)
        if found is None:
            logger.info("no baseline: the texts have no words to count")
            return {}
        scores = self.scores(self.linear_outputs(found, begun), held_out, begun.model.config)
        numbers = {name: value for name, value in scores.items() if isinstance(value, int | float)}
        name = f"{found.name}, {self.linear}"
        logger.info(
            "baseline (%s; %s training rows, %.0f s): %s",
            name, f"{len(found.labels):,}", time.perf_counter() - began,
            ", ".join(f"{each} {numbers[each]:.4f}" for each in self.shown),
        )  # fmt: skip
        return {"baselines": {name: {**numbers, "training_rows": len(found.labels)}}}

    def describe(self, begun: Begun, program: Any) -> str:
        """As in `Task`, with the number of tokens."""
        training, train, parameters = begun.training, begun.config.train, list(begun.model.parameters())
        lengths = [row_length(row) for row in program.examples.rows]
        numbers = {
            "rows": len(training), "tokens": sum(lengths), "held": len(begun.held_out),
            "parameters": sum(each.numel() for each in parameters),
            "trained": sum(each.numel() for each in parameters if each.requires_grad),
            "steps": program.total_steps, "size": train.batch_size,
            "longest": min(max(lengths) + LENGTH_MULTIPLE, begun.config.data.max_length),
        }  # fmt: skip
        return (
            "{rows:,} rows to train on, {tokens:,} tokens, and {held:,} held out; " + self.kinds(begun)
            + "{parameters:,} parameters, {trained:,} of them trained; {steps:,} steps of {size:,} rows of up to "
            "{longest:,} tokens"
        ).format(**numbers)  # fmt: skip

    def kinds(self, begun: Begun) -> str:
        """How many classes there are, for that line."""
        return ""

    def save(self, begun: Begun, folder: Path) -> None:
        """As in `Task`."""
        whole = reads_whole(begun.model)
        begun.tokenizer.model_max_length = VERY_LARGE_INTEGER if whole else begun.config.data.max_length
        with silence_transformers():
            begun.model.save_pretrained(folder)
        save_tokenizer(begun.tokenizer, folder)


def mean(outputs: Sequence[Any]) -> Any:
    """The mean of tensors, or of each of several lists of tensors."""
    if len(outputs) == 1:
        return outputs[0]
    if isinstance(outputs[0], torch.Tensor):
        return torch.stack(list(outputs)).mean(0)
    return [mean(each) for each in zip(*outputs, strict=True)]


def groups_of(model: PreTrainedModel, config: Any) -> list[dict[str, Any]]:
    """Parameter groups with a rate for each layer (`layerwise_lr`); a frozen encoder is in none.

    Args:
        model: its encoder is `electra`.
        config: resolved settings of a task on texts.
    """
    chosen, train = config.classifier, config.train
    rate, decay = float(train.learning_rate or 0), float(chosen.layer_decay or 1)
    if chosen.freeze_encoder:
        model.electra.requires_grad_(False)

    def lr(name: str) -> float:
        return layerwise_lr(name, lr=rate, decay=decay, num_layers=model.config.num_hidden_layers)

    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    return parameter_groups(
        named, lr=lr, weight_decay=train.weight_decay, decay_embeddings=True,
        matrix_lr=train.matrix_learning_rate if train.optimizer == "muon" else None,
    )  # fmt: skip
