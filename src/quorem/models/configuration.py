"""The architecture of one network, as Hugging Face's config: what a model folder's config.json holds.

With positions `absolute`, embedding kind `dense` and no attention_head_size it describes transformers' ELECTRA exactly.
"""

import sys
from collections.abc import Mapping
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from quorem.config.limits import WIDEST
from quorem.errors import shown

POSITIONS = ("absolute", "rotary", "alibi")
INITIALIZERS = ("bert", "width")
POOLINGS = ("cls", "mean", "max")
POOLED_LAYERS = ("last", "all")
WINDOWS = "windows"
TRUNCATIONS = ("head", "tail", "both", WINDOWS)
ANSWER_UNITS = ("words", "characters")

MOST_OF_A_LAYER = 2**29  # weights: 2 GiB, forty times those of size large
LARGEST = {
    "vocab_size": 2**31 - 1,
    "embedding_size": WIDEST,
    "hidden_size": WIDEST,
    "num_hidden_layers": 1_000,
    "num_attention_heads": WIDEST,
    "attention_head_size": WIDEST,
    "intermediate_size": WIDEST,
    "max_position_embeddings": 2**20,
    "type_vocab_size": WIDEST,
    "classifier_length": WIDEST,
    "window_length": WIDEST,
    "window_stride": WIDEST,
    "question_length": WIDEST,
    "answer_length": WIDEST,
    "classifier_ngrams": 100,
    "classifier_ngram_rows": 2**28,
}
"""Of sizes: a config may come from anybody, and nothing is built before they are checked."""
DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")
MAY_BE_ZERO = (
    "attention_head_size",
    "classifier_length",
    "classifier_ngrams",
    "classifier_ngram_rows",
    "window_length",
    "window_stride",
)


def check_sizes(config: Mapping[str, Any]) -> None:
    """Accept a config's numbers if a network of that size can be built.

    Raises:
        ValueError: naming one that is too small or too large.
    """
    for key, largest in LARGEST.items():
        smallest = 0 if key in MAY_BE_ZERO else 1
        if key in config and not smallest <= config[key] <= largest:
            raise ValueError(f"{key}={shown(config[key])}: a number from {smallest} to {largest} needed")
    for key in DROPOUTS:
        if config.get(key) is not None and not 0 <= config[key] < 1:
            raise ValueError(f"{key}={shown(config[key])}: a number from 0 to below 1 needed")
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    width = heads * config.get("attention_head_size", 0) or hidden
    weights = hidden * (4 * width + 2 * config["intermediate_size"])
    if weights > MOST_OF_A_LAYER:
        raise ValueError(
            f"a layer has {weights:,} weights, more than {MOST_OF_A_LAYER:,}: a smaller hidden_size, intermediate_size "
            "or attention_head_size needed"
        )


@strict
class QuoremConfig(PreTrainedConfig):
    r"""Configuration of an ELECTRA generator, discriminator or fine-tuned model.

    Args:
        vocab_size (`int`): V, number of ids.
        embedding_size (`int`): D, width of a token's vector.
        hidden_size (`int`): width of the encoder.
        num_hidden_layers (`int`): layers.
        num_attention_heads (`int`): heads.
        attention_head_size (`int`): width of a head; 0 stands for hidden_size / heads.
        intermediate_size (`int`): width of the feed-forward layer.
        hidden_act (`str`): activation, by its name in transformers.
        hidden_dropout_prob (`float`): dropout of embeddings and layer outputs.
        attention_probs_dropout_prob (`float`): dropout of attention probabilities.
        max_position_embeddings (`int`): longest sequence with absolute positions; others have no limit.
        type_vocab_size (`int`): number of token types.
        positions (`str`): absolute (learned), rotary (arXiv:2104.09864) or alibi (symmetric, arXiv:2108.12409).
        causal (`bool`): whether a token sees itself and earlier ones only, as a model of the next item needs.
        initializer (`str`): bert (every weight N(0, initializer_range^2)) or width (embeddings N(0, 1/D), linear layers
            N(0, 1/(3 fan-in))).
        initializer_range (`float`): standard deviation for bert.
        layer_norm_eps (`float`): epsilon of every LayerNorm.
        embedding (`dict`): kind (quorem.embeddings.EMBEDDINGS), own_rows, divisor, permuted, and the kind's options.
        head (`dict`): the generator's output: kind (full, two_level or digits); for the last two also condition,
            for digits moduli.
        never_targets (`list`): ids the generator never predicts.
        tokenizer_fingerprint (`str`, *optional*): of the tokenizer the ids come from (quorem.tokenization.fingerprint);
            another one beside the weights is refused.
        classifier_head (`str`): paper (dropout and one linear layer) or hf (transformers' two layers); of answers paper
            (ends given a start, and whether there is an answer) or hf (two scores for each token).
        classifier_pooling (`str`): cls, mean or max over the hidden states of real tokens.
        classifier_layers (`str`): last, or all: pooled vectors of the embeddings and of every layer, side by side.
        classifier_dropout (`float`, *optional*): dropout of the classifier; hidden_dropout_prob if not given.
        classifier_length (`int`): 0 if the encoder reads rows as they come; else rows are whole documents, of which it
            reads excerpts of at most so many tokens.
        classifier_truncation (`str`): which: head, tail, both, or windows, which are pooled.
        classifier_ngrams (`int`): longest n-grams of the branch beside the encoder; 0 for no branch.
        classifier_ngram_rows (`int`): rows of its table.
        classifier_sif (`bool`): whether there is a branch for the weighted mean of token vectors.
        window_length (`int`): tokens of a window over a text whose words are tagged, or that questions are answered
            from, special ones and the question included.
        window_stride (`int`): tokens that two windows share.
        question_length (`int`): tokens of a question that are read.
        answer_length (`int`): most tokens of an answer.
        answer_units (`str`): what F1 of answers counts: words or characters.
        may_lack_answer (`bool`): whether there are texts without an answer.
        no_answer_threshold (`float`): the score of no answer above which there is none.
        target_mean (`float`): of a regression's numbers: a logit of 0 stands for it.
        target_std (`float`): of the same: a logit is so many of it away from the mean.
    """

    model_type = "quorem"

    vocab_size: int = 30522
    embedding_size: int = 128
    hidden_size: int = 256
    num_hidden_layers: int = 12
    num_attention_heads: int = 4
    attention_head_size: int = 0
    intermediate_size: int = 1024
    hidden_act: str = "gelu"
    hidden_dropout_prob: float | int = 0.1
    attention_probs_dropout_prob: float | int = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    positions: str = "absolute"
    causal: bool = False
    initializer: str = "bert"
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0
    embedding: dict[str, Any] | None = None
    head: dict[str, Any] | None = None
    never_targets: list[int] | None = None
    tokenizer_fingerprint: str | None = None
    classifier_head: str = "paper"
    classifier_pooling: str = "cls"
    classifier_layers: str = "last"
    classifier_dropout: float | int | None = None
    classifier_length: int = 0
    classifier_truncation: str = WINDOWS
    classifier_ngrams: int = 0
    classifier_ngram_rows: int = 0
    classifier_sif: bool = False
    window_length: int = 0
    window_stride: int = 0
    question_length: int = 64
    answer_length: int = 30
    answer_units: str = "words"
    may_lack_answer: bool = False
    no_answer_threshold: float | int = 0.0
    target_mean: float | int = 0.0
    target_std: float | int = 1.0
    tie_word_embeddings: bool = False  # rows are shared by quorem's own head, not by transformers' mechanism

    def __post_init__(self, **kwargs: Any) -> None:
        """Fill in the ordinary table and the full softmax; check the named choices."""
        self.embedding = self.embedding or {"kind": "dense", "own_rows": self.vocab_size, "divisor": 1}
        self.head = self.head or {"kind": "full"}
        check_sizes(vars(self))
        for key in ("embedding", "head"):
            given = getattr(self, key)
            if not isinstance(given.get("kind"), str):
                raise ValueError(f"{key}={shown(given)}: a mapping with the name of a kind needed")
            if too_large := [name for name, value in given.items() if isinstance(value, int) and value >= 2**31]:
                raise ValueError(f"{key}: {too_large[0]}={shown(given[too_large[0]])} is too large")
        self.attention_head_size = self.attention_head_size or self.hidden_size // self.num_attention_heads
        for key, allowed in (
            ("positions", POSITIONS),
            ("initializer", INITIALIZERS),
            ("classifier_pooling", POOLINGS),
            ("classifier_layers", POOLED_LAYERS),
            ("classifier_truncation", TRUNCATIONS),
            ("answer_units", ANSWER_UNITS),
        ):
            if getattr(self, key) not in allowed:
                raise ValueError(f"{key}={getattr(self, key)!r}: one of {', '.join(allowed)} needed")
        super().__post_init__(**kwargs)

    @property
    def longest_row(self) -> int:
        """Tokens of the longest row that the encoder reads: only absolute positions have an end."""
        return self.max_position_embeddings if self.positions == "absolute" else sys.maxsize
