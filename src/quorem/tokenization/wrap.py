"""The whole Hugging Face tokenizer around what cuts texts."""

from collections.abc import Sequence

from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from quorem.tokenization.special import SPECIAL_TOKENS

GIVEN = ["input_ids", "token_type_ids", "attention_mask"]  # as of ELECTRA: types tell the texts of a pair apart
ROLES = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")  # of SPECIAL_TOKENS, in their order


def wrap(
    tokenizer: Tokenizer, names: Sequence[str] = SPECIAL_TOKENS, *, model_max_length: int | None = None
) -> PreTrainedTokenizerFast:
    """What transformers uses: [CLS] before and [SEP] after a text, padding on the right.

    Args:
        tokenizer: its first ids are the special tokens.
        names: theirs, in the order of ROLES.
        model_max_length: tokens, the special ones included, at which it truncates when asked to.
    """
    tokenizer.add_special_tokens(list(names))
    tokenizer.post_processor = frame(names)
    limit = {} if model_max_length is None else {"model_max_length": model_max_length}
    roles = dict(zip(ROLES, names, strict=True))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, padding_side="right", model_input_names=GIVEN, **roles, **limit
    )


def frame(names: Sequence[str]) -> TemplateProcessing:
    """What puts [CLS] before and [SEP] after a text, and types 0 and 1 on the texts of a pair.

    Args:
        names: of the special tokens, in the order of ROLES; their places are their ids.
    """
    _, _, cls, sep, _ = names
    return TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {sep} $B:1 {sep}:1",
        special_tokens=[(token, list(names).index(token)) for token in (cls, sep)],
    )
