"""Named sizes, and the configs of both networks that settings describe.

small, base and large are the paper's (Table 6), small++ is the released small model (README of google-research/electra;
its generator is as wide as the discriminator). They keep absolute positions and BERT's initialisation, as transformers
has them. origin has the sizes of the original repository; tiny is for samples and tests. These two are for small
budgets: what they start from was chosen by measurement (docs/results.md, "What learns on a small budget").
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quorem.config.settings import ModelSettings, NetworkSettings
from quorem.errors import UserError, check_choice
from quorem.models.configuration import INITIALIZERS, POSITIONS, QuoremConfig
from quorem.plan.layout import lay_out
from quorem.tokenization.special import SPECIAL_TOKENS

NEVER_TARGETS = [i for i, token in enumerate(SPECIAL_TOKENS) if token != "[UNK]"]  # the reference may mask [UNK] too


@dataclass(frozen=True)
class Preset:
    """Sizes (layers, hidden, feed-forward, heads, head width) of both networks, and what suits them."""

    discriminator: tuple[int, int, int, int, int]
    generator: tuple[int, int, int, int, int]
    embedding_size: int
    max_length: int
    learning_rate: float
    generator_learning_rate: float | None = None  # of its own weights; learning_rate if None
    mask_rate: float = 0.15
    dropout: float = 0.1
    positions: str = "absolute"
    initializer: str = "bert"
    finetune_learning_rate: float = 3e-4
    layer_decay: float = 0.8
    pooling: str = "cls"
    attention_dropout: float | None = None  # in fine-tuning; that of the rest if None
    disentangled_embeddings: bool = False


SMALL_BUDGET: dict[str, Any] = {
    "generator_learning_rate": 2e-3,
    "dropout": 0.0,
    "positions": "rotary",
    "initializer": "width",
    "finetune_learning_rate": 1e-3,
    "layer_decay": 1.0,
    "pooling": "mean",
    "attention_dropout": 0.0,
    "disentangled_embeddings": True,
}

PRESETS: dict[str, Preset] = {
    "tiny": Preset((2, 128, 256, 2, 64), (1, 64, 128, 1, 64), 128, 128, 5e-4, **SMALL_BUDGET),
    "origin": Preset((4, 128, 768, 4, 64), (1, 64, 256, 1, 64), 128, 256, 5e-4, **SMALL_BUDGET),
    "small": Preset((12, 256, 1024, 4, 64), (12, 64, 256, 1, 64), 128, 128, 5e-4),
    "small++": Preset((12, 256, 1024, 4, 64), (12, 256, 1024, 4, 64), 128, 512, 5e-4),
    "base": Preset((12, 768, 3072, 12, 64), (12, 256, 1024, 4, 64), 768, 512, 2e-4, finetune_learning_rate=1e-4),
    "large": Preset(
        (24, 1024, 4096, 16, 64), (24, 256, 1024, 4, 64), 1024, 512, 2e-4,
        mask_rate=0.25, finetune_learning_rate=5e-5, layer_decay=0.9,
    ),
}  # fmt: skip


SIZE_KEYS = ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "attention_head_size")


def size_like(config: Mapping[str, Any]) -> str:
    """The first preset whose discriminator has the layers, widths and heads of a config.json; small if none has."""
    sizes = tuple(config.get(key) for key in SIZE_KEYS[:4])  # transformers' ELECTRA has no width of a head
    return next((size for size, each in PRESETS.items() if each.discriminator[:4] == sizes), "small")


def preset(size: str) -> Preset:
    """The preset of that name.

    Raises:
        UserError: for an unknown name.
    """
    check_choice("model.size", size, PRESETS)
    return PRESETS[size]


def network_configs(
    model: ModelSettings, *, vocab_size: int, max_length: int, attributes: Sequence[int] | None = None
) -> tuple[QuoremConfig, QuoremConfig]:
    """Configs of (generator, discriminator).

    Args:
        model: the settings.
        vocab_size: V as trained, which may be smaller than asked for.
        max_length: longest row, the limit of absolute positions.
        attributes: kind attributes: how many values each has; without them the configs are a plan only (`lay_out`).

    Raises:
        UserError: for an unknown choice, or sizes that do not fit.
    """
    named = preset(model.size)
    check_choice("model.positions", model.positions or named.positions, POSITIONS)
    check_choice("model.initializer", model.initializer or named.initializer, INITIALIZERS)
    dropout = named.dropout if model.dropout is None else model.dropout
    shared: dict[str, Any] = {
        "vocab_size": vocab_size,
        "embedding_size": model.embedding_size or named.embedding_size,
        "max_position_embeddings": max(512, max_length),
        "positions": model.positions or named.positions,
        "initializer": model.initializer or named.initializer,
        "hidden_dropout_prob": dropout,
        "attention_probs_dropout_prob": dropout,
        "never_targets": NEVER_TARGETS,
    }
    shared["embedding"], head = lay_out(
        model, vocab_size=vocab_size, width=shared["embedding_size"], attributes=attributes
    )
    own: dict[str, Any] = (
        {}
        if model.shared_embeddings
        else {"embedding_size": model.generator.embedding_size or shared["embedding_size"]}
    )
    if model.generator.dropout is not None:
        own |= dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), model.generator.dropout)
    if own.get("embedding_size", shared["embedding_size"]) != shared["embedding_size"]:
        # its own width has to do too
        lay_out(model, vocab_size=vocab_size, width=own["embedding_size"], attributes=attributes)
    generator = _config("generator", {**shared, **own, "head": head}, named.generator, model.generator)
    discriminator = _config("discriminator", shared, named.discriminator, model.discriminator)
    for name, config in (("generator", generator), ("discriminator", discriminator)):
        if config.positions == "rotary" and config.attention_head_size % 2:
            raise UserError(
                f"model.{name}.attention_head_size={config.attention_head_size}: rotary positions need an even width"
            )
    return generator, discriminator


def _config(
    name: str, shared: dict[str, Any], named: tuple[int, int, int, int, int], given: NetworkSettings
) -> QuoremConfig:
    try:
        return QuoremConfig(**shared, **_sizes(named, given))
    except ValueError as error:
        raise UserError(f"model.{name}: {error}") from error


def _sizes(named: tuple[int, int, int, int, int], given: NetworkSettings) -> dict[str, int]:
    sizes = {}
    for key, default in zip(SIZE_KEYS, named, strict=True):
        value = getattr(given, key)
        sizes[key] = default if value is None else value
    return sizes
