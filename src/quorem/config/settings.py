"""The settings of a run, section by section, with their defaults and the lines that --help shows."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

WIDEST, LONGEST = 2**16, 2**16  # of layers and rows: more overflows, or fills any memory


def option(default: Any, description: str, *, largest: int | None = None) -> Any:
    """A setting with its default, the line that --help shows and, of a whole number, a bound of its own."""
    return field(default=default, metadata={"help": description} | ({"largest": largest} if largest else {}))


def section(kind: type) -> Any:
    """A nested group of settings."""
    return field(default_factory=kind)


@dataclass(frozen=True)
class EmbeddingSettings:
    """The token table."""

    kind: str = option(
        "auto",
        "dense (a row for each token), qr (quotient-remainder), mixed_radix, chinese_remainder, attributes, path, "
        "hashing, hash_embedding, low_rank, memcom, or auto: dense where it fits into the budget, else qr",
    )
    budget: str | None = option(
        None,
        "bytes of the table and its index, for example 20MB; the rest follows from it; kind=auto: 512MB if not given",
    )
    compression: str | None = option(None, "the same as a ratio to the dense table, for example 20x")
    tier: int | None = option(
        None, "most frequent tokens with a row of their own; default 8 sqrt(vocab_size), or all the budget leaves"
    )
    operation: str | None = option(
        None,
        "partitions: how rows are combined: add, multiply or concat; default add, or multiply where it is needed: for "
        "a rank above 1 or a full softmax",
    )
    rank: int | None = option(
        None, "multiply: how many products are summed, default 1; low_rank: width of the rows", largest=WIDEST
    )
    own_rank: int = option(
        0, "partitions: numbers of each token's own, widened by one matrix and added to the shared rows", largest=WIDEST
    )
    divisor: int | None = option(None, "qr and path: ids per quotient; default the fewest parameters")
    digits: int = option(2, "mixed_radix and chinese_remainder: partitions", largest=64)
    moduli: str | None = option(None, "the same: their moduli, as 97,101; default the fewest rows")
    hidden: int = option(0, "path: width of the hidden layer; 0 for linear functions", largest=WIDEST)
    rows: int | None = option(None, "hashing, hash_embedding, memcom: shared rows")
    functions: int = option(2, "hash_embedding: hash functions", largest=64)
    attributes_file: str | None = option(
        None, "kind=attributes: CSV with a header, the token in its first column and its attributes in the others"
    )
    assignment: str | None = option(
        None,
        "which tokens share rows: ids ordered by frequency (as counted in the data), identity, random, cluster (tokens "
        "in like contexts together) or file; default cluster for qr, mixed_radix and wherever the softmax is a tree, "
        "up to twenty million tokens; else frequency",
    )
    start: str | None = option(
        None,
        "where token vectors start: cooccurrence (which tokens stand together in the training rows, by a decomposition "
        "of seconds to minutes) or random; default cooccurrence, random with --init-from",
    )
    assignment_file: str | None = option(None, "assignment=file: text file with a token in each line")


@dataclass(frozen=True)
class HeadSettings:
    """The generator's output."""

    kind: str = option(
        "auto",
        "full, tree (levels whose last scores are products with the tokens' own vectors), two_level, digits, or auto: "
        "full for dense tables up to 20,000 tokens, tree for larger ones and for low_rank, hash_embedding and memcom, "
        "else two_level",
    )
    condition: str = option("mlp", "two_level and digits: how what was chosen enters: mlp or multiply")
    digits: int | None = option(
        None,
        "digits, tree: levels of the softmax; default for digits those of a mixed_radix table, else 3; for a tree 2 up "
        "to 100,000 tokens, else 3",
        largest=64,
    )


@dataclass(frozen=True)
class NetworkSettings:
    """Sizes of one network that differ from the preset's."""

    hidden_size: int | None = option(None, "width of the encoder", largest=WIDEST)
    num_hidden_layers: int | None = option(None, "layers", largest=1_000)
    num_attention_heads: int | None = option(None, "attention heads", largest=WIDEST)
    attention_head_size: int | None = option(None, "width of a head", largest=WIDEST)
    intermediate_size: int | None = option(None, "width of the feed-forward layer", largest=WIDEST)


@dataclass(frozen=True)
class GeneratorSettings(NetworkSettings):
    """Sizes of the generator that differ from the preset's."""

    embedding_size: int | None = option(None, "width of its token vectors if they are not shared", largest=WIDEST)
    dropout: float | None = option(None, "its dropout, on while it fills in words; model.dropout if not given")


@dataclass(frozen=True)
class ModelSettings:
    """The two networks."""

    size: str = option(
        "auto",
        "preset: tiny, origin, small, small++, base, large, or auto: the largest that the data is worth and that is "
        "through with it in an hour (or train.minutes) on this machine",
    )
    vocab_size: int = option(30522, "largest vocabulary, special tokens included")
    embedding_size: int | None = option(None, "width of a token's vector; the preset's if not given", largest=WIDEST)
    positions: str | None = option(None, "absolute, rotary or alibi; the preset's if not given")
    initializer: str | None = option(None, "bert (0.02) or width (scaled by width); the preset's if not given")
    dropout: float | None = option(None, "dropout in pre-training; the preset's if not given")
    shared_embeddings: bool = option(True, "generator and discriminator share their embeddings")
    init_from: str | None = option(
        None,
        "networks to start from: the folder of a run, or one with discriminator/ and generator/ of transformers' "
        "ELECTRA; give it as --init-from, which takes their sizes and tokenizer over too",
    )
    init_optimizer: str = option(
        "fresh", "with init_from: fresh, or kept (the optimizer's state of a run with train.keep_state)"
    )
    disentangled_embeddings: bool | None = option(
        None, "shared token vectors feel the generator's loss only (DeBERTaV3); the preset's if not given"
    )
    embedding: EmbeddingSettings = section(EmbeddingSettings)
    head: HeadSettings = section(HeadSettings)
    generator: GeneratorSettings = section(GeneratorSettings)
    discriminator: NetworkSettings = section(NetworkSettings)


@dataclass(frozen=True)
class ReadingSettings:
    """Which files are read, and how."""

    path: str | list[str] = option("", "the file, a folder, a pattern such as data/*.csv, or a list of these")
    format: str = option(
        "auto",
        "csv, parquet, jsonl (an object in each line), text (a document in each line), folder (one in each .txt file), "
        "midi (one in each file), conll (a word and its tag in each line), or auto: by the ending of the name; "
        "folder for a folder of .txt files",
    )
    midi: str = option("remi", "midi: its words: remi or tsd (events, as miditok has them), or chords (one for each)")
    max_silence: int = option(64, "midi: most bars in a row in which no note starts; longer silence is cut and told")
    paths: bool = option(
        False,
        "csv, jsonl, parquet: texts are paths of MIDI files, seen from the data file's folder: their words are read",
    )
    bad_rows: str = option(
        "error", "a row (a file, if each is a document) that cannot be read: error, or skip: listed in bad_rows.txt"
    )
    encoding: str | None = option(
        None, "csv, jsonl, text: a Python codec such as cp949; default UTF-8, or UTF-16 if a byte order mark says so"
    )
    delimiter: str | None = option(
        None,
        "csv: what separates columns, such as ; or \\t; default a tab for .tsv and else a comma, or, if the columns "
        "asked for need it, one of , ; | and a tab",
    )
    quoting: str = option(
        "auto",
        "csv: standard (double quotes around fields that need them), none (quotes are text), backslash (a quote inside "
        "a field stands behind one), or auto: standard, unless the file's quotes fit one of the others only",
    )
    header: bool = option(
        True, "csv: whether the first row names the columns; if not, columns are numbers, as data.text_column=2"
    )
    lists: bool = option(
        False,
        'csv, text: texts are lists of JSON or Python, as ["a b", 7]: their items with tabs between '
        "(tokenizer.separator=\\t)",
    )
    documents: str = option(
        "line", "text: what a document is: a line, or a paragraph (lines between blank ones); its row is its first line"
    )

    @staticmethod
    def options() -> list[str]:
        """Names of the settings that only some formats have."""
        return [item.name for item in dataclasses.fields(ReadingSettings) if item.name not in ("path", "format")]


@dataclass(frozen=True)
class TextDataSettings(ReadingSettings):
    """What is read for its text alone."""

    text_column: str | None = option(None, "csv, parquet and jsonl: its column or key of text, default text")
    max_unknown: float = option(
        0.5,
        "largest share of characters that the vocabulary may not know ([UNK]): with more a command stops; 1 for any",
    )


@dataclass(frozen=True)
class DataSettings(TextDataSettings):
    """What pre-training reads: data files, or a folder of `quorem prepare`."""

    max_length: int | None = option(
        None, "tokens in a row, special tokens included; the preset's if not given", largest=LONGEST
    )
    rows: str = option(
        "packed",
        "packed (documents end to end, no padding), isolated (whole documents side by side that do not see each other) "
        "or documents (a row each; a batch has batch_size rows of max_length tokens, or as many shorter ones)",
    )
    held_out: float = option(
        0.0,
        "share of rows not to learn from: both networks are judged on them at every checkpoint, and the best is kept",
    )


@dataclass(frozen=True)
class TokenizerSettings:
    """How text becomes tokens."""

    path: str | None = option(
        None,
        "folder of a Hugging Face fast tokenizer to use instead of training one; its special tokens get ids 0 to 4",
    )
    ids: bool = option(
        False,
        "with tokenizer.path: texts are that tokenizer's ids, as lists or with spaces between; they are taken as they "
        "are, but for its special tokens, which are left out",
    )
    kind: str = option(
        "words",
        "words, wordpiece, bpe, unigram, characters, items (what stands between separators, kept exactly) or item_bpe "
        "(frequent runs of items are one token)",
    )
    separator: str | None = option(
        None, "items, item_bpe: what separates them, such as , or \\t; whitespace if not given"
    )
    lowercase: bool = option(True, "fold case")
    strip_accents: bool = option(False, "drop accents and other combining marks")
    normalization: str = option("nfc", "Unicode normalisation: nfc, nfkc or none")
    min_frequency: int = option(
        1, "words, items: a rarer one is unknown; wordpiece: a rarer pair is not joined; item_bpe: both"
    )


@dataclass(frozen=True)
class ObjectiveSettings:
    """ELECTRA's objective."""

    recipe: str = option("modern", "modern, or google: its Adam, schedule and 85/15 masking")
    mask_rate: float | None = option(None, "share of tokens to mask; the preset's if not given")
    mask_rate_end: float | None = option(None, "the share at the last step, reached in a straight line; the same one")
    keep_rate: float | None = option(None, "share of chosen tokens left visible; the recipe's if not given")
    rtd_weight: float = option(50.0, "weight of the discriminator's loss; the generator's is 1")


@dataclass(frozen=True)
class TrainSettings:
    """The training loop."""

    max_steps: int | None = option(None, "stop after so many steps; by default, after `epochs`")
    epochs: float = option(1.0, "passes over the data")
    minutes: float | None = option(
        None, "pre-training: as many steps as fit into so many minutes here, unless max_steps is given"
    )
    batch_size: int = option(32, "rows in a step, over all processes and micro-batches", largest=2**24)
    micro_batch_size: int | None = option(None, "rows in memory at once; batch_size if not given", largest=2**24)
    gradient_checkpointing: bool = option(
        False, "keep each layer's input only and compute the layer again in the backward pass: less memory, more time"
    )
    compile: bool = option(
        False,
        "compile the layers first (torch.compile): pays where there is no dropout; on a CPU it needs a C++ compiler",
    )
    shard_layers: bool = option(
        False, "pre-training by several processes: each keeps a part of the layers' weights and optimizer state (FSDP)"
    )
    learning_rate: float | None = option(None, "peak learning rate; the recipe's and preset's if not given")
    generator_learning_rate: float | None = option(
        None, "peak rate of the generator's own weights; as above if not given"
    )
    optimizer: str | None = option(
        None,
        "muon (momentum made orthogonal for the layers' matrices, AdamW for all else), adamw or google; the recipe's "
        "if not given, adamw in fine-tuning",
    )
    matrix_learning_rate: float = option(0.02, "muon: peak learning rate of the layers' matrices")
    warmup: float = option(0.05, "steps of warm-up: a share of all steps below 1, else a number")
    schedule: str | None = option(None, "linear, cosine, constant or google; the recipe's if not given")
    table_updates: str = option(
        "auto",
        "pre-training, of tables with a row for each token: rows (a step updates those it has read, with one running "
        "square a row), whole (the recipe's optimizer updates all), or auto: rows from 65,536 rows of 128 on; always "
        "whole with the full softmax, which reads all",
    )
    weight_decay: float = option(0.01, "decoupled weight decay")
    clip_norm: float = option(1.0, "largest global gradient norm")
    precision: str = option("auto", "bf16, fp32, or auto: bf16 where the processor is fast at it")
    checkpoint_every: int = option(500, "steps between checkpoints to resume from")
    keep_state: bool = option(False, "keep the last checkpoint of a finished run, optimizer and all, to continue from")
    log_every: int = option(20, "steps between lines of metrics.jsonl")
    seed: int = option(0, "seed of everything random", largest=2**63 - 1)
    tracker: str | None = option(
        None, "tensorboard, wandb or mlflow: metrics go there too (extra quorem[trackers]); else metrics.jsonl alone"
    )


@dataclass(frozen=True)
class VocabularySettings:
    """Of section model, what `quorem prepare` needs."""

    vocab_size: int = option(30522, "largest vocabulary, special tokens included")


@dataclass(frozen=True)
class PrepareConfig:
    """All settings of `quorem prepare`."""

    data: TextDataSettings = section(TextDataSettings)
    tokenizer: TokenizerSettings = section(TokenizerSettings)
    model: VocabularySettings = section(VocabularySettings)


@dataclass(frozen=True)
class PretrainConfig:
    """All settings of `quorem pretrain`."""

    data: DataSettings = section(DataSettings)
    tokenizer: TokenizerSettings = section(TokenizerSettings)
    model: ModelSettings = section(ModelSettings)
    objective: ObjectiveSettings = section(ObjectiveSettings)
    train: TrainSettings = section(TrainSettings)
