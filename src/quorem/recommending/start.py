"""What a next-item model starts from: networks of a pre-training run, or their sizes alone."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quorem.config.settings import EmbeddingSettings, HeadSettings, ModelSettings
from quorem.data.batches import WEIGHTS, step_seed
from quorem.errors import UserError, check_choice
from quorem.heads import HEADS
from quorem.models.checkpoint_files import read_config, read_weights
from quorem.models.configuration import QuoremConfig
from quorem.models.next_item import HEAD, QuoremForNextItem
from quorem.plan.layout import STARTED_UP_TO, lay_out
from quorem.tokenization.special import SPECIAL_IDS

logger = logging.getLogger(__name__)

ATTENTIONS = ("causal", "masked")
AUTO = "auto"
STARTS = ("discriminator", "generator", "cooccurrence", "random")
PRE_TRAINED = STARTS[:2]
PREDICTIONS = "generator_predictions."
COSINE_UP_TO = 100_000  # items; the time of a full softmax grows with them (docs/results.md)


def build_next_item(
    folder: Path, *, start: str, attention: str, head: str, scale: float, dropout: float, seed: int
) -> tuple[QuoremForNextItem, frozenset[str]]:
    """A next-item model on the networks of a pre-training run.

    The encoder and the token vectors are those of the discriminator or the generator, the head the generator's where
    it has the shapes; the rest is new, and logged. For the starts cooccurrence and random all weights are new, in the
    discriminator's sizes; the order of the ids in the table is kept.

    Args:
        folder: of the run, or of one network of the kind that the start names.
        start: one of STARTS.
        attention: one of ATTENTIONS.
        head: the softmax, a kind of HEADS; auto for the generator's where the model starts from that or has more than
            COSINE_UP_TO items, else cosine.
        scale: of head cosine.
        dropout: everywhere.
        seed: of new weights.

    Returns:
        The model, and the names of weights that are new.

    Raises:
        UserError: if there is no such network, it is damaged, or the softmax does not go with its table.
    """
    check_choice("next_item.start", start, STARTS)
    check_choice("next_item.attention", attention, ATTENTIONS)
    check_choice("next_item.head", head, ("auto", *HEADS))
    source = network_folder(folder, "generator" if start == "generator" else "discriminator")
    beside = source if start == "generator" else source.parent / "generator"
    generator = read_config(beside) if (beside / "config.json").exists() else None
    config = read_config(source)
    changes: dict[str, Any] = {
        "causal": attention == "causal",
        "head": _head(head, config, generator, scale=scale, start=start),
        "never_targets": list(range(SPECIAL_IDS)),
        "hidden_dropout_prob": dropout,
        "attention_probs_dropout_prob": dropout,
    }
    torch.manual_seed(step_seed(seed, WEIGHTS))
    try:
        model = QuoremForNextItem(QuoremConfig.from_pretrained(source, **changes))
    except ValueError as error:
        raise UserError(f"next_item.head={head}: {error}") from error
    found = {} if start == "generator" or generator is None else _weights(beside, "next_item", (PREDICTIONS, HEAD))
    kept = "" if start in PRE_TRAINED else "electra.embeddings.word_embeddings.assignment."  # the order of ids
    found |= _weights(source, "next_item" if start == "generator" else "discriminator", ("electra.", PREDICTIONS, HEAD))
    if generator is not None and generator.head != model.config.head:  # its tensors may fit by chance
        found = {name: value for name, value in found.items() if not name.startswith(HEAD)}
    wanted = model.state_dict()
    taken = {
        name: value for name, value in found.items()
        if name.startswith(kept) and name in wanted and value.shape == wanted[name].shape
    }  # fmt: skip
    new = frozenset(name for name in wanted if name not in taken)
    lacking = sorted(name for name in new if name.startswith("electra." if start in PRE_TRAINED else kept))
    if lacking:
        raise UserError(f"{source}: no encoder to start from, for its weights lack {lacking[0]}: copy it anew")
    model.load_state_dict(taken, strict=False)
    _log_parts(source, start, wanted, new)
    return model, new


def resolve_start(folder: Path, start: str) -> str:
    """One of STARTS: for auto cooccurrence, which was as good as pre-trained layers or better (docs/results.md).

    Above STARTED_UP_TO items, where nothing was measured, it is the discriminator.

    Args:
        folder: of the pre-training run, or of one network.
        start: one of STARTS, or auto.

    Raises:
        UserError: for another name, or if there is no network.
    """
    check_choice("next_item.start", start, (AUTO, *STARTS))
    if start != AUTO:
        return start
    items = read_config(network_folder(folder, "discriminator")).vocab_size
    chosen, other = ("cooccurrence", "discriminator") if items <= STARTED_UP_TO else ("discriminator", "random")
    logger.info("next_item.start=auto: %s (%s is the other choice: docs/recommending.md)", chosen, other)
    return chosen


def network_folder(folder: Path, name: str) -> Path:
    """The folder of one of a run's networks, or that folder itself.

    Raises:
        UserError: if there is none.
    """
    for candidate in (folder / name, folder):
        if (candidate / "config.json").exists():
            return candidate
    if (folder / "config.yaml").exists():
        raise UserError(f"{folder}: has no {name} (yet): a finished run of quorem pretrain is needed")
    raise UserError(f"{folder}: no {name}/config.json there: give a run of quorem pretrain")


def _weights(folder: Path, network: str, prefixes: tuple[str, ...]) -> dict[str, Tensor]:
    return {name: value for name, value in read_weights(folder, network).items() if name.startswith(prefixes)}


def _head(
    kind: str, config: QuoremConfig, generator: QuoremConfig | None, *, scale: float, start: str
) -> dict[str, Any]:
    """The head entry: the generator's, if it is of the kind asked for and over the same table, else laid out anew."""
    table = config.embedding or {}
    if kind == "auto" and start != "generator" and config.vocab_size <= COSINE_UP_TO:
        kind = "cosine"
    if kind == "cosine":
        return {"kind": kind, "scale": scale}
    if generator is not None and generator.embedding == table and kind in ("auto", (generator.head or {}).get("kind")):
        return dict(generator.head or {})
    if kind == "auto" and table["kind"] == "dense" and table["own_rows"] == config.vocab_size:
        return {"kind": "full"}  # there is no grid for another
    if kind in ("full", "two_level"):
        return {"kind": kind}
    settings = ModelSettings(
        vocab_size=config.vocab_size,
        embedding=replace(EmbeddingSettings(), kind=table["kind"], own_rank=int(table.get("own_rank", 0))),
        head=HeadSettings(kind=kind),
    )
    _, entry = lay_out(settings, vocab_size=config.vocab_size, width=config.embedding_size)
    return entry


def _log_parts(source: Path, start: str, wanted: dict[str, Tensor], new: frozenset[str]) -> None:
    """Say what was loaded and what is new, part by part."""
    parts = {"encoder and token vectors": "electra.", "projection to token vectors": PREDICTIONS, "softmax": HEAD}
    said = []
    for part, prefix in parts.items():
        names = [name for name in wanted if name.startswith(prefix)]
        loaded = sum(name not in new for name in names)
        said.append(f"{part}: {loaded} of {len(names)} tensors")
    if len(new) == len(wanted):
        logger.info("next_item.start=%s: new weights; vocabulary and sizes are those of %s", start, source.parent)
    else:
        logger.info("next_item.start=%s: loaded from %s: %s; the rest is new", start, source.parent, ", ".join(said))
