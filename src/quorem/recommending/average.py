"""Next-item runs that differ in their seeds, asked as one: the mean of their probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from quorem.errors import UserError
from quorem.models.next_item import QuoremForNextItem, load_next_item


@dataclass(frozen=True)
class Average:
    """Several models of the same items.

    Attributes:
        models: one or more, whose vocabularies are the same.
    """

    models: list[QuoremForNextItem]

    @property
    def vocab_size(self) -> int:
        """V."""
        return int(self.models[0].config.vocab_size)

    def to(self, device: torch.device | None) -> None:
        """Move all of them; None leaves them."""
        for model in self.models:
            model.to(device)

    @torch.no_grad()
    def scores(self, histories: Sequence[Sequence[int]], *, max_items: int, dtype: torch.dtype | None = None) -> Tensor:
        """The log of the mean p of every id after each history, float32 (n, V) on the CPU.

        Args:
            histories: ids of items.
            max_items: how many of each, from its end, are read.
            dtype: of autocast; None for float32 throughout.
        """
        total = self.models[0].scores(histories, max_items=max_items, dtype=dtype)
        for model in self.models[1:]:  # two of (n, V) in memory, however many models there are
            total = torch.logaddexp(total, model.scores(histories, max_items=max_items, dtype=dtype))
        return total - torch.tensor(float(len(self.models))).log()


def load_average(folders: Sequence[Path]) -> Average:
    """The models of runs, or of their model folders.

    Raises:
        UserError: if one is not there or damaged, or has another vocabulary.
    """
    models = [load_next_item(folder) for folder in folders]
    for folder, model in zip(folders, models, strict=True):
        if model.config.vocab_size != models[0].config.vocab_size:
            raise UserError(
                f"{folder}: has {model.config.vocab_size:,} tokens, and {folders[0]} {models[0].config.vocab_size:,}: "
                "only runs on the same tokens are averaged: train this one again with --seeds"
            )
    return Average(models)
