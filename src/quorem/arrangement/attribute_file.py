"""The attributes of tokens, from a CSV file: the partitions of embedding kind `attributes`.

The file has a header; the first column is the token as the vocabulary has it (folded in case, if the tokenizer folds),
the others are its attributes. Values are compared as text, exactly. Tokens that are not in the vocabulary do no harm.
"""

import io
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from quorem.data.readers.csv import read_rows
from quorem.errors import UserError
from quorem.files import write_bytes

NAMED = 3  # tokens that an error names


@dataclass(frozen=True)
class Attributes:
    """The contents of the file.

    Args:
        path: the file.
        rows: token -> its row in the file, from 1.
        values: int32 (rows, columns), numbers of values, by first appearance in their column.
    """

    path: Path
    rows: dict[str, int]
    values: np.ndarray

    @property
    def sizes(self) -> list[int]:
        """Distinct values of each column."""
        return (self.values.max(0) + 1).tolist()

    def of(self, tokens: Sequence[str]) -> Tensor:
        """The values of some tokens, int32 (len(tokens), columns), numbered anew so that each number is in use.

        Raises:
            UserError: if a token is not in the file, or two of them have all attributes the same.
        """
        missing = [token for token in tokens if token not in self.rows]
        if missing:
            named = ", ".join(map(repr, missing[:NAMED]))
            raise UserError(
                f"{self.path}: {len(missing):,} of the {len(tokens):,} tokens that share rows are missing, for example "
                f"{named}: add rows for them (the token in the first column, spelled as here), or enlarge "
                "model.embedding.tier, the number of most frequent tokens that need no attributes"
            )
        rows = np.array([self.rows[token] for token in tokens], np.int64)
        values = self.values[rows - 1]
        _, first, inverse = np.unique(values, axis=0, return_index=True, return_inverse=True)
        twins = first[inverse.reshape(-1)]  # the first token with the same attributes
        clashes = np.flatnonzero(twins != np.arange(len(twins)))
        if len(clashes):
            one, other = twins[clashes[0]], clashes[0]
            more = f" (and {len(clashes) - 1:,} more tokens repeat another's)" if len(clashes) > 1 else ""
            raise UserError(
                f"{self.path}: {tokens[one]!r} (row {rows[one]}) and {tokens[other]!r} (row {rows[other]}) have the "
                f"same attributes{more}, so the model cannot tell them apart: add a column in which they differ, or "
                "enlarge model.embedding.tier"
            )
        columns = [np.unique(column, return_inverse=True)[1].reshape(-1) for column in values.T]
        return torch.from_numpy(np.stack(columns, axis=-1).astype(np.int32))


def read_attributes(path: str | Path) -> Attributes:
    """Read a file of attributes; memory grows with its number of rows.

    Raises:
        UserError: for what `read_rows` refuses, no attributes, no rows, an empty field, or a token twice.
    """
    path = Path(path)
    header, stream = read_rows(path)
    if len(header) < 2:
        raise UserError(
            f"{path}: the header has only one column, {header[0]!r}: add one or more columns of attributes after the "
            "token"
        )
    rows: dict[str, int] = {}
    known: list[dict[str, int]] = [{} for _ in header[1:]]
    values = array("i")
    for row, fields in stream:
        token = fields[0]
        for column, field in zip(header, fields, strict=True):
            if not field.strip():
                raise UserError(
                    f"{path}, row {row} ({token!r}): column {column!r} is empty: fill it in, for example with the word "
                    "none"
                )
        if token in rows:
            raise UserError(f"{path}, row {row}: token {token!r} is in row {rows[token]} already: keep one of the two")
        rows[token] = row
        values.extend(numbers.setdefault(field, len(numbers)) for numbers, field in zip(known, fields[1:], strict=True))
    if not rows:
        raise UserError(f"{path}: has a header but no rows: add one for each token")
    return Attributes(path, rows, np.array(values, np.int32).reshape(len(rows), len(known)))


def stored_attributes(path: Path) -> Tensor | None:
    """The values that `store_attributes` wrote, int32 (tokens, columns), or None."""
    return torch.from_numpy(np.load(path)) if path.exists() else None


def store_attributes(path: Path, values: Tensor) -> None:
    """Write values as a .npy file, whole or not at all."""
    content = io.BytesIO()
    np.save(content, values.numpy())
    write_bytes(path, content.getvalue())
