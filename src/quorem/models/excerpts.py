"""What the encoder reads of a document that is longer than its window: one excerpt, or all of it in windows."""

from typing import NamedTuple

import torch
from torch import Tensor

from quorem.models.configuration import WINDOWS

FRAME = 2  # [CLS] and [SEP]


class Excerpts(NamedTuple):
    """Pieces of documents, each [CLS] tokens [SEP], padded on the right.

    Args:
        input_ids: int64 (pieces, width).
        attention_mask: bool (pieces, width), or None if all tokens are real.
        owners: int64 (pieces,), the document of each, rising.
    """

    input_ids: Tensor
    attention_mask: Tensor | None
    owners: Tensor


def window_counts(lengths: Tensor, length: int) -> Tensor:
    """How many windows of at most `length` tokens documents of `lengths` tokens int64 (n,) need, frames included."""
    return (-((FRAME - lengths) // (length - FRAME))).clamp(min=1)


def excerpts(
    input_ids: Tensor, attention_mask: Tensor | None, *, length: int, truncation: str, pad_id: int, multiple: int = 1
) -> Excerpts:
    """Cut whole documents. Looks at lengths: on a GPU the host waits for them, so training cuts on the CPU.

    Windows are of nearly equal length and do not overlap; a document that fits into one is taken as it is.

    Args:
        input_ids: int64 (batch, time), each row [CLS] tokens [SEP] and padding on one side.
        attention_mask: (batch, time), 1 for real tokens; None if all are.
        length: most tokens of a piece, frame included; at least 3.
        truncation: windows for all of it, or what is kept: its head, its tail, or both in equal parts.
        pad_id: id of [PAD].
        multiple: the width is rounded up to one, but not above `length`.
    """
    real = torch.ones_like(input_ids) if attention_mask is None else attention_mask.long()
    lengths, first, room = real.sum(1), real.argmax(1), length - FRAME
    body = (lengths - FRAME).clamp(min=0)
    counts = window_counts(lengths, length) if truncation == WINDOWS else torch.ones_like(body)
    owners = torch.arange(len(body), device=body.device).repeat_interleave(counts)
    number = torch.arange(len(owners), device=body.device) - (counts.cumsum(0) - counts)[owners]
    if truncation == WINDOWS:
        starts, ends = (body[owners] * at // counts[owners] for at in (number, number + 1))
        sizes, kept_head = ends - starts, room
    else:
        sizes, kept_head = body.clamp(max=room), {"head": room, "tail": 0, "both": room - room // 2}[truncation]
        starts = torch.zeros_like(sizes)
    width = int(sizes.max()) + FRAME
    width = max(width, min(-(-width // multiple) * multiple, length))
    place = torch.arange(width, device=body.device).unsqueeze(0)  # in the piece
    sizes, skipped = sizes.unsqueeze(1), (body[owners] - sizes).unsqueeze(1)
    inside = place + starts.unsqueeze(1)
    if truncation != WINDOWS:
        inside = inside + skipped * (place > kept_head)
    last = (lengths[owners] - 1).unsqueeze(1)
    source = torch.where(place == 0, 0, torch.where(place <= sizes, inside, last)).clamp(max=last)
    mask = place < (sizes + FRAME).minimum(lengths[owners].unsqueeze(1))
    cut = input_ids[owners.unsqueeze(1), first[owners].unsqueeze(1) + source].masked_fill(~mask, pad_id)
    return Excerpts(cut, None if bool(mask.all()) else mask, owners)
