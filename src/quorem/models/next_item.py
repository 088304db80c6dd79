"""The next-item model: an encoder and an exact softmax over all items, asked after the last item of a history.

With a causal encoder every place is asked at once: the place of item t for item t + 1 (Kang and McAuley 2018, SASRec,
arXiv:1808.09781, with a softmax over all items instead of sampled negatives). Else a [MASK] at the end is asked (Sun et
al. 2019, BERT4Rec, arXiv:1904.06690). A history is [CLS] and its items, as pre-training has them.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.modeling_outputs import MaskedLMOutput

from quorem.data.batches import collate
from quorem.errors import UserError
from quorem.models.checkpoint_files import check_finite, read_config, read_weights
from quorem.models.modeling import IGNORED, QuoremForMaskedLM
from quorem.tokenization.special import SPECIAL_TOKENS

logger = logging.getLogger(__name__)

CLS, MASK = SPECIAL_TOKENS.index("[CLS]"), SPECIAL_TOKENS.index("[MASK]")
LENGTH_MULTIPLE = 4  # of padded batches, as in pre-training
HEAD = "generator_lm_head."


class QuoremForNextItem(QuoremForMaskedLM):
    """Encoder and head: input_ids (batch, time) -> log-probabilities of the item after each (config.causal).

    Parameter names are the generator's, so that weights of one load into the other where their shapes agree.
    """

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> MaskedLMOutput:
        """As `QuoremForMaskedLM.forward`, but labels of a causal model are moved, as transformers' causal models do.

        Args:
            input_ids: int64 (batch, time).
            attention_mask: (batch, time), 1 for real tokens; None if all are.
            token_type_ids: int64 (batch, time); zeros if None.
            labels: int64 (batch, time), IGNORED where there is nothing to predict. If config.causal, place t is asked
                for label t + 1, so that input_ids are the labels of their own; else for its own label, as at a [MASK].
            kwargs: as there.
        """
        if labels is not None and self.config.causal:
            labels = F.pad(labels[:, 1:], (0, 1), value=IGNORED)
        return super().forward(input_ids, attention_mask, token_type_ids, labels, **kwargs)

    def inputs(self, histories: Sequence[Sequence[int]], *, max_items: int) -> tuple[Tensor, Tensor | None, Tensor]:
        """Rows that ask for the item after each history, of which the last `max_items` are read.

        Args:
            histories: ids of items; of an empty one [CLS] alone is read.
            max_items: at least 1.

        Returns:
            input_ids int64 (n, time), attention_mask bool (n, time) or None, and the flat places int64 (n,) asked.
        """
        end = [] if self.config.causal else [MASK]
        rows = [[CLS, *history[-max_items:], *end] for history in histories]
        config = self.config
        pad_id, most = config.pad_token_id or 0, config.longest_row
        input_ids, mask = collate(rows, pad_id=pad_id, multiple=LENGTH_MULTIPLE, most=most)
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
    config, weights = read_config(source), read_weights(source, "next_item")
    if not any(name.startswith(HEAD) for name in weights):
        raise UserError(
            f"{source}: is not a next-item model, because it has no softmax: run quorem finetune --task next_item"
        )
    try:
        model = QuoremForNextItem(config)
        model.load_state_dict(weights)
    except Exception as error:  # a damaged file can fail in any way
        raise UserError(
            f"{source}: config.json and model.safetensors do not fit each other: train again or copy both again "
            f"({' '.join(str(error).split())[:200]})"
        ) from error
    check_finite(model, source)
    return model.eval()
