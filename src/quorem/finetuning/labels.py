"""Names of classes, from the labels of rows."""

import logging
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal

from quorem.errors import UserError

logger = logging.getLogger(__name__)

MOST_TOLD = 3


def label_names(labels: Sequence[str]) -> list[str]:
    """The classes, in order: by number if all are numbers, else by name.

    Raises:
        UserError: if there is only one class, or a class for every row.
    """
    names = set(labels)
    if len(names) < 2:
        raise UserError(f"every label is {next(iter(names), '(none)')!r}: two or more classes are needed to learn from")
    if len(names) == len(labels) and len(labels) > 2:
        raise UserError(f"all {len(labels)} labels differ: is this the right label column?")
    if len(names) > max(2, len(labels) / 2):
        logger.warning("%s classes in %s rows: is this the right label column?", f"{len(names):,}", f"{len(labels):,}")
    try:
        numbers = {name: float(name) for name in names}
    except ValueError:
        _tell_alike({name: name.casefold() for name in names})
        return sorted(names)
    _tell_alike({name: Decimal(name) for name in names})
    if not all(math.isfinite(number) for number in numbers.values()):  # "nan" has no place in an order of numbers
        return sorted(names)
    return sorted(names, key=lambda name: (numbers[name], name))


def _tell_alike(meanings: Mapping[str, object]) -> None:
    """Warn of names that seem to mean one class, by what each means."""
    groups: dict[object, list[str]] = {}
    for name in sorted(meanings):
        groups.setdefault(meanings[name], []).append(name)
    alike = [" and ".join(map(repr, names)) for names in groups.values() if len(names) > 1]
    if alike:
        more = f" (and {len(alike) - MOST_TOLD:,} more groups)" if len(alike) > MOST_TOLD else ""
        told = "; ".join(alike[:MOST_TOLD])
        logger.warning("labels %s%s are different classes: if they mean one, write them alike", told, more)


def not_nan(labels: Sequence[str]) -> list[int]:
    """The places of labels that are no "nan", where all others are numbers: among these it is what is missing.

    What is left out is told; all places where "nan" may be a word.
    """
    kept = [place for place, label in enumerate(labels) if label.lower() != "nan"]
    try:
        [float(labels[place]) for place in kept]
    except ValueError:
        return list(range(len(labels)))
    if len(kept) < len(labels):
        logger.warning("%s rows are left out: their label is NaN, and all others are numbers", len(labels) - len(kept))
    return kept


def tell_classes(names: Sequence[str], training: Sequence[int], held_out: Sequence[int]) -> None:
    """Warn where rows are all of one class, or none is of some class."""
    for part, labels in (("trained on", training), ("held out", held_out)):
        there = {names[label] for label in labels}
        lacking = [name for name in names if name not in there]
        if len(there) == 1:
            logger.warning("every row %s is of class %r: what is %s says nothing of the others", part, *there, part)
        elif lacking:
            logger.warning("no row %s is of class %s", part, ", ".join(map(repr, lacking[:5])))
