"""Which tokens own a row, and which share rows: id -> rank -> own row or (quotient, remainder).

Guarantees: codes are computed in integers only (exact beyond 2**24 and 2**31), are distinct for distinct ids, and leave
no row unread: the grid has exactly ceil(tail / divisor) quotients and min(divisor, tail) remainders. The divisor is
stored, never recomputed from the vocabulary size, so that growing a vocabulary moves no code.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

IDS_AT_ONCE = 2**20
FREE_TO_READ = {"cpu"}  # kinds of device whose numbers the host can read without waiting


def is_free_to_read(device: torch.device) -> bool:
    """Whether the host can read values on this device without waiting, so that shapes and errors may depend on them."""
    return device.type in FREE_TO_READ


class Assignment(nn.Module):
    """A bijection from token ids to ranks, and from ranks to rows.

    The first `own_rows` ranks have a row of their own: the special tokens and, as a tier, the most frequent tokens.
    A later rank t = rank - own_rows is the pair (t // divisor, t % divisor): the quotient-remainder partitions of
    Shi et al. 2020 (arXiv:1909.02107, sec. 3), which are complementary.

    Args:
        vocab_size: V, number of ids.
        own_rows: K, number of ranks with a row of their own; 0 <= K <= V.
        divisor: m, ids per quotient; at least 1.
        permuted: whether ids are ranked by a stored table (one int32 for each id) rather than by themselves.
    """

    rank: Tensor | None

    def __init__(self, vocab_size: int, *, own_rows: int, divisor: int, permuted: bool = False) -> None:
        super().__init__()
        if not 0 <= own_rows <= vocab_size or divisor < 1:
            raise ValueError(f"0 <= own_rows <= {vocab_size} and divisor >= 1 needed, not {own_rows} and {divisor}")
        self.vocab_size, self.own_rows = vocab_size, own_rows
        self.tail = vocab_size - own_rows
        self.divisor = max(1, min(divisor, self.tail))
        self.num_quotients = -(-self.tail // self.divisor)
        self.register_buffer("rank", torch.arange(vocab_size, dtype=torch.int32) if permuted else None)
        self._ids: Tensor | None = None  # inverse of rank, made when first asked for
        self.checks_ids = True
        """Whether `checked` checks; formats that cannot raise errors, such as ONNX, switch it off."""

    def checked(self, ids: Tensor) -> Tensor:
        """The ids as they are.

        Where the host need not wait for their numbers: an index beyond a table raises nowhere if the table is hashed
        or computed, and a negative one reads from the other end of an order.

        Raises:
            IndexError: if one is not in [0, V), as torch.nn.Embedding does; RuntimeError in compiled code.
        """
        if not self.checks_ids or not ids.numel() or not is_free_to_read(ids.device):
            return ids
        least, most = ids.aminmax()
        if torch.compiler.is_compiling():
            inside = (least >= 0) & (most < self.vocab_size)
            torch._assert_async(inside, f"an id is not in the vocabulary of {self.vocab_size} tokens")
        elif (wrong := int(least)) < 0 or (wrong := int(most)) >= self.vocab_size:
            raise IndexError(
                f"id {wrong} is not in the vocabulary: the {self.vocab_size} tokens have the ids 0 to "
                f"{self.vocab_size - 1}"
            )
        return ids

    def ranks(self, ids: Tensor) -> Tensor:
        """Ranks int64 (*batch) of ids int64 (*batch), `checked`."""
        ids = self.checked(ids)
        return ids if self.rank is None else self.rank[ids].long()

    def ids(self, ranks: Tensor) -> Tensor:
        """Ids int64 (*batch) of ranks int64 (*batch): the inverse of `ranks`."""
        if self.rank is None:
            return ranks
        if self._ids is None or self._ids.device != ranks.device:
            self._ids = self._inverse().to(ranks.device)
        return self._ids[ranks].long()

    def digits(self, ranks: Tensor) -> tuple[Tensor, Tensor]:
        """Quotient and remainder, int64 (*batch) each, of ranks int64 (*batch); ranks with an own row give (0, 0)."""
        return self.tail_digits((ranks - self.own_rows).clamp(min=0))

    def tail_digits(self, tail: Tensor) -> tuple[Tensor, Tensor]:
        """Quotient and remainder, int64 (*batch) each, of the ranks own_rows + tail, tail int64 (*batch)."""
        return tail // self.divisor, tail % self.divisor  # not torch.div: ONNX's exporter makes float32 of that

    def grown(self, vocab_size: int) -> "Assignment":
        """The assignment of a larger vocabulary: every id keeps its rank and its rows, new ids come last.

        Raises:
            ValueError: if `vocab_size` is smaller than what there is, or nothing would be shared by the new ids.
        """
        if vocab_size < self.vocab_size:
            raise ValueError(f"vocab_size={vocab_size}: at least the current {self.vocab_size} needed")
        if self.tail == 0 and vocab_size > self.vocab_size:
            raise ValueError("every token has its own row, so there are no shared rows for new tokens")
        larger = Assignment(vocab_size, own_rows=self.own_rows, divisor=self.divisor, permuted=self.rank is not None)
        if self.rank is not None and larger.rank is not None:
            larger.rank = larger.rank.to(self.rank.device)
            larger.rank[: self.vocab_size] = self.rank
        return larger

    def set_order(self, order: Tensor) -> None:
        """Rank ids as they stand in `order`, int64 (vocab_size,), each id once.

        Raises:
            ValueError: if the assignment was made without a table (permuted=False), or ids lack.
        """
        if self.rank is None:
            raise ValueError("an identity assignment has no order to set")
        here = torch.zeros(self.vocab_size, dtype=torch.bool, device=order.device)
        here[order] = True
        if len(order) != self.vocab_size or not here.all():
            raise ValueError(f"each of the {self.vocab_size} ids is needed exactly once")
        self.rank[order] = torch.arange(self.vocab_size, dtype=torch.int32, device=self.rank.device)
        self._ids = None

    def _inverse(self) -> Tensor:
        """The id of each rank, int32 (V,), made piece by piece: ten million take 40 MB, never more."""
        assert self.rank is not None
        inverse = torch.empty_like(self.rank)
        for start in range(0, self.vocab_size, IDS_AT_ONCE):
            ranks = self.rank[start : start + IDS_AT_ONCE].long()
            inverse[ranks] = torch.arange(start, start + len(ranks), dtype=torch.int32, device=inverse.device)
        return inverse

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._ids = None  # the inverse of the order that is replaced
        super()._load_from_state_dict(*args, **kwargs)


def square_divisor(tail: int) -> int:
    """The divisor with the fewest rows in all, ceil(sqrt(tail)), in exact integer arithmetic."""
    return max(1, math.isqrt(max(tail - 1, 0)) + 1)
