"""Preparing by several processes of one machine: each takes some of the files, and their shards are joined.

What comes out is byte for byte what one process makes, whatever their number. Killed and started again with the same
number, parts that are finished stay and those begun go on:

    shards.parts/    000000-000003/ (shards of the first three files), 000000-000003.json (their rows), ...
"""

import json
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from quorem.data.documents import MOST_MESSAGES, Document, RowCounts
from quorem.data.ids import IdReader
from quorem.data.progress import Progress
from quorem.data.shards import NoTokens, ShardMeta, Shards, merge_shards, write_shards
from quorem.data.source import Source
from quorem.errors import UserError
from quorem.files import write_text
from quorem.tokenization import load_tokenizer

PARTS_A_PROCESS = 4  # so that the last ones end together
SECONDS_TO_SHOW = 0.5

_shared: Any = None  # in a worker: whether to stop, then of each part the share that is read and its documents


def write_in_parts(
    folder: Path,
    source: Source,
    tokenizer: Path,
    *,
    made_from: Mapping[str, Any],
    counts: RowCounts,
    processes: int,
    ids_of: str | None = None,
    before_joining: Callable[[], None] = lambda: None,
) -> ShardMeta:
    """What `write_shards` does, by several processes; while they are joined, it takes their room on the disc twice.

    Args:
        folder: where the shards are to stand.
        source: files.
        tokenizer: its folder.
        made_from: what to store.
        counts: the tally to fill.
        processes: how many; each encodes on one core.
        ids_of: the tokenizer that ids are of, for documents that are not texts.
        before_joining: called when `counts` is full and the shards do not stand yet.

    Raises:
        UserError: as `write_shards`, and if a process is killed.
    """
    place = parts_of(folder)
    place.mkdir(parents=True, exist_ok=True)
    parts = split(source, PARTS_A_PROCESS * processes)
    sizes = np.array([sum(file.stat().st_size for file in part.files) + 1 for part in parts.values()], float)
    context = multiprocessing.get_context("spawn")  # a fork copies locks that other threads hold
    shared = context.Array("d", 1 + 2 * len(parts), lock=False)
    shares, documents = np.frombuffer(shared)[1::2], np.frombuffer(shared)[2::2]
    progress = Progress(f"to shards, {processes} processes", lambda: float(shares @ sizes / sizes.sum()))
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_begin, initargs=(shared,)) as pool:
        waiting = {
            pool.submit(_write, number, place / name, part, tokenizer, dict(made_from), ids_of)
            for number, (name, part) in enumerate(parts.items())
        }
        try:
            while waiting:
                done, waiting = wait(waiting, SECONDS_TO_SHOW, FIRST_EXCEPTION)
                progress.show(int(documents.sum()))
                for future in done:
                    future.result()
        except BrokenProcessPool as error:
            raise UserError(
                "a process that prepared data was killed, perhaps because memory ran out: give the command again, "
                "which resumes, or fewer --processes"
            ) from error
        finally:
            shared[0] = 1.0  # those that still read shall not hold up an error
            pool.shutdown(wait=True, cancel_futures=True)
            progress.close()
    for name in parts:
        found = RowCounts(**json.loads((place / f"{name}.json").read_text(encoding="utf-8")))
        for key, value in found.totals().items():
            setattr(counts, key, getattr(counts, key) + value)
        for what, number in found.warnings.items():
            counts.warnings[what] = counts.warnings.get(what, 0) + number
        counts.messages += found.messages[: MOST_MESSAGES - len(counts.messages)]
    whole = [place / name for name in parts if (place / name).exists()]  # one whose documents are empty has none
    if not whole:
        raise NoTokens()
    before_joining()
    return merge_shards(folder, whole, made_from=made_from, counts=counts)


def parts_of(folder: Path) -> Path:
    """Where parts of the shards of a folder stand until they are joined."""
    return folder.with_name(folder.name + ".parts")


def split(source: Source, number: int) -> dict[str, Source]:
    """A source as several of about as many bytes, in order: at most `number`, each a file at least, by their names."""
    sizes = np.cumsum([file.stat().st_size + 1 for file in source.files])
    ends = np.searchsorted(sizes, sizes[-1] * np.arange(1, number + 1) / number) + 1
    ends = np.unique(np.minimum(ends, len(source.files))).tolist()
    return {
        f"{first:06}-{end:06}": replace(source, files=source.files[first:end])
        for first, end in zip([0, *ends[:-1]], ends, strict=True)
    }


def _begin(shared: Any) -> None:
    """Of each worker."""
    global _shared
    _shared = shared
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the other cores have workers of their own
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all: the one that waits for them tells them
    tqdm.set_lock(threading.RLock())  # its own default is a semaphore, which outlives a killed process
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # killed: what is safe on the disc is what the next command goes on from


def _write(
    number: int, place: Path, part: Source, tokenizer: Path, made_from: dict[str, Any], ids_of: str | None
) -> None:
    """The shards of some files, and beside them what their rows were."""
    record = place.with_name(f"{place.name}.json")
    if not _is_finished(place, record, made_from):
        shutil.rmtree(place, ignore_errors=True)
        counts, loaded = RowCounts(), load_tokenizer(tokenizer)
        read_ids = IdReader(ids_of, loaded) if ids_of else None
        documents = _recorded(part.documents(counts), number, part, counts, record)
        with suppress(NoTokens):  # others may have some
            write_shards(place, documents, loaded, made_from=made_from, read_ids=read_ids, quiet=True)
    _shared[1 + 2 * number] = 1.0


def _is_finished(place: Path, record: Path, made_from: dict[str, Any]) -> bool:
    try:
        return record.exists() and Shards(place).meta.made_from == json.loads(json.dumps(made_from))
    except UserError:
        return False


def _recorded(
    documents: Iterator[Document], number: int, part: Source, counts: RowCounts, record: Path
) -> Iterator[Document]:
    """The documents, with the shared numbers kept up to date, and then the tally: on the disc before the shards are."""
    for document in documents:
        if _shared[0]:
            raise KeyboardInterrupt
        _shared[1 + 2 * number], _shared[2 + 2 * number] = part.share_read(counts) or 0.0, counts.used
        yield document
    write_text(record, json.dumps({**counts.totals(), "messages": counts.messages, "warnings": counts.warnings}))
