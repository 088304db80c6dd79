"""Training, adopting, using and keeping tokenizers, all of them Hugging Face fast tokenizers."""

from quorem.tokenization.adopt import adopt_tokenizer
from quorem.tokenization.encode import encode
from quorem.tokenization.files import fingerprint, load_tokenizer, read_tokenizer, save_tokenizer, tokenizer_files
from quorem.tokenization.hints import hint_at_long_tokens
from quorem.tokenization.special import SPECIAL_TOKENS
from quorem.tokenization.train import TOKENIZERS, train_tokenizer
from quorem.tokenization.unknown import Unknown

__all__ = [
    "SPECIAL_TOKENS",
    "TOKENIZERS",
    "Unknown",
    "adopt_tokenizer",
    "encode",
    "fingerprint",
    "hint_at_long_tokens",
    "load_tokenizer",
    "read_tokenizer",
    "save_tokenizer",
    "tokenizer_files",
    "train_tokenizer",
]
