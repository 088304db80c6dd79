"""The folder of the IMDb release (Maas et al. 2011) as one CSV, as the original repository makes it."""

import csv
from pathlib import Path

from quorem.errors import UserError
from quorem.files import check_new, new_text

SPLITS = ("train", "test")
LABELS = ("neg", "pos")  # 0 and 1; the original has them the other way round


def write_aclimdb(folder: str | Path, out: str | Path) -> int:
    """Write aclImdb/{train,test}/{pos,neg}/*.txt as a CSV with columns review, sentiment (1 is positive) and split.

    Rows are in the order of split, label and file name. Text is kept as it is, in any script.

    Args:
        folder: aclImdb.
        out: the CSV; must not exist.

    Returns:
        Number of rows.

    Raises:
        UserError: if a sub-folder is missing, a file is not UTF-8, or `out` exists.
    """
    folder, out = Path(folder), Path(out)
    check_new(out)
    for part in (folder / split / label for split in SPLITS for label in LABELS):
        if not part.is_dir():
            raise UserError(f"{part}: no such folder; aclImdb has {', '.join(SPLITS)} and in each {', '.join(LABELS)}")
    rows = 0
    with new_text(out) as file:
        writer = csv.writer(file)
        writer.writerow(["review", "sentiment", "split"])
        for split in SPLITS:
            for label, name in enumerate(LABELS):
                for path in sorted((folder / split / name).glob("*.txt")):
                    writer.writerow([_read(path), label, split])
                    rows += 1
    return rows


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start} is not UTF-8: save the file as UTF-8") from error
