"""The settings of event logs: files with a row for each event, of which a user's or a session's become one document."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from quorem.errors import UserError

SECONDS = {"s": 1, "min": 60, "h": 3_600, "d": 86_400, "w": 604_800}
SPAN = re.compile(r"(\d+(?:\.\d+)?) ?([a-z]+)")
LONGEST = 1_000 * 366 * 86_400  # seconds of a span
ATOMIC = ".inter"
"""How names of RecBole's logs end."""


def _option(default: Any, description: str, **bounds: float) -> Any:
    return field(default=default, metadata={"help": description, "bounds": bounds})


@dataclass(frozen=True)
class EventSettings:
    """Which columns a log of events has, and how its events become sequences."""

    events: str | None = _option(
        None,
        "the files have a row for each event, of a known shape: recbole (.inter, known by its name), gru4rec, sasrec, "
        "movielens, yoochoose, or auto (columns of usual names); for a log of any other shape give data.item_column",
    )
    user_column: str | None = _option(None, "event logs: column or key of the user, or of the session")
    item_column: str | None = _option(
        None, "event logs: column or key of the item; each user's items, in the order of time, are a document"
    )
    time_column: str | None = _option(
        None,
        "event logs: column or key of the time: Unix seconds, milli-, micro- or nanoseconds, or ISO 8601; without it a "
        "user's events are taken in the order of the file",
    )
    session_gap: str | None = _option(
        None,
        "event logs: the pause that ends a session, as 30min, 2h, 1d or 90s; without it a user's history is a document",
    )
    min_item_events: int = _option(
        1, "event logs: items with fewer events, those in data.test_period not counted, are left out", at_least=1
    )
    min_events: int = _option(
        1, "event logs: sequences with fewer events, those of rare items not counted, are left out", at_least=1
    )
    test_period: str | None = _option(
        None,
        "event logs: length of the test period at the end of the log, such as 1d or 2w; sequences that begin in it are "
        "the test set: next_item predicts their last items, pre-training does not read them",
    )


NAMES = tuple(item.name for item in fields(EventSettings))


def is_log(data: Any) -> bool:
    """Whether settings of section data stand for a log of events.

    Raises:
        UserError: if a setting of events is given for what is none.
    """
    if not isinstance(data, EventSettings):
        return False
    paths: Sequence[str] = [data.path] if isinstance(data.path, str) else data.path  # type: ignore[attr-defined]
    if data.events or data.item_column or (paths and all(map(is_atomic, paths))):
        return True
    for name in NAMES:
        if (value := getattr(data, name)) != getattr(EventSettings(), name):
            raise UserError(
                f"data.{name}={value}: is of logs of events: name their columns too, as data.user_column=user_id "
                "data.item_column=item_id data.time_column=timestamp, or leave it out"
            )
    return False


def is_atomic(path: str | Path) -> bool:
    """Whether a file is RecBole's log by its name."""
    name = Path(path).name.lower()
    return name.removesuffix(".gz").removesuffix(".zst").endswith(ATOMIC)


def parse_span(key: str, text: str) -> int:
    """A span of time such as 30min, in microseconds.

    Args:
        key: of the setting, for the message.
        text: a number and s, min, h, d or w.

    Raises:
        UserError: for anything else, 0, or more than a thousand years.
    """
    found = SPAN.fullmatch(text.strip().lower())
    seconds = float(found[1]) * SECONDS[found[2]] if found and found[2] in SECONDS else 0.0
    if not 0 < seconds <= LONGEST:
        raise UserError(f"{key}={text}: a number above 0 and one of s, min, h, d, w needed, such as 30min or 1.5h")
    return round(seconds * 1_000_000)
