"""Approximate search among millions of vectors: a graph that leads from each vector to those near it, by faiss.

Malkov and Yashunin 2018, Efficient and robust approximate nearest neighbor search using hierarchical navigable small
world graphs, arXiv:1603.09320. What it misses is measured by a test against exact search.
"""

import logging
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from quorem.embeddings import TokenEmbedding

logger = logging.getLogger(__name__)

LARGE = 1_000_000
"""Items beyond which all neighbours of all are looked for in a graph: exact search grows with their square."""
LINKS, BUILT_WITH, SEARCHED_WITH = 32, 80, 128  # M, efConstruction and efSearch of the paper
VECTORS_AT_ONCE = 2**16


def wants_graph(number: int) -> bool:
    """Whether so many items are searched by a graph; says what to install where they would be and cannot."""
    if number <= LARGE:
        return False
    if find_spec("faiss") is None:
        logger.warning(
            "exact search among %s items takes time with their square: pip install 'quorem[similar]' searches a graph",
            f"{number:,}",
        )
        return False
    logger.info("%s items: neighbours come from a graph, which can miss some", f"{number:,}")
    return True


class Graph:
    """The vectors of tokens, by cosine. Memory: 4 D + 300 bytes a token.

    Args:
        table: of the tokens.
        among: int64 (m,), their ids.
    """

    def __init__(self, table: TokenEmbedding, among: np.ndarray) -> None:
        import faiss

        self.table, self.among = table, among
        self.index: Any = faiss.IndexHNSWFlat(table.dim, LINKS, faiss.METRIC_INNER_PRODUCT)
        self.index.hnsw.efConstruction = BUILT_WITH
        for some in np.array_split(among, -(-len(among) // VECTORS_AT_ONCE)):
            self.index.add(self._vectors(some))

    def __call__(self, ids: Sequence[int], *, top: int) -> tuple[Tensor, Tensor]:
        """As `quorem.vectors.similar.neighbours`, but for what the graph misses.

        Args:
            ids: int (n,).
            top: how many, at least 1.

        Returns:
            Cosines float32 and ids int64, (n, min(top, m - 1)) each, falling; an id is none of its own neighbours.
        """
        here = min(top, len(self.among) - 1)
        self.index.hnsw.efSearch = max(SEARCHED_WITH, 2 * (here + 1))
        values, places = self.index.search(self._vectors(np.asarray(ids)), here + 1)
        found = torch.from_numpy(self.among[places])
        own = found == torch.tensor(list(ids)).unsqueeze(1)
        cosines, order = torch.from_numpy(values).masked_fill(own, -torch.inf).sort(dim=1, descending=True)
        return cosines[:, :here], found.gather(1, order)[:, :here]

    @torch.no_grad()
    def _vectors(self, ids: np.ndarray) -> np.ndarray:
        """Of norm 1, float32 (n, D)."""
        found: np.ndarray = F.normalize(self.table(torch.from_numpy(ids)).float(), dim=1).numpy()
        return found
