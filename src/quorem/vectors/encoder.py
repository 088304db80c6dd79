"""From texts to vectors: what a pre-trained encoder makes of each, pooled."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from quorem.data.batches import collate
from quorem.errors import UserError, check_choice
from quorem.finetuning.checkpoint import model_folder
from quorem.finetuning.rows import encode_rows
from quorem.models.checkpoint_files import read_weights
from quorem.models.classifier import pool
from quorem.models.configuration import QuoremConfig
from quorem.models.modeling import QuoremModel
from quorem.tokenization import load_tokenizer

POOLINGS = {"mean": "mean", "first": "cls", "max": "max"}  # and what `pool` calls them
AT_ONCE = 64  # texts


def load_encoder(folder: str | Path) -> tuple[QuoremModel, PreTrainedTokenizerFast]:
    """The encoder of any run's model, without a head, in evaluation mode, and its tokenizer.

    Args:
        folder: of a run of pre-training (its discriminator) or fine-tuning, or a model folder.

    Raises:
        UserError: if there is no model, or a damaged one.
    """
    place = model_folder(folder)
    tokenizer = load_tokenizer(place)
    weights = read_weights(place, "discriminator")
    try:
        network = QuoremModel(QuoremConfig.from_pretrained(place, local_files_only=True))
        own = {name.removeprefix("electra."): value for name, value in weights.items() if name.startswith("electra.")}
        network.load_state_dict(own)
    except UserError:
        raise
    except Exception as error:  # a damaged file can fail in any way
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{place}: config.json and the weights do not fit each other ({reason}): copy them anew"
        ) from error
    return network.eval(), tokenizer


def batches(
    network: QuoremModel, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], max_length: int | None
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Texts as input_ids int64 (b, time) and attention_mask bool (b, time) or None, on the network's device.

    Args:
        network: says how long a row may be.
        tokenizer: its.
        texts: any.
        max_length: tokens of a text that are read, special ones included; the network's limit if None.
    """
    limit = network.config.max_position_embeddings
    length = limit if max_length is None else max_length
    if network.config.positions == "absolute":
        length = min(length, limit)
    rows = encode_rows(tokenizer, texts, max_length=length, truncation="head")
    for start in range(0, len(rows), AT_ONCE):
        ids, mask = collate(rows[start : start + AT_ONCE], pad_id=int(tokenizer.pad_token_id))
        yield ids.to(network.device), None if mask is None else mask.to(network.device)


@torch.no_grad()
def encode_texts(
    network: QuoremModel,
    tokenizer: PreTrainedTokenizerFast,
    texts: Sequence[str],
    *,
    pooling: str = "mean",
    max_length: int | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """A vector for each text: pooled over its tokens, the mean over the states of all layers.

    The last layer alone is made for telling replaced tokens apart, and reads less (docs/results.md).

    Args:
        network: the encoder.
        tokenizer: its.
        texts: any; of an empty one the special tokens are read.
        pooling: mean or max over the tokens, or first, the state of [CLS].
        max_length: as in `batches`.
        dtype: of autocast; None for float32 throughout.

    Returns:
        float32 (n, hidden_size), on the CPU.

    Raises:
        UserError: for an unknown pooling.
    """
    check_choice("pooling", pooling, POOLINGS)
    found = [torch.empty(0, network.config.hidden_size)]
    for ids, mask in batches(network, tokenizer, texts, max_length):
        with torch.autocast(ids.device.type, dtype=dtype, enabled=dtype is not None):
            states = network(ids, mask, output_hidden_states=True).hidden_states
        mean = torch.stack([state.float() for state in states[1:]]).mean(0)
        found.append(pool(mean, mask, POOLINGS[pooling]).cpu())
    return torch.cat(found)
