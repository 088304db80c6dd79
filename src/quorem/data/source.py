"""The input of a run: the files that data.path names, in order, as one stream of documents."""

import glob
import hashlib
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

from quorem.config.settings import ReadingSettings
from quorem.data.documents import Document, RowCounts
from quorem.data.once import log_once
from quorem.data.own_files import exclude_own_files, fixed_folder
from quorem.data.readers import READERS, choose_format, known_format, may_be_squad
from quorem.data.readers.paths import path_of
from quorem.errors import UserError
from quorem.files import fingerprint_files

logger = logging.getLogger(__name__)

DEFAULT_TEXT_COLUMN = "text"
OF_PATHS = ("midi", "max_silence")
"""Options that formats with columns have where data.paths is set."""
NAMED = 3


@dataclass(frozen=True)
class Source:
    """Files of one format and how they are read.

    Attributes:
        files: in the order in which they are read.
        format: a key of READERS.
        text_column: the column or key of text; None for formats without columns.
        label_column: that of the class names; None for unlabelled documents.
        options: what else the reader is given: settings other than their defaults, which are the reader's too.
        split_column: the column that says train or test; None for none.
        more_columns: further columns, for `Document.more`.
    """

    files: tuple[Path, ...]
    format: str
    text_column: str | None = None
    label_column: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    split_column: str | None = None
    more_columns: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        data: ReadingSettings,
        *,
        text_column: str | None,
        label_column: str | None = None,
        split_column: str | None = None,
        more_columns: tuple[str, ...] = (),
    ) -> "Source":
        """The source that settings describe.

        Args:
            data: path (a file, a folder, a pattern such as data/*.csv, or a list of these), format and options.
            text_column: None for "text" in formats with columns.
            label_column: None for unlabelled documents.
            split_column: None where nothing says which rows are held out.
            more_columns: further columns, for `Document.more`.

        Raises:
            UserError: if there are no such files, they have several formats, or an option has no meaning for theirs.
        """
        if data.midi == "auto":  # no run says how it reads MIDI files
            data = replace(data, midi=ReadingSettings().midi)
        files, chosen = find_format(data.path, data.format)
        reader = READERS[chosen]
        _check_options(data, chosen)
        if split_column is not None and not reader.has_columns:
            raise UserError(f"data.split_column={split_column} has no meaning for data.format={chosen}: leave it out")
        if more_columns and not reader.has_more:
            raise UserError(f"data.format={chosen} has no column {more_columns[0]!r}: leave it out, or give a table")
        if reader.by_folder and text_column == DEFAULT_TEXT_COLUMN:  # the default of labelled data
            text_column = None
        if text_column is None and reader.has_columns:
            text_column = DEFAULT_TEXT_COLUMN
        options = {name: getattr(data, name) for name in data.options()}
        taken = {name: value for name, value in options.items() if value != getattr(ReadingSettings(), name)}
        return cls(files, chosen, text_column, label_column, taken, split_column, more_columns)

    @property
    def by_file(self) -> bool:
        """Whether a document is in one file, so that files can be shared out."""
        return True

    def at(self, folder: Path, inputs: str) -> "Source":
        """The same for a folder that is being prepared, where it may keep files; `inputs` is its fingerprint."""
        return self

    def documents(self, counts: RowCounts | None = None) -> Iterator[Document]:
        """The documents of all files, in order; deterministic.

        Args:
            counts: a tally to keep up to date while streaming.

        Raises:
            UserError: at the call if the first file cannot be read; while streaming what the reader raises.
        """
        first, *others = self.files
        begun = self._read(first, counts)  # here, so that a missing file or column is found at the call
        return chain(begun, (document for file in others for document in self._read(file, counts)))

    @property
    def options_of_paths(self) -> dict[str, Any] | None:
        """How MIDI files that texts name are spelled; None where texts are no paths."""
        if not self.options.get("paths"):
            return None
        return {name: value for name, value in self.options.items() if name in OF_PATHS}

    def share_read(self, counts: RowCounts) -> float | None:
        """How much of the data is read, 0 to 1, by bytes of the files; None where that cannot be known.

        Args:
            counts: the tally given to `documents`.
        """
        if not counts.files:
            return 0.0
        before, after = self._bytes[counts.files - 1 : counts.files + 1]
        return (before + counts.share() * (after - before)) / max(1, self._bytes[-1])

    def fingerprint(self) -> str:
        """sha256 over the bytes of the files, of those that they name, and of the names of folders that are labels.

        Raises:
            UserError: if one of them cannot be read.
        """
        single = [fingerprint_files(file) for file in self.files]
        if self.options.get("paths"):
            named = (path_of(table, row.text) for table in self.files for row in self._read_rows(table))
            single += [fingerprint_files(path) for path in named if os.path.isfile(path)]
        if READERS[self.format].by_folder and self.label_column is not None:
            single += [folder.name for file in self.files for folder in file.absolute().parents[:2]]
        return single[0] if len(single) == 1 else hashlib.sha256("".join(single).encode()).hexdigest()

    def __str__(self) -> str:
        return str(self.files[0]) + (f" and {len(self.files) - 1} more" if len(self.files) > 1 else "")

    @cached_property
    def _bytes(self) -> list[int]:
        """Where each file starts if they lie end to end, and where the last one ends."""
        return list(accumulate((file.stat().st_size for file in self.files), initial=0))

    def _read(self, file: Path, counts: RowCounts | None) -> Iterator[Document]:
        if counts is not None:
            counts.begin_file()
        return self._read_rows(
            file,
            counts=counts,
            label_column=self.label_column,
            split_column=self.split_column,
            more_columns=self.more_columns,
            paths=self.options_of_paths,
        )

    def _read_rows(self, file: Path, **more: Any) -> Iterator[Document]:
        """What the reader makes of a file."""
        reader = READERS[self.format]
        options = {name: value for name, value in self.options.items() if name in (*reader.options, "bad_rows")}
        return reader.read(file, text_column=self.text_column, **more, **options)


def find_format(path: str | list[str], chosen: str = "auto") -> tuple[tuple[Path, ...], str]:
    """The files that data.path stands for, and their format, a key of READERS.

    Args:
        path: as in `find_files`.
        chosen: a format, or "auto": by their names.

    Raises:
        UserError: what `find_files` raises, and for several formats.
    """
    files = find_files(path, chosen)
    formats = {choose_format(file, chosen) for file in files}
    entries = [path] if isinstance(path, str) else path
    if chosen == "auto" and formats == {"text"} and all(Path(entry).is_dir() for entry in filter(None, entries)):
        formats = {"folder"}
    if len(formats) > 1:
        raise _several_formats(path, files)
    return files, formats.pop()


def find_files(path: str | list[str], chosen: str = "auto") -> tuple[Path, ...]:
    """The files that data.path stands for: of a folder or a pattern in the order of their names, each once.

    Files of runs, prepared data and models that lie there are none of them (quorem.data.own_files).

    Args:
        path: a file, a folder, a pattern (*, ?, [], ** for folders at any depth), or a list of these.
        chosen: a format: of a folder only its files are taken; "auto" for those of all known formats.

    Raises:
        UserError: if it is empty, a pattern meets no file, or a folder has none of a known format.
    """
    found: dict[Path, None] = {}
    for entry in filter(None, [path] if isinstance(path, str) else path):
        place = Path(entry)
        if place.is_dir():
            every = sorted(file for file in place.rglob("*") if file.is_file() and not _is_hidden(file, place))
            there = exclude_own_files(every, place, itself=True)
            files = [file for file in there if known_format(file)]
            if not files and any(map(known_format, every)):
                more = f"; to go on from a run: --init-from {place}" if (place / "config.yaml").exists() else ""
                raise UserError(
                    f"{place}: holds no data but files of runs or models: name the files, or a pattern{more}"
                )
            if chosen == "squad" or (chosen == "auto" and not files):  # beside other data JSON is rather about it
                files = [file for file in there if may_be_squad(file)]
            elif chosen != "auto":
                files = [file for file in files if known_format(file) == {"folder": "text"}.get(chosen, chosen)]
            if not files and chosen != "auto":
                raise UserError(f"{place}: no {chosen} file in this folder: name the files, or a pattern")
            if not files:
                raise UserError(f"{place}: no file of a known format in this folder: name the files, or a pattern")
            taken = set(files)
            _warn_of_unread(place, [file for file in there if file not in taken], chosen)
        elif glob.has_magic(entry) and not place.exists():
            files = sorted(file for file in map(Path, glob.glob(entry, recursive=True)) if file.is_file())
            files = exclude_own_files(files, fixed_folder(entry), itself=False)
            if not files:
                raise UserError(
                    f"{entry}: no file has such a name: check the pattern (quote it, so that the shell leaves it)"
                )
        else:
            files = [place]
        found.update(dict.fromkeys(files))
    if not found:
        raise UserError("no data: name a file after the command, or set data.path")
    return tuple(found)


def _is_hidden(file: Path, folder: Path) -> bool:
    """Whether its name, or that of a folder it is in, begins with a dot: copies and notes of editors and systems."""
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def options_for(data: ReadingSettings, chosen: str) -> dict[str, Any]:
    """The settings that have a meaning for a format, a key of READERS."""
    reader, names = READERS[chosen], {"bad_rows", *READERS[chosen].options}
    if reader.has_columns:
        names |= {"paths", *(OF_PATHS if data.paths else ())}
    return {name: getattr(data, name) for name in data.options() if name in names}


def _check_options(data: ReadingSettings, chosen: str) -> None:
    if data.paths and data.lists:
        raise UserError("data.paths=true: texts are paths, so data.lists=true has no meaning: leave one out")
    known = options_for(data, chosen)
    for name in data.options():
        value = getattr(data, name)
        if name not in known and value != getattr(ReadingSettings(), name):
            raise UserError(f"data.{name}={value} has no meaning for data.format={chosen}: leave it out")


def _several_formats(path: str | list[str], files: Iterable[Path]) -> UserError:
    """Names the files of every format, those of the rarest first."""
    groups: dict[str, list[Path]] = {}
    for file in files:
        groups.setdefault(choose_format(file), []).append(file)
    by_number = sorted(groups, key=lambda name: len(groups[name]))
    named = "; ".join(f"{name}: {_named(groups[name])}" for name in by_number)
    if isinstance(path, str) and Path(path).is_dir():
        formats = " or ".join(f"data.format={name}" for name in reversed(by_number))
        fix = f"set {formats} to read those alone, or take the others out of the folder"
    else:
        ending = groups[by_number[-1]][0].suffix
        fix = f"give those of one, by a pattern such as 'folder/**/*{ending}'; files of unknown endings count as csv"
    return UserError(f"data.path={path}: files of several formats ({named}): {fix}")


def _warn_of_unread(place: Path, files: list[Path], chosen: str) -> None:
    if files:
        why = "of no known format" if chosen == "auto" else f"not {chosen} by their endings"
        log_once(logger, logging.INFO, f"{place}: not read, for they are {why}: {_named(files)}")


def _named(files: list[Path]) -> str:
    return ", ".join(map(str, files[:NAMED])) + (f" and {len(files) - NAMED:,} more" if len(files) > NAMED else "")
