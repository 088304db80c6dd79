"""The settings of fine-tuning tasks on texts, with their defaults and the lines that --help shows."""

from dataclasses import dataclass, field

from quorem.config.settings import LONGEST, ReadingSettings, TrainSettings, option, section


@dataclass(frozen=True)
class HeldOutSettings(ReadingSettings):
    """What every task on texts reads: rows, of which some are held out."""

    split_column: str | None = option(
        None,
        "csv, parquet and jsonl: that which says train, or test, valid, validation or dev: these rows are held out; "
        "folder and midi have it by their folders",
    )
    max_length: int = option(256, "tokens of a text, special tokens included", largest=LONGEST)
    validation_share: float = option(
        0.1, "share of rows held out to choose the best epoch and to report on, without splits"
    )
    split_seed: int = option(
        0, "seed of that split (scikit-learn's train_test_split with this random_state)", largest=2**32 - 1
    )


@dataclass(frozen=True)
class LabelledDataSettings(HeldOutSettings):
    """What classification reads."""

    text_column: str = option("text", "the column or key of text")
    text_pair_column: str | None = option(
        None, "csv, parquet and jsonl: the column of a second text: [CLS] text [SEP] second [SEP]; none if not given"
    )
    label_column: str = option(
        "label", "that of classes: any two or more values; folder, midi: the name of a file's folder instead"
    )
    truncation: str = option(
        "head", "what the encoder reads of a longer text: head, tail, both, or windows: all of it, pooled together"
    )


@dataclass(frozen=True)
class FinetuneTrainSettings(TrainSettings):
    """The training loop of fine-tuning, where every epoch is judged."""

    patience: int | None = option(None, "stop after so many epochs in a row without a better score; never if not given")


@dataclass(frozen=True)
class EncoderSettings:
    """How the pre-trained encoder learns a task."""

    from_scratch: bool = option(False, "start from new weights: the control that shows what pre-training gives")
    freeze_encoder: bool = option(False, "train the head only")
    layer_decay: float | None = option(
        None, "learning rate of a layer over that of the next; the recipe's if not given"
    )
    dropout: float = option(0.1, "dropout of the head and, but for attention, of the encoder")
    attention_dropout: float | None = option(
        None, "of its attention; dropout's value if not given, 0 for sizes tiny and origin"
    )


@dataclass(frozen=True)
class PooledSettings(EncoderSettings):
    """The same with one vector for each text."""

    head: str = option("paper", "paper (one linear layer) or hf (transformers' two)")
    pooling: str | None = option(None, "cls, mean or max over tokens; the recipe's if not given")
    layers: str = option("last", "what is pooled: the last layer, or all, embeddings included, side by side")


@dataclass(frozen=True)
class ClassifierSettings(PooledSettings):
    """How the pre-trained encoder becomes a classifier."""

    class_weights: str = option(
        "none", "none, or balanced: a row weighs the more the fewer training rows are of its class (scikit-learn's)"
    )
    recipe: str = option("paper", "paper (all weights, layer-wise decay) or origin (frozen encoder first, then all)")
    ngrams: int = option(
        0,
        "longest n-grams of tokens, of whole texts, that a linear branch beside the encoder scores; it is fitted "
        "first, and the encoder learns what it leaves; 0 for no branch",
        largest=100,
    )
    ngram_rows: int = option(2**21, "rows of its table, into which n-grams are hashed", largest=2**28)
    ngram_penalty: float | None = option(
        None,
        "penalty of its squared weights, over twice the sum of the rows' losses; default what training rows choose",
    )


@dataclass(frozen=True)
class FinetuneConfig:
    """All settings of `quorem finetune`."""

    task: str = option("classification", "what is learned; --task chooses it")
    pretrained: str = option("", "the pre-training run, or a model folder")
    data: LabelledDataSettings = section(LabelledDataSettings)
    classifier: ClassifierSettings = section(ClassifierSettings)
    train: FinetuneTrainSettings = field(
        default_factory=lambda: FinetuneTrainSettings(epochs=3.0, warmup=0.1, log_every=50)
    )
