"""Recommending: a next-item run and rows of items give these rows with the likeliest next items beside them."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from quorem.bars import bar
from quorem.config.loading import load
from quorem.config.next_item import NextItemConfig, SessionDataSettings
from quorem.data.bad_rows import BAD_ROWS, FILE, report_bad_rows
from quorem.data.documents import RowCounts
from quorem.data.events.source import check_spaces
from quorem.data.extended import find_source, good_rows, head_of, join, line_of
from quorem.data.readers.table import Column
from quorem.data.readers.value import Number
from quorem.data.writers import choose_writer
from quorem.errors import UserError, check_choice
from quorem.files import check_new
from quorem.finetuning.checkpoint import models_to_use
from quorem.finetuning.rows import tell_unknown
from quorem.recommending.average import Average, load_average
from quorem.recommending.ranking import SCORES_AT_ONCE, leave_out
from quorem.recommending.users import event_source, head_of_users, note_bad, rows_of_users
from quorem.tokenization import Unknown, encode, load_tokenizer
from quorem.tokenization.special import SPECIAL_IDS
from quorem.training.device import autocast_dtype
from quorem.training.run_folder import run_of

logger = logging.getLogger(__name__)

ADDED = (Column("items"), Column("probabilities"))
ROWS_AT_ONCE = 1_024  # whose best are looked for together: nodes of the softmax are read once for all of them
ROWS_ENCODED = 256

Found = list[tuple[list[str], list[float]]]


def recommend(
    run: str | Path,
    path: str | Path | Sequence[str | Path],
    *,
    out: str | Path,
    top: int = 10,
    exclude_seen: bool = False,
    among: str | Path | None = None,
    text_column: str | None = None,
    precision: str = "auto",
    format: str = "auto",
    bad_rows: str = "error",
) -> dict[str, int]:
    """Write the likeliest next items beside every row of data files, one row for each user or session.

    The output has the input's columns and rows, in order, and two more: `items`, a list of the likeliest, and
    `probabilities`, the model's for each among all items: what is left out of a list takes its probability with it.
    Both stay empty where a row has no item that the model knows. Items it does not know are passed over and counted.
    Rows are streamed; the output appears when it is complete.

    Args:
        run: a run of `finetune --task next_item`, or its model folder.
        path: the data: a file, a folder, a pattern such as data/*.csv, or several of these.
        out: the file to write: CSV, JSON Lines or Parquet by the ending of its name; must not exist. Lists are JSON in
            formats without them.
        top: how many items, at least 1; fewer where there are no more.
        exclude_seen: leave out the items that a row has.
        among: a text file with an item in each line: only these are recommended.
        text_column: the column or key of items; None for that of the run or "text".
        precision: bf16, fp32 or auto, of the encoder; probabilities are computed in fp32.
        format: of the data, as data.format.
        bad_rows: error, or skip: rows that cannot be read are left out, counted, and listed beside the output.

    Returns:
        Number of rows `read`, `recommended`, `empty` and `bad`, and of `unknown_items`.

    Raises:
        UserError: for files that cannot be used, or numbers out of range.
    """
    out = Path(out)
    if top < 1:
        raise UserError(f"--top {top}: 1 or more needed")
    check_new(out)
    writer = choose_writer(out)
    check_choice("data.bad_rows", bad_rows, BAD_ROWS)
    average, tokenizer, data = load_recommender(Path(run))
    asked_for = event_source(path, data, text_column=text_column, format=format, bad_rows=bad_rows)
    source = asked_for or find_source(path, format, text_column, data, {})
    check_spaces(source, cut="\t" not in tokenizer.decode([SPECIAL_IDS] * 2))
    counts = RowCounts()
    if asked_for is not None:
        head, rows = head_of_users(asked_for, ADDED), rows_of_users(asked_for, counts)
    else:
        files = join(source, text_column, data, own_encoding=True)
        head, rows = head_of(source, files, out, writer, ADDED), good_rows(files, counts, bad_rows, ADDED)
    if torch.accelerator.is_available():
        average.to(torch.accelerator.current_accelerator())
    asked = Recommender(
        average, tokenizer, max_items=data.max_items, top=top, exclude_seen=exclude_seen,
        among=None if among is None else read_items(Path(among), tokenizer),
        dtype=autocast_dtype(precision, average.models[0].device),
    )  # fmt: skip
    with writer.open(out, head) as write, bar(unit="row") as progress:
        while some := list(islice(rows, ROWS_AT_ONCE)):
            found = asked([row.text or "" for _, row in some])
            write([line_of(head, file, row, _cells(*said)) for (file, row), said in zip(some, found, strict=True)])
            known = sum(bool(items) for items, _ in found)
            counts.used += known
            counts.skipped += len(some) - known
            progress.update(len(some))
        if counts.bad and counts.bad == counts.read:
            raise UserError(f"{source}: all of its {counts.read:,} rows are bad. The first: {counts.messages[0]}")
    if asked_for is not None:
        note_bad(asked_for, counts)
    report_bad_rows(counts, out.parent, name=f"{out.stem}.{FILE}")
    tell_unknown(str(source), asked.unknown)
    empty = counts.skipped - counts.bad
    return {
        "read": counts.read, "recommended": counts.used, "empty": empty, "bad": counts.bad,
        "unknown_items": asked.unknown.unknown,
    }  # fmt: skip


def load_recommender(folder: Path) -> tuple[Average, PreTrainedTokenizerFast, SessionDataSettings]:
    """The model of a next-item run, or those of a folder of --seeds, with their tokenizer and settings of data.

    Raises:
        UserError: if there is no such model, or a damaged one.
    """
    folders = models_to_use(folder)
    average, source = load_average(folders), folders[0]
    tokenizer, run = load_tokenizer(source), run_of(source)
    if run is not None:
        return average, tokenizer, load(NextItemConfig, run / "config.yaml").data
    return average, tokenizer, SessionDataSettings(max_items=max(1, min(int(tokenizer.model_max_length), 512) - 2))


def encode_items(tokenizer: PreTrainedTokenizerFast, sessions: Sequence[Sequence[str]]) -> list[list[list[int]]]:
    """Of each item of each session its ids, as the tokenizer reads it: usually one, [UNK]'s where it is not known."""
    encoded = iter(encode(tokenizer, [item for session in sessions for item in session]))
    return [[next(encoded) for _ in session] for session in sessions]


def known_ids(items: Sequence[Sequence[int]]) -> list[int]:
    """The ids of a session of `encode_items` that the model knows."""
    return [token for ids in items for token in ids if token >= SPECIAL_IDS]


def read_items(path: Path, tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """The ids of the items in the lines of a text file; those the model does not know are passed over and told.

    Raises:
        UserError: if the file cannot be read, or none is known.
    """
    try:
        lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}): a text file with an item in each line is needed") from error
    encoded = encode(tokenizer, lines)
    known = sorted({ids[0] for ids in encoded if len(ids) == 1 and ids[0] >= SPECIAL_IDS})
    if not known:
        raise UserError(f"{path}: none of its {len(lines)} lines is an item the model knows: one item a line is needed")
    if len(known) < len(lines):
        logger.info("%s: %s lines, %s different items that the model knows", path, len(lines), len(known))
    return known


@dataclass
class Recommender:
    """Rows of items as texts -> the likeliest next items and their probabilities, falling; empty where none is known.

    Attributes:
        average: one model, or several that are asked as one.
        tokenizer: of them all.
        max_items: how many of a row's items, the last ones, are read.
        top: how many are found.
        exclude_seen: whether the row's items are left out, all of them.
        among: the ids that may be recommended; None for all.
        dtype: of the encoder's autocast.
        unknown: a tally of all texts so far.
    """

    average: Average
    tokenizer: PreTrainedTokenizerFast
    max_items: int
    top: int
    exclude_seen: bool = False
    among: list[int] | None = None
    dtype: torch.dtype | None = None
    unknown: Unknown = field(default_factory=Unknown)

    def __call__(self, texts: Sequence[str]) -> Found:
        encoded = encode(self.tokenizer, list(texts))
        self.unknown.add(self.tokenizer, texts, encoded, range(1, len(texts) + 1))
        return self.after([[token for token in ids if token >= SPECIAL_IDS] for ids in encoded])

    def after(self, histories: Sequence[list[int]]) -> Found:
        """The same for the ids of items, without special tokens; empty where a history is."""
        found: Found = [([], []) for _ in histories]
        asked = [place for place, history in enumerate(histories) if history]
        size = ROWS_AT_ONCE
        if self._needs_all:
            size = max(1, min(size, SCORES_AT_ONCE // self.average.vocab_size))
        asked.sort(key=lambda place: len(histories[place]))  # rows of like length have little padding
        for start in range(0, len(asked), size):
            some = asked[start : start + size]
            best = self._best([histories[place] for place in some])
            for place, (ids, shares) in zip(some, best, strict=True):
                found[place] = [self.tokenizer.decode([token]) for token in ids], shares
        return found

    @property
    def _needs_all(self) -> bool:
        """Whether the score of every item is made; else one model's best are looked for in its softmax."""
        return self.among is not None or len(self.average.models) > 1

    @torch.no_grad()
    def _best(self, histories: list[list[int]]) -> list[tuple[list[int], list[float]]]:
        """Ids and probabilities for each history, exact."""
        if self._needs_all:
            scores = self.average.scores(histories, max_items=self.max_items, dtype=self.dtype)
            leave_out(scores, histories if self.exclude_seen else ())
            few = scores if self.among is None else scores[:, self.among]
            values, ids = few.topk(min(self.top, few.shape[1]), dim=1)
            ids = ids if self.among is None else torch.tensor(self.among)[ids]
        else:  # as many more as may be left out
            most = max(len(set(history)) for history in histories) if self.exclude_seen else 0
            parts = [histories[start : start + ROWS_ENCODED] for start in range(0, len(histories), ROWS_ENCODED)]
            (model,) = self.average.models
            hidden = torch.cat([model.vectors(p, max_items=self.max_items, dtype=self.dtype) for p in parts])
            values, ids = (each.cpu() for each in model.generator_lm_head.topk(hidden, self.top + most))
        found = []
        for history, row, shares in zip(histories, ids.tolist(), values.double().exp().tolist(), strict=True):
            seen = set(history) if self.exclude_seen else set()
            kept = [(token, share) for token, share in zip(row, shares, strict=True) if token not in seen and share > 0]
            found.append(([token for token, _ in kept[: self.top]], [share for _, share in kept[: self.top]]))
        return found


def _cells(items: list[str], shares: list[float]) -> tuple[Any, ...]:
    return (items, [Number(f"{share:.6g}") for share in shares]) if items else (None, None)
