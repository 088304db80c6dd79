"""Tokenised text on disk: a flat, memory-mapped array of ids and where each document ends.

    tokens.bin   uint16 (V <= 65,536) or uint32, every document's ids followed by [SEP]
    ends.bin     int64, the end of each document in tokens.bin
    counts.bin   int64 (V,), how often each id is a document's; [SEP] is not counted
    meta.json    numbers, rows read and skipped, and what it was made from

A folder appears whole or not at all, and is used again only if it was made from what is asked for. Writing goes on
after a kill: what is done stands beside the folder's name, in NAME.unfinished. Memory does not grow with the data.
"""

import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from transformers import PreTrainedTokenizerFast

from quorem.data.documents import Document, RowCounts
from quorem.data.progress import Progress
from quorem.errors import UserError
from quorem.files import finish_folder, whole_folder, write_text
from quorem.tokenization import SPECIAL_TOKENS, Unknown, encode

logger = logging.getLogger(__name__)

DOCUMENTS_AT_ONCE, CHARACTERS_AT_ONCE = 1_000, 2_000_000
UNK_ID = SPECIAL_TOKENS.index("[UNK]")
AHEAD = 2  # groups being encoded while one is written
SECONDS_TO_LOSE = 10  # of work, at most, if a write is killed


class NoTokens(UserError):
    """Data without a single token."""

    def __init__(self) -> None:
        super().__init__("no token in any document: there is nothing to train on")


@dataclass(frozen=True)
class ShardMeta:
    """What meta.json holds.

    Attributes:
        made_from: what decides its contents: fingerprints of data and tokenizer, columns, options.
        dtype: of tokens.bin.
        vocab_size: V.
        num_documents: with a token at least.
        num_tokens: the [SEP] of each document included.
        rows: of the data: `read`, `used`, `skipped`, and the `bad` among these; empty if they were not counted.
        unknown: numbers of an `Unknown`; empty in shards of versions that did not count them.
    """

    made_from: dict[str, Any]
    dtype: str
    vocab_size: int
    num_documents: int
    num_tokens: int
    rows: dict[str, int]
    unknown: dict[str, int] = field(default_factory=dict)


class Shards:
    """Read access to a folder of shards; `unknown` is how much of its texts is in no token.

    Args:
        folder: made by `write_shards`.

    Raises:
        UserError: if the folder is missing, incomplete or does not fit its meta.json.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.meta = ShardMeta(**json.loads((folder / "meta.json").read_text(encoding="utf-8")))
            self.tokens = np.memmap(folder / "tokens.bin", dtype=self.meta.dtype, mode="r")
            self.ends = np.memmap(folder / "ends.bin", dtype=np.int64, mode="r")
            self.counts = np.fromfile(folder / "counts.bin", dtype=np.int64)
            self.unknown = self._unknown()
            if not isinstance(self.meta.made_from, dict):
                raise ValueError("made_from is no mapping")
        except (OSError, ValueError, TypeError, AttributeError, IndexError, ZeroDivisionError) as error:  # dtype "S"
            raise UserError(f"{folder}: not a readable folder of token shards ({error}): delete it") from error
        sizes = (len(self.tokens), len(self.ends), len(self.counts))
        if sizes != (self.meta.num_tokens, self.meta.num_documents, self.meta.vocab_size):
            raise UserError(f"{folder}: tokens, documents, vocabulary are {sizes}, unlike its meta.json: delete it")

    def _unknown(self) -> Unknown:
        """What meta.json has; of tokens only where characters were not counted."""
        there = self.meta.unknown or {"tokens": self.counts.sum(), "unknown": self.counts[UNK_ID]}
        numbers = {name: int(number) for name, number in there.items()}
        if not all(0 <= number < 2**63 for number in numbers.values()):
            raise ValueError("its unknown tokens and characters are no numbers of these")
        return Unknown(**numbers)

    def check_made_from(self, wanted: Mapping[str, Any]) -> None:
        """Accept only shards that were made from that.

        Raises:
            UserError: naming what differs.
        """
        there = {"format": wanted.get("format")} | dict(self.meta.made_from)  # which earlier versions did not note
        differs = [key for key in dict.fromkeys([*there, *wanted]) if there.get(key) != wanted.get(key)]
        if differs:
            raise UserError(
                f"{self.folder}: was made from something else (it differs in {', '.join(differs)}): delete "
                f"{self.folder.parent} to prepare the data again, or choose another --out"
            )


def write_shards(
    folder: Path,
    documents: Iterable[Document],
    tokenizer: PreTrainedTokenizerFast,
    *,
    made_from: Mapping[str, Any],
    counts: RowCounts | None = None,
    share_read: Callable[[], float | None] = lambda: None,
    read_ids: Callable[[list[Document]], list[list[int]]] | None = None,
    quiet: bool = False,
) -> ShardMeta:
    """Encode documents into `folder`, or go on where a write from the same was killed.

    Reading, encoding (on all cores, by the tokenizers library) and writing overlap; what is done is safe on the disc
    every SECONDS_TO_LOSE.

    Args:
        folder: where; what stands there is replaced when the new one is whole.
        documents: their texts, read once; the same ones in the same order whenever made_from is the same.
        tokenizer: its ids are written as they are; documents without a token are left out.
        made_from: what to store, JSON.
        counts: the tally of what `documents` reads, to store.
        share_read: how much of the data is read, 0 to 1, for the time left; None where that cannot be known.
        read_ids: for documents that are not texts, from a group of them to their ids; None to encode texts.
        quiet: whether its progress is shown by somebody else.

    Raises:
        UserError: if no document has a token (NoTokens).
    """
    unfinished = folder.with_name(folder.name + ".unfinished")
    vocab_size, separator = len(tokenizer), tokenizer.sep_token_id
    dtype = np.dtype("uint16" if vocab_size <= 2**16 else "uint32")
    try:
        read, number, end, unknown = _resume(unfinished, dict(made_from), dtype)
        ids, stream = _counted(unfinished / "tokens.bin", dtype, vocab_size), iter(documents)
        done = sum(1 for _ in islice(stream, read))
        shown, saved = closing(Progress("to shards", share_read, tokens=end, quiet=quiet)), time.monotonic()
        files = unfinished / "tokens.bin", unfinished / "ends.bin"
        with shown as progress, files[0].open("ab") as tokens, files[1].open("ab") as ends:
            for size, rows, unknown_here in _encoded(stream, partial(_encode, tokenizer, read_ids)):
                kept, unknown = [row for row in rows if row], unknown + unknown_here
                flat = np.fromiter((i for row in kept for i in (*row, separator)), dtype=dtype)
                np.add.at(ids, flat, 1)
                places = end + np.cumsum([len(row) + 1 for row in kept], dtype=np.int64)
                tokens.write(flat.tobytes())
                ends.write(places.tobytes())
                done, number, end = done + size, number + len(kept), end + len(flat)
                progress.show(done, tokens=end)
                if time.monotonic() - saved > SECONDS_TO_LOSE:
                    saved = time.monotonic()
                    safe = {"read": done, "documents": number, "tokens": end, "unknown": asdict(unknown)}
                    _save(unfinished, (tokens, ends), made_from=made_from, **safe)
        if not number:
            raise NoTokens()
    except UserError:
        shutil.rmtree(unfinished, ignore_errors=True)  # the data must change, and then this is of no use
        raise
    ids[separator] = 0
    ids.tofile(unfinished / "counts.bin")
    rows_read = {} if counts is None else counts.totals()
    meta = ShardMeta(dict(made_from), dtype.name, vocab_size, number, end, rows_read, asdict(unknown))
    (unfinished / "progress.json").unlink(missing_ok=True)
    write_text(unfinished / "meta.json", json.dumps(asdict(meta), indent=2))
    finish_folder(unfinished, folder)
    return meta


def merge_shards(
    folder: Path,
    parts: Sequence[Path],
    *,
    made_from: Mapping[str, Any] | None = None,
    counts: RowCounts | None = None,
) -> ShardMeta:
    """One folder of shards from several made with the same tokenizer, as if their data had been read one after another.

    Files are copied piece by piece: no part is held in memory.

    Args:
        folder: where; what stands there is replaced when the new one is whole.
        parts: folders of shards, in order; at least one.
        made_from: what to store; None for what each part was made from.
        counts: the tally of all rows; None for the sums of what the parts store.

    Raises:
        UserError: if one is not readable, or is of another tokenizer.
    """
    opened = [Shards(part) for part in parts]
    first = opened[0].meta
    for shards in opened[1:]:
        if shards.meta.made_from.get("tokenizer") != first.made_from.get("tokenizer"):
            raise UserError(
                f"{shards.folder}: made with another tokenizer than {parts[0]}: prepare all parts with the same one "
                "(tokenizer.path=FOLDER)"
            )
    with whole_folder(folder) as new:
        offset = 0
        with (new / "tokens.bin").open("wb") as tokens, (new / "ends.bin").open("wb") as ends:
            for shards in opened:
                with (shards.folder / "tokens.bin").open("rb") as file:
                    shutil.copyfileobj(file, tokens, 2**20)
                for start in range(0, len(shards.ends), 2**20):
                    ends.write((shards.ends[start : start + 2**20] + offset).tobytes())
                offset += shards.meta.num_tokens
        np.sum([shards.counts for shards in opened], axis=0).tofile(new / "counts.bin")
        meta = ShardMeta(
            made_from={
                "tokenizer": first.made_from.get("tokenizer"),
                "merged": [shards.meta.made_from for shards in opened],
            }
            if made_from is None
            else dict(made_from),
            dtype=first.dtype,
            vocab_size=first.vocab_size,
            num_documents=sum(shards.meta.num_documents for shards in opened),
            num_tokens=offset,
            rows={
                key: sum(shards.meta.rows.get(key, 0) for shards in opened)
                for key in dict.fromkeys(key for shards in opened for key in shards.meta.rows)
            }
            if counts is None
            else counts.totals(),
            unknown=asdict(sum((shards.unknown for shards in opened), start=Unknown())),
        )
        write_text(new / "meta.json", json.dumps(asdict(meta), indent=2))
    return meta


def _resume(unfinished: Path, made_from: dict[str, Any], dtype: np.dtype) -> tuple[int, int, int, Unknown]:
    """Documents read, documents and tokens written that are safe and what of them is unknown; files are cut to that."""
    try:
        found = json.loads((unfinished / "progress.json").read_text(encoding="utf-8"))
        read, documents, tokens = (int(found[key]) for key in ("read", "documents", "tokens"))
        unknown = Unknown(**found["unknown"])
        sizes = {"tokens.bin": tokens * dtype.itemsize, "ends.bin": documents * 8}
        if found["made_from"] == json.loads(json.dumps(made_from)) and all(
            (unfinished / name).stat().st_size >= size for name, size in sizes.items()
        ):
            for name, size in sizes.items():
                with (unfinished / name).open("r+b") as file:
                    file.truncate(size)
            logger.info("%s: going on after %s documents", unfinished, f"{read:,}")
            return read, documents, tokens, unknown
    except (OSError, ValueError, KeyError, TypeError):
        pass  # nothing there, or damaged: it is made again
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    return 0, 0, 0, Unknown()


def _counted(path: Path, dtype: np.dtype, vocab_size: int) -> np.ndarray:
    """How often each id is in a file, int64 (V,)."""
    found = np.zeros(vocab_size, np.int64)
    if path.exists():
        with path.open("rb") as file:
            while len(piece := np.fromfile(file, dtype, 2**22)):
                np.add.at(found, piece, 1)
    return found


def _save(unfinished: Path, files: Sequence[BinaryIO], **facts: Any) -> None:
    for file in files:
        file.flush()
        os.fsync(file.fileno())
    write_text(unfinished / "progress.json", json.dumps(facts))


def _encoded(
    documents: Iterator[Document], encode_group: Callable[[list[Document]], tuple[list[list[int]], Unknown]]
) -> Iterator[tuple[int, list[list[int]], Unknown]]:
    """Of a group of documents at a time: their number, ids and what is unknown; the next are encoded meanwhile."""
    with ThreadPoolExecutor(1) as pool:  # the library uses all cores for a group
        waiting: list[tuple[int, Future[tuple[list[list[int]], Unknown]]]] = []
        for group in _grouped(documents):
            waiting.append((len(group), pool.submit(encode_group, group)))
            if len(waiting) > AHEAD:
                size, encoded = waiting.pop(0)
                yield size, *encoded.result()
        for size, encoded in waiting:
            yield size, *encoded.result()


def _encode(
    tokenizer: PreTrainedTokenizerFast,
    read_ids: Callable[[list[Document]], list[list[int]]] | None,
    documents: list[Document],
) -> tuple[list[list[int]], Unknown]:
    unknown = Unknown()
    if read_ids is not None:
        rows = read_ids(documents)
        unknown.add_ids(rows, tokenizer.unk_token_id)
        return rows, unknown
    texts = [document.text for document in documents]
    rows = encode(tokenizer, texts)
    unknown.add(tokenizer, texts, rows, [document.row for document in documents])
    return rows, unknown


def _grouped(documents: Iterator[Document]) -> Iterator[list[Document]]:
    group: list[Document] = []
    characters = 0
    for document in documents:
        group.append(document)
        characters += len(document.text)
        if len(group) == DOCUMENTS_AT_ONCE or characters >= CHARACTERS_AT_ONCE:
            yield group
            group, characters = [], 0
    if group:
        yield group
