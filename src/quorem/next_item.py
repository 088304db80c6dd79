"""The next-item model: an encoder and an exact softmax over all items, asked after the last item of a history.

With a causal encoder every place is asked at once: the place of item t for item t + 1 (Kang and McAuley 2018, SASRec,
arXiv:1808.09781, with a softmax over all items instead of sampled negatives). Else a [MASK] at the end is asked (Sun et
al. 2019, BERT4Rec, arXiv:1904.06690). A history is [CLS] and its items, as pre-training has them.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quorem.checkpoint_files import read_weights
from quorem.configuration import QuoremConfig
from quorem.data.batches import WEIGHTS, collate, step_seed
from quorem.errors import UserError, check_choice
from quorem.heads import HEADS
from quorem.layout import lay_out
from quorem.modeling import QuoremForMaskedLM
from quorem.settings import EmbeddingSettings, HeadSettings, ModelSettings
from quorem.tokenization.special import SPECIAL_IDS, SPECIAL_TOKENS

logger = logging.getLogger(__name__)

CLS, MASK = SPECIAL_TOKENS.index("[CLS]"), SPECIAL_TOKENS.index("[MASK]")
ATTENTIONS = ("causal", "masked")
STARTS = ("discriminator", "generator", "cooccurrence", "random")
PRE_TRAINED = STARTS[:2]
LENGTH_MULTIPLE = 4  # of padded batches, as in pre-training
PREDICTIONS, HEAD = "generator_predictions.", "generator_lm_head."


class QuoremForNextItem(QuoremForMaskedLM):
    """Encoder and head: input_ids (batch, time) -> log-probabilities of the item after each (config.causal).

    Parameter names are the generator's, so that weights of one load into the other where their shapes agree.
    """

    def inputs(self, histories: Sequence[Sequence[int]], *, max_items: int) -> tuple[Tensor, Tensor | None, Tensor]:
        """Rows that ask for the item after each history, of which the last `max_items` are read.

        Args:
            histories: ids of items; none may be empty.
            max_items: at least 1.

        Returns:
            input_ids int64 (n, time), attention_mask bool (n, time) or None, and the flat places int64 (n,) asked.
        """
        end = [] if self.config.causal else [MASK]
        rows = [[CLS, *history[-max_items:], *end] for history in histories]
        input_ids, mask = collate(rows, pad_id=self.config.pad_token_id or 0, multiple=LENGTH_MULTIPLE)
        last = torch.tensor([len(row) - 1 for row in rows]) + torch.arange(len(rows)) * input_ids.shape[1]
        return input_ids, None if self.config.causal else mask, last  # padding comes later: nobody sees it

    @torch.no_grad()
    def vectors(
        self, histories: Sequence[Sequence[int]], *, max_items: int, dtype: torch.dtype | None = None
    ) -> Tensor:
        """What the head is asked with: float32 (n, D), one for each history.

        Args:
            histories: as in `inputs`.
            max_items: see there.
            dtype: of autocast; None for float32 throughout.
        """
        input_ids, mask, places = self.inputs(histories, max_items=max_items)
        device = self.device
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            found = self.hidden_at(input_ids.to(device), None if mask is None else mask.to(device), places.to(device))
        return found.float()

    @torch.no_grad()
    def scores(self, histories: Sequence[Sequence[int]], *, max_items: int, dtype: torch.dtype | None = None) -> Tensor:
        """Exact log p of every id after each history, float32 (n, V) on the CPU; memory grows with V.

        Args:
            histories: as in `inputs`.
            max_items: see there.
            dtype: of autocast; None for float32 throughout.
        """
        hidden = self.vectors(histories, max_items=max_items, dtype=dtype)
        found = torch.full((len(hidden), self.config.vocab_size), -torch.inf)
        for ids, log_probs in self.generator_lm_head.full_log_prob(hidden):
            found[:, ids.cpu()] = log_probs.cpu()
        return found


def build_next_item(
    folder: Path, *, start: str, attention: str, head: str, dropout: float, seed: int
) -> tuple[QuoremForNextItem, frozenset[str]]:
    """A next-item model on the networks of a pre-training run.

    The encoder and the token vectors are those of the discriminator or the generator, the head the generator's where
    it has the shapes; the rest is new, and logged. For the starts cooccurrence and random all weights are new, in the
    discriminator's sizes; the order of the ids in the table is kept.

    Args:
        folder: of the run, or of one network of the kind that the start names.
        start: one of STARTS.
        attention: one of ATTENTIONS.
        head: the softmax, a kind of HEADS; auto for the generator's.
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
    generator = _config(beside) if (beside / "config.json").exists() else None
    config = _config(source)
    changes: dict[str, Any] = {
        "causal": attention == "causal",
        "head": _head(head, config, generator),
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
    _tell(source, start, wanted, new)
    return model, new


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


def load_next_item(folder: Path) -> QuoremForNextItem:
    """The model of a run of `finetune --task next_item`, or of its model folder.

    Raises:
        UserError: if there is none, or a damaged one.
    """
    source = folder / "model" if (folder / "model").exists() else folder
    if not (source / "config.json").exists():
        found = "a pre-training run: run quorem finetune --task next_item on it first" if (
            folder / "discriminator"
        ).exists() else "no model"  # fmt: skip
        raise UserError(f"{folder}: has {found} (no model/config.json)")
    config, weights = _config(source), read_weights(source, "next_item")
    if not any(name.startswith(HEAD) for name in weights):
        raise UserError(f"{source}: is no next-item model, for it has no softmax: run quorem finetune --task next_item")
    try:
        model = QuoremForNextItem(config)
        model.load_state_dict(weights)
    except Exception as error:  # a damaged file can fail in any way
        raise UserError(
            f"{source}: config.json and model.safetensors do not fit each other: train again or copy them anew "
            f"({' '.join(str(error).split())[:200]})"
        ) from error
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise UserError(f"{source}: NaN or an infinite number in {name}: train again, with a smaller learning rate")
    return model.eval()


def _config(folder: Path) -> QuoremConfig:
    try:
        return QuoremConfig.from_pretrained(folder)
    except Exception as error:  # a damaged file can fail in any way
        raise UserError(f"{folder}: config.json is damaged ({error}): copy it anew") from error


def _weights(folder: Path, network: str, prefixes: tuple[str, ...]) -> dict[str, Tensor]:
    return {name: value for name, value in read_weights(folder, network).items() if name.startswith(prefixes)}


def _head(kind: str, config: QuoremConfig, generator: QuoremConfig | None) -> dict[str, Any]:
    """The head entry: the generator's, if it is of the kind asked for and over the same table, else laid out anew."""
    table = config.embedding or {}
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


def _tell(source: Path, start: str, wanted: dict[str, Tensor], new: frozenset[str]) -> None:
    """Say what was loaded and what is new, part by part."""
    parts = {"encoder and token vectors": "electra.", "projection to token vectors": PREDICTIONS, "softmax": HEAD}
    said = []
    for part, prefix in parts.items():
        names = [name for name in wanted if name.startswith(prefix)]
        loaded = sum(name not in new for name in names)
        said.append(f"{part}: {loaded} of {len(names)} tensors")
    logger.info("next_item.start=%s: loaded from %s: %s; the rest is new", start, source.parent, ", ".join(said))
