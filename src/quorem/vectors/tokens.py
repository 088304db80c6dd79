"""The vectors of single tokens: the words, pieces or items of a vocabulary."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from quorem.embeddings import TokenEmbedding
from quorem.errors import UserError
from quorem.finetuning.checkpoint import model_folder
from quorem.models.checkpoint_files import TABLE, check_finite, read_config, read_weights
from quorem.models.modeling import build_embedding
from quorem.tokenization import load_tokenizer
from quorem.tokenization.special import SPECIAL_IDS

TOKENS_AT_ONCE = 16_384


def token_table(run: str | Path) -> tuple[TokenEmbedding, PreTrainedTokenizerFast]:
    """The token table of a run's model, alone, and its tokenizer.

    Args:
        run: any run, or a model folder.

    Raises:
        UserError: if there is no model, or a damaged one.
    """
    folder = model_folder(run)
    weights = read_weights(folder, "discriminator")
    try:
        table = build_embedding(read_config(folder))
        table.load_state_dict({name.removeprefix(TABLE): it for name, it in weights.items() if name.startswith(TABLE)})
    except UserError:
        raise
    except Exception as error:  # a damaged file can fail in any way
        raise UserError(f"{folder}: is damaged ({' '.join(str(error).split())[:200]}): copy it anew") from error
    check_finite(table, folder, prefix=TABLE)
    return table, load_tokenizer(folder)


def token_vectors(table: TokenEmbedding, tokenizer: PreTrainedTokenizerFast) -> Iterator[tuple[list[str], Tensor]]:
    """All tokens but the special ones, in the order of their ids: names, and float32 (n, D); some at once.

    A compressed table is never made whole.
    """
    for start in range(SPECIAL_IDS, len(tokenizer), TOKENS_AT_ONCE):
        ids = torch.arange(start, min(start + TOKENS_AT_ONCE, len(tokenizer)))
        with torch.no_grad():
            yield tokenizer.convert_ids_to_tokens(ids.tolist()), table(ids).float()
