"""The forms of times of events, as SQL: Unix seconds to nanoseconds, known by their size, or ISO 8601."""

NUMBER = r"^-?\d+(\.\d*)?([eE]\+?\d+)?$"
ISO = r"^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?\s*(Z|z|UTC|[+-]\d\d(:?\d\d)?)?)?$"
DATE = r"^(19|20)\d\d(0[1-9]|1[0-2])([0-2]\d|3[01])$"
"""20240131: a date, and no second of 1970; written as ISO 8601 has it, with hyphens, it is read."""
UNITS = {1: "Unix seconds", 2: "milliseconds", 3: "microseconds", 4: "nanoseconds", 5: "ISO 8601"}
"""Kinds of times; a log has one of them."""
SIZES = (1e11, 1e14, 1e17, 9e18)
"""What numbers of each unit are below: in seconds the year 5138, in milliseconds March 1973 to the year 5138, ..."""


def kind_of(text: str) -> str:
    """SQL: the key of UNITS of a time, NULL for what is none.

    Args:
        text: an SQL expression, VARCHAR.
    """
    sizes = " ".join(
        f"WHEN abs(TRY_CAST({text} AS DOUBLE)) < {size} THEN {unit}" for unit, size in enumerate(SIZES, start=1)
    )
    return (
        f"CASE WHEN regexp_matches({text}, '{DATE}') THEN NULL WHEN regexp_matches({text}, '{NUMBER}') THEN CASE "
        f"{sizes} END WHEN regexp_matches({text}, '{ISO}') AND "
        f"TRY_CAST({text} AS TIMESTAMPTZ) IS NOT NULL THEN 5 END"
    )


def microseconds(text: str, kind: str) -> str:
    """SQL: a time in microseconds since 1970, BIGINT; times without a zone are UTC.

    A cast to TIMESTAMP would drop an offset such as +02:00 in silence; to TIMESTAMPTZ it is reckoned in.

    Args:
        text: an SQL expression, VARCHAR.
        kind: that of `kind_of`.
    """
    whole = f"TRY_CAST(CASE WHEN {kind} = 4 THEN {text} END AS BIGINT)"
    return (
        f"CASE {kind} WHEN 1 THEN round({text}::DOUBLE * 1000000)::BIGINT WHEN 2 THEN round({text}::DOUBLE * 1000)"
        f"::BIGINT WHEN 3 THEN round({text}::DOUBLE)::BIGINT WHEN 4 THEN coalesce({whole} // 1000, "
        f"round({text}::DOUBLE / 1000)::BIGINT) WHEN 5 THEN epoch_us({text}::TIMESTAMPTZ) END"
    )
