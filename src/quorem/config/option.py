"""How a setting is written down: its default, the line that --help shows, its bounds."""

from dataclasses import field
from typing import Any


def option(default: Any, description: str, *, largest: int | None = None, **bounds: float) -> Any:
    """A setting.

    Args:
        default: its value if it is not given.
        description: the line that --help shows.
        largest: of a whole number that must not be larger, because what is made of it would overflow.
        bounds: of a number, those of `check_number`: above, at_least, below, at_most.
    """
    facts = {"help": description, "bounds": bounds} | ({"largest": largest} if largest else {})
    return field(default=default, metadata=facts)


def elsewhere(default: Any, why: str) -> Any:
    """A setting of a base class that a command has no use for, so that no other value is taken, and help leaves it out.

    Args:
        default: its value.
        why: the end of the error message.
    """
    return field(default=default, metadata={"help": f"not here: {why}", "bounds": {}, "elsewhere": why})


def section(kind: type) -> Any:
    """A nested group of settings."""
    return field(default_factory=kind)
