"""Recipes for optimisation, and resolved settings of a pre-training run."""

from dataclasses import dataclass, replace
from typing import TypeVar

from quorem.config.loading import check_bounds
from quorem.config.settings import PretrainConfig, TrainSettings
from quorem.data.readers import READERS
from quorem.data.rows import ROWS
from quorem.errors import UserError, check_choice
from quorem.plan.layout import with_kind, with_table_defaults
from quorem.plan.presets import network_configs, preset
from quorem.tokenization.train import check_tokenizer
from quorem.training.device import PRECISIONS, check_compiler
from quorem.training.optim import OPTIMIZERS
from quorem.training.row_adam import UPDATES
from quorem.training.schedule import SCHEDULES
from quorem.training.tracking import check_tracker

T = TypeVar("T")

AUTO, DEFAULT_SIZE = "auto", "small"  # of model.size, without data to choose by


@dataclass(frozen=True)
class Recipe:
    """Defaults of the optimisation settings."""

    optimizer: str
    schedule: str
    betas: tuple[float, float]
    keep_rate: float
    decay_embeddings: bool
    start_at_unigram: bool


RECIPES: dict[str, Recipe] = {
    # Every chosen token masked (paper, sec. 2), Muon for layers' matrices and AdamW with beta2 0.98, embeddings not
    # decayed, a start at the unigram distribution: docs/explanation.md.
    "modern": Recipe("muon", "linear", (0.9, 0.98), 0.0, False, True),
    # google-research/electra: model/optimization.py and pretrain/pretrain_helpers.py.
    "google": Recipe("google", "google", (0.9, 0.999), 0.15, True, False),
}


def resolve(config: PretrainConfig) -> PretrainConfig:
    """Fill in the defaults of preset and recipe, and check the settings.

    Raises:
        UserError: for an unknown name or a number out of range.
    """
    size = DEFAULT_SIZE if config.model.size == AUTO else config.model.size
    named, objective, data = preset(size), config.objective, config.data
    check_choice("objective.recipe", objective.recipe, RECIPES)
    recipe, train = RECIPES[objective.recipe], config.train
    learning_rate = _given(train.learning_rate, named.learning_rate)
    check_choice("data.format", data.format, ("auto", *READERS))
    check_choice("data.rows", data.rows, ROWS)
    width = _given(config.model.embedding_size, named.embedding_size)
    # a given rate is for both networks
    generator_rate = named.generator_learning_rate if train.learning_rate is None else None
    config = replace(
        config,
        data=replace(data, max_length=_given(data.max_length, named.max_length)),
        model=replace(
            with_table_defaults(with_kind(config.model, vocab_size=config.model.vocab_size, width=width)),
            size=size,
            positions=_given(config.model.positions, named.positions),
            initializer=_given(config.model.initializer, named.initializer),
            dropout=_given(config.model.dropout, named.dropout),
            embedding_size=width,
            disentangled_embeddings=_given(
                config.model.disentangled_embeddings, config.model.shared_embeddings and named.disentangled_embeddings
            ),
        ),
        objective=replace(
            objective,
            mask_rate=_given(objective.mask_rate, named.mask_rate),
            keep_rate=_given(objective.keep_rate, recipe.keep_rate),
        ),
        train=replace(
            train,
            learning_rate=learning_rate,
            generator_learning_rate=_given(train.generator_learning_rate, _given(generator_rate, learning_rate)),
            schedule=_given(train.schedule, recipe.schedule),
            optimizer=_given(train.optimizer, recipe.optimizer),
        ),
    )
    check_train(config.train)
    check_pretraining(config)
    return config


def check_pretraining(config: PretrainConfig) -> None:
    """Check the settings of pre-training, before anything is built.

    Raises:
        UserError: naming the key.
    """
    check_bounds(config)
    check_tokenizer(config.tokenizer, config.model.vocab_size)
    if config.model.disentangled_embeddings and not config.model.shared_embeddings:
        raise UserError("model.disentangled_embeddings=true needs model.shared_embeddings=true: set both, or neither")
    check_choice("model.init_optimizer", config.model.init_optimizer, ("fresh", "kept"))
    if config.model.init_optimizer == "kept" and config.model.init_from is None:
        raise UserError("model.init_optimizer=kept needs --init-from, with a run that had train.keep_state=true")
    network_configs(config.model, vocab_size=config.model.vocab_size, max_length=config.data.max_length or 0)


def check_train(train: TrainSettings) -> None:
    """Check the loop's settings.

    Raises:
        UserError: naming the key.
    """
    check_bounds(train, "train.")
    check_choice("train.schedule", train.schedule, SCHEDULES)
    if train.optimizer is not None:
        check_choice("train.optimizer", train.optimizer, OPTIMIZERS)
    check_choice("train.precision", train.precision, PRECISIONS)
    check_choice("train.table_updates", train.table_updates, UPDATES)
    if train.compile:
        check_compiler()
    if train.tracker is not None:
        check_tracker(train.tracker)


def _given(value: T | None, default: T) -> T:
    return default if value is None else value
