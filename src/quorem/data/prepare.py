"""From data files to a tokenizer and token shards, once; pre-training reads the shards.

A prepared folder, which a pre-training run's data/ is too:

    tokenizer/    tokenizer.json, vocab.txt, made_from.json
    shards/       tokens.bin, ends.bin, counts.bin, meta.json (quorem.data.shards)
    bad_rows.txt  what was skipped, if any row was bad
"""

import json
import logging
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from quorem.config.loading import check_bounds, to_mapping
from quorem.config.settings import PrepareConfig, TokenizerSettings
from quorem.data.bad_rows import check_some_used, report_bad_rows
from quorem.data.documents import Document, RowCounts
from quorem.data.events.source import EVENTS, check_items, check_spaces, refuse_events_as_text, source_of
from quorem.data.ids import IdReader
from quorem.data.parts import parts_of, write_in_parts
from quorem.data.progress import Progress
from quorem.data.shards import ShardMeta, Shards, merge_shards, write_shards
from quorem.data.source import Source
from quorem.errors import UserError
from quorem.files import TEMPORARY, check_new, fingerprint_files, whole_folder, write_text
from quorem.lock import lock_name, locked
from quorem.tokenization import (
    adopt_tokenizer,
    fingerprint,
    hint_at_long_tokens,
    load_tokenizer,
    save_tokenizer,
    tokenizer_files,
    train_tokenizer,
)
from quorem.tokenization.train import check_tokenizer

logger = logging.getLogger(__name__)

MADE_FROM = "made_from.json"  # of a tokenizer
SHOWN_EVERY = 1_000  # documents
ONE_ITEM = 2.05  # tokens of a row: of twenty rows at most one has a second item
LEFT_BY_KILLS = re.compile(rf"(tokenizer|events)({TEMPORARY}|\.old)|events")  # where nothing else is yet


def prepare(config: PrepareConfig, out: Path, *, source: Source | None = None, processes: int = 1) -> ShardMeta:
    """Train a tokenizer on data and write its token shards into the folder `out`.

    Killed and started again it resumes; a finished folder is left as it is.

    Args:
        config: the settings.
        out: the folder.
        source: what to read instead of data.path, such as quorem.data.dataset.DatasetSource.
        processes: that write shards, each of some of the files.

    Raises:
        UserError: for settings or data that cannot be used, a folder that holds something else, or shards of which too
            much is unknown; these stay.
    """
    check_bounds(config)
    check_tokenizer(config.tokenizer, config.model.vocab_size)
    source = source or source_of(config.data, text_column=config.data.text_column)
    refuse_events_as_text(source, config.tokenizer.kind)
    check_items(source, config.tokenizer)
    source.documents()  # missing files and columns are found before anything is made
    with locked(out):
        names = {path.name for path in out.iterdir()} - {lock_name(out)} if out.is_dir() else set()
        foreign = (out.exists() and not out.is_dir()) or not all(map(LEFT_BY_KILLS.fullmatch, names))
        if foreign and not (out / "tokenizer").is_dir():
            raise UserError(f"{out}: is not empty and holds no prepared data: choose another --out or empty it")
        _, shards = prepare_data(
            out, source, inputs=source.fingerprint(), settings=config.tokenizer, vocab_size=config.model.vocab_size,
            processes=processes,
        )  # fmt: skip
        check_unknown(shards, config.data.max_unknown)
        return shards.meta


def prepare_data(
    folder: Path, source: Source, *, inputs: str, settings: TokenizerSettings, vocab_size: int, processes: int = 1
) -> tuple[PreTrainedTokenizerFast, Shards]:
    """The tokenizer and shards of a prepared folder; what is there already is used again.

    Args:
        folder: where.
        source: the data.
        inputs: its fingerprint.
        settings: of the tokenizer.
        vocab_size: most tokens to have.
        processes: that write shards.

    Raises:
        UserError: if what is there was made from something else.
    """
    made_from = {"data": inputs, "format": source.format, "text_column": source.text_column, **source.options}
    source = source.at(folder, inputs)
    if not (folder / "tokenizer").exists():
        check_spaces(source, cut=settings.path is None and settings.separator is None)
    tokenizer = _tokenizer(folder, source, made_from, settings, vocab_size)
    made_from["tokenizer"] = fingerprint(tokenizer)
    if settings.ids:
        made_from["ids"] = fingerprint_files(*tokenizer_files(str(settings.path)))
    if (folder / "shards").exists():
        shards = Shards(folder / "shards")
        shards.check_made_from(json.loads(json.dumps(made_from)))
        return tokenizer, shards
    counts, ids_of = RowCounts(), settings.path if settings.ids else None
    if processes > 1 and len(source.files) > 1 and source.by_file:
        meta = write_in_parts(
            folder / "shards", source, folder / "tokenizer", made_from=made_from, counts=counts, processes=processes,
            ids_of=ids_of, before_joining=lambda: report_bad_rows(counts, folder),
        )  # fmt: skip
    else:
        if processes > 1:
            what = "is one file" if source.by_file else "is a log of events"
            logger.warning("%s: %s, which one process reads: several files can be shared out", source, what)
        meta = write_shards(
            folder / "shards", _listed(source.documents(counts), counts, folder), tokenizer, made_from=made_from,
            counts=counts, share_read=lambda: source.share_read(counts),
            read_ids=IdReader(ids_of, tokenizer) if ids_of else None,
        )  # fmt: skip
    for left in (parts_of(folder / "shards"), folder / EVENTS):
        shutil.rmtree(left, ignore_errors=True)
    logger.info("%s: %s", source, counts)
    shards = Shards(folder / "shards")
    hint_at_long_tokens(settings.kind, shards.unknown)
    if settings.kind == "items" and meta.num_tokens <= ONE_ITEM * meta.num_documents:  # an item and a separator each
        logger.warning(
            "%s: %s row is one item: is tokenizer.separator what stands between items? For a row for each event set "
            "data.user_column, data.item_column and data.time_column, and its items become sequences", source,
            "every" if meta.num_tokens == 2 * meta.num_documents else "nearly every",
        )  # fmt: skip
    return tokenizer, shards


def is_prepared(path: str | list[str]) -> bool:
    """Whether data.path is a folder that `prepare` or a pre-training run made."""
    return isinstance(path, str) and bool(path) and (Path(path) / "shards" / "meta.json").is_file()


def description_files(folder: str) -> tuple[Path, Path]:
    """The small files that say what prepared data is: they have the fingerprints of all that made it."""
    return Path(folder) / "shards" / "meta.json", Path(folder) / "tokenizer" / "tokenizer.json"


def load_prepared(folder: str | Path) -> tuple[PreTrainedTokenizerFast, Shards]:
    """The tokenizer and shards of a prepared folder.

    Raises:
        UserError: if they are damaged or do not belong together.
    """
    tokenizer, shards = load_tokenizer(Path(folder) / "tokenizer"), Shards(Path(folder) / "shards")
    if shards.meta.made_from.get("tokenizer") != fingerprint(tokenizer) or len(tokenizer) != shards.meta.vocab_size:
        raise UserError(f"{folder}: its shards were not made with the tokenizer beside them: prepare the data again")
    return tokenizer, shards


def merge(parts: Sequence[Path], out: Path) -> ShardMeta:
    """One prepared folder from several that were prepared with the same tokenizer, on other machines perhaps.

    Args:
        parts: prepared folders; their documents follow each other in this order.
        out: the folder to write; must not exist.

    Raises:
        UserError: if a part cannot be used, or `out` exists.
    """
    tokenizer, *_ = [load_prepared(part)[0] for part in parts]
    with locked(out):
        check_new(out)
        return _merged(tokenizer, parts, out)


def _merged(tokenizer: PreTrainedTokenizerFast, parts: Sequence[Path], out: Path) -> ShardMeta:
    with whole_folder(out) as partial:
        meta = merge_shards(partial / "shards", [Path(part) / "shards" for part in parts])
        save_tokenizer(tokenizer, partial / "tokenizer")
    return meta


def summary(shards: Shards) -> str:
    """One line for people."""
    meta = shards.meta
    return (
        f"{meta.num_documents:,} documents, {meta.num_tokens:,} tokens, vocabulary {meta.vocab_size:,}, "
        f"{shards.unknown}"
    )


def check_unknown(shards: Shards, most: float) -> None:
    """Refuse shards of which too much is unknown.

    Args:
        shards: of a prepared folder.
        most: the largest share of characters.

    Raises:
        UserError: if more is.
    """
    advice = "choose another --tokenizer or a larger model.vocab_size, with another --out or without this one"
    shards.unknown.check(shards.folder.parent, most, advice)


def _listed(documents: Iterator[Document], counts: RowCounts, folder: Path) -> Iterator[Document]:
    """The documents, and then the list of bad rows: it stands before the shards do, so that no kill can lose it."""
    yield from documents
    check_some_used(counts, "data")
    report_bad_rows(counts, folder)


def _texts(source: Source) -> Iterator[str]:
    """What the tokenizer learns from, with its progress shown."""
    counts = RowCounts()
    with closing(Progress("for the tokenizer", lambda: source.share_read(counts))) as progress:
        for number, document in enumerate(source.documents(counts), start=1):
            yield document.text
            if number % SHOWN_EVERY == 0:
                progress.show(number)
    check_some_used(counts, str(source))


def _tokenizer(
    folder: Path, source: Source, made_from: dict[str, Any], settings: TokenizerSettings, vocab_size: int
) -> PreTrainedTokenizerFast:
    """The tokenizer of a prepared folder, made if need be."""
    place = folder / "tokenizer"
    adopted = adopt_tokenizer(settings.path) if settings.path is not None else None
    if adopted is None:
        facts = json.loads(json.dumps({**made_from, "tokenizer": to_mapping(settings), "vocab_size": vocab_size}))
    else:
        facts = {"tokenizer": fingerprint(adopted)}  # the data did not make it
    if place.exists():
        if (place / MADE_FROM).exists():
            found = json.loads((place / MADE_FROM).read_text(encoding="utf-8"))
            there = {"format": source.format} | found.get("made_from", {})  # which earlier versions did not note
            differs = [key for key in facts if there.get(key) != facts[key]]
            if differs:
                raise UserError(
                    f"{place}: was made from something else (it differs in {', '.join(differs)}): delete {folder} to "
                    "prepare the data again, or choose another --out"
                )
        return load_tokenizer(place)
    options = {name: value for name, value in to_mapping(settings).items() if name not in ("path", "ids")}
    tokenizer = adopted if adopted is not None else train_tokenizer(_texts(source), vocab_size=vocab_size, **options)
    with whole_folder(place) as partial:
        save_tokenizer(tokenizer, partial)
        write_text(partial / MADE_FROM, json.dumps({"made_from": facts}, indent=2))
    return tokenizer
