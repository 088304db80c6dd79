"""The settings of `quorem finetune --task next_item`, with their defaults and the lines that --help shows."""

from dataclasses import dataclass, field

from quorem.config.events import EventSettings
from quorem.config.finetuning import FinetuneTrainSettings, TaskConfig, named
from quorem.config.limits import LONGEST
from quorem.config.option import option
from quorem.config.settings import ReadingSettings


@dataclass(frozen=True)
class SessionDataSettings(EventSettings, ReadingSettings):
    """What is read: rows of items in the order of time, one for each user or session."""

    text_column: str | None = option(None, "csv, parquet and jsonl: column or key of the items; default text")
    split_column: str | None = option(
        None,
        "csv, parquet and jsonl: column or key that says train, or test, valid, validation or dev; the last item of "
        "these other rows is predicted",
    )
    test: str | None = option(
        None, "file of other rows, of which the last item is predicted; without it and without splits, the last item "
        "of each row is held out, and the item before it judges epochs (leave one out)",
    )  # fmt: skip
    max_items: int = option(50, "number of items read of a history, counted from its end", largest=LONGEST, at_least=1)
    validation_share: float = option(
        0.02, "with a test file or splits: share of training rows that judge epochs", above=0, below=1
    )
    validation_rows: int = option(4_000, "most rows that judge epochs, drawn at random", largest=2**31 - 1, at_least=1)
    test_rows: int | None = option(None, "rows scored at the end, drawn at random; default all", at_least=1)
    split_seed: int = option(0, "seed of the drawn rows", largest=2**32 - 1, at_least=0)


@dataclass(frozen=True)
class NextItemSettings:
    """How a pre-trained encoder becomes a model of the next item."""

    attention: str = option(
        "causal", "causal (predicts the next item at every place) or masked (predicts a [MASK] at the end of a history)"
    )
    start: str = option(
        "auto",
        "initial weights: auto (cooccurrence; above two million items discriminator), discriminator or generator of "
        "the run, or new weights: cooccurrence (token vectors by decomposed counts of the training rows) or random "
        "(--from-scratch)",
    )
    head: str = option(
        "auto",
        "softmax: full, cosine, tree, two_level, digits, or auto: cosine up to 100,000 items; the generator's above, "
        "or with start=generator",
    )
    scale: float = option(16.0, "head cosine: what cosines are multiplied by before the softmax", above=0)
    dropout: float = option(0.1, "dropout of all layers, attention included", at_least=0, below=1)
    exclude_seen: bool = option(False, "rank without the items of the history")
    baselines: bool = option(True, "score popularity, sequential rules, item-kNN and V-SKNN on the same rows")


@dataclass(frozen=True)
class NextItemConfig(TaskConfig):
    """All settings of `quorem finetune --task next_item`."""

    task: str = named("next_item")
    data: SessionDataSettings = field(default_factory=SessionDataSettings)
    next_item: NextItemSettings = field(default_factory=NextItemSettings)
    train: FinetuneTrainSettings = field(
        default_factory=lambda: FinetuneTrainSettings(epochs=5.0, batch_size=128, warmup=0.05, log_every=50)
    )
