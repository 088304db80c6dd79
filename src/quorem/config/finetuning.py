"""The settings of fine-tuning tasks on texts, with their defaults and the lines that --help shows."""

from dataclasses import dataclass, field
from typing import Any

from quorem.config.option import elsewhere, option, section
from quorem.config.settings import LONGEST, ReadingSettings, TrainSettings


@dataclass(frozen=True)
class HeldOutSettings(ReadingSettings):
    """What every task on texts reads: rows, of which some are held out."""

    split_column: str | None = option(
        None,
        "csv, parquet and jsonl: column or key that says train, or test, valid, validation or dev (held out); with "
        "folder and midi the folders say it",
    )
    midi: str = option("auto", "midi: words: remi, tsd, chords or notes, or auto: as the pre-training run has them")
    max_length: int = option(256, "tokens of a text, special tokens included", largest=LONGEST, at_least=4)
    validation_share: float = option(
        0.1, "without splits: share of rows held out to choose the best epoch and to report on", above=0, below=1
    )
    split_seed: int = option(
        0, "without splits: seed of the held-out rows (random_state of train_test_split)", largest=2**32 - 1, at_least=0
    )


@dataclass(frozen=True)
class LabelledDataSettings(HeldOutSettings):
    """What classification reads."""

    text_column: str = option("text", "column or key of the text")
    text_pair_column: str | None = option(
        None, "csv, parquet and jsonl: the column of a second text: [CLS] text [SEP] second [SEP]; none if not given"
    )
    label_column: str = option(
        "label",
        "column or key of the class, which may have any two or more values; with folder and midi the folder's name "
        "is the class",
    )
    truncation: str = option("head", "part of a longer text to read: head, tail, both, or windows (all of it, pooled)")


@dataclass(frozen=True)
class FinetuneTrainSettings(TrainSettings):
    """The training loop of fine-tuning, where epochs are judged."""

    max_steps: int | None = option(None, "number of steps; default from train.epochs", at_least=1)
    generator_learning_rate: float | None = elsewhere(None, "there is no generator")
    minutes: float | None = elsewhere(None, "train.epochs or train.max_steps say how long")
    shard_layers: bool = elsewhere(False, "all weights are kept by each process")
    patience: int | None = option(
        None, "stop after so many epochs in a row without a better score; never if not given", at_least=1
    )
    keep_epoch: str = option(
        "best",
        "best: judge after every epoch and keep the best model; last: judge and keep the last alone, which is "
        "quicker, and chooses nothing on the held-out rows",
    )


@dataclass(frozen=True)
class EncoderSettings:
    """How the pre-trained encoder learns a task."""

    from_scratch: bool = option(False, "start from new weights: a control that shows what pre-training gains")
    freeze_encoder: bool = option(False, "train the head only")
    layer_decay: float | None = option(
        None,
        "factor by which the learning rate falls from a layer to the one below; default by the model's size",
        above=0,
        at_most=1,
    )
    dropout: float = option(0.1, "dropout of the head and the encoder, except its attention", at_least=0, below=1)
    attention_dropout: float | None = option(
        None, "dropout of attention; default dropout, or 0 for tiny and origin", at_least=0, below=1
    )


@dataclass(frozen=True)
class PooledSettings(EncoderSettings):
    """The same with one vector for each text."""

    head: str = option("paper", "paper (one linear layer) or hf (transformers' two layers)")
    pooling: str | None = option(None, "cls, mean or max over tokens; default by the model's size")
    layers: str = option("last", "layers to pool: last, or all (every layer and the embeddings, side by side)")
    baseline: bool = option(
        True,
        "fit a linear model on TF-IDF of at most 50,000 of the training rows, and score it on the same held-out rows",
    )
    ngrams: int = option(
        0,
        "longest n-grams of the linear branch beside the encoder, which reads whole texts and is fitted first; 0 "
        "uses no branch",
        at_least=0,
        at_most=8,
    )
    ngram_rows: int = option(
        2**21, "rows of the n-gram branch's table, into which n-grams are hashed", at_least=1, at_most=2**28
    )
    ngram_penalty: float | None = option(
        None,
        "L2 penalty of the n-gram branch: this times half the sum of squared weights is added to the sum of the rows' "
        "losses (1/C in scikit-learn); by default chosen on training rows",
        above=0,
    )
    sif: bool = option(
        False,
        "a linear branch beside the encoder that reads the mean of a whole text's pre-trained token vectors, in which "
        "rare tokens weigh more (SIF); it is fitted first",
    )


@dataclass(frozen=True)
class ClassifierSettings(PooledSettings):
    """How the pre-trained encoder becomes a classifier."""

    class_weights: str = option(
        "none", "none, or balanced: classes weigh inversely to their number of training rows, as in scikit-learn"
    )
    recipe: str = option(
        "paper", "paper (trains all weights, with layer-wise decay) or origin (trains the head first, then all weights)"
    )


def named(task: str) -> Any:
    """The name of a task, a key of `quorem.tasks.TASKS`."""
    return option(task, "what is learned; --task chooses it")


def loop() -> Any:
    """The training loop's section: three epochs."""
    return field(default_factory=lambda: FinetuneTrainSettings(epochs=3.0, warmup=0.1, log_every=50))


@dataclass(frozen=True)
class TaskConfig:
    """The settings that every task has, its sections data and train aside."""

    task: str = named("")
    pretrained: str = option("", "a run of quorem pretrain, or a model folder")


@dataclass(frozen=True)
class FinetuneConfig(TaskConfig):
    """All settings of `quorem finetune`."""

    task: str = named("classification")
    data: LabelledDataSettings = section(LabelledDataSettings)
    classifier: ClassifierSettings = section(ClassifierSettings)
    train: FinetuneTrainSettings = loop()
