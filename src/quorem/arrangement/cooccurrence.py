"""Token vectors from co-occurrence counts, by a sparse decomposition, in seconds.

Positive pointwise mutual information of pairs up to a window apart in a document, contexts smoothed by the power 0.75,
a truncated singular value decomposition, left vectors times the roots of the singular values (Levy, Goldberg and Dagan
2015, Improving Distributional Similarity with Lessons Learned from Word Embeddings, TACL 3). A network that starts from
such vectors need not spend its first thousands of steps on finding them (docs/results.md).
"""

import logging
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from scipy.sparse import coo_matrix, csr_matrix
from torch import Tensor

logger = logging.getLogger(__name__)

WINDOW = 5  # unless asked for another
CONTEXTS = 15_000  # most frequent tokens that count as context
SMOOTHING = 0.75
TOKENS_READ = 100_000_000  # at most, in blocks spread over the whole data
BLOCK = 2_000_000
PAIRS_KEPT = 80_000_000  # different pairs, 8 bytes each; reading ends with the block that brings more
OVERSAMPLED, ROUNDS = 10, 3  # of the randomised decomposition
ROWS_AT_ONCE = 2**16


class Counted(Protocol):
    """What is read: a `quorem.data.corpus.Corpus`, or another with the same."""

    counts: np.ndarray

    def blocks(self, *, size: int, most: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Ids int64 (n,) and numbers of their documents, a piece at a time; below 0 for what is in none."""


def cooccurrence_vectors(corpus: Counted, *, components: int, window: int = WINDOW, seed: int = 0) -> np.ndarray:
    """Vectors float32 (V, components) of all tokens by what stands around them, less their mean, each of norm 1.

    A token without a pair has zeros. Columns go by falling singular value; where the data has fewer components than
    asked for the rest is 0. Memory: about 8 bytes for each distinct pair, twice while they are counted, and vectors.

    Args:
        corpus: what to read.
        components: at least 1.
        window: how far apart a pair may be, at least 1; pairs, and the time, grow with it.
        seed: of the decomposition, and of the order in which blocks are read.
    """
    ids = np.flatnonzero(corpus.counts > 0)
    found = decomposed(
        positive_pmi(pair_counts(corpus, ids, window=window, seed=seed)), components=components, seed=seed
    )
    known = np.abs(found).max(1, initial=0) > 0
    if known.any():
        found[known] -= found[known].mean(0)
    found /= np.linalg.norm(found, axis=1, keepdims=True).clip(min=1e-12)
    found[~known] = 0
    vectors = np.zeros((len(corpus.counts), components), np.float32)
    vectors[ids] = found
    return vectors


def pair_counts(corpus: Counted, ids: np.ndarray, *, window: int = WINDOW, seed: int = 0) -> csr_matrix:
    """How often a token stands up to `window` places before or after a context in a document: float32 (n, contexts)."""
    vocab_size = len(corpus.counts)
    row, column = np.full(vocab_size, -1, np.int32), np.full(vocab_size, -1, np.int32)
    row[ids] = np.arange(len(ids))
    contexts = np.argsort(-corpus.counts, kind="stable")[:CONTEXTS]
    contexts = contexts[corpus.counts[contexts] > 0]
    column[contexts] = np.arange(len(contexts))
    shape = (len(ids), max(1, len(contexts)))
    sums: list[csr_matrix] = []  # of falling size, so that each pair is added up a few times only
    read = 0
    size = max(1, BLOCK * WINDOW // max(window, WINDOW))  # as many pairs as with WINDOW are held before they are summed
    for tokens, documents in corpus.blocks(size=size, most=TOKENS_READ, seed=seed):
        sums.append(_pairs_of(tokens, documents, row, column, shape, window))
        while len(sums) > 1 and sums[-1].nnz > sums[-2].nnz / 2:
            last = sums.pop()
            sums[-1] = sums[-1] + last
        read += len(tokens)
        if sum(each.nnz for each in sums) > PAIRS_KEPT:
            logger.info("co-occurrence: counted %s tokens, up to the limit of %s pairs", f"{read:,}", f"{PAIRS_KEPT:,}")
            break
    total = sums.pop()
    while sums:
        total = sums.pop() + total
    return total


def _pairs_of(
    tokens: np.ndarray, documents: np.ndarray, row: np.ndarray, column: np.ndarray, shape: tuple[int, int], window: int
) -> csr_matrix:
    """The counts of one block."""
    rows, columns = [], []
    for offset in range(1, min(window, len(tokens) - 1) + 1):
        same = (documents[:-offset] == documents[offset:]) & (documents[offset:] >= 0)
        early, late = tokens[:-offset][same], tokens[offset:][same]
        for token, context in ((late, early), (early, late)):
            here, there = row[token], column[context]
            counts = (here >= 0) & (there >= 0)
            rows.append(here[counts])
            columns.append(there[counts])
    empty = np.empty(0, np.int32)
    place = (np.concatenate([*rows, empty]), np.concatenate([*columns, empty]))
    found = coo_matrix((np.ones(len(place[0]), np.float32), place), shape=shape).tocsr()
    found.sum_duplicates()
    return found


def positive_pmi(counted: csr_matrix) -> csr_matrix:
    """log(p(token, context) / (p(token) p(context)^0.75 / Z)) where it is positive; the counts' memory is used."""
    of_rows = np.asarray(counted.sum(1, dtype=np.float64)).ravel().clip(min=1)
    of_columns = np.asarray(counted.sum(0, dtype=np.float64)).ravel().clip(min=1) ** SMOOTHING
    share = np.log(of_columns / of_columns.sum())
    for start in range(0, counted.shape[0], ROWS_AT_ONCE):
        first, last = counted.indptr[start], counted.indptr[min(start + ROWS_AT_ONCE, counted.shape[0])]
        lengths = np.diff(counted.indptr[start : start + ROWS_AT_ONCE + 1])
        values = np.log(counted.data[first:last]) - np.repeat(np.log(of_rows[start : start + ROWS_AT_ONCE]), lengths)
        values -= share[counted.indices[first:last]]
        counted.data[first:last] = values.clip(min=0)
    counted.eliminate_zeros()
    return counted


def decomposed(matrix: csr_matrix, *, components: int, seed: int) -> np.ndarray:
    """U sqrt(S), float32 (n, components), of a matrix (n, contexts) with many rows and few columns.

    Subspace iteration on the columns' side (Halko, Martinsson and Tropp 2011, arXiv:0909.4061, algorithm 4.4 on the
    transpose), so that nothing but the result has n rows.
    """
    found = np.zeros((matrix.shape[0], components), np.float32)
    wanted = min(components, *matrix.shape)
    width = min(wanted + OVERSAMPLED, matrix.shape[1])
    basis = np.random.default_rng(seed).normal(size=(matrix.shape[1], width)).astype(np.float32)
    for _ in range(ROUNDS):
        basis = np.linalg.qr(_gram_product(matrix, np.linalg.qr(basis)[0]))[0]
    small = np.zeros((width, width))
    for start in range(0, matrix.shape[0], ROWS_AT_ONCE):
        part = matrix[start : start + ROWS_AT_ONCE] @ basis
        small += part.T.astype(np.float64) @ part
    squares, right = np.linalg.eigh(small)
    order = np.argsort(-squares)[:wanted]
    order = order[squares[order] > 1e-9 * max(squares.max(), 1e-30)]
    right = right[:, order] * np.sign(right[np.abs(right[:, order]).argmax(0), order])  # else a solver's choice
    scaled = (right * squares[order] ** -0.25).astype(np.float32)
    for start in range(0, matrix.shape[0], ROWS_AT_ONCE):
        found[start : start + ROWS_AT_ONCE, : len(order)] = matrix[start : start + ROWS_AT_ONCE] @ (basis @ scaled)
    return found


def _gram_product(matrix: csr_matrix, basis: np.ndarray) -> np.ndarray:
    """matrix^T matrix basis, float32 (contexts, k), without a matrix of n rows."""
    total = np.zeros_like(basis)
    for start in range(0, matrix.shape[0], ROWS_AT_ONCE):
        part = matrix[start : start + ROWS_AT_ONCE]
        total += part.T @ (part @ basis)
    return total


def start_table(vectors: Tensor, *, std: float, width: int, generator: torch.Generator) -> Tensor:
    """A table float32 (V, width) to start from: the vectors, each as long as the initialiser's rows are.

    Raw lengths, which grow with a token's frequency, start a network worse than random rows do (arXiv:2407.12514).
    Tokens without a vector are random, and so, a tenth as large, are columns that the data does not fill.

    Args:
        vectors: float32 (V, components), 0 for tokens without one.
        std: the initialiser's standard deviation of an entry.
        width: of the table; the first so many components are taken.
        generator: source of randomness.
    """
    table = torch.randn(len(vectors), width, generator=generator) * std
    vectors = vectors[:, :width]
    known, filled = vectors.abs().amax(1) > 0, vectors.abs().amax(0) > 0
    if not known.any():
        return table
    length = vectors.norm(dim=1, keepdim=True).clamp(min=1e-12)
    rows = vectors * (std * width**0.5 / length)
    columns = torch.zeros(width, dtype=torch.bool)
    columns[: len(filled)] = filled
    table[known] *= torch.where(columns, 0.0, 0.1)
    table[:, : len(filled)][known] += rows[known]
    return table
