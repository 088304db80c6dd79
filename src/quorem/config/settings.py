"""The settings of a run, section by section, with their defaults and the lines that --help shows."""

import dataclasses
from dataclasses import dataclass

from quorem.config.events import EventSettings
from quorem.config.limits import LONGEST, WIDEST
from quorem.config.option import option, section


@dataclass(frozen=True)
class EmbeddingSettings:
    """The token table."""

    kind: str = option(
        "auto",
        "kind of token table: dense (a row for each token), qr (quotient-remainder), mixed_radix, chinese_remainder, "
        "attributes, path, hashing, hash_embedding, low_rank, memcom, pq (product quantization), or auto (dense if it "
        "fits into the budget, otherwise pq, or qr where there is little room or no start from co-occurrence)",
    )
    budget: str | None = option(
        None, "bytes of the table with its index, for example 20MB; quorem computes the rest; 512MB with kind=auto"
    )
    compression: str | None = option(None, "budget as a ratio to the dense table, for example 20x")
    tier: int | None = option(
        None,
        "number of most frequent tokens with their own row; default 8 sqrt(vocab_size), or what the budget allows",
        at_least=0,
    )
    operation: str | None = option(
        None,
        "qr, mixed_radix, chinese_remainder, attributes: how rows are combined: add, multiply or concat; default add, "
        "or multiply with a rank above 1 or a full softmax, which need it",
    )
    rank: int | None = option(
        None, "multiply: products summed, default 1; low_rank: width of the rows", largest=WIDEST, at_least=1
    )
    own_rank: int = option(
        0,
        "qr, mixed_radix, chinese_remainder, attributes: size of a small vector of each token's own; a shared matrix "
        "projects it to the embedding size, and it is added to the rows",
        largest=WIDEST,
        at_least=0,
    )
    divisor: int | None = option(
        None, "qr and path: ids per quotient; the default gives the fewest parameters", at_least=1
    )
    digits: int = option(2, "mixed_radix and chinese_remainder: number of partitions", largest=64, at_least=2)
    moduli: str | None = option(None, "mixed_radix, chinese_remainder: moduli such as 97,101; default the fewest rows")
    hidden: int = option(0, "path: width of the hidden layer; 0 uses linear functions", largest=WIDEST, at_least=0)
    rows: int | None = option(
        None,
        "hashing, hash_embedding, memcom: number of shared rows; pq: codewords of a part, at most and by default 256",
        at_least=1,
    )
    functions: int = option(2, "hash_embedding: number of hash functions", largest=64, at_least=1)
    parts: int | None = option(
        None,
        "pq: parts that a vector is cut into, each a byte of a token; default a fourth of its width",
        largest=WIDEST,
        at_least=1,
    )
    attributes_file: str | None = option(
        None, "kind=attributes: CSV file with a header; its first column is the token, the others are its attributes"
    )
    assignment: str | None = option(
        None,
        "order of tokens, in which neighbours share rows: frequency (in the data), identity, random, file, or "
        "cluster (tokens in similar contexts); default cluster for qr, mixed_radix and any tree softmax, up to "
        "twenty million tokens, otherwise frequency",
    )
    start: str | None = option(
        None,
        "initial token vectors: cooccurrence (a decomposition of counts of the training rows, which takes seconds to "
        "minutes) or random; default cooccurrence, or random with --init-from",
    )
    start_window: int = option(
        5,
        "co-occurrence, for start and clusters: tokens up to so far apart stand together; wider (20 to 50) says more "
        "of what a text is about, and takes longer",
        largest=100,
        at_least=1,
    )
    assignment_file: str | None = option(None, "assignment=file: text file with one token a line")


@dataclass(frozen=True)
class HeadSettings:
    """The generator's output."""

    kind: str = option(
        "auto",
        "softmax: full, cosine (full, whatever the vectors' lengths), tree (scores by the tokens' own vectors), "
        "two_level, digits, or auto: full for dense tables up to 20,000 tokens, tree for larger ones and for low_rank, "
        "hash_embedding, memcom, pq and own_rank, otherwise two_level",
    )
    condition: str = option("mlp", "two_level, digits: how the choice so far enters the next: mlp or multiply")
    scale: float = option(16.0, "cosine: what cosines are multiplied by before the softmax", above=0)
    digits: int | None = option(
        None,
        "digits and tree: levels of the softmax; default for digits the digits of a mixed_radix table, otherwise 3; "
        "default for tree 2 up to 100,000 tokens, otherwise 3",
        largest=64,
        at_least=2,
    )


@dataclass(frozen=True)
class NetworkSettings:
    """Sizes of one network that differ from the preset's."""

    hidden_size: int | None = option(None, "width of the encoder", largest=WIDEST, at_least=1)
    num_hidden_layers: int | None = option(None, "number of layers", largest=1_000, at_least=1)
    num_attention_heads: int | None = option(None, "number of attention heads", largest=WIDEST, at_least=1)
    attention_head_size: int | None = option(None, "width of an attention head", largest=WIDEST, at_least=1)
    intermediate_size: int | None = option(None, "width of the feed-forward layer", largest=WIDEST, at_least=1)


@dataclass(frozen=True)
class GeneratorSettings(NetworkSettings):
    """Sizes of the generator that differ from the preset's."""

    embedding_size: int | None = option(None, "width of its token vectors, if not shared", largest=WIDEST)
    dropout: float | None = option(
        None, "dropout of the generator, also while it fills words; default model.dropout", at_least=0, below=1
    )


@dataclass(frozen=True)
class ModelSettings:
    """The two networks."""

    size: str = option(
        "auto",
        "preset: tiny, origin, small, small++, base, large, or auto: the largest that suits the amount of data and "
        "finishes within train.minutes (an hour if not given) on this machine",
    )
    vocab_size: int = option(30522, "largest vocabulary, special tokens included")
    embedding_size: int | None = option(
        None, "width of a token's vector; default from the preset", largest=WIDEST, above=0
    )
    positions: str | None = option(None, "absolute, rotary or alibi; default from the preset")
    initializer: str | None = option(
        None, "initial weights: bert (standard deviation 0.02) or width (scaled by width); default from the preset"
    )
    dropout: float | None = option(None, "dropout in pre-training; default from the preset", at_least=0, below=1)
    shared_embeddings: bool = option(True, "share the embeddings between generator and discriminator")
    init_from: str | None = option(
        None,
        "networks to start from: a run folder, or a folder with transformers' ELECTRA in discriminator/ and "
        "generator/; use --init-from, which also takes over their sizes and tokenizer",
    )
    init_optimizer: str = option(
        "fresh", "init_from: start the optimizer fresh, or kept: from the state of a run with train.keep_state=true"
    )
    disentangled_embeddings: bool | None = option(
        None, "train shared token vectors by the generator's loss only (DeBERTaV3); default from the preset"
    )
    embedding: EmbeddingSettings = section(EmbeddingSettings)
    head: HeadSettings = section(HeadSettings)
    generator: GeneratorSettings = section(GeneratorSettings)
    discriminator: NetworkSettings = section(NetworkSettings)


@dataclass(frozen=True)
class ReadingSettings:
    """Which files are read, and how."""

    path: str | list[str] = option("", "a file, a folder, a pattern such as data/*.csv, or a list of these")
    format: str = option(
        "auto",
        "csv, parquet, jsonl (an object in each line), text (a document in each line), folder (a document in each "
        ".txt file), midi (a document in each file), conll (a word and its tag in each line), "
        "squad (JSON of questions about texts), or auto: by the file's ending, and folder for a folder of .txt files",
    )
    midi: str = option("remi", "midi: words: remi or tsd (events as in miditok), chords or notes (one word each)")
    max_silence: int = option(64, "midi: most bars in a row without a note start; longer silence is cut, and logged")
    paths: bool = option(
        False, "csv, jsonl, parquet: texts are paths of MIDI files, relative to the data file's folder"
    )
    bad_rows: str = option("error", "a row or file that cannot be read: error (stop), or skip (list in bad_rows.txt)")
    encoding: str | None = option(
        None, "csv, jsonl, text: a Python codec such as cp949; default UTF-8, or UTF-16 if a byte order mark says so"
    )
    delimiter: str | None = option(
        None,
        "csv: column separator, such as ; or \\t; default a tab for .tsv, otherwise a comma, or the one of , ; | and "
        "tab with which the file has the columns asked for",
    )
    quoting: str = option(
        "auto",
        "csv: standard (double quotes around fields that need them), none (quotes are text), backslash (a backslash "
        "before a quote inside a field), or auto: standard, unless the file's quotes fit only one of the others",
    )
    header: bool = option(True, "csv: the first row names the columns; if false, they are numbers: data.text_column=2")
    lists: bool = option(
        False,
        'csv, text: texts are JSON or Python lists such as ["a b", 7]; tabs join their items (tokenizer.separator=\\t)',
    )
    documents: str = option(
        "line", "text: a document is a line, or a paragraph (lines between blank ones; its row is its first line)"
    )

    @staticmethod
    def options() -> list[str]:
        """Names of the settings that only some formats have."""
        return [item.name for item in dataclasses.fields(ReadingSettings) if item.name not in ("path", "format")]


@dataclass(frozen=True)
class TextDataSettings(EventSettings, ReadingSettings):
    """What is read for its text alone."""

    text_column: str | None = option(None, "csv, parquet and jsonl: column or key of the text; default text")
    max_unknown: float = option(
        0.5,
        "largest share of characters that may become [UNK] before a command stops; 1 allows all",
        above=0,
        at_most=1,
    )


@dataclass(frozen=True)
class DataSettings(TextDataSettings):
    """What pre-training reads: data files, or a folder of `quorem prepare`."""

    max_length: int | None = option(
        None, "tokens in a row, special ones included; default from the preset", largest=LONGEST, at_least=8
    )
    rows: str = option(
        "packed",
        "how documents fill rows: packed (end to end, no padding), isolated (side by side, without seeing each "
        "other) or documents (a row each; a batch has batch_size * max_length tokens)",
    )
    held_out: float = option(
        0.0,
        "share of rows kept out of training; both networks are scored on them at every checkpoint; best/ has those of "
        "the best one, if that is not the last",
        at_least=0,
        below=1,
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
        "with tokenizer.path: texts are ids of that tokenizer, as lists or separated by spaces; special ones drop out",
    )
    kind: str = option(
        "words",
        "words, wordpiece, bpe, unigram, characters, items (the text between separators, unchanged) or item_bpe "
        "(frequent runs of items become one token)",
    )
    separator: str | None = option(None, "items and item_bpe: separator of items, such as , or \\t; default whitespace")
    lowercase: bool = option(True, "fold case")
    strip_accents: bool = option(False, "drop accents and other combining marks")
    normalization: str = option("nfc", "Unicode normalisation: nfc, nfkc or none")
    min_frequency: int = option(
        1, "rarer words and items become [UNK]; wordpiece and item_bpe: rarer pairs stay apart", at_least=1
    )


@dataclass(frozen=True)
class ObjectiveSettings:
    """ELECTRA's objective."""

    recipe: str = option(
        "modern",
        "how to optimise: modern (Muon, linear schedule, every chosen token masked), or google (its Adam, schedule and "
        "85/15 masking)",
    )
    mask_rate: float | None = option(None, "share of tokens to mask; default from the preset", above=0, at_most=1)
    mask_rate_end: float | None = option(
        None,
        "share of tokens to mask at the last step, approached in a straight line; default mask_rate",
        above=0,
        at_most=1,
    )
    keep_rate: float | None = option(
        None, "share of chosen tokens that stay visible; default from objective.recipe", at_least=0, below=1
    )
    rtd_weight: float = option(50.0, "weight of the discriminator's loss; the generator's weight is 1", at_least=0)


@dataclass(frozen=True)
class TrainSettings:
    """The training loop."""

    max_steps: int | None = option(
        None, "number of steps; default from train.epochs; 0 keeps the networks as they start", at_least=0
    )
    epochs: float = option(1.0, "passes over the data", above=0)
    minutes: float | None = option(
        None,
        "pre-training: take as many steps as fit into this time on this machine, unless max_steps is given",
        above=0,
    )
    batch_size: int = option(32, "rows in a step, over all processes and micro-batches", largest=2**24, above=0)
    micro_batch_size: int | None = option(
        None, "rows in memory at once, fewer to save memory; default batch_size", largest=2**24, above=0
    )
    gradient_checkpointing: bool = option(
        False, "recompute each layer in the backward pass instead of keeping its activations: less memory, more time"
    )
    compile: bool = option(
        False, "compile the layers (torch.compile); faster without dropout; CPUs need a C++ compiler"
    )
    shard_layers: bool = option(
        False, "pre-training: each process keeps a part of the layers' weights and state (FSDP)"
    )
    learning_rate: float | None = option(
        None, "peak learning rate; default from the preset and objective.recipe", above=0
    )
    generator_learning_rate: float | None = option(
        None,
        "pre-training: peak learning rate of the generator's own weights; default learning_rate if given, otherwise "
        "from the preset",
        above=0,
    )
    optimizer: str | None = option(
        None,
        "muon (orthogonal momentum for the layers' matrices, AdamW for all other weights), adamw or google; default "
        "from objective.recipe, adamw in fine-tuning",
    )
    matrix_learning_rate: float = option(0.02, "muon: peak learning rate of the layers' matrices", above=0)
    warmup: float = option(0.05, "warm-up: a share of all steps if below 1, otherwise a number of steps", at_least=0)
    schedule: str | None = option(
        None, "learning-rate schedule: linear, cosine, constant or google; default from objective.recipe"
    )
    table_updates: str = option(
        "auto",
        "pre-training and next_item, of tables with a row for each token: rows (sparse: only rows that a step read, "
        "by Adam with one second moment for each row), whole (all rows, by train.optimizer), or auto: rows from 65,536 "
        "rows of 128 on; a full softmax reads all rows and always uses whole",
    )
    weight_decay: float = option(0.01, "decoupled weight decay", at_least=0)
    clip_norm: float = option(1.0, "largest global gradient norm", above=0)
    precision: str = option("auto", "bf16, fp32, or auto: bf16 if the processor computes it natively")
    checkpoint_every: int = option(500, "steps between checkpoints, from which a run resumes", above=0)
    keep_state: bool = option(
        False, "keep the last checkpoint of a finished run, with its optimizer, so that it can continue later"
    )
    log_every: int = option(20, "steps between lines of metrics.jsonl", above=0)
    seed: int = option(0, "seed of everything random", largest=2**63 - 1, at_least=0)
    tracker: str | None = option(
        None, "also send metrics to tensorboard, wandb or mlflow (extra quorem[trackers]); default metrics.jsonl only"
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
