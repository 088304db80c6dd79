"""The settings of `quorem finetune --task next_item`, with their defaults and the lines that --help shows."""

from dataclasses import dataclass, field

from quorem.config.finetuning import FinetuneTrainSettings
from quorem.config.settings import LONGEST, ReadingSettings, option


@dataclass(frozen=True)
class SessionDataSettings(ReadingSettings):
    """What is read: rows of items in the order of time, one for each user or session."""

    text_column: str | None = option(None, "csv, parquet and jsonl: its column or key of items, default text")
    split_column: str | None = option(
        None,
        "csv, parquet and jsonl: that which says train, or test, valid, validation or dev: of these rows the last item "
        "is to be predicted",
    )
    test: str | None = option(
        None, "a file of other rows, of which the last item is to be predicted; without it and without splits the last "
        "item of each row is held out, and the one before it judges epochs (leave one out)",
    )  # fmt: skip
    max_items: int = option(50, "how many items of a history, the last ones, are read", largest=LONGEST)
    validation_share: float = option(0.02, "with a test file or splits: share of training rows to judge epochs on")
    validation_rows: int = option(4_000, "most rows to judge epochs on, drawn at random", largest=2**31 - 1)
    test_rows: int | None = option(None, "rows to judge on at the end, drawn at random; all if not given")
    split_seed: int = option(0, "seed of what is drawn", largest=2**32 - 1)


@dataclass(frozen=True)
class NextItemSettings:
    """How a pre-trained encoder becomes a model of the next item."""

    attention: str = option(
        "causal", "causal (the next item at every place) or masked (a [MASK] at the end of each beginning of a row)"
    )
    start: str = option(
        "discriminator",
        "what to start from: discriminator or generator of the run, or new weights: cooccurrence (token vectors by "
        "which items stand together in training rows) or random (--from-scratch)",
    )
    head: str = option("auto", "the softmax: full, tree, two_level, digits, or auto: the generator's")
    dropout: float = option(0.1, "everywhere, attention too")
    exclude_seen: bool = option(False, "judge without the items that a history has")
    baselines: bool = option(True, "judge popularity, sequential rules, item-kNN and V-SKNN on the same rows")


@dataclass(frozen=True)
class NextItemConfig:
    """All settings of `quorem finetune --task next_item`."""

    task: str = option("next_item", "what is learned; --task chooses it")
    pretrained: str = option("", "the pre-training run")
    data: SessionDataSettings = field(default_factory=SessionDataSettings)
    next_item: NextItemSettings = field(default_factory=NextItemSettings)
    train: FinetuneTrainSettings = field(
        default_factory=lambda: FinetuneTrainSettings(epochs=5.0, batch_size=128, warmup=0.05, log_every=50)
    )
