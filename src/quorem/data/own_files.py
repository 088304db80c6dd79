"""Folders of runs, prepared data and models among the data files: they are never read as data."""

import glob
import logging
from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path

logger = logging.getLogger(__name__)

MARKS = (
    ("config.yaml", "environment.json"),  # a run
    ("tokenizer/tokenizer.json",),  # prepared data
    ("tokenizer.json",),  # a model, or a tokenizer
    ("config.json", "vocab.txt"),
    ("config.json", "merges.txt"),
)
"""Files by which such a folder is recognised: all names of one line must be there."""
UNFINISHED = (".partial", ".old", ".unfinished", ".parts")


def exclude_own_files(files: Iterable[Path], place: Path, *, itself: bool) -> list[Path]:
    """The files outside such folders; the folders that are skipped are logged.

    Args:
        files: at or below `place`.
        place: where the search began.
        itself: whether `place` is looked at too; not where it was named as the folder of a pattern.
    """
    known: dict[Path, bool] = {}
    kept, own = [], dict[Path, None]()
    for file in files:
        parents = [parent for parent in file.parents if parent.is_relative_to(place) and (itself or parent != place)]
        for parent in parents:
            if parent not in known:
                known[parent] = _is_own(parent)
        if inside := [parent for parent in parents if known[parent]]:
            own[inside[-1]] = None  # the outermost
        else:
            kept.append(file)
    if own:
        named = [str(folder) for folder in own]
        more = f" and {len(named) - 3} more" if len(named) > 3 else ""
        logger.info("not data, for a run or a model is there: %s%s", ", ".join(named[:3]), more)
    return kept


def fixed_folder(pattern: str) -> Path:
    """The folder with which a pattern begins, up to its first wildcard."""
    return Path(*takewhile(lambda part: not glob.has_magic(part), Path(pattern).parts[:-1]))


def _is_own(folder: Path) -> bool:
    return folder.name.endswith(UNFINISHED) or any(all((folder / name).is_file() for name in mark) for mark in MARKS)
