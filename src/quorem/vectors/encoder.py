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
from quorem.models.checkpoint_files import check_finite, read_config, read_weights
from quorem.models.classifier import pool
from quorem.models.modeling import QuoremModel
from quorem.models.sif import sif_weights
from quorem.tokenization import Unknown, load_tokenizer

POOLINGS = {"sif": "sif", "mean": "mean", "first": "cls", "max": "max"}  # and what `pool` calls them
PRE_TRAINED = ("QuoremForPreTraining", "QuoremForMaskedLM", "QuoremModel")  # no task has changed their layers
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
        network = QuoremModel(read_config(place))
        own = {name.removeprefix("electra."): value for name, value in weights.items() if name.startswith("electra.")}
        network.load_state_dict(own)
    except UserError:
        raise
    except Exception as error:  # a damaged file can fail in any way
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{place}: config.json and the weights do not fit each other ({reason}): copy them anew"
        ) from error
    check_finite(network, place)
    return network.eval(), tokenizer


def batches(
    network: QuoremModel,
    tokenizer: PreTrainedTokenizerFast,
    texts: Sequence[str],
    max_length: int | None,
    unknown: Unknown | None = None,
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Texts as input_ids int64 (b, time) and attention_mask bool (b, time) or None, on the network's device.

    Args:
        network: says how long a row may be.
        tokenizer: its.
        texts: any.
        max_length: tokens of a text that are read, special ones included; the network's limit if None.
        unknown: a tally to keep of whole texts.
    """
    limit = network.config.max_position_embeddings
    length = limit if max_length is None else max_length
    if network.config.positions == "absolute":
        length = min(length, limit)
    rows = encode_rows(tokenizer, texts, max_length=length, truncation="head", unknown=unknown)
    for start in range(0, len(rows), AT_ONCE):
        ids, mask = collate(rows[start : start + AT_ONCE], pad_id=int(tokenizer.pad_token_id))
        yield ids.to(network.device), None if mask is None else mask.to(network.device)


@torch.no_grad()
def encode_texts(
    network: QuoremModel,
    tokenizer: PreTrainedTokenizerFast,
    texts: Sequence[str],
    *,
    pooling: str | None = None,
    max_length: int | None = None,
    dtype: torch.dtype | None = None,
    unknown: Unknown | None = None,
) -> Tensor:
    """A vector for each text.

    `sif` is a weighted mean of the tokens' own vectors, without any layer, in which rare tokens weigh more (`sif`
    below). Of small encoders that have only been pre-trained it reads the most: their layers are made for telling
    replaced tokens apart, and say less of what a text is about the higher they are (docs/results.md). The others pool
    the mean over the states of all layers.

    Args:
        network: the encoder.
        tokenizer: its.
        texts: any; of an empty one the special tokens are read.
        pooling: sif, or over the tokens mean, max, or first, the state of [CLS]; None for sif of an encoder that has
            only been pre-trained, and mean of one that was fine-tuned.
        max_length: as in `batches`.
        dtype: of autocast; None for float32 throughout.
        unknown: a tally to keep of whole texts.

    Returns:
        float32 (n, embedding_size) for sif, else (n, hidden_size), on the CPU.

    Raises:
        UserError: for an unknown pooling.
    """
    if pooling is None:
        pooling = "sif" if (network.config.architectures or PRE_TRAINED)[0] in PRE_TRAINED else "mean"
    check_choice("pooling", pooling, POOLINGS)
    config = network.config
    found = [torch.empty(0, config.embedding_size if pooling == "sif" else config.hidden_size)]
    for ids, mask in batches(network, tokenizer, texts, max_length, unknown):
        if pooling == "sif":
            found.append(sif(network, ids, mask).cpu())
            continue
        with torch.autocast(ids.device.type, dtype=dtype, enabled=dtype is not None):
            states = network(ids, mask, output_hidden_states=True).hidden_states
        mean = torch.stack([state.float() for state in states[1:]]).mean(0)
        found.append(pool(mean, mask, POOLINGS[pooling]).cpu())
    return torch.cat(found)


def sif(network: QuoremModel, ids: Tensor, attention_mask: Tensor | None) -> Tensor:
    """The mean of tokens' vectors, weighted by smooth inverse frequency (`quorem.models.sif`).

    Special tokens weigh nothing, unless there is nothing else.

    Args:
        network: whose token table is read.
        ids: int64 (batch, time).
        attention_mask: bool (batch, time), or None if all tokens are real.

    Returns:
        float32 (batch, embedding_size).
    """
    weight = sif_weights(ids, network.config.vocab_size)
    weight = weight.masked_fill((weight == 0).all(-1, keepdim=True), 1.0).unsqueeze(-1)
    if attention_mask is not None:
        weight = weight * attention_mask.unsqueeze(-1)
    return (network.get_input_embeddings()(ids).float() * weight).sum(1) / weight.sum(1)
