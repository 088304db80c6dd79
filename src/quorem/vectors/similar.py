"""Which items are alike: search among the token vectors of a run, exact up to a million items."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from quorem.bars import bar
from quorem.data.readers.table import Column, TableRow
from quorem.data.readers.value import Number
from quorem.data.writers import Head, Line, choose_writer
from quorem.embeddings import TokenEmbedding
from quorem.errors import UserError, check_number, did_you_mean
from quorem.files import check_new
from quorem.tokenization import encode
from quorem.tokenization.special import SPECIAL_IDS
from quorem.vectors.nearest import Graph, wants_graph
from quorem.vectors.tokens import token_table

AT_ONCE = 1_024  # items whose neighbours are looked for together
COSINES_AT_ONCE = 2**24
ADDED = (Column("neighbours"), Column("similarities"))


def similar(run: str | Path, item: str, *, top: int = 10) -> list[tuple[str, float]]:
    """The items whose vectors have the largest cosine with one item's, falling.

    Args:
        run: any run, or a model folder.
        item: as it is written in the data.
        top: how many, at least 1.

    Raises:
        UserError: if there is no model, or it does not know the item.
    """
    check_number("--top", top, at_least=1)
    table, tokenizer = token_table(run)
    ids = encode(tokenizer, [item])[0]
    if len(ids) != 1 or ids[0] < SPECIAL_IDS:
        names = [token for token, number in tokenizer.get_vocab().items() if number >= SPECIAL_IDS]
        hint = did_you_mean(item, names) if len(names) <= 12 else ""
        raise UserError(f"--item {item}: is no item that {run} knows: give one of its training data.{hint}")
    values, found = neighbours(table, ids, top=top, among=np.arange(SPECIAL_IDS, len(tokenizer)))
    return list(zip(map(tokenizer.decode, found[0].tolist()), values[0].tolist(), strict=True))


def similar_of_all(run: str | Path, out: str | Path, *, top: int = 10) -> int:
    """Write a row for each item: `item`, its `neighbours` and `similarities`, two lists; how many items.

    Among more than a million items a graph is searched, if faiss is installed (quorem[similar]), which misses some.

    Args:
        run: as in `similar`.
        out: the file to write, by its ending; must not exist.
        top: as in `similar`.

    Raises:
        UserError: if there is no model, or the file cannot be written.
    """
    out = Path(out)
    check_new(out)
    writer = choose_writer(out)
    check_number("--top", top, at_least=1)
    table, tokenizer = token_table(run)
    every = np.arange(SPECIAL_IDS, len(tokenizer))
    graph = Graph(table, every) if wants_graph(len(every)) else None

    def lines() -> Iterator[list[Line]]:
        for start in range(0, len(every), AT_ONCE):
            some = every[start : start + AT_ONCE].tolist()
            values, found = graph(some, top=top) if graph else neighbours(table, some, top=top, among=every)
            yield [
                Line({}, TableRow(token, cells=[tokenizer.decode([token])]), {
                    "neighbours": [tokenizer.decode([other]) for other in others],
                    "similarities": [Number(f"{value:.6f}") for value in cosines],
                })
                for token, others, cosines in zip(some, found.tolist(), values.tolist(), strict=True)
            ]  # fmt: skip

    with writer.open(out, Head([], [Column("item")], ADDED)) as write:
        for some in bar(lines(), total=-(-len(every) // AT_ONCE)):
            write(some)
    return len(every)


def neighbours(table: TokenEmbedding, ids: Sequence[int], *, top: int, among: np.ndarray) -> tuple[Tensor, Tensor]:
    """The tokens whose vectors have the largest cosine with those of `ids`: exact search, a piece of the table at once.

    Args:
        table: of the tokens.
        ids: int (n,).
        top: how many, at least 1.
        among: int64 (m,), ids to look among.

    Returns:
        Cosines float32 and ids int64, (n, min(top, m - 1)) each, falling; an id is none of its own neighbours.
    """
    with torch.no_grad():
        asked = torch.tensor(list(ids))
        of = F.normalize(table(asked).float(), dim=1)
        every = torch.from_numpy(among)
        size = max(1, COSINES_AT_ONCE // max(len(asked), table.dim))
        values, found = torch.empty(len(asked), 0), torch.empty(len(asked), 0, dtype=torch.int64)
        for some in every.split(size):
            cosines = of @ F.normalize(table(some).float(), dim=1).T
            cosines = cosines.masked_fill(some == asked.unsqueeze(1), -torch.inf)
            values, found = torch.cat([values, cosines], 1), torch.cat([found, some.expand(len(asked), -1)], 1)
            values, order = values.topk(min(top, values.shape[1]), dim=1)
            found = found.gather(1, order)
        here = min(top, max(0, len(every) - 1))
        return values[:, :here], found[:, :here]
